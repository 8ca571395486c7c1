//! I1, I3, I10 to I12, V1, V3, V4, V8 (F16 to F20, F31, F33): two holders with real logs and stores; whatever
//! happens to them, every acknowledged write is read.

use super::handle::{Handle, lock};
use super::testing::{Site, ask, create, delete, read, until};
use super::view::State;
use crate::nbd::export::Request;
use bulkhead_core::log::batch::Volume;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// What a client knows of a block: what was acknowledged last, and what came after it and may be there.
#[derive(Default)]
pub(super) struct Known {
    blocks: BTreeMap<u64, (u64, Vec<u64>)>,
    stamp: u64,
    chance: u64,
}

const MEBI: u64 = 1 << 20;

impl Known {
    pub(super) fn by_chance(chance: u64) -> Self {
        Self { chance, ..Self::default() }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % limit
    }

    /// The blocks that have content.
    pub(super) fn written(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().filter(|(_, (safe, _))| *safe != 0).map(|(block, _)| *block)
    }

    /// One write of one block.
    pub(super) fn put(&mut self, site: &Site, node: u16, volume: Volume, block: u64) {
        self.stamp += 1;
        let data = self.stamp.to_le_bytes().repeat(512);
        let request = Request::Write { offset: block * 4096, data, durable: true };
        let answer = ask(&site.handle(node), volume, request);
        assert_eq!(self.settle(vec![(block, 1, self.stamp, answer)]), 1);
    }

    /// So many writes of a few blocks each, eight at once. Returns how many were acknowledged.
    pub(super) fn write(
        &mut self,
        site: &Site,
        node: u16,
        volume: Volume,
        count: u64,
        span: u64,
        most: u64,
    ) -> u64 {
        let handle = site.handle(node);
        let (mut pending, mut acknowledged) = (Vec::new(), 0);
        for _ in 0..count {
            let (first, blocks) = (self.below(span), 1 + self.below(most));
            self.stamp += 1;
            let request = match self.below(12) {
                0 => {
                    let length = u32::try_from(blocks * 4096).unwrap();
                    let span = crate::nbd::export::Span { offset: first * 4096, length };
                    (0, Request::WriteZeroes { span, durable: false, allocated: false, fast: false })
                }
                _ => {
                    let mut data = vec![0; usize::try_from(blocks * 4096).unwrap()];
                    for chunk in data.chunks_mut(8) {
                        chunk.copy_from_slice(&self.stamp.to_le_bytes());
                    }
                    (self.stamp, Request::Write { offset: first * 4096, data, durable: true })
                }
            };
            // One write of a block at a time: their order would be anybody's guess.
            let overlaps = |(start, length, _, _): &(u64, u64, u64, _)| {
                *start < first + blocks && first < start + length
            };
            if pending.len() == 8 || pending.iter().any(overlaps) {
                acknowledged += self.settle(std::mem::take(&mut pending));
            }
            pending.push((first, blocks, request.0, ask(&handle, volume, request.1)));
        }
        acknowledged + self.settle(pending)
    }

    #[expect(clippy::type_complexity, reason = "a test")]
    fn settle(
        &mut self,
        pending: Vec<(
            u64,
            u64,
            u64,
            std::sync::mpsc::Receiver<Result<crate::nbd::export::Content, crate::nbd::export::Failed>>,
        )>,
    ) -> u64 {
        let mut acknowledged = 0;
        for (first, blocks, stamp, answer) in pending {
            let is_safe =
                answer.recv_timeout(Duration::from_secs(30)).expect("every request is answered").is_ok();
            acknowledged += u64::from(is_safe);
            for block in first..first + blocks {
                let known = self.blocks.entry(block).or_default();
                if is_safe { *known = (stamp, Vec::new()) } else { known.1.push(stamp) }
            }
        }
        acknowledged
    }

    /// Every block says what was acknowledged last, or what came later and was not answered.
    pub(super) fn check(&mut self, site: &Site, node: u16, volume: Volume, span: u64) {
        let handle = site.handle(node);
        for first in (0..span).step_by(64) {
            let bytes = read(&handle, volume, first, 64).unwrap();
            for (block, content) in (first..).zip(bytes.chunks(4096)) {
                let stamps: Vec<_> =
                    content.chunks(8).map(|one| u64::from_le_bytes(one.try_into().unwrap())).collect();
                assert!(stamps.iter().all(|stamp| *stamp == stamps[0]), "block {block} is torn");
                let (safe, maybe) = self.blocks.entry(block).or_default();
                assert!(
                    stamps[0] == *safe || maybe.contains(&stamps[0]),
                    "block {block} says {}, not {safe} or {maybe:?}",
                    stamps[0]
                );
                // What was read is there from now on.
                (*safe, *maybe) = (stamps[0], Vec::new());
            }
        }
    }
}

#[test]
fn the_other_holder_goes_on_with_every_acknowledged_write() {
    let mut site = Site::new(8 * MEBI);
    let mut known = Known::by_chance(7);
    let (mut leads, _, volume) = site.pair(4096);
    let mut total = 0;
    for round in 0..6 {
        total += known.write(&site, leads, volume, 300, 256, 4);
        let other = 3 - leads;
        assert!(read(&site.handle(other), volume, 0, 1).is_err(), "only who leads answers");
        site.kill(leads);
        let now = site.await_leader(|_| true);
        assert_eq!(now, other);
        assert_eq!(site.handle(now).catalogue().by_name("vm1").unwrap().volume, volume);
        known.check(&site, now, volume, 256);
        total += known.write(&site, now, volume, 100, 256, 4);
        site.start(leads);
        leads = site.await_synced();
        known.check(&site, leads, volume, 256);
        assert_eq!(leads, now, "round {round}");
    }
    assert_eq!(total, 6 * 400);
}

/// X13: a holder that was away for longer than the log reaches back is filled, and then leads with all of it.
#[test]
fn a_holder_that_was_away_for_long_is_filled() {
    let mut site = Site::new(5 * MEBI);
    let mut known = Known::by_chance(9);
    let (leads, _, volume) = site.pair(4096);
    known.write(&site, leads, volume, 50, 1024, 8);
    let other = 3 - leads;
    site.kill(other);
    assert_eq!(known.write(&site, leads, volume, 600, 1024, 32), 600);
    site.start(other);
    site.await_synced();
    known.write(&site, leads, volume, 50, 1024, 8);
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    known.check(&site, other, volume, 1024);
}

/// X14: more is on its way to a holder than its log has room for: it goes on as it applies that, for it is
/// told first what all others have.
#[test]
fn a_holder_with_a_smaller_log_gets_all_of_it() {
    let mut site = Site::new(64 * MEBI);
    let mut known = Known::by_chance(23);
    site.start(1);
    site.await_leader(|_| true);
    site.log_bytes = 5 * MEBI;
    site.start(2);
    assert_eq!(site.await_synced(), 1);
    let volume = create(&site.handle(1), "vm1", 4096);
    site.kill(2);
    assert_eq!(known.write(&site, 1, volume, 120, 4000, 64), 120);
    assert_eq!(site.handle(1).view().state, State::Degraded);
    site.start(2);
    assert_eq!(site.await_synced(), 1);
    site.kill(1);
    assert_eq!(site.await_leader(|_| true), 2);
    known.check(&site, 2, volume, 4000);
}

/// S4-10, X14: who was told that a write is durable, and asks at once, hears that it is in one place only.
#[test]
fn what_is_in_one_place_only_is_never_told_to_be_in_two() {
    let mut site = Site::new(64 * MEBI);
    let mut known = Known::by_chance(31);
    let (leads, other, volume) = site.pair(4096);
    for round in 0..5 {
        site.kill(other);
        known.write(&site, leads, volume, 2, 4000, 8);
        assert_eq!(site.handle(leads).view().state, State::Degraded, "round {round}");
        site.start(other);
        assert_eq!(site.await_synced(), leads);
    }
}

/// S4-10, X14: who follows and has everything says that it is in sync when the voters know that, and not
/// before: the loss of who leads would leave nobody.
#[test]
fn who_follows_is_in_sync_when_the_voters_know_it() {
    let mut site = Site::new(64 * MEBI);
    let mut known = Known::by_chance(37);
    let (leads, other, volume) = site.pair(4096);
    site.kill(other);
    known.write(&site, leads, volume, 2, 4000, 8);
    site.deafen(true);
    site.start(other);
    let newest = site.handle(leads).view().log.newest;
    until(&site, other, |view| view.primary == Some(leads) && view.log.durable == newest);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(site.handle(other).view().state, State::Resyncing);
    assert_ne!(site.handle(leads).view().state, State::Synced);
    site.deafen(false);
    until(&site, other, |view| view.state == State::Synced);
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    known.check(&site, other, volume, 4000);
}

/// F7, F10, X14: the log of the primary cannot be read where another holder lacks it. That one is filled from
/// the store, which has it, and not asked for ever.
#[test]
fn a_holder_that_cannot_be_fed_from_a_damaged_log_is_filled() {
    let mut site = Site::new(128 * MEBI);
    let mut known = Known::by_chance(29);
    let (leads, other, volume) = site.pair(16_384);
    site.kill(other);
    // More than memory has room for: the first of it is to be read in the log.
    assert_eq!(known.write(&site, leads, volume, 1_000, 12_000, 16), 1_000);
    await_applied(&site.handle(leads));
    site.await_leader(|view| view.state == State::Degraded);
    damage(&site, leads);
    site.start(other);
    assert_eq!(site.await_synced(), leads);
    let error = site.handle(leads).view().last_error.unwrap();
    assert!(error.contains("cannot be read in the log"), "{error}");
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    known.check(&site, other, volume, 12_000);
}

/// F16: both die at once. Whoever starts leads with everything, if it was in sync.
#[test]
fn both_die_and_nothing_acknowledged_is_lost() {
    let mut site = Site::new(8 * MEBI);
    let mut known = Known::by_chance(11);
    let (_, _, volume) = site.pair(4096);
    for round in 0..3 {
        let leads = site.await_synced();
        assert_eq!(known.write(&site, leads, volume, 200, 512, 4), 200);
        let last = create(&site.handle(leads), &format!("last-{round}"), 16);
        site.kill(1);
        site.kill(2);
        site.start(2);
        site.start(1);
        let leads = site.await_leader(|_| true);
        // Its log is not read yet, and still no number is given twice.
        let next = create(&site.handle(leads), &format!("next-{round}"), 16);
        let catalogue = site.handle(leads).catalogue();
        assert_eq!(catalogue.by_name(&format!("last-{round}")).unwrap().volume, last);
        assert_ne!(next, last);
        known.check(&site, leads, volume, 512);
    }
}

/// S1-33: what guests write into a volume while it is deleted goes nowhere, and nothing of it is left.
#[test]
fn a_volume_that_is_deleted_under_load_leaves_nothing() {
    let mut site = Site::new(8 * MEBI);
    let (leads, _, volume) = site.pair(4096);
    let handle = site.handle(leads);
    let write = |first: u64| {
        let request = Request::Write { offset: first * 4096, data: vec![7; 4096], durable: true };
        ask(&handle, volume, request)
    };
    let before: Vec<_> = (0..64).map(write).collect();
    before.iter().for_each(|answer| drop(answer.recv_timeout(Duration::from_secs(30)).unwrap().unwrap()));
    let during: Vec<_> = (64..512).map(write).collect();
    delete(&handle, volume);
    let after: Vec<_> = (512..576).map(write).collect();
    during.iter().for_each(|answer| drop(answer.recv_timeout(Duration::from_secs(30)).unwrap()));
    for answer in &after {
        assert!(answer.recv_timeout(Duration::from_secs(30)).unwrap().is_err(), "it is not there any more");
    }
    // Whatever is applied is applied before this is answered by both.
    let other = create(&handle, "vm2", 4096);
    assert_ne!(other, volume);
    std::thread::sleep(Duration::from_secs(1));
    for node in ["1", "2"] {
        let path = site.directory.path().join(node).join("volumes").join(format!("volume-{}", volume.0));
        assert!(!path.exists(), "{} is left", path.display());
    }
}

/// F36: the stream breaks again and again; guests go on, and the other catches up by the log.
#[test]
fn a_stream_that_breaks_costs_time_and_no_write() {
    let mut site = Site::new(8 * MEBI);
    let mut known = Known::by_chance(13);
    let (leads, _, volume) = site.pair(4096);
    let (one, two) = (bulkhead_core::id::NodeId(1), bulkhead_core::id::NodeId(2));
    for _ in 0..5 {
        known.write(&site, leads, volume, 100, 512, 8);
        site.wires.link(one, two, false);
        known.write(&site, leads, volume, 20, 512, 8);
        site.wires.link(one, two, true);
        known.write(&site, leads, volume, 100, 512, 8);
    }
    assert_eq!(site.await_synced(), leads);
    site.kill(leads);
    let other = site.await_leader(|_| true);
    known.check(&site, other, volume, 512);
}

/// S4-01, I12: the stores stand still and memory is full. Guests go on as long as the logs have room, and
/// read what they wrote; then it reaches the stores, or another start finds it.
#[test]
fn what_memory_has_no_room_for_is_read_from_the_log() {
    let mut site = Site::new(64 * MEBI);
    let mut known = Known { chance: 17, ..Known::default() };
    let (_, _, volume) = site.pair(16_384);
    for is_restarted in [false, true] {
        let leads = site.await_synced();
        let handles = [site.handle(1), site.handle(2)];
        let gates = handles.each_ref().map(|handle| handle.0.store.gate.lock().unwrap());
        assert_eq!(known.write(&site, leads, volume, 2_000, 12_000, 8), 2_000);
        let dirty = lock(&site.handle(leads).0.dirty).data_blocks() * 4096;
        assert!(20 * MEBI < dirty, "memory has 16 MiB, and {dirty} bytes are not in the store");
        known.check(&site, leads, volume, 12_000);
        drop(gates);
        drop(handles);
        if is_restarted {
            site.kill(1);
            site.kill(2);
            site.start(1);
            site.start(2);
        }
        known.check(&site, site.await_leader(|_| true), volume, 12_000);
        for node in [1, 2] {
            await_applied(&site.handle(node));
        }
    }
    let leads = site.await_synced();
    known.check(&site, leads, volume, 12_000);
    site.kill(leads);
    known.check(&site, site.await_leader(|_| true), volume, 12_000);
}

pub(super) fn await_applied(handle: &Handle) {
    let begin = Instant::now();
    while lock(&handle.0.dirty).data_blocks() != 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:#?}", handle.view());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first 8 MiB of a node's log rot, but for its superblock.
fn damage(site: &Site, node: u16) {
    let log = site.directory.path().join(node.to_string()).join("log");
    let log = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    for block in 8..2_000 {
        log.write_all_at(&[0xee; 16], block * 4096 + 1024).unwrap();
    }
    log.sync_all().unwrap();
}

/// V5, F7: what lies in the log only is damaged there. No guest reads it: the other holder leads.
#[test]
fn damage_of_what_is_dirty_is_never_read() {
    let mut site = Site::new(64 * MEBI);
    let mut known = Known { chance: 19, ..Known::default() };
    let (leads, _, volume) = site.pair(16_384);
    let handle = site.handle(leads);
    let gate = handle.0.store.gate.lock().unwrap();
    assert_eq!(known.write(&site, leads, volume, 1_500, 12_000, 8), 1_500);
    damage(&site, leads);
    let other = 3 - leads;
    let begin = Instant::now();
    // Somebody reads all of it, until this node leads no more.
    for first in (0..12_000).step_by(64).cycle() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nobody saw the damage");
        if read(&handle, volume, first, 64).is_err() {
            break;
        }
    }
    assert_eq!(site.await_leader(|view| view.primary == Some(other)), other);
    known.check(&site, other, volume, 12_000);
    assert!(handle.view().last_error.unwrap().contains("damaged in the log"));
    drop(gate);
}

/// The next start has the log as soon as this one has ended, whoever can still ask this one how it was.
#[test]
fn who_has_the_handle_of_a_node_that_died_does_not_have_its_log() {
    let mut site = Site::new(8 * MEBI);
    site.start(1);
    site.start(2);
    site.await_synced();
    let old = site.handle(1);
    site.kill(1);
    site.start(1);
    site.await_synced();
    drop(old);
}
