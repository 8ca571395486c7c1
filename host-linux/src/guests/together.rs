//! All guests of a node move together: each as one that moves alone, but none is given away before all can be
//! (X15, S0-11, S0-09). What is said to them is in `migration::barrier`.
//!
//! Whoever runs this may die at any point. Guests that hear nothing more stay, and so they do if any of them
//! fails, until the other node was told to lead. From then on each runs there, or is begun anew there.

use super::client;
use super::home::{Home, Homes};
use super::process::{self, Leave};
use crate::cluster::client::Client;
use crate::cluster::guest_moves::GuestRoad;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::migration::barrier::{Advance, Step};
use crate::nbd::turns::draw;
use hyper::Method;
use serde_json::{Value, json};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Guests that are copied at once; others run, and are kept up or wait.
const AT_ONCE: usize = 2;
/// A guest answers within this time: all are asked one after the other, each within `barrier::SILENT`.
const ANSWERS: Duration = Duration::from_secs(2);
/// One that does not answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(8);
/// Those that are told to stay say so within this time.
const STAYS: Duration = Duration::from_secs(30);
/// Those that were given away are heard of within this time: longer than the other node has.
const GOES: Duration = Duration::from_secs(150);
/// How often they are asked, while they run and while they stand still.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_HELD: Duration = Duration::from_millis(10);
/// Of the bandwidth, a guest that is copied gets so many times what one gets that is kept up.
const WEIGHT: u64 = 4;

/// A guest of them.
#[derive(Debug)]
pub struct Member {
    home: Home,
    state: State,
    /// What it said last of its move.
    view: Value,
    /// When it answered last.
    answered: Instant,
}

#[derive(Debug)]
enum State {
    /// Others are copied before.
    Waits,
    Moves(JoinHandle<Result<Value, Failure>>),
    /// It came to this.
    Over(Result<Value, Failure>),
}

impl Member {
    /// What the guest is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.home.name
    }

    /// How far it is: as `migration` in its `vm.info`.
    #[must_use]
    pub const fn view(&self) -> &Value {
        &self.view
    }

    fn phase(&self) -> &str {
        self.view.get("phase").and_then(Value::as_str).unwrap_or("connecting")
    }

    const fn moves(&self) -> bool {
        matches!(self.state, State::Moves(_))
    }

    fn is(&self, phases: &[&str]) -> bool {
        self.moves() && phases.contains(&self.phase())
    }
}

/// Those guests of this node that run by its lease.
///
/// # Errors
///
/// The directory of the guests cannot be read.
pub fn leased(homes: &Homes) -> Result<Vec<Home>, Failure> {
    let runs_leased = |home: &Home| {
        let info = process::info(home).ok().flatten();
        info.is_some_and(|info| info.get("lease") == Some(&Value::Bool(true)))
    };
    Ok(homes.all()?.into_iter().filter(runs_leased).collect())
}

/// Has all of them stay that are being moved; their names.
///
/// # Errors
///
/// One of them was given away already.
pub fn cancel(homes: &Homes) -> Result<Vec<String>, Failure> {
    let moves = |home: &Home| {
        let info = process::info(home).ok().flatten();
        info.is_some_and(|info| info.get("migration").is_some_and(|view| !view.is_null()))
    };
    let moved: Vec<_> = homes.all()?.into_iter().filter(moves).collect();
    for home in &moved {
        process::tell(home, "vm.cancel-migration")?;
    }
    Ok(moved.into_iter().map(|home| home.name).collect())
}

/// Who hears how far all of them are.
pub type Watch<'a> = dyn FnMut(&[Member]) + 'a;

/// A move of all guests.
#[derive(Debug)]
pub struct Together<'a> {
    homes: &'a Homes,
    leave: Leave<'a>,
    road: GuestRoad,
    name: String,
    members: Vec<Member>,
    step: Step,
}

impl<'a> Together<'a> {
    /// All guests of this node that run by its lease.
    ///
    /// # Errors
    ///
    /// There are none, or they cannot go there.
    pub fn new(homes: &'a Homes, leave: Leave<'a>) -> Result<Self, Failure> {
        let nothing = |why: Failure| why.left("Nothing was moved.");
        let asked = Request::GuestRoad { node: leave.node.to_owned(), leased: true };
        let road = Client::connect(leave.agent).and_then(|mut agent| agent.ask_for(&asked, "guestRoad"));
        let member = |home| Member { home, state: State::Waits, view: Value::Null, answered: Instant::now() };
        let members: Vec<_> = leased(homes)?.into_iter().map(member).collect();
        if members.is_empty() {
            let what = "no guest runs by the lease of this node";
            let next = format!("`bulkhead volume promote {}` has the other node lead.", leave.node);
            return Err(nothing(Failure::refused(what).next(next)));
        }
        let name = format!("{:032x}", draw()?);
        Ok(Self { homes, leave, road: road.map_err(nothing)?, name, members, step: Step::Copy })
    }

    /// Moves them; what became of each.
    ///
    /// # Errors
    ///
    /// One of them could not be moved, and so none was: all that run go on here.
    pub fn run(mut self, watch: &mut Watch<'_>) -> Result<Moved, Failure> {
        let (begun, mut gone) = (Instant::now(), None::<Instant>);
        loop {
            self.begin_some();
            self.tell(Some(self.step));
            watch(&self.members);
            if self.step == Step::Go {
                let is_late = GOES < gone.get_or_insert_with(Instant::now).elapsed();
                if is_late || !self.members.iter().any(Member::moves) {
                    let guests = self.members.into_iter().map(Member::outcome).collect();
                    return Ok(Moved { took: begun.elapsed(), guests });
                }
            } else if let Err(why) = self.go_on() {
                return Err(self.call_off(why, watch));
            }
            std::thread::sleep(if self.step == Step::Copy { LOOK } else { LOOK_HELD });
        }
    }

    /// Takes the next step when all are ready for it.
    fn go_on(&mut self) -> Result<(), Failure> {
        if let Some(why) = self.members.iter().find_map(Member::lack) {
            return Err(why);
        }
        let all = |phases: &[&str]| self.members.iter().all(|member| member.is(phases));
        match self.step {
            Step::Copy if all(&["ready"]) => {
                self.nobody_else()?;
                self.step = Step::Hold;
            }
            Step::Hold if all(&["whole"]) => self.step = Step::Give,
            Step::Give if all(&["returned"]) => {
                self.lead()?;
                self.step = Step::Go;
            }
            Step::Copy | Step::Hold | Step::Give | Step::Go => {}
        }
        Ok(())
    }

    /// Begins as many moves as may be copied at once.
    fn begin_some(&mut self) {
        let copied = |member: &&Member| member.moves() && !member.is(&["ready"]);
        let free = AT_ONCE.saturating_sub(self.members.iter().filter(copied).count());
        let waiting = self.members.iter_mut().filter(|member| matches!(member.state, State::Waits));
        for member in waiting.take(free) {
            let (home, node, agent) =
                (member.home.clone(), self.leave.node.to_owned(), self.leave.agent.to_owned());
            let (name, downtime, is_quick) = (self.name.clone(), self.leave.downtime, self.leave.is_quick);
            let work = move || {
                let together = Some(&*name);
                let leave = Leave {
                    node: &node,
                    agent: &agent,
                    downtime,
                    bandwidth: None,
                    is_quick,
                    with_disks: false,
                    together,
                };
                process::leave(&home, leave)
            };
            member.view = json!({ "to": self.leave.node, "phase": "connecting" });
            member.answered = Instant::now();
            member.state = match std::thread::Builder::new().name("moves".into()).spawn(work) {
                Ok(thread) => State::Moves(thread),
                Err(error) => State::Over(Err(Failure::failed(format!("no thread for its move: {error}")))),
            };
        }
    }

    /// Tells all of them how far they may go, and hears how far they are.
    fn tell(&mut self, step: Option<Step>) {
        let weight = |member: &Member| if member.is(&["ready"]) { 1 } else { WEIGHT };
        let moving = |member: &&Member| member.moves();
        let total: u64 = self.members.iter().filter(moving).map(weight).sum();
        for member in self.members.iter_mut().filter(|member| member.moves()) {
            let part = |rate: u64| rate.saturating_mul(weight(member)).checked_div(total).unwrap_or(1).max(1);
            let bandwidth = self.leave.bandwidth.map(part);
            let told = Advance { together: self.name.clone(), step, bandwidth };
            let body = serde_json::to_value(told).unwrap_or_default();
            let heard =
                client::ask_with(&member.home.api(), Method::PUT, "vm.advance-migration", &body, ANSWERS);
            if let Ok(view) = heard {
                (member.view, member.answered) = (view, Instant::now());
            }
            member.look();
        }
    }

    /// A guest that was started meanwhile would lose its lease.
    fn nobody_else(&self) -> Result<(), Failure> {
        let is_known = |home: &Home| self.members.iter().any(|member| member.home == *home);
        let others: Vec<_> = leased(self.homes)?.into_iter().filter(|home| !is_known(home)).collect();
        let Some(other) = others.first() else { return Ok(()) };
        let what = format!("guest {} was started meanwhile", other.name);
        Err(Failure::refused(what).next("say the same again: it moves with the others then."))
    }

    /// Has the other node lead: behind this each of them is there, or begun anew there.
    fn lead(&self) -> Result<(), Failure> {
        let ask = |asked: &Request| Client::connect(self.leave.agent).and_then(|mut agent| agent.ask(asked));
        let why = match ask(&Request::VolumePromote { node: self.road.to }) {
            Ok(_) => return Ok(()),
            Err(why) => why,
        };
        // It may have been heard all the same.
        let leads = ask(&Request::VolumeList).ok();
        let leads = leads.as_ref().and_then(|listing| listing.pointer("/volumes/storage/leads"));
        if leads == Some(&Value::Bool(false)) { Ok(()) } else { Err(why) }
    }

    /// All of them stay.
    fn call_off(&mut self, why: Failure, watch: &mut Watch<'_>) -> Failure {
        let begun = Instant::now();
        while self.members.iter().any(Member::moves) && begun.elapsed() < STAYS {
            self.tell(None);
            watch(&self.members);
            std::thread::sleep(LOOK_HELD);
        }
        let runs = |member: &&Member| process::info(&member.home).ok().flatten().is_some();
        let left: Vec<_> = self.members.iter().filter(runs).map(Member::name).collect();
        let left = match left.is_empty() {
            true => "None of them runs here any more.".into(),
            false => format!("These go on on this node: {}.", left.join(", ")),
        };
        let what = format!("no guest was moved to {}: {}", self.leave.node, why.what);
        Failure { what, ..why }.left(left)
    }
}

impl Member {
    /// Looks whether it has come to its end.
    fn look(&mut self) {
        if !matches!(&self.state, State::Moves(thread) if thread.is_finished()) {
            return;
        }
        if let State::Moves(thread) = std::mem::replace(&mut self.state, State::Waits) {
            let broke = || Err(Failure::failed("its move broke off"));
            self.state = State::Over(thread.join().unwrap_or_else(|_| broke()));
        }
    }

    /// Why it does not move, if it does not.
    fn lack(&self) -> Option<Failure> {
        match &self.state {
            State::Waits => None,
            State::Moves(_) if self.answered.elapsed() < PATIENCE => None,
            State::Moves(_) => {
                let what = format!("guest {} does not answer", self.name());
                Some(Failure::failed(what).next(format!("see `bulkhead vm show {}`.", self.name())))
            }
            State::Over(Err(why)) if why.what.contains(self.name()) => Some(why.clone()),
            State::Over(Err(why)) => {
                let what = format!("guest {}: {}", self.name(), why.what);
                Some(Failure { what, ..why.clone() })
            }
            State::Over(Ok(_)) => Some(Failure::failed(format!("guest {} was moved by itself", self.name()))),
        }
    }

    fn outcome(self) -> (String, Result<Value, Failure>) {
        let outcome = match self.state {
            State::Over(outcome) => outcome,
            State::Waits | State::Moves(_) => {
                Err(Failure::failed("it was given away, and not heard of since"))
            }
        };
        (self.home.name, outcome)
    }
}

/// What became of guests that were given away.
#[derive(Debug)]
pub struct Moved {
    /// All of it.
    pub took: Duration,
    /// Each of them, by its name: what it says of its move, or why it does not run there.
    pub guests: Vec<(String, Result<Value, Failure>)>,
}
