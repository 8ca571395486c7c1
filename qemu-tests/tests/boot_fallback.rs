//! Bad updates: a node comes back to its confirmed slot by itself, after exactly the tries it was given
//! (S1-10, X18, X20; V29, V30).

use anyhow::{Context, Result, ensure};
use bulkhead_core::bcb::state::{Reason, TRIES_DEFAULT};
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::{LONG, Lab, NodeDisk};
use qemu_tests::node::BootLine;
use qemu_tests::tooling::node_image::Variant;

/// Puts a bad version 2 into slot B and watches; nobody touches the node after it is switched on.
fn comes_back_from(variant: Variant, proof: &str) -> Result<()> {
    Artefacts::of(&format!("fallback-{}", variant.name()), |artefacts| {
        let lab = Lab::get()?;
        let mut rig = NodeDisk::new(lab, "node-1")?.node(artefacts)?;
        lab.tool(["image", "flash"]).arg(rig.node.disk().path()).arg(lab.image(variant, 2)?).succeed()?;
        rig.node.power_on()?;
        let tries = usize::from(TRIES_DEFAULT.count());
        for _ in 0..tries {
            rig.boots(SlotId::B, 2, Reason::Candidate)?;
            // The fault is the one that was meant, not another.
            rig.node.console().wait_for(proof, LONG)?;
        }
        rig.boots(SlotId::A, 1, Reason::FallbackTries)?;
        rig.healthy()?;
        rig.node.power_cut()?;

        let candidate = BootLine { slot: Some(SlotId::B), version: 2, reason: Reason::Candidate };
        let back = BootLine { slot: Some(SlotId::A), version: 1, reason: Reason::FallbackTries };
        let mut expected = vec![candidate; tries];
        expected.push(back);
        let boots = rig.node.boots()?;
        ensure!(boots == expected, "the node booted {boots:?}");
        ensure!(rig.node.console().matching("CONFIRMED ").is_empty(), "a bad image was confirmed");
        ensure!(rig.state(lab, SlotId::B)? == "bad", "slot b is {}", rig.state(lab, SlotId::B)?);
        rig.timeline(&format!("version 2 is {}: {tries} tries, then back by itself", variant.name()));
        Ok(())
    })
}

#[test]
fn v29_a_version_that_hangs_is_ended_by_the_watchdog_and_given_up() -> Result<()> {
    comes_back_from(Variant::Hang, "init: running /etc/bulkhead/init.d/10-hang")
}

#[test]
fn v30_a_version_that_panics_is_given_up() -> Result<()> {
    comes_back_from(Variant::Panic, "Kernel panic - not syncing")
}

#[test]
fn v30_a_version_that_restarts_for_ever_is_given_up() -> Result<()> {
    comes_back_from(Variant::RebootLoop, "init: running /etc/bulkhead/init.d/10-reboot")
}

#[test]
fn x19_a_version_whose_health_check_fails_is_given_up() -> Result<()> {
    comes_back_from(Variant::Unhealthy, "GAVE-UP slot=b")
}

/// F48, V32: the same version with the signature of a key that nobody trusts, offered to the tool, then
/// written behind its back where the record names a version with the very same digest.
#[test]
fn f48_a_foreign_signature_is_refused_by_the_tool_and_by_the_boot_application() -> Result<()> {
    Artefacts::of("foreign-signature", |artefacts| {
        use qemu_tests::tooling::{node_image, signed};
        let lab = Lab::get()?;
        let good = lab.image(Variant::Good, 2)?;
        let foreign = artefacts.path("foreign.img");
        lab.tool(["image", "keygen", "--out"]).arg(artefacts.path("foreign")).succeed()?;
        let recipe = Lab::recipe(Variant::Good, 2);
        let parts = node_image::parts(&lab.workspace, &recipe)?;
        signed::sign(&lab.workspace, &parts, 2, &artefacts.path("foreign.key"), &foreign)?;

        let mut rig = NodeDisk::new(lab, "node-1")?.node(artefacts)?;
        let disk = rig.node.disk().clone();
        let before = std::fs::read(disk.path())?;
        let refused = lab.tool(["image", "flash"]).arg(disk.path()).arg(&foreign).output()?;
        ensure!(matches!(refused.status.code(), Some(1 | 3)), "the tool took it: {refused:?}");
        ensure!(std::fs::read(disk.path())? == before, "the tool refused and wrote all the same");
        println!("the tool: {}", refused.stderr_text().trim());

        lab.tool(["image", "flash"]).arg(disk.path()).arg(&good).succeed()?;
        let place = disk.partition("boot-b")?.start;
        let (good, foreign) = (std::fs::read(&good)?, std::fs::read(&foreign)?);
        let header = 4096;
        ensure!(good.get(header..) == foreign.get(header..), "the payloads are not equal");
        disk.write(place, foreign.get(..header).context("a header")?)?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::FallbackImage)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        ensure!(rig.node.boots()?.len() == 1, "slot b was started");
        rig.timeline("version 2 with a foreign signature, written behind the tool's back");
        Ok(())
    })
}
