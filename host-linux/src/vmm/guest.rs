//! A guest's life in this process: it runs, is held, begins anew, and ends; and does what it is told
//! meanwhile (S2-01, S2-05).

use super::console::Console;
use super::description::Description;
use super::gate::Hold;
use super::keys::Keys;
use super::lease::{Harness, Lease, Reins};
use super::machine::{Machine, Origin};
use super::snapshot::{copied::Copied, file};
use super::vcpu::End;
use crate::failure::Failure;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// What happens to a guest.
#[derive(Debug)]
pub enum Event {
    /// A processor of the machine of this number has ended.
    Ended(u64, End),
    /// Somebody has typed on its console.
    Typed,
    /// Somebody asks it.
    Asked(Order, Answer),
    /// It must not run any more.
    Lost(Failure),
    /// It is to end at once, as by a loss of power.
    Stop,
}

/// What a guest can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// What it is, and what it does.
    Info,
    /// To stand still.
    Pause,
    /// To go on.
    Resume,
    /// To be written into this file, and to end there or to go on.
    Snapshot {
        /// An absolute path.
        path: PathBuf,
        /// It ends when it is written.
        is_end: bool,
    },
    /// To begin anew.
    Reboot,
    /// To end itself.
    PowerButton,
    /// To end at once.
    Shutdown,
}

/// Who hears what came of an order. Dropped unheard, it was not carried out.
pub struct Answer(Box<dyn FnOnce(Result<Value, Failure>) + Send>);

impl Answer {
    /// Calls this.
    pub fn new(hear: impl FnOnce(Result<Value, Failure>) + Send + 'static) -> Self {
        Self(Box::new(hear))
    }

    /// This came of it.
    pub fn hear(self, answer: Result<Value, Failure>) {
        (self.0)(answer);
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

/// How a guest's life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has switched itself off.
    Off,
    /// It wanted to begin anew, and was not to.
    Reset,
    /// Somebody has ended it.
    Stopped,
}

impl Ended {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
        }
    }
}

/// How a guest begins; after a reset, all begin with their kernels.
#[derive(Debug)]
pub enum Begins {
    /// With its kernel.
    Anew(Description),
    /// Where it was when it was captured.
    Again {
        /// The file with all of it.
        snapshot: PathBuf,
        /// What it must be called.
        name: Option<String>,
    },
}

impl Begins {
    /// Finds what it names.
    fn find(
        self,
        console: &Console,
        lease: Option<&Lease>,
    ) -> Result<(Origin, Option<Box<Copied>>), Failure> {
        let (snapshot, expected) = match self {
            Self::Anew(description) => return Ok((Origin::find(description, console.clone(), lease)?, None)),
            Self::Again { snapshot, name } => (snapshot, name),
        };
        let copied = Box::new(file::open(&snapshot, console.clone(), lease)?);
        let name = &copied.origin().description.name;
        match expected.filter(|expected| expected != name) {
            None => Ok((copied.origin().clone(), Some(copied))),
            Some(other) => {
                let what = format!("{} is a snapshot of guest {name}, not of {other}", snapshot.display());
                Err(Failure::refused(what).left(""))
            }
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
}

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
        let lease = self.agent.as_deref().map(Lease::obtain).transpose()?;
        let (origin, mut copied) = begins.find(&self.console, lease.as_ref())?;
        let (harness, lost) = (Arc::new(Harness::default()), tell.clone());
        let reins = Arc::clone(&harness) as Arc<dyn Reins>;
        let lose = move |why| drop(lost.send(Event::Lost(why)));
        let keeper = lease.map(|lease| lease.keep(reins, lose)).transpose()?;
        for number in 0_u64.. {
            let tell = tell.clone();
            let ended = move |end| {
                // The guest is gone already: nobody asks how.
                let _ = tell.send(Event::Ended(number, end));
            };
            let paused = self.is_paused.then_some(Hold::Operator);
            let held: Vec<_> = paused.into_iter().chain(keeper.as_ref().map(|_| Hold::Lease)).collect();
            let machine = Arc::new(match copied.take() {
                Some(copied) => copied.begin(&held, ended)?,
                None => Machine::start(origin.clone(), &held, ended)?,
            });
            harness.put_on(&machine);
            let over = self.until_over(&machine, number, events);
            harness.take_off();
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

    fn until_over(&mut self, machine: &Machine, number: u64, events: &Receiver<Event>) -> Over {
        loop {
            let event = match self.keys.offer(|typed| machine.input(typed)) {
                true => events.recv_timeout(OFFER),
                false => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                // Another machine's processors end as this one runs already.
                Ok(Event::Ended(of, _)) if of != number => {}
                Ok(Event::Ended(_, End::PowerOff)) => return Over::Ended(Ended::Off),
                Ok(Event::Ended(_, End::Reset)) => return Over::Reset,
                Ok(Event::Ended(_, End::Failed(why))) => return Over::Failed(why),
                Ok(Event::Lost(why)) => return Over::Lost(why),
                Ok(Event::Stop | Event::Ended(_, End::Stopped)) => return Over::Ended(Ended::Stopped),
                Ok(Event::Typed) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Asked(order, answer)) => {
                    let (said, over) = self.carry_out(machine, &order);
                    answer.hear(said);
                    if let Some(over) = over {
                        return over;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Over::Ended(Ended::Stopped),
            }
        }
    }

    /// Does what it is told; what that makes of the machine, if it is its end.
    fn carry_out(&mut self, machine: &Machine, order: &Order) -> (Result<Value, Failure>, Option<Over>) {
        let done = Ok(Value::Null);
        let said = match order {
            Order::Info => Ok(self.info(machine)),
            Order::Pause => {
                machine.hold(Hold::Operator);
                done
            }
            Order::Resume => {
                machine.release(Hold::Operator);
                done
            }
            Order::PowerButton => {
                machine.press_power_button();
                done
            }
            Order::Snapshot { path, is_end } => match (file::save(machine, path, &mut |_| ()), is_end) {
                (Ok(still), true) => {
                    // None of its instructions is carried out behind what is in the file.
                    still.end();
                    return (done, Some(Over::Ended(Ended::Stopped)));
                }
                (saved, _) => saved.map(|_| Value::Null),
            },
            Order::Reboot => return (done, Some(Over::Reset)),
            Order::Shutdown => return (done, Some(Over::Ended(Ended::Stopped))),
        };
        self.is_paused = machine.is_held(Hold::Operator);
        (said, None)
    }

    fn info(&self, machine: &Machine) -> Value {
        let held = [(Hold::Operator, "paused"), (Hold::Lease, "no lease"), (Hold::Capture, "captured")];
        let held: Vec<_> =
            held.into_iter().filter(|(why, _)| machine.is_held(*why)).map(|(_, name)| name).collect();
        json!({
            "state": if held.is_empty() { "Running" } else { "Paused" },
            "held": held,
            "config": machine.origin().description.json(),
        })
    }
}
