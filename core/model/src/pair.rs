//! The pair rule: two instances that hear each other wrongly, late or not at all, a register that leases, an
//! operator, crashes, and a fencing device (S1-17 to S1-20, L-1, L-4, V20, V21, X14).
//!
//! The rule is the real one; register, seats and links stand for what the other models show of them: one
//! holder at a time, which learns late that its lease ended. Suspicion is arbitrary: any instance may be told
//! at any time that the other is alive or silent. What one says is heard as it was when it was sent.
//!
//! From every single state the model also lets all trouble end, and demands one master and one slave within
//! [`HEAL_MAX`] ticks, and that they stay.

mod site;

use std::fmt;

use bulkhead_core::monitor::pair::Role;
use stateright::{Model, Property};

use crate::run::Reached;
use site::LEASE_TICKS;

pub use site::{HEAL_MAX, State};

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Ticks of 100 ms.
    pub ticks: u8,
    /// Nodes that lose their power, in all, beside those that are fenced.
    pub crashes: u8,
    /// Commands of the operator, in all: stop, yield.
    pub commands: u8,
    /// Whether there is a fencing device.
    pub fencing: bool,
    /// Whether who gives the role away leaves it to the other for a lease more.
    pub lends: bool,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticks, crashes, commands, fencing, lends } = self;
        write!(f, "2 instances, {ticks} ticks of 100 ms, lease {LEASE_TICKS}, crashes: {crashes}, ")?;
        let device = if *fencing { "a fencing device" } else { "no fencing" };
        let lends = if *lends { "lent, " } else { "" };
        write!(f, "commands: {commands}, {device}, {lends}any suspicion, every state healed")
    }
}

/// One step of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Time goes on.
    Tick,
    /// The rule of an instance is called when it is due.
    Timeout(usize),
    /// An instance is told that the other is alive, or silent.
    Heard(usize, bool),
    /// An instance says what it does; nobody has heard it yet.
    Say(usize),
    /// What the other said last arrives.
    Arrive(usize),
    /// The control domain starts an instance, because it is time to or because the master asks for it.
    Start(usize),
    /// The operator stops it.
    Stop(usize),
    /// The operator moves the role to the other.
    Yield(usize),
    /// The voters give the register.
    Grant(usize),
    /// The voters refuse it; they may have forgotten which start has the lease.
    Refuse(usize, bool),
    /// The holder renews its lease.
    Renew,
    /// A holder learns that its lease has ended.
    Lost(usize),
    /// The device that an instance asked confirms or fails.
    Fenced(usize, bool),
    /// A node loses its power.
    Crash(usize),
}

/// The model: bounds, and what was reached.
#[derive(Debug)]
pub struct Pair {
    bounds: Bounds,
    reached: Reached,
}

const TAKEOVER: u32 = 0;
const LEASED: u32 = 1;
const FENCED: u32 = 2;
const ACTIVATED: u32 = 3;
const SLAVE: u32 = 4;
const OVERDUE: u32 = 5;

impl Pair {
    /// All that can happen within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, reached: Reached::default() }
    }
}

impl Model for Pair {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.tick < self.bounds.ticks {
            steps.push(Step::Tick);
        }
        if state.lease.is_some_and(|lease| lease.alive && lease.left < LEASE_TICKS) {
            steps.push(Step::Renew);
        }
        for place in 0..2 {
            let pair = state.pairs[place].get();
            if pair.deadline().is_some_and(|at| at <= state.now()) {
                steps.push(Step::Timeout(place));
            }
            steps.push(Step::Heard(place, !state.heard[place]));
            if state.said[place] != Some(state.saying(place)) {
                steps.push(Step::Say(place));
            }
            if state.said[1 - place].is_some() {
                steps.push(Step::Arrive(place));
            }
            let stopped = pair.role() == Role::Stopped;
            if stopped {
                steps.push(Step::Start(place));
            }
            if 0 < state.commands && !stopped {
                steps.push(Step::Stop(place));
                if state.acts(place) {
                    steps.push(Step::Yield(place));
                }
            }
            match state.lease {
                None if state.wish[place] => steps.push(Step::Grant(place)),
                Some(lease) if state.wish[place] && (lease.holder != place || !lease.alive) => {
                    if lease.holder == place {
                        steps.push(Step::Grant(place));
                    } else {
                        steps.extend([true, false].map(|known| Step::Refuse(place, known)));
                    }
                }
                None | Some(_) => {}
            }
            if state.lost[place] {
                steps.push(Step::Lost(place));
            }
            if state.fence[place].is_some() {
                steps.extend([true, false].map(|confirmed| Step::Fenced(place, confirmed)));
            }
            if 0 < state.crashes {
                steps.push(Step::Crash(place));
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        state.take(step, &self.reached);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("who calls itself master was not told otherwise (I5)", |_, state| {
                (0..2).all(|place| state.is_honest(place))
            }),
            Property::<Self>::always("who holds the register wants it (S1-17)", |_, state| {
                state.lease.is_none_or(|lease| !lease.alive || state.wish[lease.holder])
            }),
            Property::<Self>::always("nobody is fenced that either side still hears (V19)", |_, state| {
                !state.fenced_the_living
            }),
            Property::<Self>::always("who waits for a fence has a way out (V21, X14)", |_, state| {
                (0..2).all(|place| state.has_exit(place))
            }),
            Property::<Self>::always(
                "when trouble ends, one is master and one slave (L-1, L-4)",
                |_, state| state.heals(),
            ),
            Property::<Self>::sometimes("a refusal because of a lease", |model, _| model.reached.has(LEASED)),
            Property::<Self>::sometimes("a slave", |model, _| model.reached.has(SLAVE)),
        ];
        if LEASE_TICKS < self.bounds.ticks {
            properties.extend([
                Property::<Self>::sometimes("a takeover", |model, _| model.reached.has(TAKEOVER)),
                Property::<Self>::sometimes("a master has the other started", |model, _| {
                    model.reached.has(ACTIVATED)
                }),
            ]);
        }
        if self.bounds.fencing {
            properties.extend([
                Property::<Self>::sometimes("a fence is confirmed", |model, _| model.reached.has(FENCED)),
                Property::<Self>::sometimes("a fence is overdue", |model, _| model.reached.has(OVERDUE)),
            ]);
        }
        properties
    }
}
