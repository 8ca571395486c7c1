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

/// I11: whatever is cut off, changed, left out or said twice, is found.
#[test]
fn every_damage_is_found() {
    let whole = small();
    for length in 0..whole.len() {
        assert!(matches!(read(&whole[..length]), Err(Unreadable::Short)), "{length}");
    }
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "{place} {bit}");
        }
    }
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

/// V41: another version is refused by its number.
#[test]
fn another_version_is_refused_by_name() {
    let mut newer = small();
    newer[8] = 2;
    let check = crc(0, &newer[..12]).to_le_bytes();
    newer[12..16].copy_from_slice(&check);
    let why = read(&newer).unwrap_err().to_string();
    assert_eq!(why, "its format is version 2; this program knows version 1");
    assert_eq!(read(b"#!/bin/sh -e\nexit 0\n").unwrap_err().to_string(), "it is no snapshot of a guest");
}

/// V16: what says that it is long is not believed, and costs nothing.
#[test]
fn what_is_too_long_is_neither_written_nor_read() {
    for kind in [Kind::Description, Kind::State, Kind::Memory, Kind::End] {
        let header = header(kind, usize::MAX);
        let check = crc(0, &header).to_le_bytes();
        let long = [&small()[..16], &header, &check].concat();
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
