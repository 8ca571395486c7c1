//! The networks are cut, lossy and slow: who may act, who says why, and what costs nothing (F31, F33, F34,
//! F35, F36, F40, S3-02, L-1, L-4, V2, X07).

use crate::harness::Site;
use std::time::Duration;

const A: u16 = 1;
const B: u16 = 2;
const WITNESS: u16 = 3;

fn started() -> Site {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    site.wait("b1 sees it too", 2, |status| status["protected"] == true);
    site
}

/// S3-02, F35: one network is enough, and its loss is shown.
#[test]
fn one_network_is_cut_and_nothing_happens_but_a_warning() {
    let site = started();
    for node in [(A, B), (B, A), (A, WITNESS), (WITNESS, A), (B, WITNESS), (WITNESS, B)] {
        site.relay.weather(|weather| weather.cut.extend([(node.0, node.1, 0)]));
    }
    let warned = site.wait("a1 sees that network 1 is cut", 1, |status| status["protected"] == false);
    let summary = warned["summary"].as_str().unwrap();
    assert!(summary.contains("network 2 must not fail now"), "{summary}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((site.times_master(1), site.times_master(2)), (1, 0), "a role changed");
    site.relay.heal();
    site.wait("all is well again", 1, |status| status["protected"] == true);
}

/// F33, L-1, L-4: the nodes cannot hear each other, the witness hears both. The master stays master.
#[test]
fn the_link_between_the_compartments_is_cut_and_the_master_stays() {
    let site = started();
    site.relay.part(A, B);
    site.wait("a1 misses b1", 1, |status| status["nodes"][1]["verdict"] == "silent");
    site.one_master_at_most_for(Duration::from_secs(3));
    let status = site.status(1).unwrap();
    assert_eq!(status["role"], "master", "{status:#}");
    assert_eq!((site.times_master(1), site.times_master(2)), (1, 0), "the role flapped");
    site.relay.heal();
    site.wait("all is well again", 1, |status| status["protected"] == true);
}

/// F36: the master hears nobody any more. It stops acting before anybody else acts, and follows when it is
/// back.
#[test]
fn the_master_is_cut_off_and_the_other_side_takes_over() {
    let site = started();
    site.relay.part(A, B);
    site.relay.part(A, WITNESS);
    site.one_master_at_most_for(Duration::from_secs(3));
    let cut_off = site.status(1).unwrap();
    assert_ne!(cut_off["role"], "master");
    assert!(cut_off["summary"].as_str().unwrap().contains("hears too few"), "{cut_off:#}");
    assert_eq!(site.status(2).unwrap()["role"], "master");
    site.relay.heal();
    site.wait("a1 follows", 1, |status| status["role"] == "slave");
    site.one_master_at_most_for(Duration::from_millis(500));
}

/// F34: b1 hears a1, a1 does not hear b1; and the other way round. At most one acts, no role flaps.
#[test]
fn a_link_that_works_in_one_direction_only_makes_no_second_master() {
    for (from, to) in [(A, B), (B, A)] {
        let site = started();
        for network in 0..2 {
            site.relay.weather(|weather| weather.cut.extend([(from, to, network)]));
        }
        site.one_master_at_most_for(Duration::from_secs(4));
        let changes = site.times_master(1) + site.times_master(2);
        assert!(changes <= 2, "{from} -> {to}: {changes} masters in 4 s");
        site.relay.heal();
        site.wait("all is well again", 1, |status| status["protected"] == true);
    }
}

/// F31, X07: a third of all datagrams is lost, some come twice, all overtake each other: slower, no more.
#[test]
fn bad_networks_cost_no_takeover() {
    let site = started();
    site.relay.weather(|weather| {
        weather.loss_percent = 30;
        weather.twice_percent = 20;
        weather.delay_max = Duration::from_millis(5);
    });
    site.one_master_at_most_for(Duration::from_secs(6));
    assert_eq!((site.times_master(1), site.times_master(2)), (1, 0), "a role changed");
    let lossy = site.status(1).unwrap();
    let loss = lossy["nodes"][1]["paths"][0]["lossPermille"].as_u64().unwrap();
    assert!((100..=600).contains(&loss), "the status shows the loss: {loss}");
}
