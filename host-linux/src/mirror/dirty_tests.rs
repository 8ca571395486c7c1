//! Against a model block by block (I12, S4-01): reads show the newest write wherever it lies, the store gets
//! all of it, what came while it was written stays, and nothing is looked for where the log was trimmed.

use super::super::window::testing;
use super::*;
use crate::storage::buffers::Pool;
use bulkhead_core::log::batch::Write;
use bulkhead_core::log::ring::BLOCKS_MIN;
use proptest::prelude::*;
use std::collections::BTreeMap;

const V: Volume = Volume(3);
const SPAN: u64 = 60;

#[derive(Clone, Debug)]
enum Op {
    Write { first: u64, blocks: u32, kind: u8, is_logged: bool },
    Sink(u64),
    Take,
    Settle,
    ApplyLogged(usize),
    Forget,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let write = (0..40_u64, 1..12_u32, 0..4_u8, any::<bool>());
    let write =
        write.prop_map(|(first, blocks, kind, is_logged)| Op::Write { first, blocks, kind, is_logged });
    let one = prop_oneof![
        16 => write,
        4 => (1..40_u64).prop_map(Op::Sink),
        3 => Just(Op::Take),
        3 => Just(Op::Settle),
        3 => (1..9_usize).prop_map(Op::ApplyLogged),
        1 => Just(Op::Forget),
    ];
    prop::collection::vec(one, 1..150)
}

/// What one block says: the number of its write, and which block of it.
fn stamp(seq: u64, block: u64) -> u64 {
    seq * 1000 + block
}

fn said(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

struct World {
    pool: Pool,
    dirty: Dirty,
    model: BTreeMap<u64, u64>,
    store: BTreeMap<u64, u64>,
    /// The blocks of the ring that were not trimmed.
    log: BTreeMap<u32, u64>,
    at: Position,
    /// Writes that are not in the store, in order.
    entries: Vec<Entry>,
    seq: u64,
    applied: u64,
    taken: Option<(u64, Vec<Placed>)>,
}

impl World {
    fn write(&mut self, first: u64, blocks: u32, kind: u8, is_logged: bool) {
        let kind = [Kind::Data, Kind::Zeroes, Kind::Trimmed, Kind::Data][usize::from(kind)];
        let write = Write::new(V, BlockIndex(first), blocks, kind).unwrap();
        self.seq += 1;
        let piece = (kind == Kind::Data).then(|| {
            let mut buffer = self.pool.take(blocks.try_into().unwrap()).unwrap();
            for (block, bytes) in (0..).zip(buffer.bytes_mut().chunks_mut(4096)) {
                bytes[..8].copy_from_slice(&stamp(self.seq, block).to_le_bytes());
            }
            buffer.keep().piece()
        });
        let mut entry = testing::entry(self.seq, write, piece);
        if let Some(piece) = &entry.piece {
            entry.at = Some(self.at);
            entry.sums = sums(piece.bytes()).collect();
            for block in piece.bytes().chunks(4096) {
                self.log.insert(u32::try_from(self.at.0 % BLOCKS_MIN).unwrap(), said(block));
                self.at = self.at.after(1);
            }
        }
        match is_logged {
            true => assert!(self.dirty.insert_logged(&entry)),
            false => self.dirty.insert(&entry),
        }
        for block in 0..u64::from(blocks) {
            let said = if kind == Kind::Data { stamp(self.seq, block) } else { 0 };
            self.model.insert(first + block, said);
        }
        self.entries.push(entry);
    }

    /// Only when all that sank is in the store, as the group does it.
    fn take(&mut self) {
        if self.taken.is_none() && self.dirty.sunk().0 <= self.applied {
            self.taken = Some((self.seq, self.dirty.upto(Seq(self.seq))));
        }
    }

    fn settle(&mut self) {
        let Some((upto, placed)) = self.taken.take() else { return };
        for Placed { first, extent, .. } in &placed {
            for block in 0..extent.blocks {
                let at = usize::try_from(block).unwrap() * 4096;
                let said = match &extent.content {
                    Content::Data(piece) => said(&piece.bytes()[at..]),
                    Content::Zeroes => 0,
                };
                self.store.insert(first + block, said);
            }
        }
        self.dirty.settle(&placed);
        self.trim(upto);
    }

    fn apply_logged(&mut self, count: usize) {
        let count = count.min(self.entries.partition_point(|entry| entry.seq <= self.dirty.sunk()));
        if self.taken.is_some() || count == 0 {
            return;
        }
        for entry in &self.entries[..count] {
            for Run { from, blocks } in self.dirty.current(entry) {
                for block in from..from + blocks {
                    let is_data = entry.piece.is_some();
                    let said = if is_data { stamp(entry.seq.0, block) } else { 0 };
                    self.store.insert(entry.write.first().0 + block, said);
                }
            }
        }
        self.entries[..count].iter().for_each(|entry| self.dirty.settle_logged(entry));
        self.trim(self.entries[count - 1].seq.0);
    }

    fn trim(&mut self, applied: u64) {
        self.applied = applied;
        let gone = self.entries.partition_point(|entry| entry.seq.0 <= applied);
        for entry in self.entries.drain(..gone) {
            let blocks = entry.piece.iter().flat_map(|piece| 0..piece.blocks() as u64);
            for number in blocks {
                self.log.remove(&u32::try_from((entry.at.unwrap().0 + number) % BLOCKS_MIN).unwrap());
            }
        }
    }

    fn forget(&mut self) {
        self.dirty.forget(V);
        self.model.clear();
        self.store.clear();
        // As a queue of jobs has it: what was taken before is written before the file goes.
        if let Some((upto, placed)) = self.taken.take() {
            self.dirty.settle(&placed);
            self.trim(upto);
        }
    }

    fn check(&self) {
        let mut at = 0;
        for part in self.dirty.look(V, 0, SPAN) {
            assert_ne!(part.blocks, 0);
            for block in 0..part.blocks {
                let number = usize::try_from(block).unwrap();
                let read = match &part.found {
                    Found::Memory(Content::Data(piece)) => said(&piece.bytes()[number * 4096..]),
                    Found::Memory(Content::Zeroes) => 0,
                    Found::Log(places) => {
                        assert!(self.dirty.is_still(V, at, places) && places.len() <= RUN);
                        *self.log.get(&places[number].block).expect("the log was trimmed there")
                    }
                    Found::Store => self.store.get(&(at + block)).copied().unwrap_or(0),
                };
                assert_eq!(read, self.model.get(&(at + block)).copied().unwrap_or(0), "{}", at + block);
            }
            at += part.blocks;
        }
        assert_eq!(at, SPAN);
        assert!(self.dirty.look(Volume(2), 0, SPAN).iter().all(|part| matches!(part.found, Found::Store)));
    }
}

proptest! {
    #[test]
    fn the_newest_is_read_and_all_of_it_reaches_the_store(ops in ops()) {
        let mut world = World {
            pool: Pool::new(8 << 20).unwrap(),
            dirty: Dirty::over(Ring::new(BLOCKS_MIN).unwrap()).unwrap(),
            model: BTreeMap::new(),
            store: BTreeMap::new(),
            log: BTreeMap::new(),
            at: Position(BLOCKS_MIN - 7),
            entries: Vec::new(),
            seq: 0,
            applied: 0,
            taken: None,
        };
        for op in ops {
            // A ring that is full takes nothing.
            let is_full = BLOCKS_MIN < world.log.len() as u64 + 12;
            match op {
                Op::Write { .. } if is_full => {}
                Op::Write { first, blocks, kind, is_logged } => world.write(first, blocks, kind, is_logged),
                Op::Sink(blocks) => world.dirty.sink(Seq(world.seq), blocks),
                Op::Take => world.take(),
                Op::Settle => world.settle(),
                Op::ApplyLogged(count) => world.apply_logged(count),
                Op::Forget => world.forget(),
            }
            world.check();
        }
        world.settle();
        while world.entries.first().is_some_and(|entry| entry.seq <= world.dirty.sunk()) {
            world.apply_logged(5);
            world.check();
        }
        world.take();
        world.settle();
        world.check();
        prop_assert_eq!((world.dirty.data_blocks(), world.dirty.extents()), (0, 0));
    }
}

#[test]
fn a_log_that_no_index_covers_is_refused() {
    let ring = Ring::new(u64::from(u32::MAX) + 1).unwrap();
    assert_eq!(Dirty::over(ring).err(), Some(TooLarge));
}
