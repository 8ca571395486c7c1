//! S3-04, S3-08, S3-14, S3-18: the most important guests first, a few at once, none without room, and none
//! forgotten, whatever happens.

use core::num::{NonZeroU8, NonZeroU32};
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::placement::amounts::Amounts;
use crate::volume::guest::{Failover, Needs};

const MANY: usize = 16;

fn guest(priority: u8) -> Guest {
    Guest { is_wanted: true, failover: Failover::Restart, priority, home: None, apart: None, needs: None }
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

/// A table of guests that were all looked at, and are down.
fn down(at_once: usize, priorities: &[u8]) -> Table<MANY> {
    let mut table = Table::new(at_once);
    table.lead((1..).map(Volume).zip(priorities.iter().copied().map(guest)));
    for number in 1..=u16::try_from(priorities.len()).unwrap() {
        assert_eq!(table.next(at(0)), None, "not all were looked at");
        table.see(at(0), Volume(number), Sight::Gone);
    }
    table
}

fn all_next(table: &mut Table<MANY>, now: Instant) -> Vec<u16> {
    core::iter::from_fn(|| table.next(now)).map(|begin| begin.guest.0).collect()
}

#[test]
fn the_most_important_begin_first_a_few_at_once() {
    let mut table = down(2, &[5, 9, 0, 9, 255]);
    assert_eq!(all_next(&mut table, at(0)), [5, 2]);
    table.begun(at(1), Volume(2), true);
    assert_eq!(all_next(&mut table, at(1)), [4]);
    table.begun(at(1), Volume(4), false);
    table.begun(at(1), Volume(5), true);
    // Who failed first is tried again at once, and is more important than the rest.
    assert_eq!(all_next(&mut table, at(1)), [4, 1]);
    table.begun(at(2), Volume(4), false);
    assert_eq!(all_next(&mut table, at(2)), [3], "it waits, and the others do not wait for it");
    assert_eq!(table.deadline(), Some(at(3)));
    table.begun(at(2), Volume(1), true);
    assert_eq!(all_next(&mut table, at(3)), [4]);
}

#[test]
fn what_is_wanted_changes_while_it_leads() {
    let mut table = down(1, &[1, 2]);
    assert_eq!(all_next(&mut table, at(0)), [2]);
    let both = [(Volume(1), guest(1)), (Volume(3), guest(3))];
    table.lead(both.into_iter());
    assert_eq!(table.next(at(0)), None, "guest 3 was not looked at");
    table.see(at(0), Volume(3), Sight::Runs);
    table.begun(at(0), Volume(2), true);
    assert_eq!(all_next(&mut table, at(0)), [1], "guest 2 is none any more, nor its start");
    let modes =
        |table: &Table<MANY>| table.guests().map(|(of, life)| (of.0, life.mode())).collect::<Vec<_>>();
    assert_eq!(modes(&table), [(1, Mode::Starting), (3, Mode::Running)]);
    table.lose();
    assert_eq!((modes(&table).len(), table.next(at(9)), table.deadline()), (0, None, None));
    // A start of the last reign says nothing in this one.
    table.lead(both.into_iter());
    table.begun(at(9), Volume(1), true);
    assert_eq!(modes(&table), [(1, Mode::Unseen), (3, Mode::Unseen)]);
    assert_eq!(Table::<MANY>::new(0).at_once, 1);
}

fn needs(memory: u32) -> Option<Needs> {
    Some(Needs { memory: NonZeroU32::new(memory)?, processors: NonZeroU8::MIN })
}

/// A table of a node with so many MiB for guests of these priorities and so much memory, all of them down.
fn crowded(memory: u64, guests: &[(u8, u32)]) -> Table<MANY> {
    let mut table = Table::in_room(MANY, Amounts([memory, 64]));
    let guests = guests.iter().map(|(priority, memory)| Guest { needs: needs(*memory), ..guest(*priority) });
    table.lead((1..).map(Volume).zip(guests));
    for number in 1..=u16::try_from(MANY).unwrap() {
        table.see(at(0), Volume(number), Sight::Gone);
    }
    table
}

fn lacking(table: &Table<MANY>) -> Vec<(u16, u64)> {
    table.guests().filter_map(|(of, life)| Some((of.0, life.lacks()?.lacks))).collect()
}

/// S3-14, S3-18, S1-40: room goes to the most important, what is left to who fits; the others wait for it.
#[test]
fn who_has_no_room_waits_for_it() {
    let guests = [(5, 6), (9, 6), (1, 4), (1, 1)];
    let mut table = crowded(10, &guests);
    assert_eq!(all_next(&mut table, at(0)), [2, 3]);
    assert_eq!(lacking(&table), [(1, 6), (4, 1)]);
    for number in [2, 3] {
        table.begun(at(1), Volume(number), true);
        table.see(at(1), Volume(number), Sight::Runs);
    }
    // Guest 2 is to end: it has its room until it has.
    let mut wanted = guests.map(|(priority, memory)| Guest { needs: needs(memory), ..guest(priority) });
    wanted[1].is_wanted = false;
    table.lead((1..).map(Volume).zip(wanted));
    table.see(at(2), Volume(2), Sight::Runs);
    assert_eq!(all_next(&mut table, at(2)).len(), 0);
    table.see(at(3), Volume(2), Sight::Ended);
    assert_eq!(all_next(&mut table, at(3)), [1], "and guest 4 has none beside guests 1 and 3");
    assert_eq!(lacking(&table), [(4, 1)]);
}

/// S3-18: a node that has more room begins who waited; who runs goes on where it has less.
#[test]
fn a_node_has_more_room_or_less() {
    let mut table = crowded(4, &[(9, 4), (5, 3)]);
    assert_eq!((all_next(&mut table, at(0)), lacking(&table)), (vec![1], vec![(2, 3)]));
    table.begun(at(0), Volume(1), true);
    table.resize(Amounts([7, 64]));
    assert_eq!((all_next(&mut table, at(1)), lacking(&table)), (vec![2], vec![]));
    table.begun(at(1), Volume(2), true);
    table.resize(Amounts([1, 64]));
    assert_eq!(all_next(&mut table, at(2)), []);
    assert!(table.guests().all(|(_, life)| life.mode() == Mode::Running));
}

/// S4-04: what is kept for guests whose turn comes is what those take that have room and were not begun yet.
#[test]
fn room_is_kept_until_their_turn_comes() {
    let mut table = crowded(10, &[(5, 3), (9, 4), (1, 2), (1, 9)]);
    table.at_once = 1;
    let kept = |table: &Table<MANY>| table.awaited();
    assert_eq!(all_next(&mut table, at(0)), [2]);
    assert_eq!(kept(&table), Amounts([5, 2]), "guests 1 and 3; there is no room for guest 4");
    table.begun(at(1), Volume(2), true);
    assert_eq!((all_next(&mut table, at(1)), kept(&table)), (vec![1], Amounts([2, 1])));
    table.begun(at(2), Volume(1), false);
    assert_eq!((all_next(&mut table, at(2)), kept(&table)), (vec![1], Amounts([2, 1])), "it is tried again");
    table.begun(at(3), Volume(1), false);
    assert_eq!((all_next(&mut table, at(3)), kept(&table)), (vec![3], Amounts([3, 1])), "and waits then");
    table.lose();
    assert_eq!(kept(&table), Amounts::NONE);
}

/// Who is there already is not sent away; who fails keeps its room.
#[test]
fn room_is_kept_for_those_that_have_it() {
    let mut table = crowded(10, &[(9, 6), (1, 5)]);
    table.see(at(0), Volume(2), Sight::Runs);
    assert_eq!((all_next(&mut table, at(0)), lacking(&table)), (vec![], vec![(1, 1)]));
    let mut table = crowded(10, &[(9, 6), (1, 5)]);
    assert_eq!(all_next(&mut table, at(0)), [1]);
    for failures in 0..9 {
        table.begun(at(failures * 100), Volume(1), false);
        assert_eq!(all_next(&mut table, at(failures * 100)), if failures == 0 { vec![1] } else { vec![] });
        assert_eq!(lacking(&table), [(2, 1)], "after {failures} failures");
        assert_eq!(
            all_next(&mut table, at(failures * 100 + 99)),
            if failures == 0 { vec![] } else { vec![1] }
        );
    }
}

/// What happens to a site of a few guests.
#[derive(Clone, Debug)]
enum Happens {
    /// What is wanted of a guest changes; `None`: it is deleted.
    Wanted(u16, Option<Guest>),
    /// Its process dies, by its own will or not.
    Dies(u16, bool),
    /// A start that is under way ends.
    Begun(u16, bool),
    /// All are looked at.
    Looked,
    /// Another node has led meanwhile.
    Lost,
    /// Time passes.
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let failover = prop_oneof![Just(Failover::Restart), Just(Failover::Resume)];
    let guest = (any::<bool>(), failover, 0..3_u8);
    let guest = guest.prop_map(|(is_wanted, failover, priority)| Guest {
        is_wanted,
        failover,
        priority,
        home: None,
        apart: None,
        needs: None,
    });
    let wanted = (1..6_u16, prop::option::weighted(0.9, guest));
    prop_oneof![
        3 => wanted.prop_map(|(of, guest)| Happens::Wanted(of, guest)),
        2 => (1..6_u16, any::<bool>()).prop_map(|(of, own)| Happens::Dies(of, own)),
        6 => (1..6_u16, prop::bool::weighted(0.7)).prop_map(|(of, done)| Happens::Begun(of, done)),
        6 => Just(Happens::Looked),
        1 => Just(Happens::Lost),
        2 => (0..3_000_u64).prop_map(Happens::Passes),
    ]
}

/// A node with its processes.
#[derive(Default)]
struct World {
    now: u64,
    wanted: BTreeMap<u16, Guest>,
    /// Those that run, and how those that do not have ended.
    sights: BTreeMap<u16, Sight>,
    begun: BTreeMap<u16, How>,
}

impl World {
    fn now(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn runs(&self, guest: u16) -> bool {
        self.sights.get(&guest) == Some(&Sight::Runs)
    }

    fn lead(&self, table: &mut Table<MANY>) {
        table.lead(self.wanted.iter().map(|(of, guest)| (Volume(*of), *guest)));
    }

    fn look(&self, table: &mut Table<MANY>) {
        for of in self.wanted.keys() {
            let sight = self.sights.get(of).copied().unwrap_or(Sight::Gone);
            table.see(self.now(), Volume(*of), sight);
        }
    }

    fn happens(&mut self, table: &mut Table<MANY>, what: Happens) {
        match what {
            Happens::Wanted(of, Some(guest)) => {
                self.wanted.insert(of, Guest { needs: needs(of.into()), ..guest });
            }
            Happens::Wanted(of, None) => {
                self.wanted.remove(&of);
                // One that is made afterwards is another guest: this one is not seen by its name.
                self.sights.remove(&of);
            }
            Happens::Dies(of, own) if self.runs(of) => {
                self.sights.insert(of, if own { Sight::Ended } else { Sight::Gone });
            }
            Happens::Begun(of, is_done) if self.begun.remove(&of).is_some() => {
                if is_done {
                    self.sights.insert(of, Sight::Runs);
                }
                table.begun(self.now(), Volume(of), is_done);
            }
            Happens::Looked => self.look(table),
            Happens::Lost => {
                table.lose();
                // Whoever led meanwhile had them, and no process of here outlives that.
                self.sights.clear();
                self.begun.clear();
            }
            Happens::Passes(millis) => self.now += millis,
            Happens::Dies(..) | Happens::Begun(..) => {}
        }
        self.lead(table);
    }

    /// Begins what is to be begun, and looks whether it may be.
    fn begin(&mut self, table: &mut Table<MANY>, at_once: usize, room: u64) {
        while let Some(Begin { guest, how }) = table.next(self.now()) {
            let known = self.wanted.get(&guest.0);
            assert!(known.is_some_and(|known| known.is_wanted), "{guest:?} is not wanted");
            assert!(!self.runs(guest.0), "{guest:?} runs already");
            assert_eq!(self.begun.insert(guest.0, how), None, "{guest:?} is begun twice");
            assert!(self.begun.len() <= at_once + self.strangers(), "too many at once");
            assert!(self.taken() <= room, "more is taken than there is");
            let waits = |(of, life): (Volume, &Life)| {
                life.mode() == Mode::Down
                    && life.lacks().is_none()
                    && known.is_some_and(|known| known.priority < life.wanted().priority)
                    && of != guest
            };
            assert!(!table.guests().any(waits), "something more important waits");
        }
    }

    /// What those take that run or are begun: each as many MiB as its number.
    fn taken(&self) -> u64 {
        let has = |of: &&u16| self.runs(**of) || self.begun.contains_key(*of);
        self.wanted.keys().filter(has).map(|of| u64::from(*of)).sum()
    }

    /// Starts of guests that were deleted meanwhile: the table does not know of them.
    fn strangers(&self) -> usize {
        self.begun.keys().filter(|of| !self.wanted.contains_key(of)).count()
    }
}

proptest! {
    /// Whatever happens, none is begun that runs, is begun already or is not wanted; and when nothing more
    /// happens, every guest that is wanted runs, but those that ended themselves and those without room.
    #[test]
    fn no_guest_is_begun_twice_or_forgotten(
        story in prop::collection::vec(happens(), 0..120), at_once in 1..4_usize, room in 3..16_u64,
    ) {
        let mut world = World::default();
        let mut table = Table::<MANY>::in_room(at_once, Amounts([room, 64]));
        world.lead(&mut table);
        for what in story {
            // A guest that is deleted while it is begun and made again is another volume in a real site.
            if matches!(&what, Happens::Wanted(of, _) if world.begun.contains_key(of)) {
                continue;
            }
            world.happens(&mut table, what);
            world.begin(&mut table, at_once, room);
        }
        for _ in 0..40 {
            world.look(&mut table);
            world.begin(&mut table, at_once, room);
            for of in world.begun.keys().copied().collect::<Vec<_>>() {
                world.happens(&mut table, Happens::Begun(of, true));
            }
            world.now += 64_000;
        }
        world.look(&mut table);
        for (of, life) in table.guests() {
            let expected = match life.wanted().is_wanted {
                false => &[Mode::Off][..],
                true if world.runs(of.0) => &[Mode::Running],
                true if room < world.taken() + u64::from(of.0) => &[Mode::Down, Mode::Left],
                true => &[Mode::Left],
            };
            prop_assert!(expected.contains(&life.mode()), "{:?} is {:?}", of, life);
            let has_ended = world.sights.get(&of.0) == Some(&Sight::Ended);
            prop_assert!(life.mode() != Mode::Left || has_ended, "{of:?} is left down");
        }
    }
}
