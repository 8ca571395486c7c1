//! What the processors of a guest share in KVM: interrupt controllers, timer and clock (S3-06).

use super::super::registers::Error;
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

/// The interrupt controllers, in the order in which they are read and written.
const CONTROLLERS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// What the processors share.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Chips {
    pub(super) controllers: [kvm_irqchip; 3],
    pub(super) timer: kvm_pit_state2,
    /// Nanoseconds of KVM's clock.
    pub(super) clock: u64,
}

impl Chips {
    /// Reads those of a guest that stands still.
    ///
    /// # Errors
    ///
    /// KVM does not say.
    pub fn read(vm: &VmFd) -> Result<Self, Error> {
        let mut chips = Self { timer: vm.get_pit2()?, clock: vm.get_clock()?.clock, ..Self::default() };
        for (chip, number) in chips.controllers.iter_mut().zip(CONTROLLERS) {
            chip.chip_id = number;
            vm.get_irqchip(chip)?;
        }
        Ok(chips)
    }

    /// Makes those of a new guest these: its clock goes on from where it was.
    ///
    /// # Errors
    ///
    /// KVM cannot.
    pub fn write(&self, vm: &VmFd) -> Result<(), Error> {
        for (chip, number) in self.controllers.iter().zip(CONTROLLERS) {
            vm.set_irqchip(&kvm_irqchip { chip_id: number, ..*chip })?;
        }
        vm.set_pit2(&self.timer)?;
        vm.set_clock(&kvm_clock_data { clock: self.clock, ..kvm_clock_data::default() })?;
        Ok(())
    }
}
