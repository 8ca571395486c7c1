//! A site of two compartments and a witness on a good network, told as stories. The disorders are the
//! simulator's.

use core::time::Duration;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::fence::words::{Outcome, Refusal, Want};
use crate::id::PairId;
use crate::monitor::pair::Role;
use crate::node::settings::{Digest, Unsound, infra_register};
use crate::node::testing::{A, B, S, Site, W, settings};

/// S1-18, V24: both up and connected: exactly one master, one slave.
#[test]
fn two_instances_are_master_and_slave() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    assert_eq!(site.masters(), [A]);
    assert_eq!(site.role(B), Role::Slave);
    let controller = site.nodes[&B].post(Office::Controller).unwrap().pair().master();
    assert!(controller.is_some(), "S2-03: there is a designated controller");
    site.pass(20 * S);
    assert_eq!(site.masters(), [A], "and nothing changes by itself");
    assert_eq!(
        site.told,
        ["1 starting", "2 starting", "1 contending", "2 contending", "1 master", "2 slave"]
    );
}

/// S1-19, L-1: the slave takes over within a second, and the old master comes back as slave.
#[test]
fn the_slave_takes_over() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    site.nodes.remove(&A);
    let died = site.now;
    while site.masters().is_empty() {
        site.pass(Duration::from_millis(5));
        assert!(site.now < died + 1_000, "no master after a second");
    }
    assert_eq!(site.masters(), [B]);
    site.start(A);
    site.pass(5 * S);
    assert_eq!((site.masters(), site.role(A)), (Vec::from([B]), Role::Slave));
}

/// S1-20: one alone with the witness becomes master and has the other switched on; S1-20 also for an instance
/// whose control domain is up.
#[test]
fn a_lone_instance_activates_the_other() {
    let mut site = Site::new(&[A, W]);
    site.pass(6 * S);
    assert_eq!(site.masters(), [A]);
    assert_eq!(site.powered, [B], "asked once in three seconds");
    site.start(B);
    site.pass(3 * S);
    assert_eq!(site.role(B), Role::Slave);
    // It dies as a program would, without the operator: the master starts it again.
    site.step(B, Event::Command(Command::Stop(Office::Infra)));
    site.nodes.get_mut(&B).unwrap().bar(Office::Infra, false);
    site.pass(5 * S);
    assert_eq!(site.role(B), Role::Slave);
    site.step(B, Event::Command(Command::Stop(Office::Infra)));
    site.pass(8 * S);
    assert_eq!(site.role(B), Role::Stopped, "what the operator stops stays stopped");
    assert_eq!(site.powered, [B], "who is heard is asked, and its power is not switched");
}

/// F33, F36: without each other, the one with the witness goes on and the other stops.
#[test]
fn the_side_with_the_witness_goes_on() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    site.both_ways(A, B);
    site.pass(5 * S);
    assert_eq!(site.masters(), [A], "the witness hears both: nothing changes");
    site.both_ways(A, W);
    site.pass(5 * S);
    assert_eq!(site.masters(), [A], "it had been agreed that A may go on alone (X04)");
    site.cut.clear();
    site.pass(5 * S);
    assert_eq!((site.masters(), site.role(B)), (Vec::from([A]), Role::Slave));
    site.both_ways(A, B);
    site.both_ways(A, W);
    site.pass(5 * S);
    assert_eq!(site.masters(), [B], "cut off at one stroke, A stops and B goes on");
}

/// X04, F26: the witness dies, then the slave: the master goes on. The witness dies, then the master: nobody
/// can.
#[test]
fn after_the_witness_is_lost_the_master_may_go_on_alone() {
    for (second, expected) in [(B, Vec::from([A])), (A, Vec::new())] {
        let mut site = Site::new(&[A, B, W]);
        site.pass(3 * S);
        site.nodes.remove(&W);
        site.pass(2 * S);
        site.nodes.remove(&second);
        site.pass(10 * S);
        assert_eq!(site.masters(), expected, "{second:?} died after the witness");
        site.start(W);
        site.start(second);
        site.pass(5 * S);
        assert_eq!(site.masters().len(), 1, "all are back: one of them is master");
    }
}

/// V19, V20: with a fencing device the takeover need not wait for the lease.
#[test]
fn a_dead_master_is_fenced() {
    let mut site = Site::new(&[W]);
    site.fences = true;
    site.start(A);
    site.start(B);
    site.pass(3 * S);
    site.both_ways(A, B);
    site.both_ways(A, W);
    site.pass(5 * S);
    assert_eq!(site.masters(), [B]);
    assert!(site.told.contains(&String::from("2 fences 1")), "{:?}", site.told);
}

fn with_relays() -> Site {
    let mut site = Site::new(&[]);
    (site.fences, site.relays) = (true, true);
    [W, A, B].into_iter().for_each(|node| site.start(node));
    site.pass(3 * S);
    site
}

/// V19, V20: a master that nobody hears is cut by the witness, and the other need not wait for its lease.
#[test]
fn the_witness_cuts_a_silent_master() {
    let mut site = with_relays();
    site.told.clear();
    site.both_ways(A, B);
    site.both_ways(A, W);
    site.pass(S);
    assert_eq!(site.masters(), [B]);
    assert!(!site.nodes.contains_key(&A), "its power is off");
    let told = |line: &str| site.told.iter().filter(|told| *told == line).count();
    for line in ["3 does Off to 1: Switched", "3 does Read to 1: IsOff", "2 is told Some(Off) of 1"] {
        assert_eq!(told(line), 1, "{line}: {:?}", site.told);
    }
    // S1-20: the new master has the other compartment switched on, by the same relay, after its time off.
    site.cut.clear();
    site.pass(8 * S);
    assert_eq!((site.masters(), site.role(A)), (Vec::from([B]), Role::Slave), "{:?}", site.told);
}

/// Whenever the master dies, be it just after a renewal: it is cut as soon as it is stale, and its lease is
/// not waited for, which would take 600 ms.
#[test]
fn the_cut_does_not_depend_on_the_moment() {
    for moment in 0..12 {
        let mut site = with_relays();
        site.pass(moment * Duration::from_millis(20));
        site.both_ways(A, B);
        site.both_ways(A, W);
        let died = site.now;
        while site.masters() != [B] {
            site.pass(Duration::from_millis(5));
            assert!(site.now < died + 500, "{moment}: {:?}", site.told);
        }
    }
}

/// V21, F29: the side that is cut off asks in vain, also by its operator; the master asks with effect.
#[test]
fn the_side_without_the_right_has_nobody_cut() {
    let mut site = with_relays();
    site.told.clear();
    let (now, off) = (Instant::from_millis(site.now), |node| Command::Power { node, want: Want::Off });
    assert_eq!(site.nodes[&A].may_fence(now, B), Some(Office::Infra));
    assert_eq!(site.nodes[&B].may_fence(now, A), None);
    site.both_ways(A, B);
    site.step(B, Event::Command(off(A)));
    site.pass(2 * S);
    assert_eq!(site.masters(), [A]);
    assert!(!site.told.iter().any(|told| told.starts_with("3 does")), "{:?}", site.told);
    let desk = site.nodes[&W].desk().unwrap();
    let refused: Vec<_> = desk.entries().map(|entry| (entry.asker, entry.ground, entry.outcome)).collect();
    assert_eq!(refused, [(B, None, Outcome::Refused(Refusal::NotDeciding))]);
    site.step(A, Event::Command(off(B)));
    site.pass(S);
    assert!(!site.nodes.contains_key(&B), "{:?}", site.told);
    assert_eq!(site.masters(), [A]);
}

/// S2-03: the operator moves the designated controller.
#[test]
fn the_controller_can_be_moved() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    let controller = |site: &Site| site.nodes[&A].post(Office::Controller).unwrap().pair().master();
    assert_eq!(controller(&site), Some(A));
    site.step(A, Event::Command(Command::Move { office: Office::Controller, to: B }));
    site.pass(2 * S);
    assert_eq!(controller(&site), Some(B));
    assert_eq!(site.masters(), [A], "the infra instances are not concerned");
}

/// S2-03: only the controller can be told to give that up; told to another, the command does nothing.
#[test]
fn the_controller_is_moved_by_itself_only() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    for (at, to, is_moved) in [(B, A, false), (W, B, false), (A, A, false), (A, B, true)] {
        let (mut actions, now) = (Vec::new(), Instant::from_millis(site.now));
        let command = Event::Command(Command::Move { office: Office::Controller, to });
        site.nodes.get_mut(&at).unwrap().step(now, command, &mut |action| actions.push(action));
        assert_eq!(!actions.is_empty(), is_moved, "{at:?} was told to move it to {to:?}: {actions:?}");
    }
}

/// A file in which B alone votes.
fn b_votes_alone(settings: &mut Settings) {
    settings.members.iter_mut().for_each(|member| member.votes = member.node == B);
    settings.digest = Digest([4; 16]);
}

/// A file with longer leases.
fn longer_lease(settings: &mut Settings) {
    settings.timers.lease = Duration::from_millis(900);
    settings.digest = Digest([4; 16]);
}

/// F54, V40: B has a majority by its own file, A by its. Neither takes the role; once the files are the same,
/// one does.
#[test]
fn files_that_name_other_voters_found_nothing() {
    let mut site = Site::new(&[]);
    site.other.insert(B, b_votes_alone);
    [A, B, W].into_iter().for_each(|node| site.start(node));
    site.pass(10 * S);
    assert_eq!(site.masters(), []);
    let told = |site: &Site, text: &str| site.told.iter().filter(|told| *told == text).count();
    assert_eq!(told(&site, "1 finds 2 OtherVoters"), 1, "told once: {:?}", site.told);
    assert_eq!(told(&site, "2 finds 1 OtherVoters"), 1);
    site.other.clear();
    site.start(B);
    site.pass(5 * S);
    assert_eq!(site.masters().len(), 1);
    assert_eq!(told(&site, "1 finds 2 Same"), 1);
}

/// A file in which A has no vote.
fn a_does_not_vote(settings: &mut Settings) {
    settings.members.iter_mut().for_each(|member| member.votes = member.node != A);
    settings.digest = Digest([4; 16]);
}

/// F54: a voter that has no record gives its vote to nobody who was told of other voters.
#[test]
fn a_voter_founds_nothing_with_a_node_that_was_told_otherwise() {
    let mut site = Site::new(&[]);
    site.other.insert(W, a_does_not_vote);
    [A, W].into_iter().for_each(|node| site.start(node));
    site.pass(10 * S);
    assert_eq!(site.masters(), []);
    assert!(site.nodes[&W].voter().unwrap().accepted(infra_register(PairId(0))).is_none());
}

/// F54: whoever is on record is disturbed by no file.
#[test]
fn a_master_on_record_stays_when_a_node_comes_back_with_another_file() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    site.other.insert(B, b_votes_alone);
    site.start(B);
    site.pass(10 * S);
    assert_eq!((site.masters(), site.role(B)), (Vec::from([A]), Role::Slave));
    let told = site.told.iter().filter(|told| told.contains("OtherVoters"));
    assert_eq!(told.count(), 4, "A and W of B, and B of A and W, once each: {:?}", site.told);
}

/// F54, V3: a longer lease is rolled out, one node at a time. Nobody grants what it would not remember.
#[test]
fn leases_may_differ_while_a_change_is_rolled_out() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    site.other.extend([(A, longer_lease as fn(&mut Settings)), (B, longer_lease), (W, longer_lease)]);
    site.start(B);
    site.pass(3 * S);
    assert_eq!((site.masters(), site.role(B)), (Vec::from([A]), Role::Slave));
    site.start(W);
    site.pass(3 * S);
    assert_eq!(site.masters(), [A], "its short lease is granted by all");
    site.start(A);
    site.pass(5 * S);
    assert_eq!(site.masters(), [B], "A was restarted, B has the majority that grants its long one");
}

/// F54: before the voters took the longer lease, it is refused.
#[test]
fn a_lease_longer_than_the_voters_remember_is_refused() {
    let mut site = Site::new(&[A, B, W]);
    site.pass(3 * S);
    site.other.extend([(B, longer_lease as fn(&mut Settings)), (W, longer_lease)]);
    site.start(B);
    site.pass(3 * S);
    site.nodes.remove(&A);
    site.pass(5 * S);
    assert_eq!(site.masters(), [], "W would forget 900 ms");
    site.start(W);
    site.pass(3 * S);
    assert_eq!(site.masters(), [B]);
}

#[test]
fn unsound_settings_make_no_node() {
    let node = |change: fn(&mut Settings)| {
        let mut settings = settings(A, 1, false);
        change(&mut settings);
        <Node>::new(Instant::ZERO, settings, []).err()
    };
    assert_eq!(node(|_| {}), None);
    assert_eq!(node(|settings| settings.me = NodeId(9)), Some(Unsound::NotAMember));
    assert_eq!(node(|settings| settings.members[1].node = A), Some(Unsound::Twice(A)));
    let nobody = crate::register::voters::NotASet::Empty;
    let none_votes = |settings: &mut Settings| settings.members.iter_mut().for_each(|one| one.votes = false);
    assert_eq!(node(none_votes), Some(Unsound::Voters(nobody)));
}
