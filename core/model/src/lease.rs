//! Leases: two nodes with a seat and a voter each, and a witness, on clocks as wrong as they may be. At no
//! true instant do two seats hold the register (I1, I5, V3, V11, V20, V24; F19, F22, F25).
//!
//! True time passes in ticks of 100 ms; a lease is six. A clock runs a tenth fast or a tenth slow. Between
//! two ticks any number of messages arrive, in any order; one that is older than its bound is lost. A seat
//! that is due may be called late or never: a paused node is one that nobody calls, and asking a seat whether
//! it holds needs no call. A node's own vote is given at once. What is written is flushed at once: the model
//! `register` cuts the power in between. A node that starts again gets no question of an older start answered
//! into its own, but an answer that a voter owed to the older start may still reach it.

mod site;

use std::fmt;

use bulkhead_core::register::seat::{self, Wish};
use bulkhead_core::register::voters::Set;
use stateright::{Model, Property};

use crate::run::Reached;
use site::{ALONE, EXPIRED, HELD, HELD_AGAIN, LEASED, NODES, RENEWED, SEATS, UNKNOWN_START};

pub use site::State;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Ticks of 100 ms.
    pub ticks: u8,
    /// Messages that stay under way from one tick to the next, of any age; the others are lost.
    pub late: usize,
    /// Whether the first seat holds at the start, and nothing is under way.
    pub settled: bool,
    /// The tick from which the second seat may want the register; the first wants it at once.
    pub second_from: u8,
    /// Rounds that each seat may begin, beside the one that [`Self::settled`] took.
    pub rounds: [u8; SEATS],
    /// Times a holder is called to renew, in all, beside the renewal that follows winning at once.
    pub renewals: u8,
    /// Restarts of voters alone, in all.
    pub voter_restarts: u8,
    /// Restarts of nodes with a seat, in all.
    pub restarts: u8,
    /// Whether such a restart is a fence, which the other seat is told of.
    pub fenced: bool,
    /// Times the register is given back.
    pub releases: u8,
    /// Times a holder is told to change the voters, by what it hears.
    pub revotes: u8,
    /// Which clocks run fast, those of the three nodes in order; the others run slow.
    pub fast: &'static [[bool; NODES]],
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticks, late, second_from, rounds: [a, b], fast, .. } = self;
        write!(f, "{ticks} ticks of 100 ms, lease 6, clocks 10 % off in {} ways, ", fast.len())?;
        write!(f, "{late} messages late, seats with {a} and {b} rounds, ")?;
        write!(f, "the first {}, ", if self.settled { "holds" } else { "asks" })?;
        write!(f, "the second from tick {second_from}, renewals: {}, ", self.renewals)?;
        write!(f, "restarts of voters: {}, ", self.voter_restarts)?;
        write!(f, "{}: {}, ", if self.fenced { "fences" } else { "restarts of nodes" }, self.restarts)?;
        write!(f, "releases: {}, changes of voters: {}, any loss and order", self.releases, self.revotes)
    }
}

/// One step of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// True time goes on; what is under way is lost, but for the messages at these places.
    Tick(Vec<usize>),
    /// The message at this place of the wire arrives.
    Deliver(usize),
    /// A seat that is due is called.
    Timeout(usize),
    /// The second seat wants the register, too.
    Want(usize),
    /// A holder gives the register back.
    Release(usize),
    /// A voter starts again.
    RestartVoter(usize),
    /// A node with a seat starts again.
    Restart(usize),
    /// A holder has the voters changed to these.
    Revote(usize, Set),
}

/// The model: bounds, and what was reached.
#[derive(Debug)]
pub struct Lease {
    bounds: Bounds,
    reached: Reached,
}

impl Lease {
    /// All that can happen within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, reached: Reached::default() }
    }
}

impl Model for Lease {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let start = |fast: &[bool; NODES]| {
            let mut state = State::new(&self.bounds, *fast);
            state.seat_step(0, seat::Event::Want(Wish::Hold), &self.reached);
            if self.bounds.settled {
                state.settle(&self.reached);
                state.rounds = self.bounds.rounds;
            }
            state.tidy();
            state
        };
        self.bounds.fast.iter().map(start).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.tick < self.bounds.ticks {
            steps.extend(state.kept(self.bounds.late).into_iter().map(Step::Tick));
        }
        for (place, message) in state.wire.iter().enumerate() {
            if place == 0 || state.wire[place - 1] != *message {
                steps.push(Step::Deliver(place));
            }
        }
        for (place, seat) in state.seats.iter().enumerate() {
            let (seat, now) = (seat.get(), state.clock(place));
            let mode = seat.mode().name();
            let due = seat.deadline() <= now;
            let may_begin = 0 < state.rounds[place];
            match mode {
                "following" if may_begin && (place == 0 || self.bounds.second_from <= state.tick) => {
                    steps.push(Step::Want(place))
                }
                "pausing" if may_begin && due => steps.push(Step::Timeout(place)),
                "holding" if due && (0 < state.renewals || seat.holds(now).is_none()) => {
                    steps.push(Step::Timeout(place));
                }
                "preparing" | "writing" if due => steps.push(Step::Timeout(place)),
                _other => {}
            }
            let holds = seat.holds(now).is_some();
            if holds && 0 < state.releases {
                steps.push(Step::Release(place));
            }
            if holds && 0 < state.revotes {
                steps.extend(state.wanted(place).into_iter().map(|set| Step::Revote(place, set)));
            }
            if 0 < state.restarts {
                steps.push(Step::Restart(place));
            }
        }
        if 0 < state.voter_restarts {
            let known = |place: &usize| state.voters[*place].get().disk.is_some();
            steps.extend((0..NODES).filter(known).map(Step::RestartVoter));
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Tick(kept) => state.tick(&kept),
            Step::Deliver(place) => {
                let message = state.wire.remove(place);
                state.arrive(message.get(), &self.reached);
            }
            Step::Timeout(place) => {
                let seat = state.seats[place].get();
                if seat.mode().name() == "holding" && seat.holds(state.clock(place)).is_some() {
                    state.renewals -= 1;
                }
                state.seat_step(place, seat::Event::Timeout, &self.reached);
            }
            Step::Want(place) => state.seat_step(place, seat::Event::Want(Wish::Hold), &self.reached),
            Step::Release(place) => {
                state.releases -= 1;
                state.seat_step(place, seat::Event::Want(Wish::Follow), &self.reached);
            }
            Step::RestartVoter(place) => {
                state.voter_restarts -= 1;
                state.restart_voter(place);
            }
            Step::Restart(place) => state.restart(place, self.bounds.fenced, &self.reached),
            Step::Revote(place, set) => {
                state.revotes -= 1;
                state.seat_step(place, seat::Event::Revote(set), &self.reached);
            }
        }
        state.tidy();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("at most one holds at one true instant (I1, I5, V3)", |_, state| {
                state.holders() <= 1
            }),
            Property::<Self>::sometimes("either seat held", |model, _| {
                HELD.iter().all(|mark| model.reached.has(*mark))
            }),
            Property::<Self>::sometimes("a seat is refused because of a lease", |model, _| {
                model.reached.has(LEASED)
            }),
        ];
        let bounds = &self.bounds;
        if 6 <= bounds.ticks {
            properties
                .push(Property::<Self>::sometimes("a lease ends", |model, _| model.reached.has(EXPIRED)));
        }
        if 0 < bounds.renewals {
            properties.push(Property::<Self>::sometimes("a lease is renewed", |model, _| {
                model.reached.has(RENEWED)
            }));
        }
        if 0 < bounds.voter_restarts {
            properties.push(Property::<Self>::sometimes(
                "a voter protects whom it does not remember",
                |model, _| model.reached.has(UNKNOWN_START),
            ));
        }
        if 0 < bounds.restarts {
            properties.push(Property::<Self>::sometimes("a node that started again holds", |model, _| {
                model.reached.has(HELD_AGAIN)
            }));
        }
        if bounds.fenced && bounds.settled {
            properties.push(Property::<Self>::sometimes("a fence ends the wait for a lease", |_, state| {
                state.is_taken_early()
            }));
        }
        if 0 < bounds.revotes {
            properties.push(Property::<Self>::sometimes("one node decides alone (X04)", |model, _| {
                model.reached.has(ALONE)
            }));
        }
        properties
    }
}
