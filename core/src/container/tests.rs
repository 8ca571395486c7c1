//! The formats in bytes, and every reason not to believe an image (V32, V35, F48, F49).

use super::header::{Header, KeyId, MESSAGE_LEN, Malformed, Part};
use super::image::{Digest, ImageId, ImageVersion, SecurityVersion};
use super::mark::Mark;
use super::trust::{BadTrust, ImageFault, KEYS_MAX, Key, Trust};
use crate::crc::crc32c;
use crate::plan::SECTOR;
use ed25519_dalek::{Signer, SigningKey};

const NO_FLOOR: SecurityVersion = SecurityVersion(0);

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key(seed: u8) -> Key {
    Key { public: signing(seed).verifying_key().to_bytes(), revoked: false }
}

fn trust(keys: &[Key]) -> Trust {
    Trust { keys: keys.iter().copied().collect() }
}

/// A header with three parts, not signed.
fn plain() -> Header {
    Header {
        image: ImageId { version: ImageVersion(7), security: SecurityVersion(2), digest: Digest([0xdd; 32]) },
        payload_len: 0x3010,
        efi: Part { offset: 0, len: 0x1001 },
        initrd: Part { offset: 0x2000, len: 0x1000 },
        command_line: Part { offset: 0x3000, len: 0x10 },
        key: KeyId([0xee; 32]),
        signature: [0xaa; 64],
    }
}

fn signed(seed: u8) -> Header {
    let header = Header { key: key(seed).id(), ..plain() };
    Header { signature: signing(seed).sign(&header.message()).to_bytes(), ..header }
}

/// The same bytes with some of them changed and the checksum made good.
fn changed(mut bytes: [u8; SECTOR], at: usize, with: &[u8]) -> [u8; SECTOR] {
    bytes[at..at + with.len()].copy_from_slice(with);
    let crc = crc32c(&bytes[..508]);
    bytes[508..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn header_version_1_never_changes() {
    let mut golden = [0_u8; SECTOR];
    golden[..16].copy_from_slice(b"BHDIMAGE\x01\0\0\x10\x02\0\0\0");
    golden[16] = 7;
    golden[24..26].copy_from_slice(&[0x10, 0x30]);
    golden[32..64].fill(0xdd);
    golden[72..74].copy_from_slice(&[0x01, 0x10]);
    golden[81] = 0x20;
    golden[89] = 0x10;
    golden[97] = 0x30;
    golden[104] = 0x10;
    golden[112..144].fill(0xee);
    golden[444..508].fill(0xaa);
    golden[508..].copy_from_slice(&0xe109_2899_u32.to_le_bytes());
    assert_eq!(plain().encode(), golden);
    assert_eq!(Header::parse(&golden), Ok(plain()));
    let message = plain().message();
    assert_eq!(&message[..16], b"bulkhead image 1");
    assert_eq!(message[16..MESSAGE_LEN], golden[..444]);
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn mark_version_1_never_changes() {
    let mark = Mark { image: plain().image, floor: SecurityVersion(1), seq: 9, tries_max: 3 };
    let mut golden = [0_u8; SECTOR];
    golden[..16].copy_from_slice(b"BHDMARK\0\x01\0\0\0\x01\0\0\0");
    golden[16] = 9;
    golden[24] = 7;
    golden[32..64].fill(0xdd);
    golden[64] = 2;
    golden[68] = 3;
    golden[508..].copy_from_slice(&0xff13_d474_u32.to_le_bytes());
    assert_eq!(mark.encode(), golden);
    assert_eq!(Mark::parse(&golden), Some(mark));
    for (at, value) in [(0, 1), (8, 2), (10, 1), (68, 0), (68, 16), (69, 1), (507, 1)] {
        assert_eq!(Mark::parse(&changed(golden, at, &[value])), None, "byte {at} = {value}");
    }
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn key_table_version_1_never_changes() {
    let keys = [Key { public: [0x11; 32], revoked: false }, Key { public: [0x22; 32], revoked: true }];
    let mut golden = [0_u8; SECTOR];
    golden[..12].copy_from_slice(b"BHDKEYS\0\x01\0\x02\0");
    golden[16..48].fill(0x11);
    golden[48] = 1;
    golden[56..88].fill(0x22);
    golden[88] = 2;
    golden[508..].copy_from_slice(&0xee94_4d81_u32.to_le_bytes());
    assert_eq!(trust(&keys).encode(), golden);
    assert_eq!(Trust::parse(&golden), Ok(trust(&keys)));
    let full = trust(&[key(1); KEYS_MAX]);
    assert_eq!(Trust::parse(&full.encode()), Ok(full));
    assert_eq!(Trust::parse(&[0; SECTOR]), Err(BadTrust::Magic));
    assert_eq!(Trust::parse(&changed(golden, 8, &[2])), Err(BadTrust::Version { found: 2 }));
    for (at, value) in
        [(10, 1), (10, 3), (10, 13), (11, 1), (12, 1), (48, 0), (48, 3), (49, 1), (128, 1), (500, 1)]
    {
        assert_eq!(Trust::parse(&changed(golden, at, &[value])), Err(BadTrust::Field), "byte {at} = {value}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let header = plain().encode();
    let mark = Mark { image: plain().image, floor: NO_FLOOR, seq: 9, tries_max: 3 }.encode();
    let keys = trust(&[key(1)]).encode();
    let flip = |mut bytes: [u8; SECTOR], bit: usize| {
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for bit in 0..SECTOR * 8 {
        assert!(Header::parse(&flip(header, bit)).is_err(), "header, bit {bit}");
        assert_eq!(Mark::parse(&flip(mark, bit)), None, "mark, bit {bit}");
        assert!(Trust::parse(&flip(keys, bit)).is_err(), "key table, bit {bit}");
    }
}

#[test]
fn every_malformed_header_has_its_name() {
    let part = |part| Malformed::Part { part };
    let (efi, initrd, command_line) = (part("EFI binary"), part("initrd"), part("command line"));
    let cases: &[(usize, &[u8], Malformed)] = &[
        (0, b"X", Malformed::Magic),
        (8, &[2], Malformed::Version { found: 2 }),
        (11, &[0x20], Malformed::Reserved),
        (144, &[1], Malformed::Reserved),
        (443, &[1], Malformed::Reserved),
        (24, &[0; 8], Malformed::PayloadLength { found: 0 }),
        (24, &[1, 0, 0, 0x40], Malformed::PayloadLength { found: (1 << 30) + 1 }),
        (24, &[0xff; 8], Malformed::PayloadLength { found: u64::MAX }),
        (64, &[0; 16], efi),
        (64, &[1], efi),
        (72, &[0xff; 8], efi),
        (72, &[1, 0x20], initrd),
        (80, &[1], initrd),
        (80, &[0xff; 16], initrd),
        (80, &[0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], initrd),
        (88, &[0; 8], initrd),
        (88, &[1, 0x10], command_line),
        (96, &[0; 8], command_line),
        (104, &[0x11], command_line),
    ];
    for (at, bytes, fault) in cases {
        assert_eq!(Header::parse(&changed(plain().encode(), *at, bytes)), Err(*fault), "{bytes:?} at {at}");
    }
    let mut rotten = plain().encode();
    rotten[508] ^= 1;
    assert_eq!(Header::parse(&rotten), Err(Malformed::Checksum));
    let long = Header { payload_len: 0x4000, command_line: Part { offset: 0x3000, len: 2049 }, ..plain() };
    assert_eq!(Header::parse(&long.encode()), Err(Malformed::CommandLine { found: 2049 }));
    let alone = Header { initrd: Part::default(), command_line: Part::default(), ..plain() };
    assert_eq!(Header::parse(&alone.encode()), Ok(alone));
}

#[test]
fn a_part_is_what_the_payload_holds() {
    let payload = [1, 2, 3, 4];
    assert_eq!(Part { offset: 1, len: 2 }.of(&payload), [2, 3]);
    assert!(Part { offset: 1, len: 4 }.of(&payload).is_empty());
    assert!(Part { offset: u64::MAX, len: u64::MAX }.of(&payload).is_empty());
}

#[test]
fn every_reason_not_to_believe_an_image() {
    let ours = trust(&[key(1)]);
    let header = signed(1);
    let needed = header.container_len();
    let believe =
        |trust: &Trust, header: &Header| trust.believe(&header.encode(), needed, SecurityVersion(2));
    assert_eq!(believe(&ours, &header).map(|signed| *signed.header()), Ok(header));
    assert_eq!(ours.believe(&[0; SECTOR], needed, NO_FLOOR), Err(ImageFault::Malformed(Malformed::Magic)));
    let capacity = needed - 1;
    let small = ours.believe(&header.encode(), capacity, NO_FLOOR);
    assert_eq!(small, Err(ImageFault::TooLarge { needed, capacity }));
    assert_eq!(believe(&trust(&[]), &header), Err(ImageFault::UnknownKey(header.key)));
    assert_eq!(believe(&trust(&[key(2)]), &header), Err(ImageFault::UnknownKey(header.key)));
    let revoked = Key { revoked: true, ..key(1) };
    assert_eq!(believe(&trust(&[revoked]), &header), Err(ImageFault::RevokedKey(header.key)));
    let other = Header { key: key(2).id(), ..header };
    assert_eq!(believe(&trust(&[key(1), key(2)]), &other), Err(ImageFault::Signature));
    let floor = SecurityVersion(3);
    let low = ours.believe(&header.encode(), needed, floor);
    assert_eq!(low, Err(ImageFault::BelowFloor { found: SecurityVersion(2), floor }));
}

/// A key that is listed twice, once as revoked, must not boot anything (F48).
#[test]
fn a_key_listed_twice_is_revoked_when_either_entry_says_so() {
    let revoked = Key { revoked: true, ..key(1) };
    let header = signed(1);
    for keys in [[key(1), revoked], [revoked, key(1)]] {
        let belief = trust(&keys).believe(&header.encode(), u64::MAX, NO_FLOOR);
        assert_eq!(belief, Err(ImageFault::RevokedKey(header.key)));
    }
}

/// Every field that matters is under the signature: no change to it survives.
#[test]
fn a_change_to_any_signed_byte_is_noticed() {
    let ours = trust(&[key(1)]);
    let good = signed(1).encode();
    for at in 0..508 {
        let bytes = changed(good, at, &[good[at] ^ 1]);
        assert!(ours.believe(&bytes, u64::MAX, NO_FLOOR).is_err(), "byte {at}");
    }
}

#[test]
fn only_the_signed_payload_and_plain_text_are_verified() {
    let ours = trust(&[key(1)]);
    let header = signed(1);
    let belief = || ours.believe(&header.encode(), u64::MAX, NO_FLOOR).unwrap();
    let digest = header.image.digest;
    assert_eq!(
        belief().verify(digest, "quiet ä".as_bytes()).map(|verified| verified.image()),
        Ok(header.image)
    );
    assert_eq!(belief().verify(Digest([0; 32]), b""), Err(ImageFault::Digest));
    for bad in [&b"a\nb"[..], b"a\0", b"\xff", b"a\x7fb", "a\u{85}b".as_bytes()] {
        assert_eq!(belief().verify(digest, bad), Err(ImageFault::CommandLine), "{bad:?}");
    }
}
