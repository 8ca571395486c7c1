//! A guest put together, run, and ended (P3; S2-01).
//!
//! JUSTIFICATION for `unsafe`: KVM is told where in this process the guest's memory is, and writes there as
//! long as the guest lives.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use super::boot;
use super::console::Console;
use super::description::{Description, Typing};
use super::disk::Disk;
use super::gate::{Gate, Hold};
use super::heartbeat::Heartbeat;
use super::layout::{
    ACPI, FIRMWARE, FIRMWARE_CODE, IDENTITY_MAP, POWER_IRQ, SERIAL_IRQ, TSS, VIRTIO_MAX, virtio, virtio_irq,
};
use super::lease::Lease;
use super::memory::{self, Memory, MemoryPart};
use super::pages::Kept;
use super::ports::Ports;
use super::registers::{begin, identity};
use super::snapshot::tracked::Tracker;
use super::snapshot::written::Written;
use super::tap::Tap;
use super::vcpu::{Board, End, Processors};
use super::virtio::Device;
use super::virtio::block::Block;
use super::virtio::entropy::Entropy;
use super::virtio::net::Net;
use super::virtio::terminal::{Terminal, Typed};
use super::virtio::transport::{NOTIFY, Transport};
use super::{acpi, registers};
use crate::failure::Failure;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The version of KVM's interface; there is no other.
const KVM_API: i32 = 12;

/// A guest that runs. Dropped, it ends at once, as by a loss of power.
#[derive(Debug)]
pub struct Machine {
    // The processors end first, then the devices; KVM lets go of the memory before it goes.
    processors: Option<Processors>,
    pub(super) board: Arc<Board>,
    power_button: EventFd,
    pub(super) vm: VmFd,
    memory: Memory,
    origin: Origin,
    /// What each of its processors says of itself.
    pub(super) identities: Vec<CpuId>,
    /// Locked by who has it stand still.
    pub(super) alone: Mutex<()>,
    /// Who has it kept which pages are written; `None`: it is not.
    pub(super) tracker: Mutex<Option<Tracker>>,
}

/// What outlives a guest's resets.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What it is.
    pub description: Description,
    /// Its disks, as they were found.
    disks: Vec<Disk>,
    /// What its networks go by: they stay in their bridges, and what these have learned stays true.
    taps: Vec<Arc<Tap>>,
    pub(super) console: Console,
    /// What is typed, where that is no serial port's.
    typed: Option<Typed>,
    /// Its memory, where that is kept over its resets.
    kept: Option<Arc<Kept>>,
}

impl Origin {
    /// Looks for what the description names; under a lease, for what that is about.
    ///
    /// # Errors
    ///
    /// A disk is not served, or nothing that the guest may write, or this node has no such network.
    pub fn find(description: Description, console: Console, lease: Option<&Lease>) -> Result<Self, Failure> {
        let disks = description.disks.iter().map(|disk| Disk::open(disk, lease));
        let disks = disks.collect::<Result<_, _>>()?;
        let tap = |network| Tap::open(network).map(Arc::new);
        let taps = description.networks.iter().map(tap).collect::<Result<_, _>>()?;
        let Description { name, memory, pages, .. } = &description;
        let kept = Kept::new(name, *memory, *pages)?.map(Arc::new);
        let typed = (description.console == Typing::Virtio).then(Typed::new).transpose();
        let typed =
            typed.map_err(|error| Failure::failed(format!("no console for guest {name}: {error}")))?;
        Ok(Self { description, disks, taps, console, typed, kept })
    }

    /// Its disks, as they were found.
    #[must_use]
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    fn devices(&self) -> Vec<Box<dyn Device>> {
        let disks = self.disks.iter().cloned().enumerate();
        let block = |(number, disk)| Box::new(Block::new(disk, &format!("disk{number}")));
        let mut devices: Vec<Box<dyn Device>> = Vec::new();
        disks.map(block).for_each(|block| devices.push(block));
        for (network, tap) in self.description.networks.iter().zip(&self.taps) {
            devices.push(Box::new(Net::new(Arc::clone(tap), network.mac)));
        }
        devices.push(Box::new(Entropy::default()));
        let terminal = |typed: &Typed| Box::new(Terminal::new(typed.clone(), self.console.clone()));
        self.typed.iter().map(terminal).for_each(|terminal| devices.push(terminal));
        devices
    }

    /// What its disks and networks have carried, for machines.
    #[must_use]
    pub fn counters(&self) -> Value {
        let disks = self.disks.iter().enumerate().map(|(number, disk)| {
            let ((reads, read), (writes, written)) = disk.traffic().all();
            let counters = json!({ "read_ops": reads, "read_bytes": read,
                                   "write_ops": writes, "write_bytes": written });
            (format!("disk{number}"), counters)
        });
        let networks = self.taps.iter().enumerate().map(|(number, tap)| {
            let ((received, rx), (sent, tx)) = tap.traffic().all();
            let counters = json!({ "rx_frames": received, "rx_bytes": rx,
                                   "tx_frames": sent, "tx_bytes": tx });
            (format!("net{number}"), counters)
        });
        disks.chain(networks).collect::<serde_json::Map<_, _>>().into()
    }

    /// What failed to be done for it.
    pub(crate) fn failed(&self, what: &str) -> impl FnOnce(registers::Error) -> Failure + use<> {
        let what = format!("cannot {what} for guest {}", self.description.name);
        move |error| Failure::failed(format!("{what}: {error}"))
    }
}

/// A guest put together that has not begun: its memory is empty, and its processors know nothing.
pub(super) struct Body {
    pub(super) kvm: Kvm,
    pub(super) vcpus: Vec<VcpuFd>,
    /// What they say of themselves, once they have been told.
    pub(super) identities: Vec<CpuId>,
    pub(super) devices: Vec<Transport>,
    pub(super) vm: VmFd,
    pub(super) memory: Memory,
    pub(super) origin: Origin,
}

impl Body {
    pub(super) fn new(origin: Origin) -> Result<Self, Failure> {
        let kvm = kvm()?;
        let memory = match &origin.kept {
            Some(kept) => kept.take(),
            None => memory::new(origin.description.memory),
        };
        let memory = memory.map_err(|error| origin.failed("set memory apart")(error.into()))?;
        let vm = create(&kvm, &memory).map_err(origin.failed("make a machine"))?;
        let devices = (0..VIRTIO_MAX).zip(origin.devices());
        let devices = devices.map(|(number, device)| attach(&vm, &memory, number, device));
        let devices = devices.collect::<Result<_, _>>().map_err(origin.failed("make devices"))?;
        let vcpus = (0..origin.description.processors).map(|number| vm.create_vcpu(u64::from(number)));
        let vcpus: Result<_, _> = vcpus.collect();
        let vcpus = vcpus.map_err(|error| origin.failed("make processors")(error.into()))?;
        Ok(Self { kvm, vcpus, identities: Vec::new(), devices, vm, memory, origin })
    }

    /// What a processor of this node says of itself to a guest.
    pub(super) fn identity(&self, number: u8) -> Result<CpuId, registers::Error> {
        let supported = self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let has_deadline = self.kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(identity(&supported, number, self.origin.description.processors, has_deadline))
    }

    /// Has it begin with its kernel.
    fn boot(&mut self) -> Result<(), Failure> {
        let description = &self.origin.description;
        let entry = boot::load(description, &self.memory)?;
        let count = u32::try_from(self.devices.len()).unwrap_or(VIRTIO_MAX);
        let tables = acpi::tables(description.processors, count);
        let tables = tables.ok_or_else(|| Failure::failed("the guest has too many devices"))?;
        let put = self.memory.write_slice(&tables, GuestAddress(ACPI.start));
        let put = put.and_then(|()| self.memory.write_slice(&FIRMWARE_CODE, GuestAddress(FIRMWARE)));
        put.map_err(|error| self.origin.failed("write tables")(error.into()))?;
        let identities =
            (0..description.processors).map(|number| self.identity(number)).collect::<Result<_, _>>();
        self.identities = identities.map_err(self.origin.failed("describe processors"))?;
        self.prepare(entry).map_err(self.origin.failed("prepare processors"))
    }

    fn prepare(&self, entry: boot::Entry) -> Result<(), registers::Error> {
        for (vcpu, identity) in self.vcpus.iter().zip(&self.identities) {
            vcpu.set_cpuid2(identity)?;
        }
        self.vcpus.first().map_or(Ok(()), |first| begin(first, &self.memory, entry))
    }

    /// The interrupt line of its console.
    pub(super) fn serial(&self) -> Result<EventFd, Failure> {
        line(&self.vm, SERIAL_IRQ).map_err(self.origin.failed("make a console"))
    }

    /// Runs it once nothing of `held` holds it any more.
    pub(super) fn run(
        self,
        ports: Ports,
        held: &[Hold],
        tell: impl Fn(End) + Clone + Send + 'static,
    ) -> Result<Machine, Failure> {
        let Self { vcpus, identities, devices, vm, memory, origin, .. } = self;
        let power_button = line(&vm, POWER_IRQ).map_err(origin.failed("make a power button"))?;
        let gate = Gate::default();
        held.iter().for_each(|why| gate.hold(*why));
        let devices = devices.into_iter().map(Mutex::new).collect();
        let heartbeat = Heartbeat::new(origin.description.heartbeat.begins_within);
        let has_ended = AtomicBool::new(false);
        let board = Arc::new(Board { ports, heartbeat, devices, gate, has_ended });
        let processors = Processors::start(vcpus, &board, tell);
        let processors = processors.map_err(|error| origin.failed("start processors")(error.into()))?;
        Ok(Machine {
            processors: Some(processors),
            board,
            power_button,
            vm,
            memory,
            origin,
            identities,
            alone: Mutex::default(),
            tracker: Mutex::default(),
        })
    }
}

impl Machine {
    /// Puts a guest together, and runs it once nothing of `held` holds it any more. `tell` hears how each of
    /// its processors ends; the first says how the guest does.
    ///
    /// # Errors
    ///
    /// This node cannot run guests, or not this one: why.
    pub fn start(
        origin: Origin,
        held: &[Hold],
        tell: impl Fn(End) + Clone + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut body = Body::new(origin)?;
        body.boot()?;
        let ports = Ports::new(body.serial()?, body.origin.console.clone());
        body.run(ports, held, tell)
    }

    /// What outlives it.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Holds it for this reason: none of its instructions is carried out any more when this returns.
    pub fn hold(&self, why: Hold) {
        if let Some(processors) = &self.processors {
            processors.hold(why);
        }
    }

    /// This is no reason any more to hold it.
    pub fn release(&self, why: Hold) {
        self.board.gate.release(why);
    }

    /// Whether it is held for this reason.
    pub fn is_held(&self, why: Hold) -> bool {
        self.board.gate.is_held(why)
    }

    /// Whether it is held, for whatever reason.
    pub fn is_still(&self) -> bool {
        self.board.gate.is_closed()
    }

    /// For how long it has run.
    pub fn ran(&self) -> Duration {
        self.board.gate.ran()
    }

    /// Whether it is alive, as it says itself.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.board.heartbeat
    }

    /// Presses its power button: it ends itself, if it heeds that.
    pub fn press_power_button(&self) {
        // A full counter is a button that is pressed already.
        let _ = self.power_button.write(1);
    }

    /// Its memory.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// From now on it is kept which pages are written, or not any more. See `track` for who may ask.
    ///
    /// # Errors
    ///
    /// Those of KVM.
    pub(super) fn log_writes(&self, is_on: bool) -> Result<(), registers::Error> {
        place(&self.vm, &self.memory, if is_on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 })?;
        self.memory.iter().for_each(|region| (**region).bitmap().reset());
        Ok(())
    }

    /// The pages that were written since this was asked last, while that is kept: a bit each, for each part
    /// of memory.
    ///
    /// # Errors
    ///
    /// Those of KVM.
    pub fn written(&self) -> Result<Written, registers::Error> {
        let of_part = |(slot, region): (u32, &MemoryPart)| {
            let mut pages = self.vm.get_dirty_log(slot, usize::try_from(region.len())?)?;
            // What devices wrote, KVM does not see.
            for (pages, own) in pages.iter_mut().zip((**region).bitmap().get_and_reset()) {
                *pages |= own;
            }
            Ok(pages)
        };
        (0..).zip(self.memory.iter()).map(of_part).collect::<Result<_, _>>().map(Written)
    }

    /// Whether one of its processors has ended. Whoever holds it sees that it has, or will not.
    pub(super) fn has_ended(&self) -> bool {
        self.board.has_ended.load(Ordering::SeqCst)
    }

    /// Its processors. Whoever holds it has them to itself.
    pub(super) fn vcpus(&self) -> impl Iterator<Item = MutexGuard<'_, VcpuFd>> {
        self.processors.iter().flat_map(Processors::vcpus)
    }

    /// Types on its console. How many bytes it has room for.
    pub fn input(&self, bytes: &[u8]) -> usize {
        match &self.origin.typed {
            Some(typed) => typed.input(bytes),
            None => self.board.ports.input(bytes),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.processors = None;
        for device in &self.board.devices {
            device.lock().unwrap_or_else(PoisonError::into_inner).end();
        }
    }
}

/// KVM, as far as it is here.
///
/// # Errors
///
/// It is not, or it is too old.
pub fn kvm() -> Result<Kvm, Failure> {
    let next = "load `kvm-intel` or `kvm-amd`, allow virtualisation in the firmware's settings, or be in the \
                group of /dev/kvm";
    let kvm = Kvm::new().map_err(|error| {
        Failure::failed(format!("this node runs no guests: /dev/kvm: {error}")).next(next)
    })?;
    let needed = [Cap::Irqchip, Cap::Irqfd, Cap::Ioeventfd, Cap::UserMemory, Cap::SetTssAddr, Cap::ExtCpuid];
    match kvm.get_api_version() == KVM_API && needed.into_iter().all(|cap| kvm.check_extension(cap)) {
        true => Ok(kvm),
        false => Err(Failure::failed("this node's KVM is too old to run guests")),
    }
}

/// Gives a machine its memory, or says anew how: `flags` are KVM's.
fn place(vm: &VmFd, memory: &Memory, flags: u32) -> Result<(), registers::Error> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let at = memory.get_host_address(region.start_addr())?;
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: u64::try_from(at.addr())?,
        };
        // SAFETY: `at` is the start of so many bytes that are mapped as long as `memory` lives. `Machine` has
        // both, and its fields are dropped in their order: the machine of KVM before its memory. Whatever the
        // guest writes there, this process reads it as volatile memory only (vm-memory).
        unsafe { vm.set_user_memory_region(region)? };
    }
    Ok(())
}

fn create(kvm: &Kvm, memory: &Memory) -> Result<VmFd, registers::Error> {
    let vm = kvm.create_vm()?;
    place(&vm, memory, 0)?;
    vm.set_identity_map_address(IDENTITY_MAP)?;
    vm.set_tss_address(TSS)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() })?;
    Ok(vm)
}

fn event() -> std::io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

/// An interrupt line of the guest: who writes to it raises it.
fn line(vm: &VmFd, number: u32) -> Result<EventFd, registers::Error> {
    let line = event()?;
    vm.register_irqfd(&line, number)?;
    Ok(line)
}

/// Puts a device at its place.
fn attach(
    vm: &VmFd,
    memory: &Memory,
    number: u32,
    device: Box<dyn Device>,
) -> Result<Transport, registers::Error> {
    let mut notify = Vec::new();
    for queue in 0..u32::try_from(device.queues().len())? {
        let event = event()?;
        let at = IoEventAddress::Mmio(virtio(number).saturating_add(NOTIFY));
        vm.register_ioevent(&event, &at, queue)?;
        notify.push(event);
    }
    Ok(Transport::new(device, memory.clone(), line(vm, virtio_irq(number))?, notify)?)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
