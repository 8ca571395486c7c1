//! A guest that was read from a snapshot and has not begun: all of it is there and whole before anything of
//! it runs, or asks a server (S3-06, S0-11; I11).

use super::super::console::Console;
use super::super::description::Description;
use super::super::gate::Hold;
use super::super::lease::Lease;
use super::super::machine::{Body, Machine, Origin};
use super::super::ports::Ports;
use super::super::registers::Error;
use super::super::vcpu::End;
use super::disks::{self, SealedDisk};
use super::format::{Kind, Reader, Unreadable};
use super::processor::{Processor, is_whole};
use super::state::State;
use super::{contents, identity};
use crate::failure::Failure;
use kvm_bindings::CpuId;
use std::io::Read;
use std::path::Path;

/// A guest that was read and has not begun.
pub struct Copied {
    body: Body,
    state: State,
    disks: Vec<SealedDisk>,
}

impl std::fmt::Debug for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copied").field("origin", &self.body.origin).finish_non_exhaustive()
    }
}

/// Records that come in another order than they are written.
fn out_of_order() -> Unreadable {
    Unreadable::Nonsense("its records are not in their order".into())
}

impl Copied {
    /// Reads one that speaks on this console and runs by this lease; `name` is what errors call the snapshot.
    /// Also what is behind it.
    ///
    /// # Errors
    ///
    /// It is not whole, or this node cannot run it: why.
    pub fn read<R: Read>(
        from: R,
        name: &str,
        console: Console,
        lease: Option<&Lease>,
    ) -> Result<(Self, R), Failure> {
        let wrong = |why: Unreadable| Failure::failed(format!("{name}: {why}")).left("");
        let mut reader = Reader::begin(from).map_err(wrong)?;
        let description = description(&mut reader).map_err(wrong)?;
        let body = Body::new(Origin::find(description, console, lease)?)?;
        let (state, disks) = fill(&body, &mut reader).map_err(wrong)?;
        let has_all = state.processors.len() == body.vcpus.len() && state.devices.len() == body.devices.len();
        if !has_all {
            let what = "its processors and devices are not those of its description";
            return Err(wrong(Unreadable::Nonsense(what.into())));
        }
        let copied = Self { body, state, disks };
        copied.has_abilities(name)?;
        Ok((copied, reader.into_rest()))
    }

    /// Whether the processors here can do what the guest has seen that they can.
    fn has_abilities(&self, name: &str) -> Result<(), Failure> {
        let here = self.body.identity(0).map_err(self.body.origin.failed("compare processors"))?;
        let missing = self.state.processors.first();
        let missing = missing.map(|first| identity::missing(&first.identity, here.as_slice()));
        match missing.filter(|missing| !missing.is_empty()) {
            None => Ok(()),
            Some(missing) => {
                let what = format!("{name}: the processors here lack what the guest has found: {missing}");
                Err(Failure::refused(what).left("").next("restore it on a node with as able processors."))
            }
        }
    }

    /// What outlives it.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.body.origin
    }

    /// What its disks held, as far as that was said.
    #[must_use]
    pub fn disks(&self) -> &[SealedDisk] {
        &self.disks
    }

    /// The same guest, which finds its kernel and first files where it is described here.
    ///
    /// # Errors
    ///
    /// Their names are no text.
    pub fn loading(mut self, here: Option<&Description>) -> Result<Self, Failure> {
        let Some(here) = here else { return Ok(self) };
        let described = &mut self.body.origin.description;
        // One that has first files by now, and had none, does not get them by this.
        let initrd = here.initrd.as_deref().or(described.initrd.as_deref()).unwrap_or(Path::new(""));
        let wrong = |why| Failure::failed(format!("guest {}: {why}", here.name));
        *described = described.loading(&here.kernel, initrd).map_err(wrong)?;
        Ok(self)
    }

    /// Has it go on where it was, once nothing of `held` holds it any more.
    ///
    /// # Errors
    ///
    /// KVM or a disk is not what it was: why.
    pub fn begin(
        self,
        held: &[Hold],
        tell: impl Fn(End) + Clone + Send + 'static,
    ) -> Result<Machine, Failure> {
        let Self { mut body, state, .. } = self;
        body.identities = restore(&body, &state).map_err(body.origin.failed("restore processors"))?;
        let failed = |what: &str| body.origin.failed(what);
        let ports = Ports::restored(&state.serial, body.serial()?, body.origin.console.clone());
        let ports = ports.ok_or_else(|| failed("restore the console")("there is no such state".into()))?;
        // Last: what they tell the guest goes by all that is above.
        for (number, (device, saved)) in body.devices.iter_mut().zip(&state.devices).enumerate() {
            let restored = device.restore(saved);
            let why = || format!("device {number} is not what it was").into();
            restored.ok_or_else(|| body.origin.failed("restore devices")(why()))?;
        }
        body.run(ports, held, tell)
    }
}

/// Reads the description, which is the first record.
pub(super) fn description<R: Read>(reader: &mut Reader<R>) -> Result<Description, Unreadable> {
    let Some((Kind::Description, text)) = reader.record()? else { return Err(out_of_order()) };
    let text = str::from_utf8(text).map_err(|error| Unreadable::Nonsense(error.to_string()))?;
    Description::parse(text, Path::new("/")).map_err(Unreadable::Nonsense)
}

/// Reads all but the description.
fn fill<R: Read>(body: &Body, reader: &mut Reader<R>) -> Result<(State, Vec<SealedDisk>), Unreadable> {
    let (mut state, mut disks) = (None, None);
    while let Some((kind, content)) = reader.record()? {
        match kind {
            Kind::Memory => contents::put(&body.memory, content)?,
            Kind::State if state.is_none() => state = Some(State::read(content)?),
            Kind::Disks if disks.is_none() => disks = Some(disks::read(content)?),
            Kind::Description | Kind::State | Kind::Disks | Kind::End => return Err(out_of_order()),
        }
    }
    Ok((state.ok_or_else(out_of_order)?, disks.unwrap_or_default()))
}

/// Restores all but the devices; what the processors say of themselves.
fn restore(body: &Body, state: &State) -> Result<Vec<CpuId>, Error> {
    is_whole(&body.vm)?;
    for (vcpu, processor) in body.vcpus.iter().zip(&state.processors) {
        processor.write(vcpu)?;
    }
    // Behind the processors' own controllers, to which they hand on what waits in them.
    state.chips.write(&body.vm)?;
    state.processors.iter().map(Processor::identity).collect()
}
