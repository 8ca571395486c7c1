//! What was fenced, by whom, why, and how that ended: the last few hundred records, in the file `fences` of
//! the state directory, which outlives the agent (V16, ECOSYSTEM: `crm_mon -m`).

use crate::durable;
use bulkhead_core::fence::words::FenceId;
use bulkhead_core::id::NodeId;
use bulkhead_core::register::message::Fenced;
use bulkhead_core::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Records kept: the oldest make room.
pub const HISTORY_MAX: usize = 256;
/// Records of looks kept: whoever looks every minute must not push out what was done.
const LOOKS_MAX: usize = 8;
/// More than any such file has.
const FILE_MAX: u64 = 1 << 20;
/// The file's name.
const FILE: &str = "fences";
/// The word of a record of somebody who looked.
const LOOK: &str = "look";
/// The word of a record that has not ended.
pub const UNDER_WAY: &str = "under way";
/// The word of a record that ended as it should.
pub const CONFIRMED: &str = "confirmed";

/// One fencing order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FenceRecord {
    /// +1 a record, for as long as the file lives.
    pub seq: u64,
    /// Milliseconds since 1970 when it began, for people.
    pub at_ms: u64,
    /// Who was to be fenced.
    pub node: u16,
    /// Which start of it, if one is meant.
    pub start: Option<u64>,
    /// `off` or `on`; `look` is kept for the moment only.
    pub want: String,
    /// Who asked.
    pub by: u16,
    /// How, and on what ground.
    pub how: String,
    /// What the operator gave as the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// [`UNDER_WAY`], [`CONFIRMED`], or why not.
    pub ended: String,
    /// By what the agent knows it while it runs.
    #[serde(skip)]
    pub key: Option<Key>,
    /// When it was asked for, by this agent's own clock.
    #[serde(skip)]
    pub asked: Option<Instant>,
}

/// By what the agent knows an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// An order to a device of this node's own.
    Off(Fenced),
    /// The same, to switch it on.
    On(NodeId),
    /// The same, to read its power.
    Look(NodeId),
    /// A plea to a witness.
    Plea(FenceId),
    /// An entry of this witness's desk.
    Desk(u32),
}

/// The records.
#[derive(Debug)]
pub struct History {
    records: VecDeque<FenceRecord>,
    next: u64,
    writer: Option<(Sender<Vec<FenceRecord>>, JoinHandle<()>)>,
    path: PathBuf,
    /// The last write failed.
    failed: Arc<AtomicBool>,
}

impl History {
    /// Reads what `state` holds; the second is what is wrong with it. Records that an agent left under way
    /// are known to be without an end.
    pub fn open(state: &Path) -> (Self, Option<String>) {
        let path = state.join(FILE);
        let (mut records, wrong) = match read(&path) {
            Ok(records) => (records, None),
            Err(error) => (VecDeque::new(), Some(format!("{} is lost: {error}", path.display()))),
        };
        for record in records.iter_mut().filter(|record| record.ended == UNDER_WAY) {
            record.ended = "unknown: the agent stopped before it ended".into();
        }
        let next = records.back().map_or(1, |record| record.seq.saturating_add(1));
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("fences".into()).stack_size(256 << 10);
        let failed = Arc::new(AtomicBool::new(false));
        let (file, flag) = (path.clone(), Arc::clone(&failed));
        let thread = thread.spawn(move || keep(&file, &receiver, &flag));
        let writer = thread.ok().map(|thread| (sender, thread));
        (Self { records, next, writer, path, failed }, wrong)
    }

    /// Where the records are; `None`: in the memory of this agent only.
    pub fn kept_in(&self) -> Option<&Path> {
        (self.writer.is_some() && !self.failed.load(Ordering::Relaxed)).then_some(&*self.path)
    }

    /// The records, oldest first.
    pub const fn records(&self) -> &VecDeque<FenceRecord> {
        &self.records
    }

    /// The newest record of `node` that is under way.
    pub fn under_way(&self, node: NodeId, want: &str) -> Option<u64> {
        let same = |record: &&FenceRecord| record.node == node.0 && record.want == want;
        let mut open = self.records.iter().rev().filter(same).filter(|record| record.ended == UNDER_WAY);
        open.next().map(|record| record.seq)
    }

    /// The number that the next record gets.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The newest record about `node`.
    pub fn newest_of(&self, node: NodeId) -> Option<&FenceRecord> {
        self.records.iter().rev().find(|record| record.node == node.0)
    }

    /// When what `key` names was first asked for; `None` when that is long ago.
    pub fn asked(&self, key: Key) -> Option<Instant> {
        self.records.iter().find(|record| record.key == Some(key))?.asked
    }

    /// Adds a record, and gives it its number and time.
    pub fn add(&mut self, record: FenceRecord) -> u64 {
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let (seq, at_ms) = (self.next, u64::try_from(at_ms).unwrap_or(u64::MAX));
        self.next = self.next.saturating_add(1);
        let is_look = |old: &FenceRecord| old.want == LOOK;
        if LOOKS_MAX <= self.records.iter().filter(|old| is_look(old)).count() {
            let oldest = self.records.iter().position(is_look);
            oldest.and_then(|place| self.records.remove(place));
        }
        if HISTORY_MAX <= self.records.len() {
            self.records.pop_front();
        }
        self.records.push_back(FenceRecord { seq, at_ms, ..record });
        self.pass_on();
        seq
    }

    /// The order known by `key` stands otherwise. `false`: there is no such record.
    pub fn set_ended(&mut self, key: Key, ended: &str) -> bool {
        let same = |record: &FenceRecord| record.key == Some(key);
        let open = |record: &FenceRecord| same(record) && record.ended == UNDER_WAY;
        // One of two with the same key was refused because of the other, which goes on.
        let place = self.records.iter().rposition(open).or_else(|| self.records.iter().rposition(same));
        let Some(record) = place.and_then(|place| self.records.get_mut(place)) else { return false };
        if record.ended != ended {
            record.ended = ended.into();
            self.pass_on();
        }
        true
    }

    /// The operator's reason for the newest record.
    pub fn give_reason(&mut self, seq: u64, reason: Option<String>) {
        if let Some(record) = self.records.iter_mut().find(|record| record.seq == seq) {
            record.reason = reason;
            self.pass_on();
        }
    }

    fn pass_on(&self) {
        if let Some((sender, _)) = &self.writer {
            let kept = self.records.iter().filter(|record| record.want != LOOK);
            let _ = sender.send(kept.cloned().collect());
        }
    }

    /// Writes what is not written yet.
    pub fn finish(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn read(path: &Path) -> std::io::Result<VecDeque<FenceRecord>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(VecDeque::new()),
        Err(error) => return Err(error),
        Ok(found) if FILE_MAX < found.len() => return Err(std::io::Error::other("it is too long")),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path)?;
    let all: Result<VecDeque<FenceRecord>, _> = text.lines().map(serde_json::from_str).collect();
    let mut all = all?;
    while HISTORY_MAX < all.len() {
        all.pop_front();
    }
    Ok(all)
}

/// Writes the newest state again and again. A disk that fails loses history, never a fence.
fn keep(path: &Path, states: &Receiver<Vec<FenceRecord>>, failed: &AtomicBool) {
    while let Ok(mut state) = states.recv() {
        while let Ok(newer) = states.try_recv() {
            state = newer;
        }
        let replaced = replace(path, &state);
        failed.store(replaced.is_err(), Ordering::Relaxed);
        if let Err(error) = replaced {
            eprintln!("bulkhead: the fencing history cannot be written to {}: {error}", path.display());
        }
    }
}

fn replace(path: &Path, state: &[FenceRecord]) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for record in state {
        serde_json::to_writer(&mut lines, record)?;
        lines.push(b'\n');
    }
    durable::replace(path, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(node: u16, key: Key) -> FenceRecord {
        let (how, want, ended) = ("by relay 1 of witness".into(), "off".into(), UNDER_WAY.into());
        let (seq, at_ms, start, by, reason, asked) = (0, 0, Some(7), 2, None, None);
        FenceRecord { seq, at_ms, node, start, want, by, how, reason, ended, key: Some(key), asked }
    }

    #[test]
    fn records_outlive_the_agent_and_an_order_it_left_is_known_to_have_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let (mut history, wrong) = History::open(directory.path());
        assert_eq!(wrong, None);
        assert_eq!(history.add(record(1, Key::Desk(1))), 1);
        assert_eq!(history.add(record(2, Key::Desk(2))), 2);
        assert!(history.set_ended(Key::Desk(1), CONFIRMED) && !history.set_ended(Key::Desk(3), CONFIRMED));
        history.finish();
        let (mut again, wrong) = History::open(directory.path());
        let ended: Vec<_> = again.records().iter().map(|record| (record.seq, record.ended.clone())).collect();
        let unknown = "unknown: the agent stopped before it ended".to_owned();
        assert_eq!((wrong, ended), (None, vec![(1, CONFIRMED.into()), (2, unknown)]));
        assert!(!again.set_ended(Key::Desk(1), "x"), "keys are of one start");
        for _ in 0..HISTORY_MAX {
            again.add(record(3, Key::Desk(9)));
        }
        assert_eq!((again.records().len(), again.newest_of(NodeId(3)).unwrap().seq), (HISTORY_MAX, 258));
        for _ in 0..100 {
            again.add(FenceRecord { want: LOOK.into(), ..record(4, Key::Look(NodeId(4))) });
        }
        let looks = again.records().iter().filter(|record| record.want == LOOK).count();
        assert_eq!((again.records().len(), looks), (HISTORY_MAX, LOOKS_MAX), "looking pushes out little");
    }

    /// V21: an order that is refused because the same one is under way ends alone.
    #[test]
    fn of_two_orders_with_one_key_each_gets_its_own_end() {
        let directory = tempfile::tempdir().unwrap();
        let (mut history, _) = History::open(directory.path());
        history.add(record(1, Key::On(NodeId(1))));
        history.add(record(1, Key::On(NodeId(1))));
        assert!(history.set_ended(Key::On(NodeId(1)), "busy"));
        assert!(history.set_ended(Key::On(NodeId(1)), CONFIRMED));
        let ended: Vec<_> = history.records().iter().map(|record| record.ended.as_str()).collect();
        assert_eq!(ended, [CONFIRMED, "busy"]);
    }

    /// V39: what cannot be written is not said to be kept.
    #[test]
    fn a_disk_that_fails_is_not_said_to_keep_anything() {
        let directory = tempfile::tempdir().unwrap();
        let (mut history, _) = History::open(directory.path());
        assert_eq!(history.kept_in(), Some(&*directory.path().join(FILE)));
        std::fs::create_dir(directory.path().join("fences.new")).unwrap();
        history.add(record(1, Key::Desk(1)));
        let begin = std::time::Instant::now();
        while history.kept_in().is_some() {
            assert!(begin.elapsed().as_secs() < 20, "the write goes on");
            std::thread::yield_now();
        }
        assert_eq!(history.records().len(), 1);
    }

    /// V39: a damaged file costs the history, and is said.
    #[test]
    fn a_damaged_file_is_said_and_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "{}\n").unwrap();
        let (history, wrong) = History::open(directory.path());
        assert!(history.records().is_empty() && wrong.unwrap().contains("is lost"));
    }
}
