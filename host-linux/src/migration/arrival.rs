//! The end of a move at the node that the guest comes to: a process that takes it in, and runs it once it
//! was given (X15, S0-11).

use super::channel::{Channel, Incoming};
use super::passing::{self, Passed};
use super::words::{Refusal, Word};
use crate::failure::Failure;
use crate::guests::record::{Record, Way};
use crate::vmm::console::Console;
use crate::vmm::lease::Lease;
use crate::vmm::snapshot::copied::Copied;
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
        Ok(Self { channel, passed, record, before: None })
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

    /// Takes it in; returns when it was given.
    ///
    /// # Errors
    ///
    /// It cannot run here, or was not given.
    pub fn read(&mut self, console: Console, lease: Option<&mut Lease>) -> Result<Copied, Failure> {
        let lost = |error: std::io::Error| Failure::failed(format!("the other node was lost: {error}"));
        self.channel.say(&Word::Accepted).map_err(lost)?;
        let from = Incoming::new(&mut self.channel);
        let (copied, _) =
            Copied::read(from, "the guest that comes", console, lease.as_deref(), &mut |_| Ok(()))?;
        self.channel.say(&Word::Whole).map_err(lost)?;
        match self.channel.hear(GIVEN).map_err(lost)? {
            Word::Go => {}
            Word::Failed(why) => return Err(why.failure()),
            word @ (Word::Offer(_) | Word::Accepted | Word::Bytes(_) | Word::Whole | Word::Runs) => {
                return Err(Failure::failed(format!("the other node says {word:?} in place of Go")));
            }
        }
        lease.map_or(Ok(()), |lease| lease.grant(LEADS))?;
        if let Some(path) = &self.record {
            self.before = Some(Record::load(path).unwrap_or_default());
            Record::now(Way::From, &self.passed.node, self.passed.is_leased).save(path)?;
        }
        Ok(copied)
    }

    /// It runs here.
    pub fn runs(mut self) {
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
        let _ = self.channel.say(&Word::Failed(Refusal::of(why)));
        self.channel.finish();
    }
}
