//! What the group has promised, write by write and block by block: an acknowledged write is never lost and
//! never changes its place, and no read shows less, or anything else (I2, I3, I10, I12; V4, V5, V8).

use std::collections::BTreeMap;

use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{BlockIndex, Kind, Sum, Volume, Write};

use super::drive::{Cell, Drive};

/// Blocks of the one volume that guests write into.
pub(crate) const BLOCKS: u64 = 256;

/// A write of a guest: no two with a payload have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) made: Epoch,
    pub(crate) write: Write,
    pub(crate) number: u64,
}

impl Entry {
    pub(crate) fn new(first: u64, blocks: u32, kind: Kind, number: u64) -> Self {
        let write = Write::new(Volume(1), BlockIndex(first), blocks, kind);
        let write = write.expect("the guests of the simulator write into their volume");
        // Of what has no payload the log knows no number.
        let number = if kind == Kind::Data { number } else { 0 };
        Self { made: Epoch(0), write, number }
    }

    /// What it puts into each of its blocks.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (first, number, kind) = (self.write.first().0, self.number, self.write.kind());
        (first..first + u64::from(self.write.blocks())).map(move |block| match kind {
            Kind::Data => (block, number << 16 | block),
            Kind::Zeroes | Kind::Trimmed => (block, 0),
        })
    }

    /// Its payload.
    pub(crate) fn payload(&self) -> impl Iterator<Item = Cell> + use<> {
        let payload = self.write.payload();
        self.blocks().take(payload).map(|(_, value)| Cell::of(value))
    }

    pub(crate) fn sums(&self) -> Vec<Sum> {
        self.payload().map(|cell| cell.sum()).collect()
    }
}

/// What was promised.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Write 1 is the first.
    promised: Vec<Entry>,
    /// What each block says after all of them.
    image: Vec<u64>,
    /// What guests wrote, acknowledged or not.
    offered: BTreeMap<u64, Write>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::of(BLOCKS)
    }
}

type Window = BTreeMap<Seq, Entry>;

impl Ledger {
    /// Of a volume of so many blocks.
    pub(crate) fn of(blocks: u64) -> Self {
        let blocks = usize::try_from(blocks).unwrap_or(0);
        Self { promised: Vec::new(), image: vec![0; blocks], offered: BTreeMap::new() }
    }

    /// Every write up to this one is promised.
    pub(crate) fn upto(&self) -> Seq {
        Seq(u64::try_from(self.promised.len()).unwrap_or(u64::MAX))
    }

    /// What a block says.
    pub(crate) fn block(&self, block: u64) -> u64 {
        self.image[usize::try_from(block).unwrap_or(usize::MAX)]
    }

    /// A guest asked for this write.
    pub(crate) fn offer(&mut self, entry: &Entry) {
        self.offered.insert(entry.number, entry.write);
    }

    fn get(&self, seq: Seq) -> Option<&Entry> {
        self.promised.get(usize::try_from(seq.0).ok()?.checked_sub(1)?)
    }

    /// Writes up to this one are promised, by whoever has this log.
    pub(crate) fn promise(&mut self, upto: Seq, window: &Window) -> Result<(), String> {
        while self.upto() < upto {
            let seq = self.upto().next();
            let entry = window.get(&seq).ok_or(format!("write {} counts, and is in no log", seq.0))?;
            let is_known = entry.number == 0 || self.offered.get(&entry.number) == Some(&entry.write);
            if !is_known {
                return Err(format!("write {} is nobody's: {entry:?}", seq.0));
            }
            self.promised.push(*entry);
            for (block, value) in entry.blocks() {
                self.image[usize::try_from(block).unwrap_or(usize::MAX)] = value;
            }
        }
        Ok(())
    }

    /// Between these two writes a log has nothing else than was promised.
    pub(crate) fn agrees(&self, window: &Window, from: Seq, upto: Seq) -> Result<(), String> {
        let upto = upto.min(self.upto());
        let promised = window.range(from..).take_while(|(seq, _)| **seq <= upto);
        let differs = promised.into_iter().find(|(seq, entry)| self.get(**seq) != Some(*entry));
        differs.map_or(Ok(()), |(seq, entry)| {
            Err(format!("write {} was {:?}, and is {entry:?}", seq.0, self.get(*seq)))
        })
    }

    /// Whoever leads with this log and this store has all that was promised, each in its place.
    pub(crate) fn is_whole(
        &self,
        next: Seq,
        window: &Window,
        (store, applied): (&Drive, Seq),
    ) -> Result<(), String> {
        if next <= self.upto() {
            return Err(format!("write {} was acknowledged, and is not in its log", next.0));
        }
        self.agrees(window, Seq(0), self.upto())?;
        let mut seen: Vec<_> =
            (0..).zip(&self.image).map(|(block, _)| block).map(|block| store.read(block).value()).collect();
        for seq in (applied.next().0..=self.upto().0).map(Seq) {
            let entry = window.get(&seq).ok_or(format!("write {} is in neither log nor store", seq.0))?;
            for (block, value) in entry.blocks() {
                seen[usize::try_from(block).unwrap_or(usize::MAX)] = Some(value);
            }
        }
        self.compare(seen)
    }

    /// These are the blocks of the volume.
    pub(crate) fn compare(&self, seen: impl IntoIterator<Item = Option<u64>>) -> Result<(), String> {
        let differs = (0_u64..)
            .zip(seen.into_iter().zip(&self.image))
            .find(|(_, (seen, image))| *seen != Some(**image));
        differs.map_or(Ok(()), |(block, (seen, image))| {
            Err(format!("block {block} says {seen:x?}, and not {image:x}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(writes: &[(u64, u64)]) -> Window {
        let entry = |(first, number): &(u64, u64)| Entry::new(*first, 2, Kind::Data, *number);
        (1..).map(Seq).zip(writes.iter().map(entry)).collect()
    }

    /// V5, V8: the checker notices a lost write, one that changed, and a block that says something else.
    #[test]
    fn what_was_promised_is_missed() {
        let mut ledger = Ledger::default();
        let log = window(&[(0, 7), (1, 8)]);
        assert!(ledger.promise(Seq(1), &log).unwrap_err().contains("nobody's"));
        log.values().for_each(|entry| ledger.offer(entry));
        ledger.promise(Seq(2), &log).unwrap();
        let store = Drive::blank(BLOCKS);
        assert_eq!(ledger.is_whole(Seq(3), &log, (&store, Seq(0))), Ok(()));
        assert!(ledger.is_whole(Seq(2), &log, (&store, Seq(0))).unwrap_err().contains("not in its log"));
        assert!(ledger.is_whole(Seq(3), &log, (&store, Seq(1))).unwrap_err().contains("block 0"));
        assert!(ledger.agrees(&window(&[(0, 7), (1, 9)]), Seq(0), Seq(9)).unwrap_err().contains("write 2"));
        assert!(ledger.promise(Seq(3), &log).unwrap_err().contains("no log"));
        assert_eq!((ledger.block(0), ledger.block(1)), (7 << 16, 8 << 16 | 1));
    }
}
