//! The end of a move at the node that the guest leaves: it is copied while it runs, stands still for the
//! rest, and is given away, once (X15, S0-11).
//!
//! Before it is given it is here, whatever becomes of the other node or of the connection: it goes on. From
//! then on it is there, whatever is heard of it: it never goes on here by itself.

use super::barrier::{Advance, Barrier, Step};
use super::broken::Broken;
use super::calling::call;
use super::channel::{Channel, Outgoing};
use super::convergence::{Convergence, Next};
use super::disks::{self, source::Sources};
use super::moved::{Moved, Stood};
use super::saying::{expect, say, told};
use super::socket::Socket;
use super::words::{Offer, Word};
use crate::cluster::client::Client;
use crate::cluster::guest_moves::GuestRoad;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::guests::record::{Record, Way};
use crate::vmm::lease::Loan;
use crate::vmm::machine::Machine;
use crate::vmm::snapshot::format::{Kind, Writer};
use crate::vmm::snapshot::still::Still;
use crate::vmm::snapshot::written::Written;
use crate::vmm::snapshot::{Progress, contents};
use crate::vmm::throttle::{Claim, Throttle};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The other node begins a process within this time.
const BEGINS: Duration = Duration::from_secs(20);
/// It looks through what it has got, or begins to run, within this time.
const ANSWERS: Duration = Duration::from_secs(60);
const STACK: usize = 512 << 10;

/// Where a guest is to go, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// The control socket of this node's agent.
    pub agent: PathBuf,
    /// It runs by this lease, and is to run by that of the other node, which leads then; `None`: alone.
    pub loan: Option<Loan>,
    /// It stands still for someone already, and is to do so there.
    pub is_paused: bool,
    /// For how long it may stand still, as far as is known before.
    pub downtime: Duration,
    /// Bytes a second while it runs; `None`: as many as can.
    pub bandwidth: Option<u64>,
    /// It stands still from the beginning, and is copied once.
    pub is_quick: bool,
    /// What is on its disks goes with it, and nobody's lead changes.
    pub with_disks: bool,
    /// What is written before it is given away; `None`: nothing is.
    pub record: Option<PathBuf>,
    /// What slows it down if it writes too fast.
    pub throttle: Arc<Throttle>,
    /// Where it waits for others that move with it; `None`: it moves by itself.
    pub together: Option<Arc<Barrier>>,
}

/// What came of a move.
#[derive(Debug)]
pub enum Outcome {
    /// The guest is here, and was not given away: why.
    Stays(Failure),
    /// It runs there.
    Gone(Moved),
    /// It was given away, and nothing was heard of it since.
    Unheard(Failure),
}

/// A guest that is being moved.
#[derive(Debug)]
pub struct Departure {
    shared: Arc<Mutex<Shared>>,
    together: Option<Arc<Barrier>>,
    thread: JoinHandle<Outcome>,
}

#[derive(Debug)]
struct Shared {
    view: Value,
    wire: Option<Socket>,
    is_cancelled: bool,
    /// It cannot be cancelled any more.
    is_given: bool,
    is_over: bool,
}

impl Shared {
    /// Whoever waits for the other node waits no longer.
    fn break_off(&self) {
        let _ = self.wire.as_ref().map(Socket::end);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Departure {
    /// Begins to move a guest. `tell` is called when that has come to its end, whatever it is.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn begin(
        machine: &Arc<Machine>,
        settings: Settings,
        tell: impl FnOnce() + Send + 'static,
    ) -> Result<Self, Failure> {
        let view = json!({ "to": settings.node, "phase": "connecting" });
        let shared = Shared { view, wire: None, is_cancelled: false, is_given: false, is_over: false };
        let shared = Arc::new(Mutex::new(shared));
        let together = settings.together.clone();
        let leaving = Leaving { machine: Arc::clone(machine), settings, shared: Arc::clone(&shared) };
        let work = move || {
            let outcome = leaving.run();
            lock(&leaving.shared).is_over = true;
            drop(leaving);
            tell();
            outcome
        };
        let thread = std::thread::Builder::new().name("departure".into()).stack_size(STACK).spawn(work);
        let thread = thread.map_err(|error| Failure::failed(format!("no thread for a move: {error}")))?;
        Ok(Self { shared, together, thread })
    }

    /// It is not to be moved any more. Whether it is not too late.
    pub fn cancel(&self) -> bool {
        let mut shared = lock(&self.shared);
        let is_late = shared.is_given || shared.is_over;
        if is_late || self.together.as_ref().is_some_and(|together| !together.call_off()) {
            return false;
        }
        shared.is_cancelled = true;
        shared.break_off();
        true
    }

    /// It moves with others, and goes so far, or not at all.
    ///
    /// # Errors
    ///
    /// It does not move with those.
    pub fn advance(&self, advance: &Advance) -> Result<Value, Failure> {
        let alone = || Failure::refused("it moves by itself").left("");
        self.together.as_ref().ok_or_else(alone)?.advance(advance)?;
        let shared = lock(&self.shared);
        if advance.step.is_none() && !shared.is_given {
            shared.break_off();
        }
        Ok(shared.view.clone())
    }

    /// How far it is.
    #[must_use]
    pub fn view(&self) -> Value {
        lock(&self.shared).view.clone()
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        lock(&self.shared).is_over
    }

    /// What comes of it: cancelled, if that is still possible.
    pub fn end(self) -> Outcome {
        self.cancel();
        let none = || Outcome::Unheard(Failure::failed("the move broke off"));
        self.thread.join().unwrap_or_else(|_| none())
    }
}

/// What the thread of a move has.
pub(super) struct Leaving {
    pub(super) machine: Arc<Machine>,
    pub(super) settings: Settings,
    shared: Arc<Mutex<Shared>>,
}

/// How far the copy is, beside the guest that stands still at its end.
struct Copy<'a> {
    still: Still<'a>,
    since: Instant,
    moved: Moved,
}

impl Leaving {
    fn run(&self) -> Outcome {
        match self.go() {
            Ok(moved) => Outcome::Gone(moved),
            Err(Outcome::Stays(why)) if lock(&self.shared).is_cancelled => {
                let what = format!("the move of guest {} was cancelled", self.name());
                Outcome::Stays(Failure { what, next: String::new(), ..why }.left("It stays on this node."))
            }
            Err(Outcome::Stays(why)) => {
                let what = format!("guest {} was not moved: {}", self.name(), why.what);
                Outcome::Stays(Failure { what, ..why }.left("It stays on this node."))
            }
            Err(other) => other,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.machine.origin().description.name
    }

    fn go(&self) -> Result<Moved, Outcome> {
        let begun = Instant::now();
        let (road, mut channel) = self.connect().map_err(Outcome::Stays)?;
        let Settings { with_disks, .. } = self.settings;
        let offer = Offer {
            description: self.machine.origin().description.text.clone(),
            is_leased: self.settings.loan.is_some(),
            is_paused: self.settings.is_paused,
        };
        let sizes = self.machine.origin().disks().iter();
        let sizes = sizes.map(|disk| Some(disk.size()).filter(|_| !disk.is_read_only()));
        let (asked, most) = match (with_disks, self.is_own()) {
            (true, false) => (Word::Bring(offer, sizes.collect()), ANSWERS),
            (true, true) => (Word::BringOwn(offer, sizes.collect()), ANSWERS),
            (false, _) => (Word::Offer(offer), BEGINS),
        };
        say(&mut channel, &asked).map_err(Outcome::Stays)?;
        expect(&mut channel, most, &Word::Accepted).map_err(Outcome::Stays)?;
        let copied = self.copy(&mut channel);
        let Copy { still, since, mut moved } = copied.map_err(Outcome::Stays)?;
        let sent = Instant::now();
        expect(&mut channel, ANSWERS, &Word::Whole).map_err(Outcome::Stays)?;
        let whole = Instant::now();
        self.wait_for_others(moved.rounds, &mut channel).map_err(Outcome::Stays)?;
        let leads = match self.give(&road, &mut channel) {
            Ok(leads) => leads,
            Err(outcome) => {
                if let Outcome::Unheard(_) = outcome {
                    // It may run there.
                    still.end();
                }
                return Err(outcome);
            }
        };
        still.end();
        let runs = Instant::now();
        let millis = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
        };
        (moved.downtime_ms, moved.total_ms) = (millis(since, runs), millis(begun, runs));
        // The guest is gone, whether that is noted or not.
        let _ = self.note(&road, Some(&moved));
        moved.stood = Some(Stood {
            rest_ms: millis(since, sent),
            whole_ms: millis(sent, whole),
            lead_ms: millis(whole, leads),
            begin_ms: millis(leads, runs),
        });
        Ok(moved)
    }

    /// Asks the agent for the way, and goes it.
    fn connect(&self) -> Result<(GuestRoad, Channel), Failure> {
        let Settings { node, agent, loan, with_disks, record, .. } = &self.settings;
        let leased = loan.is_some() && !with_disks;
        let description = &self.machine.origin().description;
        let may_go = |road: &GuestRoad| match with_disks {
            true => disks::may_go(description, road, loan.is_some(), record.as_deref()),
            false => Ok(()),
        };
        call(node, agent, leased, &may_go, &mut |wire| {
            let mut shared = lock(&self.shared);
            shared.wire = Some(wire);
            if shared.is_cancelled { Err(Failure::failed("it was cancelled")) } else { Ok(()) }
        })
    }

    /// Copies it, and has it stand still at the end of that.
    fn copy(&self, channel: &mut Channel) -> Result<Copy<'_>, Failure> {
        match &self.settings.together {
            Some(together) => channel.follow(together.rate()),
            None => channel.limit(self.settings.bandwidth),
        }
        let copied = match self.settings.is_quick {
            true => self.copy_still(channel),
            false => self.copy_running(channel),
        };
        copied.map_err(|why| match why {
            Broken::Here(failure) => failure,
            Broken::Wire(error) => told(channel, &error),
        })
    }

    fn begin<'a>(&self, channel: &'a mut Channel) -> Result<Writer<Outgoing<'a>>, Broken> {
        let out = Outgoing::new(channel);
        let mut out = if self.settings.with_disks { Writer::bring(out)? } else { Writer::begin(out)? };
        out.put(Kind::Description, &[self.machine.origin().description.text.as_bytes()])?;
        Ok(out)
    }

    fn copy_still(&self, channel: &mut Channel) -> Result<Copy<'_>, Broken> {
        let mut out = self.begin(channel)?;
        while !self.may_stand_still(1)? {
            self.keep_up(&Written::one(), &mut out)?;
        }
        let since = Instant::now();
        let still = self.machine.stand_still().map_err(Broken::Here)?;
        out.out().limit(None);
        let mut moved = Moved { rounds: 1, ..Moved::default() };
        self.disks().write(&mut out, &mut |progress| self.show("disks", 1, 0, progress))?;
        moved.disk_bytes = out.out().sent();
        contents::write(self.machine.memory(), &mut out, &mut |progress| {
            self.show("copying", 1, 0, progress)
        })?;
        self.finish(out, Copy { still, since, moved })
    }

    /// The disks that go with it; from now on it is kept what it writes there.
    fn disks(&self) -> Sources {
        Sources::begin(if self.settings.with_disks { self.machine.origin().disks() } else { &[] })
    }

    fn copy_running(&self, channel: &mut Channel) -> Result<Copy<'_>, Broken> {
        let machine = &self.machine;
        let throttle = self.settings.throttle.claim(Claim::Move);
        let kvm = |error| Broken::Here(machine.origin().failed("tell what is written")(error));
        // Who cannot be copied hears it before its disks are.
        drop(machine.track().map_err(Broken::Here)?);
        let mut out = self.begin(channel)?;
        let mut moved = Moved { rounds: 1, ..Moved::default() };
        let mut disks = self.disks();
        disks.write(&mut out, &mut |progress| self.show("disks", 1, 0, progress))?;
        moved.disk_bytes = out.out().sent();
        let _tracking = machine.track().map_err(Broken::Here)?;
        let mut convergence = Convergence::new(self.settings.downtime);
        let (mut begun, mut before) = (Instant::now(), out.out().sent());
        let mut blocks = disks.take();
        contents::write(machine.memory(), &mut out, &mut |progress| self.show("copying", 1, 0, progress))?;
        let mut is_ready = false;
        let mut written = loop {
            moved.disk_bytes = moved.disk_bytes.saturating_add(blocks.bytes());
            let mut show = |progress| self.show("disks", moved.rounds, moved.throttled, progress);
            disks.write_again(&blocks, &mut out, &mut show)?;
            blocks = disks.take();
            let written = machine.written().map_err(kvm)?;
            let sent = out.out().sent();
            if is_ready {
                if self.may_stand_still(moved.rounds)? {
                    break written;
                }
                moved.rounds = moved.rounds.saturating_add(1);
                self.keep_up(&written, &mut out)?;
                continue;
            }
            let left = written.bytes().saturating_add(blocks.bytes());
            match convergence.after(sent.saturating_sub(before), begun.elapsed(), left) {
                Next::Rest if self.settings.together.is_none() => break written,
                Next::Rest => is_ready = true,
                Next::Round { held } => {
                    throttle.hold(held)?;
                    (begun, before, moved.throttled) = (Instant::now(), sent, held);
                    moved.rounds = moved.rounds.saturating_add(1);
                    let mut show = |progress| self.show("copying", moved.rounds, held, progress);
                    written.write(machine.memory(), &mut out, &mut show)?;
                }
            }
        };
        let since = Instant::now();
        let still = machine.stand_still().map_err(Broken::Here)?;
        drop(throttle);
        out.out().limit(None);
        written.add(&machine.written().map_err(kvm)?);
        blocks.join(&disks.take());
        moved.rounds = moved.rounds.saturating_add(1);
        moved.disk_bytes = moved.disk_bytes.saturating_add(blocks.bytes());
        let mut show = |progress| self.show("rest", moved.rounds, moved.throttled, progress);
        disks.write_again(&blocks, &mut out, &mut show)?;
        written.write(machine.memory(), &mut out, &mut show)?;
        self.finish(out, Copy { still, since, moved })
    }

    /// Sends what is not memory.
    fn finish<'a>(&'a self, mut out: Writer<Outgoing<'_>>, mut copy: Copy<'a>) -> Result<Copy<'a>, Broken> {
        let state = copy.still.state().map_err(Broken::Here)?;
        out.put(Kind::State, &[&state])?;
        copy.moved.bytes = out.out().sent();
        out.end()?;
        Ok(copy)
    }

    /// Gives it away; since when the other node leads. An error says where it is.
    fn give(&self, road: &GuestRoad, channel: &mut Channel) -> Result<Instant, Outcome> {
        let together = self.settings.together.as_deref();
        if together.is_none() {
            self.is_given().map_err(Outcome::Stays)?;
        }
        self.want_no_more().and_then(|()| self.note(road, None)).map_err(|why| self.keep(why))?;
        if let Some(loan) = &self.settings.loan {
            // An agent that does not hear it waits to the end of the lease.
            let _ = loan.give_back();
            let lead = |mut agent: Client| agent.ask(&Request::VolumePromote { node: road.to }).map(drop);
            let led = match together {
                Some(together) => self.wait_to_go(together, channel).and_then(|()| self.is_given()),
                // Each pair has its own lead.
                None if self.settings.with_disks => Ok(()),
                None => Client::connect(&self.settings.agent).and_then(lead),
            };
            led.map_err(|why| self.keep(why))?;
        }
        let leads = Instant::now();
        let unheard = |error: std::io::Error| {
            let node = &self.settings.node;
            let what = format!(
                "guest {} was given to {node}, and it is not known whether it runs there: {error}",
                self.name()
            );
            let next = "look there with `bulkhead vm show`; where it does not run, start it.";
            Outcome::Unheard(Failure::failed(what).left("It does not run here any more.").next(next))
        };
        channel.say(&Word::Go).map_err(unheard)?;
        match channel.hear(ANSWERS) {
            Ok(Word::Runs) => Ok(leads),
            Ok(Word::Failed(why)) => Err(self.keep(why.failure())),
            Ok(_) => Err(unheard(std::io::ErrorKind::InvalidData.into())),
            Err(error) => Err(unheard(error)),
        }
    }

    /// From now on it cannot be cancelled.
    fn is_given(&self) -> Result<(), Failure> {
        let mut shared = lock(&self.shared);
        if shared.is_cancelled {
            return Err(Failure::failed("it was cancelled"));
        }
        shared.is_given = true;
        shared.view = json!({ "to": self.settings.node, "phase": "given" });
        Ok(())
    }

    fn note(&self, road: &GuestRoad, moved: Option<&Moved>) -> Result<(), Failure> {
        let Some(path) = &self.settings.record else { return Ok(()) };
        let record = Record::now(Way::To, &road.name, self.settings.loan.is_some());
        Record { moved: moved.cloned(), with_disks: self.settings.with_disks, ..record }.save(path)
    }

    /// It was not given away after all: it goes on, if nobody else has led meanwhile.
    fn keep(&self, why: Failure) -> Outcome {
        // What is left there says that it was given away: whoever starts it by hand is told.
        let _ = self.settings.record.as_ref().map(std::fs::remove_file);
        self.settings.loan.iter().for_each(Loan::take_again);
        self.want_again();
        Outcome::Stays(why)
    }

    /// It waits.
    pub(super) fn view(&self, phase: &str, round: u32) {
        lock(&self.shared).view = json!({ "to": self.settings.node, "phase": phase, "round": round });
    }

    fn show(&self, phase: &str, round: u32, throttled: u8, progress: Progress) -> std::io::Result<()> {
        let Progress { done, total } = progress;
        // Whoever moves it with others may be gone.
        let told = self.settings.together.as_ref().map(|together| together.wait(Step::Hold, Duration::ZERO));
        told.transpose().map_err(|why| std::io::Error::other(why.what))?;
        let mut shared = lock(&self.shared);
        shared.view = json!({ "to": self.settings.node, "phase": phase, "round": round,
                              "done": done, "total": total, "throttled": throttled });
        if shared.is_cancelled { Err(std::io::Error::other("it was cancelled")) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "departure_tests.rs"]
mod tests;
