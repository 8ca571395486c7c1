//! The firmware witness in QEMU as third voter of two real agents: what can happen to it, in every order, and
//! what it must withstand (P1, S1-18, S1-19, X03, X04; F1, F8, F25 to F27, F33, F34, F39; V2, V10, V13, V18,
//! V22). `cargo xtask soak --witness` does it for longer.

#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a red test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_core::node::settings::CONTROLLER;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::site::{epoch, text, voters};
use qemu_tests::switch::chance::Chance;
use qemu_tests::tooling::firmware;
use qemu_tests::witness::cluster::Cluster;
use qemu_tests::witness::pairs::Pairs;
use qemu_tests::witness::votes::Votes;
use serde_json::{Value, json};

/// For how long a state that must not change is looked at: longer than any takeover.
const LOOK: Duration = Duration::from_secs(2);
/// The firmware looks at its card every two seconds, and starts anew five seconds after it failed.
const CARD_MAX: Duration = Duration::from_secs(20);

fn cluster<'a>(artefacts: &Artefacts) -> Result<Cluster<'a>> {
    let lab = Lab::get()?;
    Cluster::start(artefacts, lab, &firmware::witness(&lab.workspace)?)
}

/// A number for CI, and one for whoever has the time.
fn amount(short: u32, long: u32) -> u32 {
    if std::env::var_os("BULKHEAD_SOAK").is_some() { long } else { short }
}

fn number(part: &str) -> u64 {
    if part == "a1" { 1 } else { 2 }
}

fn is_master(status: &Value) -> bool {
    text(status, "/role") == "master"
}

/// Looks for a while: the part is master all the time, or never.
fn stays(cluster: &Cluster<'_>, part: &str, master: bool) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < LOOK {
        let status = cluster.status(part)?.context("it does not answer")?;
        ensure!(is_master(&status) == master, "{part}: {status:#}");
    }
    Ok(())
}

/// X04, F25, F26, V18: the witness and a node are lost and come back, in every order.
#[test]
fn the_witness_and_a_node_are_lost_in_every_order() -> Result<()> {
    Artefacts::of("witness-losses", |artefacts| {
        let cluster = cluster(artefacts)?;
        cluster.device.power_on()?;
        let [master, slave] = cluster.wait_master()?;
        cluster.wait_protected()?;
        let alone = |part: &'static str| {
            cluster.wait(part, "it may go on alone", |status| voters(status) == json!([number(part)]))
        };

        // The witness, then the slave; the witness is back first.
        cluster.device.power_cut()?;
        alone(master)?;
        cluster.fault(&["kill", slave])?;
        stays(&cluster, master, true)?;
        cluster.device.power_on()?;
        cluster.fault(&["start", slave])?;
        cluster.wait_protected()?;

        // The slave, then the witness; the slave is back first.
        cluster.fault(&["kill", slave])?;
        alone(master)?;
        cluster.device.power_cut()?;
        stays(&cluster, master, true)?;
        cluster.fault(&["start", slave])?;
        cluster.device.power_on()?;
        cluster.wait_protected()?;

        // The witness, then the master: the slave must not act, also when the witness is back.
        cluster.device.power_cut()?;
        let before = alone(master)?;
        cluster.fault(&["kill", master])?;
        let waits = cluster.wait(slave, "nobody may act", |status| text(status, "/state") == "critical")?;
        let why = format!("{master} was agreed on as the one who goes on alone, and is away");
        ensure!(text(&waits, "/summary").contains(&why), "{waits:#}");
        cluster.device.power_on()?;
        stays(&cluster, slave, false)?;
        cluster.fault(&["start", master])?;
        cluster.wait_protected()?;

        // The master, then the witness: the slave took over by the witness's vote, and goes on alone.
        let [master, slave] = cluster.wait_master()?;
        cluster.fault(&["kill", master])?;
        let taken = cluster.wait(slave, "it takes over", is_master)?;
        ensure!(epoch(&before) < epoch(&taken), "the epoch rises: {taken:#}");
        alone(slave)?;
        cluster.device.power_cut()?;
        stays(&cluster, slave, true)?;
        cluster.fault(&["start", master])?;
        cluster.device.power_on()?;
        cluster.wait_protected()
    })
}

/// F33, F34, V2: both links between the compartments are cut; then the witness hears the other side alone.
#[test]
fn the_witness_is_on_either_side_of_a_cut() -> Result<()> {
    Artefacts::of("witness-cuts", |artefacts| {
        let cluster = cluster(artefacts)?;
        cluster.device.power_on()?;
        let [master, slave] = cluster.wait_master()?;
        cluster.wait_protected()?;
        for _ in 0..2 {
            cluster.fault(&["cut", master, slave])?;
            stays(&cluster, master, true)?;
            stays(&cluster, slave, false)?;
            cluster.fault(&["heal"])?;
            cluster.wait_protected()?;
        }
        cluster.fault(&["cut", master, slave])?;
        cluster.fault(&["cut", master, "witness"])?;
        cluster.wait(slave, "it takes over", is_master)?;
        cluster.wait(master, "it is master no more", |status| !is_master(status))?;
        // It misses the witness a little later: the two watch each other calmly.
        let says_why = |status: &Value| text(status, "/summary").contains("hears too few");
        let lost = cluster.wait(master, "it says why", says_why)?;
        ensure!(!is_master(&lost), "{lost:#}");
        cluster.fault(&["heal"])?;
        cluster.wait(master, "it follows", |status| text(status, "/role") == "slave")?;
        cluster.wait_protected()
    })
}

/// S1-21, X03, V10, F16, F25: one board votes for two pairs. The master of one dies and its slave takes over
/// by the board's vote; the other pair does not notice. Then the board loses its power: both pairs go on,
/// and with the power back nothing that it ever answered for either of them is forgotten.
#[test]
fn two_pairs_hang_on_one_witness_and_neither_disturbs_the_other() -> Result<()> {
    Artefacts::of("witness-pairs", |artefacts| {
        let lab = Lab::get()?;
        let mut site = Pairs::start(artefacts, lab, &firmware::witness(&lab.workspace)?, 2)?;
        site.device.power_on()?;
        let [[master, slave], [other, others_slave]] = [site.wait_master(1)?, site.wait_master(2)?];
        let all_vote = |status: &Value| voters(status).as_array().is_some_and(|voters| voters.len() == 3);
        let [before, others_before] = [
            site.wait(master, "all of its pair vote", all_vote)?,
            site.wait(other, "all of its pair vote", all_vote)?,
        ];

        site.kill(master)?;
        let taken = site.wait(slave, "it takes over", is_master)?;
        ensure!(epoch(&before) < epoch(&taken), "the epoch rises: {taken:#}");
        site.wait(slave, "it may go on alone", |status| voters(status) == json!([slave]))?;
        let undisturbed = site.status(other)?.context("it does not answer")?;
        ensure!(is_master(&undisturbed) && epoch(&undisturbed) == epoch(&others_before), "{undisturbed:#}");

        site.device.power_cut()?;
        let votes = Votes::read(site.card())?;
        site.wait(other, "it may go on alone", |status| voters(status) == json!([other]))?;
        site.device.power_on()?;
        site.launch(master)?;
        for (node, peer) in [(slave, master), (other, others_slave)] {
            let status = site.wait(node, "all of its pair vote", all_vote)?;
            ensure!(is_master(&status), "{status:#}");
            site.wait(peer, "it follows", |status| text(status, "/role") == "slave")?;
            ensure!(site.times_master(node)? == 1, "node {node} lost its role meanwhile");
        }
        ensure!(site.times_master(others_slave)? == 0, "a takeover in the pair that lost nobody");
        site.device.power_cut()?;
        let after = Votes::read(site.card())?;
        after.follow(&votes)?;
        // The controller's, and one for each pair. Those of the pairs have moved on since; on the controller
        // the two nodes that vote may agree before the board has waited out its start.
        ensure!(after.0.len() == 3 && votes.0.len() == 3, "{after:?}");
        let has_moved = |register| after.0.get(&register) != votes.0.get(&register);
        let mut pairs = votes.0.keys().copied().filter(|register| *register != CONTROLLER.0);
        ensure!(pairs.all(has_moved), "from {votes:?}\nto {after:?}");
        Ok(())
    })
}

/// F1, F8, V10: the power of the witness is cut at random moments while registers change hands all the time.
/// What was answered is on the card at each cut, and nothing on it ever goes back.
#[test]
fn the_register_never_goes_back_when_the_power_is_cut_under_load() -> Result<()> {
    Artefacts::of("witness-power", |artefacts| {
        let cluster = cluster(artefacts)?;
        cluster.device.power_on()?;
        cluster.wait_protected()?;
        let (stop, cuts) = (AtomicBool::new(false), amount(12, 400));
        let seed = std::env::var("BULKHEAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let (cluster, stop) = (&cluster, &stop);
        let before = Votes::read(cluster.card())?;
        let (last, moves) = std::thread::scope(|scope| {
            let load = scope.spawn(move || change_hands(cluster, stop));
            let last = cut_again_and_again(cluster, cuts, seed);
            stop.store(true, Ordering::Relaxed);
            let moves = load.join().map_err(|_| anyhow::anyhow!("the load failed"))?;
            Ok::<_, anyhow::Error>((last?, moves?))
        })?;
        let changes = last.changes() - before.changes();
        println!("{cuts} cuts, seed {seed}: {moves} changes of hands, {changes} votes on the card");
        ensure!(before.epoch() < last.epoch() && u64::from(cuts) < changes, "there was no load");
        cluster.wait_protected()?;
        let mut won = Vec::new();
        for part in ["a1", "b1"] {
            for event in cluster.events(part)? {
                if text(&event, "/kind") == "role" && text(&event, "/role") == "master" {
                    won.push((text(&event, "/office").to_owned(), event.get("epoch").cloned()));
                }
            }
        }
        let all = won.len();
        won.sort_by_key(|one| format!("{one:?}"));
        won.dedup();
        ensure!(all == won.len(), "two nodes won one epoch: {won:?}");
        Ok(())
    })
}

/// Moves the controller to and fro, as fast as it goes: each time another epoch, and a vote of the witness.
fn change_hands(cluster: &Cluster<'_>, stop: &AtomicBool) -> Result<u32> {
    let mut moves = 0;
    while !stop.load(Ordering::Relaxed) {
        for (from, to) in [("a1", "2"), ("b1", "1")] {
            let output = cluster.run(from, &["controller", "move", to])?;
            moves += u32::from(output.status.success());
        }
    }
    Ok(moves)
}

fn cut_again_and_again(cluster: &Cluster<'_>, cuts: u32, seed: u64) -> Result<Votes> {
    let mut chance = Chance::new(seed, 0);
    let mut last = Votes::read(cluster.card())?;
    for cut in 0..cuts {
        std::thread::sleep(Duration::from_millis(100 + chance.below(1_500)));
        cluster.device.power_cut()?;
        let now = Votes::read(cluster.card())?;
        now.follow(&last).with_context(|| format!("cut {cut}, seed {seed}"))?;
        last = now;
        cluster.device.power_on()?;
        let start = cluster.device.wait_log("start after", CARD_MAX)?;
        ensure!(start.contains("0 failures, 0 silent resets"), "{start}");
    }
    Ok(last)
}

/// F27, V13: the card is pulled. The witness says so, stops voting and stays alive; the master goes on alone.
/// With its card back it votes again, and remembers everything.
#[test]
fn a_witness_without_its_card_does_not_vote_and_says_so() -> Result<()> {
    Artefacts::of("witness-card", |artefacts| {
        let cluster = cluster(artefacts)?;
        cluster.device.power_on()?;
        let [master, _] = cluster.wait_master()?;
        cluster.wait_protected()?;
        let before = Votes::read(cluster.card())?;
        cluster.device.with(|board| board.pull_card())?;
        cluster.device.wait_log("the card failed", CARD_MAX)?;
        cluster.device.wait_log("No votes from now on", CARD_MAX)?;
        cluster.device.wait_log("no witness: Card(", CARD_MAX)?;
        cluster.wait(master, "it may go on alone", |status| voters(status) == json!([number(master)]))?;
        stays(&cluster, master, true)?;
        Votes::read(cluster.card())?.follow(&before)?;
        cluster.device.with(|board| board.push_card(cluster.card()))?;
        cluster.wait_protected()?;
        Votes::read(cluster.card())?.follow(&before)
    })
}
