//! A mirror group: real holders with real logs on disks that lose their power, streams that break, and a
//! register that changes hands (I1, I2, I3, I10, V2, V3, V4, V8; S4-10, X14).
//!
//! The holder is the real one, with its log, its superblock, its recovery and both of its roles. The register
//! stands for what the other models show of it: one record, one holder at a time, a lease that may end at any
//! time, and that its holder's clock ends no later. What its holder wants it to say may be chosen late, or
//! never; news of it come late. A stream keeps the order, and loses all when it breaks. A power cut leaves of
//! every write on its way none, the header, or all; a killed process loses nothing of that. A clock moves
//! when a timer of its holder is due or its lease ends.
//!
//! From every single state the model also lets all trouble end, and demands that within [`HEAL_MAX`] steps
//! one leads, all are in sync, and everything acknowledged is there.

mod disk;
mod heal;
mod node;
mod office;
mod site;
mod truth;

use std::fmt;

use bulkhead_core::holder::words::Backing;
use stateright::{Model, Property};

use crate::run::Reached;
use heal::Healed;
use site::Budget;

pub use heal::HEAL_MAX;
pub use node::Left;
pub use site::State;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Holders: two or three.
    pub holders: usize,
    /// Where writes go in the end.
    pub backing: Backing,
    /// Blocks of a write: many, so that few writes fill a log and it is trimmed.
    pub blocks: u32,
    /// Whether all are in sync at the start; otherwise all are down, and their logs empty.
    pub settled: bool,
    /// Writes of the guest.
    pub writes: u8,
    /// Crashes, with any rest of what was on its way to the disk; in all.
    pub crashes: u8,
    /// Leases that end while their holder lives.
    pub losses: u8,
    /// Streams that break, beside those of a crash.
    pub breaks: u8,
    /// Timers that run out.
    pub timeouts: u8,
    /// Whether every state is healed with one of the holders gone for good, too.
    pub gone: bool,
    /// What is not as the model says, to see that this is found.
    pub lie: Option<Lie>,
}

impl Bounds {
    /// Two holders in sync, one write, and nothing that goes wrong: others are made of these.
    pub const LEAST: Self = Self {
        holders: 2,
        backing: Backing::Local,
        blocks: 1,
        settled: true,
        writes: 1,
        crashes: 0,
        losses: 0,
        breaks: 0,
        timeouts: 0,
        gone: false,
        lie: None,
    };
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holders, backing, blocks, settled, writes, crashes, losses, .. } = self;
        let Self { breaks, timeouts, gone, .. } = self;
        let store = match backing {
            Backing::Local => "own stores",
            Backing::Shared => "one store",
        };
        write!(f, "{holders} holders, {store}, {}, ", if *settled { "in sync" } else { "empty" })?;
        write!(f, "writes: {writes} of {blocks} blocks, crashes: {crashes}, leases lost: {losses}, ")?;
        let without = if *gone { ", also without each of them" } else { "" };
        write!(f, "streams broken: {breaks}, timers: {timeouts}, every state healed{without}")
    }
}

/// What a world is like in which the holders cannot keep their promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// A power cut takes the newest batch that was flushed.
    BatchLost,
    /// A power cut takes the newest superblock that was flushed.
    SuperblockLost,
    /// What was under way on a stream that broke arrives at any time after.
    OldWords,
    /// The register forgets that somebody left the in-sync set.
    LossForgotten,
    /// The register gives one epoch twice.
    EpochReused,
    /// A holder acts longer than the register is held for it.
    LeaseOutlived,
    /// The register says that everybody is in sync.
    AllInSync,
    /// A follower says that it has what is not durable in its log yet.
    SaidEarly,
    /// A store gets what is not safe yet.
    AppliedEarly,
    /// Nobody who lost the register is told so.
    NeverToldLost,
}

/// One step of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A guest writes at this holder.
    Write(usize),
    /// A batch on its way is durable.
    Durable(usize, usize),
    /// The superblock on its way is durable.
    Kept(usize),
    /// The next word of a stream arrives.
    Deliver(usize, usize),
    /// What was under way on a stream that broke arrives, which is a lie.
    Late(usize),
    /// What may go to the store is in it.
    Applied(usize),
    /// A timer runs out.
    Timeout(usize),
    /// The seat of a holder asks whether to take the register, and does.
    Decide(usize),
    /// A holder is told what the register says.
    Told(usize),
    /// What the register's holder wants it to say is chosen.
    Rewritten,
    /// The lease ends.
    LeaseEnds,
    /// Whose lease ended is told so.
    Lost(usize),
    /// A holder's store was filled by another.
    Filled(usize, usize),
    /// A stream breaks.
    Break(usize, usize),
    /// A stream is met anew.
    Meet(usize, usize),
    /// A holder loses its power, or its process.
    Crash {
        /// Which.
        place: usize,
        /// What is left of each batch on its way.
        flights: Vec<Left>,
        /// Whether the superblock on its way is durable.
        is_kept: bool,
    },
    /// It starts again.
    Start(usize),
}

/// What must happen somewhere, or the run shows nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    Takeover,
    Cut,
    Remade,
    Outranked,
    Resync,
    Refused,
    Torn,
    AllDown,
    Filled,
    Grown,
    Shrunk,
    Survivor,
    RewrittenLate,
    ToldLate,
    Stranded,
}

/// The model: bounds, what was reached, and what is known to heal.
#[derive(Debug)]
pub struct Mirror {
    bounds: Bounds,
    reached: Reached,
    healed: Healed,
}

impl Mirror {
    /// All that can happen within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, reached: Reached::default(), healed: Healed::default() }
    }

    fn has(&self, mark: Mark) -> bool {
        self.reached.has(mark as u32)
    }
}

impl Model for Mirror {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let Bounds { settled, writes, crashes, losses, breaks, timeouts, .. } = self.bounds;
        let mut state = State::new(&self.bounds);
        if settled {
            state.settle();
        }
        state.left = Budget { writes, crashes, losses, breaks, timeouts };
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let Budget { writes, breaks, timeouts, .. } = state.left;
        for place in 0..state.nodes.len() {
            let node = state.node(place);
            if node.holder.is_none() {
                steps.push(Step::Start(place));
                continue;
            }
            steps.extend((0..node.flights.len()).map(|which| Step::Durable(place, which)));
            let due = node.holder.as_ref().and_then(|holder| holder.deadline());
            let may = [
                (node.keeping.is_some(), Step::Kept(place)),
                (0 < writes && node.primary().is_some(), Step::Write(place)),
                (state.applies(place), Step::Applied(place)),
                (0 < timeouts && due.is_some(), Step::Timeout(place)),
                (state.may_ask(place), Step::Decide(place)),
                (state.news[place].is_some(), Step::Told(place)),
                (state.lost[place], Step::Lost(place)),
            ];
            steps.extend(may.into_iter().filter(|(may, _)| *may).map(|(_, step)| step));
            if 0 < state.left.crashes {
                steps.extend(node.crashes().map(|(flights, is_kept)| Step::Crash {
                    place,
                    flights,
                    is_kept,
                }));
            }
            for other in 0..state.nodes.len() {
                let is_under_way = state.met[place.min(other)][place.max(other)];
                if is_under_way && !state.wires[other][place].is_empty() {
                    steps.push(Step::Deliver(other, place));
                }
            }
        }
        for (a, b) in state.pairs() {
            let are_up = state.is_up(a) && state.is_up(b);
            match state.met[a][b] {
                true if 0 < breaks => steps.push(Step::Break(a, b)),
                false if are_up => steps.push(Step::Meet(a, b)),
                true | false => {}
            }
        }
        steps.extend(state.fills.iter().map(|(from, to)| Step::Filled(*from, *to)));
        let can_hear = |which: &usize| state.is_up(state.old[*which].1);
        steps.extend((0..state.old.len()).filter(can_hear).map(Step::Late));
        steps.extend(state.register.rewrite.as_ref().map(|_| Step::Rewritten));
        steps.extend(state.may_end().then_some(Step::LeaseEnds));
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match &step {
            Step::Timeout(_) => state.left.timeouts -= 1,
            Step::Write(_)
            | Step::Durable(..)
            | Step::Kept(_)
            | Step::Deliver(..)
            | Step::Late(_)
            | Step::Applied(_)
            | Step::Decide(_)
            | Step::Told(_)
            | Step::Rewritten
            | Step::LeaseEnds
            | Step::Lost(_)
            | Step::Filled(..)
            | Step::Break(..)
            | Step::Meet(..)
            | Step::Crash { .. }
            | Step::Start(_) => {}
        }
        (before.wrong.is_none() && state.take(&step, &self.reached)).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let Bounds { crashes, losses, timeouts, writes, blocks, settled, gone, .. } = self.bounds;
        let is = |mark: bool, name, seen: fn(&Self, &State) -> bool| {
            mark.then(|| Property::<Self>::sometimes(name, seen))
        };
        let changes = 0 < crashes + losses;
        let has_own = self.bounds.backing == Backing::Local;
        let sometimes = [
            is(changes, "the other takes over", |model, _| model.has(Mark::Takeover)),
            is(changes && 0 < writes, "a takeover cuts a write off", |model, _| model.has(Mark::Cut)),
            is(changes, "the in-sync set grows", |model, _| model.has(Mark::Grown)),
            is(changes, "who is not in sync is refused", |model, _| model.has(Mark::Refused)),
            is(0 < timeouts, "the in-sync set shrinks", |model, _| model.has(Mark::Shrunk)),
            is(changes && 0 < writes, "one goes on alone", |model, _| model.has(Mark::Survivor)),
            is(changes && 0 < writes, "who missed a write is fed it", |model, _| model.has(Mark::Resync)),
            is(0 < losses, "news of the register come too late", |model, _| model.has(Mark::ToldLate)),
            is(0 < losses, "a change is chosen too late", |model, _| model.has(Mark::RewrittenLate)),
            is(0 < losses, "an old primary is told so", |model, _| model.has(Mark::Outranked)),
            is(0 < crashes && 0 < writes, "a batch is torn", |model, _| model.has(Mark::Torn)),
            is(1 < crashes && settled, "all are down", |model, _| model.has(Mark::AllDown)),
            is(has_own && 1 < blocks, "a store is filled", |model, _| model.has(Mark::Filled)),
            is(1 < blocks, "a log is made anew", |model, _| model.has(Mark::Remade)),
            is(gone, "who is left has everything, and may not lead", |model, _| model.has(Mark::Stranded)),
        ];
        always().into_iter().chain(sometimes.into_iter().flatten()).collect()
    }
}

fn always() -> Vec<Property<Mirror>> {
    use truth::Wrong;
    vec![
        Property::<Mirror>::always("who leads has every acknowledged write (I1, I3)", |_, state| {
            state.leader_has_all()
        }),
        Property::<Mirror>::always("every member in sync has it, durably (I2)", |_, state| {
            state.members_have_all()
        }),
        Property::<Mirror>::always("what is in a store is durable on all in sync (I10)", |_, state| {
            state.stores_are_committed()
        }),
        Property::<Mirror>::always("a log and its store say the same (V4)", |_, state| {
            state.logs_fit_stores()
        }),
        Property::<Mirror>::always("acknowledged only while the register is held (V3)", |_, state| {
            state.wrong != Some(Wrong::Unleased)
        }),
        Property::<Mirror>::always("an acknowledged write never changes (V8)", |_, state| {
            state.wrong != Some(Wrong::Changed)
        }),
        Property::<Mirror>::always("who is not in sync does not lead (S4-10)", |_, state| {
            state.wrong != Some(Wrong::Outsider)
        }),
        Property::<Mirror>::always("one leads in an epoch (I1)", |_, state| {
            state.wrong != Some(Wrong::TwoOfOneEpoch)
        }),
        Property::<Mirror>::always("nothing older than the promise is appended (I1, V2)", |_, state| {
            state.wrong != Some(Wrong::Outdated)
        }),
        Property::<Mirror>::always("nothing acknowledged is cut off (I2)", |_, state| {
            state.wrong != Some(Wrong::Cut)
        }),
        Property::<Mirror>::always("modes change as they are drawn (X14)", |_, state| {
            state.wrong != Some(Wrong::Undrawn)
        }),
        Property::<Mirror>::always("what is fed is a write", |_, state| {
            state.wrong != Some(Wrong::Malformed)
        }),
        Property::<Mirror>::always("when trouble ends, all are in sync (L-1 to L-3, X14)", |model, state| {
            state.wrong.is_some() || state.heals(None, &model.healed, &model.reached)
        }),
        Property::<Mirror>::always("without one for good, the set goes on (S4-10, X14)", |model, state| {
            let heals = |gone| state.heals(Some(gone), &model.healed, &model.reached);
            !model.bounds.gone || state.wrong.is_some() || (0..model.bounds.holders).all(heals)
        }),
    ]
}
