//! The firmware witness in QEMU under datagrams that nobody of its site sent: recorded and played again,
//! forged, malformed, and a flood of all of these. It keeps serving, in the memory that it had (F39, V22,
//! X03, I11).
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::switch::chance::Chance;
use qemu_tests::tooling::firmware;
use qemu_tests::witness::budget;
use qemu_tests::witness::cluster::Cluster;
use qemu_tests::witness::votes::Votes;

/// Longest datagram of the flood: some are longer than any frame that the witness keeps.
const LENGTH_MAX: u64 = 700;
/// With these the card is full: the witness has room for 64 pairs.
const MORE_PAIRS: u16 = 63;
/// Datagrams sent in one go; QEMU's user network takes them from a socket that holds some hundred.
const BURST: u32 = 32;

/// Two agents and the witness, whose card names so many more pairs.
fn cluster<'a>(artefacts: &Artefacts, more_pairs: u16) -> Result<Cluster<'a>> {
    let lab = Lab::get()?;
    let elf = firmware::witness(&lab.workspace)?;
    let cluster = Cluster::start_among(artefacts, lab, &elf, more_pairs)?;
    cluster.device.power_on()?;
    cluster.wait_protected()?;
    Ok(cluster)
}

/// F39, V22: what was said once is not heard twice: not in its session, and not by the witness's next start,
/// though nobody else speaks then. What one bit changed is not heard at all.
#[test]
fn replayed_and_forged_datagrams_are_refused() -> Result<()> {
    Artefacts::of("witness-replay", |artefacts| {
        let cluster = cluster(artefacts, 0)?;
        std::thread::sleep(Duration::from_secs(2));
        let recorded = [0, 1].map(|path| cluster.tap.recorded(path));
        ensure!(recorded.iter().all(|path| 50 < path.len()), "too little was said");
        let count = |name| cluster.device.count(name);
        let before = ["repeated", "not_authentic"].map(count);
        for (path, recorded) in recorded.iter().enumerate() {
            let latest = recorded.iter().rev().take(100).rev();
            for (number, bytes) in latest.enumerate() {
                cluster.tap.inject(path, bytes)?;
                let mut forged = bytes.clone();
                // One bit, another place each time, behind what names sender and receiver.
                let at = 16 + number % (forged.len() - 16);
                forged[at] ^= 1 << (number % 8);
                // A number that was never seen: a known one is a copy, whatever else the frame says.
                forged[31] = 0x7f;
                cluster.tap.inject(path, &forged)?;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let after = ["repeated", "not_authentic"].map(count);
        for (before, after) in before.into_iter().zip(after) {
            let (before, after) = (before?, after?);
            ensure!(before + 50 <= after, "refused {before}, then {after}");
        }
        cluster.wait_protected()?;

        // Both nodes are dead, and somebody plays everything that they ever said to a witness that just
        // started.
        for part in ["a1", "b1"] {
            cluster.fault(&["kill", part])?;
        }
        cluster.device.power_cut()?;
        let votes = Votes::read(cluster.card())?;
        cluster.device.power_on()?;
        for (path, recorded) in recorded.iter().enumerate() {
            for bytes in recorded {
                cluster.tap.inject(path, bytes)?;
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        ensure!(count("votes written")? == 0, "it voted for the dead");
        let lines = cluster.device.lines();
        ensure!(
            !lines.iter().any(|line| line.contains("is Up")),
            "the dead were heard:\n{}",
            lines.join("\n")
        );
        cluster.device.power_cut()?;
        ensure!(Votes::read(cluster.card())? == votes, "its card changed");
        Ok(())
    })
}

/// X03, I11: recorded datagrams, changed in every way, as fast as they go in, to a witness of 64 pairs.
/// Registers change hands before, meanwhile and after; the stack is no deeper than before; nothing fails and
/// nothing is started anew.
#[test]
fn a_flood_changes_nothing() -> Result<()> {
    Artefacts::of("witness-flood", |artefacts| {
        let count = if std::env::var_os("BULKHEAD_SOAK").is_some() { 1_000_000 } else { 60_000 };
        let cluster = cluster(artefacts, MORE_PAIRS)?;
        let changes = || Votes::read(cluster.card()).map(|votes| votes.changes());
        vote(&cluster)?;
        let frames_before = cluster.device.count("frames received")?;
        // After a report: writing one is what the witness does on its deepest stack.
        let [stack_before, stack] = cluster.device.with(|board| board.stack())?;
        let votes_before = changes()?;
        let stop = AtomicBool::new(false);
        let (took, moves) = std::thread::scope(|scope| {
            let voting = scope.spawn(|| {
                let mut moves = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    moves += u32::from(vote(&cluster).is_ok());
                }
                moves
            });
            let took = flood(&cluster, count);
            stop.store(true, Ordering::Relaxed);
            let moves = voting.join().map_err(|_| anyhow::anyhow!("the voting failed"))?;
            Ok::<_, anyhow::Error>((took?, moves))
        })?;
        let votes = changes()? - votes_before;
        let frames = cluster.device.count("frames received")? - frames_before;
        let [stack_after, _] = cluster.device.with(|board| board.stack())?;
        println!(
            "{count} datagrams in {:.1} s: {frames} frames reached the witness, {moves} changes of hands and \
             {votes} votes meanwhile; stack {stack_before}, then {stack_after} of {stack} bytes",
            took.as_secs_f64()
        );
        ensure!(0 < moves && 0 < votes, "it did not serve meanwhile");
        ensure!(u64::from(count) / 4 < frames, "no flood: only {frames} frames arrived");
        cluster.wait_protected()?;
        vote(&cluster)?;
        let lines = cluster.device.lines();
        let starts = lines.iter().filter(|line| line.contains("start after")).count();
        ensure!(starts == 1, "it started anew:\n{}", lines.join("\n"));
        ensure!(
            stack_after <= stack_before + 256,
            "the stack grew from {stack_before} to {stack_after} bytes"
        );
        ensure!(
            stack_after + budget::STACK_LEFT_MIN <= stack,
            "only {} bytes of stack were left",
            stack - stack_after
        );
        Ok(())
    })
}

/// The controller changes hands, which costs the witness votes; its epoch is on the card afterwards.
fn vote(cluster: &Cluster<'_>) -> Result<()> {
    let begin = Instant::now();
    loop {
        for (from, to) in [("a1", "2"), ("b1", "1")] {
            if cluster.run(from, &["controller", "move", to])?.status.success() {
                return Ok(());
            }
        }
        ensure!(begin.elapsed() < Duration::from_secs(30), "the controller does not change hands");
    }
}

fn flood(cluster: &Cluster<'_>, count: u32) -> Result<Duration> {
    let begin = Instant::now();
    let recorded = [0, 1].map(|path| cluster.tap.recorded(path));
    let mut chance = Chance::new(1, 0);
    for number in 0..count {
        let path = usize::from(number % 2 == 1);
        let among = &recorded[path];
        let place = usize::try_from(chance.below(among.len() as u64))?;
        let bytes = mutated(among.get(place).context("nothing was said")?, &mut chance)?;
        cluster.tap.inject(path, &bytes)?;
        if number % BURST == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(begin.elapsed())
}

/// A datagram that was sent once, changed in one of the ways in which bytes go wrong.
fn mutated(original: &[u8], chance: &mut Chance) -> Result<Vec<u8>> {
    let mut bytes = original.to_vec();
    let place = usize::try_from(chance.below(bytes.len() as u64))?;
    let random = |chance: &mut Chance| u8::try_from(chance.below(256));
    match chance.below(8) {
        0 => {}
        1 => bytes[place] ^= 1 << chance.below(8),
        2 => bytes.truncate(place),
        3 => bytes.resize(usize::try_from(chance.below(LENGTH_MAX))?, 0xa5),
        4 => bytes.rotate_left(place),
        5 => bytes.clear(),
        6 => {
            for byte in &mut bytes[place..] {
                *byte = random(chance)?;
            }
        }
        _ => {
            bytes = (0..chance.below(LENGTH_MAX)).map(|_| random(chance)).collect::<Result<_, _>>()?;
        }
    }
    Ok(bytes)
}
