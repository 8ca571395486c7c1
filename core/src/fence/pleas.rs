//! The asker's part of fencing through a witness: a plea is repeated, because datagrams are lost, until it is
//! answered for good or its time is up (F28, F31).

use core::time::Duration;

use heapless::Vec;

use super::words::{Outcome, Plea, Reply};
use crate::actions::Actions;
use crate::id::NodeId;
use crate::time::{Instant, earliest};

/// Pleas under way: more than a node can have reason for. Full means: one more fails at once.
pub const PLEAS_MAX: usize = 8;
/// Most actions of one step.
pub const ACTIONS_MAX: usize = PLEAS_MAX;

/// What the node, the links and the clock tell the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Have this plea answered.
    Plead {
        /// The witness.
        to: NodeId,
        /// The plea.
        plea: Plea,
    },
    /// A witness answered.
    Answered {
        /// The witness.
        from: NodeId,
        /// What it says.
        reply: Reply,
    },
    /// [`Pleas::deadline`] has passed.
    Timeout,
}

/// What the machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the plea to the witness.
    Send {
        /// The witness.
        to: NodeId,
        /// The plea.
        plea: Plea,
    },
    /// It is over.
    Ended {
        /// Which.
        plea: Plea,
        /// The last that was heard of it; `None`: nothing.
        outcome: Option<Outcome>,
    },
}

/// What the machine must know from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From one repetition to the next.
    pub repeat: Duration,
    /// For how long.
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    to: NodeId,
    plea: Plea,
    again_at: Instant,
    until: Instant,
    last: Option<Outcome>,
}

type Todo = Actions<Action, ACTIONS_MAX>;

/// The pleas of one node.
#[derive(Clone, Debug)]
pub struct Pleas {
    settings: Settings,
    open: Vec<Open, PLEAS_MAX>,
}

impl Pleas {
    /// None yet.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, open: Vec::new() }
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.open.iter().map(|open| Some(open.again_at.min(open.until))))
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        match event {
            Event::Plead { to, plea } => {
                let again_at = now.after(self.settings.repeat);
                let until = now.after(self.settings.patience);
                let open = Open { to, plea, again_at, until, last: None };
                match self.open.push(open) {
                    Ok(()) => todo.push(Action::Send { to, plea }),
                    Err(_) => todo.push(Action::Ended { plea, outcome: None }),
                }
            }
            Event::Answered { from, reply } => {
                let same = |open: &Open| open.to == from && open.plea.id == reply.id;
                let Some(place) = self.open.iter().position(same) else { return todo };
                let goes_on = match reply.outcome {
                    Outcome::UnderWay => true,
                    Outcome::Refused(refusal) => refusal.may_pass(),
                    Outcome::Off | Outcome::On | Outcome::Failed => false,
                };
                if let Some(open) = self.open.get_mut(place).filter(|_| goes_on) {
                    open.last = Some(reply.outcome);
                } else {
                    let open = self.open.remove(place);
                    todo.push(Action::Ended { plea: open.plea, outcome: Some(reply.outcome) });
                }
            }
            Event::Timeout => self.timeout(now, &mut todo),
        }
        todo
    }

    fn timeout(&mut self, now: Instant, todo: &mut Todo) {
        for open in &mut self.open {
            if open.until <= now {
                todo.push(Action::Ended { plea: open.plea, outcome: open.last });
            } else if open.again_at <= now {
                open.again_at = now.after(self.settings.repeat);
                todo.push(Action::Send { to: open.to, plea: open.plea });
            }
        }
        self.open.retain(|open| now < open.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::words::{FenceId, Refusal, Want};
    use crate::id::{Epoch, RegisterId};
    use std::vec::Vec as Many;

    const W: NodeId = NodeId(3);
    const SETTINGS: Settings =
        Settings { repeat: Duration::from_millis(100), patience: Duration::from_millis(350) };

    fn plea(id: u64) -> Plea {
        let (node, register, epoch) = (NodeId(1), RegisterId(3), Epoch(5));
        Plea { id: FenceId(id), node, start: None, register, epoch, want: Want::Off }
    }

    fn step(pleas: &mut Pleas, at: u64, event: Event) -> Many<Action> {
        pleas.step(Instant::from_millis(at), event).into_iter().collect()
    }

    fn answer(id: u64, outcome: Outcome) -> Event {
        Event::Answered { from: W, reply: Reply { id: FenceId(id), outcome } }
    }

    #[test]
    fn a_plea_is_repeated_until_it_is_answered_for_good() {
        let mut pleas = Pleas::new(SETTINGS);
        let sent = [Action::Send { to: W, plea: plea(1) }];
        assert_eq!(step(&mut pleas, 0, Event::Plead { to: W, plea: plea(1) }), sent);
        assert_eq!(step(&mut pleas, 50, Event::Timeout), [], "an early call is harmless");
        assert_eq!(step(&mut pleas, 100, Event::Timeout), sent);
        // What may pass is asked for again; what a stranger or another plea is told does not count.
        assert_eq!(step(&mut pleas, 110, answer(1, Outcome::Refused(Refusal::Heard))), []);
        assert_eq!(step(&mut pleas, 111, answer(2, Outcome::Off)), []);
        let forged =
            Event::Answered { from: NodeId(9), reply: Reply { id: FenceId(1), outcome: Outcome::Off } };
        assert_eq!(step(&mut pleas, 112, forged), []);
        assert_eq!(step(&mut pleas, 200, Event::Timeout), sent);
        let ended = [Action::Ended { plea: plea(1), outcome: Some(Outcome::Off) }];
        assert_eq!(step(&mut pleas, 210, answer(1, Outcome::Off)), ended);
        assert_eq!(step(&mut pleas, 211, answer(1, Outcome::Off)), [], "once");
        assert_eq!(pleas.deadline(), None);
    }

    #[test]
    fn a_plea_ends_without_an_answer_and_one_too_many_fails_at_once() {
        let mut pleas = Pleas::new(SETTINGS);
        for id in 0..8 {
            assert_eq!(step(&mut pleas, 0, Event::Plead { to: W, plea: plea(id) }).len(), 1);
        }
        let failed = [Action::Ended { plea: plea(9), outcome: None }];
        assert_eq!(step(&mut pleas, 0, Event::Plead { to: W, plea: plea(9) }), failed);
        assert_eq!(step(&mut pleas, 9, answer(3, Outcome::UnderWay)), []);
        let ended = step(&mut pleas, 350, Event::Timeout);
        assert_eq!(ended.len(), 8);
        assert_eq!(ended[3], Action::Ended { plea: plea(3), outcome: Some(Outcome::UnderWay) });
        assert_eq!(ended[4], Action::Ended { plea: plea(4), outcome: None });
        assert_eq!(pleas.deadline(), None);
    }
}
