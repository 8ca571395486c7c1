//! A processor of a guest, read and written: all that KVM knows of one that stands between two instructions
//! (S3-06). Guests have no virtualisation of their own (`registers.rs`): there is no state of that.
//!
//! JUSTIFICATION for `unsafe`: KVM reads as many bytes of extended state as it has said before.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use super::super::registers::Error;
use kvm_bindings::{
    CpuId, KVM_MAX_MSR_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The time-stamp counter, and a timer that ends at a value of it.
const TSC: u32 = 0x10;
const TSC_DEADLINE: u32 = 0x6e0;
/// How memory is cached (MTRR): not all versions of KVM name them.
const CACHING: [RangeInclusive<u32>; 5] =
    [0x200..=0x20f, 0x250..=0x250, 0x258..=0x259, 0x268..=0x26f, 0x2ff..=0x2ff];
/// What a processor says of virtualisation, which guests do not have.
const VIRTUALISATION: RangeInclusive<u32> = 0x480..=0x4ff;

/// A processor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Processor {
    /// What it says of itself.
    pub identity: Vec<kvm_cpuid_entry2>,
    /// How fast its time-stamp counter counts, where that is known.
    pub(super) tsc_khz: Option<u32>,
    /// Whether it runs, sleeps, or waits to be started by another one.
    pub(super) activity: kvm_mp_state,
    pub(super) general: kvm_regs,
    pub(super) special: kvm_sregs,
    pub(super) debug: kvm_debugregs,
    /// Which extended state it uses, and that state: floating point, vectors.
    pub(super) uses: kvm_xcrs,
    pub(super) extended: kvm_xsave,
    /// Its interrupt controller and timer.
    pub(super) interrupts: kvm_lapic_state,
    /// Model-specific registers, by number, in the order in which they are written.
    pub(super) model: Vec<(u32, u64)>,
    /// What it was about to be told.
    pub(super) events: kvm_vcpu_events,
}

/// The model-specific registers that KVM has, in the order in which they are written.
///
/// # Errors
///
/// KVM does not say.
pub fn model_registers(kvm: &Kvm) -> Result<Vec<u32>, Error> {
    let mut numbers = kvm.get_msr_index_list()?.as_slice().to_vec();
    numbers.extend(CACHING.into_iter().flatten());
    numbers.retain(|number| !VIRTUALISATION.contains(number));
    numbers.sort_unstable();
    numbers.dedup();
    // The timer ends at a value of the counter, so it comes when that is right. The sort is stable.
    numbers.sort_by_key(|number| *number == TSC_DEADLINE);
    Ok(numbers)
}

/// Whether a processor of this guest has no more extended state than is captured.
///
/// # Errors
///
/// It has: more would be lost.
pub fn is_whole(vm: &VmFd) -> Result<(), Error> {
    let size = vm.check_extension_int(Cap::Xsave2);
    let has_room = usize::try_from(size).is_ok_and(|size| size <= size_of::<kvm_xsave>());
    has_room.then_some(()).ok_or_else(|| format!("its processors have {size} bytes of extended state").into())
}

/// Those of these registers that the processor has.
fn read_model(vcpu: &VcpuFd, numbers: &[u32]) -> Result<Vec<(u32, u64)>, Error> {
    let (mut values, mut left) = (Vec::new(), numbers);
    while !left.is_empty() {
        let now = left.get(..left.len().min(KVM_MAX_MSR_ENTRIES)).unwrap_or(left);
        let entry = |index: &u32| kvm_msr_entry { index: *index, ..kvm_msr_entry::default() };
        let mut entries = Msrs::from_entries(&now.iter().map(entry).collect::<Vec<_>>())?;
        // KVM stops at one that the processor has not.
        let count = vcpu.get_msrs(&mut entries)?;
        values.extend(entries.as_slice().iter().take(count).map(|entry| (entry.index, entry.data)));
        let passed = count.saturating_add(usize::from(count < now.len()));
        left = left.get(passed..).unwrap_or_default();
    }
    Ok(values)
}

impl Processor {
    /// Reads one that stands still, with these model-specific registers. It was told to say this of itself;
    /// what KVM tells of that may have more in it, by what the guest has set up.
    ///
    /// # Errors
    ///
    /// KVM does not say.
    pub fn read(vcpu: &VcpuFd, identity: &CpuId, numbers: &[u32]) -> Result<Self, Error> {
        // First: by this, KVM has it take what others have sent it to be started.
        let activity = vcpu.get_mp_state()?;
        let mut model = read_model(vcpu, numbers)?;
        let counter = model.iter().find(|(number, _)| *number == TSC).map(|(_, value)| *value);
        // A timer that has just ended is zero, and may not have been heard: it ends once more.
        let timer = model.iter_mut().find(|(number, value)| (*number, *value) == (TSC_DEADLINE, 0));
        if let (Some((_, value)), Some(counter)) = (timer, counter) {
            *value = counter;
        }
        Ok(Self {
            identity: identity.as_slice().to_vec(),
            tsc_khz: vcpu.get_tsc_khz().ok(),
            activity,
            general: vcpu.get_regs()?,
            special: vcpu.get_sregs()?,
            debug: vcpu.get_debug_regs()?,
            uses: vcpu.get_xcrs()?,
            extended: vcpu.get_xsave()?,
            interrupts: vcpu.get_lapic()?,
            model,
            events: vcpu.get_vcpu_events()?,
        })
    }

    /// What it says of itself.
    ///
    /// # Errors
    ///
    /// It says more than KVM knows.
    pub fn identity(&self) -> Result<CpuId, Error> {
        Ok(CpuId::from_entries(&self.identity)?)
    }

    /// Makes a new one this. Each needs what stands above it: registers what the processor says that it has,
    /// its interrupt controller where it is, the timer its mode and the counter.
    ///
    /// # Errors
    ///
    /// KVM cannot: what.
    pub fn write(&self, vcpu: &VcpuFd) -> Result<(), Error> {
        vcpu.set_cpuid2(&self.identity()?)?;
        if let Some(khz) = self.tsc_khz.filter(|khz| vcpu.get_tsc_khz() != Ok(*khz)) {
            let wrong =
                |why| format!("its time-stamp counter counts {khz} kHz, which is not to be had: {why}");
            vcpu.set_tsc_khz(khz).map_err(wrong)?;
        }
        vcpu.set_sregs(&self.special)?;
        vcpu.set_regs(&self.general)?;
        vcpu.set_debug_regs(&self.debug)?;
        vcpu.set_xcrs(&self.uses)?;
        // SAFETY: `is_whole` was asked of this machine: KVM reads no more than the size of `kvm_xsave`.
        unsafe { vcpu.set_xsave(&self.extended)? };
        vcpu.set_lapic(&self.interrupts)?;
        self.write_model(vcpu)?;
        vcpu.set_mp_state(self.activity)?;
        vcpu.set_vcpu_events(&self.events)?;
        // Its watchdogs are told of the time that it did not see. A guest without KVM's clock has none.
        let _ = vcpu.kvmclock_ctrl();
        Ok(())
    }

    /// Writes what a new processor has otherwise: some of the rest cannot be written.
    fn write_model(&self, vcpu: &VcpuFd) -> Result<(), Error> {
        let numbers: Vec<_> = self.model.iter().map(|(number, _)| *number).collect();
        let new = read_model(vcpu, &numbers)?;
        for (index, data) in self.model.iter().copied().filter(|one| !new.contains(one)) {
            let entry = kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
            if vcpu.set_msrs(&Msrs::from_entries(&[entry])?)? == 0 {
                return Err(format!("the model-specific register {index:#x} cannot be {data:#x} here").into());
            }
        }
        Ok(())
    }
}
