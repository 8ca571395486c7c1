//! A database on a volume, in a guest with the kernel's NBD client and ext4, on a pair of nodes that lose
//! their power, stand still and lose each other at random moments: it goes on by way of the other node, and
//! every transaction that was committed is there (S1-27 to S1-29, S4-01, S4-05 to S4-09, X07, X13; F1, F2,
//! F14, F19, F33 to F36; V1, V2, V4).
//!
//! `BULKHEAD_ROUNDS` says how many rounds there are, and `BULKHEAD_SEED`, which is printed, repeats them.

#![allow(clippy::arithmetic_side_effects, reason = "counts and times of a test; an overflow fails it")]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::database::{Database, Journal};
use qemu_tests::lab::Lab;
use qemu_tests::site::{Part, Site};
use qemu_tests::switch::chance::Chance;

/// As for other sites of emulated nodes: a pause of half a second must not count as a death.
const TIMERS: &str = "rto = \"5s\"\npause = \"500ms\"";
/// Transactions that must be committed before anything else happens.
const SOME: u64 = 10;
/// Longer than the guest's requests wait on one path, and about as long as TCP waits then until it tries
/// again what did not arrive.
const LATE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The node that leads loses its power.
    CutPrimary,
    /// Both do, at once or one after the other.
    CutBoth,
    /// The machine of the node that leads stands still.
    FreezePrimary,
    /// The two nodes do not hear each other.
    Apart,
    /// Neither the guest nor the witness hears the node that leads.
    AwayFromGuest,
    /// The node that follows loses its power.
    CutSecondary,
    /// Nobody hears the node that leads.
    Alone,
    /// The machine of the node that follows stands still.
    FreezeSecondary,
}

/// The first round has the first one, and so on; then chance decides.
const FAULTS: [Fault; 8] = [
    Fault::CutPrimary,
    Fault::CutBoth,
    Fault::FreezePrimary,
    Fault::Apart,
    Fault::AwayFromGuest,
    Fault::CutSecondary,
    Fault::Alone,
    Fault::FreezeSecondary,
];

fn number(name: &str, otherwise: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("{name}={text}")))
}

#[test]
fn a_database_goes_on_and_has_every_transaction_whatever_happens_to_its_nodes() -> Result<()> {
    let rounds = number("BULKHEAD_ROUNDS", 2)?;
    let seed = number("BULKHEAD_SEED", u64::from(std::process::id()))?;
    println!("{rounds} rounds, BULKHEAD_SEED={seed}");
    Artefacts::of("database", |artefacts| {
        let lab = Lab::get()?;
        let image = lab.image_of(&Database::recipe()?)?;
        let mut site = Site::with_volumes(artefacts, lab, &image, TIMERS)?;
        site.power_on(&Part::ALL)?;
        let primary = site.wait_synced()?;
        site.command(primary, "bulkhead volume create vm1 --size 64MiB")?;
        let mut database = Database::create(&site, "vm1", primary)?;
        let mut chance = Chance::new(seed, 0);
        for round in 0..rounds {
            let drawn = usize::try_from(chance.below(FAULTS.len() as u64))?;
            let fault =
                usize::try_from(round).ok().and_then(|round| FAULTS.get(round)).unwrap_or(&FAULTS[drawn]);
            one(&mut site, &mut database, *fault, &mut chance)
                .with_context(|| format!("round {}: {fault:?}, BULKHEAD_SEED={seed}", round + 1))?;
        }
        Ok(())
    })
}

/// A round: load, the fault, load that goes on, the repair, and a look at everything.
fn one(site: &mut Site, database: &mut Database, fault: Fault, chance: &mut Chance) -> Result<()> {
    // A node that was agreed on as the one who goes on alone is not taken over from (X04).
    site.wait_protected()?;
    let begin = Instant::now();
    let primary = site.wait_synced()?;
    let journal = if chance.below(2) == 0 { Journal::Rollback } else { Journal::Ahead };
    database.start(site, journal)?;
    database.goes_on(site, SOME)?;
    thread::sleep(Duration::from_millis(chance.below(1500)));
    let longest = act(site, database, fault, primary, chance)?;
    database.goes_on(site, SOME)?;
    site.wait_synced()?;
    let path = if chance.below(2) == 0 { Part::A } else { Part::B };
    let all = database.verify(site, path)?;
    println!(
        "{fault:?}, {} led: {all} transactions, {journal:?}, the longest took {:.1} s, the round {:.0} s",
        primary.name(),
        longest.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The fault, until it is repaired; how long the longest transaction took meanwhile.
fn act(
    site: &mut Site,
    database: &Database,
    fault: Fault,
    primary: Part,
    chance: &mut Chance,
) -> Result<Duration> {
    let secondary = primary.peer().context("a primary is no witness")?;
    // Some end before anybody misses the node, some long after.
    let a_while = Duration::from_millis(200 + chance.below(9) * chance.below(9) * 150);
    let goes_on = |site: &Site| database.goes_on(site, SOME).map(|(_, longest)| longest);
    match fault {
        Fault::CutPrimary | Fault::CutSecondary => {
            let part = if matches!(fault, Fault::CutPrimary) { primary } else { secondary };
            site.power_cut(part)?;
            let longest = goes_on(site)?;
            site.power_on(&[part])?;
            Ok(longest)
        }
        Fault::CutBoth => {
            let begin = Instant::now();
            site.power_cut(primary)?;
            thread::sleep(Duration::from_millis(chance.below(2) * chance.below(8000)));
            site.power_cut(secondary)?;
            site.power_on(&[primary, secondary])?;
            database.goes_on(site, 1)?;
            Ok(begin.elapsed())
        }
        Fault::FreezePrimary | Fault::FreezeSecondary => {
            let part = if matches!(fault, Fault::FreezePrimary) { primary } else { secondary };
            site.freeze(part, a_while)?;
            goes_on(site)
        }
        Fault::Apart | Fault::AwayFromGuest | Fault::Alone => {
            if matches!(fault, Fault::Apart | Fault::Alone) {
                site.cut(primary, secondary);
            }
            if matches!(fault, Fault::AwayFromGuest | Fault::Alone) {
                site.cut(primary, Part::Witness);
            }
            // Sometimes so long that the guest has asked elsewhere, and what it sent first comes late.
            let is_long = chance.below(3) == 0;
            thread::sleep(if is_long { LATE } else { a_while });
            let longest = goes_on(site)?;
            site.heal();
            thread::sleep(if is_long { LATE } else { Duration::ZERO });
            Ok(longest)
        }
    }
}
