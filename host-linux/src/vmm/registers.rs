//! How a guest's processors begin: what they say of themselves, and the registers of the first one.

use super::boot::Entry;
use super::layout::{GDT, PAGE_TABLES, STACK, START_INFO, ZERO_PAGE};
use super::memory::Memory;
use kvm_bindings::{CpuId, Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

/// Why a processor does not begin.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The interrupt flag and its like: nothing is set but what is always one.
const RFLAGS: u64 = 2;
const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
/// Present, and may be written; in a table of large pages, too.
const PRESENT: u64 = 3;
const LARGE: u64 = 1 << 7;

/// `IA32_MISC_ENABLE`: string instructions are fast.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE`: memory is cached, written back.
const MTRR_DEFAULT: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// A timer that ends at a value of the time-stamp counter: a kernel that is told of no other needs it. KVM
/// has it, and says so elsewhere.
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Virtualisation, of both makers: a guest that had guests of its own would have state that nobody names.
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;

/// What the processor `number` of so many says of itself.
pub fn identity(supported: &CpuId, number: u8, count: u8, has_deadline: bool) -> CpuId {
    let mut identity = supported.clone();
    for entry in identity.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ebx = entry.ebx & 0xffff | u32::from(count) << 16 | u32::from(number) << 24;
                entry.ecx |= HYPERVISOR | if has_deadline { TSC_DEADLINE } else { 0 };
                entry.ecx &= !VMX;
            }
            0x8000_0001 => entry.ecx &= !SVM,
            // The topology of processors: its own number.
            0xb | 0x1f => entry.edx = u32::from(number),
            _ => {}
        }
    }
    identity
}

/// Prepares the first processor to begin at `entry`.
pub fn begin(vcpu: &VcpuFd, memory: &Memory, entry: Entry) -> Result<(), Error> {
    let entries = [MISC_ENABLE, MTRR_DEFAULT].map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    });
    // A processor without one of them does without.
    vcpu.set_msrs(&Msrs::from_entries(&entries)?)?;
    let mut special = vcpu.get_sregs()?;
    let regs = match entry {
        Entry::Pvh(at) => {
            protected_mode(&mut special);
            kvm_regs { rip: at, rbx: START_INFO, rflags: RFLAGS, ..kvm_regs::default() }
        }
        Entry::Long(at) => {
            long_mode(&mut special, memory)?;
            let (rsi, rsp) = (ZERO_PAGE, STACK);
            kvm_regs { rip: at, rsi, rsp, rbp: rsp, rflags: RFLAGS, ..kvm_regs::default() }
        }
    };
    vcpu.set_sregs(&special)?;
    vcpu.set_regs(&regs)?;
    Ok(())
}

/// A segment of all memory, by its place in the table of descriptors and its kind.
fn segment(place: u16, kind: u8, is_code_64: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: place.saturating_mul(8),
        type_: kind,
        present: 1,
        dpl: 0,
        db: u8::from(!is_code_64),
        s: 1,
        l: u8::from(is_code_64),
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

/// Code that is executed and read, and was.
const CODE: u8 = 0xb;
/// Data that is written and read, and was.
const DATA: u8 = 3;
/// A task's state, in use.
const TASK: u8 = 0xb;

fn segments(special: &mut kvm_sregs, is_64: bool) {
    special.cs = segment(1, CODE, is_64);
    let data = segment(2, DATA, false);
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.tr = kvm_segment { s: 0, g: 0, db: 0, limit: 0x67, ..segment(3, TASK, false) };
}

/// 32 bits, without pages: PVH.
fn protected_mode(special: &mut kvm_sregs) {
    segments(special, false);
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION;
    special.cr4 = 0;
    special.efer = 0;
}

/// 64 bits, the first GiB of memory as it is: Linux's 64-bit protocol.
fn long_mode(special: &mut kvm_sregs, memory: &Memory) -> Result<(), Error> {
    segments(special, true);
    let table: [u64; 4] = [0, descriptor(&special.cs), descriptor(&special.ds), descriptor(&special.tr)];
    for (entry, at) in table.into_iter().zip((GDT..).step_by(8)) {
        memory.write_obj(entry, GuestAddress(at))?;
    }
    special.gdt.base = GDT;
    special.gdt.limit = 4 * 8 - 1;
    let [top, middle, low] = [0, 1, 2].map(|page: u64| PAGE_TABLES.saturating_add(page.saturating_mul(4096)));
    memory.write_obj(middle | PRESENT, GuestAddress(top))?;
    memory.write_obj(low | PRESENT, GuestAddress(middle))?;
    for (number, at) in (0..512_u64).zip((low..).step_by(8)) {
        memory.write_obj(number << 21 | PRESENT | LARGE, GuestAddress(at))?;
    }
    special.cr3 = top;
    special.cr4 = CR4_PAE;
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION | CR0_PAGING;
    special.efer = EFER_LONG_MODE | EFER_LONG_MODE_ACTIVE;
    Ok(())
}

/// A segment as the table has it (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let bits = |value: u8, shift: u32| u64::from(value) << shift;
    // With granularity the limit counts pages.
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    limit & 0xffff
        | (limit >> 16 & 0xf) << 48
        | bits(segment.type_, 40)
        | bits(segment.s, 44)
        | bits(segment.present, 47)
        | bits(segment.l, 53)
        | bits(segment.db, 54)
        | bits(segment.g, 55)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that every boot loader has for these segments.
    #[test]
    fn segments_are_the_usual_ones() {
        assert_eq!(descriptor(&segment(1, CODE, true)), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&segment(1, CODE, false)), 0x00cf_9b00_0000_ffff);
        assert_eq!(descriptor(&segment(2, DATA, false)), 0x00cf_9300_0000_ffff);
        let mut special = kvm_sregs::default();
        segments(&mut special, true);
        assert_eq!(descriptor(&special.tr), 0x0000_8b00_0000_0067);
        assert_eq!((special.cs.selector, special.ss.selector, special.tr.selector), (8, 16, 24));
    }
}
