//! A node alone: first boot, a second node from the same image, and updates in the running node
//! (S1-01, S1-02, S1-03, S1-10, X18, X19).

use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::{LONG, Lab, NodeDisk, Rig, parcel};
use qemu_tests::tooling::node_image::Variant;

/// A command in the node, under emulation.
const COMMAND: Duration = Duration::from_secs(60);

/// S1-02: no network card, no other disk. S1-01: every partition is where the table says.
#[test]
fn s1_02_a_node_boots_from_its_own_boot_partition_with_nothing_else() -> Result<()> {
    Artefacts::of("first-boot", |artefacts| {
        let lab = Lab::get()?;
        let mut rig = NodeDisk::new(lab, "node-1")?.node(artefacts)?;
        rig.node.disk().verify_tables()?;
        let partitions = rig.node.disk().partitions()?;
        let names: Vec<_> = partitions.iter().map(|partition| partition.name.as_str()).collect();
        ensure!(names == ["esp", "bcb", "boot-a", "boot-b", "infra", "guest"], "{names:?}");

        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.node.wait_for("bulkhead agent: node node-1 slot a", LONG)?;
        rig.healthy()?;
        rig.shell.ready(LONG)?;
        let cards = rig.shell.exit(0, "ls /sys/class/net", COMMAND)?;
        ensure!(cards == "lo", "the node has more than itself: {cards}");
        let status = rig.shell.exit(0, "bulkhead status", COMMAND)?;
        ensure!(status.contains("node node-1 is healthy"), "{status}");
        loader_interface(&mut rig)?;
        rig.node.power_cut()?;
        rig.timeline("a node boots with no network and no other disk");
        Ok(())
    })
}

/// The variables by which `bootctl status` and `systemd-analyze` know a boot loader, and not the one that
/// would make systemd rename files beside our boot control block.
fn loader_interface(rig: &mut Rig) -> Result<()> {
    let read = |name: &str| {
        format!("tr -d '\\000' </sys/firmware/efi/efivars/{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
    };
    for (name, value) in [
        ("LoaderInfo", "bulkhead-boot "),
        ("LoaderEntrySelected", "bulkhead-a"),
        ("LoaderDevicePartUUID", "-"),
        ("LoaderTimeInitUSec", ""),
        ("LoaderTimeExecUSec", ""),
        ("LoaderFirmwareType", "UEFI "),
    ] {
        let said = rig.shell.exit(0, &read(name), COMMAND)?;
        ensure!(said.contains(value), "{name} is {said}");
    }
    rig.shell.exit(1, &read("LoaderBootCountPath"), COMMAND)?;
    Ok(())
}

/// S1-03: the boot partition holds nothing of the node; who it is stands on the infra partition.
#[test]
fn s1_03_the_same_image_boots_a_second_node_with_another_identity() -> Result<()> {
    Artefacts::of("second-node", |artefacts| {
        let lab = Lab::get()?;
        let mut slots = Vec::new();
        for name in ["node-a", "node-b"] {
            let mut rig = NodeDisk::new(lab, name)?.node(artefacts)?;
            let slot = rig.node.disk().partition("boot-a")?;
            slots.push(rig.node.disk().read(slot.start, usize::try_from(slot.length)?)?);
            rig.node.power_on()?;
            rig.boots(SlotId::A, 1, Reason::Confirmed)?;
            rig.node.wait_for(format!("bulkhead agent: node {name} slot a"), LONG)?;
            rig.healthy()?;
            rig.node.power_cut()?;
            rig.timeline(&format!("the common image as {name}"));
        }
        ensure!(slots.first() == slots.last(), "the boot partitions of the two nodes differ");
        Ok(())
    })
}

/// S1-10, X19: flashed in the running node, tried, confirmed by its health, kept; and switched back by hand.
#[test]
fn s1_10_an_update_in_the_running_node_is_confirmed_and_stays_until_switched_back() -> Result<()> {
    Artefacts::of("update", |artefacts| {
        let lab = Lab::get()?;
        let update = parcel(artefacts, "update.img", &lab.image(Variant::Good, 2)?)?;
        let mut rig = NodeDisk::new(lab, "node-1")?.node_with(artefacts, |machine| machine.drive(update))?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.healthy()?;
        rig.shell.ready(LONG)?;
        let said = rig.shell.exit(0, "bulkhead image flash /dev/vdb", LONG)?;
        ensure!(said.contains("Slot b holds version 2"), "{said}");
        rig.shell.start("reboot -f")?;

        rig.boots(SlotId::B, 2, Reason::Candidate)?;
        rig.confirmed(SlotId::B, 2)?;
        rig.shell.ready(LONG)?;
        // X19: what the agent says it confirmed is what the disk says.
        let status = rig.shell.exit(0, "bulkhead boot status --json", COMMAND)?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let state = status.pointer("/slots/b/state").and_then(serde_json::Value::as_str);
        ensure!(state == Some("confirmed"), "{status}");
        // V39: the slot that runs is not overwritten; the refusal is for safety.
        rig.shell.exit(3, "bulkhead image flash --slot b /dev/vdb", LONG)?;
        rig.node.power_cut()?;

        rig.node.power_on()?;
        rig.boots(SlotId::B, 2, Reason::Confirmed)?;
        rig.shell.ready(LONG)?;
        rig.shell.exit(0, "bulkhead boot set-next a && sync", COMMAND)?;
        rig.shell.start("reboot -f")?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        rig.timeline("update to version 2, confirmed; power cut; still version 2; switched back by hand");
        Ok(())
    })
}
