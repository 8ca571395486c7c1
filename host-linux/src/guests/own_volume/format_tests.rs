//! Golden bytes of a table, and bytes that are none.

use super::super::table::tests::{entry, snapshot};
use super::*;
use proptest::prelude::*;

const BLOCKS: u64 = 1000;

fn block(table: &Table) -> [u8; BLOCK] {
    encode(table).try_into().unwrap()
}

fn table() -> Table {
    let entries = vec![
        entry(What::Description, 2, 300),
        entry(What::Kernel, 3, 5 << 12),
        entry(What::Initrd, 9, 0),
        Entry { digest: [0xd1; 32], at: 0x0102_0304, ..entry(snapshot("last"), 10, 70_000) },
    ];
    Table::new(7, entries, BLOCKS).unwrap()
}

/// Changes bytes as a program of ours would, with the checksum.
fn resealed(change: impl FnOnce(&mut [u8])) -> Result<Table, Unsound> {
    let mut bytes = block(&table());
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes();
    bytes[CRC_AT..].copy_from_slice(&crc);
    parse(&bytes, BLOCKS)
}

/// These bytes are in the field. If this test fails, add a version; do not edit them.
#[test]
fn version_1_never_changes() {
    let bytes = block(&table());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        hex(&bytes[..32]),
        concat!("42484f574e564f4c", "01000000", "04000000", "0700000000000000", "0000000000000000")
    );
    assert_eq!(
        hex(&bytes[32..128]),
        concat!(
            "01000000",
            "00000000",
            "0200000000000000",
            "2c01000000000000",
            "0900000000000000",
            "0707070707070707070707070707070707070707070707070707070707070707",
            "0000000000000000000000000000000000000000000000000000000000000000"
        )
    );
    assert_eq!(
        hex(&bytes[416..512]),
        concat!(
            "04000000",
            "04000000",
            "0a00000000000000",
            "7011010000000000",
            "0403020100000000",
            "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1",
            "6c61737400000000000000000000000000000000000000000000000000000000"
        )
    );
    assert!(bytes[512..CRC_AT].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&bytes[CRC_AT..]), "c712d8c5");
    assert_eq!(parse(&bytes, BLOCKS), Ok(table()));
}

/// These bytes are in the field, too. A release before says which version it is, and reads nothing of it.
#[test]
fn version_2_has_where_a_guest_moves() {
    let mut moving = table();
    assert!(moving.put(entry(What::Move, 100, 50)));
    let bytes = block(&moving);
    assert_eq!((bytes[8], &bytes[544..552]), (2, &[5, 0, 0, 0, 0, 0, 0, 0][..]));
    assert_eq!(parse(&bytes, BLOCKS), Ok(moving.clone()));
    let crc = |mut bytes: [u8; BLOCK]| {
        let crc = crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes();
        bytes[CRC_AT..].copy_from_slice(&crc);
        parse(&bytes, BLOCKS)
    };
    let with = |at: usize, byte| {
        let mut bytes = bytes;
        bytes[at] = byte;
        crc(bytes)
    };
    assert_eq!(with(8, 1), Err(Unsound::Field("kind of a part")), "version 1 has no such part");
    assert_eq!(with(548, 1), Err(Unsound::Field("kind of a part")), "it has no name");
    moving.remove(&What::Move);
    assert_eq!(block(&moving)[8], 1, "it can be read by a release before again");
}

#[test]
fn what_is_no_table_is_told_apart() {
    assert_eq!(parse(&[0; BLOCK], BLOCKS), Err(Unsound::Empty));
    assert_eq!(parse(&[1; BLOCK], BLOCKS), Err(Unsound::NotOurs));
    let mut torn = block(&table());
    torn[512..].fill(0);
    assert_eq!(parse(&torn, BLOCKS), Err(Unsound::Damaged));
    assert_eq!(parse(&block(&table()), 27), Err(Nonsense::Beyond(snapshot("last")).into()));
    assert_eq!(resealed(|bytes| bytes[8] = 3), Err(Unsound::Version(3)));
    assert_eq!(resealed(|bytes| bytes[8] = 2), Err(Unsound::Field("version")), "nothing of it is there");
    assert_eq!(resealed(|bytes| bytes[12] = 32), Err(Nonsense::Entries(32).into()));
    assert_eq!(resealed(|bytes| bytes[16] = 0), Err(Unsound::Field("generation")));
    for at in [24, 32 + 4 * 128, CRC_AT - 1] {
        assert_eq!(resealed(|bytes| bytes[at] = 1), Err(Unsound::Field("reserved part")), "{at}");
    }
    for kind in [0, 5, 6] {
        assert_eq!(resealed(|bytes| bytes[32] = kind), Err(Unsound::Field("kind of a part")));
    }
    let name = Err(Unsound::Field("name of a part"));
    assert_eq!(resealed(|bytes| bytes[32 + 4] = 1), name, "a description has none");
    assert_eq!(resealed(|bytes| bytes[416 + 4] = 65), name);
    assert_eq!(resealed(|bytes| bytes[416 + 4] = 0), name);
    assert_eq!(resealed(|bytes| bytes[416 + 64] = b'/'), name);
    assert_eq!(resealed(|bytes| bytes[416 + 70] = b'x'), name);
    let overlap = Nonsense::Overlap(Box::new((What::Description, What::Kernel)));
    assert_eq!(resealed(|bytes| bytes[160 + 8] = 2), Err(overlap.into()));
}

/// V41: a table that this program does not know is not passed over for an older one that it does.
#[test]
fn the_newer_one_of_two_counts() {
    let of = |generation| {
        let mut table = table();
        table.generation = generation;
        Ok(table)
    };
    let is = |first, second| newer(first, second).map(|(copy, table)| (copy, table.generation));
    assert_eq!((is(of(7), of(8)), is(of(8), of(7)), is(of(8), of(8))), (Ok((1, 8)), Ok((0, 8)), Ok((0, 8))));
    assert!(newer(of(7), Table::new(7, vec![], 9).map_err(Unsound::from)).is_err(), "which one?");
    for lost in [Unsound::Empty, Unsound::Damaged, Unsound::NotOurs] {
        assert_eq!((is(of(7), Err(lost.clone())), is(Err(lost), of(7))), (Ok((0, 7)), Ok((1, 7))));
    }
    for stop in [Unsound::Version(2), Unsound::Field("x"), Nonsense::Entries(32).into()] {
        for other in [of(7), Err(Unsound::Empty), Err(Unsound::Damaged)] {
            assert_eq!(is(Err(stop.clone()), other.clone()), Err(stop.clone()));
            assert_eq!(is(other, Err(stop.clone())), Err(stop.clone()));
        }
    }
    let both = |first, second| newer(Err(first), Err(second)).unwrap_err();
    assert_eq!(both(Unsound::Empty, Unsound::Damaged), Unsound::Empty);
    assert_eq!(both(Unsound::Damaged, Unsound::Empty), Unsound::Empty);
    assert_eq!(both(Unsound::Damaged, Unsound::Damaged), Unsound::Damaged);
    assert_eq!(both(Unsound::Empty, Unsound::NotOurs), Unsound::NotOurs);
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let one =
        (0..4_u8, "[a-z0-9][a-zA-Z0-9_.-]{0,63}", 0..1200_u64, 0..9_000_u64, any::<[u8; 32]>(), any::<u64>());
    let entry = one.prop_map(|(kind, name, first, length, digest, at)| {
        let what = match kind {
            0 => What::Description,
            1 => What::Kernel,
            2 => What::Initrd,
            _ => snapshot(&name),
        };
        Entry { what, first, length, digest, at }
    });
    prop::collection::vec(entry, 0..6)
}

proptest! {
    /// What can be is read as it was written, and what cannot be is never read.
    #[test]
    fn a_table_is_read_as_it_was_written(entries in entries(), generation in 1..u64::MAX) {
        let unchecked = Table::new(generation, entries.clone(), u64::MAX);
        match Table::new(generation, entries, BLOCKS) {
            Ok(table) => prop_assert_eq!(parse(&block(&table), BLOCKS), Ok(table)),
            Err(why) => if let Ok(table) = unchecked {
                prop_assert_eq!(parse(&block(&table), BLOCKS), Err(why.into()));
            },
        }
    }

    /// I11: any bytes, also with a right checksum: an answer, and the only bytes of what it says.
    #[test]
    fn no_bytes_panic(noise in prop::collection::vec((0..BLOCK, any::<u8>()), 0..40), seal: bool) {
        let mut bytes = block(&table());
        noise.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        if seal {
            let crc = crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes();
            bytes[CRC_AT..].copy_from_slice(&crc);
        }
        if let Ok(table) = parse(&bytes, BLOCKS) {
            prop_assert_eq!(block(&table), bytes);
        }
    }
}
