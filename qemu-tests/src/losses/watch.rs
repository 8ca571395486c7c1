//! Watches guests while their site is hurt: reads what they say on both nodes, and looks whether one runs on
//! both at once (V1, V23; I5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fault::Node;
use super::ledger::Ledger;
use super::plant::{GUESTS, Plant};
use super::sight::runs;

/// Between two looks at all guests.
const REST: Duration = Duration::from_millis(50);

/// A guest, as it was seen.
#[derive(Clone, Debug)]
struct Guest {
    ledger: Ledger,
    /// When it last kept more, or somebody began to count.
    kept: Instant,
    /// The longest time in which it did not, since then.
    longest: Duration,
    /// How long it was until it first did, since then.
    first: Option<Duration>,
}

#[derive(Debug)]
struct Seen {
    guests: BTreeMap<&'static str, Guest>,
    /// How often it was looked whether one runs twice.
    looks: u64,
    wrong: Option<String>,
}

/// The thread; it ends with this.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch the guests of a plant.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(plant: &Plant) -> Result<Self> {
        let guest = || Guest {
            ledger: Ledger::default(),
            kept: Instant::now(),
            longest: Duration::ZERO,
            first: None,
        };
        let guests = GUESTS.iter().map(|(name, _)| (*name, guest())).collect();
        let seen = Arc::new(Mutex::new(Seen { guests, looks: 0, wrong: None }));
        let over = Arc::<AtomicBool>::default();
        let mut places: Vec<_> = GUESTS.iter().map(|(name, _)| Place::of(plant, name)).collect();
        let (theirs, ends) = (Arc::clone(&seen), Arc::clone(&over));
        let work = move || {
            while !ends.load(Ordering::Relaxed) {
                places.iter_mut().for_each(|place| place.look(&theirs));
                std::thread::sleep(REST);
            }
        };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(work);
        Ok(Self { seen, over, thread: Some(thread.context("no thread watches the guests")?) })
    }

    /// Whether all is as it must be until now.
    ///
    /// # Errors
    /// What is not.
    pub fn check(&self) -> Result<()> {
        let seen = lock(&self.seen);
        if let Some(wrong) = &seen.wrong {
            bail!("{wrong}");
        }
        for (name, guest) in &seen.guests {
            if let Err(wrong) = guest.ledger.check() {
                bail!("guest {name}: {wrong}");
            }
        }
        Ok(())
    }

    /// From now on the longest time is counted in which a guest keeps nothing.
    pub fn count_anew(&self) {
        let mut seen = lock(&self.seen);
        let now = Instant::now();
        for guest in seen.guests.values_mut() {
            (guest.kept, guest.longest, guest.first) = (now, Duration::ZERO, None);
        }
    }

    /// How long it was, since somebody began to count, until every guest had kept more.
    #[must_use]
    pub fn first(&self) -> Option<Duration> {
        let all: Option<Vec<_>> = lock(&self.seen).guests.values().map(|guest| guest.first).collect();
        all?.into_iter().max()
    }

    /// The longest time in which some guest kept nothing.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let longest = |guest: &Guest| guest.longest.max(guest.kept.elapsed());
        lock(&self.seen).guests.values().map(longest).max().unwrap_or_default()
    }

    /// What each guest has kept.
    #[must_use]
    pub fn kept(&self) -> Vec<u32> {
        lock(&self.seen).guests.values().map(|guest| guest.ledger.newest()).collect()
    }

    /// How often it was looked whether a guest runs twice.
    #[must_use]
    pub fn looks(&self) -> u64 {
        lock(&self.seen).looks
    }

    /// How often guests have begun with their kernels.
    #[must_use]
    pub fn lives(&self) -> usize {
        let of = |guest: &Guest| Node::ALL.map(|node| guest.ledger.lives(node)).iter().sum::<usize>();
        lock(&self.seen).guests.values().map(of).sum()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a guest is seen on both nodes.
struct Place {
    name: &'static str,
    logs: [Tail; 2],
    apis: [PathBuf; 2],
}

impl Place {
    fn of(plant: &Plant, name: &'static str) -> Self {
        let file = |file: &str| Node::ALL.map(|node| plant.guest(node, name).join(file));
        Self { name, logs: file("console.log").map(Tail::of), apis: file("api.sock") }
    }

    fn look(&mut self, seen: &Mutex<Seen>) {
        for (node, log) in Node::ALL.into_iter().zip(&mut self.logs) {
            let said = log.read();
            let mut seen = lock(seen);
            let Some(guest) = seen.guests.get_mut(self.name) else { continue };
            if guest.ledger.hear(node, &said) {
                let now = Instant::now();
                let passed = now.duration_since(guest.kept);
                guest.longest = guest.longest.max(passed);
                guest.first = guest.first.or(Some(passed));
                guest.kept = now;
            }
        }
        let twice = twice(&self.apis);
        let mut seen = lock(seen);
        seen.looks += 1;
        if twice {
            let name = self.name;
            seen.wrong.get_or_insert_with(|| format!("guest {name} runs on both nodes at once"));
        }
    }
}

/// Whether it runs on both nodes at once: on one before and after it does on the other. Nothing of a guest
/// goes on in a process whose node did not lead in between.
fn twice([one, other]: &[PathBuf; 2]) -> bool {
    let Some(before) = runs(one) else { return false };
    runs(other).is_some() && runs(one) == Some(before)
}

/// A guest's log, read as it grows. It becomes the older one when it is long.
struct Tail {
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl Tail {
    const fn of(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// What is new.
    fn read(&mut self) -> String {
        let Ok(metadata) = std::fs::metadata(&self.path) else { return String::new() };
        let mut said = Vec::new();
        if let Some((inode, from)) = self.file.filter(|(inode, _)| *inode != metadata.ino()) {
            let older = bulkhead::vmm::log::old(&self.path);
            if std::fs::metadata(&older).is_ok_and(|older| older.ino() == inode) {
                read(&older, from, &mut said);
            }
            self.file = None;
        }
        let (inode, from) = self.file.unwrap_or((metadata.ino(), 0));
        let before = said.len();
        read(&self.path, from, &mut said);
        let read = u64::try_from(said.len().saturating_sub(before)).unwrap_or(0);
        self.file = Some((inode, from.saturating_add(read)));
        String::from_utf8_lossy(&said).into_owned()
    }
}

fn read(path: &Path, from: u64, into: &mut Vec<u8>) {
    let mut read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(into)
    };
    // One that is not there now is read at the next look.
    let _ = read();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_over_its_own_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut tail = Tail::of(path.clone());
        assert_eq!(tail.read(), "");
        std::fs::write(&path, "one ").unwrap();
        assert_eq!(tail.read(), "one ");
        std::fs::write(&path, "one two ").unwrap();
        std::fs::rename(&path, bulkhead::vmm::log::old(&path)).unwrap();
        std::fs::write(&path, "three").unwrap();
        assert_eq!((tail.read().as_str(), tail.read().as_str()), ("two three", ""));
    }
}
