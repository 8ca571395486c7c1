//! The bytes of frames, pinned; and hostile bytes (F36, I11).

use super::frame::{HEAD_LEN, Head, Kind, META_MAX, Said, WORD_MAX, fits, meta, read};
use super::part::{BARE_LEN, begun, is_begun, open, seal};
use super::seal::{Direction, Sealer};
use super::words::{Blocks, Digest, Frame};
use crate::site_config::key::SiteKey;
use crate::storage::buffers::{Piece, Pool};
use crate::storage::space::crc32c;
use bulkhead_core::holder::words::Word;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::batch::{BlockIndex, Kind as Content, PAYLOAD_MAX, Sum, Volume, Write};
use bulkhead_core::log::{BLOCK_LEN, Life, Seq};
use bulkhead_core::mirror::history::{EPOCHS_MAX, History};
use proptest::prelude::*;

fn history() -> History {
    let mut history = History::new(Seq(1));
    history.append(Epoch(2), 3);
    history.append(Epoch(0x99), 0x100);
    history
}

fn write(blocks: u32, kind: Content) -> Write {
    Write::new(Volume(0x0201), BlockIndex(0x0807_0605), blocks, kind).unwrap()
}

fn payload(blocks: usize) -> Piece {
    let mut buffer = Pool::new(blocks * BLOCK_LEN).unwrap().take(blocks).unwrap();
    buffer.bytes_mut().fill(0x5a);
    buffer.keep().piece()
}

fn blocks(count: u32) -> Blocks {
    Blocks { volume: Volume(0x0201), first: BlockIndex(0x0807_0605), count }
}

/// An epoch, and a first block.
const FIVE: &[u8] = b"\x05\0\0\0\0\0\0\0";
const FIRST: &[u8] = b"\x05\x06\x07\x08\0\0\0\0";

/// Those that compare stores, as [`golden`].
fn comparing() -> Vec<(Frame, Vec<u8>)> {
    let epoch = Epoch(5);
    vec![
        (
            Frame::Compare {
                epoch,
                blocks: blocks(33),
                digests: vec![Digest([0xd1; 16]), Digest([0xd2; 16])],
            },
            [&b"\x07\0\x38\0\0\0\0\0"[..], FIVE, b"\x01\x02\0\0\x21\0\0\0", FIRST, &[0xd1; 16], &[0xd2; 16]]
                .concat(),
        ),
        (
            Frame::Differs { epoch, blocks: blocks(1), digests: vec![Digest([0xd3; 16])] },
            [&b"\x08\0\x28\0\0\0\0\0"[..], FIVE, b"\x01\x02\0\0\x01\0\0\0", FIRST, &[0xd3; 16]].concat(),
        ),
        (
            Frame::Compared { epoch, blocks: blocks(0x0102_0304) },
            [&b"\x09\0\x18\0\0\0\0\0"[..], FIVE, b"\x01\x02\0\0\x04\x03\x02\x01", FIRST].concat(),
        ),
    ]
}

/// Those that feed and fill, as [`golden`].
fn feeding() -> Vec<(Frame, Vec<u8>)> {
    let epoch = Epoch(5);
    let word = |word, bytes: &[u8]| {
        let head = [3, 0, u8::try_from(bytes.len()).unwrap(), 0, 0, 0, 0, 0];
        (Frame::Word(Box::new(word)), [&head, bytes].concat())
    };
    let sums = vec![Sum(0x0403_0201), Sum(0x0807_0605)];
    let data = Frame::Write {
        epoch,
        made: Epoch(4),
        seq: Seq(0x0102),
        write: write(2, Content::Data),
        sums: sums.clone(),
        payload: Some(payload(2)),
    };
    let trim = Frame::Write {
        epoch,
        made: Epoch(4),
        seq: Seq(3),
        write: write(0x0102_0304, Content::Trimmed),
        sums: Vec::new(),
        payload: None,
    };
    let fill = Frame::Fill { epoch, write: write(2, Content::Data), sums, payload: Some(payload(2)) };
    let zeroes = Frame::Fill { epoch, write: write(7, Content::Zeroes), sums: Vec::new(), payload: None };
    vec![
        word(
            Word::Offer { epoch, history: history(), oldest: Seq(1) },
            &[0, 5, 2, 2, 1, 0x99, 1, 4, 0x84, 2, 1],
        ),
        word(Word::Ready { epoch, life: Life(0x80), next: Seq(9) }, &[1, 5, 0x80, 1, 9]),
        word(Word::Behind { epoch, applied: Seq(8) }, &[2, 5, 8]),
        word(Word::Have { epoch, durable: Seq(8) }, &[3, 5, 8]),
        word(Word::Commit { epoch, seq: Seq(8), applied: Seq(7) }, &[4, 5, 8, 7]),
        word(Word::Outranked { promised: Epoch(6) }, &[5, 6]),
        (
            data,
            b"\x04\0\x30\0\x02\0\0\0\
              \x05\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\
              \x01\x02\x01\0\x02\0\0\0\x05\x06\x07\x08\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08"
                .to_vec(),
        ),
        (
            trim,
            b"\x04\0\x28\0\0\0\0\0\
              \x05\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
              \x01\x02\x03\0\x04\x03\x02\x01\x05\x06\x07\x08\0\0\0\0"
                .to_vec(),
        ),
        (
            fill,
            b"\x05\0\x20\0\x02\0\0\0\
              \x05\0\0\0\0\0\0\0\
              \x01\x02\x01\0\x02\0\0\0\x05\x06\x07\x08\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08"
                .to_vec(),
        ),
        (
            zeroes,
            b"\x05\0\x18\0\0\0\0\0\
              \x05\0\0\0\0\0\0\0\
              \x01\x02\x02\0\x07\0\0\0\x05\x06\x07\x08\0\0\0\0"
                .to_vec(),
        ),
        (
            Frame::Filled { epoch, upto: Seq(6) },
            b"\x06\0\x10\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0".to_vec(),
        ),
    ]
}

/// Those that mend, as [`golden`].
fn mending() -> Vec<(Frame, Vec<u8>)> {
    let epoch = Epoch(5);
    let sums = vec![Sum(0x0403_0201)];
    vec![
        (
            Frame::Wants { epoch, upto: Seq(6), blocks: blocks(1) },
            [&b"\x0a\0\x20\0\0\0\0\0"[..], FIVE, b"\x01\x02\0\0\x01\0\0\0", FIRST, b"\x06\0\0\0\0\0\0\0"]
                .concat(),
        ),
        (
            Frame::Mend { epoch, write: write(1, Content::Data), sums, payload: Some(payload(1)) },
            [&b"\x0b\0\x1c\0\x01\0\0\0"[..], FIVE, b"\x01\x02\x01\0\x01\0\0\0", FIRST, b"\x01\x02\x03\x04"]
                .concat(),
        ),
        (
            Frame::Lacks { epoch, blocks: blocks(1) },
            [&b"\x0c\0\x18\0\0\0\0\0"[..], FIVE, b"\x01\x02\0\0\x01\0\0\0", FIRST].concat(),
        ),
        (
            Frame::Member { epoch, is_in: true },
            [&b"\x0d\0\x10\0\0\0\0\0"[..], FIVE, b"\x01\0\0\0\0\0\0\0"].concat(),
        ),
    ]
}

/// One of each, with the bytes of head and meta that are in the field.
fn golden() -> Vec<(Frame, Vec<u8>)> {
    [feeding(), comparing(), mending()].concat()
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let (head, meta) = meta(frame).unwrap();
    [&head.encode()[..], &meta].concat()
}

/// What these bytes say, said again; `None` when they say nothing.
fn again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
    let head = Head::parse(head)?;
    let said = read(&head, rest)?;
    let Said::Frame(frame) = said else { return Some([head.encode().to_vec(), rest.to_vec()].concat()) };
    let filled = if head.blocks == 0 { frame } else { frame.with(payload(head.blocks)) };
    Some(self::bytes(&filled))
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn format_1_never_changes() {
    for (frame, expected) in golden() {
        assert_eq!(bytes(&frame), expected, "{frame:?}");
        assert_eq!(again(&expected), Some(expected), "{frame:?}");
    }
}

fn sealer() -> Sealer {
    Sealer::new(&SiteKey([7; 32]), &[1; 64], &[2; 64], Direction::Out)
}

/// A whole frame as it is on the wire. In the field: add a version, do not edit the bytes.
#[test]
fn a_sealed_frame_never_changes() {
    let (head, meta) = meta(&Frame::Word(Box::new(Word::Outranked { promised: Epoch(6) }))).unwrap();
    let sealed = seal(&mut sealer(), &head, &meta, None);
    assert_eq!(sealed.front(), SEALED);
    assert_eq!(begun(&mut sealer()).front()[..HEAD_LEN], [1, 0, 0, 0, 0, 0, 0, 0]);
}

const SEALED: &[u8] = b"\x03\0\x02\0\0\0\0\0\x5f\xad\x0c\x0c\xbd\x72\x67\xaf\x05\x06\
    \x34\x29\x8f\x73\xac\xf2\xf1\xc2\x89\xde\xde\x7f\xc8\xdb\x2f\xd5";

#[test]
fn a_frame_is_opened_by_its_receiver_alone() {
    let sealed = begun(&mut sealer());
    assert_eq!(sealed.bytes(), BARE_LEN);
    assert!(is_begun(&mut sealer(), sealed.front()));
    let mut back = Sealer::new(&SiteKey([7; 32]), &[1; 64], &[2; 64], Direction::Back);
    assert!(!is_begun(&mut back, sealed.front()));
    let front = sealed.front().first_chunk().unwrap();
    assert_eq!(open(&sealer(), front), Some(Head::bare(Kind::Begun).encode()));
    for byte in 0..front.len() {
        let mut wrong = *front;
        wrong[byte] ^= 1;
        assert_eq!(open(&sealer(), &wrong), None, "byte {byte}");
    }
}

/// V5: a block that does not have its sum is found, wherever it is.
#[test]
fn sums_are_of_each_block() {
    let content = payload(3);
    let sum = Sum(crc32c(&[0x5a; BLOCK_LEN]));
    assert!(fits(content.bytes(), &[sum; 3]));
    assert!(!fits(content.bytes(), &[sum; 2]) && !fits(content.bytes(), &[sum; 4]));
    for at in 0..3 {
        let mut sums = [sum; 3];
        sums[at] = Sum(sum.0 ^ 1);
        assert!(!fits(content.bytes(), &sums), "block {at}");
    }
}

#[test]
fn the_longest_word_and_the_largest_write_fit() {
    let mut history = History::new(Seq(u64::MAX - 100));
    for epoch in 0..u64::try_from(EPOCHS_MAX).unwrap() {
        history.append(Epoch(u64::MAX - 100 + epoch), 1);
    }
    let word = Word::Offer { epoch: Epoch(u64::MAX), history, oldest: Seq(u64::MAX) };
    let (head, _) = meta(&Frame::Word(Box::new(word))).unwrap();
    assert!((600..=WORD_MAX).contains(&head.meta), "{}", head.meta);
    let blocks = u32::try_from(PAYLOAD_MAX).unwrap();
    let largest = Frame::Write {
        epoch: Epoch(1),
        made: Epoch(1),
        seq: Seq(1),
        write: write(blocks, Content::Data),
        sums: vec![Sum(0); PAYLOAD_MAX],
        payload: Some(payload(PAYLOAD_MAX)),
    };
    let (head, meta) = meta(&largest).unwrap();
    assert_eq!((head.blocks, head.meta), (PAYLOAD_MAX, META_MAX));
    assert!(read(&head, &meta).is_some());
}

/// A frame that contradicts itself is never sent: the stream ends, and says whose fault it was.
#[test]
fn what_does_not_fit_is_not_made() {
    let fill = |sums, payload| Frame::Fill { epoch: Epoch(1), write: write(2, Content::Data), sums, payload };
    let two = vec![Sum(0); 2];
    assert!(meta(&fill(two.clone(), Some(payload(2)))).is_some());
    assert!(meta(&fill(two.clone(), Some(payload(3)))).is_none());
    assert!(meta(&fill(two, None)).is_none());
    assert!(meta(&fill(vec![Sum(0)], Some(payload(2)))).is_none());
    let compare = |count, digests| {
        let digests = vec![Digest::default(); digests];
        Frame::Compare { epoch: Epoch(1), blocks: blocks(count), digests }
    };
    assert!(meta(&compare(64 * 32, 64)).is_some() && meta(&compare(1, 1)).is_some());
    assert!(meta(&compare(64 * 32 + 1, 65)).is_none() && meta(&compare(33, 1)).is_none());
    let differs = |count, digests| {
        let digests = vec![Digest::default(); digests];
        Frame::Differs { epoch: Epoch(1), blocks: blocks(count), digests }
    };
    assert!(meta(&differs(32, 32)).is_some());
    assert!(meta(&differs(33, 33)).is_none() && meta(&differs(32, 31)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// I11: no bytes panic; what is read is written as the same bytes, so that no frame has two spellings.
    #[test]
    fn hostile_bytes_say_nothing_or_one_thing(
        kind in 0_u8..11, meta in 0_u16..80, blocks in 0_u16..3,
        rest in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let [meta, blocks] = [meta, blocks].map(u16::to_le_bytes);
        let bytes = [&[kind, 0][..], &meta, &blocks, &[0, 0], &rest].concat();
        if let Some(same) = again(&bytes) {
            prop_assert_eq!(same, bytes);
        }
    }

    #[test]
    fn changed_frames_say_nothing_or_one_thing(
        which in 0_usize..14, at in 0_usize..80, byte in any::<u8>(), cut in 0_usize..80, more in 0_usize..3,
    ) {
        let mut bytes = golden().swap_remove(which).1;
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut.max(8));
        bytes.extend(std::iter::repeat_n(0, more));
        if let Some(same) = again(&bytes) {
            prop_assert_eq!(same, bytes);
        }
    }
}
