//! The disk of a log or of a backing store: what was written and not flushed is torn by a power cut, sector
//! by sector, and what failed to be flushed may be there or not (F1, F2, F5, F7).

use std::rc::Rc;

use bulkhead_core::log::batch::Sum;
use bulkhead_core::log::{BLOCK_LEN, Block};

use crate::chance::Chance;

const SECTORS: usize = 8;
const SECTOR_LEN: usize = BLOCK_LEN / SECTORS;
const BLANK: [u64; SECTORS] = [0; SECTORS];

/// A block: bytes, or a number repeated in each of its sectors, which takes less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Plain([u64; SECTORS]),
    Bytes(Rc<Block>),
}

impl Cell {
    /// A block of payload.
    pub(crate) const fn of(value: u64) -> Self {
        Self::Plain([value; SECTORS])
    }

    /// What it says, if it is whole.
    pub(crate) fn value(&self) -> Option<u64> {
        let sectors = self.sectors();
        sectors.iter().all(|one| *one == sectors[0]).then_some(sectors[0])
    }

    /// Its checksum.
    pub(crate) fn sum(&self) -> Sum {
        Sum(self.sectors().iter().fold(0x811c_9dc5, |sum, sector| {
            let mixed = (u64::from(sum) ^ sector).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            u32::try_from(mixed >> 32).unwrap_or(0)
        }))
    }

    /// Its bytes; where they are written out, in `room`.
    pub(crate) fn bytes<'a>(&'a self, room: &'a mut Block) -> &'a Block {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Plain(BLANK) => &[0; BLOCK_LEN],
            Self::Plain(sectors) => {
                let (eights, _) = room.as_chunks_mut();
                for (chunk, value) in eights.chunks_mut(SECTOR_LEN / 8).zip(sectors) {
                    chunk.fill(value.to_le_bytes());
                }
                room
            }
        }
    }

    /// What each sector says: of bytes that are no payload, a number of their own.
    fn sectors(&self) -> [u64; SECTORS] {
        match self {
            Self::Plain(sectors) => *sectors,
            Self::Bytes(bytes) => {
                let mut sectors = [0; SECTORS];
                for (sector, chunk) in sectors.iter_mut().zip(bytes.chunks(SECTOR_LEN)) {
                    let first = number(&chunk[..8]);
                    let mut eights = chunk.chunks(8).map(number);
                    let mix = |hash: u64, eight: u64| (hash ^ eight).wrapping_mul(0x0000_0100_0000_01b3);
                    *sector = match eights.clone().all(|eight| eight == first) {
                        true => first,
                        false => eights.by_ref().fold(0xcbf2_9ce4_8422_2325, mix),
                    };
                }
                sectors
            }
        }
    }

    /// It, with another bit.
    pub(crate) fn rotten(&self, bit: u64) -> Self {
        let mut block = *self.bytes(&mut [0; BLOCK_LEN]);
        block[place(bit / 8)] ^= 1 << (bit % 8);
        Self::Bytes(Rc::new(block))
    }

    /// Each sector is this one's or the new one's.
    fn torn(&self, new: &Self, chance: &mut Chance) -> Self {
        let picks = match chance.below(3) {
            0 => return self.clone(),
            1 => return new.clone(),
            _ => chance.next() >> 16,
        };
        let is_new = |sector: usize| picks >> sector & 1 == 1;
        if let (Self::Plain(old), Self::Plain(new)) = (self, new) {
            return Self::Plain(std::array::from_fn(|one| if is_new(one) { new[one] } else { old[one] }));
        }
        let mut block = *self.bytes(&mut [0; BLOCK_LEN]);
        let mut room = [0; BLOCK_LEN];
        let source = new.bytes(&mut room);
        for sector in (0..SECTORS).filter(|sector| is_new(*sector)) {
            let range = sector * SECTOR_LEN..(sector + 1) * SECTOR_LEN;
            block[range.clone()].copy_from_slice(&source[range]);
        }
        Self::Bytes(Rc::new(block))
    }
}

fn number(eight: &[u8]) -> u64 {
    eight.try_into().map(u64::from_le_bytes).unwrap_or_default()
}

/// Writes that are flushed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Io(u64);

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct Drive {
    kept: Vec<Cell>,
    /// Written and not flushed, oldest first.
    cached: Vec<(Io, usize, Cell)>,
    ios: u64,
}

impl Drive {
    /// Of so many blocks, all zero.
    pub(crate) fn blank(blocks: u64) -> Self {
        Self { kept: vec![Cell::of(0); place(blocks)], cached: Vec::new(), ios: 0 }
    }

    pub(crate) fn read(&self, at: u64) -> &Cell {
        let newest = self.cached.iter().rev().find(|(_, block, _)| *block == place(at));
        newest.map_or(&self.kept[place(at)], |(_, _, cell)| cell)
    }

    /// Writes; none of it is durable yet.
    pub(crate) fn write(&mut self, cells: impl IntoIterator<Item = (u64, Cell)>) -> Io {
        self.ios += 1;
        let io = Io(self.ios);
        self.cached.extend(cells.into_iter().map(|(at, cell)| (io, place(at), cell)));
        io
    }

    /// As FUA does: makes these durable, and no others.
    pub(crate) fn flush(&mut self, io: Io) {
        let Self { kept, cached, .. } = self;
        cached.retain(|(of, at, cell)| {
            if *of == io {
                kept[*at] = cell.clone();
            }
            *of != io
        });
    }

    /// As a flush of the device does.
    pub(crate) fn flush_all(&mut self) {
        for (_, at, cell) in std::mem::take(&mut self.cached) {
            self.kept[at] = cell;
        }
    }

    /// A flush failed: nobody knows what of these is there (F5).
    pub(crate) fn lose(&mut self, io: Io, chance: &mut Chance) {
        let (lost, left) = std::mem::take(&mut self.cached).into_iter().partition(|(of, ..)| *of == io);
        self.cached = left;
        self.tear(lost, chance);
    }

    /// The power fails.
    pub(crate) fn cut(&mut self, chance: &mut Chance) {
        let lost = std::mem::take(&mut self.cached);
        self.tear(lost, chance);
    }

    fn tear(&mut self, lost: Vec<(Io, usize, Cell)>, chance: &mut Chance) {
        for (_, at, new) in lost {
            self.kept[at] = self.kept[at].torn(&new, chance);
        }
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two forms of a block are the same block.
    #[test]
    fn a_number_repeated_is_what_its_bytes_are() {
        let plain = Cell::Plain([1, 1, 1, 7, 1, 1, 1, 1]);
        let mut room = [7; BLOCK_LEN];
        let mut written = |cell: &Cell| Cell::Bytes(Rc::new(*cell.bytes(&mut room)));
        let bytes = written(&plain);
        assert_eq!((plain.sum(), plain.value()), (bytes.sum(), None));
        assert_ne!(plain.rotten(700 * 8).sum(), plain.sum());
        for value in [0, 9] {
            assert_eq!(written(&Cell::of(value)).value(), Some(value));
        }
    }

    /// F1, F2: whatever a power cut leaves of a block is one or the other in each sector.
    #[test]
    fn what_was_not_flushed_is_torn_and_what_was_is_kept() {
        let mut chance = Chance::new(3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut drive = Drive::blank(2);
            let io = drive.write([(0, Cell::of(5))]);
            drive.write([(1, Cell::of(6))]);
            drive.flush(io);
            drive.cut(&mut chance);
            assert_eq!(drive.read(0).value(), Some(5));
            assert!(drive.read(1).sectors().iter().all(|one| [0, 6].contains(one)));
            seen.insert(drive.read(1).value());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [None, Some(0), Some(6)]);
    }
}
