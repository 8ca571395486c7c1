//! V1, V5, V12, V13 (F1 to F4, F7, F16): whenever the power is cut, and whatever of the unflushed sectors
//! the disk keeps, a scan finds every write that was durable, in order, and nothing that was not written;
//! again and again the same. Damage of what was durable is never taken for a torn tail.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use super::batch::{BlockIndex, Kind, Sum, Volume, Write};
use super::marks::Marks;
use super::ring::{BLOCKS_MIN, Position, RING_AT, Ring};
use super::scan::{self, Outcome, Payload, Scan};
use super::superblock::{self, Identity, Superblock, Tail, copy_of};
use super::testing::{Chance, Disk};
use super::writer::{self, Log, Refusal};
use super::{BLOCK_LEN, Block, End, Life, Seq};
use crate::crc::crc32c;
use crate::id::{Epoch, GroupId, NodeId, SiteId};

fn payload(seq: Seq, block: u64, lineage: u64) -> Block {
    let mut bytes = [0; BLOCK_LEN];
    for (place, chunk) in (0_u64..).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&(seq.0 << 32 ^ block << 16 ^ lineage << 8 ^ place).to_le_bytes());
    }
    bytes
}

/// A write as it was appended, with the content of its blocks.
type Entry = (Write, Vec<Block>);

struct Flight {
    at: Position,
    blocks: Vec<u64>,
}

struct World {
    chance: Chance,
    disk: Disk,
    superblock: Superblock,
    log: Log,
    /// Every write that counts, by number.
    entries: BTreeMap<Seq, Entry>,
    flights: Vec<Flight>,
    /// Where the batches begin that were sent, and with which write, and what stands before them.
    batches: Vec<Tail>,
    durable: Seq,
    /// Tells the writes of one number from those that were cut off.
    lineage: u64,
    epoch: Epoch,
}

const IDENTITY: Identity =
    Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };

impl World {
    fn new(seed: u64) -> Self {
        let mut superblock = Superblock::new(IDENTITY, Ring::new(BLOCKS_MIN).unwrap(), Seq(1));
        let mut disk = Disk::default();
        let end = found(&disk, &superblock).0;
        let Outcome::Whole(end) = end else { panic!("a new log is whole") };
        superblock.begin(&end, end.next).unwrap();
        superblock.seq += 1;
        disk.kept.insert(copy_of(superblock.seq), superblock.encode());
        let log = Log::new(&superblock, end, Marks::new(superblock.ring));
        Self {
            chance: Chance(seed),
            disk,
            superblock,
            log,
            entries: BTreeMap::new(),
            flights: vec![],
            batches: vec![],
            durable: Seq(0),
            lineage: 0,
            epoch: Epoch(1),
        }
    }

    fn step(&mut self, event: writer::Event<'_>) -> Option<Refusal> {
        let Self { log, disk, flights, entries, batches, durable, superblock, .. } = self;
        let mut refused = None;
        log.step(event, &mut |action| match action {
            writer::Action::Commit { at, blocks, writes: (first, count), header } => {
                let parsed = super::batch::Header::parse(header).unwrap().0;
                batches.push(Tail { at, first, chain: parsed.chain });
                let payload = (0..).map(|n| first.after(n)).take(count).flat_map(|seq| &entries[&seq].1);
                let content = core::iter::once(header).chain(payload);
                let extents = superblock.ring.extents(at, blocks);
                let places: Vec<_> = extents.flat_map(|e| e.first..e.first + e.blocks).collect();
                assert_eq!(places.len(), content.clone().count(), "a batch is as long as it says");
                disk.cached.extend(places.iter().copied().zip(content.copied()));
                flights.push(Flight { at, blocks: places });
            }
            writer::Action::Durable(seq) => *durable = seq,
            writer::Action::Refused(why) => refused = Some(why),
        });
        refused
    }

    fn append(&mut self) {
        let seq = self.log.next();
        let kind = [Kind::Data, Kind::Data, Kind::Data, Kind::Zeroes, Kind::Trimmed][self.pick(5)];
        let most = if self.chance.below(12) == 0 { 448 } else { 4 };
        let blocks = u32::try_from(self.chance.below(most) + 1).unwrap();
        let first = BlockIndex(self.chance.below(1 << 20));
        let write = Write::new(Volume(1), first, blocks, kind).unwrap();
        let content: Vec<_> = (0..write.payload() as u64).map(|n| payload(seq, n, self.lineage)).collect();
        let sums: Vec<_> = content.iter().map(|block| Sum(crc32c(block))).collect();
        self.entries.insert(seq, (write, content));
        let event = writer::Event::Append { seq, epoch: self.epoch, write, sums: &sums };
        if let Some(refusal) = self.step(event) {
            assert_eq!(refusal, Refusal::Busy);
            self.entries.remove(&seq);
        }
    }

    fn pick(&mut self, limit: u64) -> usize {
        usize::try_from(self.chance.below(limit)).unwrap()
    }

    /// Completes one of the commits on their way.
    fn complete(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let place = self.pick(self.flights.len() as u64);
        let flight = self.flights.remove(place);
        self.disk.flush(&flight.blocks);
        self.step(writer::Event::Committed(flight.at));
    }

    /// Writes the superblock; the power may go meanwhile.
    fn keep(&mut self, superblock: Superblock) {
        let copy = copy_of(superblock.seq);
        self.disk.cached.push((copy, superblock.encode()));
        if self.chance.below(6) != 0 {
            self.disk.flush(&[copy]);
            self.superblock = superblock;
        }
    }

    /// Everything durable is applied and, up to some batch, trimmed.
    fn trim(&mut self) {
        let mut next = self.superblock.clone();
        next.seq += 1;
        next.settle(self.durable, self.durable);
        let durable = self.durable;
        let places = self.batches.iter().filter(|batch| batch.first <= durable);
        let places: Vec<_> = places.copied().collect();
        let place = self.pick(places.len() as u64 + 1);
        if let Some(tail) = places.get(place) {
            next.trim(*tail);
        }
        self.keep(next.clone());
        match self.superblock == next {
            true => drop(self.step(writer::Event::Trimmed(next.tail))),
            // The power went before anybody knew.
            false => self.power_cut(),
        }
        let tail = self.superblock.tail.at;
        self.batches.retain(|batch| tail <= batch.at);
    }

    fn power_cut(&mut self) {
        loop {
            self.disk.power_cut(&mut self.chance);
            self.flights.clear();
            let end = self.recover();
            // A new primary may have taken back what was durable here and nowhere else.
            let floor = self.superblock.applied.max(end.commit);
            let cut = end.next.0 - floor.0 - 1;
            let from = match cut != 0 && self.chance.below(3) == 0 {
                true => floor.after(1 + self.chance.below(cut)),
                false => end.next,
            };
            let mut next = self.superblock.clone();
            next.seq += 1;
            if next.begin(&end, from) == Err(superblock::Uncut::TooMany) {
                // As a holder does: all of it is applied, and trimmed.
                next.settle(Seq(0), end.next.before());
                next.trim(Tail { at: end.at, first: end.next, chain: end.chain });
                assert!(next.cuts.is_empty());
                self.durable = end.next.before();
                self.keep(next);
                self.batches.clear();
                continue;
            }
            // From here on nobody counts on what is cut off.
            self.durable = from.before();
            self.keep(next.clone());
            if self.superblock != next {
                continue;
            }
            self.entries.split_off(&from);
            self.lineage += 1;
            let marks = Marks::new(self.superblock.ring);
            self.log = Log::new(&self.superblock, End { next: from, ..end }, marks);
            self.batches.retain(|batch| batch.at < end.at && batch.first < from);
            return;
        }
    }

    /// Reads everything that is on the disk, and holds it against what was written.
    fn recover(&mut self) -> End {
        let copies = [0, 1].map(|at| Superblock::parse(&self.disk.read(at)));
        self.superblock = superblock::newest(copies).expect("one copy is whole");
        let (outcome, found) = found(&self.disk, &self.superblock);
        assert_eq!(found_again(&self.disk, &self.superblock), (outcome, found.clone()), "V12");
        let Outcome::Whole(end) = outcome else { panic!("nothing is damaged: {outcome:?}") };
        assert!(self.durable < end.next, "{:?} was durable, the log ends at {:?}", self.durable, end.next);
        let first = self.superblock.tail.first;
        let expected: Vec<_> = self.entries.range(first..).take_while(|(seq, _)| **seq < end.next).collect();
        assert_eq!(found.len(), expected.len());
        for (one, (seq, entry)) in found.iter().zip(expected) {
            assert_eq!((one.0, &one.1), (*seq, entry));
        }
        self.entries.split_off(&end.next);
        end
    }
}

fn found_again(disk: &Disk, superblock: &Superblock) -> (Outcome, Vec<(Seq, Entry)>) {
    found(disk, superblock)
}

/// A scan as a shell does it.
fn found(disk: &Disk, superblock: &Superblock) -> (Outcome, Vec<(Seq, Entry)>) {
    #[expect(clippy::large_enum_variant, reason = "one at a time, in a test")]
    enum Answer {
        Block(Block),
        Payload(Payload),
    }
    let ring = superblock.ring;
    let read = |at, blocks| -> Vec<Block> {
        let extents = ring.extents(at, blocks);
        extents.flat_map(|e| e.first..e.first + e.blocks).map(|block| disk.read(block)).collect()
    };
    let (mut scan, mut found, mut outcome) = (Scan::new(superblock.clone()), vec![], None);
    let mut answer: Option<Answer> = None;
    while outcome.is_none() {
        let given = answer.take();
        let event = match &given {
            None => scan::Event::Begin,
            Some(Answer::Block(block)) => scan::Event::Block(Some(block)),
            Some(Answer::Payload(payload)) => scan::Event::Payload(*payload),
        };
        scan.step(event, &mut |action| match action {
            scan::Action::Read(at) => answer = Some(Answer::Block(read(at, 1)[0])),
            scan::Action::Check(header) => {
                let blocks = read(header.at.after(1), header.content.blocks() - 1);
                let sums: Vec<_> = blocks.iter().map(|block| Sum(crc32c(block))).collect();
                let is_whole = sums == header.content.sums();
                answer = Some(Answer::Payload(if is_whole { Payload::Whole } else { Payload::Broken }));
            }
            scan::Action::Found(header) => {
                let blocks = read(header.at.after(1), header.content.blocks() - 1);
                let mut blocks = blocks.into_iter();
                for (seq, write) in (header.first.0..).map(Seq).zip(header.content.writes()) {
                    let content = blocks.by_ref().take(write.payload()).collect();
                    if !superblock.is_void(header.at, seq) {
                        found.push((seq, (*write, content)));
                    }
                }
            }
            scan::Action::Ended(end) => outcome = Some(end),
        });
    }
    (outcome.unwrap(), found)
}

fn run(seed: u64, steps: u32) -> World {
    let mut world = World::new(seed * 2 + 1);
    for _ in 0..steps {
        match world.chance.below(100) {
            0..=49 => world.append(),
            50..=84 => world.complete(),
            85..=93 => world.trim(),
            94..=96 => {
                let commit = Seq(world.chance.below(world.durable.0 + 1));
                world.step(writer::Event::CommitPoint(commit));
            }
            97 => world.epoch = world.epoch.next(),
            98.. => world.power_cut(),
        }
    }
    world
}

#[test]
fn every_durable_write_is_found_after_any_power_cut() {
    let (mut laps, mut cuts) = (0, 0);
    for seed in 0..40 {
        let mut world = run(seed, 400);
        world.power_cut();
        laps = laps.max(world.superblock.run.at.0 / BLOCKS_MIN);
        cuts = cuts.max(world.superblock.cuts.len());
    }
    assert!(2 <= laps && 2 <= cuts, "the ring was used round and round, and cut: {laps}, {cuts}");
}

/// F3, F4, F7: one header that a later one calls durable is lost, stale, or of another place.
#[test]
fn damage_of_what_was_durable_is_told_from_a_torn_tail() {
    let (mut damaged, mut tried) = (0, 0);
    for seed in 0..30 {
        let mut world = run(seed, 300);
        while !world.flights.is_empty() {
            world.complete();
        }
        // Two more: their headers say that all before was durable.
        for _ in 0..2 {
            world.append();
            world.complete();
        }
        world.disk.flush(&[0, 1]);
        let tail = world.superblock.tail.at;
        let batches: Vec<_> = world.batches.iter().filter(|batch| tail <= batch.at).copied().collect();
        let Some(count) = batches.len().checked_sub(3).filter(|count| *count != 0) else { continue };
        let hit = batches[world.pick(count as u64)];
        let block = world.superblock.ring.extents(hit.at, 1).next().unwrap().first;
        let byte = world.pick(BLOCK_LEN as u64);
        let bytes = world.disk.kept.get_mut(&block).unwrap();
        match seed % 3 {
            0 => *bytes = [0; BLOCK_LEN],
            1 => bytes[byte] ^= 1,
            2.. => {
                let other = world.superblock.ring.extents(batches[count].at, 1).next().unwrap().first;
                world.disk.kept.insert(block, world.disk.read(other));
            }
        }
        tried += 1;
        let (outcome, found) = found(&world.disk, &world.superblock);
        let Outcome::Damaged(end) = outcome else { panic!("seed {seed}: {outcome:?}, hit {hit:?}") };
        assert_eq!(end.at, hit.at);
        assert!(found.iter().all(|(seq, entry)| world.entries[seq] == *entry), "what is found is right");
        damaged += 1;
    }
    assert!(20 < tried && damaged == tried, "{damaged} of {tried}");
}

/// F10: a block at the end that the disk cannot read is no torn tail.
#[test]
fn what_cannot_be_read_may_have_been_durable() {
    let superblock = Superblock::new(IDENTITY, Ring::new(BLOCKS_MIN).unwrap(), Seq(1));
    let mut scan = Scan::new(superblock);
    let mut last = None;
    scan.step(scan::Event::Begin, &mut |action| last = Some(action == scan::Action::Read(Position(0))));
    assert_eq!(last, Some(true));
    let mut outcome = None;
    scan.step(scan::Event::Block(None), &mut |action| match action {
        scan::Action::Ended(end) => outcome = Some(end),
        scan::Action::Read(_) | scan::Action::Check(_) | scan::Action::Found(_) => {}
    });
    assert!(matches!(outcome, Some(Outcome::Damaged(End { next: Seq(1), .. }))), "{outcome:?}");
    assert_eq!(RING_AT, 2, "the superblocks are in front of it");
}
