//! S4-02: each algorithm against a model that does the same with plain lists, by the letter of its paper;
//! small traces by hand; what a scan does to whom; what it costs.

use std::collections::BTreeSet;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const ALL: [Algorithm; 3] = [Algorithm::Lru, Algorithm::Clock, Algorithm::Arc];

fn key(block: u64) -> Key {
    Key::new(Volume(1), BlockIndex(block)).unwrap()
}

fn residents(cells: u32, algorithm: Algorithm) -> Residents<Vec<Entry>> {
    Residents::new(vec![Entry::EMPTY; entries_for(cells)], algorithm)
}

/// A read, of a block that is fetched if it must be. Whether it was there, and who had to leave.
fn read(residents: &mut Residents<Vec<Entry>>, key: Key) -> (bool, Option<Key>) {
    match residents.look_up(key) {
        Some(_) => (true, None),
        None => (false, residents.admit(key).and_then(|admitted| admitted.evicted)),
    }
}

fn read_all(residents: &mut Residents<Vec<Entry>>, blocks: impl IntoIterator<Item = u64>) {
    for block in blocks {
        read(residents, key(block));
    }
}

fn entries(residents: &Residents<Vec<Entry>>, list: List) -> Vec<Holds> {
    let mut all = Vec::new();
    let mut at = residents.lists.oldest(list);
    while let Some(one) = at {
        all.push(residents.lists.holds(one));
        at = residents.lists.newer(one);
    }
    assert_eq!(all.len(), usize::try_from(residents.lists.count(list)).unwrap(), "a list has its length");
    all
}

/// The names in a list, from the oldest to the newest.
fn names(residents: &Residents<Vec<Entry>>, list: List) -> Vec<Key> {
    entries(residents, list).into_iter().filter_map(Holds::key).collect()
}

/// What must be so between any two operations.
fn check(residents: &Residents<Vec<Entry>>) {
    let lists = [
        List::Empty,
        List::Vacant,
        List::Blocks(Part::Recent),
        List::Blocks(Part::Frequent),
        List::Ghosts(Part::Recent),
        List::Ghosts(Part::Frequent),
    ];
    let all: Vec<_> = lists.into_iter().flat_map(|list| entries(residents, list)).collect();
    assert_eq!(all.len(), entries_for(residents.cells), "every entry is in one list");
    let mut cells: Vec<_> = all
        .iter()
        .filter_map(|holds| match holds {
            Holds::Block { cell, .. } | Holds::Vacancy(cell) => Some(*cell),
            Holds::Nothing | Holds::Ghost { .. } => None,
        })
        .collect();
    cells.sort_unstable();
    assert_eq!(cells, (0..residents.cells).map(Cell).collect::<Vec<_>>(), "every cell is somewhere, once");
    let named: Vec<_> = all.iter().filter_map(|holds| holds.key()).collect();
    let different: BTreeSet<_> = named.iter().collect();
    assert_eq!(different.len(), named.len(), "no name stands twice");
    for (key, holds) in all.iter().filter_map(|holds| Some((holds.key()?, holds))) {
        assert_eq!(residents.lists.find(key).map(|at| residents.lists.holds(at)), Some(*holds));
    }
    let count = |list| residents.lists.count(list);
    let once = count(List::Blocks(Part::Recent)) + count(List::Ghosts(Part::Recent));
    assert!(once <= residents.cells && residents.target <= residents.cells);
}

/// The same with plain lists, the oldest first.
struct Model {
    algorithm: Algorithm,
    cells: usize,
    t1: Vec<Key>,
    t2: Vec<Key>,
    b1: Vec<Key>,
    b2: Vec<Key>,
    marked: BTreeSet<Key>,
    p: usize,
}

fn take(list: &mut Vec<Key>, key: Key) -> bool {
    let before = list.len();
    list.retain(|one| *one != key);
    list.len() < before
}

impl Model {
    fn new(cells: usize, algorithm: Algorithm) -> Self {
        let none = Vec::new;
        let (t1, t2, b1, b2) = (none(), none(), none(), none());
        Self { algorithm, cells, t1, t2, b1, b2, marked: BTreeSet::new(), p: 0 }
    }

    fn read(&mut self, key: Key) -> (bool, Option<Key>) {
        match self.algorithm {
            Algorithm::Lru => {
                let is_hit = take(&mut self.t1, key);
                self.t1.push(key);
                let is_over = self.cells < self.t1.len();
                (is_hit, is_over.then(|| self.t1.remove(0)))
            }
            Algorithm::Clock => {
                if self.t1.contains(&key) {
                    self.marked.insert(key);
                    return (true, None);
                }
                if self.t1.len() < self.cells {
                    self.t1.push(key);
                    return (false, None);
                }
                while self.marked.remove(&self.t1[0]) {
                    self.t1.rotate_left(1);
                }
                self.t1.push(key);
                (false, Some(self.t1.remove(0)))
            }
            Algorithm::Arc => self.read_arc(key),
        }
    }

    /// Figure 4 of the paper, case by case.
    fn read_arc(&mut self, key: Key) -> (bool, Option<Key>) {
        let c = self.cells;
        let (n1, n2) = (self.b1.len(), self.b2.len());
        if take(&mut self.t1, key) || take(&mut self.t2, key) {
            self.t2.push(key);
            return (true, None);
        }
        let evicted;
        if self.b1.contains(&key) {
            self.p = c.min(self.p + if n2 <= n1 { 1 } else { n2 / n1 });
            evicted = self.replace(key);
            take(&mut self.b1, key);
            self.t2.push(key);
        } else if self.b2.contains(&key) {
            self.p = self.p.saturating_sub(if n1 <= n2 { 1 } else { n1 / n2 });
            evicted = self.replace(key);
            take(&mut self.b2, key);
            self.t2.push(key);
        } else {
            if self.t1.len() + n1 == c {
                if self.t1.len() < c {
                    self.b1.remove(0);
                    evicted = self.replace(key);
                } else {
                    evicted = Some(self.t1.remove(0));
                }
            } else {
                if self.t1.len() + self.t2.len() + n1 + n2 == 2 * c {
                    self.b2.remove(0);
                }
                evicted = self.replace(key);
            }
            self.t1.push(key);
        }
        (false, evicted)
    }

    fn replace(&mut self, key: Key) -> Option<Key> {
        // Not in the paper: something was forgotten, and there is room.
        if self.t1.len() + self.t2.len() < self.cells {
            return None;
        }
        let n = self.t1.len();
        let is_of_t1 = 1 <= n && ((self.b2.contains(&key) && n == self.p) || self.p < n);
        let (from, to) = if is_of_t1 { (&mut self.t1, &mut self.b1) } else { (&mut self.t2, &mut self.b2) };
        let key = from.remove(0);
        to.push(key);
        Some(key)
    }

    fn forget(&mut self, key: Key) -> bool {
        self.marked.remove(&key);
        let is_block = take(&mut self.t1, key) || take(&mut self.t2, key);
        take(&mut self.b1, key);
        take(&mut self.b2, key);
        is_block
    }

    fn switch(&mut self, algorithm: Algorithm) {
        if self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.t1.append(&mut self.t2);
            self.b1.clear();
            self.b2.clear();
            self.marked.clear();
            self.p = 0;
        }
    }

    fn all(&mut self) -> Vec<Key> {
        [&self.t1, &self.t2, &self.b1, &self.b2].into_iter().flatten().copied().collect()
    }
}

fn compare(residents: &Residents<Vec<Entry>>, model: &Model) {
    check(residents);
    for (list, expected) in [
        (List::Blocks(Part::Recent), &model.t1),
        (List::Blocks(Part::Frequent), &model.t2),
        (List::Ghosts(Part::Recent), &model.b1),
        (List::Ghosts(Part::Frequent), &model.b2),
    ] {
        assert_eq!(&names(residents, list), expected, "{list:?}");
    }
    assert_eq!(usize::try_from(residents.target).unwrap(), model.p);
    let resident = model.t1.len() + model.t2.len();
    assert_eq!(usize::try_from(residents.tally().resident).unwrap(), resident);
}

#[derive(Clone, Debug)]
enum Op {
    /// What is near is read more often than what is far.
    Read(u16, u64),
    Forget(u16, u64),
    Range(u16, u64, u64),
    Switch(Algorithm),
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let block = prop_oneof![0..8_u64, 0..40_u64];
    let one = (0..2_u16, block);
    let op = prop_oneof![
        60 => one.clone().prop_map(|(volume, block)| Op::Read(volume, block)),
        4 => one.clone().prop_map(|(volume, block)| Op::Forget(volume, block)),
        1 => (one, 1..60_u64).prop_map(|((volume, block), blocks)| Op::Range(volume, block, blocks)),
        1 => prop::sample::select(ALL.to_vec()).prop_map(Op::Switch),
        1 => Just(Op::Clear),
    ];
    prop::collection::vec(op, 1..500)
}

proptest! {
    #[test]
    fn each_algorithm_does_what_its_model_does(ops in ops(), cells in 1..20_u32, first in 0..3_usize) {
        let mut residents = residents(cells, ALL[first]);
        let mut model = Model::new(usize::try_from(cells).unwrap(), ALL[first]);
        let (mut hits, mut misses) = (0, 0);
        for op in ops {
            let of = |volume, block| Key::new(Volume(volume), BlockIndex(block)).unwrap();
            match op {
                Op::Read(volume, block) => {
                    let expected = model.read(of(volume, block));
                    prop_assert_eq!(read(&mut residents, of(volume, block)), expected);
                    if expected.0 { hits += 1 } else { misses += 1 }
                }
                Op::Forget(volume, block) => {
                    let key = of(volume, block);
                    prop_assert_eq!(residents.forget(key), model.forget(key));
                }
                Op::Range(volume, block, blocks) => {
                    residents.forget_range(Volume(volume), BlockIndex(block), blocks);
                    let range = of(volume, block)..of(volume, block + blocks);
                    for key in model.all().into_iter().filter(|key| range.contains(key)) {
                        model.forget(key);
                    }
                }
                Op::Switch(algorithm) => {
                    residents.switch(algorithm);
                    model.switch(algorithm);
                    prop_assert_eq!(residents.algorithm(), algorithm);
                }
                Op::Clear => {
                    residents.clear();
                    model = Model::new(model.cells, model.algorithm);
                }
            }
            compare(&residents, &model);
            let tally = residents.tally();
            prop_assert_eq!((tally.hits, tally.misses), (hits, misses));
        }
    }
}

/// The reference string of Belady, Nelson and Shedler (1969). With LRU, and with the clock here, more room
/// means fewer misses.
#[test]
fn the_string_of_belady_misses_as_often_as_it_is_known_to() {
    let string = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
    for (algorithm, cells, misses) in
        [(Algorithm::Lru, 3, 10), (Algorithm::Lru, 4, 8), (Algorithm::Clock, 3, 10), (Algorithm::Clock, 4, 8)]
    {
        let mut residents = residents(cells, algorithm);
        read_all(&mut residents, string);
        assert_eq!(residents.tally().misses, misses, "{algorithm:?} in {cells}");
    }
}

/// A second chance: what was read since the hand went by stays, the one beside it goes.
#[test]
fn the_hand_of_the_clock_goes_by_what_was_read() {
    let mut residents = residents(3, Algorithm::Clock);
    let trace = [(1, "1"), (2, "12"), (3, "123"), (1, "123"), (4, "314"), (3, "314"), (5, "435"), (6, "356")];
    for (block, expected) in trace {
        read(&mut residents, key(block));
        assert_eq!(drawn(&residents, List::Blocks(Part::Recent)), expected, "after {block}");
    }
    // All of them were read: once around, and the first one goes all the same.
    read_all(&mut residents, [3, 5, 6]);
    assert_eq!(read(&mut residents, key(7)), (false, Some(key(3))));
}

fn drawn(residents: &Residents<Vec<Entry>>, list: List) -> String {
    names(residents, list)
        .into_iter()
        .flat_map(|name| (0..10).filter(move |one| key(*one) == name))
        .fold(String::new(), |text, block| text + &format!("{block}"))
}

/// Every case of figure 4, by hand: T1, T2, B1, B2 and p after each read.
#[test]
fn arc_goes_through_all_cases_as_by_hand() {
    let mut residents = residents(2, Algorithm::Arc);
    let trace = [
        (1, "1 - - - 0"),
        (2, "12 - - - 0"),
        // Case I.
        (1, "2 1 - - 0"),
        // Case IV B: someone leaves, of T1.
        (3, "3 1 2 - 0"),
        // Case II: p rises, and someone of T2 leaves.
        (2, "3 2 - 1 1"),
        // Case III: p falls.
        (1, "- 21 3 - 0"),
        (4, "4 1 3 2 0"),
        // Case IV A: the oldest of B1 is forgotten.
        (5, "5 1 4 2 0"),
        (6, "6 1 5 2 0"),
        (2, "- 12 56 - 0"),
        (7, "7 2 6 1 0"),
        (7, "- 27 6 1 0"),
        // Case IV B, with all names in use: the oldest of B2 is forgotten.
        (8, "8 7 6 2 0"),
    ];
    for (block, expected) in trace {
        read(&mut residents, key(block));
        let list = |list| match drawn(&residents, list) {
            none if none.is_empty() => "-".into(),
            some => some,
        };
        let (t1, t2) = (list(List::Blocks(Part::Recent)), list(List::Blocks(Part::Frequent)));
        let (b1, b2) = (list(List::Ghosts(Part::Recent)), list(List::Ghosts(Part::Frequent)));
        assert_eq!(format!("{t1} {t2} {b1} {b2} {}", residents.target), expected, "after {block}");
        check(&residents);
    }
    // Case IV A without a ghost: what leaves leaves none.
    let mut residents = super::tests::residents(2, Algorithm::Arc);
    let left: Vec<_> = (1..4).map(|block| read(&mut residents, key(block)).1).collect();
    assert_eq!(left, [None, None, Some(key(1))]);
    assert_eq!(drawn(&residents, List::Ghosts(Part::Recent)), "");
}

/// A backup reads everything once. What guests read again and again stays with ARC, and with nobody else.
#[test]
fn a_scan_drives_out_what_is_read_again_unless_arc_keeps_it() {
    for (algorithm, kept) in [(Algorithm::Lru, 0), (Algorithm::Clock, 0), (Algorithm::Arc, 32)] {
        let mut residents = residents(64, algorithm);
        for _ in 0..3 {
            read_all(&mut residents, 0..32);
        }
        read_all(&mut residents, 1000..3000);
        assert_eq!(
            (0..32).filter(|block| residents.peek(key(*block)).is_some()).count(),
            kept,
            "{algorithm:?}"
        );
    }
}

/// What was missed too early gets the room: a loop that is larger than T1, then one that is read again.
#[test]
fn arc_finds_out_what_is_wanted() {
    let mut residents = residents(64, Algorithm::Arc);
    for _ in 0..3 {
        read_all(&mut residents, 0..32);
    }
    assert_eq!(residents.target, 0);
    // Others are read once, and again when they have just left.
    for block in 100..400_u64 {
        read(&mut residents, key(block));
        read(&mut residents, key(block.saturating_sub(40).max(100)));
    }
    assert!(16 < residents.target, "{}", residents.target);
}

#[test]
fn what_is_in_memory_stays_there_when_the_algorithm_changes() {
    for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
        let mut residents = residents(8, from);
        read_all(&mut residents, (0..10).chain([7, 8, 9, 2, 11]));
        let before: Vec<_> = (0..12).map(|block| residents.peek(key(block))).collect();
        residents.switch(to);
        check(&residents);
        let after: Vec<_> = (0..12).map(|block| residents.peek(key(block))).collect();
        assert_eq!(before, after, "{from:?} to {to:?}");
        assert_eq!(residents.tally().resident, 8);
    }
}

/// Somebody else fetched the same block meanwhile: there is one of it.
#[test]
fn a_block_is_admitted_once() {
    let mut residents = residents(4, Algorithm::Arc);
    let first = residents.admit(key(1)).unwrap();
    assert_eq!(residents.admit(key(1)), Some(Admitted { cell: first.cell, evicted: None }));
    assert_eq!(residents.tally(), Tally { hits: 0, misses: 0, resident: 1 });
}

#[test]
fn without_room_nothing_is_admitted() {
    for algorithm in ALL {
        for entries in 0..2 {
            let mut residents = Residents::new(vec![Entry::EMPTY; entries], algorithm);
            assert_eq!((residents.look_up(key(1)), residents.admit(key(1))), (None, None));
            residents.forget_range(Volume(1), BlockIndex(0), 5);
            residents.clear();
        }
    }
}

/// One part in 64 of what is in memory.
#[test]
fn its_memory_is_within_the_budget() {
    for cells in [1, 256, 1 << 26] {
        assert_eq!(entries_for(cells) * size_of::<Entry>() * 64, usize::try_from(cells).unwrap() * 4096);
    }
}
