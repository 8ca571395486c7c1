//! A guest that stands still, and is written: none of its instructions is carried out, no device touches its
//! memory, and nothing of it is under way to a volume (S3-06).

use super::super::gate::Hold;
use super::super::machine::Machine;
use super::super::vcpu::lock;
use super::super::virtio::transport::Transport;
use super::Watch;
use super::chips::Chips;
use super::disks::{self, SealedDisk};
use super::format::{Kind, Writer};
use super::lineage::{Digest, Lineage};
use super::processor::{Processor, is_whole, model_registers};
use super::state::State;
use super::written::Written;
use super::{super::machine::kvm, super::registers::Error, contents};
use crate::failure::Failure;
use std::io::Write;
use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long servers may take to answer what the guest has asked before. A copy asks again what they have not,
/// so the first asking must have come to its end.
const ANSWERS: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(1);

/// A guest that stands still. Dropped, it goes on, if nothing else holds it.
#[derive(Debug)]
pub struct Still<'a> {
    machine: &'a Machine,
    is_over: bool,
    _alone: MutexGuard<'a, ()>,
}

impl Machine {
    /// Has it stand still.
    ///
    /// # Errors
    ///
    /// It has ended, stands still already, or a server does not answer what it has asked: it goes on.
    pub fn stand_still(&self) -> Result<Still<'_>, Failure> {
        self.stand_still_within(ANSWERS)
    }

    pub(super) fn stand_still_within(&self, most: Duration) -> Result<Still<'_>, Failure> {
        let name = &self.origin().description.name;
        let alone = match self.alone.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::failed(format!("guest {name} is being captured already")));
            }
        };
        self.hold(Hold::Capture);
        self.devices().for_each(|mut device| device.pause());
        let still = Still { machine: self, is_over: false, _alone: alone };
        if self.has_ended() {
            return Err(Failure::failed(format!("guest {name} has ended")));
        }
        let begun = Instant::now();
        while let Some(whom) = self.devices().find_map(|device| device.waits_for()) {
            if most < begun.elapsed() {
                let seconds = most.as_secs();
                let what =
                    format!("guest {name} cannot be captured: {whom} were not answered in {seconds} s");
                let next = "see what keeps the disk's server, or end it: what waits for a server that is \
                            gone is captured with the guest.";
                return Err(Failure::failed(what).left("Nothing was written; the guest goes on.").next(next));
            }
            std::thread::sleep(LOOK);
        }
        Ok(still)
    }

    /// Writes all of it, and has it go on if it ran. `progress` hears how far that is.
    ///
    /// # Errors
    ///
    /// It cannot be captured, or not be written: why. It goes on.
    pub fn capture(&self, out: &mut impl Write, progress: &mut Watch<'_>) -> Result<(), Failure> {
        self.stand_still()?.write(out, &[], progress)
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.machine.devices().for_each(|mut device| device.resume());
            self.machine.release(Hold::Capture);
        }
    }
}

impl Still<'_> {
    /// Writes all of it, and what its disks hold.
    ///
    /// # Errors
    ///
    /// It cannot be captured, or not be written: why.
    pub fn write(
        &self,
        out: &mut impl Write,
        sealed: &[SealedDisk],
        progress: &mut Watch<'_>,
    ) -> Result<(), Failure> {
        let lineage = Lineage::draw(None).map_err(|error| self.failed(error))?;
        self.write_pages(out, &lineage, sealed, None, progress).map(drop)
    }

    /// Writes it as this snapshot, with what its disks hold, and with these pages of its memory, or all. Its
    /// digest.
    ///
    /// # Errors
    ///
    /// It cannot be captured, or not be written: why.
    pub fn write_pages(
        &self,
        out: &mut impl Write,
        lineage: &Lineage,
        sealed: &[SealedDisk],
        pages: Option<&Written>,
        progress: &mut Watch<'_>,
    ) -> Result<Option<Digest>, Failure> {
        let origin = self.machine.origin();
        let state = self.state()?;
        let disks = disks::bytes(sealed).map_err(|error| origin.failed("write its disks")(error.into()))?;
        let mut write = || {
            let mut writer = Writer::keep(&mut *out)?;
            writer.put(Kind::Description, &[origin.description.text.as_bytes()])?;
            writer.put(Kind::Lineage, &[&lineage.bytes()])?;
            writer.put(Kind::State, &[&state])?;
            if !sealed.is_empty() {
                writer.put(Kind::Disks, &[&disks])?;
            }
            match pages {
                None => contents::write(self.machine.memory(), &mut writer, progress)?,
                Some(pages) => pages.write(self.machine.memory(), &mut writer, progress)?,
            }
            writer.end()
        };
        write().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Failure {
        self.machine.origin().failed("write the snapshot")(error.into())
    }

    /// It does not go on: its copy does, elsewhere.
    pub fn end(mut self) {
        self.is_over = true;
    }

    /// All of it but its memory, in bytes.
    ///
    /// # Errors
    ///
    /// It cannot be captured: why.
    pub fn state(&self) -> Result<Vec<u8>, Failure> {
        self.read(&kvm()?).map_err(self.machine.origin().failed("read the state"))
    }

    fn read(&self, kvm: &kvm_ioctls::Kvm) -> Result<Vec<u8>, Error> {
        let machine = self.machine;
        is_whole(&machine.vm)?;
        let numbers = model_registers(kvm)?;
        let processors = machine.vcpus().zip(&machine.identities);
        let processors = processors.map(|(vcpu, identity)| Processor::read(&vcpu, identity, &numbers));
        let state = State {
            processors: processors.collect::<Result<_, _>>()?,
            chips: Chips::read(&machine.vm)?,
            serial: machine.board.ports.saved(),
            devices: machine.devices().map(|device| device.saved()).collect(),
        };
        Ok(state.bytes()?)
    }
}

impl Machine {
    fn devices(&self) -> impl Iterator<Item = MutexGuard<'_, Transport>> {
        self.board.devices.iter().map(lock)
    }
}
