//! The log's disk of a holder: what is durable on it, and what a start finds there.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::OnceLock;

use bulkhead_core::crc::crc32c;
use bulkhead_core::holder::recovery::{Action, Recovered, Recovery};
use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
use bulkhead_core::log::batch::{BlockIndex, Header, Kind, Sum, Volume, Write};
use bulkhead_core::log::ring::{BLOCKS_MIN, Position, Ring};
use bulkhead_core::log::scan::{self, Outcome, Payload};
use bulkhead_core::log::superblock::{self, Identity, Superblock};
use bulkhead_core::log::{BLOCK_LEN, Block, Life, Seq};

use crate::shared::Shared;

/// A write: under which epoch it was made, which of the guest's writes it is, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) made: Epoch,
    pub(super) value: u8,
    pub(super) blocks: u32,
}

impl Entry {
    pub(super) fn write(&self) -> Write {
        Write::new(Volume(1), BlockIndex(0), self.blocks, Kind::Data).expect("a short write")
    }

    /// The checksum of each of its blocks, which are all alike.
    pub(super) fn sums(&self) -> Vec<Sum> {
        vec![sum(self.value); usize::try_from(self.blocks).expect("few")]
    }
}

fn sum(value: u8) -> Sum {
    static SUMS: OnceLock<Vec<Sum>> = OnceLock::new();
    let of = |value| Sum(crc32c(&[value; BLOCK_LEN]));
    SUMS.get_or_init(|| (0..=u8::MAX).map(of).collect())[usize::from(value)]
}

pub(super) fn share(block: Block) -> Shared<Block> {
    Shared::new(block, |block, hasher| block.hash(hasher))
}

/// Blocks that were written at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Piece {
    pub(super) at: Position,
    pub(super) blocks: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Header(Shared<Block>),
    /// Payload: each block says this.
    Data(u8),
}

/// What is durable, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    copies: [Option<Shared<Block>>; 2],
    pieces: Vec<Piece>,
}

/// What a start finds.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) superblock: Superblock,
    pub(super) writes: BTreeMap<Seq, Entry>,
    /// Every write up to this one is durable.
    pub(super) safe: Seq,
}

impl Disk {
    /// A log that holds nothing.
    pub(super) fn new(node: NodeId) -> Self {
        let (site, group) = (SiteId([1; 16]), GroupId([2; 16]));
        let identity = Identity { site, group, node, life: Life(u32::from(node.0)) };
        let ring = Ring::new(BLOCKS_MIN).expect("the smallest ring");
        let superblock = Superblock::new(identity, ring, Seq(1));
        let mut disk = Self { copies: [None, None], pieces: vec![] };
        disk.keep(superblock::copy_of(superblock.seq), share(superblock.encode()));
        disk
    }

    pub(super) fn keep(&mut self, copy: u64, block: Shared<Block>) {
        self.copies[usize::from(copy != 0)] = Some(block);
    }

    pub(super) fn append(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// The newest batch was not durable, although it was flushed.
    pub(super) fn forget_batch(&mut self) {
        let is_header = |piece: &Piece| matches!(piece.what, What::Header(_));
        if let Some(newest) = self.pieces.iter().rposition(is_header) {
            self.pieces.truncate(newest);
        }
    }

    /// Nor was the newest superblock.
    pub(super) fn forget_superblock(&mut self) {
        let newest = superblock::copy_of(self.superblock().seq);
        if self.copies.iter().all(Option::is_some) {
            self.copies[usize::from(newest != 0)] = None;
        }
    }

    fn superblock(&self) -> Superblock {
        let blank = || Err(superblock::Fault::Blank);
        let parse = |copy: &Option<Shared<Block>>| {
            copy.as_ref().map_or_else(blank, |copy| Superblock::parse(copy.get()))
        };
        superblock::newest([parse(&self.copies[0]), parse(&self.copies[1])])
            .expect("one copy is always whole")
    }

    /// What the newest piece at this position says.
    fn at(&self, ring: Ring, at: Position) -> Option<&What> {
        let place = |at: Position| at.0 % ring.blocks();
        let covers = |piece: &&Piece| {
            let from = (place(at) + ring.blocks() - place(piece.at)) % ring.blocks();
            from < piece.blocks
        };
        self.pieces.iter().rev().find(covers).map(|piece| &piece.what)
    }

    fn read(&self, ring: Ring, at: Position) -> Block {
        match self.at(ring, at) {
            None => [0; BLOCK_LEN],
            Some(What::Header(block)) => *block.get(),
            Some(What::Data(value)) => [*value; BLOCK_LEN],
        }
    }

    /// Whether the payload behind a header is what its checksums say.
    fn check(&self, ring: Ring, header: &Header) -> Payload {
        let is = |at, expected: &Sum| match self.at(ring, at) {
            Some(What::Data(value)) => sum(*value) == *expected,
            Some(What::Header(_)) | None => false,
        };
        let mut sums = (1..).zip(header.content.sums());
        match sums.all(|(n, expected)| is(header.at.after(n), expected)) {
            true => Payload::Whole,
            false => Payload::Broken,
        }
    }

    /// Reads the log, as the shell does.
    pub(super) fn recover(&self) -> Found {
        let superblock = self.superblock();
        let ring = superblock.ring;
        let mut recovery = Recovery::new(superblock.clone());
        let (mut writes, mut recovered) = (BTreeMap::new(), None);
        let mut event = scan::Event::Begin;
        let mut held: Block;
        loop {
            let (mut read, mut check) = (None, None);
            recovery.step(event, &mut |action| match action {
                Action::Scan(scan::Action::Read(at)) => read = Some(at),
                Action::Scan(scan::Action::Check(header)) => check = Some(header.clone()),
                Action::Scan(scan::Action::Found(header)) => {
                    self.found(&superblock, header, &mut writes);
                }
                Action::Scan(scan::Action::Ended(_)) => {}
                Action::Ended(one) => recovered = Some(one),
            });
            match (read, check) {
                (Some(at), _) => {
                    held = self.read(ring, at);
                    event = scan::Event::Block(Some(&held));
                }
                (None, Some(header)) => event = scan::Event::Payload(self.check(ring, &header)),
                (None, None) => break,
            }
        }
        let recovered = recovered.expect("a scan ends");
        let (Outcome::Whole(end) | Outcome::Damaged(end)) = recovered.outcome();
        Found { recovered, superblock, writes, safe: end.next.before() }
    }

    /// Reads the writes of a batch that count.
    fn found(&self, superblock: &Superblock, header: &Header, writes: &mut BTreeMap<Seq, Entry>) {
        let void = superblock.void_from(header.at);
        let mut at = header.at.after(1);
        for (seq, write) in (header.first.0..).map(Seq).zip(header.content.writes()) {
            if let Some(What::Data(value)) = self.at(superblock.ring, at)
                && void.is_none_or(|from| seq < from)
            {
                writes.insert(seq, Entry { made: header.epoch, value: *value, blocks: write.blocks() });
            }
            at = at.after(write.blocks().into());
        }
    }
}
