//! The records in bytes, cut at every write, and how fast they wear the card.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::crc::crc32c;

const OWNER: Owner = Owner { site: SiteId([1; 16]), node: NodeId(3), life: Life(0x11) };
const GRANTED: Option<Ground> = Some(Ground::HolderSilent);

fn entry(number: u32, ground: Option<Ground>, outcome: Outcome) -> Entry {
    let (id, node, start) = (FenceId(0x0201), NodeId(1), Some(Start(0x77)));
    let plea = Plea { id, node, start, register: RegisterId(3), epoch: Epoch(5), want: Want::Off };
    Entry { number, at: Instant::from_micros(0x0a0b), asker: NodeId(2), plea, ground, outcome }
}

fn refused(number: u32) -> Entry {
    entry(number, None, Outcome::Refused(Refusal::Heard))
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn version_1_never_changes() {
    let record = Record { seq: 0x0102, start: 9, lost: 4, entry: entry(7, GRANTED, Outcome::Off) };
    let mut golden = [0; BLOCK_LEN];
    golden[..8].copy_from_slice(b"BHFNCE\0\x01");
    golden[8..10].copy_from_slice(&[2, 1]);
    golden[16..32].fill(1);
    (golden[32], golden[34], golden[38]) = (3, 0x11, 9);
    golden[46..48].copy_from_slice(&[0x0b, 0x0a]);
    (golden[54], golden[58], golden[62]) = (7, 4, 2);
    golden[64..66].copy_from_slice(&[1, 2]);
    (golden[72], golden[74], golden[75], golden[83], golden[85]) = (1, 1, 0x77, 3, 5);
    golden[93..96].copy_from_slice(&[1, 2, 2]);
    let crc = crc32c(&golden[..508]).to_le_bytes();
    golden[508..].copy_from_slice(&crc);
    assert_eq!(record.encode(&OWNER), golden);
    assert_eq!(&golden[508..], CRC);
    assert_eq!(Record::parse(&golden, &OWNER), Ok(record));
    let refused = Record { entry: refused(7), ..record }.encode(&OWNER);
    assert_eq!(&refused[93..96], &[1, 0, 16 + 7]);
}

/// CRC-32C as Python computes it over the same bytes.
const CRC: &[u8] = &[0xeb, 0xc4, 0xb6, 0xa1];

#[test]
fn every_word_has_one_code() {
    let mut all: Vec<Entry> = Vec::new();
    for want in WANTS {
        for ground in GROUNDS.map(Some).into_iter().chain([None]) {
            let refusals = REFUSALS.map(Outcome::Refused);
            for outcome in OUTCOMES.into_iter().chain(refusals) {
                let mut one = entry(1, ground, outcome);
                one.plea.want = want;
                all.push(one);
                one.plea.start = None;
                all.push(one);
            }
        }
    }
    for entry in all {
        let record = Record { seq: 1, start: 1, lost: 0, entry };
        assert_eq!(Record::parse(&record.encode(&OWNER), &OWNER), Ok(record));
    }
    let other = Owner { life: Life(0x12), ..OWNER };
    let record = Record { seq: 1, start: 1, lost: 0, entry: refused(1) };
    assert_eq!(Record::parse(&record.encode(&other), &OWNER), Err(Fault::OtherSeq));
}

type Card = BTreeMap<u64, Block>;

fn read(card: &Card, ring: Ring) -> Vec<Record> {
    let blocks = ring.places().filter_map(|at| card.get(&at));
    let mut found: Vec<_> = blocks.filter_map(|block| Record::parse(block, &OWNER).ok()).collect();
    found.sort_by_key(|record| record.seq);
    found
}

fn book(card: &Card, start: u64) -> Book {
    let last = Ring::ALL.map(|ring| read(card, ring).last().map_or(0, |record| record.seq));
    Book::new(Instant::ZERO, OWNER, start, last)
}

/// F1, F8: whatever a cut leaves of the record under way, all others of the ring are read, and the next start
/// goes on behind them.
#[test]
fn cut_at_every_write() {
    for cut in 0..300_u32 {
        let mut card = Card::new();
        let mut first = book(&card, 1);
        for number in 0..=cut {
            let now = Instant::from_millis(u64::from(number) * 1_000);
            let (at, mut block) = first.add(now, entry(number, GRANTED, Outcome::Off)).unwrap();
            if number == cut {
                let old = card.get(&at).copied().unwrap_or([0; BLOCK_LEN]);
                block[BLOCK_LEN / 2..].copy_from_slice(&old[BLOCK_LEN / 2..]);
            }
            card.insert(at, block);
        }
        let left = read(&card, Ring::Orders);
        let kept: Vec<u32> = left.iter().map(|record| record.entry.number).collect();
        assert_eq!(kept, (cut.saturating_sub(127)..cut).collect::<Vec<_>>(), "cut {cut}");
        let mut second = book(&card, 2);
        let (at, block) = second.add(Instant::ZERO, entry(9_999, GRANTED, Outcome::On)).unwrap();
        card.insert(at, block);
        let last = read(&card, Ring::Orders).pop().unwrap();
        assert_eq!((last.seq, last.start, last.entry.number), (u64::from(cut) + 1, 2, 9_999));
    }
}

/// A flood of wrongful pleas for a day: no order is pushed off the card, and the card is not worn.
#[test]
fn refusals_neither_wear_the_card_nor_push_orders_off_it() {
    let mut card = Card::new();
    let mut book = book(&card, 1);
    let mut writes = 0;
    for number in 0..100 {
        let (at, block) = book
            .add(Instant::from_millis(u64::from(number) * 1_000), entry(number, GRANTED, Outcome::Off))
            .unwrap();
        card.insert(at, block);
    }
    for number in 0..864_000 {
        let now = Instant::from_millis(100_000 + u64::from(number) * 100);
        if let Some((at, block)) = book.add(now, refused(number)) {
            writes += 1;
            card.insert(at, block);
        }
    }
    assert_eq!(writes, 8 + 8_639);
    assert_eq!(read(&card, Ring::Orders).len(), 100);
    let refusals = read(&card, Ring::Refusals);
    let last = refusals.last().unwrap();
    assert_eq!(refusals.len(), 32);
    assert_eq!(u64::from(last.lost) + last.seq, u64::from(last.entry.number) + 1, "none is forgotten");
}

proptest! {
    #[test]
    fn no_block_panics_and_a_record_has_one_spelling(at in 0..BLOCK_LEN, byte: u8, whole: bool) {
        let record = Record { seq: 1, start: 1, lost: 0, entry: refused(1) };
        let mut bytes = record.encode(&OWNER);
        bytes[at] = byte;
        if whole {
            let crc = crc32c(&bytes[..508]).to_le_bytes();
            bytes[508..].copy_from_slice(&crc);
        }
        if let Ok(read) = Record::parse(&bytes, &OWNER) {
            prop_assert_eq!(read.encode(&OWNER), bytes);
        }
    }
}
