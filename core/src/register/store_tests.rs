//! The bytes that are in the field, and what is made of damage.

use super::*;
use crate::register::testing::Chance;

const OWNER: Owner = Owner { site: SiteId([0x5a; 16]), node: NodeId(0x0102), life: Life(0x0a0b_0c0d) };

fn stored() -> Stored {
    let voter = |node, life| Voter { node: NodeId(node), life: Life(life) };
    let voters = Voters {
        current: Set::new([voter(1, 0x11)]).unwrap(),
        previous: Some(Set::new([voter(1, 0x11), voter(2, 0x22), voter(3, 0)]).unwrap()),
    };
    let payload = Payload::from_slice(&[0xee, 0xff]).unwrap();
    let record = Record { epoch: Epoch(0x0304), holder: Some(NodeId(2)), voters, payload };
    let accepted = Some((Ballot::new(0x0506, NodeId(2)), record));
    Stored { register: RegisterId(7), seq: 0x0809, promised: Ballot::new(0x0507, NodeId(1)), accepted }
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn version_1_never_changes() {
    let bytes = stored().encode(&OWNER);
    let mut expected = [0; STORED_LEN];
    let mut put = |at: usize, field: &[u8]| expected[at..at + field.len()].copy_from_slice(field);
    put(0, b"BHREGS\0\x01");
    put(8, &[0x5a; 16]);
    put(24, &[0x02, 0x01, 0x0d, 0x0c, 0x0b, 0x0a, 7, 0]);
    put(32, &[0x09, 0x08]);
    put(40, &[0x07, 0x05, 0, 0, 0, 0, 0, 0, 1, 0]);
    put(50, &[0x06, 0x05, 0, 0, 0, 0, 0, 0, 2, 0]);
    put(60, &[0x04, 0x03]);
    put(68, &[2, 0, 1, 3, 2]);
    put(76, &[1, 0, 0x11]);
    put(106, &[1, 0, 0x11, 0, 0, 0, 2, 0, 0x22, 0, 0, 0, 3]);
    put(136, &[0xee, 0xff]);
    put(508, &[0xa7, 0x9c, 0x60, 0x44]);
    assert_eq!(bytes, expected);
    assert_eq!(Stored::parse(&bytes, &OWNER), Ok(stored()));

    let empty = Stored { accepted: None, ..stored() };
    assert_eq!(Stored::parse(&empty.encode(&OWNER), &OWNER), Ok(empty));
    assert_eq!(Owner::parse(&OWNER.encode()), Ok(OWNER));
    assert_eq!(&OWNER.encode()[..8], b"BHVOTE\0\x01");
    assert_eq!([offset(0, 0), offset(0, 1), offset(3, 0), space(64)], [8192, 12288, 32768, 532_480]);
}

#[test]
fn what_is_not_ours_has_a_name() {
    let bytes = stored().encode(&OWNER);
    assert_eq!(Stored::parse(&[0; STORED_LEN], &OWNER), Err(Fault::Blank));
    let stranger = Owner { life: Life(1), ..OWNER };
    assert_eq!(Stored::parse(&bytes, &stranger), Err(Fault::Foreign));
    assert_eq!(Stored::parse(&OWNER.encode(), &OWNER), Err(Fault::Damaged));
    let mut newer = bytes;
    newer[7] = 2;
    let crc = crc32c(&newer[..CRC_AT]).to_le_bytes();
    newer[CRC_AT..].copy_from_slice(&crc);
    assert_eq!(Stored::parse(&newer, &OWNER), Err(Fault::NewerFormat { found: 2 }));
    for at in 0..STORED_LEN {
        let mut bent = bytes;
        bent[at] ^= 1;
        assert_eq!(Stored::parse(&bent, &OWNER), Err(Fault::Damaged), "byte {at}");
    }
}

/// V39: bytes with a good checksum and wrong fields are damaged, and nothing panics.
#[test]
fn one_structure_has_one_form() {
    let (bytes, mut chance) = (stored().encode(&OWNER), Chance(7));
    for _ in 0..20_000 {
        let mut bent = bytes;
        for _ in 0..=chance.below(3) {
            let at = usize::try_from(30 + chance.below(480)).unwrap();
            bent[at.min(CRC_AT - 1)] = u8::try_from(chance.below(256)).unwrap();
        }
        let crc = crc32c(&bent[..CRC_AT]).to_le_bytes();
        bent[CRC_AT..].copy_from_slice(&crc);
        if let Ok(read) = Stored::parse(&bent, &OWNER) {
            assert_eq!(read.encode(&OWNER), bent);
        }
    }
}

/// F1, F8: the newest copy that can have been answered from; never a guess.
#[test]
fn two_copies_say_what_may_have_been_answered() {
    let older = Stored { seq: 1, ..stored() };
    let newer = stored();
    let (torn, blank) = (Err(Fault::Damaged), Err(Fault::Blank));
    for (copies, expected) in [
        ([Ok(newer.clone()), Ok(older.clone())], Ok(newer.clone())),
        ([Ok(older.clone()), Ok(newer.clone())], Ok(newer.clone())),
        ([torn.clone(), Ok(older.clone())], Ok(older.clone())),
        ([Ok(newer.clone()), blank.clone()], Ok(newer.clone())),
        ([torn.clone(), blank.clone()], blank.clone()),
        ([blank.clone(), blank.clone()], blank.clone()),
        ([torn.clone(), torn.clone()], torn.clone()),
        ([Ok(newer), Err(Fault::Foreign)], Err(Fault::Foreign)),
        ([Err(Fault::NewerFormat { found: 9 }), Ok(older)], Err(Fault::NewerFormat { found: 9 })),
    ] {
        assert_eq!(newest(copies), expected);
    }
}
