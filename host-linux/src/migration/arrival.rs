//! The end of a move at the node that the guest comes to: a process that takes it in, and runs it once it
//! was given (X15, S0-11).

use super::channel::{Channel, Incoming};
use super::disks::partial;
use super::disks::target::Targets;
use super::passing::{self, Passed};
use super::words::{Refusal, Word};
use crate::failure::Failure;
use crate::guests::own_volume::pair::{Says, want};
use crate::guests::record::{Record, Way};
use crate::vmm::console::Console;
use crate::vmm::description::Description;
use crate::vmm::lease::Lease;
use crate::vmm::snapshot::copied::{Brings, Copied};
use rustix::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// All of the guest is here: it is given within this time, or never.
const GIVEN: Duration = Duration::from_secs(120);
/// This node leads within this time after that.
const LEADS: Duration = Duration::from_secs(30);

/// A guest that comes.
#[derive(Debug)]
pub struct Arrival {
    channel: Channel,
    passed: Passed,
    record: Option<PathBuf>,
    /// What was noted there before it was noted that this guest came.
    before: Option<Option<Record>>,
    /// The disks that come with it.
    targets: Option<Targets>,
    /// What it is called, and what is wanted of it.
    guest: Option<(String, Says)>,
}

impl Arrival {
    /// Takes over a connection from who began this process, which hands it over by this socket.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn take(from: OwnedFd, record: Option<PathBuf>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            let next = "an agent begins a process so; `bulkhead vm migrate` has it do that.";
            Failure::usage(format!("no guest is handed over here: {error}")).next(next)
        };
        let (passed, wire) = passing::take(from.into()).map_err(failed)?;
        let channel = Channel::arriving(wire, &passed.keys).map_err(failed)?.after(passed.heard);
        Ok(Self { channel, passed, record, before: None, targets: None, guest: None })
    }

    /// Whether it stands still until somebody has it go on.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.passed.is_paused
    }

    /// The lease that it will run by, which is not there yet.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn lease(&self) -> Result<Option<Lease>, Failure> {
        let Passed { is_leased, agent, volumes, .. } = &self.passed;
        is_leased.then(|| Lease::pending(agent, volumes)).transpose()
    }

    /// Takes it in, as it is described here; returns when it was given.
    ///
    /// # Errors
    ///
    /// It cannot run here, or was not given.
    pub fn read(
        &mut self,
        console: Console,
        lease: Option<&mut Lease>,
        here: Option<&Description>,
    ) -> Result<Copied, Failure> {
        let lost = |error: std::io::Error| Failure::failed(format!("the other node was lost: {error}"));
        self.guest = here.map(|here| (here.name.clone(), Says::of(here)));
        self.expect_disks(here, lease.as_deref())?;
        self.channel.say(&Word::Accepted).map_err(lost)?;
        let copied = self.copy(console, lease.as_deref(), here)?;
        self.targets.as_mut().map_or(Ok(()), Targets::finish)?;
        self.channel.say(&Word::Whole).map_err(lost)?;
        match self.channel.hear(GIVEN).map_err(lost)? {
            Word::Go => {}
            Word::Failed(why) => return Err(why.failure()),
            word @ (Word::Offer(_)
            | Word::Bring(..)
            | Word::Keep(_)
            | Word::BringOwn(..)
            | Word::Accepted
            | Word::Bytes(_)
            | Word::Whole
            | Word::Runs) => {
                return Err(Failure::failed(format!("the other node says {word:?} in place of Go")));
            }
        }
        lease.map_or(Ok(()), |lease| lease.grant(LEADS))?;
        if let Some(path) = &self.record {
            self.before = Some(Record::load(path).unwrap_or_default());
            let came = Record::now(Way::From, &self.passed.node, self.passed.is_leased);
            Record { unsaid: self.passed.is_own, ..came }.save(path)?;
        }
        Ok(copied)
    }

    /// Looks for the disks that come with it, if they do.
    fn expect_disks(&mut self, here: Option<&Description>, lease: Option<&Lease>) -> Result<(), Failure> {
        let Some(sizes) = &self.passed.disks else { return Ok(()) };
        let none = || Failure::usage("a guest that comes with its disks is described nowhere");
        let noted = self.record.as_deref().map(partial::beside);
        let noted = (noted.as_deref(), self.passed.node.as_str());
        self.targets = Some(Targets::open(here.ok_or_else(none)?, sizes, lease, noted)?);
        // That it came here once does not say that it was given this time.
        let came = |path: &PathBuf| Record::load(path).ok().flatten().is_some_and(|it| it.way == Way::From);
        let _ = self.record.as_ref().filter(|path| came(path)).map(std::fs::remove_file);
        Ok(())
    }

    fn copy(
        &mut self,
        console: Console,
        lease: Option<&Lease>,
        here: Option<&Description>,
    ) -> Result<Copied, Failure> {
        let (from, name) = (Incoming::new(&mut self.channel), "the guest that comes");
        let (Some(targets), Some(here)) = (&mut self.targets, here) else {
            return Copied::read(from, name, console, lease, &mut |_| Ok(())).map(|(copied, _)| copied);
        };
        let mut put = |bytes: &[u8]| targets.put(bytes);
        let brings = Some((here, &mut put as &mut Brings<'_>));
        match Copied::read_bringing(from, name, console, lease, &mut |_| Ok(()), brings) {
            Ok((copied, _)) => Ok(copied),
            Err(why) => Err(targets.failed().unwrap_or(why)),
        }
    }

    /// It runs here.
    pub fn runs(mut self) {
        if let Some(record) = self.record.as_ref().filter(|_| self.targets.is_some()) {
            // That it came is noted: what is noted of its disks says nothing more.
            let _ = std::fs::remove_file(partial::beside(record));
        }
        if let (true, Some(guest)) = (self.passed.is_own, &self.guest) {
            // Its agent says so later where this does not: who hears that it runs need not ask whether it is
            // wanted.
            let _ = want(&self.passed.agent, &guest.0, true, Some(guest.1));
        }
        // It does, whether somebody hears that or not.
        let _ = self.channel.say(&Word::Runs);
        self.channel.finish();
    }

    /// It does not, and will not.
    pub fn fails(mut self, why: &Failure) {
        if let Some((path, before)) = self.record.as_ref().zip(self.before.take()) {
            // It never was here: what was known before is so still.
            let _ = match before {
                Some(record) => record.save(path).is_ok(),
                None => std::fs::remove_file(path).is_ok(),
            };
        }
        let _ = self.targets.as_mut().map(Targets::abandon);
        let _ = self.channel.say(&Word::Failed(Refusal::of(why)));
        self.channel.finish();
    }
}
