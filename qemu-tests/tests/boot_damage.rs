//! Damaged disks: what there are two of is used, what is gone is rebuilt, and when nothing may be
//! started a person is asked (F9, F45, V31, V36, V37, X20).

#![allow(
    clippy::arithmetic_side_effects,
    reason = "offsets in a small test disk; an overflow fails the test"
)]

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::disk::Image;
use qemu_tests::lab::{LONG, Lab, NodeDisk, Rig, rescue};
use qemu_tests::tooling::node_image::Variant;

/// One copy of the boot control block, and where the second begins.
const COPY: u64 = 512;
const STRIDE: u64 = 64 * 1024;

/// A node with version 1 in A and version 2 in B, both confirmed, B preferred.
fn both_confirmed(lab: &Lab, artefacts: &Artefacts) -> Result<Rig> {
    let disk = NodeDisk { image_b: Some(lab.image(Variant::Good, 2)?), ..NodeDisk::new(lab, "node-1")? };
    let rig = disk.node(artefacts)?;
    lab.tool(["boot", "set-next", "b"]).arg(rig.node.disk().path()).succeed()?;
    Ok(rig)
}

fn copies(disk: &Image) -> Result<[Range<u64>; 2]> {
    let start = disk.partition("bcb")?.start;
    Ok([start..start + COPY, start + STRIDE..start + STRIDE + COPY])
}

/// One bit in the middle of what slot `name` holds: the least damage, in the kernel.
fn bit_of(disk: &Image, name: &str) -> Result<u64> {
    Ok(disk.partition(name)?.start + 3 * 1024 * 1024 + 5)
}

/// F9, V36: either copy is enough, and the next boot has two again.
#[test]
fn f9_either_copy_of_the_boot_control_block_is_enough() -> Result<()> {
    Artefacts::of("bcb-copies", |artefacts| {
        let lab = Lab::get()?;
        let mut rig = both_confirmed(lab, artefacts)?;
        for copy in copies(rig.node.disk())? {
            rig.node.disk().corrupt(copy, 0x0f09)?;
            rig.node.power_on()?;
            rig.boots(SlotId::B, 2, Reason::Confirmed)?;
            rig.healthy()?;
            rig.node.power_cut()?;
        }
        let status = lab.ask(&["boot", "status"], rig.node.disk())?;
        let warnings = status.pointer("/warnings").and_then(|list| list.as_array()).map_or(0, Vec::len);
        ensure!(warnings == 0, "something is still damaged after two boots: {status}");
        rig.timeline("first one, then the other copy of the boot control block is noise");
        Ok(())
    })
}

/// F9: both gone. The slots carry the marks of their confirmations, from which the record is rebuilt.
#[test]
fn f9_both_copies_lost_are_rebuilt_from_the_marks_in_the_slots() -> Result<()> {
    Artefacts::of("bcb-lost", |artefacts| {
        let lab = Lab::get()?;
        let mut rig = NodeDisk::new(lab, "node-1")?.node(artefacts)?;
        for copy in copies(rig.node.disk())? {
            rig.node.disk().corrupt(copy, 0x0f0a)?;
        }
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Rebuilt)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.node.power_cut()?;
        rig.timeline("both copies of the boot control block are noise");
        Ok(())
    })
}

/// F45, V37: the backup table boots the node, and `image repair` makes the primary one whole.
#[test]
fn f45_a_damaged_primary_partition_table_boots_from_its_backup_and_is_mended() -> Result<()> {
    Artefacts::of("primary-gpt", |artefacts| {
        let lab = Lab::get()?;
        let mut rig = NodeDisk::new(lab, "node-1")?.node(artefacts)?;
        // Header and entries.
        let primary = 512..34 * 512;
        rig.node.disk().corrupt(primary.clone(), 0x0f2d)?;
        ensure!(rig.node.disk().verify_tables().is_err(), "sgdisk sees no damage");
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        // OVMF may have mended the table by itself when it started; the tool must not depend on that.
        rig.node.disk().corrupt(primary, 0x0f2e)?;
        let said = lab.tool(["image", "repair"]).arg(rig.node.disk().path()).succeed()?;
        println!("{}", said.stdout_text());
        rig.node.disk().verify_tables()?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.node.power_cut()?;
        rig.timeline("the primary partition table is noise; booted; repaired; booted");
        Ok(())
    })
}

/// One flipped bit in the preferred slot: the other starts, whichever it is (S1-10, V31).
fn falls_back_from(preferred: SlotId, to: SlotId, version: u64) -> Result<()> {
    Artefacts::of(&format!("damaged-{preferred}"), |artefacts| {
        let lab = Lab::get()?;
        let mut rig = both_confirmed(lab, artefacts)?;
        lab.tool(["boot", "set-next", &preferred.to_string()]).arg(rig.node.disk().path()).succeed()?;
        rig.node.disk().flip(bit_of(rig.node.disk(), &format!("boot-{preferred}"))?, 3)?;
        rig.node.power_on()?;
        rig.boots(to, version, Reason::FallbackImage)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        ensure!(rig.node.boots()?.len() == 1, "the damaged slot was started");
        rig.timeline(&format!("one bit of slot {preferred} is wrong"));
        Ok(())
    })
}

#[test]
fn v31_a_damaged_slot_b_falls_back_to_a() -> Result<()> {
    falls_back_from(SlotId::B, SlotId::A, 1)
}

#[test]
fn v31_a_damaged_slot_a_falls_back_to_a_confirmed_b() -> Result<()> {
    falls_back_from(SlotId::A, SlotId::B, 2)
}

/// X20: never dark. The fault is then taken away under the running console, as a cable that is put back.
#[test]
fn x20_both_slots_damaged_is_a_rescue_console_that_starts_a_slot_once_it_is_whole() -> Result<()> {
    Artefacts::of("rescue", |artefacts| {
        let lab = Lab::get()?;
        let mut rig = both_confirmed(lab, artefacts)?;
        let (disk, key) = (rig.node.disk().clone(), Duration::from_millis(30));
        let bits = [bit_of(&disk, "boot-a")?, bit_of(&disk, "boot-b")?];
        for bit in bits {
            disk.flip(bit, 3)?;
        }
        rig.node.power_on()?;
        let boot = rig.node.wait_boot(LONG)?;
        ensure!(boot.slot.is_none() && boot.reason == Reason::Rescue, "the node said `{boot}`");
        let console = rig.node.console();
        let order = |text: &str| -> Result<()> {
            console.wait_for(rescue(), LONG)?;
            // As a person types: firmware drops keys that come faster than it looks.
            for letter in text.chars().chain(['\r']) {
                console.send(&letter.to_string())?;
                std::thread::sleep(key);
            }
            Ok(())
        };
        order("status")?;
        console.wait_for("slot a: ", LONG)?;
        console.wait_for("slot b: ", LONG)?;
        order("nonsense")?;
        console.wait_for("boot a", LONG)?;
        order("boot b")?;
        let boot = rig.node.wait_boot(LONG)?;
        ensure!(boot.slot.is_none(), "a damaged slot was started by order: `{boot}`");
        for bit in bits {
            disk.flip(bit, 3)?;
        }
        order("boot a")?;
        rig.boots(SlotId::A, 1, Reason::Operator)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        rig.timeline("both slots are damaged; status; slot a is whole again; boot a");
        Ok(())
    })
}
