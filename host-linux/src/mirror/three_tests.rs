//! S4-07, S4-12, S4-14, S4-15, X14: three holders. Each may be lost in turn, and two of them.

use super::site_tests::Known;
use super::testing::Site;
use super::view::{Policy, State, View};
use bulkhead_core::log::batch::Volume;

const MEBI: u64 = 1 << 20;

fn in_sync(view: &View) -> usize {
    view.holders.iter().filter(|holder| holder.in_sync).count()
}

/// Writes until as many holders are in sync, and says who leads.
fn settle(site: &Site, known: &mut Known, leads: u16, volume: Volume, count: usize) {
    for _ in 0..200 {
        known.write(site, leads, volume, 20, 4_000, 8);
        if in_sync(&site.handle(leads).view()) == count {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{:#?}", site.handle(leads).view());
}

#[test]
fn of_three_holders_two_may_be_lost_one_after_the_other() {
    let mut site = Site::new(16 * MEBI);
    let mut known = Known::by_chance(31);
    let (leads, _, volume) = site.pair(4_096);
    settle(&site, &mut known, leads, volume, 2);
    // A third one is added, and filled or fed.
    site.start(3);
    let is_whole = |view: &View| view.state == State::Synced && in_sync(view) == 3;
    assert_eq!(site.await_leader(is_whole), leads);
    known.write(&site, leads, volume, 300, 4_000, 8);
    // Without one of those that follow the guests go on in write-back, for two have all of it.
    site.kill(3);
    settle(&site, &mut known, leads, volume, 2);
    let goes_on = (State::Degraded, Policy::Back, Some(0));
    site.await_leader(|view| (view.state, view.policy, view.at_risk_bytes) == goes_on);
    let view = site.handle(leads).view();
    assert!(view.line(1, |_| "a1".into()).contains("DEGRADED: a holder is away"), "{view:#?}");
    // The one that leads dies: the other one of the two has all of it, and leads alone.
    site.kill(leads);
    let other = 3 - leads;
    assert_eq!(site.await_leader(|view| view.primary == Some(other)), other);
    known.check(&site, other, volume, 4_000);
    settle(&site, &mut known, other, volume, 1);
    // The third one missed some of it. It is brought up to date, and can lead when the last one dies.
    site.start(3);
    site.await_leader(|view| in_sync(view) == 2);
    known.write(&site, other, volume, 100, 4_000, 8);
    site.kill(other);
    assert_eq!(site.await_leader(|view| view.primary == Some(3)), 3);
    known.check(&site, 3, volume, 4_000);
    // All come back.
    site.start(leads);
    site.start(other);
    site.await_leader(is_whole);
    known.check(&site, 3, volume, 4_000);
}
