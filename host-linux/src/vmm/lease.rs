//! A guest's lease: it runs only while this node leads its volumes (I5, I4, V23, X02; S2-01).
//!
//! ```text
//! agent ── guest-lease ──▶ asks ── Said ──▶ keeper ── hold, release ──▶ processors
//!                                             └─ set, clear ─▶ deadline: the kernel ends this process
//! ```
//!
//! One thread asks, for as long as an answer may take, and another one waits for what was said or for the
//! end of the lease: nothing that an agent does or does not do keeps it from holding the guest in time.
//! Should it be late itself, the kernel ends the process before the lease ends. Time is counted from before
//! the question was asked, so that an answer that comes late is worth less, and never too much.

use super::deadline::Deadline;
use super::gate::Hold;
use super::machine::Machine;
use super::permit::{Act, KILL, Permit, STOP, Said, before, pause};
use crate::cluster::client::Client;
use crate::cluster::clock;
use crate::cluster::guest_requests::GuestLease;
use crate::cluster::request::Request;
use crate::failure::{Exit, Failure};
use crate::nbd::turns::{draw, session};
use crate::nbd::uri::{Place, Uri};
use crate::volume::route::between_nodes;
use bulkhead_core::time::Instant;
use bulkhead_core::volume::name::Name;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a lease must have left when a guest begins.
const LEFT_MIN: Duration = Duration::from_millis(100);
/// How often an agent is asked that does not lead yet.
const LOOK: Duration = Duration::from_millis(5);
/// A question that is under way is waited for so long, before a lease is given back.
const ASKING: Duration = Duration::from_millis(200);
const STACK: usize = 256 << 10;

const _: () = assert!(STOP.as_millis() < LEFT_MIN.as_millis(), "else it stands still as it begins");

/// Until when a guest may act: what its disks look at.
#[derive(Debug, Default)]
pub struct Right(AtomicU64);

impl Right {
    /// Whether it may, at this instant.
    pub fn holds(&self) -> bool {
        clock::now() < Instant::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, until: Instant) {
        self.0.store(until.as_micros(), Ordering::SeqCst);
    }
}

/// A disk by a lease.
#[derive(Clone, Debug)]
pub struct Tied {
    /// Where it is, for whoever acts by the lease.
    pub uri: Uri,
    /// Until when that is.
    pub right: Arc<Right>,
}

/// What a keeper holds and lets go.
pub trait Reins: Send + Sync {
    /// None of the guest's instructions is carried out any more when this returns.
    fn hold(&self);
    /// It may go on.
    fn release(&self);
}

/// The machine of a guest, which begins held: from reset to reset another one.
#[derive(Debug, Default)]
pub struct Harness(Mutex<Harnessed>);

#[derive(Debug, Default)]
struct Harnessed {
    machine: Option<Arc<Machine>>,
    may_run: bool,
}

impl Harness {
    /// This is the machine from now on.
    pub fn put_on(&self, machine: &Arc<Machine>) {
        let mut harnessed = self.lock();
        if harnessed.may_run {
            machine.release(Hold::Lease);
        }
        harnessed.machine = Some(Arc::clone(machine));
    }

    /// There is none from now on: it stands still for ever.
    pub fn take_off(&self) {
        if let Some(machine) = self.lock().machine.take() {
            machine.hold(Hold::Lease);
        }
    }

    fn change(&self, may_run: bool, change: impl FnOnce(&Machine)) {
        let mut harnessed = self.lock();
        harnessed.may_run = may_run;
        let _ = harnessed.machine.as_deref().map(change);
    }

    fn lock(&self) -> MutexGuard<'_, Harnessed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reins for Harness {
    fn hold(&self) {
        self.change(false, |machine| machine.hold(Hold::Lease));
    }

    fn release(&self) {
        self.change(true, |machine| machine.release(Hold::Lease));
    }
}

/// The right to run a guest, from an agent that was asked.
#[derive(Debug)]
pub struct Lease {
    agent: PathBuf,
    /// What the agent knows it by: nobody else's is called so.
    name: String,
    epoch: u64,
    until: Instant,
    volumes: PathBuf,
    right: Arc<Right>,
}

impl Lease {
    /// Asks the agent at this socket.
    ///
    /// # Errors
    ///
    /// It does not answer, or no guest may run on its node.
    pub fn obtain(agent: &Path) -> Result<Self, Failure> {
        let begun = |failure: Failure| {
            let next =
                format!("{} `--alone` runs a guest that nobody keeps from running twice.", failure.next);
            failure.left("The guest was not started.").next(next.trim_start())
        };
        let name = name().map_err(begun)?;
        let (lease, until) = ask(agent, &name).map_err(begun)?;
        if Duration::from_millis(lease.left_ms) < LEFT_MIN {
            let (left, least) = (lease.left_ms, LEFT_MIN.as_millis());
            let what = format!("this node leads for {left} ms more: a guest needs {least} to begin");
            let next = "try again; where it stays so, the site's leases are too short for guests.";
            return Err(begun(Failure::failed(what).next(next)));
        }
        let right = Arc::new(Right::default());
        right.set(before(until, KILL));
        Ok(Self { agent: agent.to_owned(), name, epoch: lease.epoch, until, volumes: lease.volumes, right })
    }

    /// One that is not there yet: its disks are known, and nothing is written to them.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn pending(agent: &Path, volumes: &Path) -> Result<Self, Failure> {
        let (agent, volumes) = (agent.to_owned(), volumes.to_owned());
        Ok(Self { agent, name: name()?, epoch: 0, until: Instant::ZERO, volumes, right: Arc::default() })
    }

    /// Waits until the agent gives it, so long at most.
    ///
    /// # Errors
    ///
    /// It does not: what it said last.
    pub fn grant(&mut self, within: Duration) -> Result<(), Failure> {
        let begun = clock::now();
        loop {
            let why = match ask(&self.agent, &self.name) {
                Ok((lease, until)) if LEFT_MIN <= Duration::from_millis(lease.left_ms) => {
                    (self.epoch, self.until) = (lease.epoch, until);
                    self.right.set(before(until, KILL));
                    return Ok(());
                }
                Ok(_) => Failure::failed("the lease of this node ends"),
                Err(why) => why,
            };
            if within < clock::now().since(begun) {
                return Err(why);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Where the agent serves its volumes: its NBD socket.
    #[must_use]
    pub fn volumes(&self) -> &Path {
        &self.volumes
    }

    /// Where the agent serves this volume.
    #[must_use]
    pub fn volume(&self, name: &Name) -> Uri {
        Uri::unix(&self.volumes, &name.to_string())
    }

    /// Where a disk that is served here is, for whoever acts by this lease: with the agent of this node,
    /// while it leads, and nowhere else. What is asked there is done under the epoch in which the connection
    /// began, or never (`volume::route::Served`): a guest that has ended leaves nothing that is done later.
    ///
    /// # Errors
    ///
    /// It is served by somebody else.
    pub fn tie(&self, uri: &Uri) -> Result<Tied, Failure> {
        if !is_at(uri, &self.volumes) {
            let what = format!("the disk {uri} is not served at {}", self.volumes.display());
            let next = "a lease protects what the agent of its node leads: name a volume there \
                        (`bulkhead volume show`), or say `read_only = true` in its [[disk]].";
            return Err(Failure::refused(what).left("The guest was not started.").next(next));
        }
        let name = session(&between_nodes(&uri.export), draw()?);
        Ok(Tied { uri: Uri::unix(&self.volumes, &name), right: Arc::clone(&self.right) })
    }

    /// Lets the guest run for as long as the agent says, and no longer. `lose` is told when it must not run
    /// any more.
    ///
    /// # Errors
    ///
    /// The system has no timer or no thread for it.
    pub fn keep(
        self,
        reins: Arc<dyn Reins>,
        lose: impl FnOnce(Failure) + Send + 'static,
    ) -> Result<Keeper, Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("nothing keeps the guest's lease: {error}"));
        let deadline = Deadline::new().map_err(failed)?;
        let (tell, heard) = sync_channel(1);
        let Self { agent, name, epoch, until, right, .. } = self;
        let watch = Watch { permit: Permit::new(epoch), reins, right, deadline, is_back: false };
        let first = Said::Granted { epoch, until };
        let thread = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(STACK);
        let asks = tell.clone();
        let work = move || {
            if let Some(why) = watch.run(first, &heard) {
                lose(why);
            }
        };
        let thread_of_watch = thread("lease").spawn(work).map_err(failed)?;
        let loan = Loan { agent, name, tell: tell.clone(), is_back: Arc::default(), asking: Arc::default() };
        let own = loan.clone();
        let keeper = Keeper { tell, thread: Some(thread_of_watch), loan };
        // Nobody waits for it: it may wait for an agent.
        thread("lease-asks").spawn(move || ask_on(&own, &asks)).map_err(failed)?;
        Ok(keeper)
    }
}

/// Whether an export is served at this socket, by whichever path.
pub(super) fn is_at(uri: &Uri, socket: &Path) -> bool {
    match &uri.place {
        Place::Unix(path) => {
            let found = [path, socket].map(|path| std::fs::canonicalize(path).ok());
            matches!(found, [Some(one), Some(other)] if one == other)
        }
        Place::Tcp { .. } => false,
    }
}

/// What nobody else's lease is called.
fn name() -> Result<String, Failure> {
    draw().map(|number| format!("{number:032x}"))
}

/// Keeps a guest within its lease. Dropped, it holds the guest for ever.
#[derive(Debug)]
pub struct Keeper {
    tell: SyncSender<Heard>,
    thread: Option<JoinHandle<()>>,
    loan: Loan,
}

impl Keeper {
    /// What can be given back of it.
    #[must_use]
    pub fn loan(&self) -> Loan {
        self.loan.clone()
    }
}

/// A lease as something that can be given back before its end: then who leads next need not wait for that.
#[derive(Clone, Debug)]
pub struct Loan {
    agent: PathBuf,
    name: String,
    tell: SyncSender<Heard>,
    /// The agent is not asked for it.
    is_back: Arc<AtomicBool>,
    /// Locked while the agent is asked.
    asking: Arc<Mutex<()>>,
}

impl Loan {
    /// Gives it back; the guest stands still from before that on.
    ///
    /// # Errors
    ///
    /// The agent was not reached: it waits to the end of the lease. The guest stands still all the same.
    pub fn give_back(&self) -> Result<(), Failure> {
        self.is_back.store(true, Ordering::SeqCst);
        let (stands, waits) = sync_channel(1);
        let told = self.tell.send(Heard::GiveBack(stands));
        // Without an answer its keeper has ended: that holds it, too.
        let _ = told.map(|()| waits.recv());
        // A question that overtook this would have the agent wait for the answer's end.
        let begun = clock::now();
        while matches!(self.asking.try_lock(), Err(TryLockError::WouldBlock))
            && clock::now().since(begun) < ASKING
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let asked = Request::GuestReturn { lease: self.name.clone() };
        Client::connect(&self.agent)?.ask(&asked).map(drop)
    }

    /// Asks for it anew: the guest goes on if nobody else has led meanwhile.
    pub fn take_again(&self) {
        let _ = self.tell.send(Heard::TakeAgain);
        self.is_back.store(false, Ordering::SeqCst);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It has ended by itself, if it does not hear.
        let _ = self.tell.send(Heard::Stop);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[derive(Debug)]
enum Heard {
    Said(Said),
    /// It is to stand still, whatever the agent says; this is told when it does.
    GiveBack(SyncSender<()>),
    /// It may go by what the agent says again.
    TakeAgain,
    Stop,
}

/// What the keeper's thread has.
struct Watch {
    permit: Permit,
    reins: Arc<dyn Reins>,
    right: Arc<Right>,
    deadline: Deadline,
    /// The lease was given back, and what the agent says of it is no lease.
    is_back: bool,
}

impl Watch {
    /// Until it is told to stop, or the guest must not run any more: why.
    fn run(mut self, first: Said, heard: &Receiver<Heard>) -> Option<Failure> {
        let mut act = self.permit.hears(clock::now(), first);
        loop {
            match act {
                None => {}
                Some(Act::Run(until)) => {
                    if let Err(error) = self.deadline.set(before(until, KILL)) {
                        self.stand_still();
                        return Some(Failure::failed(format!("the guest's lease has no timer: {error}")));
                    }
                    self.right.set(before(until, KILL));
                    self.reins.release();
                }
                Some(Act::Hold) => self.stand_still(),
                Some(Act::End(why)) => {
                    self.stand_still();
                    return Some(why);
                }
            }
            let news = match self.permit.due() {
                Some(due) => heard.recv_timeout(due.since(clock::now())),
                None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            act = match news {
                Ok(Heard::Said(Said::Granted { .. })) if self.is_back => None,
                Ok(Heard::Said(said)) => self.permit.hears(clock::now(), said),
                Ok(Heard::GiveBack(stands)) => {
                    self.is_back = true;
                    self.permit.gives_back();
                    self.stand_still();
                    // Who asked waits for it.
                    let _ = stands.send(());
                    None
                }
                Ok(Heard::TakeAgain) => {
                    self.is_back = false;
                    None
                }
                Err(RecvTimeoutError::Timeout) => self.permit.late(clock::now()),
                Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.stand_still();
                    return None;
                }
            };
        }
    }

    fn stand_still(&self) {
        self.right.set(Instant::ZERO);
        self.reins.hold();
        // Were it not cleared, it would end a guest that stands still.
        let _ = self.deadline.clear();
    }
}

/// Asks the agent, again and again, until nobody hears what it says.
fn ask_on(loan: &Loan, tell: &SyncSender<Heard>) {
    loop {
        let asking = loan.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if loan.is_back.load(Ordering::SeqCst) {
            drop(asking);
            // It may be wanted again; a guest that has ended ends this thread by its process.
            std::thread::sleep(LOOK);
            continue;
        }
        let said = match ask(&loan.agent, &loan.name) {
            Ok((lease, until)) => Said::Granted { epoch: lease.epoch, until },
            Err(failure) if failure.exit == Exit::Failed => Said::Silent(failure),
            Err(failure) => Said::Refused(failure),
        };
        drop(asking);
        let pause = pause(clock::now(), &said);
        if tell.send(Heard::Said(said)).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

/// What the agent says, and until when that holds.
fn ask(agent: &Path, name: &str) -> Result<(GuestLease, Instant), Failure> {
    let asked = clock::now();
    let answer = Client::connect(agent)?.ask(&Request::GuestLease { lease: Some(name.to_owned()) })?;
    let lease = answer.get("guestLease").cloned().unwrap_or_default();
    let lease: GuestLease = serde_json::from_value(lease).map_err(|error| {
        Failure::failed(format!("the agent at {} says no lease: {error}", agent.display()))
    })?;
    let until = asked.after(Duration::from_millis(lease.left_ms));
    Ok((lease, until))
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
