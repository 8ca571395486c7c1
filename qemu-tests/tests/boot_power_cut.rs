//! Power cuts at random moments, in the middle of an update and in the middle of a boot: the node always
//! comes up by itself from a verified slot (I8, X20, X22; V30, V36). The moments follow from a printed seed;
//! `BULKHEAD_SEED` sets it.

#![allow(clippy::arithmetic_side_effects, reason = "counts and times of a test; an overflow fails it")]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_core::bcb::state::Reason;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::console::Pattern;
use qemu_tests::lab::{LONG, Lab, NodeDisk, Rig, parcel};
use qemu_tests::machine::Firmware;
use qemu_tests::switch::chance::Chance;
use qemu_tests::tooling::node_image::Variant;

/// Rounds of one test, of which there are two: each cuts the power once in a flash and once in a boot.
const ROUNDS: u64 = 10;
/// A boot to the agent takes this long under emulation.
const BOOT: Duration = Duration::from_millis(7_000);

/// Waits until the node runs from a slot that may be trusted with the next round; gives its version.
fn up(rig: &Rig) -> Result<u64> {
    let boot = rig.node.wait_boot(LONG)?;
    ensure!(boot.slot.is_some(), "the node is dark after a power cut: `{boot}`");
    let good = if boot.reason == Reason::Candidate { "CONFIRMED slot=" } else { "HEALTH ok" };
    let wanted = [good, "BOOT slot=", "HEALTH failed"].map(Pattern::text);
    let (which, line) = rig.node.console().wait_for_any(&wanted, LONG)?;
    ensure!(which == 0, "version {} started and then: {}", boot.version, line.text);
    rig.shell.ready(LONG)?;
    let status = rig.shell.exit(0, "bulkhead boot status --json", LONG)?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let slot = boot.slot.context("a slot")?;
    let state = status.pointer(&format!("/slots/{slot}/state")).and_then(|state| state.as_str());
    ensure!(state == Some("confirmed"), "the running slot {slot} is {state:?}");
    Ok(boot.version)
}

fn cuts(stream: u64) -> Result<()> {
    let seed = std::env::var("BULKHEAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x0b01);
    println!("seed {seed}, stream {stream}: BULKHEAD_SEED={seed} repeats it");
    Artefacts::of(&format!("power-cut-{stream}"), |artefacts| {
        let lab = Lab::get()?;
        let mut chance = Chance::new(seed, stream);
        let mut moment = |longest: Duration| -> Result<Duration> {
            Ok(Duration::from_millis(chance.below(u64::try_from(longest.as_millis())?)))
        };
        let odd = parcel(artefacts, "odd.img", &lab.image(Variant::Good, 3)?)?;
        let even = parcel(artefacts, "even.img", &lab.image(Variant::Good, 2)?)?;
        let mut rig = NodeDisk::new(lab, "node-1")?
            .node_with(artefacts, |machine| machine.firmware(Firmware::Small).drive(odd).drive(even))?;
        rig.node.power_on()?;
        let mut version = up(&rig)?;
        // How long a whole flash takes here and now; some cuts shall come after it.
        let begin = Instant::now();
        rig.shell.exit(0, "bulkhead image flash /dev/vdc", LONG)?;
        let whole = begin.elapsed() * 9 / 8;
        let mut unfinished = 0;
        for round in 1..=ROUNDS {
            let (flash, boot) = (moment(whole)?, moment(BOOT)?);
            let parcel = if version == 2 { "/dev/vdb" } else { "/dev/vdc" };
            rig.shell.start(&format!("bulkhead image flash {parcel}; sync; echo flashed"))?;
            thread::sleep(flash);
            rig.cut_and_forget()?;
            rig.node.power_on()?;
            thread::sleep(boot);
            rig.cut_and_forget()?;
            rig.node.power_on()?;
            let now = up(&rig)?;
            let (flash, boot) = (flash.as_millis(), boot.as_millis());
            println!(
                "stream {stream} round {round}: version {version}; cut {flash} ms into a flash and {boot} ms \
                 into a boot; then version {now}, confirmed"
            );
            unfinished += usize::from(version == now);
            version = now;
        }
        println!("stream {stream}: {unfinished} of {ROUNDS} flashes were cut before their end");
        ensure!(unfinished > 0, "no cut was in the middle of a flash of {} ms", whole.as_millis());
        rig.node.power_cut()?;
        rig.timeline("power cuts");
        Ok(())
    })
}

#[test]
fn i8_power_cuts_in_flash_and_boot_1() -> Result<()> {
    cuts(1)
}

#[test]
fn i8_power_cuts_in_flash_and_boot_2() -> Result<()> {
    cuts(2)
}
