//! What happens next: a queue of events in true time, and beside it the timers of the machines, which are put
//! off more often than they ring. What is due at one instant happens in the order in which it was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bulkhead_core::id::NodeId;

use crate::world::Due;

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// That of the node itself.
    Node,
    /// That of its holder.
    Holder,
}

/// When, and how many were asked for before: no two are alike.
type Turn = (u64, u64);

/// A timer that is not set.
const NEVER: Turn = (u64::MAX, u64::MAX);

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BinaryHeap<Reverse<(Turn, usize)>>,
    /// What the events are, by their places; those taken are free.
    dues: Vec<Option<Due>>,
    free: Vec<usize>,
    /// Of each machine, by its number: of the node, and of its holder.
    timers: Vec<[Turn; 2]>,
    sequence: u64,
}

impl Queue {
    /// Something will happen.
    pub(crate) fn push(&mut self, at: u64, due: Due) {
        let turn = self.turn(at);
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.dues.push(None);
                self.dues.len() - 1
            }
        };
        self.dues[place] = Some(due);
        self.events.push(Reverse((turn, place)));
    }

    /// Sets a timer, or takes it back. It rings once.
    pub(crate) fn set(&mut self, node: NodeId, timer: Timer, at: Option<u64>) {
        let turn = at.map_or(NEVER, |at| self.turn(at));
        let machine = usize::from(node.0);
        if self.timers.len() <= machine {
            self.timers.resize(machine + 1, [NEVER; 2]);
        }
        let [of_node, of_holder] = &mut self.timers[machine];
        match timer {
            Timer::Node => *of_node = turn,
            Timer::Holder => *of_holder = turn,
        }
    }

    /// What happens next, and when, if not after `end`.
    pub(crate) fn next(&mut self, end: u64) -> Option<(u64, Due)> {
        let event = self.events.peek().map_or(NEVER, |Reverse((turn, _))| *turn);
        let (mut first, mut rings) = (event, None);
        for (machine, [of_node, of_holder]) in self.timers.iter().enumerate() {
            for (turn, timer) in [(of_node, Timer::Node), (of_holder, Timer::Holder)] {
                if *turn < first {
                    (first, rings) = (*turn, Some((machine, timer)));
                }
            }
        }
        let (at, _) = first;
        if end < at || first == NEVER {
            return None;
        }
        if let Some((machine, timer)) = rings {
            let node = NodeId(u16::try_from(machine).unwrap_or(0));
            self.set(node, timer, None);
            return Some((at, Due::Timer { node, timer }));
        }
        let Reverse((_, place)) = self.events.pop()?;
        self.free.push(place);
        Some((at, self.dues[place].take()?))
    }

    fn turn(&mut self, at: u64) -> Turn {
        self.sequence += 1;
        (at, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];

    /// V47: all that is due at one instant has one order.
    #[test]
    fn events_and_timers_happen_in_the_order_in_which_they_were_asked_for() {
        let mut queue = Queue::default();
        queue.push(7, Due::Wake { node: N[1] });
        queue.set(N[2], Timer::Node, Some(7));
        queue.set(N[1], Timer::Holder, Some(7));
        queue.push(7, Due::PowerOn { node: N[2] });
        queue.set(N[1], Timer::Node, Some(5));
        // Put off, and taken back.
        queue.set(N[1], Timer::Node, Some(9));
        queue.set(N[0], Timer::Node, Some(1));
        queue.set(N[0], Timer::Node, None);
        let mut seen = Vec::new();
        while let Some((at, due)) = queue.next(8) {
            seen.push(format!("{at} {due:?}"));
        }
        assert_eq!(
            seen,
            [
                "7 Wake { node: NodeId(1) }",
                "7 Timer { node: NodeId(2), timer: Node }",
                "7 Timer { node: NodeId(1), timer: Holder }",
                "7 PowerOn { node: NodeId(2) }",
            ]
        );
        assert!(matches!(queue.next(9), Some((9, Due::Timer { node: NodeId(1), timer: Timer::Node }))));
        assert!(queue.next(u64::MAX).is_none());
    }
}
