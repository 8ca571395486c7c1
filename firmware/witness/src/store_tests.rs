//! The power is cut at every block that is written, in every way a block can be left, also while the cut
//! before is repaired (V10; F1, F8).

use std::collections::BTreeMap;

use bulkhead_core::id::{Epoch, NodeId, RegisterId, SiteId};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::record::{Payload, Record};
use bulkhead_core::register::voters::{Life, Set, Voters};

use super::*;

const OWNER: Owner = Owner { site: SiteId([9; 16]), node: NodeId(3), life: Life(77) };
const PLACES: usize = 4;

/// How the block under way is left by a cut.
const LEFT: [Left; 4] = [Left::Old, Left::New, Left::Torn, Left::Rotten];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Old,
    New,
    Torn,
    Rotten,
}

#[derive(Clone, Debug)]
struct Disk {
    blocks: BTreeMap<u32, [u8; BLOCK]>,
    /// Writes until the power is cut, and how it leaves the block.
    cut: Option<(usize, Left)>,
    writes: usize,
}

impl Disk {
    fn new() -> Self {
        Self { blocks: BTreeMap::new(), cut: None, writes: 0 }
    }

    fn on(&self, cut: Option<(usize, Left)>) -> Self {
        Self { blocks: self.blocks.clone(), cut, writes: 0 }
    }
}

impl Blocks for Disk {
    fn read(&mut self, at: u32, bytes: &mut [u8; BLOCK]) -> Result<(), Trouble> {
        *bytes = self.blocks.get(&at).copied().unwrap_or([0; BLOCK]);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8; BLOCK]) -> Result<(), Trouble> {
        let mut left = *bytes;
        let number = self.writes;
        self.writes += 1;
        match self.cut {
            Some((cut, _)) if cut < number => return Err(Trouble::Missing),
            Some((cut, how)) if cut == number => {
                let old = self.blocks.get(&at).copied().unwrap_or([0; BLOCK]);
                match how {
                    Left::Old => left = old,
                    Left::New => {}
                    Left::Torn => left[BLOCK / 2..].copy_from_slice(&old[BLOCK / 2..]),
                    Left::Rotten => left = [0xa5; BLOCK],
                }
                self.blocks.insert(at, left);
                return Err(Trouble::Missing);
            }
            Some(_) | None => {}
        }
        self.blocks.insert(at, left);
        Ok(())
    }
}

fn stored(place: u16, seq: u64) -> Stored {
    let voters = Voters::settled(Set::on([1, 2, 3].map(NodeId)).unwrap());
    let holder = Some(NodeId(1));
    let record = Record { epoch: Epoch(seq), holder, voters, payload: Payload::new() };
    let ballot = Ballot::new(seq, NodeId(1));
    Stored { register: RegisterId(place * 2 + 1), seq, promised: ballot, accepted: Some((ballot, record)) }
}

/// A voter that never voted.
fn format(disk: &mut Disk, owner: &Owner) {
    for offset in [0, STRIDE] {
        disk.blocks.insert(at(offset), owner.encode());
    }
}

type Votes = Store<Disk, PLACES>;

fn open(disk: Disk) -> Result<(Votes, Vec<Stored>), (Disk, Unusable)> {
    let mut found = Vec::new();
    Store::open(disk, OWNER, |stored| found.push(stored)).map(|store| (store, found))
}

fn formatted() -> Disk {
    let mut disk = Disk::new();
    format(&mut disk, &OWNER);
    disk
}

/// Registers that come, change, and are copied when there is time. Returns how far each got: what was
/// answered, and what was begun.
fn work(store: &mut Votes, acked: &mut [u64; 3], begun: &mut [u64; 3]) {
    for (step, place) in [0, 1, 0, 0, 2, 1, 0, 2, 2, 1].into_iter().enumerate() {
        let seq = begun[usize::from(place)] + 1;
        begun[usize::from(place)] = seq;
        if store.persist(place, &stored(place, seq).encode(&OWNER)).is_err() {
            return;
        }
        acked[usize::from(place)] = seq;
        if step % 3 == 2 && store.settle().is_err() {
            return;
        }
    }
}

fn check(found: &[Stored], acked: &[u64; 3], begun: &[u64; 3], what: &str) {
    for place in 0..3_u16 {
        let (acked, begun) = (acked[usize::from(place)], begun[usize::from(place)]);
        let seq = found.get(usize::from(place)).map_or(0, |stored| stored.seq);
        assert!((acked..=begun).contains(&seq), "{what}: place {place} has {seq}, answered {acked}");
        if seq != 0 {
            assert_eq!(found[usize::from(place)], stored(place, seq), "{what}");
        }
    }
}

#[test]
fn no_cut_loses_what_was_answered() {
    let (mut cuts, start) = (0, formatted());
    for first in 0.. {
        let mut is_past_the_end = false;
        for left in LEFT {
            let (mut acked, mut begun) = ([0; 3], [0; 3]);
            let (mut store, found) = open(start.on(Some((first, left)))).map_err(|(_, why)| why).unwrap();
            assert!(found.is_empty());
            work(&mut store, &mut acked, &mut begun);
            is_past_the_end |= store.failed().is_none();
            let disk = store.blocks().on(None);
            for second in 0.. {
                // The repair itself is cut, at each of its writes; what it leaves is repaired.
                let what = format!("cut at {first} {left:?}, then at {second}");
                let cut = open(disk.on(Some((second, left))));
                let whole = cut.is_ok();
                let after = match cut {
                    Ok((mut store, _)) => store.blocks().on(None),
                    Err((disk, why)) => {
                        assert_eq!(why, Unusable::Card(Trouble::Missing), "{what}");
                        disk.on(None)
                    }
                };
                let (mut store, found) = open(after).map_err(|(_, why)| why).expect(&what);
                check(&found, &acked, &begun, &what);
                // And it goes on as if nothing had been.
                let seqs = |place: usize| found.get(place).map_or(0, |stored| stored.seq);
                let (mut acked, mut begun) = ([0, 1, 2].map(seqs), [0, 1, 2].map(seqs));
                work(&mut store, &mut acked, &mut begun);
                let (_, found) = open(store.blocks().on(None)).map_err(|(_, why)| why).expect(&what);
                check(&found, &acked, &acked, &what);
                cuts += 1;
                if whole {
                    break;
                }
            }
        }
        if is_past_the_end {
            break;
        }
    }
    assert!(100 < cuts, "{cuts} cuts");
}

/// F1: once both copies are written, either may rot; when both do, the voter does not guess.
#[test]
fn one_rotten_copy_is_repaired_and_two_are_not_guessed() {
    let (mut store, _) = open(formatted()).map_err(|(_, why)| why).unwrap();
    store.persist(0, &stored(0, 1).encode(&OWNER)).unwrap();
    store.persist(0, &stored(0, 2).encode(&OWNER)).unwrap();
    while store.settle().unwrap() {}
    let disk = store.blocks().on(None);
    for copies in [&[0][..], &[1], &[0, 1]] {
        let mut rotten = disk.clone();
        copies.iter().for_each(|copy| rotten.blocks.get_mut(&block(0, *copy)).unwrap()[70] ^= 1);
        match open(rotten) {
            Ok((mut store, found)) => {
                assert!(copies.len() == 1 && found == [stored(0, 2)]);
                assert_eq!(store.blocks().blocks, disk.blocks);
            }
            Err((_, why)) => {
                assert_eq!((copies.len(), why), (2, Unusable::Fault(Some(0), Fault::Damaged)));
            }
        }
    }
}

/// V13: after one failure nothing is called durable again, whatever the card says.
#[test]
fn a_card_that_failed_once_is_not_believed() {
    let (mut store, _) = open(formatted()).map_err(|(_, why)| why).unwrap();
    store.blocks.cut = Some((0, Left::Old));
    assert_eq!(store.persist(0, &stored(0, 1).encode(&OWNER)), Err(Trouble::Missing));
    store.blocks.cut = None;
    assert_eq!(store.persist(1, &stored(1, 1).encode(&OWNER)), Err(Trouble::Missing));
    assert_eq!((store.settle(), store.failed()), (Ok(false), Some(Trouble::Missing)));
}

/// Another card in the slot is no card of this voter, whatever it holds.
#[test]
fn a_card_that_was_exchanged_is_not_written_to() {
    let (mut store, _) = open(formatted()).map_err(|(_, why)| why).unwrap();
    assert_eq!(store.look(), Ok(()));
    format(&mut store.blocks, &Owner { life: Life(78), ..OWNER });
    assert_eq!(store.look(), Err(Trouble::Refused));
    assert_eq!(store.persist(0, &stored(0, 1).encode(&OWNER)), Err(Trouble::Refused));
}

#[test]
fn what_is_not_ours_is_refused() {
    let other = Owner { node: NodeId(4), ..OWNER };
    let mut disk = Disk::new();
    assert_eq!(open(disk.clone()).unwrap_err().1, Unusable::Fault(None, Fault::Blank));
    format(&mut disk, &other);
    assert_eq!(open(disk).unwrap_err().1, Unusable::Foreign(other));
    let mut gap = formatted();
    gap.blocks.insert(block(1, 0), stored(1, 1).encode(&OWNER));
    assert_eq!(open(gap).unwrap_err().1, Unusable::Misplaced(1));
    let mut mixed = formatted();
    mixed.blocks.insert(block(0, 0), stored(0, 1).encode(&OWNER));
    mixed.blocks.insert(block(0, 1), stored(1, 9).encode(&OWNER));
    assert_eq!(open(mixed).unwrap_err().1, Unusable::Misplaced(0));
}
