//! How streams begin and end, and whom they join.

use super::proxy::{Harm, Proxy};
use super::site::{Node, Place, SOON, meet, millis, part, until};
use super::traffic::{LARGEST, check, frame};
use bulkhead::replication::hello::Refusal;
use bulkhead::replication::tally::End;
use bulkhead::replication::words::{News, Settings, Timing};
use bulkhead::site_config::key::SiteKey;
use bulkhead_core::id::{GroupId, NodeId, SiteId};
use std::time::Instant;

#[test]
fn two_meet_and_a_restart_is_a_new_stream() {
    let place = Place::new();
    let high = Node::start(place.settings(2, 2));
    let low = Node::start(place.settings(1, 2));
    let (to_high, to_low) = meet(&low, &high);
    assert_eq!((to_high.peer(), to_low.peer()), (NodeId(2), NodeId(1)));
    low.streams.send(to_high, vec![frame(&low.made, 7, 1, LARGEST)]);
    check(&high.frame(), 7, 1, LARGEST);
    high.streams.send(to_low, vec![frame(&high.made, 8, 1, LARGEST)]);
    check(&low.frame(), 8, 1, LARGEST);
    assert_eq!((low.peer().network, high.peer().network), (Some(1), Some(1)));

    drop(low);
    assert_eq!(high.gone(), NodeId(1));
    let low = Node::start(place.settings(1, 2));
    let (again, back) = meet(&low, &high);
    assert_ne!(back, to_low);
    // What was meant for the stream of before goes nowhere.
    high.streams.send(to_low, vec![frame(&high.made, 9, 1, 1)]);
    high.streams.send(back, vec![frame(&high.made, 9, 2, 1)]);
    check(&low.frame(), 9, 2, 1);

    drop(high);
    assert_eq!(low.gone(), again.peer());
    until("why is shown", || low.peer().ends.contains_key(&End::Left));
}

/// Each of three holders is met by both others, and hears them apart.
#[test]
fn three_meet() {
    let place = Place::new();
    let nodes: Vec<_> = (1..=3).map(|node| Node::start(place.settings(node, 3))).collect();
    let met = |node: &Node| {
        let mut met = [node.met(), node.met()];
        met.sort_by_key(|stream| stream.peer());
        met
    };
    let streams: Vec<_> = nodes.iter().map(met).collect();
    for ((me, node), streams) in (1_u64..).zip(&nodes).zip(streams) {
        let others: Vec<_> = (1..=3).filter(|other| u64::from(*other) != me).map(NodeId).collect();
        assert_eq!(streams.map(|stream| stream.peer())[..], others);
        for stream in streams {
            node.streams.send(stream, (1..=50).map(|n| frame(&node.made, me, n, 3)).collect());
        }
    }
    for (me, node) in (1_u64..).zip(&nodes) {
        let mut numbers = [0; 4];
        for _ in 0..100 {
            let News::Frame(from, came) = node.next() else { panic!("a frame should come") };
            assert_ne!(u64::from(from.0), me);
            let number = &mut numbers[usize::from(from.0)];
            *number += 1;
            check(&came, from.0.into(), *number, 3);
        }
    }
}

/// A mistake, and what makes it.
type Wrong = (Refusal, fn(&mut Settings));

/// V22, F54: who is not of this group is told why, at both ends, and never met; then the right one is.
#[test]
fn another_key_site_or_group_is_refused() {
    let wrong: [Wrong; 4] = [
        (Refusal::Key, |settings| settings.key = SiteKey([9; 32])),
        (Refusal::Site, |settings| settings.site = SiteId([9; 16])),
        (Refusal::Group, |settings| settings.group = GroupId([9; 16])),
        (Refusal::Stranger, |settings| settings.peers[0].0 = NodeId(3)),
    ];
    let place = Place::new();
    let high = Node::start(place.settings(2, 2));
    for (why, change) in wrong {
        let mut settings = place.settings(1, 2);
        change(&mut settings);
        let low = Node::start(settings);
        until("both ends say why", || {
            let (ours, theirs) = (low.streams.view(), high.streams.view());
            let shown = ours.peers[0].last_error.as_ref().is_some_and(|text| text.contains(why.text()));
            let counted = |refused: &std::collections::BTreeMap<_, u64>| refused.get(&why).is_some();
            let told = theirs.last_refused.is_some_and(|text| text.contains(why.text()));
            shown && told && counted(&ours.refused) && counted(&theirs.refused)
        });
        low.quiet(millis(100));
        high.quiet(millis(100));
    }
    let low = Node::start(place.settings(1, 2));
    meet(&low, &high);
}

/// S1-31, F31: one network is enough, from the start and later; the first is preferred.
#[test]
fn a_network_that_fails_is_replaced_by_the_other() {
    let place = Place::new();
    // Between both networks of node 1 and node 2.
    let proxies: Vec<_> = [(50, 0), (51, 1)]
        .map(|(at, path)| Proxy::new(place.at(at), place.of(2)[path], |_| Harm::default()))
        .into();
    let timing = Timing { alive: millis(100), silence: millis(1500), ..Timing::default() };
    let high = Node::start(Settings { timing, ..place.settings(2, 2) });
    let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
    let low = Node::start(Settings { timing, peers, ..place.settings(1, 2) });
    meet(&low, &high);
    assert_eq!(low.peer().network, Some(1));

    proxies[0].silence(true);
    let begun = Instant::now();
    part(&low, &high);
    let (stream, _) = meet(&low, &high);
    assert!(begun.elapsed() < SOON);
    assert_eq!((low.peer().network, high.peer().network), (Some(2), Some(2)));
    until("why is shown", || low.peer().ends.contains_key(&End::Silent));
    low.streams.send(stream, vec![frame(&low.made, 7, 1, LARGEST)]);
    check(&high.frame(), 7, 1, LARGEST);

    proxies[0].silence(false);
    proxies[1].silence(true);
    part(&low, &high);
    meet(&low, &high);
    assert_eq!(low.peer().network, Some(1));
}

/// F31: an address that is not there, or is used by somebody else, costs one network only.
#[test]
fn an_address_that_cannot_be_used_costs_one_network() {
    let place = Place::new();
    let thief = std::net::TcpListener::bind(place.of(2)[0]).unwrap();
    let high = Node::start(place.settings(2, 2));
    let low = Node::start(place.settings(1, 2));
    meet(&low, &high);
    assert_eq!((low.peer().network, high.peer().network), (Some(2), Some(2)));
    let networks = high.streams.view().networks;
    assert!(networks[0].error.is_some() && networks[1].error.is_none(), "{networks:?}");
    assert!(low.streams.view().networks.is_empty(), "nobody dials the lowest");
    drop(thief);
    until("it listens there, too", || high.streams.view().networks[0].error.is_none());
}

/// A peer that began anew is believed at once, though its old stream looks sound from here: gone, then met.
#[test]
fn the_newest_stream_takes_the_place_of_a_half_open_one() {
    let place = Place::new();
    let high = Node::start(place.settings(2, 2));
    let proxy = Proxy::new(place.at(50), place.of(2)[0], |_| Harm::default());
    let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
    let low = Node::start(Settings { peers, ..place.settings(1, 2) });
    meet(&low, &high);
    proxy.silence(true);
    // Its end is not heard of: the proxy is silent.
    drop(low);
    let begun = Instant::now();
    let low = Node::start(place.settings(1, 2));
    assert_eq!(high.gone(), NodeId(1));
    let (_, stream) = meet(&low, &high);
    assert!(begun.elapsed() < millis(6000), "the silence was not waited for");
    until("why is shown", || high.peer().ends.contains_key(&End::Replaced));
    high.streams.send(stream, vec![frame(&high.made, 7, 1, 2)]);
    check(&low.frame(), 7, 1, 2);
}

/// Nothing is said for longer than the silence that ends a stream: both say that they are there.
#[test]
fn a_quiet_stream_stays() {
    let place = Place::new();
    let timing = Timing { alive: millis(200), silence: millis(2500), ..Timing::default() };
    let high = Node::start(Settings { timing, ..place.settings(2, 2) });
    let low = Node::start(Settings { timing, ..place.settings(1, 2) });
    meet(&low, &high);
    low.quiet(millis(4000));
    high.quiet(millis(1));
}
