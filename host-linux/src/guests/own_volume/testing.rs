//! A volume in memory that remembers what was done to it, and what of that a power cut can leave.

use super::medium::{Awaited, Medium, begun};
use super::table::BLOCK;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;

/// What was done to a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Write(u64, Vec<u8>),
    Flush,
    Forget(Range<u64>),
}

/// Blocks that are not zero.
pub type Blocks = BTreeMap<u64, Vec<u8>>;

/// A volume of so many blocks.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub count: u64,
    pub blocks: RefCell<Blocks>,
    pub deeds: RefCell<Vec<Deed>>,
}

impl Disk {
    pub fn new(count: u64, blocks: Blocks) -> Self {
        Self { count, blocks: RefCell::new(blocks), deeds: RefCell::default() }
    }

    fn answer<T>(&self, range: &Range<u64>, work: impl FnOnce() -> T) -> Awaited<T> {
        let (done, awaited) = begun();
        let is_within = range.start < range.end && range.end <= self.count;
        let wrong = || Err(Error::new(ErrorKind::InvalidInput, format!("{range:?} of {}", self.count)));
        done.say(if is_within { Result::Ok(work()) } else { wrong() });
        awaited
    }
}

/// Each block that a deed changes, by itself.
pub fn effects(deed: &Deed) -> Vec<(u64, Vec<u8>)> {
    match deed {
        Deed::Write(at, bytes) => (*at..).zip(bytes.chunks(BLOCK).map(<[u8]>::to_vec)).collect(),
        Deed::Flush => Vec::new(),
        Deed::Forget(range) => range.clone().map(|at| (at, vec![0; BLOCK])).collect(),
    }
}

impl Medium for &Disk {
    fn blocks(&self) -> u64 {
        self.count
    }

    fn read(&self, block: u64, bytes: usize) -> Awaited<Vec<u8>> {
        let range = block..block + (bytes / BLOCK) as u64;
        assert!(bytes.is_multiple_of(BLOCK) && bytes <= super::medium::PIECE);
        self.answer(&range, || {
            let blocks = self.blocks.borrow();
            let one = |at| blocks.get(&at).cloned().unwrap_or_else(|| vec![0; BLOCK]);
            range.clone().flat_map(one).collect()
        })
    }

    fn write(&self, block: u64, bytes: Vec<u8>) -> Awaited<()> {
        assert!(bytes.len().is_multiple_of(BLOCK) && bytes.len() <= super::medium::PIECE);
        let range = block..block + (bytes.len() / BLOCK) as u64;
        self.answer(&range, || {
            let deed = Deed::Write(block, bytes);
            self.blocks.borrow_mut().extend(effects(&deed));
            self.deeds.borrow_mut().push(deed);
        })
    }

    fn flush(&self) -> Awaited<()> {
        self.answer(&(0..1), || self.deeds.borrow_mut().push(Deed::Flush))
    }

    fn forget(&self, blocks: Range<u64>) -> Awaited<()> {
        self.answer(&blocks.clone(), || {
            let deed = Deed::Forget(blocks);
            self.blocks.borrow_mut().extend(effects(&deed));
            self.deeds.borrow_mut().push(deed);
        })
    }
}
