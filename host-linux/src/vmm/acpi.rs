//! What a guest is told of its processors and devices: ACPI's tables, hardware-reduced (ACPI 6.5, 4.1), so
//! that there is nothing in them but what exists.

use super::layout::{
    ACPI, IO_APIC, LOCAL_APIC, POWER_IRQ, RESET, RESET_PORT, SERIAL, SERIAL_IRQ, SLEEP_CONTROL, SLEEP_STATUS,
    VIRTIO_LEN, virtio, virtio_irq,
};
use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Memory32Fixed, Method, Name, Notify, Package};
use acpi_tables::aml::{Path, ResourceTemplate, Scope};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

const OEM: [u8; 6] = *b"BULKHD";
const TABLE: [u8; 8] = *b"BULKHEAD";
const REVISION: u32 = 1;
/// What the guest writes to sleep for ever: S5.
pub const S5: u8 = 5;

/// The tables of a guest with so many processors and virtio devices: to be put at the start of
/// [`ACPI`], where its root pointer is. `None`: they would not fit there.
#[must_use]
pub fn tables(processors: u8, devices: u32) -> Option<Vec<u8>> {
    let mut all = vec![0; Rsdp::len().next_multiple_of(ALIGN)];
    let dsdt = put(&mut all, &dsdt(devices));
    let fadt = put(&mut all, &fadt(dsdt));
    let madt = put(&mut all, &madt(processors));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = put(&mut all, &xsdt);
    let root = bytes(&Rsdp::new(OEM, xsdt));
    all.get_mut(..root.len())?.copy_from_slice(&root);
    let room = ACPI.end.saturating_sub(ACPI.start);
    (u64::try_from(all.len()).ok()? <= room).then_some(all)
}

const ALIGN: usize = 16;
/// What a guest is told of its power button: pressed, as it runs.
const PRESSED: u8 = 0x80;

/// Puts a table behind the others; answers where the guest finds it.
fn put(all: &mut Vec<u8>, table: &dyn Aml) -> u64 {
    let at = ACPI.start.saturating_add(u64::try_from(all.len()).unwrap_or(u64::MAX));
    all.extend(bytes(table));
    all.resize(all.len().next_multiple_of(ALIGN), 0);
    at
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port))
}

/// `IAPC_BOOT_ARCH`: there is no VGA, and no clock in CMOS. A kernel would wait for it.
const NOT_PRESENT: u16 = 1 << 2 | 1 << 5;

fn fadt(dsdt: u64) -> impl Aml {
    let flags = [Flags::Wbinvd, Flags::HwReducedAcpi, Flags::ResetRegSup];
    let start = FADTBuilder::new(OEM, TABLE, REVISION).dsdt_64(dsdt);
    let mut fadt = flags.into_iter().fold(start, FADTBuilder::flag);
    (fadt.reset_reg, fadt.reset_value) = (port(RESET_PORT), RESET);
    fadt.iapc_boot_arch = NOT_PRESENT.into();
    (fadt.sleep_control_reg, fadt.sleep_status_reg) = (port(SLEEP_CONTROL), port(SLEEP_STATUS));
    fadt.finalize()
}

fn madt(processors: u8) -> impl Aml {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(LOCAL_APIC));
    for number in 0..processors {
        madt.add_structure(ProcessorLocalApic::new(number, number, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(processors, IO_APIC, 0));
    madt
}

/// An interrupt of a device: the guest sees an edge, and asks the device what there is.
fn interrupt(number: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, number)
}

/// The devices that cannot be found by looking.
fn dsdt(devices: u32) -> Sdt {
    let mut code = bytes(&Name::new("_S5_".into(), &Package::new(vec![&S5, &0_u8, &0_u8, &0_u8])));
    let length = u8::try_from(SERIAL.len()).unwrap_or(u8::MAX);
    let ports = IO::new(SERIAL.start, SERIAL.start, 1, length);
    code.extend(device("COM1", &EISAName::new("PNP0501"), 0, &ports, SERIAL_IRQ));
    code.extend(power_button());
    for number in 0..devices {
        let name = format!("VR{number:02}");
        let base = u32::try_from(virtio(number)).unwrap_or(u32::MAX);
        let registers = Memory32Fixed::new(true, base, u32::try_from(VIRTIO_LEN).unwrap_or(u32::MAX));
        // The name by which Linux knows virtio over memory.
        code.extend(device(&name, &"LNRO0005", number, &registers, virtio_irq(number)));
    }
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    dsdt.append_slice(&code);
    dsdt
}

/// A power button, and the device that tells of it (ACPI 6.5, 4.8.2.2.1.2 and 5.6.9).
fn power_button() -> Vec<u8> {
    let kind = Name::new("_HID".into(), &EISAName::new("PNP0C0C"));
    let button = Device::new(Path::new("PWRB"), vec![&kind]);
    let kind = Name::new("_HID".into(), &"ACPI0013");
    let irq = interrupt(POWER_IRQ);
    let resources = ResourceTemplate::new(vec![&irq]);
    let resources = Name::new("_CRS".into(), &resources);
    let (pressed, which) = (PRESSED, Path::new("\\_SB_.PWRB"));
    let notify = Notify::new(&which, &pressed);
    let method = Method::new(Path::new("_EVT"), 1, true, vec![&notify]);
    let events = Device::new(Path::new("GED0"), vec![&kind, &resources, &method]);
    bytes(&Scope::new("_SB_".into(), vec![&button, &events]))
}

fn device(name: &str, kind: &dyn Aml, number: u32, place: &dyn Aml, irq: u32) -> Vec<u8> {
    let irq = interrupt(irq);
    let resources = ResourceTemplate::new(vec![place, &irq]);
    let kind = Name::new("_HID".into(), kind);
    let number = Name::new("_UID".into(), &number);
    let resources = Name::new("_CRS".into(), &resources);
    let device = Device::new(Path::new(name), vec![&kind, &number, &resources]);
    bytes(&Scope::new("_SB_".into(), vec![&device]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn number(bytes: &[u8]) -> usize {
        bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Every table can be found from the root, and its sum is what a guest checks.
    #[test]
    fn a_guest_finds_its_way_from_the_root() {
        for (processors, devices) in [(1, 0), (2, 3), (32, 19)] {
            let all = tables(processors, devices).unwrap();
            let at = |address: &[u8]| &all[number(address) - usize::try_from(ACPI.start).unwrap()..];
            let table = |address: &[u8]| {
                let table = at(address);
                let table = &table[..number(&table[4..8])];
                assert_eq!(sum(table), 0, "{:?}", &table[..4]);
                table
            };
            assert_eq!((&all[..8], sum(&all[..20]), sum(&all[..36])), (&b"RSD PTR "[..], 0, 0));
            let xsdt = table(&all[24..32]);
            assert_eq!((&xsdt[..4], xsdt.len()), (&b"XSDT"[..], 36 + 2 * 8));
            let (fadt, madt) = (table(&xsdt[36..44]), table(&xsdt[44..52]));
            assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
            assert_eq!(madt.len(), 44 + 8 * usize::from(processors) + 12);
            let dsdt = table(&fadt[140..148]);
            assert_eq!(&dsdt[..4], b"DSDT");
            let virtio = dsdt.windows(8).filter(|window| *window == b"LNRO0005").count();
            assert_eq!(virtio, usize::try_from(devices).unwrap());
        }
    }
}
