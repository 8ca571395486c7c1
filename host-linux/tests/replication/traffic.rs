//! Frames of all kinds and sizes, each known by its life and number: whoever has one can say whether it
//! came as it was sent.

use super::site::SOON;
use bulkhead::replication::words::{Blocks, Digest, Frame, REGION};
use bulkhead::storage::buffers::{Piece, Pool};
use bulkhead::storage::space::crc32c;
use bulkhead_core::holder::words::Word;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::batch::{BlockIndex, Kind, PAYLOAD_MAX, Sum, Volume, Write};
use bulkhead_core::log::{BLOCK_LEN, Life, Seq};
use bulkhead_core::mirror::history::History;
use std::time::{Duration, Instant};

/// The next value of a xorshift sequence.
pub fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn random(life: u64, number: u64) -> u64 {
    let mut state = (life << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..4 {
        next(&mut state);
    }
    state
}

/// The content of blocks: patient while the pool is empty.
fn payload(pool: &Pool, blocks: usize, seed: u64) -> Piece {
    let begun = Instant::now();
    let mut buffer = loop {
        assert!(begun.elapsed() < SOON, "memory in time");
        if let Some(buffer) = pool.take(blocks) {
            break buffer;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    buffer.bytes_mut().fill(seed as u8);
    for (block, number) in buffer.bytes_mut().chunks_exact_mut(BLOCK_LEN).zip(1_u64..) {
        for at in [0, 2048, 4088] {
            block[at..at + 8].copy_from_slice(&(seed ^ number << 32).to_le_bytes());
        }
    }
    buffer.keep().piece()
}

/// Frame `number` of the life `life`: its first field is the life, so that it says where it comes from.
pub fn frame(pool: &Pool, life: u64, number: u64, largest: u32) -> Frame {
    let random = random(life, number);
    let (epoch, seq) = (Epoch(life), Seq(number));
    let word = |word| Frame::Word(Box::new(word));
    let blocks = match random >> 8 & 63 {
        0 => largest,
        1..=4 => u32::try_from(1 + (random >> 16) % u64::from(largest)).unwrap(),
        more => 1 + u32::try_from(more).unwrap() % 2,
    };
    let first = BlockIndex(random >> 20);
    let write = |kind| Write::new(Volume((random >> 3) as u16), first, blocks, kind).unwrap();
    let data = || {
        let payload = payload(pool, usize::try_from(blocks).unwrap(), random);
        let sums = payload.bytes().chunks(BLOCK_LEN).map(|block| Sum(crc32c(block))).collect();
        (sums, Some(payload))
    };
    let made = Epoch(random >> 7);
    match random & 15 {
        0 => {
            let mut history = History::new(Seq(1 + (random >> 40)));
            (1..=random >> 10 & 31).for_each(|epoch| history.append(Epoch(epoch * 1000), 1 + epoch));
            word(Word::Offer { epoch, history, oldest: seq })
        }
        1 => word(Word::Ready { epoch, life: Life(random as u32), next: seq }),
        2 => word(Word::Behind { epoch, applied: seq }),
        3..=5 => word(Word::Have { epoch, durable: seq }),
        6 | 7 => word(Word::Commit { epoch, seq, applied: Seq(random >> 5) }),
        8 | 9 => {
            let write = write(if random & 16 == 0 { Kind::Zeroes } else { Kind::Trimmed });
            Frame::Write { epoch, made, seq, write, sums: Vec::new(), payload: None }
        }
        10..=13 => {
            let (sums, payload) = data();
            Frame::Write { epoch, made, seq, write: write(Kind::Data), sums, payload }
        }
        14 => {
            let (sums, payload) = data();
            let write = write(Kind::Data);
            match random & 1 {
                0 => Frame::Fill { epoch, write, sums, payload },
                _ => Frame::Mend { epoch, write, sums, payload },
            }
        }
        _ => compares(random, epoch, seq),
    }
}

/// A frame of a store that is compared with another, or mended.
fn compares(random: u64, epoch: Epoch, upto: Seq) -> Frame {
    let (volume, first) = (Volume((random >> 3) as u16), BlockIndex(random >> 20));
    let count = 1 + (random >> 16) as u32 % REGION;
    let digest =
        |number: u32| Digest((random ^ u64::from(number)).to_le_bytes().repeat(2).try_into().unwrap());
    match random >> 4 & 7 {
        0 => Frame::Filled { epoch, upto },
        1 => {
            let blocks = Blocks { volume, first, count: count * REGION };
            Frame::Compare { epoch, blocks, digests: (0..count).map(digest).collect() }
        }
        2 => {
            let blocks = Blocks { volume, first, count };
            Frame::Differs { epoch, blocks, digests: (0..count).map(digest).collect() }
        }
        3 => Frame::Wants { epoch, upto, blocks: Blocks { volume, first, count } },
        4 => Frame::Lacks { epoch, blocks: Blocks { volume, first, count } },
        5 => Frame::Member { epoch, is_in: count.is_multiple_of(2) },
        _ => Frame::Compared { epoch, blocks: Blocks { volume, first, count } },
    }
}

/// All that a frame says, in a form that can be compared.
fn told(frame: &Frame) -> (String, Vec<u8>) {
    let mut frame = frame.clone();
    let mut bytes = Vec::new();
    if let Frame::Write { payload, .. } | Frame::Fill { payload, .. } | Frame::Mend { payload, .. } =
        &mut frame
    {
        bytes = payload.take().map(|payload| payload.bytes().to_vec()).unwrap_or_default();
    }
    (format!("{frame:?}"), bytes)
}

thread_local! {
    static SCRATCH: Pool = Pool::new(LARGEST as usize * BLOCK_LEN).unwrap();
}

/// The frame is that one, in every bit.
pub fn check(came: &Frame, life: u64, number: u64, largest: u32) {
    // A pool of its own: that of the receiver may be full of frames that are to be checked.
    let sent = SCRATCH.with(|pool| told(&frame(pool, life, number, largest)));
    let came = told(came);
    assert_eq!(came.0, sent.0, "frame {number} of {life}");
    assert!(came.1 == sent.1, "the payload of frame {number} of {life} is another one");
}

/// The life in which a frame was sent.
pub fn life(frame: &Frame) -> u64 {
    match frame {
        Frame::Write { epoch, .. } | Frame::Fill { epoch, .. } | Frame::Filled { epoch, .. } => epoch.0,
        Frame::Compare { epoch, .. } | Frame::Differs { epoch, .. } | Frame::Compared { epoch, .. } => {
            epoch.0
        }
        Frame::Wants { epoch, .. } | Frame::Mend { epoch, .. } | Frame::Lacks { epoch, .. } => epoch.0,
        Frame::Member { epoch, .. } => epoch.0,
        Frame::Word(word) => match **word {
            Word::Offer { epoch, .. }
            | Word::Ready { epoch, .. }
            | Word::Behind { epoch, .. }
            | Word::Have { epoch, .. }
            | Word::Commit { epoch, .. } => epoch.0,
            Word::Outranked { promised } => promised.0,
        },
    }
}

/// The largest payload that a frame can have.
pub const LARGEST: u32 = PAYLOAD_MAX as u32;
