//! Two compartments of QEMU nodes and the firmware witness on its board, on a switch: what involves the
//! witness of the agreement of a site, with the real device (P1, S1-06, S1-18, S1-19, X03, X04; F14, F16,
//! F25, F26, F34; V2, V10, V18).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::site::{Part, Site, epoch, text, voters};
use qemu_tests::tooling::firmware;
use qemu_tests::tooling::node_image::Variant;
use qemu_tests::witness::site::Pace;
use serde_json::json;

/// Emulated machines share two processors with whatever else runs there: a pause of half a second must not
/// count as a death.
const PACE: Pace = Pace { rto: Duration::from_secs(5), pause: Duration::from_millis(500) };

/// F14, F16, F25, F26, F34, X04: one alone is master by the witness's vote; the master is lost; it is cut
/// off with the witness on the other side; the witness is lost and comes back.
#[test]
fn nodes_and_the_firmware_witness_agree_through_losses_and_cuts() -> Result<()> {
    Artefacts::of("witness-site", |artefacts| {
        let lab = Lab::get()?;
        let (image, elf) = (lab.image(Variant::Good, 1)?, firmware::witness(&lab.workspace)?);
        let mut site = Site::with_board(artefacts, lab, &image, &elf, PACE, "")?;

        // One alone has its own vote and the witness's.
        site.power_on(&[Part::A, Part::Witness])?;
        let alone = site.wait_role(Part::A, "master", "the voters gave it the register")?;
        site.power_on(&[Part::B])?;
        site.wait_role(Part::B, "slave", "")?;
        site.wait_protected()?;

        // The master loses its power.
        site.power_cut(Part::A)?;
        let taken = site.wait_role(Part::B, "master", "the voters gave it the register")?;
        ensure!(epoch(&alone) < epoch(&taken), "the epoch rises: {taken:#}");
        site.power_on(&[Part::A])?;
        site.wait_role(Part::A, "slave", "")?;
        site.wait_protected()?;

        // The master is cut off; the witness hears the other one.
        site.cut(Part::B, Part::A);
        site.cut(Part::B, Part::Witness);
        site.wait_role(Part::A, "master", "the voters gave it the register")?;
        site.wait(Part::B, "it is master no more", |status| text(status, "/role") != "master")?;
        // It misses the witness a little later: the two watch each other calmly.
        let says_why = |status: &serde_json::Value| text(status, "/summary").contains("hears too few");
        let lost = site.wait(Part::B, "it says why", says_why)?;
        ensure!(text(&lost, "/role") != "master", "{lost:#}");
        site.heal();
        site.wait_role(Part::B, "slave", "")?;
        site.wait_protected()?;

        // The witness is lost, then the slave: the master goes on alone. The witness is back first.
        site.power_cut(Part::Witness)?;
        site.wait(Part::A, "it may go on alone", |status| voters(status) == json!([1]))?;
        site.power_cut(Part::B)?;
        site.power_on(&[Part::Witness, Part::B])?;
        site.wait_protected()?;
        let end = site.wait_role(Part::A, "master", "")?;
        ensure!(epoch(&taken) < epoch(&end), "an epoch came back: {end:#}");
        ensure!(site.times_master(Part::A)? == 1, "the master lost its role meanwhile");
        let log = site.board()?.lines();
        let start = log.iter().find(|line| line.contains("start after")).context("no start in the log")?;
        ensure!(start.contains("0 failures, 0 silent resets"), "{start}");

        // The nodes know how it is, and its card holds the same.
        let told = site.wait(Part::A, "the witness says how it is", |status| {
            status.pointer("/nodes/2/health/starts") == Some(&json!(2))
        })?;
        let health = told.pointer("/nodes/2/health").context("no health")?;
        ensure!((&health["votes"], &health["failures"]) == (&json!(true), &json!(0)), "{health:#}");
        site.power_cut(Part::Witness)?;
        let card = site.board()?.parts().card.clone().context("it has a card")?;
        let shown = lab.tool(["witness", "show", "--json"]).arg(card).succeed()?;
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout)?;
        ensure!(shown["starts"] == 2 && shown["damage"] == json!([]), "{shown:#}");
        let kept = shown["registers"].as_array().context("no registers")?;
        ensure!(kept.iter().any(|one| one["about"] == "pair 1" && one["epoch"] == epoch(&end)), "{shown:#}");
        Ok(())
    })
}

/// Each node on an outlet of the witness's power strip.
const STRIP: &str = "[[fencing]]\nnode = 1\nmethod = \"relay\"\nwitness = 3\nstrip = 1\n\
    [[fencing]]\nnode = 2\nmethod = \"relay\"\nwitness = 3\nstrip = 2\n";

/// S1-06, S1-19, V20, V21, F28, F29: who only thinks that the master is dead does not get its power cut; a
/// master that stands still is powered off through the strip, and on again for the new one.
#[test]
fn a_rightful_fence_powers_a_node_off_and_a_wrongful_one_does_not() -> Result<()> {
    Artefacts::of("witness-fence", |artefacts| {
        let lab = Lab::get()?;
        let (image, elf) = (lab.image(Variant::Good, 1)?, firmware::witness(&lab.workspace)?);
        // Its leases outlive its silences by seconds: what is faster than a lease was a fence.
        let pace = Pace { rto: Duration::from_secs(12), ..PACE };
        let mut site = Site::with_board(artefacts, lab, &image, &elf, pace, STRIP)?;
        site.power_on(&Part::ALL)?;
        let master = site.wait_master()?;
        let slave = master.peer().context("a master is no witness")?;
        site.wait_protected()?;

        // The master stands still: it is cut off its power before its lease is up, and then comes back.
        site.pause(master)?;
        site.wait_fenced(master)?;
        site.wait_role(slave, "master", "the voters gave it the register")?;
        site.wait_fed(master)?;
        site.power_on(&[master])?;
        site.wait_role(master, "slave", "")?;
        site.wait_protected()?;
        let history = site.command(slave, "bulkhead fence history")?;
        ensure!(history.contains(master.name()), "{history}");

        // Now it hears its new master no more, but the witness does: by itself and by hand it is refused.
        let (master, slave) = (slave, master);
        site.cut(master, slave);
        let order = format!("bulkhead fence node {} --reason 'it is silent' --yes", master.name());
        let refused = site.rig(slave)?.shell.run(&order, Duration::from_secs(60))?;
        ensure!(refused.code == 3, "{}", refused.text);
        site.stays(master, "master", Duration::from_secs(8))?;
        ensure!(site.times_master(slave)? == 0, "the slave took a role that was not lost");
        site.heal();
        site.wait_protected()
    })
}
