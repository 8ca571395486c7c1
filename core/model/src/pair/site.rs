//! The two instances of this model, the register they compete for, and how all trouble ends.

use std::hash::Hash;
use std::time::Duration;

use bulkhead_core::id::{Epoch, NodeId, Side};
use bulkhead_core::monitor::pair::{Action, Candidate, Event, Heir, Pair, Role, Saying, Settings};
use bulkhead_core::register::message::{Fenced, Leased, Millis, Start};
use bulkhead_core::register::seat::Why;
use bulkhead_core::time::Instant;

use super::{ACTIVATED, Bounds, FENCED, LEASED, OVERDUE, SLAVE, Step, TAKEOVER};
use crate::run::Reached;
use crate::shared::Shared;

pub(super) const TICK_MILLIS: u64 = 100;
pub(super) const LEASE_TICKS: u8 = 2;
/// Ticks within which one is master and one slave, once all trouble has ended.
pub const HEAL_MAX: u8 = 20;
/// Ticks for which they then stay so.
const CALM: u8 = 4;

/// A lease as the voters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) holder: usize,
    pub(super) start: Start,
    pub(super) epoch: Epoch,
    pub(super) left: u8,
    /// Whether its holder acts under it.
    pub(super) alive: bool,
}

/// The pair, and what is around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) tick: u8,
    pub(super) pairs: [Shared<Pair>; 2],
    /// Whether each asks for the register.
    pub(super) wish: [bool; 2],
    pub(super) starts: [u8; 2],
    pub(super) epoch: Epoch,
    pub(super) lease: Option<Lease>,
    /// Whose lease ended without its knowing.
    pub(super) lost: [bool; 2],
    /// What each was told of the other.
    pub(super) heard: [bool; 2],
    /// What each said last, and the other may hear.
    pub(super) said: [Option<Saying>; 2],
    /// What each has asked its fencing device.
    pub(super) fence: [Option<Fenced>; 2],
    pub(super) crashes: u8,
    pub(super) commands: u8,
    fencing: bool,
    lends: bool,
    pub(super) fenced_the_living: bool,
}

pub(super) fn id(place: usize) -> NodeId {
    NodeId(if place == 0 { 1 } else { 2 })
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * TICK_MILLIS)
}

fn instance(place: usize, fencing: bool, lends: bool) -> Pair {
    let candidates = [(0, Side::A), (1, Side::B)].map(|(place, side)| Candidate { node: id(place), side });
    Pair::new(Settings {
        me: id(place),
        candidates: candidates.into_iter().collect(),
        heir: Heir::Across,
        listen: ticks(1),
        leave: ticks(if lends { 1 + u64::from(LEASE_TICKS) } else { 1 }),
        stagger: ticks(1),
        silence: ticks(1),
        lease: ticks(u64::from(LEASE_TICKS)),
        activate: Some(ticks(2)),
        fence: fencing.then(|| ticks(1)),
    })
}

fn share(pair: Pair) -> Shared<Pair> {
    Shared::new(pair, |pair, hasher| pair.hash(hasher))
}

impl State {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let Bounds { crashes, commands, fencing, lends, .. } = *bounds;
        Self {
            tick: 0,
            pairs: [0, 1].map(|place| share(instance(place, fencing, lends))),
            wish: [false; 2],
            starts: [1; 2],
            epoch: Epoch(0),
            lease: None,
            lost: [false; 2],
            heard: [false; 2],
            said: [None; 2],
            fence: [None; 2],
            crashes,
            commands,
            fencing,
            lends,
            fenced_the_living: false,
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_millis(u64::from(self.tick) * TICK_MILLIS)
    }

    fn start(&self, place: usize) -> Start {
        Start(u64::from(self.starts[place]))
    }

    fn role(&self, place: usize) -> Role {
        self.pairs[place].get().role()
    }

    fn holds(&self, place: usize) -> bool {
        self.lease.is_some_and(|lease| lease.alive && lease.holder == place)
    }

    /// Whether it acts as master.
    pub(super) fn acts(&self, place: usize) -> bool {
        self.role(place) == Role::Master && self.holds(place)
    }

    pub(super) fn saying(&self, place: usize) -> Saying {
        let role = match self.role(place) {
            Role::Master if !self.holds(place) => Role::Contending,
            role @ (Role::Stopped | Role::Starting | Role::Slave | Role::Contending | Role::Master) => role,
        };
        Saying { role, epoch: self.epoch }
    }

    pub(super) fn is_honest(&self, place: usize) -> bool {
        self.role(place) != Role::Master || self.holds(place) || self.lost[place]
    }

    pub(super) fn has_exit(&self, place: usize) -> bool {
        let waits = self.fence[place].is_some() && self.role(place) == Role::Contending;
        !waits || self.wish[place] || self.pairs[place].get().deadline().is_some()
    }

    fn step(&mut self, place: usize, event: Event, reached: &Reached) {
        let mut events = vec![event];
        while !events.is_empty() {
            let mut pair = self.pairs[place].get().clone();
            let actions = pair.step(self.now(), events.remove(0));
            self.pairs[place] = share(pair);
            for action in actions {
                match action {
                    Action::Hold => self.wish[place] = true,
                    Action::Follow => {
                        self.wish[place] = false;
                        self.lost[place] = false;
                        if self.holds(place) {
                            self.lease = None;
                            events.push(Event::Lost(Why::Released));
                        }
                    }
                    Action::Role { role: Role::Slave, .. } => reached.mark(SLAVE),
                    Action::Role { .. } => {}
                    Action::Activate { .. } => reached.mark(ACTIVATED),
                    Action::Fence(fenced) => {
                        let renewed = self.lease.is_some_and(|lease| lease.left == LEASE_TICKS);
                        self.fenced_the_living |= self.heard[place] || renewed;
                        self.fence[place] = Some(fenced);
                    }
                }
            }
        }
    }

    pub(super) fn take(&mut self, step: Step, reached: &Reached) {
        match step {
            Step::Tick => self.tick(),
            Step::Timeout(place) => {
                if self.fence[place].is_some() {
                    reached.mark(OVERDUE);
                }
                self.step(place, Event::Timeout, reached);
            }
            Step::Heard(place, alive) => {
                self.heard[place] = alive;
                self.step(place, Event::Heard { node: id(1 - place), alive }, reached);
            }
            Step::Say(place) => self.said[place] = Some(self.saying(place)),
            Step::Arrive(place) => {
                if let Some(saying) = self.said[1 - place].take() {
                    self.step(place, Event::Said { node: id(1 - place), saying }, reached);
                }
            }
            Step::Start(place) => self.step(place, Event::Started, reached),
            Step::Stop(place) => {
                self.commands -= 1;
                self.step(place, Event::Stopped, reached);
            }
            Step::Yield(place) => {
                self.commands -= 1;
                self.step(place, Event::Yield, reached);
                self.step(1 - place, Event::Promoted { by: id(place) }, reached);
            }
            Step::Grant(place) => self.grant(place, reached),
            Step::Refuse(place, known) => {
                if let Some(Lease { holder, start, epoch, left, .. }) = self.lease {
                    reached.mark(LEASED);
                    let left = Millis::ceil(ticks(u64::from(left)));
                    let lease = Leased { holder: id(holder), epoch, start: known.then_some(start), left };
                    self.step(place, Event::Leased(lease), reached);
                }
            }
            Step::Renew => {
                if let Some(lease) = &mut self.lease {
                    lease.left = LEASE_TICKS;
                }
            }
            Step::Lost(place) => {
                self.lost[place] = false;
                self.step(place, Event::Lost(Why::Expired), reached);
            }
            Step::Fenced(place, confirmed) => self.fenced(place, confirmed, reached),
            Step::Crash(place) => {
                self.crashes -= 1;
                self.power_off(place);
            }
        }
    }

    fn tick(&mut self) {
        self.tick += 1;
        if let Some(lease) = &mut self.lease {
            lease.left -= 1;
            if lease.left == 0 {
                self.lost[lease.holder] |= lease.alive;
                self.lease = None;
            }
        }
    }

    fn grant(&mut self, place: usize, reached: &Reached) {
        if 0 < self.epoch.0 && self.lease.is_none() {
            reached.mark(TAKEOVER);
        }
        self.lost[place] = false;
        self.epoch = self.epoch.next();
        let (epoch, start) = (self.epoch, self.start(place));
        self.lease = Some(Lease { holder: place, start, epoch, left: LEASE_TICKS, alive: true });
        self.step(place, Event::Held(epoch), reached);
    }

    fn power_off(&mut self, place: usize) {
        self.starts[place] += 1;
        self.pairs[place] = share(instance(place, self.fencing, self.lends));
        self.wish[place] = false;
        self.lost[place] = false;
        self.heard[place] = false;
        self.said[place] = None;
        self.fence[place] = None;
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.holder == place) {
            lease.alive = false;
        }
    }

    /// The device turns the power off, whatever runs there by now, and says so; or it cannot.
    fn fenced(&mut self, place: usize, confirmed: bool, reached: &Reached) {
        let Some(fenced) = self.fence[place].take() else { return };
        if confirmed {
            reached.mark(FENCED);
            self.power_off(1 - place);
            let is_void = |lease: &Lease| lease.holder != place && lease.start == fenced.start;
            self.lease = self.lease.filter(|lease| !is_void(lease));
        }
        self.step(place, Event::FenceAnswered { fenced, confirmed }, reached);
    }
}

impl State {
    /// Lets all trouble end: whatever is due happens in time, and everything said is heard.
    pub(super) fn heals(&self) -> bool {
        let (mut state, nowhere) = (self.clone(), Reached::default());
        let mut calm = 0;
        for _ in 0..HEAL_MAX + CALM {
            state.quiet_tick(&nowhere);
            let one_of_each = [0, 1].map(|place| (state.acts(place), state.role(1 - place) == Role::Slave));
            calm = if one_of_each.contains(&(true, true)) { calm + 1 } else { 0 };
            if calm == CALM {
                return true;
            }
        }
        false
    }

    /// One tick in which nothing fails.
    fn quiet_tick(&mut self, reached: &Reached) {
        for place in 0..2 {
            if self.lost[place] {
                self.take(Step::Lost(place), reached);
            }
            if self.role(place) == Role::Stopped {
                self.take(Step::Start(place), reached);
            }
            if self.fence[place].is_some() {
                self.take(Step::Fenced(place, false), reached);
            }
        }
        for place in 0..2 {
            self.take(Step::Heard(place, true), reached);
            self.take(Step::Say(1 - place), reached);
            self.take(Step::Arrive(place), reached);
        }
        for place in 0..2 {
            if self.pairs[place].get().deadline().is_some_and(|at| at <= self.now()) {
                self.take(Step::Timeout(place), reached);
            }
            let free = self.lease.is_none_or(|lease| lease.holder == place && !lease.alive);
            if self.wish[place] && free {
                self.take(Step::Grant(place), reached);
            } else if self.holds(place) {
                self.take(Step::Renew, reached);
            } else if self.wish[place] {
                self.take(Step::Refuse(place, true), reached);
            }
        }
        self.tick();
    }
}
