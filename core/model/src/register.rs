//! The register without leases: any order of questions and answers, lost and repeated ones, power cuts at
//! every write, proposers that give up or start again (I1, V2, V10; F25).
//!
//! Time stands still: leases of length 0 are asked for, so nothing but ballots orders the writes. A message
//! that is never delivered is lost. Every record carries the whole line of records that it was made from, so
//! "nothing that was chosen is forgotten" can be read off any two of them.

mod site;

use std::fmt;

use bulkhead_core::register::acceptor;
use stateright::{Model, Property};

use crate::run::Reached;
use site::{BUILT_UPON, CHOSEN, OUTBID, REGISTER};

pub use site::State;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rounds that each proposer may begin.
    pub rounds: [u8; 2],
    /// Power cuts of voters, in all.
    pub cuts: u8,
    /// Restarts of proposers, in all.
    pub restarts: u8,
    /// Messages that arrive twice, in all.
    pub repeats: u8,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds: [a, b], cuts, restarts, repeats } = self;
        write!(f, "3 voters, proposers with {a} and {b} rounds, power cuts: {cuts}, ")?;
        write!(f, "restarts of proposers: {restarts}, repeated messages: {repeats}, any loss and order")
    }
}

/// The model: bounds, and what was reached.
#[derive(Debug)]
pub struct Register {
    bounds: Bounds,
    reached: Reached,
}

impl Register {
    /// All that can happen within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, reached: Reached::default() }
    }
}

/// One step of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The message at this place of the wire arrives.
    Deliver(usize),
    /// The same, and will arrive again.
    Repeat(usize),
    /// A voter's flush returns.
    Flush(usize),
    /// A voter loses its power when this many of its unflushed writes have reached the disk, and starts
    /// again.
    Cut(usize, usize),
    /// A proposer begins a round, and gives up the one before.
    Begin(usize),
    /// A proposer starts again, and knows nothing.
    Restart(usize),
}

impl Model for Register {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (place, message) in state.wire.iter().enumerate() {
            let is_first = place == 0 || state.wire[place - 1] != *message;
            if is_first {
                steps.push(Step::Deliver(place));
                if 0 < state.repeats {
                    steps.push(Step::Repeat(place));
                }
            }
        }
        for (place, voter) in state.voters.iter().enumerate() {
            let voter = voter.get();
            if !voter.unflushed.is_empty() {
                steps.push(Step::Flush(place));
            }
            let on_disk = voter.accepted().map(|(_, record)| record);
            let differs = !voter.unflushed.is_empty() || voter.machine.accepted(REGISTER).as_ref() != on_disk;
            if 0 < state.cuts && differs {
                // All of it reached the disk: that is a flush that returned, whose answer was lost.
                steps.extend((0..=voter.unflushed.len()).map(|reached| Step::Cut(place, reached)));
            }
        }
        for (by, proposer) in state.proposers.iter().enumerate() {
            let proposer = proposer.get();
            if 0 < proposer.rounds_left {
                steps.push(Step::Begin(by));
            }
            if 0 < state.restarts && 0 < proposer.rounds_left && proposer.round_max != 0 {
                steps.push(Step::Restart(by));
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Deliver(place) => {
                let message = state.wire.remove(place);
                state.arrive(message.get(), &self.reached);
            }
            Step::Repeat(place) => {
                state.repeats -= 1;
                let message = state.wire[place].clone();
                state.arrive(message.get(), &self.reached);
            }
            Step::Flush(place) => {
                let (id, _) = state.voters[place].get().unflushed.last()?;
                state.voter_step(place, acceptor::Event::Persisted(*id));
            }
            Step::Cut(place, reached) => state.cut(place, reached),
            Step::Begin(by) => state.begin(by),
            Step::Restart(by) => state.restart(by),
        }
        state.tidy();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("chosen records form one line (I1, V2)", |_, state| {
                !state.broken.forked
            }),
            Property::<Self>::always("epochs only rise (V10)", |_, state| !state.broken.epoch_fell),
            Property::<Self>::always("what is answered is durable (F25)", |_, state| !state.broken.volatile),
            Property::<Self>::sometimes("either proposer chose", |model, _| {
                CHOSEN.iter().all(|mark| model.reached.has(*mark))
            }),
            Property::<Self>::sometimes("a proposer is outbid", |model, _| model.reached.has(OUTBID)),
            Property::<Self>::sometimes("a record is built upon the other's", |model, _| {
                model.reached.has(BUILT_UPON)
            }),
        ]
    }
}
