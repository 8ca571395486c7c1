//! The witness's part of fencing: takes pleas that were judged, has the power switched, reads it back, and
//! keeps a record of each (V20, V21, F28, F29).
//!
//! A plea is carried out once, however often it comes; one order for a node is under way at a time; a node is
//! off only when its power was read back as off. Everything has a fixed size: the microcontroller runs this.

use core::time::Duration;

use heapless::{Deque, Vec};

use super::words::{Entry, Ground, Outcome, Plea, Refusal, Reply, Want};
use crate::actions::Actions;
use crate::id::NodeId;
use crate::time::{Instant, earliest};

/// Orders remembered, those under way included. Full of those under way means: busy, ask again.
pub const ORDERS_MAX: usize = 8;
/// Records kept. Full means: the oldest is forgotten here; Linux has it on disk.
pub const ENTRIES_MAX: usize = 16;
/// Most actions of one step: an answer and a record for each order that is overdue.
pub const ACTIONS_MAX: usize = 2 * ORDERS_MAX;

/// Names an order to the power switch. Never reused by a running witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u32);

/// What the power switch is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Cut the power.
    Off,
    /// Switch it on.
    On,
    /// Say what it is: by a sense line or the device's own status, not from memory.
    Read,
}

/// What the power switch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Done {
    /// It switched, as it says.
    Switched,
    /// It read the power: on.
    IsOn,
    /// It read the power: off.
    IsOff,
    /// It could not, or did not in time.
    Failed,
}

/// What the links, the switch and the clock tell the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A plea came, and was judged by `right::judge`.
    Asked {
        /// Who asks.
        from: NodeId,
        /// For what.
        plea: Plea,
        /// Whether it may.
        right: Result<Ground, Refusal>,
    },
    /// The switch ended an order's step.
    PowerDone {
        /// Which.
        order: OrderId,
        /// How.
        done: Done,
    },
    /// [`Desk::deadline`] has passed.
    Timeout,
}

/// What the machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have the switch do something, and report [`Event::PowerDone`].
    Power {
        /// Repeated in the report.
        order: OrderId,
        /// Whose power.
        node: NodeId,
        /// What.
        act: Act,
    },
    /// Tell the asker how its plea stands.
    Answer {
        /// The asker.
        to: NodeId,
        /// How.
        reply: Reply,
    },
    /// Put this on record, in place of one with the same number.
    Record(Entry),
}

/// What the machine must know from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A switch that takes longer for one step has failed.
    pub step_max: Duration,
    /// A node that was cut stays off for at least this long, so that nothing of it is still charged.
    pub off_min: Duration,
}

/// The mode of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The switch works. Exit: it says so, or is overdue.
    Switching {
        /// When it is overdue.
        until: Instant,
    },
    /// The power is being read. Exit: it is read, or overdue.
    Reading {
        /// When it is overdue.
        until: Instant,
    },
    /// It ended at that time. Final.
    Ended {
        /// How.
        outcome: Outcome,
        /// When.
        at: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    id: OrderId,
    number: u32,
    asker: NodeId,
    plea: Plea,
    ground: Ground,
    mode: Mode,
}

type Todo = Actions<Action, ACTIONS_MAX>;

/// The witness's part of fencing.
#[derive(Clone, Debug)]
pub struct Desk {
    settings: Settings,
    /// Oldest first.
    orders: Vec<Order, ORDERS_MAX>,
    /// Oldest first.
    entries: Deque<Entry, ENTRIES_MAX>,
    /// The last order and the last record.
    last: (OrderId, u32),
}

impl Desk {
    /// Nothing was asked for yet.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, orders: Vec::new(), entries: Deque::new(), last: (OrderId(0), 0) }
    }

    /// The records, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How the order for `node` stands that was given last.
    pub fn mode_of(&self, node: NodeId) -> Option<Mode> {
        self.orders.iter().rev().find(|order| order.plea.node == node).map(|order| order.mode)
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.orders.iter().map(|order| match order.mode {
            Mode::Switching { until } | Mode::Reading { until } => Some(until),
            Mode::Ended { .. } => None,
        }))
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        match event {
            Event::Asked { from, plea, right } => self.asked(now, from, plea, right, &mut todo),
            Event::PowerDone { order, done } => {
                if let Some(place) = self.orders.iter().position(|one| one.id == order) {
                    self.done(now, place, done, &mut todo);
                }
            }
            Event::Timeout => {
                for place in 0..self.orders.len() {
                    let mode = self.orders.get(place).map(|order| order.mode);
                    if let Some(Mode::Switching { until } | Mode::Reading { until }) = mode
                        && until <= now
                    {
                        self.end(now, place, Outcome::Failed, &mut todo);
                    }
                }
            }
        }
        todo
    }

    fn asked(
        &mut self,
        now: Instant,
        from: NodeId,
        plea: Plea,
        right: Result<Ground, Refusal>,
        todo: &mut Todo,
    ) {
        let known = self.orders.iter().find(|order| order.answers(from, &plea, right.is_ok()));
        let outcome = match (known.map(Order::outcome), right) {
            (Some(outcome), _) => outcome,
            (None, Ok(ground)) => match self.hindrance(now, from, &plea) {
                None => self.begin(now, from, plea, ground, todo),
                Some(refusal) => self.refuse(now, from, plea, refusal, todo),
            },
            (None, Err(refusal)) => self.refuse(now, from, plea, refusal, todo),
        };
        todo.push(Action::Answer { to: from, reply: Reply { id: plea.id, outcome } });
    }

    /// What forbids a rightful plea for now.
    fn hindrance(&self, now: Instant, from: NodeId, plea: &Plea) -> Option<Refusal> {
        let under_way = |order: &&Order| !matches!(order.mode, Mode::Ended { .. });
        let mut open = self.orders.iter().filter(under_way);
        if open.clone().any(|order| order.plea.node == from && order.plea.want == Want::Off) {
            return Some(Refusal::BeingCut);
        }
        let is_full = ORDERS_MAX <= open.clone().count();
        if is_full || open.any(|order| order.plea.node == plea.node) {
            return Some(Refusal::Busy);
        }
        let cut_at = |order: &Order| match order.mode {
            Mode::Ended { outcome: Outcome::Off, at } if order.plea.want == Want::Off => Some(at),
            Mode::Ended { .. } | Mode::Switching { .. } | Mode::Reading { .. } => None,
        };
        let cuts = self.orders.iter().filter(|order| order.plea.node == plea.node).filter_map(cut_at);
        let too_short = cuts.max().is_some_and(|at| now.since(at) < self.settings.off_min);
        (plea.want == Want::On && too_short).then_some(Refusal::OffTooShort)
    }

    fn begin(&mut self, now: Instant, asker: NodeId, plea: Plea, ground: Ground, todo: &mut Todo) -> Outcome {
        if self.orders.is_full()
            && let Some(ended) = self.orders.iter().position(|one| matches!(one.mode, Mode::Ended { .. }))
        {
            self.orders.remove(ended);
        }
        let (OrderId(id), number) = self.last;
        let id = OrderId(id.wrapping_add(1));
        let number = number.wrapping_add(u32::from(plea.want != Want::Look));
        self.last = (id, number);
        let until = now.after(self.settings.step_max);
        let (mode, act) = match plea.want {
            Want::Off => (Mode::Switching { until }, Act::Off),
            Want::On => (Mode::Switching { until }, Act::On),
            Want::Look => (Mode::Reading { until }, Act::Read),
        };
        let order = Order { id, number, asker, plea, ground, mode };
        // There is room: who is full of orders under way was hindered.
        let _ = self.orders.push(order);
        self.record(now, &order, todo);
        todo.push(Action::Power { order: id, node: plea.node, act });
        Outcome::UnderWay
    }

    fn done(&mut self, now: Instant, place: usize, done: Done, todo: &mut Todo) {
        let until = now.after(self.settings.step_max);
        let Some(order) = self.orders.get_mut(place) else { return };
        let outcome = match (order.mode, done, order.plea.want) {
            (Mode::Switching { .. }, Done::Switched, _) => {
                order.mode = Mode::Reading { until };
                todo.push(Action::Power { order: order.id, node: order.plea.node, act: Act::Read });
                return;
            }
            (Mode::Reading { .. }, Done::IsOff, Want::Off | Want::Look) => Outcome::Off,
            (Mode::Reading { .. }, Done::IsOn, Want::On | Want::Look) => Outcome::On,
            // A switch that says it is done, and is not (F28).
            (Mode::Reading { .. }, Done::IsOff | Done::IsOn | Done::Switched | Done::Failed, _)
            | (Mode::Switching { .. }, Done::IsOff | Done::IsOn | Done::Failed, _) => Outcome::Failed,
            // Late: it counts as failed already, and the asker was told so.
            (Mode::Ended { .. }, Done::Switched | Done::IsOn | Done::IsOff | Done::Failed, _) => return,
        };
        self.end(now, place, outcome, todo);
    }

    fn end(&mut self, now: Instant, place: usize, outcome: Outcome, todo: &mut Todo) {
        let Some(order) = self.orders.get_mut(place) else { return };
        order.mode = Mode::Ended { outcome, at: now };
        let order = *order;
        self.record(now, &order, todo);
        todo.push(Action::Answer { to: order.asker, reply: Reply { id: order.plea.id, outcome } });
        if order.plea.want == Want::Look {
            self.orders.remove(place);
        }
    }

    fn record(&mut self, now: Instant, order: &Order, todo: &mut Todo) {
        if order.plea.want == Want::Look {
            return;
        }
        let Order { number, asker, plea, ground, .. } = *order;
        let entry = Entry { number, at: now, asker, plea, ground: Some(ground), outcome: order.outcome() };
        self.enter(entry, todo);
    }

    /// A refusal is put on record once, although the plea is repeated.
    fn refuse(
        &mut self,
        now: Instant,
        asker: NodeId,
        plea: Plea,
        refusal: Refusal,
        todo: &mut Todo,
    ) -> Outcome {
        let outcome = Outcome::Refused(refusal);
        let same = |entry: &&Entry| (entry.asker, entry.plea.id) == (asker, plea.id);
        match self.entries.iter().find(same).copied() {
            Some(known) if known.outcome == outcome => {}
            Some(known) => self.enter(Entry { at: now, outcome, ..known }, todo),
            None if plea.want == Want::Look => {}
            None => {
                let number = self.last.1.wrapping_add(1);
                self.last.1 = number;
                self.enter(Entry { number, at: now, asker, plea, ground: None, outcome }, todo);
            }
        }
        outcome
    }

    fn enter(&mut self, entry: Entry, todo: &mut Todo) {
        match self.entries.iter_mut().find(|known| known.number == entry.number) {
            Some(known) => *known = entry,
            None => {
                if self.entries.is_full() {
                    self.entries.pop_front();
                }
                // There is room now.
                let _ = self.entries.push_back(entry);
            }
        }
        todo.push(Action::Record(entry));
    }
}

impl Order {
    const fn outcome(&self) -> Outcome {
        match self.mode {
            Mode::Switching { .. } | Mode::Reading { .. } => Outcome::UnderWay,
            Mode::Ended { outcome, .. } => outcome,
        }
    }

    /// Whether this order is what is asked for: the same plea again; or, for whoever has the right, the same
    /// start of the same node, which is cut once (V21).
    fn answers(&self, from: NodeId, plea: &Plea, is_rightful: bool) -> bool {
        let again = (self.asker, self.plea.id) == (from, plea.id);
        let of = |plea: &Plea| (plea.node, plea.start, plea.want);
        let same = of(&self.plea) == of(plea) && plea.start.is_some() && plea.want == Want::Off;
        again || (is_rightful && same && self.outcome() != Outcome::Failed)
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
