//! A holder that follows: keeps what the primary feeds it, and says what is durable (S4-03, S4-07; I1, V2).
//!
//! ```text
#![doc = include_str!("secondary.edges.txt")]
//! ```

use super::history::History;
use crate::actions::Actions;
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId};
use crate::log::Seq;

/// What the shell tells the machine.
#[expect(clippy::large_enum_variant, reason = "no heap to box into; events are given one by one")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A primary offers to feed this holder.
    Offered {
        /// Who.
        from: NodeId,
        /// Under which it took the register.
        epoch: Epoch,
        /// Of its log.
        history: History,
        /// The oldest write that its log still has.
        oldest: Seq,
    },
    /// The superblock says durably what [`Action::Adopt`] asked for.
    Adopted,
    /// A write came from a primary.
    Fed {
        /// Who.
        from: NodeId,
        /// Under which it took the register.
        epoch: Epoch,
        /// Under which the write was made.
        made: Epoch,
        /// Its number.
        seq: Seq,
    },
    /// Every write up to this one is durable in this holder's log.
    Durable(Seq),
    /// A primary says that every write up to this one is durable on all in-sync holders.
    Committed {
        /// Who.
        from: NodeId,
        /// Under which it took the register.
        epoch: Epoch,
        /// Up to which.
        seq: Seq,
    },
    /// The log of this holder failed.
    LogFailed,
}

/// What the machine asks the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make durable that nothing older than this epoch is followed, and that the log goes on with `from`:
    /// what it has from there on is cut off. Then report [`Event::Adopted`]. Nothing is appended meanwhile.
    Adopt {
        /// Promise it.
        epoch: Epoch,
        /// The write that is expected next.
        from: Seq,
    },
    /// Tell a primary that it can feed this holder.
    Ready {
        /// Whom.
        to: NodeId,
        /// Of its offer.
        epoch: Epoch,
        /// From this write on.
        next: Seq,
    },
    /// Tell a primary that its log does not reach back to this holder's: it needs the blocks that changed.
    Behind {
        /// Whom.
        to: NodeId,
        /// Of its offer.
        epoch: Epoch,
    },
    /// A primary's log lacks, or has otherwise, what all holders had (F51). Nothing is cut off for it: the
    /// operator must say which of the two is to be lost.
    Contradicted {
        /// Who.
        by: NodeId,
        /// Of its offer.
        epoch: Epoch,
    },
    /// Tell a node that it is not the primary any more.
    Outranked {
        /// Whom.
        to: NodeId,
        /// The newest epoch promised here.
        promised: Epoch,
    },
    /// Append the write that came.
    Append {
        /// Its number.
        seq: Seq,
        /// Under which it was made.
        made: Epoch,
    },
    /// Tell the primary what is durable here.
    Have {
        /// Whom.
        to: NodeId,
        /// Of its offer.
        epoch: Epoch,
        /// Every write up to this one.
        durable: Seq,
    },
    /// Writes up to this one may go to this holder's own backing store (I10).
    Apply(Seq),
}

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// No primary has fed it since its start. Exit: one offers.
    Idle,
    /// The promise and the cut are on their way to the disk. Exit: they are durable.
    Adopting(Following),
    /// It keeps what it is fed. Exit: a primary with a newer epoch offers, or its log fails.
    Following(Following),
    /// No primary's log reaches back to its own. Exit: it is filled with the blocks that changed, and offered
    /// again.
    Behind(Following),
    /// Its log has failed. Final until the holder starts again.
    Failed,
}

/// Whom it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Following {
    /// The primary.
    pub primary: NodeId,
    /// Under which it took the register.
    pub epoch: Epoch,
}

/// Most actions of one step.
pub const ACTIONS_MAX: usize = 2;

type Todo = Actions<Action, ACTIONS_MAX>;

/// A holder that follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Secondary {
    mode: Mode,
    promised: Epoch,
    history: History,
    durable: Seq,
    commit: Seq,
    /// It asked to be fed from its next write on, and no such write came yet. What comes instead was sent
    /// before, on a stream that keeps the order.
    is_asking: bool,
}

impl Secondary {
    /// Follows with a log that holds `history`, all of it durable. `promised` is what its superblock says,
    /// and up to `commit` its writes are known to be on all in-sync holders.
    pub const fn new(promised: Epoch, history: History, commit: Seq) -> Self {
        let durable = history.next().before();
        Self { mode: Mode::Idle, promised, history, durable, commit, is_asking: false }
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The newest epoch promised, durably or about to be.
    pub const fn promised(&self) -> Epoch {
        self.promised
    }

    /// This holder takes the register under `epoch`: nothing older is followed from now on, whatever becomes
    /// of that.
    pub fn promise(&mut self, epoch: Epoch) {
        self.promised = self.promised.max(epoch);
    }

    /// What its log holds.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Every write up to this one is durable here.
    pub const fn durable(&self) -> Seq {
        self.durable
    }

    /// Every write up to this one is known to be on all in-sync holders. It may not be in this log yet.
    pub const fn commit(&self) -> Seq {
        self.commit
    }

    /// Every write up to this one may go to this holder's own store: all in-sync holders have it, and this
    /// log, durably.
    pub fn safe(&self) -> Seq {
        self.commit.min(self.durable)
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, event: Event) -> Todo {
        let mut todo = Todo::none();
        match (self.mode, event) {
            (Mode::Failed, Event::Offered { .. } | Event::Fed { .. } | Event::Committed { .. })
            | (Mode::Failed, Event::Adopted | Event::Durable(_) | Event::LogFailed) => {}
            (_, Event::LogFailed) => self.enter(Mode::Failed),
            (_, Event::Offered { from, epoch, .. } | Event::Fed { from, epoch, .. })
            | (_, Event::Committed { from, epoch, .. })
                if epoch < self.promised =>
            {
                todo.push(Action::Outranked { to: from, promised: self.promised });
            }
            (mode, Event::Offered { from, epoch, history, oldest }) => {
                self.offered(mode, Following { primary: from, epoch }, &history, oldest, &mut todo);
            }
            (Mode::Adopting(following), Event::Adopted) => {
                self.enter(Mode::Following(following));
                self.ready(following, &mut todo);
            }
            (Mode::Following(following), Event::Fed { from, epoch, made, seq }) => {
                if following == (Following { primary: from, epoch }) {
                    self.fed(following, made, seq, &mut todo);
                }
            }
            // What was on its way to the disk when the new primary came, and is not cut off.
            (Mode::Adopting(_), Event::Durable(seq)) => self.is_durable(seq),
            (Mode::Following(following), Event::Durable(seq)) => {
                self.is_durable(seq);
                let Following { primary: to, epoch } = following;
                todo.push(Action::Have { to, epoch, durable: self.durable });
                self.apply(&mut todo);
            }
            (Mode::Following(following), Event::Committed { from, epoch, seq }) => {
                if following == (Following { primary: from, epoch }) {
                    self.commit = self.commit.max(seq);
                    if is_planted(Bug::AppliedUncommitted) {
                        self.commit = self.history.next().before();
                    }
                    self.apply(&mut todo);
                }
            }
            // Of a primary that was followed before, or too early: it is fed again.
            (
                Mode::Idle | Mode::Adopting(_) | Mode::Behind(_),
                Event::Fed { .. } | Event::Committed { .. },
            )
            | (Mode::Idle | Mode::Behind(_), Event::Durable(_))
            | (Mode::Idle | Mode::Following(_) | Mode::Behind(_), Event::Adopted) => {}
        }
        self.check();
        todo
    }

    fn offered(&mut self, mode: Mode, offer: Following, theirs: &History, oldest: Seq, todo: &mut Todo) {
        match mode {
            // What is being adopted is not asked for twice.
            Mode::Adopting(following) if following == offer => return,
            // The path to the same primary was lost in between. The logs are the same as far as this one
            // goes.
            Mode::Following(following) if following == offer && oldest <= self.history.next() => {
                return self.ready(following, todo);
            }
            // The superblock is being written: the offer is made again.
            Mode::Adopting(_) => return,
            Mode::Idle | Mode::Following(_) | Mode::Behind(_) | Mode::Failed => {}
        }
        // It may have been told of more than it was fed: of what it does not have it has nothing to agree on.
        let commit = self.commit.min(self.history.next().before());
        match self.history.agreed(commit, theirs) {
            Some(agreed) if oldest <= agreed.next() => {
                self.promised = offer.epoch;
                self.history.cut(agreed.next());
                self.durable = self.durable.min(agreed);
                self.enter(Mode::Adopting(offer));
                todo.push(Action::Adopt { epoch: offer.epoch, from: agreed.next() });
            }
            Some(_) => {
                self.enter(Mode::Behind(offer));
                todo.push(Action::Behind { to: offer.primary, epoch: offer.epoch });
            }
            None => todo.push(Action::Contradicted { by: offer.primary, epoch: offer.epoch }),
        }
    }

    fn ready(&mut self, following: Following, todo: &mut Todo) {
        self.is_asking = true;
        let Following { primary: to, epoch } = following;
        todo.push(Action::Ready { to, epoch, next: self.history.next() });
        todo.push(Action::Have { to, epoch, durable: self.durable });
    }

    fn fed(&mut self, following: Following, made: Epoch, seq: Seq, todo: &mut Todo) {
        let is_old = self.history.epoch().is_some_and(|newest| made < newest);
        match seq.cmp(&self.history.next()) {
            core::cmp::Ordering::Equal if !is_old && made <= following.epoch => {
                self.is_asking = false;
                self.history.append(made, 1);
                todo.push(Action::Append { seq, made });
                if is_planted(Bug::FedIsDurable) {
                    let Following { primary: to, epoch } = following;
                    todo.push(Action::Have { to, epoch, durable: seq });
                }
            }
            // Fed twice.
            core::cmp::Ordering::Less => {}
            core::cmp::Ordering::Equal | core::cmp::Ordering::Greater if self.is_asking => {}
            // One was lost on the way, or it cannot be of this primary's log: from here on again.
            core::cmp::Ordering::Equal | core::cmp::Ordering::Greater => self.ready(following, todo),
        }
    }

    fn is_durable(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq.min(self.history.next().before()));
    }

    /// What all have, and is durable here, may go to the backing store.
    fn apply(&self, todo: &mut Todo) {
        if self.safe() != Seq(0) {
            todo.push(Action::Apply(self.safe()));
        }
    }

    /// Cheap facts that hold between any two events.
    fn check(&self) {
        assert!(self.durable < self.history.next(), "more is durable than was appended");
    }

    /// The only place where the mode changes from one variant to another.
    fn enter(&mut self, next: Mode) {
        let edge = (self.mode.name(), next.name());
        assert!(EDGES.contains(&edge), "no such edge: {} -> {}", edge.0, edge.1);
        self.mode = next;
    }
}

impl Mode {
    /// The name used in [`EDGES`], in traces and in the operator's view.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Adopting(_) => "adopting",
            Self::Following(_) => "following",
            Self::Behind(_) => "behind",
            Self::Failed => "failed",
        }
    }
}

/// Every allowed change of mode. A test walks all of them and finds no other.
pub const EDGES: &[(&str, &str)] = &[
    ("idle", "adopting"),
    ("idle", "behind"),
    ("idle", "failed"),
    ("adopting", "following"),
    ("adopting", "failed"),
    ("following", "adopting"),
    ("following", "behind"),
    ("following", "failed"),
    ("behind", "adopting"),
    ("behind", "behind"),
    ("behind", "failed"),
];

#[cfg(test)]
#[path = "secondary_tests.rs"]
mod tests;
