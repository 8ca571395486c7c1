//! What a guest owes for what it ran, and guests of this machine's own KVM that are slowed down. Where it has
//! none, the tests say so and pass.

use super::*;
use crate::vmm::description::Description;
use crate::vmm::machine::Origin;
use crate::vmm::said::{Said, runs_guests};
use crate::vmm::testing::{FOR_EVER, elf};

const LONG: Duration = Duration::from_secs(60);
/// What is looked at at once.
const WINDOW: Duration = Duration::from_millis(200);

/// A guest has its share of the time and no more, also where it was let run for longer than it should.
#[test]
fn what_it_runs_too_long_by_is_taken_off_later() {
    let millis = Duration::from_millis;
    for (share, runs) in [(5_u8, [2, 2, 30, 2, 2]), (40, [16, 16, 200, 16, 1]), (75, [30, 300, 0, 0, 30])] {
        let (mut account, mut ran, mut held) = (Account::default(), Duration::ZERO, Duration::ZERO);
        for run in runs {
            let pays = account.ran(millis(run), 100 - share);
            assert!(pays <= HELD_MAX);
            account.held(pays);
            (ran, held) = (ran + millis(run), held + pays);
        }
        assert_eq!(account.owed, Duration::ZERO);
        // Of the whole, to a thousandth.
        let part = ran.as_micros() * 1000 / (ran + held).as_micros();
        assert!((part + 1) / 10 == u128::from(share), "{share} %: {part}");
    }
    let mut account = Account::default();
    assert_eq!(account.ran(Duration::from_hours(1), 95), HELD_MAX, "it still answers");
    account.held(HELD_MAX);
    assert_eq!(account.owed, OWED_MAX - HELD_MAX);
    // Held longer than it was to be, it has not earned anything.
    account.held(LONG);
    assert_eq!(account.ran(millis(10), 50), millis(10));
    assert_eq!((account.ran(Duration::ZERO, 0), account.ran(Duration::ZERO, 100)), (millis(10), millis(10)));
}

/// Waits for a window in which it ran for so many hundredths of the time.
fn runs(machine: &Machine, expected: std::ops::Range<u128>) {
    let begun = Instant::now();
    loop {
        let (since, before) = (Instant::now(), machine.ran());
        std::thread::sleep(WINDOW);
        let ran = machine.ran() - before;
        let part = ran.as_micros() * 100 / since.elapsed().as_micros();
        if expected.contains(&part) {
            return;
        }
        assert!(begun.elapsed() < LONG, "{part} %, not {expected:?}");
    }
}

/// S1-52: the stronger of both counts, and each by itself when the other one has gone.
#[test]
fn share_and_move_combine_to_the_stronger() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kernel"), elf(&FOR_EVER, true)).unwrap();
    let text = "version = 1\nname = \"web1\"\nprocessors = 2\nmemory = \"4M\"\nkernel = \"kernel\"\n";
    let described = Description::parse(text, directory.path()).unwrap();
    let start = || {
        let origin = Origin::find(described.clone(), Said::new().1, None).unwrap();
        Arc::new(Machine::start(origin, &[], |_| ()).unwrap())
    };
    let machine = start();
    let mut pace = Pace::default();
    assert_eq!((pace.share(), pace.throttle().is_none()), (100, true));
    pace.begin(&machine).unwrap();
    runs(&machine, 95..101);
    pace.set(50).unwrap();
    runs(&machine, 30..60);
    let throttle = pace.throttle().unwrap();
    let moves = throttle.claim(Claim::Move);
    moves.hold(45).unwrap();
    runs(&machine, 30..60);
    moves.hold(95).unwrap();
    runs(&machine, 1..20);
    // Less of the one that does not count changes nothing, and more of it does.
    pace.set(100).unwrap();
    runs(&machine, 1..20);
    pace.set(40).unwrap();
    drop(moves);
    runs(&machine, 20..50);
    // Who is held otherwise is not held for this, and goes on as slowly.
    machine.hold(Hold::Operator);
    std::thread::sleep(WINDOW);
    assert!(!machine.is_held(Hold::Throttle));
    machine.release(Hold::Operator);
    runs(&machine, 20..50);
    // A reset changes nothing of it.
    drop(throttle);
    pace.end();
    runs(&machine, 95..101);
    drop(machine);
    let machine = start();
    pace.begin(&machine).unwrap();
    assert_eq!(pace.share(), 40);
    runs(&machine, 20..50);
    pace.set(0).unwrap();
    assert_eq!(pace.share(), Pace::LEAST);
    runs(&machine, 1..20);
}
