//! Stories of a node that comes and goes while the others run.

use super::*;
use crate::id::{Path, Side};
use crate::link::suspicion::Verdict;
use crate::monitor::pair::Role;
use crate::node::roster::Match;
use crate::node::testing::{A, B, S, Site, W};
use crate::node::words::{Command, Event};

const C: NodeId = NodeId(4);
const ALL: Digest = Digest([4; 16]);

/// The file in which C stands beside B.
fn with_c(settings: &mut Settings) {
    let pair = settings.members[0].pair;
    settings.members.push(Member { node: C, pair, side: Some(Side::B), votes: false }).unwrap();
    settings.digest = ALL;
}

/// Has `node` know the members that `change` leaves.
fn tell(site: &mut Site, node: NodeId, change: fn(&mut Settings)) -> Result<(), Fixed> {
    let now = Instant::from_millis(site.now);
    let running = site.nodes.get_mut(&node).unwrap();
    let mut next = running.settings().clone();
    change(&mut next);
    running.change_members(now, next.members, next.relays, next.digest)?;
    site.step(node, Event::Timeout);
    Ok(())
}

/// V20: a witness that gets its first relays while it runs cuts by them.
#[test]
fn relays_are_taken_while_the_site_runs() {
    let mut site = Site::new(&[]);
    site.fences = true;
    [W, A, B].into_iter().for_each(|node| site.start(node));
    site.pass(3 * S);
    assert!(site.nodes[&W].desk().is_none());
    for node in [A, B, W] {
        let with_relays = |settings: &mut Settings| {
            settings.relays = [A, B].map(|node| Relay { node, witness: W }).into_iter().collect();
        };
        tell(&mut site, node, with_relays).unwrap();
    }
    site.told.clear();
    site.both_ways(A, B);
    site.both_ways(A, W);
    site.pass(S);
    assert_eq!(site.masters(), [B]);
    assert!(site.told.iter().any(|told| told == "3 does Off to 1: Switched"), "{:?}", site.told);
}

/// A site in which C was added while it ran.
fn grown() -> Site {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    for node in [A, B, W] {
        tell(&mut site, node, with_c).unwrap();
        site.pass(S);
    }
    site.other.insert(C, with_c);
    site.start(C);
    site.pass(3 * S);
    site
}

/// S2-07, S2-08: a node is added, and takes part like any other.
#[test]
fn a_node_comes_while_the_others_run() {
    let mut site = grown();
    assert_eq!((site.masters(), site.role(B), site.role(C)), ([A].into(), Role::Slave, Role::Slave));
    assert_eq!(site.nodes[&A].links().verdict(C), Verdict::Up);
    assert!([B, W, C].iter().all(|node| site.nodes[&A].compared(*node) == Some(Match::Same)));
    assert_eq!(site.told.iter().filter(|told| told.ends_with("master")).count(), 1, "{:?}", site.told);
    // It is a candidate: with the instances of both others stopped it is master.
    site.step(B, Event::Command(Command::Stop(Office::Infra)));
    site.step(A, Event::Command(Command::Stop(Office::Infra)));
    site.pass(3 * S);
    assert_eq!(site.masters(), [C]);
}

/// S2-07: nobody is taken out that has a role; who is out is not spoken with, and may come back.
#[test]
fn a_node_goes_while_the_others_run() {
    let mut site = grown();
    let without_c = |settings: &mut Settings| settings.members.truncate(3);
    for node in [A, B] {
        site.step(node, Event::Command(Command::Stop(Office::Infra)));
    }
    site.pass(3 * S);
    assert_eq!(tell(&mut site, B, without_c), Err(Fixed::Acts { node: C, office: Office::Infra }));
    assert_eq!(site.nodes[&B].links().verdict(C), Verdict::Up, "nothing was changed");
    for office in Office::ALL {
        site.step(C, Event::Command(Command::Stop(office)));
    }
    site.step(A, Event::Command(Command::Start(Office::Infra)));
    site.step(B, Event::Command(Command::Start(Office::Infra)));
    site.pass(3 * S);
    let master = site.masters();
    for node in [A, B, W] {
        tell(&mut site, node, without_c).unwrap();
        assert!(!site.nodes[&node].links().peers().any(|peer| peer == C));
    }
    site.pass(3 * S);
    assert_eq!((site.masters(), master.len()), (master, 1));
    for node in [A, B, W] {
        tell(&mut site, node, with_c).unwrap();
    }
    site.pass(3 * S);
    assert_eq!(site.nodes[&A].links().verdict(C), Verdict::Up);
}

/// F54: what cannot be changed while a node runs is refused, and nothing is changed.
#[test]
fn voters_places_and_this_node_stay() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    let all = [
        (Fixed::Member(B), (|next: &mut Settings| next.members[1].votes = false) as fn(&mut Settings)),
        (Fixed::Member(B), |next| next.members[1].side = Some(Side::A)),
        (Fixed::Voters(PairId(0)), |next| next.members.truncate(2)),
        (Fixed::Unsound(Unsound::NotAMember), |next| {
            next.members.swap_remove(0);
        }),
        (Fixed::Unsound(Unsound::Twice(B)), |next| next.members.push(next.members[1]).unwrap()),
        (Fixed::Voters(PairId(0)), |next| {
            with_c(next);
            next.members[3].votes = true;
        }),
        (Fixed::Controller, |next| {
            next.members.iter_mut().for_each(|member| member.pair = PairId(1));
        }),
    ];
    for (why, change) in all {
        assert_eq!(tell(&mut site, A, change), Err(why));
    }
    assert_eq!(site.nodes[&A].settings().members.len(), 3);
    // Another pair, with voters of its own, may come and go.
    let pair = |next: &mut Settings| {
        for (node, side) in [(5, Some(Side::A)), (6, Some(Side::B)), (7, None)] {
            let member = Member { node: NodeId(node), pair: PairId(1), side, votes: true };
            next.members.push(member).unwrap();
        }
    };
    assert_eq!(tell(&mut site, A, pair), Ok(()));
    assert_eq!(tell(&mut site, A, |next| next.members.truncate(3)), Ok(()));
    site.pass(3 * S);
    assert_eq!((site.masters(), site.role(B)), ([A].into(), Role::Slave));
}

/// S3-01: when a site outgrows nine nodes, those that are no neighbours any more hear each other at the
/// slower pace, and lose nobody.
#[test]
fn a_site_that_grows_slows_down_where_it_may() {
    const D: NodeId = NodeId(9);
    fn add(next: &mut Settings, node: u16, side: Side) {
        let pair = next.members[0].pair;
        next.members.push(Member { node: NodeId(node), pair, side: Some(side), votes: false }).unwrap();
    }
    let small = |next: &mut Settings| {
        with_c(next);
        add(next, 9, Side::A);
    };
    let mut site = Site::new(&[]);
    for node in [A, B, W, C, D] {
        site.other.insert(node, small);
        site.start(node);
    }
    let beats = |site: &mut Site| {
        let heard = |site: &Site| site.nodes[&C].links().path(D, Path::One).unwrap().beats.1;
        let before = heard(site);
        site.pass(6 * S);
        heard(site) - before
    };
    site.pass(3 * S);
    let close = beats(&mut site);
    for node in [A, B, W, C, D] {
        let grown = |next: &mut Settings| {
            [5, 7, 11].into_iter().for_each(|node| add(next, node, Side::A));
            [6, 8, 10].into_iter().for_each(|node| add(next, node, Side::B));
        };
        tell(&mut site, node, grown).unwrap();
    }
    let far = beats(&mut site);
    assert!(0 < far && far * 4 < close, "{far} heartbeats in six seconds, {close} before");
    assert_eq!(site.nodes[&C].links().verdict(D), Verdict::Up);
    assert_eq!(site.nodes[&C].links().silences(D), 0);
    assert_eq!(site.masters().len(), 1);
}
