//! X14, S3-14, S3-19: every way a guest takes on the node that leads, and no other.

use std::vec::Vec;

use super::*;

const fn wanted(failover: Failover) -> Guest {
    Guest { is_wanted: true, failover, priority: 0, home: None, apart: None, needs: None }
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

/// A guest that runs since second 0.
fn running(failover: Failover) -> Life {
    let mut life = Life::new(wanted(failover));
    life.see(at(0), Sight::Gone);
    life.begin();
    life.begun(at(0), true);
    life
}

#[test]
fn a_guest_whose_node_was_lost_is_begun() {
    for (failover, how) in [(Failover::Restart, How::Anew), (Failover::Resume, How::Again)] {
        for sight in [Sight::Gone, Sight::Ended] {
            let mut life = Life::new(wanted(failover));
            assert!(life.is_unseen());
            life.see(at(5), sight);
            assert_eq!((life.mode(), life.begin(), life.mode()), (Mode::Down, how, Mode::Starting));
            life.begun(at(6), true);
            assert_eq!(life.mode(), Mode::Running);
        }
    }
}

#[test]
fn who_runs_already_is_left_alone() {
    let mut life = Life::new(wanted(Failover::Restart));
    life.see(at(5), Sight::Runs);
    assert_eq!(life.mode(), Mode::Running);
    let mut started = running(Failover::Restart);
    started.want(Guest { is_wanted: false, ..wanted(Failover::Restart) });
    assert_eq!(started.mode(), Mode::Off);
    // Whoever starts it says so when it runs.
    started.see(at(1), Sight::Runs);
    started.want(wanted(Failover::Restart));
    started.see(at(2), Sight::Runs);
    assert_eq!(started.mode(), Mode::Running);
}

/// Who switches itself off stays off; whose process dies is begun again; where an operator is to start it,
/// nothing is done.
#[test]
fn how_a_guest_ended_decides_what_follows() {
    let cases = [
        (Failover::Restart, Sight::Gone, Mode::Waiting),
        (Failover::Resume, Sight::Gone, Mode::Waiting),
        (Failover::Stay, Sight::Gone, Mode::Left),
        (Failover::Restart, Sight::Ended, Mode::Left),
        (Failover::Stay, Sight::Ended, Mode::Left),
    ];
    for (failover, sight, mode) in cases {
        let mut life = running(failover);
        life.see(at(3), sight);
        assert_eq!(life.mode(), mode, "{failover:?} {sight:?}");
        life.see(at(4), Sight::Runs);
        assert_eq!(life.mode(), Mode::Running, "somebody started it");
    }
    let mut left = Life::new(wanted(Failover::Stay));
    left.see(at(0), Sight::Gone);
    assert_eq!(left.mode(), Mode::Left);
    left.want(wanted(Failover::Restart));
    left.see(at(0), Sight::Gone);
    assert_eq!(left.mode(), Mode::Down, "it is to be begun now");
}

#[test]
fn each_failure_in_a_row_waits_twice_as_long() {
    let mut life = running(Failover::Resume);
    let mut now = at(1);
    life.see(now, Sight::Gone);
    let mut waits = Vec::new();
    let mut hows = Vec::new();
    for _ in 0..10 {
        let until = life.deadline().unwrap();
        waits.push(until.since(now).as_secs());
        if now < until {
            life.pass(Instant::from_millis(until.as_micros() / 1000 - 1));
            assert_eq!(life.mode(), Mode::Waiting, "before its time");
        }
        now = until;
        life.pass(now);
        assert_eq!(life.mode(), Mode::Down);
        hows.push(life.begin());
        life.begun(now, false);
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
    assert_eq!(hows[..3], [How::Again, How::Anew, How::Anew]);
    assert_eq!(life.failures(), 11);

    // Who ran for long enough begins to count anew.
    life.pass(at(9999));
    life.begin();
    life.begun(at(10_000), true);
    life.see(at(10_059), Sight::Runs);
    assert_eq!(life.failures(), 11);
    life.see(at(10_060), Sight::Runs);
    assert_eq!(life.failures(), 0);
    life.see(at(10_061), Sight::Gone);
    assert_eq!(life.deadline(), Some(at(10_061)));
    for _ in 0..300 {
        life.fail(at(0));
    }
    assert_eq!(life.deadline(), Some(at(0).after(RETRY_MAX)), "however often");
}

/// A start that is under way comes to its end, whatever is wanted meanwhile.
#[test]
fn a_start_is_not_forgotten() {
    let off = Guest { is_wanted: false, ..wanted(Failover::Restart) };
    for is_done in [true, false] {
        let mut life = Life::new(wanted(Failover::Restart));
        life.see(at(0), Sight::Gone);
        life.begin();
        life.want(off);
        for sight in [Sight::Runs, Sight::Gone, Sight::Ended] {
            life.see(at(1), sight);
            assert_eq!(life.mode(), Mode::Starting);
        }
        let mut again = life;
        life.begun(at(1), is_done);
        assert_eq!(life.mode(), Mode::Off);
        again.want(wanted(Failover::Restart));
        again.begun(at(1), is_done);
        assert_eq!(again.mode(), if is_done { Mode::Running } else { Mode::Waiting });
        // Nobody begins it: that is somebody else's news.
        life.begun(at(2), true);
        assert_eq!(life.mode(), Mode::Off);
    }
}
