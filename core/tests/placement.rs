//! Placement at the size that is promised: 64 hosts and 4,000 guests (S0-02, S3-21).
//!
//! `cargo test -p bulkhead-core --test placement -- --nocapture` says how long each search took.

#![allow(clippy::unwrap_used, reason = "a failed step is a red test")]
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a red test")]
#![allow(clippy::indexing_slicing, reason = "a place that there is not is a red test")]

use std::time::{Duration, Instant};

use bulkhead_core::id::NodeId;
use bulkhead_core::placement::alternates::{Loss, after, table};
use bulkhead_core::placement::amounts::Amounts;
use bulkhead_core::placement::guest::{Apart, Defaults, Guest, Overrides, PoolIndex, Power, Priority};
use bulkhead_core::placement::hosts::{HostIndex, HostSet};
use bulkhead_core::placement::memory::{Fate, Level, Memory, Turn};
use bulkhead_core::placement::priority::Priorities;
use bulkhead_core::placement::search::Question;
use bulkhead_core::placement::site::{ClassId, Description, Host, Pool, Site};
use bulkhead_core::placement::zones::{Zone, ZoneIndex};

const GUESTS: usize = 4_000;

/// Two compartments of two racks of sixteen hosts.
fn zones() -> Vec<Zone> {
    let within = [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)];
    let zone =
        |within: Option<u16>| Zone { within: within.map(ZoneIndex), round_trip: Duration::from_micros(90) };
    within.into_iter().map(zone).collect()
}

fn hosts() -> Vec<Host<3>> {
    let host = |node: u16| Host {
        node: NodeId(node + 1),
        zone: ZoneIndex(3 + node / 16),
        pool: PoolIndex(0),
        capacity: Amounts([1_280, 2_048, 4_096]),
    };
    (0..64).map(host).collect()
}

/// Somewhat over half of the site, in five priorities; one in ten is kept apart from another.
fn guests() -> Vec<Guest<3>> {
    let guest = |number: u16| Guest {
        needs: Amounts([
            4 + u64::from(number * 7 % 17),
            8 + u64::from(number * 5 % 29),
            u64::from(number % 40),
        ]),
        load: None,
        pool: PoolIndex(0),
        hosts: HostSet::ALL,
        apart: number.is_multiple_of(10).then_some(Apart(number / 20)),
        power: Power::On(HostIndex(u8::try_from(number % 64).unwrap())),
        placeholder: None,
        overrides: Overrides { priority: Some(Priority(number % 5)), ..Overrides::default() },
    };
    (0..u16::try_from(GUESTS).unwrap()).map(guest).collect()
}

#[test]
fn the_largest_site_keeps_every_promise_after_any_loss() {
    let (zones, hosts, guests) = (zones(), hosts(), guests());
    let site = Site::new(Description {
        zones: &zones,
        pools: &[Pool { class: ClassId(0), provides_permille: 1_000 }],
        hosts: &hosts,
        guests: &guests,
        dependencies: &[],
        defaults: Defaults { is_protected: true, priority: Priority(0) },
        synchronous: Duration::from_millis(2),
    });
    let site = site.unwrap();
    let mut priorities = vec![Priority(0); GUESTS];
    let (mut fates, mut turns, mut levels) =
        (vec![Fate::NEW; GUESTS], vec![Turn::NEW; GUESTS], vec![Level::NEW; GUESTS]);
    let mut memory = Memory { fates: &mut fates, turns: &mut turns, levels: &mut levels };
    let priorities = Priorities::new(&site, &mut priorities).unwrap();
    let question = Question { site: &site, up: HostSet::ALL, priorities, steps_max: 100_000 };
    for (zone, name) in [(3, "a rack of 16"), (1, "a compartment of 32")] {
        let loss = Loss::Zone(ZoneIndex(zone));
        let began = Instant::now();
        let placement = after(question, loss, memory.again()).unwrap();
        let (took, certainty) = (began.elapsed(), placement.certainty());
        let mut free: Vec<_> = hosts.iter().map(|host| host.capacity).collect();
        let (mut down, mut highest) = (0, 0);
        for (guest, what) in site.guests() {
            let Some(host) = placement.host_of(guest) else {
                (down, highest) = (down + 1, highest.max(priorities.of(guest).0));
                continue;
            };
            assert!(!loss.hosts(&site).has(host), "{guest:?} is on {host:?}, which is lost");
            let room = &mut free[usize::from(host.0)];
            assert!(what.needs.fits(*room), "{guest:?} does not fit on {host:?}");
            *room = room.minus(what.needs);
        }
        println!("{name} lost: {took:?}, {down} guests down, of priority {highest} at most, {certainty:?}");
        assert!(zone != 3 || down == 0, "three quarters of the hosts are enough for all");
        assert!(highest < 2, "who matters more has the room of who matters less");
    }
    let mut alternates = vec![None; GUESTS];
    let began = Instant::now();
    table(question, &mut memory, &mut alternates).unwrap();
    println!("the alternates of all guests: {:?}", began.elapsed());
    for ((_, guest), alternate) in site.guests().zip(alternates) {
        assert!(alternate.is_some_and(|host| guest.power != Power::On(host)));
    }
}
