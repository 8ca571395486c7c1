//! Starts an EFI application from a disk in QEMU, twice with a power cut between, and prints what it
//! said when: `cargo run -p qemu-tests --example boot -- BOOTX64.EFI 'text it prints'`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::console::Pattern;
use qemu_tests::disk::Image;
use qemu_tests::machine::{Drive, Machine};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: boot APPLICATION.EFI TEXT";
    let (application, text) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    Artefacts::of("example", |artefacts| {
        let files = [("/EFI/BOOT/BOOTX64.EFI", Path::new(&application))];
        let disk = Image::with_esp(artefacts.path("disk.img"), &files)?;
        let machine = Machine::new(artefacts, "pc")?.drive(Drive::new(disk.path()));
        for _ in 0..2 {
            let powered = machine.power_on()?;
            machine.console().wait_for(Pattern::prompt(&text), Duration::from_secs(60))?;
            powered.power_cut()?;
        }
        print!("{}", machine.console().tail(1000));
        Ok(())
    })
}
