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
use super::chain::{self, Link};
use super::disks::{self, SealedDisk};
use super::format::{Kind, Reader, Unreadable};
use super::processor::{Processor, is_whole};
use super::state::State;
use super::{Progress, Watch};
use super::{contents, identity};
use crate::failure::Failure;
use kvm_bindings::CpuId;
use std::io::Read;
use std::path::Path;

/// Who hears of each record how many bytes it has, and may end the reading by an error.
pub type Count<'a> = dyn FnMut(u64) -> std::io::Result<()> + 'a;

/// Where parts of disks go that come with a guest.
pub type Brings<'a> = dyn FnMut(&[u8]) -> std::io::Result<()> + 'a;

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

/// There is no guest in what is called so.
fn wrong(name: &str) -> impl Fn(Unreadable) -> Failure + use<'_> {
    move |why| Failure::failed(format!("{name}: {why}")).left("")
}

/// Records that come in another order than they are written.
pub(super) fn out_of_order() -> Unreadable {
    Unreadable::Nonsense("its records are not in their order".into())
}

impl Copied {
    /// Reads one that is all there, speaks on this console and runs by this lease; `name` is what errors call
    /// it, `count` hears how many bytes each record has. Also what is behind it.
    ///
    /// # Errors
    ///
    /// It is not whole, or this node cannot run it: why.
    pub fn read<R: Read>(
        from: R,
        name: &str,
        console: Console,
        lease: Option<&Lease>,
        count: &mut Count<'_>,
    ) -> Result<(Self, R), Failure> {
        Self::read_bringing(from, name, console, lease, count, None)
    }

    /// As [`Self::read`]; one whose disks come with it, to where they are described here.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_bringing<R: Read>(
        from: R,
        name: &str,
        console: Console,
        lease: Option<&Lease>,
        count: &mut Count<'_>,
        mut brings: Option<(&Description, &mut Brings<'_>)>,
    ) -> Result<(Self, R), Failure> {
        let mut reader = Reader::begin(from).map_err(wrong(name))?;
        let (description, lineage) = chain::begin(&mut reader).map_err(wrong(name))?;
        if lineage.is_some_and(|lineage| lineage.base.is_some()) {
            let what = "it builds on another one, which is not here";
            return Err(wrong(name)(Unreadable::Nonsense(what.into())));
        }
        let description = match &brings {
            None => description,
            Some((here, _)) => {
                description.with_disks_of(here).map_err(|why| wrong(name)(Unreadable::Nonsense(why)))?
            }
        };
        let body = Body::new(Origin::find(description, console, lease)?)?;
        let brings = brings.as_mut().map(|(_, brings)| &mut **brings);
        let read = fill(&body, &mut reader, count, brings).map_err(wrong(name))?;
        Ok((Self::new(body, read, name)?, reader.into_rest()))
    }

    /// Reads one from these files, the newest first.
    ///
    /// # Errors
    ///
    /// One is not whole or not what the next one builds on, or this node cannot run it: why.
    pub(super) fn of_chain(
        mut links: Vec<Link>,
        console: Console,
        lease: Option<&Lease>,
        progress: &mut Watch<'_>,
    ) -> Result<Self, Failure> {
        let total = links.iter().map(|link| link.length).fold(0, u64::saturating_add);
        let mut done = 0_u64;
        let mut count = |bytes: u64| {
            done = done.saturating_add(bytes);
            progress(Progress { done, total })
        };
        let newest = links.first().ok_or_else(|| Failure::failed("there is no snapshot"))?;
        let name = newest.name.clone();
        let body = Body::new(Origin::find(newest.description.clone(), console, lease)?)?;
        let mut last = None;
        while let Some(link) = links.pop() {
            let Link { name, mut reader, .. } = link;
            let read = fill(&body, &mut reader, &mut count, None).map_err(wrong(&name))?;
            let digest = reader.digest();
            match reader.into_rest().read(&mut [0]) {
                Ok(0) => {}
                Ok(_) => {
                    return Err(Failure::failed(format!("{name}: there is more behind its end")).left(""));
                }
                Err(error) => return Err(Failure::io("read", Path::new(&name), &error).left("")),
            }
            let base =
                links.last().and_then(|next| Some((&next.name, next.lineage.as_ref()?.base.as_ref()?)));
            if let Some((next, base)) = base.filter(|(_, base)| Some(base.digest) != digest) {
                let what =
                    format!("{name}: it is not what {next} builds on: snapshot {} was another one", base.id);
                return Err(Failure::failed(what).left(""));
            }
            // What the newest says holds: of its disks, too.
            last = Some(read);
        }
        let read = last.ok_or_else(|| Failure::failed("there is no snapshot"))?;
        Self::new(body, read, &name)
    }

    fn new(body: Body, read: (State, Vec<SealedDisk>), name: &str) -> Result<Self, Failure> {
        let (state, disks) = read;
        let has_all = state.processors.len() == body.vcpus.len() && state.devices.len() == body.devices.len();
        if !has_all {
            let what = "its processors and devices are not those of its description";
            return Err(wrong(name)(Unreadable::Nonsense(what.into())));
        }
        let copied = Self { body, state, disks };
        copied.has_abilities(name)?;
        Ok(copied)
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

/// Reads all but the description; `count` hears how many bytes each record has.
fn fill<R: Read>(
    body: &Body,
    reader: &mut Reader<R>,
    count: &mut Count<'_>,
    mut brings: Option<&mut Brings<'_>>,
) -> Result<(State, Vec<SealedDisk>), Unreadable> {
    let (mut state, mut disks) = (None, None);
    while let Some((kind, content)) = reader.record()? {
        count(u64::try_from(content.len()).unwrap_or(u64::MAX))?;
        match kind {
            Kind::Memory => contents::put(&body.memory, content)?,
            Kind::State if state.is_none() => state = Some(State::read(content)?),
            Kind::Disks if disks.is_none() => disks = Some(disks::read(content)?),
            Kind::Disk => brings.as_mut().ok_or_else(out_of_order)?(content)?,
            Kind::Description | Kind::State | Kind::Disks | Kind::End | Kind::Lineage => {
                return Err(out_of_order());
            }
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
