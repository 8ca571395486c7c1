//! V9, V41, F8: superblocks of format 1 never change; of two copies the newest whole one counts; what a
//! holder promised, applied or cut off is never taken back.

use proptest::prelude::*;

use super::*;

const IDENTITY: Identity =
    Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };

fn empty() -> Superblock {
    Superblock::new(IDENTITY, Ring::new(4096).unwrap(), Seq(10))
}

fn end(at: u64, next: u64, commit: u64) -> End {
    End { at: Position(at), next: Seq(next), chain: 5, epoch: Epoch(1), commit: Seq(commit) }
}

#[test]
fn format_1_never_changes() {
    let mut superblock = empty();
    superblock.promise(Epoch(6));
    superblock.settle(Seq(30), Seq(20));
    superblock.trim(Tail { at: Position(3), first: Seq(12), chain: 0x0d });
    superblock.begin(&end(40, 33, 20), Seq(31)).unwrap();
    let mut expected = [0; BLOCK_LEN];
    expected[..8].copy_from_slice(b"BHLOGS\0\x01");
    expected[8..24].fill(1);
    expected[24..40].fill(2);
    let bytes =
        [(40, 3), (44, 4), (49, 16), (56, 1), (64, 6), (72, 30), (80, 20), (88, 3), (96, 12), (104, 13)];
    let cuts = [(108, 1), (112, 1), (120, 40), (128, 40), (136, 31)];
    for (at, byte) in bytes.into_iter().chain(cuts) {
        expected[at] = byte;
    }
    let crc = crc32c(&expected[..CRC_AT]);
    expected[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    assert!(superblock.encode() == expected, "the layout has changed");
    assert_eq!(Superblock::parse(&expected), Ok(superblock));
}

#[test]
fn the_newest_whole_copy_counts() {
    let (old, mut new) = (empty(), empty());
    new.seq = 2;
    let other = Superblock { identity: Identity { life: Life(9), ..IDENTITY }, ..empty() };
    let newer = Err(Fault::NewerFormat { found: 2 });
    let cases = [
        ([Ok(old.clone()), Ok(new.clone())], Ok(new.clone())),
        ([Ok(new.clone()), Ok(old.clone())], Ok(new.clone())),
        ([Err(Fault::Damaged), Ok(old.clone())], Ok(old.clone())),
        ([Ok(old.clone()), Err(Fault::Blank)], Ok(old.clone())),
        ([Err(Fault::Damaged), Err(Fault::Damaged)], Err(Fault::Damaged)),
        ([Err(Fault::Blank), Err(Fault::Damaged)], Err(Fault::Blank)),
        ([Err(Fault::Blank), Err(Fault::Blank)], Err(Fault::Blank)),
        ([Ok(new), newer.clone()], newer),
        ([Ok(old.clone()), Ok(other.clone())], Err(Fault::Damaged)),
        ([Ok(Superblock { seq: 2, ..other.clone() }), Ok(old)], Ok(Superblock { seq: 2, ..other })),
    ];
    for (copies, expected) in cases {
        assert_eq!(newest(copies.clone()), expected, "{copies:?}");
    }
}

/// I1, I10: what was promised stays promised, what was applied or committed stays in the log.
#[test]
fn nothing_that_counts_is_taken_back() {
    let mut superblock = empty();
    superblock.promise(Epoch(6));
    superblock.promise(Epoch(5));
    superblock.settle(Seq(30), Seq(20));
    superblock.settle(Seq(29), Seq(19));
    assert_eq!((superblock.promised, superblock.durable, superblock.applied), (Epoch(6), Seq(30), Seq(20)));
    let before = superblock.clone();
    assert_eq!(superblock.begin(&end(40, 33, 25), Seq(25)), Err(Uncut::Counts(Seq(25))));
    assert_eq!(superblock.begin(&end(40, 33, 9), Seq(20)), Err(Uncut::Counts(Seq(20))));
    superblock.trim(Tail { at: Position(3), first: Seq(22), chain: 0 });
    assert_eq!(superblock, before, "write 21 is not in the backing store");
}

/// F14: a log that is made anew is another one, and has nothing of what it held.
#[test]
fn a_log_made_anew_is_of_another_life() {
    let mut superblock = empty();
    superblock.promise(Epoch(6));
    superblock.settle(Seq(30), Seq(20));
    superblock.begin(&end(40, 33, 20), Seq(31)).unwrap();
    superblock.remake(Life(9), Position(50), Seq(21));
    assert_eq!(superblock.identity, Identity { life: Life(9), ..IDENTITY });
    assert_eq!((superblock.promised, superblock.durable, superblock.applied), (Epoch(6), Seq(20), Seq(20)));
    assert_eq!(superblock.tail, Tail { at: Position(50), first: Seq(21), chain: 0 });
    assert_eq!((superblock.run, superblock.cuts.len()), (Run { number: 2, at: Position(50) }, 0));
    assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
}

#[test]
fn what_is_cut_off_is_void_for_as_long_as_it_is_in_the_log() {
    let mut superblock = empty();
    superblock.begin(&end(40, 33, 0), Seq(31)).unwrap();
    superblock.begin(&end(60, 35, 0), Seq(35)).unwrap();
    superblock.begin(&end(90, 50, 0), Seq(30)).unwrap();
    let is_void = |superblock: &Superblock, at, seq| superblock.is_void(Position(at), Seq(seq));
    assert!(is_void(&superblock, 39, 31) && is_void(&superblock, 39, 30) && !is_void(&superblock, 39, 29));
    assert!(is_void(&superblock, 40, 31) && !is_void(&superblock, 90, 30));
    assert_eq!((superblock.durable, superblock.run.number), (Seq(9), 3));
    superblock.settle(Seq(0), Seq(40));
    superblock.trim(Tail { at: Position(40), first: Seq(31), chain: 0 });
    assert_eq!(superblock.cuts.len(), 1, "the first cut is forgotten with the batches before it");
    // Cut twice at one place, and where the log ends before an earlier cut.
    superblock.begin(&end(90, 50, 0), Seq(45)).unwrap();
    superblock.begin(&end(80, 49, 0), Seq(49)).unwrap();
    assert_eq!(superblock.cuts.as_slice(), [Cut { at: Position(80), from: Seq(30) }]);
    assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
}

#[test]
fn the_list_of_cuts_is_bounded() {
    let mut superblock = empty();
    for number in 1..=15 {
        superblock.begin(&end(number * 10, 100, 0), Seq(99)).unwrap();
    }
    let before = superblock.clone();
    assert_eq!(superblock.begin(&end(200, 100, 0), Seq(99)), Err(Uncut::TooMany));
    assert_eq!(superblock, before);
    superblock.begin(&end(200, 100, 0), Seq(100)).unwrap();
    assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock), "a run that cuts nothing finds room");
}

#[test]
fn what_carries_a_good_checksum_and_no_sense_is_damaged() {
    // Reserved, no life, a ring too small, seq 0, a tail behind what is applied, more cuts than there are.
    for (at, byte) in [(42, 1), (44, 0), (49, 0), (56, 0), (96, 12), (108, 1), (108, 200), (4000, 1)] {
        let mut bytes = empty().encode();
        bytes[at] = byte;
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Superblock::parse(&bytes), Err(Fault::Damaged), "byte {at} is {byte}");
    }
    let mut bytes = empty().encode();
    bytes[7] = 2;
    let crc = crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Superblock::parse(&bytes), Err(Fault::NewerFormat { found: 2 }));
    assert_eq!(Superblock::parse(&[0; BLOCK_LEN]), Err(Fault::Blank));
}

proptest! {
    #[test]
    fn a_flipped_bit_is_damage(bit in 0..BLOCK_LEN * 8) {
        let mut bytes = empty().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Superblock::parse(&bytes), Err(Fault::Damaged));
    }
}
