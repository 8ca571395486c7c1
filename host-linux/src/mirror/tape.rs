//! Reads writes of the log that are not in memory any more, in order (S4-07, V12; F3, F4, F7).
//!
//! One reader, one question to the disk at a time, for many batches at once. What it finds is compared with
//! its checksums; what does not fit ends the reading, and is never handed out. Nothing is taken that was not
//! durable when it was asked for: behind that, the disk may still show what an earlier start left there.

use super::batches::Batch;
use super::window::Entry;
use crate::storage::buffers::Payload;
use crate::storage::job::Fault;
use crate::storage::space::{Busy, ReadId, Space};
use bulkhead_core::log::Seq;
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::superblock::Superblock;
use bulkhead_core::log::writer::Log;

/// Blocks that are asked for at once: 512 KiB.
const CHUNK: usize = 128;
/// When there is no memory for that.
const FEW: usize = 8;

/// A reader.
#[derive(Debug, Default)]
pub struct Tape {
    /// Where the batch begins that has the next write, or an earlier one.
    at: Option<(Position, Seq)>,
    /// Blocks of the batch there, when it was longer than what was read of it.
    long: Option<usize>,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: ReadId,
    at: Position,
    want: Seq,
    /// The last write that was durable then.
    durable: Seq,
}

/// What came of an answer.
#[derive(Debug)]
pub enum Found {
    /// It was the answer to another question.
    Other,
    /// Nothing yet: ask again.
    Nothing,
    /// Writes from the wanted one on, in order. Never none.
    Writes(Vec<Entry>),
    /// The log does not have this write any more, or it cannot be read.
    Lost(Seq),
}

impl Tape {
    /// Whether this is the answer that is awaited.
    pub fn awaits(&self, id: ReadId) -> bool {
        self.asked.is_some_and(|asked| asked.id == id)
    }

    /// Asks for this write and those behind it. Nothing else is asked meanwhile.
    ///
    /// # Errors
    ///
    /// [`Busy`]: again after the next news. `Ok(false)`: the log begins behind it.
    pub fn ask(&mut self, id: ReadId, want: Seq, log: &Log, space: &mut Space) -> Result<bool, Busy> {
        if self.asked.is_some() {
            return Ok(true);
        }
        let near = self.at.filter(|(_, first)| *first <= want).map(|(at, _)| at);
        let far = log.marks().before(want).map(|tail| tail.at);
        // Whichever is nearer; a place before the tail is gone.
        let Some(at) = near.into_iter().chain(far).max().filter(|_| far.is_some()) else { return Ok(false) };
        match self.long {
            Some(blocks) => space.read(id, at, blocks)?,
            None => space.read(id, at, CHUNK).or_else(|Busy| space.read(id, at, FEW))?,
        }
        self.at = Some((at, Seq(0)));
        self.asked = Some(Asked { id, at, want, durable: log.durable() });
        Ok(true)
    }

    /// An answer came.
    pub fn have(&mut self, id: ReadId, result: Result<Payload, Fault>, kept: &Superblock) -> Found {
        let Some(asked) = self.asked.take_if(|asked| asked.id == id) else { return Found::Other };
        let Ok(payload) = result else { return self.lost(asked.want) };
        self.long = None;
        let (mut rest, mut at, mut writes) = (payload.piece(), asked.at, Vec::new());
        while let Some(batch) = Batch::front(&rest, at, kept) {
            if batch.counts() && asked.durable < batch.header.first {
                break;
            }
            if batch.counts() && writes.is_empty() && asked.want < batch.header.first {
                return self.lost(asked.want);
            }
            let Some((content, next)) = batch.content() else {
                self.long = Some(batch.payload().saturating_add(1)).filter(|_| at == asked.at);
                break;
            };
            if batch.counts() && asked.want <= batch.last {
                if !batch.is_whole(&content) {
                    break;
                }
                writes.extend(batch.entries(&content, asked.want));
            }
            (rest, at) = (next, batch.header.end());
            self.at = Some((at, batch.last.next()));
        }
        match (writes.is_empty(), at == asked.at && self.long.is_none()) {
            (false, _) => Found::Writes(writes),
            (true, false) => Found::Nothing,
            (true, true) => self.lost(asked.want),
        }
    }

    fn lost(&mut self, want: Seq) -> Found {
        *self = Self::default();
        Found::Lost(want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::buffers::Pool;
    use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
    use bulkhead_core::log::batch::{BlockIndex, Content, Header, Kind, Volume, Write};
    use bulkhead_core::log::ring::{BLOCKS_MIN, Ring};
    use bulkhead_core::log::superblock::Identity;
    use bulkhead_core::log::{BLOCK_LEN, End, Life};

    const ID: ReadId = ReadId(1);

    fn kept() -> Superblock {
        let (site, group) = (SiteId([1; 16]), GroupId([2; 16]));
        let identity = Identity { site, group, node: NodeId(1), life: Life(3) };
        Superblock::new(identity, Ring::new(BLOCKS_MIN).unwrap(), Seq(1))
    }

    /// Batches of writes without payload, one block each, from block 0 of the log on.
    fn chunk(kept: &Superblock, batches: &[(u64, u64, u64)]) -> Payload {
        let mut buffer = Pool::new(1 << 20).unwrap().take(CHUNK).unwrap();
        buffer.bytes_mut().fill(0x55);
        let blocks = buffer.bytes_mut().chunks_mut(BLOCK_LEN);
        for (at, (block, (first, count, epoch))) in (0..).zip(blocks.zip(batches)) {
            let mut content = Content::default();
            for number in 0..*count {
                let write = Write::new(Volume(1), BlockIndex(first + number), 1, Kind::Zeroes).unwrap();
                assert!(content.push(write, [].into_iter()));
            }
            let Identity { group, life, .. } = kept.identity;
            let (first, durable) = (Seq(*first), Seq(0));
            let (at, epoch, commit) = (Position(at), Epoch(*epoch), Seq(0));
            let header = Header { group, life, chain: 0, at, run: 1, epoch, first, durable, commit, content };
            block.copy_from_slice(&header.encode());
        }
        buffer.keep()
    }

    fn read(kept: &Superblock, chunk: &Payload, want: u64, durable: u64) -> Found {
        let at = Position(0);
        let asked = Some(Asked { id: ID, at, want: Seq(want), durable: Seq(durable) });
        let mut tape = Tape { at: Some((at, Seq(0))), long: None, asked };
        tape.have(ID, Ok(chunk.clone()), kept)
    }

    fn numbers(found: Found) -> Vec<(u64, u64)> {
        let Found::Writes(entries) = found else { panic!("{found:?}") };
        entries.iter().map(|entry| (entry.seq.0, entry.made.0)).collect()
    }

    /// I1, V12: two batches are cut off; what came in their place has their numbers, and less of them.
    #[test]
    fn what_was_cut_off_is_passed_over_however_much_it_is() {
        let mut kept = kept();
        let end = End { at: Position(3), next: Seq(8), chain: 0, epoch: Epoch(1), commit: Seq(3) };
        kept.begin(&end, Seq(4)).unwrap();
        let chunk = chunk(&kept, &[(1, 3, 1), (4, 2, 1), (6, 2, 1), (4, 1, 2), (5, 1, 2)]);
        assert_eq!(numbers(read(&kept, &chunk, 4, 5)), [(4, 2), (5, 2)]);
        assert_eq!(numbers(read(&kept, &chunk, 5, 5)), [(5, 2)]);
        assert_eq!(numbers(read(&kept, &chunk, 2, 5)), [(2, 1), (3, 1), (4, 2), (5, 2)]);
    }

    /// F3, F4: behind what was durable the disk may show what an earlier start left there.
    #[test]
    fn nothing_is_taken_that_was_not_durable() {
        let kept = kept();
        let chunk = chunk(&kept, &[(1, 3, 1), (4, 2, 1)]);
        assert_eq!(numbers(read(&kept, &chunk, 1, 3)), [(1, 1), (2, 1), (3, 1)]);
        assert!(matches!(read(&kept, &chunk, 0, 9), Found::Lost(Seq(0))), "a hole in front of the first");
        assert!(matches!(read(&kept, &chunk, 6, 9), Found::Nothing), "it is further on");
    }

    #[test]
    fn a_batch_that_was_not_read_whole_is_asked_for_whole() {
        let kept = kept();
        let mut buffer = Pool::new(1 << 20).unwrap().take(1).unwrap();
        let mut content = Content::default();
        let write = Write::new(Volume(1), BlockIndex(0), 20, Kind::Data).unwrap();
        assert!(content.push(write, std::iter::repeat_n(bulkhead_core::log::batch::Sum(0), 20)));
        let Identity { group, life, .. } = kept.identity;
        let (at, epoch, first, none) = (Position(0), Epoch(1), Seq(1), Seq(0));
        let (durable, commit) = (none, none);
        let header = Header { group, life, chain: 0, at, run: 1, epoch, first, durable, commit, content };
        buffer.bytes_mut().copy_from_slice(&header.encode());
        let asked = Some(Asked { id: ID, at, want: first, durable: first });
        let mut tape = Tape { at: Some((at, none)), long: None, asked };
        assert!(matches!(tape.have(ReadId(7), Err(Fault::Busy), &kept), Found::Other));
        assert!(matches!(tape.have(ID, Ok(buffer.keep()), &kept), Found::Nothing));
        assert_eq!(tape.long, Some(21));
    }
}
