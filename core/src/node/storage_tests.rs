//! I1, I4, S4-11, X14: the register of a mirror group among two nodes with a log and a witness, as stories.

use core::time::Duration;
use std::collections::BTreeSet;

use super::message::Office;
use super::settings::{Member, Settings, storage_register};
use super::storage;
use super::testing::{A, B, Group, S, Site, W};
use super::words::{Command, Event};
use crate::id::{NodeId, PairId, Side};
use crate::register::record::Payload;
use crate::register::seat::Verdict;
use crate::time::Instant;

/// Two nodes with a log, of which these have every acknowledged write, and a witness.
fn with(in_sync: &[NodeId]) -> Site {
    let mut site = Site::new(&[]);
    for node in [A, B] {
        site.groups.insert(node, Group { is_in_sync: in_sync.contains(&node), ..Group::default() });
    }
    [A, B, W].into_iter().for_each(|node| site.start(node));
    site
}

fn primary(site: &Site) -> Option<NodeId> {
    site.primary().map(|(node, _)| node)
}

fn say(site: &mut Site, node: NodeId, event: storage::Event) {
    site.step(node, Event::Storage(event));
}

/// S4-11, I4: one leads and is told of every renewal; the next one finds what the record said.
#[test]
fn what_the_record_says_survives_its_holder() {
    let mut site = with(&[A, B]);
    site.pass(3 * S);
    assert_eq!(site.primary(), Some((A, [1].into())));
    let renewals = site.groups[&A].renewals;
    site.pass(3 * S);
    assert!(10 < site.groups[&A].renewals - renewals, "a lease of 600 ms is renewed often");
    assert_eq!(site.groups[&B].questions, 0, "whoever follows is not asked");

    let said = Payload::from_slice(&[9, 9]).unwrap();
    say(&mut site, A, storage::Event::Rewrite(said));
    site.pass(S);
    assert_eq!(site.primary(), Some((A, [9, 9].into())));
    site.stop(A);
    let died = site.now;
    while site.primary().is_none() {
        site.pass(Duration::from_millis(5));
        assert!(site.now < died + 1_500, "nobody leads");
    }
    assert_eq!(site.primary(), Some((B, [9, 9, 2].into())));
    site.start(A);
    site.pass(5 * S);
    site.stop(B);
    site.pass(2 * S);
    assert_eq!(site.primary(), Some((A, [9, 9, 2, 1].into())));
    let register = storage_register(PairId(0));
    let voted = site.nodes[&W].voter().unwrap().accepted(register).unwrap();
    assert_eq!(voted.payload, [9, 9, 2, 1]);
}

/// S0-08: the volumes are led within the compartment that lost its primary, where another holder there has
/// every acknowledged write; the other compartment leads them where that is lost, too, or may not lead.
#[test]
fn a_holder_beside_the_lost_primary_is_its_heir() {
    const BESIDE: NodeId = NodeId(4);
    let one_more = |settings: &mut Settings| {
        let beside = Member { node: BESIDE, pair: PairId(0), side: Some(Side::A), votes: false };
        settings.members.push(beside).unwrap();
    };
    for (beside_is_in_sync, beside_is_lost, heir) in
        [(true, false, BESIDE), (false, false, B), (true, true, B)]
    {
        let mut site = Site::new(&[]);
        for node in [A, B, BESIDE, W] {
            site.other.insert(node, one_more);
        }
        for (node, is_in_sync) in [(A, true), (B, true), (BESIDE, beside_is_in_sync)] {
            site.groups.insert(node, Group { is_in_sync, ..Group::default() });
        }
        [A, B, BESIDE, W].into_iter().for_each(|node| site.start(node));
        site.pass(5 * S);
        assert_eq!((primary(&site), site.masters()), (Some(A), [A].to_vec()));
        site.stop(A);
        if beside_is_lost {
            site.stop(BESIDE);
        }
        site.pass(5 * S);
        assert_eq!(primary(&site), Some(heir), "{beside_is_in_sync} {beside_is_lost}");
        assert_eq!(site.masters(), [B], "the infra instance across is master, S1-17");
    }
}

/// X14: whoever is wanted first and may not lead is no obstacle to the other, and lives on as its secondary.
#[test]
fn who_may_not_lead_is_in_nobodys_way() {
    let mut site = with(&[B]);
    site.pass(3 * S);
    assert_eq!(primary(&site), Some(B));
    assert!((1..=3).contains(&site.groups[&A].questions), "{} questions", site.groups[&A].questions);
    let questions = site.groups[&A].questions;
    site.pass(20 * S);
    assert_eq!((primary(&site), site.groups[&A].questions), (Some(B), questions), "it follows");
    assert_eq!(site.masters(), [A], "the infra instances are not concerned");
}

/// X14, V11: it asks again by itself when its primary is gone, ever more seldom, for each question is a write
/// on the disk of every voter; and takes the register soon after it may.
#[test]
fn who_may_not_lead_yet_asks_again_more_and_more_seldom() {
    let mut site = with(&[B]);
    site.pass(3 * S);
    site.stop(B);
    site.pass(20 * S);
    let first = site.groups[&A].questions;
    site.pass(600 * S);
    let later = site.groups[&A].questions - first;
    assert!((4..=12).contains(&first) && (20..=40).contains(&later), "{first} questions, then {later}");
    site.groups.get_mut(&A).unwrap().is_in_sync = true;
    site.pass(21 * S);
    assert_eq!(primary(&site), Some(A));

    // What is asked of the next master is asked soon again.
    site.groups.get_mut(&A).unwrap().is_in_sync = false;
    say(&mut site, A, storage::Event::Release);
    let before = site.groups[&A].questions;
    site.pass(5 * S);
    assert_eq!(primary(&site), None);
    assert!(before + 3 <= site.groups[&A].questions);
    site.start(B);
    site.pass(3 * S);
    assert_eq!(primary(&site), Some(B));
}

/// I4: an answer to a question of before is no answer: the record may say something else since.
#[test]
fn a_late_answer_decides_nothing() {
    let mut site = with(&[A]);
    site.groups.get_mut(&A).unwrap().hangs = true;
    site.pass(5 * S);
    let waiting = site.groups[&A].asked.len();
    assert!((2..8).contains(&waiting), "{waiting} questions of one that hangs");
    assert_eq!(primary(&site), None);
    // Asked anew, it owes answers to the questions of before.
    while site.groups[&A].asked.len() == waiting {
        site.pass(Duration::from_millis(5));
    }
    for left in (0..=waiting).rev() {
        let take = Payload::from_slice(&[u8::try_from(left).unwrap()]).unwrap();
        say(&mut site, A, storage::Event::Decided(Verdict::Take(take)));
    }
    site.groups.get_mut(&A).unwrap().asked.clear();
    site.pass(Duration::from_millis(100));
    assert_eq!(site.primary(), Some((A, [0].into())), "the last answer is the newest question's");
    let take = Payload::from_slice(&[7]).unwrap();
    say(&mut site, A, storage::Event::Decided(Verdict::Take(take)));
    site.pass(S);
    assert_eq!(site.primary(), Some((A, [0].into())), "it was not asked");
}

/// S4-11: the operator moves the role, and one that may not take it leaves it where it was.
#[test]
fn the_operator_moves_the_role() {
    let mut site = with(&[A, B]);
    site.pass(3 * S);
    let to = |to| Event::Command(Command::Move { office: Office::Storage, to });
    for (at, wanted, found) in [(B, B, A), (A, W, A), (A, A, A), (A, B, B), (B, A, A)] {
        site.step(at, to(wanted));
        site.pass(2 * S);
        assert_eq!(primary(&site), Some(found), "{at:?} was told to move it to {wanted:?}");
    }
    site.groups.get_mut(&B).unwrap().is_in_sync = false;
    site.step(A, to(B));
    site.pass(4 * S);
    assert_eq!(primary(&site), Some(A), "it takes it back");
    assert_eq!(site.masters(), [A], "the infra instances are not concerned");
}

/// I5, V23: nobody else leads while a guest may still run by what was lent to it, however the register is
/// given back; without guests nobody waits for that.
#[test]
fn a_register_that_was_lent_to_guests_is_not_given_back() {
    for has_guests in [false, true] {
        for way in [Command::Move { office: Office::Storage, to: B }, Command::Stop(Office::Storage)] {
            let mut site = with(&[A, B]);
            site.groups.get_mut(&A).unwrap().has_guests = has_guests;
            site.pass(3 * S);
            assert_eq!(primary(&site), Some(A));
            let (given_back, until) = (site.now, site.groups[&A].guests_until);
            site.step(A, Event::Command(way));
            assert!(site.groups[&A].leads.is_none(), "told at once");
            while primary(&site).is_none() {
                site.pass(Duration::from_millis(5));
                assert!(site.now < given_back + 2_000, "nobody leads after {way:?}");
            }
            assert_eq!(primary(&site), Some(B));
            let is_at_once = site.now < given_back + 200;
            assert_eq!(is_at_once, !has_guests, "{way:?} took {} ms", site.now - given_back);
            assert!(until < Instant::from_millis(site.now));
        }
    }
}

/// I5: what guests have given back is not waited for; what others were told is.
#[test]
fn a_register_that_guests_gave_back_is_given_back_at_once() {
    let took = |site: &mut Site, until: u64| {
        let until = Instant::from_millis(until);
        site.groups.get_mut(&A).unwrap().has_guests = false;
        site.step(A, Event::Storage(storage::Event::Returned { until }));
        let given_back = site.now;
        site.step(A, Event::Command(Command::Move { office: Office::Storage, to: B }));
        while primary(site) != Some(B) {
            site.pass(Duration::from_millis(5));
            assert!(site.now < given_back + 2_000, "nobody leads");
        }
        assert!(until <= Instant::from_millis(site.now), "others may run still");
        site.now - given_back
    };
    let begin = || {
        let mut site = with(&[A, B]);
        site.groups.get_mut(&A).unwrap().has_guests = true;
        site.pass(3 * S);
        assert_eq!(primary(&site), Some(A));
        site
    };
    let mut site = begin();
    site.groups.get_mut(&A).unwrap().guests_until = Instant::ZERO;
    assert!(took(&mut site, 0) < 200);
    let mut site = begin();
    let until = site.now + 400;
    site.groups.get_mut(&A).unwrap().guests_until = Instant::from_millis(until);
    let took = took(&mut site, until);
    assert!((400..1_000).contains(&took), "{took} ms");
}

/// I5, V23: whoever starts again does not know what it lent before, and gives nothing back meanwhile.
#[test]
fn guests_of_an_earlier_start_are_not_forgotten() {
    let mut site = with(&[A, B]);
    site.pass(3 * S);
    site.groups.get_mut(&A).unwrap().has_guests = true;
    site.pass(S);
    site.stop(A);
    site.groups.get_mut(&A).unwrap().has_guests = false;
    let until = site.groups[&A].guests_until;
    let nothing = storage::Event::Returned { until: Instant::ZERO };
    // It need not listen to anybody to know that it led.
    site.other.insert(A, |settings| settings.timers.listen = Duration::from_millis(5));
    site.start(A);
    while site.groups[&A].leads.is_none() {
        site.pass(Duration::from_millis(5));
        assert!(Instant::from_millis(site.now + 100) < until, "it leads again before they end");
    }
    // What guests of this start give back says nothing of those.
    site.step(A, Event::Storage(nothing));
    site.step(A, Event::Command(Command::Stop(Office::Storage)));
    site.pass(2 * S);
    assert_eq!(primary(&site), Some(B));
}

/// X14: a holder that fails gives the register back and leaves it to the other, until the operator starts it.
#[test]
fn a_holder_that_failed_does_not_ask() {
    let mut site = with(&[A, B]);
    site.pass(3 * S);
    site.step(A, Event::Command(Command::Stop(Office::Storage)));
    assert!(site.groups[&A].leads.is_none(), "told at once");
    site.pass(S);
    assert_eq!(primary(&site), Some(B));
    let questions = site.groups[&A].questions;
    site.stop(B);
    site.pass(5 * S);
    assert_eq!((primary(&site), site.groups[&A].questions), (None, questions));
    site.step(A, Event::Command(Command::Start(Office::Storage)));
    site.pass(3 * S);
    assert_eq!(primary(&site), Some(A));
}

/// A node without a log has no such office; its vote counts, and it is in nobody's way.
#[test]
fn a_node_without_a_log_votes_only() {
    let mut site = Site::new(&[]);
    site.groups.insert(B, Group { is_in_sync: true, ..Group::default() });
    [A, B, W].into_iter().for_each(|node| site.start(node));
    assert!(site.nodes[&A].post(Office::Storage).is_none());
    site.pass(3 * S);
    assert_eq!(primary(&site), Some(B));
    site.nodes.remove(&W);
    site.pass(3 * S);
    assert_eq!(primary(&site), Some(B));
    say(&mut site, A, storage::Event::Release);
    say(&mut site, A, storage::Event::Decided(Verdict::Leave));
}

/// V20: a fence of the infra office ends the lease of the primary, too.
#[test]
fn a_fence_of_the_infra_office_frees_the_register() {
    let mut site = with(&[A, B]);
    site.fences = true;
    [A, B].into_iter().for_each(|node| {
        site.stop(node);
        site.start(node);
    });
    site.pass(3 * S);
    assert_eq!((primary(&site), site.masters()), (Some(A), [A].into()));
    let cut: BTreeSet<_> = [(A, B), (B, A), (A, W), (W, A)].into();
    site.cut = cut;
    site.pass(2 * S);
    assert_eq!(primary(&site), Some(B), "{:?}", site.told);
}

/// F33, F36, I1, I5: whatever is cut, one leads at most, no guest runs elsewhere, and with a majority one
/// leads.
#[test]
fn at_most_one_leads_whatever_is_cut() {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % bound
    };
    let mut site = with(&[A, B]);
    site.groups.values_mut().for_each(|group| group.has_guests = true);
    let mut led = BTreeSet::new();
    for _ in 0..200 {
        let two = [(A, B), (A, W), (B, W)][usize::try_from(below(3)).unwrap()];
        match below(8) {
            0 | 1 => site.both_ways(two.0, two.1),
            2 => {
                let node = if below(2) == 0 { A } else { B };
                site.stop(node);
                site.start(node);
            }
            3 => {
                let group = site.groups.get_mut(&two.0).unwrap();
                group.is_in_sync = below(3) != 0;
            }
            4 => say(&mut site, two.0, storage::Event::Release),
            5.. => site.cut.clear(),
        }
        site.pass(Duration::from_millis(below(2_500)));
        led.extend(site.groups.values().filter_map(|group| group.leads.as_ref().map(|(epoch, ..)| *epoch)));
    }
    assert!(50 < led.len(), "the walk collapsed: {} epochs", led.len());
    site.cut.clear();
    site.groups.values_mut().for_each(|group| group.is_in_sync = true);
    site.pass(30 * S);
    let (node, _) = site.primary().expect("all are back");
    let now = Instant::from_millis(site.now);
    assert!(site.nodes[&node].post(Office::Storage).unwrap().seat().holds(now).is_some());
}
