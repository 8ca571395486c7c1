//! The search: every guest that needs a host gets one by the five steps, the most important first; then other
//! ways are tried until none can be better, or the caller's steps are used up (S1-40, S3-14, X17).
//!
//! Guests take their turns by priority, those that run before those that wait, large ones before small ones.
//! At the beginning of a priority it is known what all higher ones have taken. A guest that runs stays where
//! it is, unless its host is *pressed*: guests of higher priority arrived there, and its own priority's no
//! longer fit beside them. Only then has it a turn that is open, like those of guests without a host.
//!
//! The first way down this tree is the five-step search, and on a large site it may be the only one that
//! there is time for. What is better is decided in this order:
//!
//! 1. fewer guests of the highest priority are down; then of the next one; and so on;
//! 2. fewer guests that ran have to go elsewhere.
//!
//! Among equals the first way that is found wins, and thereby the order of the steps. A branch is left as
//! soon as it cannot be better than the best way so far, even if nobody else stayed down behind it.

use core::cmp::Reverse;
use core::ops::Range;

use super::TooSmall;
use super::amounts::Amounts;
use super::answer::{Certainty, Placement};
use super::guest::{Guest, GuestIndex, Power};
use super::hosts::{HOSTS_MAX, HostIndex, HostSet};
use super::memory::{Decision, Fate, Level, Memory, Turn};
use super::priority::Priorities;
use super::rooms::Rooms;
use super::site::{Site, running_on};
use super::steps::{Candidates, Found, View};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q, 'a, const K: usize> {
    /// Of which site.
    pub site: &'q Site<'a, K>,
    /// The hosts that guests can run on now; what ran on others is lost.
    pub up: HostSet,
    /// Who comes before whom.
    pub priorities: Priorities<'q>,
    /// After how many steps the best way so far will do. The first way is always gone to its end, which takes
    /// a step for each guest; a step looks at each host once, and at each guest a few times at most.
    pub steps_max: u64,
}

/// Where every guest is to run.
///
/// # Errors
///
/// `memory` has not a row for each guest.
pub fn place<'q, 'a, const K: usize>(
    question: Question<'q, 'a, K>,
    memory: Memory<'q>,
) -> Result<Placement<'q, 'a, K>, TooSmall> {
    let memory = memory.fit(question.site.description().guests.len())?;
    let mut search = Search::new(question, memory);
    let certainty = search.walk();
    let Memory { fates, .. } = search.memory;
    Ok(Placement::new(question, fates, certainty, search.steps))
}

/// A search, from the question to the answer.
pub(super) struct Search<'q, 'a, const K: usize> {
    question: Question<'q, 'a, K>,
    memory: Memory<'q>,
    rooms: Rooms<K>,
    /// How many turns there are.
    end: usize,
    /// How many priorities they have.
    levels: usize,
    /// How many guests that ran were moved or are down.
    displaced: u16,
    /// The same in the best placement so far; `None`: there is none yet.
    best: Option<u16>,
    steps: u64,
}

/// Where the walk goes from a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ahead,
    Back,
}

impl<'q, 'a, const K: usize> Search<'q, 'a, K> {
    /// Before anything is decided.
    pub(super) fn new(question: Question<'q, 'a, K>, memory: Memory<'q>) -> Self {
        let rooms = Rooms::NONE;
        let mut search =
            Self { question, memory, rooms, end: 0, levels: 0, displaced: 0, best: None, steps: 0 };
        let site = question.site;
        for host in site.hosts().iter() {
            search.rooms.change(host).provided = site.provided(host);
        }
        for (guest, what) in site.guests() {
            if search.enter(guest, what) {
                search.take_turn(guest);
            }
        }
        search.sort_turns();
        search
    }

    /// Puts down what a guest has before anything is decided. Whether it takes part.
    fn enter(&mut self, guest: GuestIndex, what: &Guest<K>) -> bool {
        let Question { site, up, .. } = self.question;
        let on = running_on(what).filter(|host| up.has(*host));
        let is_part = match what.power {
            Power::Off => false,
            Power::Waiting(_) => true,
            Power::On(_) => on.is_some() || what.is_protected(site.description().defaults),
        };
        if !is_part {
            return false;
        }
        if let Some(host) = on {
            let room = self.rooms.change(host);
            room.standing = room.standing.plus(what.needs);
            room.load = room.load.plus(what.load());
        }
        if let Some(host) = what.placeholder.filter(|host| up.has(*host)) {
            let room = self.rooms.change(host);
            room.settled = room.settled.plus(what.needs);
        }
        self.fate(guest).now = Decision::Pending;
        true
    }

    fn take_turn(&mut self, guest: GuestIndex) {
        *self.turn(self.end) = Turn { guest, ..Turn::NEW };
        self.end = self.end.saturating_add(1);
    }

    fn sort_turns(&mut self) {
        let Question { site, up, priorities, .. } = self.question;
        let largest = up.among(site.hosts()).iter().map(|host| site.provided(host));
        let largest = largest.fold(Amounts::NONE, Amounts::or_more);
        let key = |turn: &Turn| {
            let what = site.guest(turn.guest);
            let has_host = running_on(what).is_some_and(|host| up.has(host));
            let size = what.needs.share_of(largest);
            (Reverse(priorities.of(turn.guest)), Reverse(has_host), Reverse(size), turn.guest)
        };
        let turns = self.memory.turns.get_mut(..self.end).unwrap_or_default();
        turns.sort_unstable_by_key(key);
        let (mut level, mut last) = (0_u16, None);
        for turn in turns {
            let priority = priorities.of(turn.guest);
            level = level.saturating_add(u16::from(last.is_some_and(|last| last != priority)));
            (turn.level, last) = (level, Some(priority));
            self.levels = usize::from(level).saturating_add(1);
        }
    }

    /// Goes through the tree, depth first, until there is nothing better or no time.
    fn walk(&mut self) -> Certainty {
        let (mut at, mut way) = (0, Way::Ahead);
        loop {
            self.steps = self.steps.saturating_add(1);
            if self.best.is_some() && self.question.steps_max < self.steps {
                return Certainty::BestFound;
            }
            way = match way {
                Way::Ahead if at == self.end => {
                    self.keep();
                    if self.is_perfect() {
                        return Certainty::Exact;
                    }
                    Way::Back
                }
                Way::Ahead => {
                    if self.begins_level(at) {
                        self.open_level(at);
                    }
                    self.turn(at).choice = 0;
                    if self.turn(at).is_open { self.choose(at) } else { Way::Ahead }
                }
                Way::Back => {
                    if self.begins_level(at) {
                        self.close_level(at);
                    }
                    let Some(before) = at.checked_sub(1) else { return Certainty::Exact };
                    at = before;
                    if self.turn(at).is_open { self.choose_next(at) } else { Way::Back }
                }
            };
            at = if way == Way::Ahead { at.saturating_add(1).min(self.end) } else { at };
        }
    }

    /// Takes the first of the choices left at this turn that may lead to something better.
    fn choose(&mut self, at: usize) -> Way {
        let guest = self.turn(at).guest;
        self.lift(guest);
        let candidates = self.view(at).candidates(guest);
        loop {
            let choice = usize::from(self.turn(at).choice);
            if candidates.len() < choice {
                self.put_back(guest);
                return Way::Back;
            }
            self.settle(at, &candidates);
            if self.is_promising() {
                return Way::Ahead;
            }
            self.unsettle(at);
            self.turn(at).choice = self.turn_of(at).choice.saturating_add(1);
        }
    }

    fn choose_next(&mut self, at: usize) -> Way {
        self.unsettle(at);
        self.put_back(self.turn_of(at).guest);
        self.turn(at).choice = self.turn_of(at).choice.saturating_add(1);
        self.choose(at)
    }

    /// Takes a guest that has its turn off the host it runs on.
    fn lift(&mut self, guest: GuestIndex) {
        let what = self.question.site.guest(guest);
        if let Some(host) = self.stands_on(what) {
            let room = self.rooms.change(host);
            room.standing = room.standing.minus(what.needs);
            room.load = room.load.minus(what.load());
        }
    }

    fn put_back(&mut self, guest: GuestIndex) {
        let what = self.question.site.guest(guest);
        if let Some(host) = self.stands_on(what) {
            let room = self.rooms.change(host);
            room.standing = room.standing.plus(what.needs);
            room.load = room.load.plus(what.load());
        }
    }

    /// Does what the choice of this turn says.
    fn settle(&mut self, at: usize, candidates: &Candidates) {
        let turn = self.turn_of(at);
        let what = self.question.site.guest(turn.guest);
        let candidate = candidates.get(usize::from(turn.choice));
        let decision = match candidate.map(|candidate| (candidate.host, candidate.found)) {
            None => Decision::Down,
            Some((_, Found::Kept)) => Decision::Stays,
            Some((host, found)) => Decision::On { host, found },
        };
        self.fate(turn.guest).now = decision;
        if decision == Decision::Down {
            let level = self.level(turn.level);
            level.down = level.down.saturating_add(1);
        }
        if decision != Decision::Stays && self.stands_on(what).is_some() {
            self.displaced = self.displaced.saturating_add(1);
        }
        let Some(candidate) = candidate else { return };
        let room = self.rooms.change(candidate.host);
        room.load = room.load.plus(what.load());
        if candidate.found != Found::Placeholder {
            room.settled = room.settled.plus(what.needs);
        }
        if candidate.found != Found::Kept {
            room.arrived = room.arrived.plus(what.needs);
        }
    }

    /// Takes it back.
    fn unsettle(&mut self, at: usize) {
        let turn = self.turn_of(at);
        let what = self.question.site.guest(turn.guest);
        let decision = core::mem::replace(&mut self.fate(turn.guest).now, Decision::Pending);
        if decision == Decision::Down {
            let level = self.level(turn.level);
            level.down = level.down.saturating_sub(1);
        }
        if decision != Decision::Stays && self.stands_on(what).is_some() {
            self.displaced = self.displaced.saturating_sub(1);
        }
        let (host, found) = match decision {
            Decision::On { host, found } => (Some(host), found),
            Decision::Stays => (self.stands_on(what), Found::Kept),
            Decision::Out | Decision::Pending | Decision::Down => return,
        };
        let Some(host) = host else { return };
        let room = self.rooms.change(host);
        room.load = room.load.minus(what.load());
        if found != Found::Placeholder {
            room.settled = room.settled.minus(what.needs);
        }
        if found != Found::Kept {
            room.arrived = room.arrived.minus(what.needs);
        }
    }

    /// All higher priorities are settled: who of this one runs on a host that is not pressed stays.
    fn open_level(&mut self, first: usize) {
        let pressed = self.pressed(first);
        for at in self.of_level(first) {
            let turn = self.turn_of(at);
            let what = self.question.site.guest(turn.guest);
            let stays = self.stands_on(what).filter(|host| !pressed.has(*host));
            self.turn(at).is_open = stays.is_none();
            if let Some(host) = stays {
                self.fate(turn.guest).now = Decision::Stays;
                let room = self.rooms.change(host);
                room.standing = room.standing.minus(what.needs);
                room.settled = room.settled.plus(what.needs);
            }
        }
    }

    /// Takes it back.
    fn close_level(&mut self, first: usize) {
        for at in self.of_level(first) {
            let turn = self.turn_of(at);
            if turn.is_open {
                continue;
            }
            let what = self.question.site.guest(turn.guest);
            self.fate(turn.guest).now = Decision::Pending;
            if let Some(host) = self.stands_on(what) {
                let room = self.rooms.change(host);
                room.standing = room.standing.plus(what.needs);
                room.settled = room.settled.minus(what.needs);
            }
        }
    }

    /// The hosts at which guests of higher priority arrived, and on which those of this one do not all fit
    /// beside them, or one meets a sibling.
    fn pressed(&self, first: usize) -> HostSet {
        let site = self.question.site;
        let mut sums = [Amounts::<K>::NONE; HOSTS_MAX];
        let mut pressed = HostSet::NONE;
        for at in self.of_level(first) {
            let guest = self.turn_of(at).guest;
            let what = site.guest(guest);
            let Some(host) = self.stands_on(what) else { continue };
            let room = self.rooms.of(host);
            let sum = sums.get_mut(usize::from(host.0)).filter(|_| room.arrived != Amounts::NONE);
            let Some(sum) = sum else { continue };
            *sum = sum.plus(what.needs);
            if !room.keeps(*sum) || self.view(at).is_met_by_sibling(guest, host) {
                pressed = pressed.with(HostSet::one(host));
            }
        }
        pressed
    }

    /// Whether what is decided so far can still become better than the best placement: as if everybody whose
    /// turn is still to come got a host.
    fn is_promising(&self) -> bool {
        let Some(displaced) = self.best else { return true };
        let differs = self.memory.levels.iter().take(self.levels).find(|level| level.down != level.best);
        differs.map_or(self.displaced < displaced, |level| level.down < level.best)
    }

    fn keep(&mut self) {
        self.best = Some(self.displaced);
        for fate in self.memory.fates.iter_mut() {
            fate.best = fate.now;
        }
        for level in self.memory.levels.iter_mut() {
            level.best = level.down;
        }
    }

    /// Nobody is down, and nobody had to go.
    fn is_perfect(&self) -> bool {
        self.best == Some(0) && self.memory.levels.iter().all(|level| level.best == 0)
    }

    /// Where a guest runs that has not been lost.
    fn stands_on(&self, what: &Guest<K>) -> Option<HostIndex> {
        running_on(what).filter(|host| self.question.up.has(*host))
    }

    /// What whoever has this turn sees.
    pub(super) fn view(&self, at: usize) -> View<'_, 'a, K> {
        let Question { site, up, priorities, .. } = self.question;
        let later = self.memory.turns.get(at..self.end).and_then(|turns| turns.get(1..)).unwrap_or_default();
        View { site, up, priorities, rooms: &self.rooms, fates: self.memory.fates, later }
    }

    fn begins_level(&self, at: usize) -> bool {
        let before = at.checked_sub(1).map(|before| self.turn_of(before).level);
        at < self.end && before != Some(self.turn_of(at).level)
    }

    /// The turns of the level that begins at this one.
    fn of_level(&self, first: usize) -> Range<usize> {
        let level = self.turn_of(first).level;
        let turns = self.memory.turns.get(first..self.end).unwrap_or_default();
        first..first.saturating_add(turns.iter().take_while(|turn| turn.level == level).count())
    }

    fn turn_of(&self, at: usize) -> Turn {
        *self.memory.turns.get(at).expect("there is a turn for each guest")
    }

    fn turn(&mut self, at: usize) -> &mut Turn {
        self.memory.turns.get_mut(at).expect("there is a turn for each guest")
    }

    fn fate(&mut self, guest: GuestIndex) -> &mut Fate {
        self.memory.fates.get_mut(usize::from(guest.0)).expect("there is a fate for each guest")
    }

    fn level(&mut self, level: u16) -> &mut Level {
        self.memory.levels.get_mut(usize::from(level)).expect("there is a level for each guest")
    }
}
