//! V41, F2, F4: records of format 1 never change; a block that is torn, rotten, misdirected or of a newer
//! format is told apart, and never taken for a volume.

use core::num::{NonZeroU8, NonZeroU32};

use proptest::prelude::*;

use super::*;
use crate::id::Side;
use crate::volume::guest::{Failover, Group, Needs};
use crate::volume::testing::with_crc;

fn record() -> Record {
    Record {
        volume: Volume(0x0102),
        state: State::Present,
        name: Name::new("vm-1").unwrap(),
        uuid: Uuid([7; 16]),
        blocks: 0x28_0000,
        change: 9,
        policy: None,
        is_cached: true,
        seal: None,
        guest: None,
    }
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn format_1_never_changes() {
    let mut expected = [0; BLOCK_LEN];
    expected[..8].copy_from_slice(b"BHVOLU\0\x01");
    expected[8..12].copy_from_slice(&[0x02, 0x01, 1, 4]);
    expected[16..32].fill(7);
    expected[34] = 0x28;
    expected[40] = 9;
    expected[48..52].copy_from_slice(b"vm-1");
    let expected = with_crc(expected);
    assert_eq!(expected[BLOCK_LEN - 4..], [0xa8, 0xbd, 0xf6, 0x3e], "the checksum of format 1");
    assert!(record().encode() == expected, "the layout has changed");
    assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(record())));
    assert_eq!(std::format!("{}", Uuid([7; 16])), "07070707-0707-0707-0707-070707070707");
}

/// A volume with a policy of its own has format 2, so that no Bulkhead of before takes it for less.
#[test]
fn format_2_never_changes() {
    let through = Record { policy: Some(Policy::Through), ..record() };
    let mut expected = record().encode();
    (expected[7], expected[12]) = (2, 1);
    let expected = with_crc(expected);
    assert!(through.encode() == expected, "the layout has changed");
    assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(through.clone())));
    for (at, byte) in [(7, 1), (12, 0), (12, 3), (13, 1)] {
        let mut bad = through.encode();
        bad[at] = byte;
        assert_eq!(
            Record::decode(Volume(0x0102), &with_crc(bad)),
            Err(Fault::Damaged),
            "byte {at} is {byte}"
        );
    }
}

/// A volume without the read cache has format 3, with a policy of its own or without one.
#[test]
fn format_3_never_changes() {
    for (byte, policy) in [(0, None), (1, Some(Policy::Through)), (2, Some(Policy::Back))] {
        let past = Record { is_cached: false, policy, ..record() };
        let mut expected = record().encode();
        (expected[7], expected[12], expected[13]) = (3, byte, 1);
        let expected = with_crc(expected);
        assert!(past.encode() == expected, "the layout has changed");
        assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(past.clone())));
        for (at, byte) in [(7, 1), (7, 2), (13, 0), (13, 2), (14, 1)] {
            let mut bad = past.encode();
            bad[at] = byte;
            assert_eq!(
                Record::decode(Volume(0x0102), &with_crc(bad)),
                Err(Fault::Damaged),
                "byte {at} is {byte}"
            );
        }
    }
}

/// S3-06: a volume with a seal has format 4, whatever else it has.
#[test]
fn format_4_never_changes() {
    let seal = Seal::new([0xa5; 16]);
    for (byte, policy, past, is_cached) in
        [(0, None, 0, true), (1, Some(Policy::Through), 0, true), (2, Some(Policy::Back), 1, false)]
    {
        let sealed = Record { seal, policy, is_cached, ..record() };
        let mut expected = record().encode();
        (expected[7], expected[12], expected[13]) = (4, byte, past);
        expected[112..128].fill(0xa5);
        let expected = with_crc(expected);
        assert!(sealed.encode() == expected, "the layout has changed");
        assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(sealed.clone())));
        for at in [7, 131] {
            for byte in [1, 2, 3] {
                let mut bad = sealed.encode();
                bad[at] = byte;
                assert_eq!(Record::decode(Volume(0x0102), &with_crc(bad)), Err(Fault::Damaged), "byte {at}");
            }
        }
    }
    let mut bad = record().encode();
    bad[7] = 4;
    assert_eq!(Record::decode(Volume(0x0102), &with_crc(bad)), Err(Fault::Damaged), "a seal of zeroes");
    assert_eq!(Seal::new([0; 16]), None);
}

/// S3-19: so has the own volume of a guest, with a seal or without one.
#[test]
fn format_4_of_a_guest_never_changes() {
    let cases = [
        (false, Failover::Stay, 0, [1, 0, 0]),
        (false, Failover::Restart, 100, [1, 1, 100]),
        (true, Failover::Resume, 255, [2, 2, 255]),
    ];
    for (is_wanted, failover, priority, bytes) in cases {
        let of = Record {
            guest: Some(Guest { is_wanted, failover, priority, home: None, apart: None, needs: None }),
            ..record()
        };
        let mut expected = record().encode();
        expected[7] = 4;
        expected[128..131].copy_from_slice(&bytes);
        let expected = with_crc(expected);
        assert!(of.encode() == expected, "the layout has changed");
        assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(of.clone())));
        for (at, byte) in [(7, 3), (128, 0), (128, 3), (129, 3), (131, 3), (148, 1)] {
            let mut bad = expected;
            bad[at] = byte;
            assert_eq!(Record::decode(Volume(0x0102), &with_crc(bad)), Err(Fault::Damaged), "byte {at}");
        }
    }
}

/// S0-12, S0-19: so has one that has a home, or is in a group.
#[test]
fn format_5_of_a_guest_with_a_place_never_changes() {
    let group = |name| Group::new(name);
    let cases: [(_, _, u8, &[u8]); 3] = [
        (Some(Side::A), None, 1, b""),
        (None, group("dcs-1"), 0, b"dcs-1"),
        (Some(Side::B), group("sixteen-letters."), 2, b"sixteen-letters."),
    ];
    for (home, apart, byte, name) in cases {
        let guest =
            Guest { is_wanted: true, failover: Failover::Restart, priority: 7, home, apart, needs: None };
        let of = Record { guest: Some(guest), ..record() };
        let mut expected = record().encode();
        expected[7] = 5;
        expected[128..132].copy_from_slice(&[2, 1, 7, byte]);
        expected[132..132 + name.len()].copy_from_slice(name);
        let expected = with_crc(expected);
        assert!(of.encode() == expected, "the layout has changed");
        assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(of.clone())));
        for (at, byte) in
            [(7, 4), (128, 0), (131, 3), (132, b'-'), (133, b' '), (147, b'/'), (148, 1), (152, 1)]
        {
            let mut bad = expected;
            bad[at] = byte;
            assert_eq!(Record::decode(Volume(0x0102), &with_crc(bad)), Err(Fault::Damaged), "byte {at}");
        }
    }
}

#[test]
fn a_seal_is_32_digits() {
    let seal = Seal::new(core::array::from_fn(|at| u8::try_from(at * 17).unwrap()));
    let text = "00112233445566778899aabbccddeeff";
    assert_eq!(std::format!("{}", seal.unwrap()), text);
    assert_eq!(Seal::parse(text), seal);
    let zeroes = "0".repeat(32);
    for wrong in ["", "0", &text[1..], &text.replace("11", "+1"), &text.replace("ff", "f\u{e9}"), &zeroes] {
        assert_eq!(Seal::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_block_of_zeroes_is_a_number_that_was_never_used() {
    assert_eq!(Record::decode(Volume(1), &[0; BLOCK_LEN]), Ok(None));
}

/// F4: a block that went to another place is refused there.
#[test]
fn a_misdirected_record_is_refused() {
    let fault = Fault::Misdirected { found: Volume(0x0102) };
    assert_eq!(Record::decode(Volume(0x0103), &record().encode()), Err(fault));
}

#[test]
fn what_carries_a_good_checksum_and_no_sense_is_damaged() {
    let bytes = [
        (0, b'b'),
        (7, 0),
        // Numbers 0 and 4095; no state; no name, a longer one, one too long.
        (9, 0x10),
        (10, 0),
        (10, 3),
        (11, 0),
        (11, 5),
        (11, 65),
        (12, 1),
        (15, 1),
        // More than 2^40 blocks, no change, characters, something behind the name, reserved.
        (38, 1),
        (40, 0),
        (48, b'-'),
        (49, b'/'),
        (49, 0xff),
        (52, b'x'),
        (112, 1),
        (4091, 1),
    ];
    for (at, byte) in bytes {
        let mut bad = record().encode();
        bad[at] = byte;
        assert_eq!(
            Record::decode(Volume(0x0102), &with_crc(bad)),
            Err(Fault::Damaged),
            "byte {at} is {byte}"
        );
    }
    let nobody = Record { uuid: Uuid([0; 16]), ..record() };
    let empty = Record { blocks: 0, ..record() };
    let zero = Record { volume: Volume(0), ..record() };
    for bad in [nobody, empty, zero] {
        assert_eq!(Record::decode(bad.volume, &bad.encode()), Err(Fault::Damaged), "{bad:?}");
    }
}

/// S3-15: so has one whose needs are known, in a place or in none.
#[test]
fn format_6_of_a_guest_that_is_counted_never_changes() {
    let needs = |memory, processors| {
        Some(Needs { memory: NonZeroU32::new(memory)?, processors: NonZeroU8::new(processors)? })
    };
    let cases = [
        (None, needs(0x0403_0201, 5), 0, [1, 2, 3, 4, 5]),
        (Some(Side::A), needs(4096, 32), 1, [0, 16, 0, 0, 32]),
    ];
    for (home, needs, byte, bytes) in cases {
        let guest =
            Guest { is_wanted: true, failover: Failover::Restart, priority: 7, home, apart: None, needs };
        let of = Record { guest: Some(guest), ..record() };
        let mut expected = record().encode();
        expected[7] = 6;
        expected[128..132].copy_from_slice(&[2, 1, 7, byte]);
        expected[148..153].copy_from_slice(&bytes);
        let expected = with_crc(expected);
        assert!(of.encode() == expected, "the layout has changed");
        assert_eq!(Record::decode(Volume(0x0102), &expected), Ok(Some(of.clone())));
        for (at, byte) in [(7, 5), (7, 4), (128, 0), (152, 0), (153, 1)] {
            let mut bad = expected;
            bad[at] = byte;
            assert_eq!(Record::decode(Volume(0x0102), &with_crc(bad)), Err(Fault::Damaged), "byte {at}");
        }
    }
}

#[test]
fn a_newer_format_is_told_apart() {
    let mut bytes = record().encode();
    bytes[7] = 7;
    let fault = Fault::NewerFormat { found: 7, reads: 6 };
    assert_eq!(Record::decode(Volume(0x0102), &with_crc(bytes)), Err(fault));
}

fn any_record() -> impl Strategy<Value = Record> {
    let name = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}".prop_map(|name| Name::new(&name).unwrap());
    let uuid = any::<[u8; 16]>().prop_filter("nobody", |uuid| *uuid != [0; 16]).prop_map(Uuid);
    let state = prop_oneof![Just(State::Present), Just(State::Deleted)];
    let policy = prop_oneof![Just(None), Just(Some(Policy::Through)), Just(Some(Policy::Back))];
    let seal = prop_oneof![Just(None), any::<[u8; 16]>().prop_map(Seal::new)];
    let failover = prop_oneof![Just(Failover::Stay), Just(Failover::Restart), Just(Failover::Resume)];
    let home = prop_oneof![Just(None), Just(Some(Side::A)), Just(Some(Side::B))];
    let apart = prop::option::of("[a-z0-9_][a-z.-]{0,15}".prop_map(|name| Group::new(&name).unwrap()));
    let needs = (any::<NonZeroU32>(), any::<NonZeroU8>());
    let needs = prop::option::of(needs.prop_map(|(memory, processors)| Needs { memory, processors }));
    let guest = (any::<bool>(), failover, any::<u8>(), home, apart, needs).prop_map(
        |(is_wanted, failover, priority, home, apart, needs)| Guest {
            is_wanted,
            failover,
            priority,
            home,
            apart,
            needs,
        },
    );
    let rest = (any::<bool>(), seal, prop::option::of(guest));
    (1..=NUMBER_MAX, state, name, uuid, 1..=BLOCKS_MAX, 1_u64.., policy, rest).prop_map(
        |(number, state, name, uuid, blocks, change, policy, (is_cached, seal, guest))| Record {
            volume: Volume(number),
            state,
            name,
            uuid,
            blocks,
            change,
            policy,
            is_cached,
            seal,
            guest,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in any_record()) {
        prop_assert_eq!(Record::decode(record.volume, &record.encode()), Ok(Some(record)));
    }

    #[test]
    fn a_flipped_bit_is_damage(bit in 0..BLOCK_LEN * 8) {
        let mut bytes = record().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Record::decode(Volume(0x0102), &bytes), Err(Fault::Damaged));
    }

    /// I11: no bytes panic, and what is believed has one form only, also behind a good checksum.
    #[test]
    fn any_bytes_are_a_record_or_a_fault(
        start in prop::collection::vec(any::<u8>(), 0..160),
        number: u16,
        is_ours: bool,
    ) {
        let mut bytes = record().encode();
        let from = if is_ours { 8 } else { 0 };
        let room = bytes[from..].iter_mut();
        room.zip(&start).for_each(|(byte, other)| *byte = *other);
        let bytes = with_crc(bytes);
        if let Ok(Some(found)) = Record::decode(Volume(number), &bytes) {
            prop_assert!(found.encode() == bytes);
        }
    }
}
