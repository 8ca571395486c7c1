//! Two compartments of QEMU nodes and a witness, on a switch: cold starts, a lost master, cut networks, a
//! lost witness, a paused master, clocks that jump, and full load. After each step the state and the reason
//! that `bulkhead status` shows are held to what they must be (S1-15 to S1-20, S3-02, X04, X07, X14; F14,
//! F16, F19, F25, F26, F33 to F36, F41; V2, V3, V18, V24, V28; L-1, L-4).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::site::{DEAD_CARD, Part, Site, epoch, text, voters};
use qemu_tests::tooling::command::find;
use qemu_tests::tooling::node_image::{Recipe, Variant};
use serde_json::{Value, json};

/// Three emulated machines share two processors with whatever else runs there: a pause of half a second must
/// not count as a death.
const TIMERS: &str = "rto = \"5s\"\npause = \"500ms\"";
/// For how long a state that must not change is looked at: longer than any takeover.
const LOOK: Duration = Duration::from_secs(8);

/// For how long a node is under full load.
const LOAD: Duration = Duration::from_secs(20);

fn site(artefacts: &Artefacts) -> Result<Site> {
    let lab = Lab::get()?;
    Site::new(artefacts, lab, &lab.image(Variant::Good, 1)?, TIMERS)
}

/// F14, F16, S1-18, S1-19: one alone with the witness is master and wants the other one started; the master
/// is killed; both start cold.
#[test]
fn cold_starts_of_one_and_of_both_and_a_lost_master() -> Result<()> {
    Artefacts::of("site-cold", |artefacts| {
        let mut site = site(artefacts)?;
        site.power_on(&[Part::A, Part::Witness])?;
        let alone = site.wait_role(Part::A, "master", "the voters gave it the register")?;
        site.wait_event(Part::A, "activating", "b1 runs no instance: it is to be started")?;
        let missed = site.wait(Part::A, "b1 is missed", |status| {
            text(status, "/state") == "warning" && text(status, "/summary").contains("b1")
        })?;
        // Agreeing on who votes raises the epoch, too, at any time: the role is what must not change.
        ensure!(site.times_master(Part::A)? == 1, "nothing changed: {missed:#}");
        let lacks = missed.pointer("/lacks").map(Value::to_string).unwrap_or_default();
        ensure!(lacks.contains(&format!("no network card {DEAD_CARD}")), "a dead card is named: {lacks}");

        site.power_on(&[Part::B])?;
        site.wait_role(Part::B, "slave", "")?;
        site.wait_protected()?;
        ensure!(site.times_master(Part::B)? == 0, "who comes later takes no role away");

        // The agent of the master dies; init resets the node; the other one is master long before it is back.
        site.rig(Part::A)?.shell.start("kill -9 $(pidof bulkhead)")?;
        let taken = site.wait_role(Part::B, "master", "the voters gave it the register")?;
        ensure!(epoch(&alone) < epoch(&taken), "the epoch rises: {taken:#}");
        site.rig(Part::A)?.shell.ready(qemu_tests::lab::LONG)?;
        site.wait_role(Part::A, "slave", "")?;
        site.wait_protected()?;

        // Both lose their power at once and start cold; the witness remembers the epoch.
        site.power_cut(Part::A)?;
        site.power_cut(Part::B)?;
        site.power_on(&[Part::A, Part::B])?;
        let master = site.wait_master()?;
        site.wait_protected()?;
        let status = site.wait_role(master, "master", "")?;
        ensure!(epoch(&taken) < epoch(&status), "an epoch came back: {status:#}");
        Ok(())
    })
}

/// F33 to F36, S3-02, L-1, L-4: each way to cut the networks, with the witness on either side.
#[test]
fn cut_networks_leave_one_master_at_most_and_a_reason() -> Result<()> {
    Artefacts::of("site-cuts", |artefacts| {
        let mut site = site(artefacts)?;
        site.power_on(&Part::ALL)?;
        let master = site.wait_master()?;
        let slave = master.peer().context("a master is no witness")?;
        site.wait_protected()?;

        // Both links between the rooms, the witness hears both: the master stays.
        site.cut(master, slave);
        site.wait(master, "its peer is silent", |status| silent(status, slave))?;
        site.stays(master, "master", LOOK)?;
        ensure!(site.times_master(slave)? == 0, "the slave took a role that was not lost");
        site.heal();
        site.wait_protected()?;

        // The witness is on the slave's side: the master stops before the slave acts.
        site.cut(master, slave);
        site.cut(master, Part::Witness);
        let taken = site.wait_role(slave, "master", "the voters gave it the register")?;
        site.wait(master, "it is master no more", |status| text(status, "/role") != "master")?;
        // It misses the witness a little later: the two watch each other calmly.
        let says_why = |status: &serde_json::Value| text(status, "/summary").contains("hears too few");
        let lost = site.wait(master, "it says why", says_why)?;
        ensure!(text(&lost, "/role") != "master", "{lost:#}");
        site.heal();
        site.wait_role(master, "slave", "")?;
        site.wait_protected()?;
        let (master, slave) = (slave, master);

        // Everything is cut: nobody acts, both say why.
        for (one, two) in [(master, slave), (master, Part::Witness), (slave, Part::Witness)] {
            site.cut(one, two);
        }
        for part in [master, slave] {
            site.wait(part, "nobody acts", |status| text(status, "/state") == "critical")?;
            let status = site.wait(part, "it says why", says_why)?;
            ensure!(!matches!(text(&status, "/role"), "master"), "{status:#}");
        }
        site.heal();
        let again = site.wait_master()?;
        site.wait_protected()?;
        let status = site.wait_role(again, "master", "")?;
        ensure!(epoch(&taken) <= epoch(&status), "an epoch came back: {status:#}");

        // One direction only, each way: at most one acts, and there is a master at the end.
        let (master, slave) = (again, again.peer().context("a master is no witness")?);
        for (from, to) in [(master, slave), (slave, master)] {
            site.cut_direction(from, to);
            site.one_master_at_most(LOOK)?;
            site.heal();
            site.wait_master()?;
            site.wait_protected()?;
        }
        Ok(())
    })
}

/// X04, F25, F26, V18: the witness and a node are lost, in every order.
#[test]
fn the_witness_and_a_node_are_lost_in_every_order() -> Result<()> {
    Artefacts::of("site-losses", |artefacts| {
        let mut site = site(artefacts)?;
        site.power_on(&Part::ALL)?;

        // The witness, then the slave: the master had itself agreed on as the one who may go on alone.
        let master = site.wait_master()?;
        let slave = master.peer().context("a master is no witness")?;
        site.wait_protected()?;
        site.power_cut(Part::Witness)?;
        site.wait(master, "it may go on alone", |status| voters(status) == json!([master.id()]))?;
        site.power_cut(slave)?;
        site.stays(master, "master", LOOK)?;
        site.power_on(&[slave, Part::Witness])?;
        site.wait_protected()?;

        // The slave, then the witness: the same.
        let before = site.times_master(master)?;
        site.power_cut(slave)?;
        site.wait(master, "it may go on alone", |status| voters(status) == json!([master.id()]))?;
        site.power_cut(Part::Witness)?;
        site.stays(master, "master", LOOK)?;
        ensure!(site.times_master(master)? == before, "the master lost its role meanwhile");
        site.power_on(&[slave, Part::Witness])?;
        site.wait_protected()?;

        // The witness, then the master: the slave must not act, and says what it waits for.
        site.power_cut(Part::Witness)?;
        site.wait(master, "it may go on alone", |status| voters(status) == json!([master.id()]))?;
        site.power_cut(master)?;
        let waits = site.wait(slave, "nobody may act", |status| text(status, "/state") == "critical")?;
        ensure!(text(&waits, "/role") != "master", "{waits:#}");
        let why = format!("{} was agreed on as the one who goes on alone, and is away", master.name());
        ensure!(text(&waits, "/summary").contains(&why), "{waits:#}");
        site.power_on(&[Part::Witness])?;
        site.stays_other_than(slave, "master", LOOK)?;
        site.power_on(&[master])?;
        site.wait_protected()?;

        // The master, then the witness: the slave took over and goes on alone.
        let master = site.wait_master()?;
        let slave = master.peer().context("a master is no witness")?;
        site.power_cut(master)?;
        site.wait_role(slave, "master", "the voters gave it the register")?;
        site.wait(slave, "it may go on alone", |status| voters(status) == json!([slave.id()]))?;
        site.power_cut(Part::Witness)?;
        site.stays(slave, "master", LOOK)?;
        site.power_on(&[master, Part::Witness])?;
        site.wait_role(master, "slave", "")?;
        site.wait_protected()
    })
}

/// F19, F41, V24, V28: a master that is paused and wakes, clocks of the day that jump, and full load.
#[test]
fn a_paused_master_follows_and_neither_clocks_nor_load_cost_a_takeover() -> Result<()> {
    Artefacts::of("site-pause", |artefacts| {
        let lab = Lab::get()?;
        let stress = find("stress-ng").context("stress-ng is not installed: `cargo xtask doctor`")?;
        // An agent that stands still feeds no watchdog either; here it is to wake before the reset.
        let watchdog_seconds = 60;
        let recipe = Recipe { programs: vec![stress], watchdog_seconds, ..Lab::recipe(Variant::Good, 1) };
        let mut site = Site::new(artefacts, lab, &lab.image_of(&recipe)?, TIMERS)?;
        site.power_on(&Part::ALL)?;
        let master = site.wait_master()?;
        let slave = master.peer().context("a master is no witness")?;
        site.wait_protected()?;

        // A job that ends while its shell waits for a command once ended the shell.
        site.rig(master)?.shell.start("sleep 1 &")?;
        std::thread::sleep(Duration::from_secs(4));

        // The day's clock says nothing about leases.
        for (part, date) in [(master, "1999-12-31 23:59"), (slave, "2038-01-20 00:00")] {
            site.command(part, &format!("date -s '{date}'"))?;
        }
        site.stays(master, "master", LOOK)?;

        // Every processor and most of the memory of the master, then of the slave.
        for part in [master, slave] {
            let load =
                format!("stress-ng --cpu 4 --vm 2 --vm-bytes 60% --timeout {}s --quiet", LOAD.as_secs());
            site.rig(part)?.shell.start(&format!("(rm -f /run/ended; {load}; echo $? >/run/ended) &"))?;
            site.stays(master, "master", LOAD)?;
            let ended = "while [ ! -e /run/ended ]; do sleep 1; done; cat /run/ended";
            ensure!(site.command(part, ended)?.trim() == "0", "stress-ng failed on {}", part.name());
        }
        ensure!(
            (site.times_master(master)?, site.times_master(slave)?) == (1, 0),
            "a role changed though nothing failed\n{}\n{}",
            site.command(master, "bulkhead events")?,
            site.command(slave, "bulkhead events")?
        );
        site.wait_protected()?;

        // Paused for longer than its lease, then awake: it knows at once that it is nobody.
        let agent = "$(pidof bulkhead)";
        let begin = Instant::now();
        site.command(master, &format!("kill -STOP {agent}"))?;
        site.wait_role(slave, "master", "the voters gave it the register")?;
        site.command(master, &format!("kill -CONT {agent}"))?;
        println!("paused for {:.1} s", begin.elapsed().as_secs_f64());
        site.wait_role(master, "slave", "")?;
        site.wait_event(master, "stalled", "this node itself stood still")?;
        site.one_master_at_most(Duration::from_secs(2))?;
        site.wait_protected()
    })
}

fn silent(status: &Value, part: Part) -> bool {
    let nodes = status.pointer("/nodes").and_then(Value::as_array);
    let of = |node: &&Value| node.pointer("/id").and_then(Value::as_u64) == Some(part.id().into());
    nodes.into_iter().flatten().find(of).is_some_and(|node| text(node, "/verdict") == "silent")
}
