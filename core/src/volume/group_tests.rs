//! V41, F2, F4: the group's records of formats 1 and 2 never change; a block that is torn, rotten,
//! misdirected or of a newer format is told apart, and never obeyed.

use proptest::prelude::*;

use super::*;
use crate::volume::record::{Record, State, Uuid};
use crate::volume::testing::with_crc;

fn group() -> Group {
    let group = Group {
        policy: Policy::Through,
        at_risk_max: NonZeroU64::new(4 << 20),
        change: 9,
        ..Group::default()
    };
    group.without(NodeId(0x0203)).unwrap().without(NodeId(2)).unwrap()
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn format_1_never_changes() {
    let mut expected = [0; BLOCK_LEN];
    expected[..10].copy_from_slice(b"BHGROUP\x01\x01\x02");
    expected[16] = 9;
    expected[26] = 0x40;
    expected[32..36].copy_from_slice(&[2, 0, 3, 2]);
    let expected = with_crc(expected);
    assert_eq!(expected[BLOCK_LEN - 4..], [0x70, 0x77, 0xd7, 0x5e], "the checksum of format 1");
    assert!(group().encode() == expected, "the layout has changed");
    assert_eq!(Group::decode(&expected), Ok(Some(group())));
}

/// A group with another read cache than that of before has format 2, so that no Bulkhead of before takes it
/// for less.
#[test]
fn format_2_never_changes() {
    for (byte, cache) in [(1, Some(Algorithm::Lru)), (2, Some(Algorithm::Clock)), (3, None)] {
        let other = Group { cache, ..group() };
        let mut expected = group().encode();
        (expected[7], expected[10]) = (2, byte);
        let expected = with_crc(expected);
        assert!(other.encode() == expected, "the layout has changed");
        assert_eq!(Group::decode(&expected), Ok(Some(other)));
    }
    let lru = Group { cache: Some(Algorithm::Lru), ..group() };
    for (at, byte) in [(7, 1), (10, 0), (10, 4), (11, 1)] {
        let mut bad = lru.encode();
        bad[at] = byte;
        assert_eq!(Group::decode(&with_crc(bad)), Err(Fault::Damaged), "byte {at} is {byte}");
    }
}

#[test]
fn a_block_of_zeroes_says_what_is_so_by_itself() {
    assert_eq!(Group::decode(&[0; BLOCK_LEN]), Ok(None));
    assert_eq!((Group::default().policy, Group::default().cache), (Policy::Back, Some(Algorithm::Arc)));
}

#[test]
fn nodes_are_taken_out_and_taken_in() {
    let full = (1..=8).fold(Group::default(), |group, node| group.without(NodeId(node)).unwrap());
    assert_eq!(full.without(NodeId(8)), Some(full.clone()), "it is out already");
    assert_eq!(full.without(NodeId(9)), None, "no room");
    let back = full.with(NodeId(1)).with(NodeId(99));
    assert_eq!(back.removed().len(), 7);
    assert!(!back.removed().contains(&NodeId(1)));
}

/// F4: a volume's record is no group's, and the other way round.
#[test]
fn a_misdirected_record_is_not_obeyed() {
    let name = crate::volume::name::Name::new("vm1").unwrap();
    let (volume, uuid) = (crate::log::batch::Volume(1), Uuid([1; 16]));
    let (state, policy, is_cached) = (State::Present, None, true);
    let record = Record {
        volume,
        state,
        name,
        uuid,
        blocks: 1,
        change: 1,
        policy,
        is_cached,
        seal: None,
        guest: None,
    };
    assert_eq!(Group::decode(&record.encode()), Err(Fault::Damaged));
    assert_eq!(Record::decode(volume, &group().encode()), Err(Fault::Damaged));
}

#[test]
fn what_carries_a_good_checksum_and_no_sense_is_damaged() {
    let bytes = [
        (0, b'b'),
        (7, 0),
        // No policy; fewer nodes, more, too many; reserved; no change; nodes that do not rise; reserved.
        (8, 0),
        (8, 3),
        (9, 1),
        (9, 3),
        (9, 9),
        (10, 1),
        (15, 1),
        (16, 0),
        (33, 9),
        (36, 1),
        (48, 1),
        (4091, 1),
    ];
    for (at, byte) in bytes {
        let mut bad = group().encode();
        bad[at] = byte;
        assert_eq!(Group::decode(&with_crc(bad)), Err(Fault::Damaged), "byte {at} is {byte}");
    }
}

#[test]
fn a_newer_format_is_told_apart() {
    let mut bytes = group().encode();
    bytes[7] = 3;
    let fault = Fault::NewerFormat { found: 3, reads: 2 };
    assert_eq!(Group::decode(&with_crc(bytes)), Err(fault));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        is_through: bool,
        bound: u64,
        change in 1_u64..,
        nodes in prop::collection::vec(any::<u16>(), 0..=REMOVED_MAX),
        cache in 0..4_usize,
    ) {
        let policy = if is_through { Policy::Through } else { Policy::Back };
        let cache = [Some(Algorithm::Lru), Some(Algorithm::Clock), Some(Algorithm::Arc), None][cache];
        let start = Group { policy, at_risk_max: NonZeroU64::new(bound), cache, change, ..Group::default() };
        let group = nodes.iter().fold(start, |group, node| group.without(NodeId(*node)).unwrap());
        prop_assert_eq!(Group::decode(&group.encode()), Ok(Some(group)));
    }

    #[test]
    fn a_flipped_bit_is_damage(bit in 0..BLOCK_LEN * 8) {
        let mut bytes = group().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Group::decode(&bytes), Err(Fault::Damaged));
    }

    /// I11: no bytes panic, and what is believed has one form only, also behind a good checksum.
    #[test]
    fn any_bytes_are_a_record_or_a_fault(start in prop::collection::vec(any::<u8>(), 0..64), is_ours: bool) {
        let mut bytes = group().encode();
        let from = if is_ours { 8 } else { 0 };
        bytes[from..].iter_mut().zip(&start).for_each(|(byte, other)| *byte = *other);
        let bytes = with_crc(bytes);
        if let Ok(Some(found)) = Group::decode(&bytes) {
            prop_assert!(found.encode() == bytes);
        }
    }
}
