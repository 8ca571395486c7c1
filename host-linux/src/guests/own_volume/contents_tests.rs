//! An own volume under power cuts, damage, and without room.

use super::super::table::ENTRIES_MAX;
use super::super::table::tests::snapshot;
use super::super::testing::{Blocks, Deed, Disk, effects};
use super::*;
use std::collections::BTreeMap;
use std::io::Write as _;

const BLOCKS: u64 = 900;

type Held = BTreeMap<What, Vec<u8>>;

/// Content of its own, of so many bytes.
fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| seed ^ (at.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect()
}

/// All that is in a volume, read to the end.
fn held(contents: &Contents<&Disk>) -> Held {
    let read = |entry: &Entry| {
        let mut bytes = Vec::new();
        contents.read(&entry.what).unwrap().read_to_end(&mut bytes).unwrap();
        (entry.what.clone(), bytes)
    };
    contents.table().entries().iter().map(read).collect()
}

/// What is done in one change: parts that are put there, or with `None` taken out.
type Scene = Vec<(What, Option<Vec<u8>>)>;

fn play(contents: Contents<&Disk>, scene: &Scene) -> Result<()> {
    let mut change = contents.change();
    for (what, bytes) in scene {
        match (what, bytes) {
            (_, None) => drop(change.remove(what)),
            (What::Snapshot(_), Some(bytes)) => {
                let mut out = change.stream()?;
                bytes.chunks(70_001).try_for_each(|piece| out.write_all(piece))?;
                let filled = out.finish()?;
                change.keep(what.clone(), 1, filled)?;
            }
            (_, Some(bytes)) => change.put(what.clone(), 1, bytes.len() as u64, &mut &bytes[..])?,
        }
    }
    change.commit().map(drop)
}

fn scenes() -> Vec<Scene> {
    let put = |what: What, seed, length| (what, Some(content(seed, length)));
    vec![
        vec![
            put(What::Description, 1, 300),
            put(What::Kernel, 2, 3 * BLOCK + 1),
            put(What::Initrd, 3, 2 * BLOCK),
        ],
        vec![put(snapshot("last"), 4, 10 * BLOCK - 5)],
        vec![put(snapshot("last"), 5, (1 << 20) + 2 * BLOCK)],
        vec![put(snapshot("last"), 6, 2 * BLOCK), put(snapshot("other"), 6, 0)],
        vec![(What::Initrd, None), put(What::Kernel, 8, 2 * BLOCK), put(What::Description, 7, 301)],
        vec![put(snapshot("last"), 9, 7 * BLOCK)],
        vec![(snapshot("other"), None)],
    ]
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What a cut before `cut` can leave of these deeds: what was flushed, and of the rest any blocks, of which
/// one may be half written.
fn outcomes(before: &Blocks, deeds: &[Deed], cut: usize, dice: &mut Dice) -> Vec<Blocks> {
    let (done, _) = deeds.split_at(cut);
    let flushed = done.iter().rposition(|deed| *deed == Deed::Flush).unwrap_or(0);
    let mut durable = before.clone();
    let (sure, open) = done.split_at(flushed);
    sure.iter().for_each(|deed| durable.extend(effects(deed)));
    let open: Vec<_> = open.iter().flat_map(effects).collect();
    let every = 1_u64.checked_shl(u32::try_from(open.len()).unwrap()).filter(|all| *all <= 256);
    let masks: Vec<Vec<bool>> = match every {
        Some(all) => (0..all).map(|mask| (0..open.len()).map(|at| mask >> at & 1 == 1).collect()).collect(),
        None => {
            let of = |share: u64, dice: &mut Dice| (0..open.len()).map(|_| dice.roll() % 4 < share).collect();
            (0..20).map(|number| of(number % 5, dice)).collect()
        }
    };
    let mut left = Vec::new();
    for mask in masks {
        let kept: Vec<_> =
            open.iter().zip(mask).filter(|(_, kept)| *kept).map(|(effect, _)| effect).collect();
        let mut blocks = durable.clone();
        blocks.extend(kept.iter().map(|(at, bytes)| (*at, bytes.clone())));
        if let Some((at, bytes)) = kept.last() {
            let mut torn = blocks.clone();
            let old = durable.get(at).cloned().unwrap_or_else(|| vec![0; BLOCK]);
            let half = 512 * (1 + usize::try_from(dice.roll() % 7).unwrap());
            torn.insert(*at, [&bytes[..half], &old[half..]].concat());
            left.push(torn);
        }
        left.push(blocks);
    }
    left
}

/// V1: the power is cut at every write of every change, and any of what was not flushed is lost. What was
/// there before, or what was to be there, is there, and whole; and the next change succeeds.
#[test]
fn a_cut_leaves_the_old_or_the_new() {
    let (mut dice, mut blocks, mut points) = (Dice(0x51a2_77c3), Blocks::new(), 0);
    for (number, scene) in scenes().iter().enumerate() {
        let disk = Disk::new(BLOCKS, blocks.clone());
        let before = held(&Contents::open_new(&disk).unwrap());
        play(Contents::open_new(&disk).unwrap(), scene).unwrap();
        let after = held(&Contents::open(&disk).unwrap());
        assert_ne!(before, after, "scene {number} changes nothing");
        let deeds = disk.deeds.borrow().clone();
        for cut in 0..=deeds.len() {
            for left in outcomes(&blocks, &deeds, cut, &mut dice) {
                points += 1;
                let left = Disk::new(BLOCKS, left);
                let found = held(&Contents::open_new(&left).unwrap());
                let is_old = found == before;
                assert!(is_old || found == after, "scene {number}, cut {cut}: {:?}", found.keys());
                assert!(!(is_old && cut == deeds.len()), "scene {number}: it was said to be done");
                play(Contents::open_new(&left).unwrap(), &vec![(snapshot("next"), Some(vec![1; 9000]))])
                    .unwrap();
                let mut next = held(&Contents::open(&left).unwrap());
                assert_eq!(next.remove(&snapshot("next")), Some(vec![1; 9000]));
                assert_eq!(next, found, "scene {number}, cut {cut}");
            }
        }
        blocks = disk.blocks.into_inner();
    }
    println!("{points} cut points");
    assert!(points > 500, "{points} cut points");
}

/// Once one was made, one copy of the table may be lost: the other one is there.
#[test]
fn one_copy_of_the_table_may_be_lost() {
    let disk = Disk::new(BLOCKS, Blocks::new());
    let scenes = scenes();
    play(Contents::open_new(&disk).unwrap(), &scenes[0]).unwrap();
    let made = held(&Contents::open(&disk).unwrap());
    for copy in [0, 1] {
        let hurt = disk.clone();
        hurt.blocks.borrow_mut().insert(copy, b"BHOWNVOL".repeat(512));
        assert_eq!(held(&Contents::open(&hurt).unwrap()), made, "without copy {copy}");
    }
    disk.blocks.borrow_mut().extend([(0, b"BHOWNVOL".repeat(512)), (1, b"BHOWNVOL".repeat(512))]);
    for opened in [Contents::open(&disk), Contents::open_new(&disk)] {
        assert!(matches!(opened, Err(NotOpen::Unsound(Unsound::Damaged))), "{opened:?}");
    }
    let empty = Disk::new(BLOCKS, Blocks::new());
    assert!(matches!(Contents::open(&empty), Err(NotOpen::Unsound(Unsound::Empty))));
    let foreign = Disk::new(BLOCKS, [(1, vec![9; BLOCK])].into());
    assert!(matches!(Contents::open_new(&foreign), Err(NotOpen::Unsound(Unsound::NotOurs))));
    assert!(matches!(Contents::open(&Disk::new(1, Blocks::new())), Err(NotOpen::Io(_))));
}

/// A content that was changed in any bit is not handed out as whole; one of many pieces is whole.
#[test]
fn content_that_is_not_what_was_written_is_refused() {
    let disk = Disk::new(10_000, Blocks::new());
    let long = content(3, (12 << 20) + 77);
    play(Contents::open_new(&disk).unwrap(), &vec![(snapshot("long"), Some(long.clone()))]).unwrap();
    assert_eq!(held(&Contents::open(&disk).unwrap())[&snapshot("long")], long);
    let first = Contents::open(&disk).unwrap().table().entries()[0].first;
    for (at, byte) in [(first, 0), (first + 2000, 4095), (first + (12 << 8), 76)] {
        let hurt = disk.clone();
        hurt.blocks.borrow_mut().get_mut(&at).unwrap()[byte] ^= 4;
        let contents = Contents::open(&hurt).unwrap();
        let read = contents.read(&snapshot("long")).unwrap().read_to_end(&mut Vec::new());
        assert_eq!(read.unwrap_err().kind(), ErrorKind::InvalidData, "{at}");
    }
    assert!(Contents::open(&disk).unwrap().read(&What::Kernel).is_none());
}

/// What finds no room changes nothing, and says how much there is.
#[test]
fn a_volume_that_is_full_keeps_what_it_has() {
    let disk = Disk::new(20, Blocks::new());
    let scene = |what, length| vec![(what, Some(content(1, length)))];
    play(Contents::open_new(&disk).unwrap(), &scene(snapshot("a"), 10 * BLOCK)).unwrap();
    let made = held(&Contents::open(&disk).unwrap());
    let fails = |what, length| {
        let why = play(Contents::open(&disk).unwrap(), &scene(what, length)).unwrap_err();
        assert_eq!(
            (why.kind(), held(&Contents::open(&disk).unwrap())),
            (ErrorKind::StorageFull, made.clone())
        );
        why.to_string()
    };
    assert!(fails(What::Kernel, 9 * BLOCK).contains(&(8 * BLOCK).to_string()));
    // What replaces something needs room beside it: there is no moment without one of both.
    fails(snapshot("a"), 9 * BLOCK);
    fails(snapshot("b"), 8 * BLOCK + 1);
    play(Contents::open(&disk).unwrap(), &scene(snapshot("a"), 8 * BLOCK)).unwrap();
    play(Contents::open(&disk).unwrap(), &scene(snapshot("b"), 10 * BLOCK)).unwrap();
    assert_eq!(held(&Contents::open(&disk).unwrap()).len(), 2);

    let disk = Disk::new(200, Blocks::new());
    for number in 0..ENTRIES_MAX {
        play(Contents::open_new(&disk).unwrap(), &scene(snapshot(&number.to_string()), 1)).unwrap();
    }
    let why = play(Contents::open(&disk).unwrap(), &scene(snapshot("more"), 1)).unwrap_err();
    assert!(why.to_string().contains("as many snapshots"), "{why}");
    let short = Contents::open(&disk).unwrap().change().put(What::Kernel, 1, 9, &mut &b"short"[..]);
    assert_eq!(short.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}
