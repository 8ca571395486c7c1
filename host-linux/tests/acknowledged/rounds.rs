//! Rounds: load, a fault at a random moment, load that goes on, repair, and a look at every block on every
//! path.

use super::guest::{Chance, Guests};
use super::plant::{LONG, Plant};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const GUESTS: usize = 4;
/// Acknowledged to each guest before a round goes on.
const WRITES: u64 = 40;

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillPrimary,
    PausePrimary,
    Cut,
    KillSecondary,
    KillBoth,
    PauseSecondary,
    CutFromWitness,
}

const FAULTS: [Fault; 7] = [
    Fault::KillPrimary,
    Fault::PausePrimary,
    Fault::Cut,
    Fault::KillSecondary,
    Fault::KillBoth,
    Fault::PauseSecondary,
    Fault::CutFromWitness,
];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn what_was_acknowledged_is_there_whatever_fails() {
    play(false);
}

/// The same, of a store that both nodes reach: whoever stands still has it until it goes on.
#[test]
fn what_was_acknowledged_is_there_in_a_store_of_both() {
    play(true);
}

fn play(is_shared: bool) {
    let rounds = number("BULKHEAD_ROUNDS", 5);
    let seed = number("BULKHEAD_SEED", u64::from(std::process::id()));
    println!("{rounds} rounds, BULKHEAD_SEED={seed}, one store of both: {is_shared}");
    let mut chance = Chance(seed);
    let plant = Plant::start(is_shared);
    let guests = Guests::start(GUESTS, &plant.uris(), seed);
    for round in 1..=rounds {
        let fault = match FAULTS.get(round as usize - 1) {
            Some(fault) => *fault,
            None => FAULTS[chance.below(FAULTS.len() as u64) as usize],
        };
        let begin = Instant::now();
        let before = guests.total();
        goes_on(&guests, "before");
        std::thread::sleep(Duration::from_millis(chance.below(1500)));
        // On a busy machine a node may just have stood still: one fault at a time.
        plant.is_whole();
        act(&plant, &guests, fault, &mut chance);
        plant.is_whole();
        goes_on(&guests, "after the repair");
        all_is_there(&guests, round);
        let (writes, time) = (guests.total() - before, begin.elapsed().as_millis());
        println!("round {round}: {fault:?}: {writes} writes acknowledged, {time} ms");
    }
}

/// The fault, until it is repaired.
fn act(plant: &Plant, guests: &Guests, fault: Fault, chance: &mut Chance) {
    let primary = plant.primary();
    let secondary = if primary == "a1" { "b1" } else { "a1" };
    // Some pauses end before anybody misses the node, some long after.
    let a_while = Duration::from_millis(100 + chance.below(9) * chance.below(9) * 120);
    match fault {
        Fault::KillPrimary | Fault::KillSecondary => {
            let node = if matches!(fault, Fault::KillPrimary) { primary } else { secondary };
            plant.fault(&["kill", node]);
            goes_on(guests, "with one node");
            plant.fault(&["start", node]);
        }
        Fault::KillBoth => {
            plant.fault(&["kill", primary]);
            std::thread::sleep(Duration::from_millis(chance.below(2) * chance.below(3000)));
            plant.fault(&["kill", secondary]);
            std::thread::sleep(Duration::from_millis(chance.below(1000)));
            plant.fault(&["start", primary]);
            plant.fault(&["start", secondary]);
        }
        Fault::PausePrimary | Fault::PauseSecondary => {
            let node = if matches!(fault, Fault::PausePrimary) { primary } else { secondary };
            plant.fault(&["pause", node]);
            // Or longer than guests wait: what they asked it is read when they are gone.
            std::thread::sleep(if chance.below(3) == 0 { Duration::from_secs(12) } else { a_while });
            plant.fault(&["resume", node]);
        }
        Fault::Cut | Fault::CutFromWitness => {
            let other = if matches!(fault, Fault::Cut) { secondary } else { "witness" };
            plant.fault(&["cut", primary, other]);
            std::thread::sleep(a_while);
            goes_on(guests, "with a link cut");
            plant.fault(&["heal"]);
        }
    }
}

/// Every guest gets writes acknowledged.
fn goes_on(guests: &Guests, when: &str) {
    let from: Vec<u64> = acknowledged(guests);
    wait(guests, &format!("writes go on {when}"), || {
        acknowledged(guests).iter().zip(&from).all(|(now, from)| from + WRITES <= *now)
    });
}

fn acknowledged(guests: &Guests) -> Vec<u64> {
    guests.board.guests.iter().map(|guest| guest.acknowledged.load(Ordering::SeqCst)).collect()
}

/// Every guest reads all it has on all paths.
fn all_is_there(guests: &Guests, round: u64) {
    guests.board.look.store(round, Ordering::SeqCst);
    wait(guests, "all blocks on all paths", || {
        guests.board.guests.iter().all(|guest| round <= guest.looked.load(Ordering::SeqCst))
    });
}

fn wait(guests: &Guests, what: &str, seen: impl Fn() -> bool) {
    let begin = Instant::now();
    while !seen() {
        if let Some(wrong) = guests.board.wrong.lock().unwrap().clone() {
            panic!("{what}: {wrong}");
        }
        assert!(begin.elapsed() < LONG * 2, "{what}: not within {:?}: {:?}", LONG * 2, acknowledged(guests));
        std::thread::sleep(Duration::from_millis(20));
    }
}
