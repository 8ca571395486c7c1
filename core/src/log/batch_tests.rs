//! V39, V41: headers of format 1 never change, hold what they held, and nothing else is taken for one.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn data(first: u64, blocks: u32) -> Write {
    Write::new(Volume(7), BlockIndex(first), blocks, Kind::Data).unwrap()
}

fn sample() -> Header {
    let mut content = Content::default();
    assert!(content.push(data(0x0102, 2), [Sum(0xa1), Sum(0xa2)].into_iter()));
    let zeroes = Write::new(Volume(1), BlockIndex(9), u32::MAX, Kind::Zeroes).unwrap();
    assert!(content.push(zeroes, [].into_iter()));
    let (group, life, at) = (GroupId([2; 16]), Life(4), Position(5));
    let (epoch, first, durable, commit) = (Epoch(8), Seq(9), Seq(6), Seq(3));
    Header { group, life, chain: 0x0c, at, run: 7, epoch, first, durable, commit, content }
}

#[test]
fn format_1_never_changes() {
    let bytes = sample().encode();
    let mut expected = [0; BLOCK_LEN];
    expected[..8].copy_from_slice(b"BHBATC\0\x01");
    expected[8..24].fill(2);
    for (at, byte) in
        [(24, 4), (28, 12), (32, 5), (40, 7), (48, 8), (56, 9), (64, 6), (72, 3), (80, 2), (82, 2)]
    {
        expected[at] = byte;
    }
    expected[96..104].copy_from_slice(&[7, 0, 1, 0, 2, 0, 0, 0]);
    expected[104..106].copy_from_slice(&[2, 1]);
    expected[112..120].copy_from_slice(&[1, 0, 2, 0, 255, 255, 255, 255]);
    expected[120] = 9;
    expected[2144] = 0xa1;
    expected[2148] = 0xa2;
    let crc = crc32c(&expected[..CRC_AT]);
    expected[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    assert!(bytes == expected, "the layout has changed");
    assert_eq!(Header::parse(&bytes), Some((sample(), crc)));
}

#[test]
fn ends_are_where_the_next_batch_begins() {
    let header = sample();
    assert_eq!((header.last(), header.end(), header.content.blocks()), (Seq(10), Position(8), 3));
}

#[test]
fn writes_that_cannot_be_are_not_made() {
    let new = |first, blocks, kind| Write::new(Volume(0), BlockIndex(first), blocks, kind).is_some();
    assert!(!new(0, 0, Kind::Data) && !new(0, 449, Kind::Data) && new(0, 448, Kind::Data));
    assert!(new(0, u32::MAX, Kind::Trimmed) && !new(VOLUME_BLOCKS_MAX, 1, Kind::Zeroes));
    assert!(new(VOLUME_BLOCKS_MAX - 1, 1, Kind::Data) && !new(u64::MAX, 2, Kind::Zeroes));
}

#[test]
fn a_batch_is_full_of_writes_or_of_payload() {
    let mut content = Content::default();
    for _ in 0..WRITES_MAX {
        assert!(
            content.push(Write::new(Volume(0), BlockIndex(0), 1, Kind::Trimmed).unwrap(), [].into_iter())
        );
    }
    assert!(!content.has_room(0));
    let mut content = Content::default();
    assert!(!content.push(data(0, 2), [Sum(1)].into_iter()), "a checksum is missing");
    assert!(content.push(data(0, 447), (0..447).map(Sum).collect::<Vec<_>>().into_iter()));
    assert!(content.has_room(1) && !content.has_room(2));
}

#[test]
fn what_carries_a_good_checksum_and_no_sense_is_no_header() {
    let bad = |change: &dyn Fn(&mut Block)| {
        let mut bytes = sample().encode();
        change(&mut bytes);
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        Header::parse(&bytes).is_none()
    };
    // Version, no write, more writes, another number of blocks, first write 0, durable ahead, kind, reserved
    // bytes, a write without blocks, a checksum behind the last block.
    let places = [
        (7, 2),
        (80, 0),
        (80, 3),
        (80, 129),
        (82, 1),
        (56, 0),
        (64, 9),
        (98, 4),
        (99, 1),
        (84, 1),
        (2152, 1),
    ];
    for (at, byte) in places {
        assert!(bad(&|bytes| bytes[at] = byte), "byte {at} is {byte}");
    }
    assert!(bad(&|bytes| bytes[100..104].fill(0)));
    assert!(!bad(&|bytes| bytes[32] = 77), "the checksum is made as the format says");
}

proptest! {
    #[test]
    fn a_flipped_bit_is_no_header(bit in 0..BLOCK_LEN * 8) {
        let mut bytes = sample().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Header::parse(&bytes), None);
    }

    #[test]
    fn any_content_comes_back(writes in prop::collection::vec((0..3_u8, 1..12_u32, 0_u64..1 << 40), 1..60)) {
        let mut header = sample();
        header.content = Content::default();
        for (kind, blocks, first) in writes {
            let kind = [Kind::Data, Kind::Zeroes, Kind::Trimmed][usize::from(kind)];
            let write = Write::new(Volume(3), BlockIndex(first), blocks, kind).unwrap();
            let sums: Vec<_> = (0..).take(write.payload()).map(|n: u32| Sum(n ^ blocks)).collect();
            let fits = header.content.has_room(sums.len());
            prop_assert_eq!(header.content.push(write, sums.into_iter()), fits);
        }
        let parsed = Header::parse(&header.encode()).map(|(header, _)| header);
        prop_assert_eq!(parsed, Some(header));
    }
}
