//! A guest's life in this process: it runs, is held, begins anew, and ends; and does what it is told
//! meanwhile (S2-01, S2-05).

use super::begins::{Begins, Found};
use super::console::Console;
use super::gate::Hold;
use super::keys::Keys;
use super::lease::{Harness, Keeper, Loan, Reins};
use super::listener::{Heard, Listener};
use super::machine::Machine;
pub use super::order::{Answer, Event, Leave, Order};
use super::reporter::Reporter;
use super::sandbox::Sandbox;
use super::snapshot::task::{self, Task};
use super::throttle::Pace;
use super::vcpu::End;
use crate::failure::Failure;
use crate::migration::barrier::Barrier;
use crate::migration::departure::{Departure, Outcome, Settings};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How a guest's life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has switched itself off.
    Off,
    /// It wanted to begin anew, and was not to.
    Reset,
    /// Somebody has ended it.
    Stopped,
    /// It runs on another node.
    Moved,
}

impl Ended {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
            Self::Moved => "moved",
        }
    }
}

/// A guest as this process has it, whatever it is.
#[derive(Debug)]
pub struct Guest {
    /// Where it speaks.
    pub console: Console,
    /// What is typed there.
    pub keys: Keys,
    /// Whether its first reset is its end.
    pub is_once: bool,
    /// Whether it stands still until somebody has it go on.
    pub is_paused: bool,
    /// The agent by whose lease it runs; `None`: it runs alone, and nobody looks whether it runs twice.
    pub agent: Option<PathBuf>,
    /// Where it is noted that it went to another node; `None`: nowhere.
    pub record: Option<PathBuf>,
    /// The lease that it runs by, once it has one.
    pub loan: Option<Loan>,
    /// It is being moved, and who asked for that.
    pub leaving: Option<(Departure, Answer)>,
    /// How fast it is to run.
    pub pace: Pace,
    /// A snapshot of it is being taken, and who asked for that.
    pub capturing: Option<(Task, Answer)>,
    /// What becomes of this process if it does what it needs not; `None`: it has more to do than the guest.
    pub sandbox: Option<Sandbox>,
}

/// Why a guest ends that is to end then.
const LOST: &str = "its heartbeat is lost; `lost` of its [heartbeat] says that it ends then";
/// How often a guest that reads nothing is offered what was typed.
const OFFER: Duration = Duration::from_millis(20);

/// What has ended a machine.
enum Over {
    Reset,
    Ended(Ended),
    Failed(String),
    Lost(Failure),
}

impl Guest {
    /// Runs it until its end; it begins as `begins` says. `tell` is another end of `events`.
    ///
    /// # Errors
    ///
    /// It cannot be started, or KVM cannot run it any more.
    pub fn run(
        mut self,
        begins: Begins,
        events: &Receiver<Event>,
        tell: &Sender<Event>,
    ) -> Result<Ended, Failure> {
        // Found once: a reset needs no server that is there.
        let found = begins.find(&self.console, self.agent.as_deref(), events)?;
        let Found { origin, mut copied, lease, mut arrival } = found;
        let (harness, lost) = (Arc::new(Harness::default()), tell.clone());
        let reins = Arc::clone(&harness) as Arc<dyn Reins>;
        let lose = move |why| drop(lost.send(Event::Lost(why)));
        let keeper = lease.map(|lease| lease.keep(reins, lose)).transpose()?;
        self.loan = keeper.as_ref().map(Keeper::loan);
        let described = &origin.description;
        let (name, lost) = (&described.name, described.heartbeat.lost);
        let reporter = self.agent.as_deref().map(|agent| Reporter::start(name, agent, lost));
        let mut listener = Listener::new(name.clone(), lost, reporter.transpose().map_err(unreported)?);
        // What a reset needs is done under it the first time already.
        self.sandbox.map_or(Ok(()), Sandbox::enter)?;
        for number in 0_u64.. {
            let (own, beats) = (tell.clone(), tell.clone());
            let ended = move |end| {
                // The guest is gone already: nobody asks how.
                let _ = own.send(Event::Ended(number, end));
            };
            let paused = self.is_paused.then_some(Hold::Operator);
            let held: Vec<_> = paused.into_iter().chain(keeper.as_ref().map(|_| Hold::Lease)).collect();
            let begun = match copied.take() {
                Some(copied) => copied.begin(&held, ended),
                None => Machine::start(origin.clone(), &held, ended),
            };
            let machine = match begun {
                Ok(machine) => Arc::new(machine),
                Err(why) => {
                    let _ = arrival.take().map(|arrival| arrival.fails(&why));
                    return Err(why);
                }
            };
            machine.heartbeat().wake(beats);
            self.pace.begin(&machine).map_err(no_thread)?;
            listener.begin();
            harness.put_on(&machine);
            let _ = arrival.take().map(|arrival| arrival.runs());
            let over = self.until_over(&machine, number, events, tell, &mut listener);
            let captured = self.captured();
            let over = self.left().or(captured).unwrap_or(over);
            harness.take_off();
            self.pace.end();
            drop(machine);
            match over {
                Over::Reset if !self.is_once => {}
                Over::Reset => return Ok(Ended::Reset),
                Over::Ended(ended) => return Ok(ended),
                Over::Failed(why) => {
                    let what = format!("guest {}: {why}", origin.description.name);
                    return Err(Failure::failed(what).left(""));
                }
                Over::Lost(why) => {
                    let what = format!("guest {}: {}", origin.description.name, why.what);
                    return Err(Failure { what, ..why });
                }
            }
        }
        Ok(Ended::Reset)
    }

    /// Its move is not waited for any more, unless it was given away: what came of that.
    fn left(&mut self) -> Option<Over> {
        let (departure, answer) = self.leaving.take()?;
        departure_over(departure.end(), answer)
    }

    /// Its snapshot is not waited for any more, unless it is there: what came of that.
    fn captured(&mut self) -> Option<Over> {
        let (task, answer) = self.capturing.take()?;
        let taken = task.end();
        let is_end = taken.as_ref().is_ok_and(|is_end| *is_end);
        answer.hear(taken.map(|_| Value::Null));
        is_end.then_some(Over::Ended(Ended::Stopped))
    }

    fn until_over(
        &mut self,
        machine: &Arc<Machine>,
        number: u64,
        events: &Receiver<Event>,
        tell: &Sender<Event>,
        listener: &mut Listener,
    ) -> Over {
        loop {
            let look = match listener.listen(machine) {
                Heard::Again(look) => look,
                Heard::Reset => return Over::Reset,
                Heard::Stop => return Over::Failed(LOST.into()),
            };
            let offer = self.keys.offer(|typed| machine.input(typed)).then_some(OFFER);
            let event = match offer.into_iter().chain(look).min() {
                Some(wait) => events.recv_timeout(wait),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                // Another machine's processors end as this one runs already.
                Ok(Event::Ended(of, _)) if of != number => {}
                Ok(Event::Ended(_, End::PowerOff)) => return Over::Ended(Ended::Off),
                Ok(Event::Ended(_, End::Reset)) => return Over::Reset,
                Ok(Event::Ended(_, End::Failed(why))) => return Over::Failed(why),
                Ok(Event::Lost(why)) => return Over::Lost(why),
                Ok(Event::Stop | Event::Ended(_, End::Stopped)) => return Over::Ended(Ended::Stopped),
                Ok(Event::Typed | Event::Beats) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Departed) => {
                    // Another move than the one that is under way, perhaps.
                    if self.leaving.as_ref().is_some_and(|(departure, _)| departure.is_over())
                        && let Some(over) = self.left()
                    {
                        return over;
                    }
                }
                Ok(Event::Captured) => {
                    if self.capturing.as_ref().is_some_and(|(task, _)| task.is_over())
                        && let Some(over) = self.captured()
                    {
                        return over;
                    }
                }
                Ok(Event::Asked(Order::Snapshot(settings), answer)) => {
                    self.capture(machine, settings, answer, tell);
                }
                Ok(Event::Asked(Order::Leave(leave), answer)) => self.leave(machine, leave, answer, tell),
                Ok(Event::Asked(order, answer)) => {
                    let (said, over) = self.carry_out(machine, &order, listener);
                    answer.hear(said);
                    if let Some(over) = over {
                        return over;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Over::Ended(Ended::Stopped),
            }
        }
    }

    /// Begins to take a snapshot of it.
    fn capture(
        &mut self,
        machine: &Arc<Machine>,
        settings: task::Settings,
        answer: Answer,
        tell: &Sender<Event>,
    ) {
        let busy = match (&self.leaving, &self.capturing) {
            (Some(_), _) => Some(("it is being moved", "wait until it is there, and take it there.")),
            (None, Some(_)) => Some(("a snapshot of it is being taken already", "wait for that.")),
            (None, None) => None,
        };
        if let Some((what, next)) = busy {
            return answer.hear(Err(Failure::refused(what).next(next)));
        }
        let tell = tell.clone();
        match Task::begin(machine, settings, self.agent.clone(), move || drop(tell.send(Event::Captured))) {
            Ok(task) => self.capturing = Some((task, answer)),
            Err(why) => answer.hear(Err(why)),
        }
    }

    /// Begins to move it.
    fn leave(&mut self, machine: &Arc<Machine>, leave: Leave, answer: Answer, tell: &Sender<Event>) {
        let name = &machine.origin().description.name;
        if self.capturing.is_some() {
            let next = "wait for that, or `PUT vm.cancel-snapshot`.";
            let what = format!("a snapshot of guest {name} is being taken");
            return answer.hear(Err(Failure::refused(what).left("").next(next)));
        }
        if let Some((departure, _)) = &self.leaving {
            let to = departure.view().get("to").and_then(Value::as_str).unwrap_or_default().to_owned();
            let what = format!("guest {name} is being moved to {to} already");
            return answer.hear(Err(Failure::refused(what).left("")));
        }
        let Some(agent) = self.agent.clone().or(leave.agent) else {
            let what = format!("guest {name} runs without an agent, and one is needed to move it");
            let next = "name its socket: `bulkhead vm migrate --socket`.";
            return answer.hear(Err(Failure::usage(what).next(next)));
        };
        if leave.together.is_some() && self.loan.is_none() {
            let next = "move it by itself.";
            return answer
                .hear(Err(Failure::refused(format!("guest {name} runs alone")).left("").next(next)));
        }
        let Leave { node, downtime, bandwidth, is_quick, with_disks, together, .. } = leave;
        let together = together.map(|together| Arc::new(Barrier::new(together)));
        let (loan, is_paused, record) = (self.loan.clone(), self.is_paused, self.record.clone());
        // As long as a machine runs there is one.
        let Some(throttle) = self.pace.throttle() else { return };
        let settings = Settings {
            node,
            agent,
            loan,
            is_paused,
            downtime,
            bandwidth,
            is_quick,
            with_disks,
            record,
            throttle,
            together,
        };
        let tell = tell.clone();
        let departed = move || drop(tell.send(Event::Departed));
        match Departure::begin(machine, settings, departed) {
            Ok(departure) => self.leaving = Some((departure, answer)),
            Err(why) => answer.hear(Err(why)),
        }
    }

    /// Does what it is told; what that makes of the machine, if it is its end.
    fn carry_out(
        &mut self,
        machine: &Machine,
        order: &Order,
        listener: &Listener,
    ) -> (Result<Value, Failure>, Option<Over>) {
        let done = Ok(Value::Null);
        let said = match order {
            Order::Info => Ok(self.info(machine, listener)),
            Order::Counters => Ok(machine.origin().counters()),
            // The other node was told whether it is to stand still.
            Order::Pause | Order::Resume if self.leaving.is_some() => {
                let what = "it is being moved, and goes there as it was when that began";
                let next = "wait until it is there, or keep it here: `bulkhead vm migrate --cancel`.";
                Err(Failure::refused(what).left("").next(next))
            }
            Order::Pause => {
                machine.hold(Hold::Operator);
                done
            }
            Order::Resume => {
                machine.release(Hold::Operator);
                done
            }
            Order::Share(share) => self.pace.set(*share).map(|()| Value::Null).map_err(no_thread),
            Order::PowerButton => {
                machine.press_power_button();
                done
            }
            Order::Abandon => match &self.capturing {
                Some((task, _)) if task.cancel() => done,
                Some(_) | None => Err(Failure::refused("no snapshot of it is being taken").left("")),
            },
            Order::Leave(_) | Order::Snapshot(_) => done,
            Order::Advance(advance) => match &self.leaving {
                Some((departure, _)) => departure.advance(advance),
                None => Err(Failure::refused("it is not being moved").left("")),
            },
            Order::Stay => match &self.leaving {
                Some((departure, _)) if departure.cancel() => done,
                Some(_) => Err(Failure::refused("it was given to the other node already").left("")),
                None => Err(Failure::refused("it is not being moved").left("")),
            },
            Order::Reboot => return (done, Some(Over::Reset)),
            Order::Shutdown => return (done, Some(Over::Ended(Ended::Stopped))),
        };
        self.is_paused = machine.is_held(Hold::Operator);
        (said, None)
    }

    fn info(&self, machine: &Machine, listener: &Listener) -> Value {
        let held = [(Hold::Operator, "paused"), (Hold::Lease, "no lease"), (Hold::Capture, "captured")];
        let held: Vec<_> =
            held.into_iter().filter(|(why, _)| machine.is_held(*why)).map(|(_, name)| name).collect();
        json!({
            "state": if held.is_empty() { "Running" } else { "Paused" },
            "held": held,
            "heartbeat": listener.json(machine),
            "lease": self.agent.is_some(),
            "share": self.pace.share(),
            "snapshot": self.capturing.as_ref().map(|(task, _)| task.view()),
            "tracked": machine.tracked().map(|snapshot| snapshot.to_string()),
            "migration": self.leaving.as_ref().map(|(departure, _)| departure.view()),
            "config": machine.origin().description.json(),
        })
    }
}

fn unreported(error: std::io::Error) -> Failure {
    Failure::failed(format!("no thread to say how its heartbeat is: {error}"))
        .left("The guest was not started.")
}

fn no_thread(error: std::io::Error) -> Failure {
    Failure::failed(format!("no thread to slow a guest down: {error}")).left("It runs as before.")
}

/// What a move that has come to its end makes of the guest, and tells who asked for it.
fn departure_over(outcome: Outcome, answer: Answer) -> Option<Over> {
    match outcome {
        Outcome::Stays(why) => {
            answer.hear(Err(why));
            None
        }
        Outcome::Gone(moved) => {
            answer.hear(Ok(serde_json::to_value(moved).unwrap_or_default()));
            Some(Over::Ended(Ended::Moved))
        }
        Outcome::Unheard(why) => {
            answer.hear(Err(why.clone()));
            Some(Over::Failed(why.what))
        }
    }
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
