//! The bytes of a snapshot, pinned; and every damage to them, found.

use super::*;

/// A whole stream: each record, or why there is none.
fn read(bytes: &[u8]) -> Result<Vec<(Kind, Vec<u8>)>, Unreadable> {
    let mut reader = Reader::begin(bytes)?;
    let mut records = Vec::new();
    while let Some((kind, content)) = reader.record()? {
        records.push((kind, content.to_vec()));
    }
    match reader.into_rest().is_empty() {
        true => Ok(records),
        false => Err(Unreadable::Nonsense("more behind the end".into())),
    }
}

fn small() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes).unwrap();
    writer.put(Kind::Description, &[b"name"]).unwrap();
    writer.put(Kind::Memory, &[&4096_u64.to_le_bytes(), b"\x01\x02"]).unwrap();
    writer.end().unwrap();
    bytes
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn version_1_never_changes() {
    let golden: [&[u8]; 11] = [
        b"BHGUEST\0\x01\0\0\0",
        b"\x2c\x55\x88\xb7",
        b"\x01\0\0\0\x04\0\0\0\0\0\0\0",
        b"\xf4\x8c\xce\xac",
        b"name",
        b"\x03\0\0\0\x0a\0\0\0\0\0\0\0",
        b"\xa8\x2b\x46\x34",
        b"\0\x10\0\0\0\0\0\0\x01\x02",
        b"\x04\0\0\0\x0c\0\0\0\0\0\0\0",
        b"\x61\x6d\x08\xb3",
        b"\x02\0\0\0\0\0\0\0\xcd\x13\x62\x40",
    ];
    assert_eq!(small(), golden.concat(), "{:02x?}", small());
    let memory = [&4096_u64.to_le_bytes()[..], &[1, 2]].concat();
    assert_eq!(read(&small()).unwrap(), [(Kind::Description, b"name".to_vec()), (Kind::Memory, memory)]);
}

fn kept() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::keep(&mut bytes).unwrap();
    writer.put(Kind::Description, &[b"name"]).unwrap();
    writer.put(Kind::Lineage, &[&[7; 16]]).unwrap();
    assert!(writer.end().unwrap().is_some());
    bytes
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn version_2_never_changes() {
    let golden: [&[u8]; 13] = [
        b"BHGUEST\0\x02\0\0\0",
        b"\x15\xdc\xaa\xd5",
        b"\x01\0\0\0\x04\0\0\0\0\0\0\0",
        b"\xf4\x8c\xce\xac",
        b"name",
        b"\x05\0\0\0\x10\0\0\0\0\0\0\0",
        b"\xcc\xb2\x7c\x44",
        &[7; 16],
        b"\x04\0\0\0\x2c\0\0\0\0\0\0\0",
        b"\x4c\xf2\x27\x82",
        b"\x02\0\0\0\0\0\0\0\x1c\x1c\x89\x78",
        b"\x1a\xc9\xb5\xe0\x58\x73\xb3\xde\xdf\xd6\x84\x77\xff\xeb\x2e\x0c",
        b"\x76\xc6\xa3\x7f\xaf\xcb\xcf\x2f\xe4\xd4\x9c\x79\x0a\xd3\x67\x01",
    ];
    assert_eq!(kept(), golden.concat(), "{:02x?}", kept());
    let expected = [(Kind::Description, b"name".to_vec()), (Kind::Lineage, vec![7; 16])];
    assert_eq!(read(&kept()).unwrap(), expected);
    let bytes = kept();
    let mut reader = Reader::begin(&bytes[..]).unwrap();
    while reader.record().unwrap().is_some() {
        assert_eq!(reader.digest(), None, "it may not be whole");
    }
    let before = kept().len() - 16 - Kind::End.length_max();
    assert_eq!(reader.digest(), Some(Digest(*blake3::hash(&kept()[..before]).as_bytes())));
    // What is sent says nothing of what it is, and has no digest.
    let mut sent = kept();
    sent[8] = 1;
    let check = crc(0, &sent[..12]).to_le_bytes();
    sent[12..16].copy_from_slice(&check);
    assert!(read(&sent).unwrap_err().to_string().ends_with("record 1 is of no kind that there is"));
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn what_its_disks_held_never_changes_and_is_not_sent() {
    let with_disks = |mut writer: Writer<Vec<u8>>| {
        writer.put(Kind::Disks, &[b"seals"]).unwrap();
        writer.out().clone()
    };
    let record: [&[u8]; 3] = [b"\x06\0\0\0\x05\0\0\0\0\0\0\0", b"\xfa\xd2\x67\x6f", b"seals"];
    let bytes = with_disks(Writer::keep(Vec::new()).unwrap());
    assert_eq!(bytes[16..], record.concat(), "{bytes:02x?}");
    let mut reader = Reader::begin(&bytes[..]).unwrap();
    assert_eq!(reader.record().unwrap(), Some((Kind::Disks, &b"seals"[..])));
    let sent = with_disks(Writer::begin(Vec::new()).unwrap());
    let why = Reader::begin(&sent[..]).unwrap().record().unwrap_err();
    assert!(why.to_string().ends_with("record 0 is of no kind that there is"), "{why}");
}

/// I11: whatever is cut off, changed, left out or said twice, is found.
#[test]
fn every_damage_is_found() {
    every_damage_to(&small());
    every_damage_to(&kept());
    let whole = small();
    let (header, first, second, end) = (&whole[..16], &whole[16..36], &whole[36..62], &whole[62..]);
    for wrong in [
        [header, second, end].concat(),
        [header, first, end].concat(),
        [header, second, first, end].concat(),
        [header, first, first, second, end].concat(),
        [header, end].concat(),
        [&whole, &[0][..]].concat(),
    ] {
        assert!(read(&wrong).is_err());
    }
}

fn every_damage_to(whole: &[u8]) {
    for length in 0..whole.len() {
        assert!(matches!(read(&whole[..length]), Err(Unreadable::Short)), "{length}");
    }
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.to_vec();
            damaged[place] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "{place} {bit}");
        }
    }
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn version_3_never_changes() {
    let mut bytes = Vec::new();
    let mut writer = Writer::bring(&mut bytes).unwrap();
    writer.put(Kind::Description, &[b"name"]).unwrap();
    writer.put(Kind::Disk, &[&[7; 20], b"\x01\x02"]).unwrap();
    writer.end().unwrap();
    let golden: [&[u8]; 12] = [
        b"BHGUEST\0\x03\0\0\0",
        b"\xad\x76\xef\x08",
        b"\x01\0\0\0\x04\0\0\0\0\0\0\0",
        b"\xf4\x8c\xce\xac",
        b"name",
        b"\x07\0\0\0\x16\0\0\0\0\0\0\0",
        b"\x86\xba\xc1\x6d",
        &[7; 20],
        b"\x01\x02",
        b"\x04\0\0\0\x0c\0\0\0\0\0\0\0",
        b"\x27\xfd\xec\x15",
        b"\x02\0\0\0\0\0\0\0\x8f\x2f\x33\xc7",
    ];
    assert_eq!(bytes, golden.concat(), "{bytes:02x?}");
    let part = [&[7; 20][..], &[1, 2]].concat();
    assert_eq!(read(&bytes).unwrap(), [(Kind::Description, b"name".to_vec()), (Kind::Disk, part)]);
    // One that comes without its disks has none of them, and neither has one that is kept.
    for version in [1, 2] {
        let mut other = bytes.clone();
        other[8] = version;
        let check = crc(0, &other[..12]).to_le_bytes();
        other[12..16].copy_from_slice(&check);
        let why = read(&other).unwrap_err().to_string();
        assert!(why.contains("of no kind that there is"), "{why}");
    }
}

/// V41: another version is refused by its number.
#[test]
fn another_version_is_refused_by_name() {
    let mut newer = small();
    newer[8] = 4;
    let check = crc(0, &newer[..12]).to_le_bytes();
    newer[12..16].copy_from_slice(&check);
    let why = read(&newer).unwrap_err().to_string();
    assert_eq!(why, "its format is version 4; this program knows versions 1 to 3");
    assert_eq!(read(b"#!/bin/sh -e\nexit 0\n").unwrap_err().to_string(), "it is no snapshot of a guest");
}

/// V16: what says that it is long is not believed, and costs nothing.
#[test]
fn what_is_too_long_is_neither_written_nor_read() {
    for kind in [Kind::Description, Kind::State, Kind::Memory, Kind::End, Kind::Lineage] {
        let header = header(kind, usize::MAX);
        let check = crc(0, &header).to_le_bytes();
        let long = [&kept()[..16], &header, &check].concat();
        let mut reader = Reader::begin(&long[..]).unwrap();
        assert!(reader.record().unwrap_err().to_string().contains("is too long"));
        assert_eq!(reader.content.capacity(), 0);
        let mut writer = Writer::begin(Vec::new()).unwrap();
        let most = vec![0; kind.length_max()];
        writer.put(kind, &[&most]).unwrap();
        let why = writer.put(kind, &[&most, b"x"]).unwrap_err().to_string();
        assert!(why.contains("and may have"), "{why}");
    }
}
