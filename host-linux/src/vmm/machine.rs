//! A guest put together, run, and ended (P3; S2-01).
//!
//! JUSTIFICATION for `unsafe`: KVM is told where in this process the guest's memory is, and writes there as
//! long as the guest lives.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use super::boot;
use super::console::Console;
use super::description::Description;
use super::disk::Disk;
use super::gate::{Gate, Hold};
use super::layout::{
    ACPI, FIRMWARE, FIRMWARE_CODE, IDENTITY_MAP, POWER_IRQ, SERIAL_IRQ, TSS, VIRTIO_MAX, virtio, virtio_irq,
};
use super::memory::{self, Memory};
use super::ports::Ports;
use super::registers::{begin, identity};
use super::vcpu::{Board, End, Processors};
use super::virtio::Device;
use super::virtio::block::Block;
use super::virtio::entropy::Entropy;
use super::virtio::transport::{NOTIFY, Transport};
use super::{acpi, registers};
use crate::failure::Failure;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The version of KVM's interface; there is no other.
const KVM_API: i32 = 12;

/// A guest that runs. Dropped, it ends at once, as by a loss of power.
#[derive(Debug)]
pub struct Machine {
    // The processors end first, then the devices; KVM lets go of the memory before it goes.
    processors: Option<Processors>,
    board: Arc<Board>,
    power_button: EventFd,
    _vm: VmFd,
    memory: Memory,
}

impl Machine {
    /// Puts a guest together, and runs it once nothing of `held` holds it any more. `tell` hears how each of
    /// its processors ends; the first says how the guest does.
    ///
    /// # Errors
    ///
    /// This node cannot run guests, or not this one: why.
    pub fn start(
        description: &Description,
        console: Console,
        held: &[Hold],
        tell: impl Fn(End) + Clone + Send + 'static,
    ) -> Result<Self, Failure> {
        let kvm = kvm()?;
        let failed = |what: &str| {
            let what = format!("cannot {what} for guest {}", description.name);
            move |error: registers::Error| Failure::failed(format!("{what}: {error}"))
        };
        let memory =
            memory::new(description.memory).map_err(|error| failed("set memory apart")(error.into()))?;
        let vm = create(&kvm, &memory).map_err(failed("make a machine"))?;
        let mut devices: Vec<Box<dyn Device>> = Vec::new();
        for (number, disk) in description.disks.iter().enumerate() {
            devices.push(Box::new(Block::new(Disk::open(disk)?, &format!("disk{number}"))));
        }
        devices.push(Box::new(Entropy::default()));
        let count = u32::try_from(devices.len()).unwrap_or(VIRTIO_MAX);
        let devices: Result<Vec<_>, _> = (0..VIRTIO_MAX)
            .zip(devices)
            .map(|(number, device)| attach(&vm, &memory, number, device).map(Mutex::new))
            .collect();
        let devices = devices.map_err(failed("make devices"))?;
        let entry = boot::load(description, &memory)?;
        let tables = acpi::tables(description.processors, count);
        let tables = tables.ok_or_else(|| Failure::failed("the guest has too many devices"))?;
        let put = memory.write_slice(&tables, GuestAddress(ACPI.start));
        let put = put.and_then(|()| memory.write_slice(&FIRMWARE_CODE, GuestAddress(FIRMWARE)));
        put.map_err(|error| failed("write tables")(error.into()))?;
        let vcpus = vcpus(&kvm, &vm, description.processors, &memory, entry);
        let vcpus = vcpus.map_err(failed("make processors"))?;
        let serial = line(&vm, SERIAL_IRQ).map_err(failed("make a console"))?;
        let power_button = line(&vm, POWER_IRQ).map_err(failed("make a power button"))?;
        let gate = Gate::default();
        held.iter().for_each(|why| gate.hold(*why));
        let board = Arc::new(Board { ports: Ports::new(serial, console), devices, gate });
        let processors = Processors::start(vcpus, &board, tell);
        let processors = processors.map_err(|error| failed("start processors")(error.into()))?;
        Ok(Self { processors: Some(processors), board, power_button, _vm: vm, memory })
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

    /// Presses its power button: it ends itself, if it heeds that.
    pub fn press_power_button(&self) {
        // A full counter is a button that is pressed already.
        let _ = self.power_button.write(1);
    }

    /// Its memory.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Types on its console. How many bytes it has room for.
    pub fn input(&self, bytes: &[u8]) -> usize {
        self.board.ports.input(bytes)
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

fn create(kvm: &Kvm, memory: &Memory) -> Result<VmFd, registers::Error> {
    let vm = kvm.create_vm()?;
    for (slot, region) in (0..).zip(memory.iter()) {
        let at = memory.get_host_address(region.start_addr())?;
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: u64::try_from(at.addr())?,
        };
        // SAFETY: `at` is the start of so many bytes that are mapped as long as `memory` lives. `Machine` has
        // both, and its fields are dropped in their order: the machine of KVM before its memory. Whatever the
        // guest writes there, this process reads it as volatile memory only (vm-memory).
        unsafe { vm.set_user_memory_region(region)? };
    }
    vm.set_identity_map_address(IDENTITY_MAP)?;
    vm.set_tss_address(TSS)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() })?;
    Ok(vm)
}

fn vcpus(
    kvm: &Kvm,
    vm: &VmFd,
    count: u8,
    memory: &Memory,
    entry: boot::Entry,
) -> Result<Vec<VcpuFd>, registers::Error> {
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let has_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    let mut vcpus = Vec::new();
    for number in 0..count {
        let vcpu = vm.create_vcpu(u64::from(number))?;
        vcpu.set_cpuid2(&identity(&supported, number, count, has_deadline))?;
        if number == 0 {
            begin(&vcpu, memory, entry)?;
        }
        vcpus.push(vcpu);
    }
    Ok(vcpus)
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
