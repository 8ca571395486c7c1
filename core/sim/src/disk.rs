//! A voter's disk: two copies of each place, writes that are volatile until flushed, torn by a power cut (F1,
//! F2, F5, F8, F13, F25).

use std::collections::BTreeMap;

use bulkhead_core::register::store::{Fault, Owner, STORED_LEN, Stored, newest};
use bulkhead_core::register::voters::Life;

use crate::chance::Chance;

type Block = [u8; STORED_LEN];
const BLANK: Block = [0; STORED_LEN];

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    copies: BTreeMap<(u16, u8), Block>,
    /// Writes since the last flush, oldest first.
    volatile: Vec<((u16, u8), Block)>,
    /// The life of the state on it.
    pub life: Life,
}

impl Disk {
    /// A disk on which nothing was written.
    pub const fn blank(life: Life) -> Self {
        Self { copies: BTreeMap::new(), volatile: Vec::new(), life }
    }

    /// Writes a copy; it is not durable yet.
    pub fn write(&mut self, place: u16, copy: u8, bytes: Block) {
        self.volatile.push(((place, copy), bytes));
    }

    /// Makes all writes durable.
    pub fn flush(&mut self) {
        self.copies.extend(self.volatile.drain(..));
    }

    /// The power fails: any of the writes since the last flush may have reached the disk, in any order, whole
    /// or in part.
    pub fn cut(&mut self, chance: &mut Chance) {
        for (at, bytes) in std::mem::take(&mut self.volatile) {
            match chance.below(3) {
                0 => {}
                1 => drop(self.copies.insert(at, bytes)),
                _ => {
                    let torn = usize::try_from(chance.between(1, 511)).unwrap_or(1);
                    let block = self.copies.entry(at).or_insert(BLANK);
                    block[..torn].copy_from_slice(&bytes[..torn]);
                }
            }
        }
    }

    /// What is on it without the writes since the last flush; nothing of a disk that cannot be read.
    pub fn durable(&self, owner: &Owner) -> Vec<Stored> {
        let mut flushed = Self { volatile: Vec::new(), ..self.clone() };
        flushed.read(owner).unwrap_or_default()
    }

    /// What a voter reads at its start, after it has written and flushed it once more.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] when both copies of a place are lost, which no power cut can do.
    pub fn read(&mut self, owner: &Owner) -> Result<Vec<Stored>, Fault> {
        let places = self.copies.keys().map(|(place, _)| *place).max().map_or(0, |place| place + 1);
        let mut all = Vec::new();
        for place in 0..places {
            let copy = |copy| Stored::parse(self.copies.get(&(place, copy)).unwrap_or(&BLANK), owner);
            match newest([copy(0), copy(1)]) {
                Ok(stored) => {
                    let bytes = stored.encode(owner);
                    self.copies.insert((place, 0), bytes);
                    self.copies.insert((place, 1), bytes);
                    all.push(stored);
                }
                // The first write of a new place was torn; whatever lies behind it was never answered from.
                Err(Fault::Blank) => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(all)
    }
}
