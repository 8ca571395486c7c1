//! Stories of changes of voters that failed half-way, and of what they and lost disks leave with single
//! voters (X04, F25); and of what the record is to say (I4).

use super::tests::{epoch, only_the_first_accepts};
use super::*;
use crate::register::testing::{LEASE, Message, REGISTER, Sent, Site, Verdicts};

/// Lets `millis` pass while a node hears no voter but `other`, not even its own.
fn pass_with_one_voter(site: &mut Site, node: u16, other: u16, millis: u64) {
    let (node, other) = (NodeId(node), NodeId(other));
    for _ in 0..millis / 5 {
        site.now += 5_000;
        site.timeouts();
        while !site.wire.is_empty() {
            let sent = site.wire.remove(0);
            if [(node, other), (other, node)].contains(&(sent.from, sent.to)) {
                site.arrive(sent);
            }
        }
    }
}

/// X04, I1: an attempt that failed left one voter with a record that makes it the only one, in the epoch that
/// the other then won. That the epoch was chosen does not make this record the one that was.
#[test]
fn who_lost_the_register_takes_no_record_for_the_one_it_won() {
    let mut site = Site::new(3, 11);
    site.want(1, Wish::Hold);
    site.pass(LEASE);
    site.seat_step(NodeId(1), Event::Revote(Set::on([NodeId(1)]).unwrap()));
    only_the_first_accepts(&mut site);
    let attempt = site.machine(1).voter.accepted(REGISTER).unwrap();
    assert_eq!(attempt.voters.current.iter().count(), 1);
    site.machine(1).up = false;
    site.machine(1).wish = Wish::Follow;
    site.want(2, Wish::Hold);
    site.pass(3 * LEASE);
    assert_eq!((site.holders(), epoch(&mut site, 2)), (std::vec![NodeId(2)], attempt.epoch));

    site.now += 30_000_000;
    site.restart(NodeId(1));
    pass_with_one_voter(&mut site, 2, 1, 3_000);
    assert_eq!(site.told().last().unwrap(), "2 expired", "one voter decides nothing");
    site.pass(3 * LEASE);
    assert_eq!(site.holders(), [NodeId(2)], "all are heard again");
}

fn revote(nodes: &[u16]) -> Event {
    Event::Revote(Set::on(nodes.iter().map(|node| NodeId(*node))).unwrap())
}

fn asks_to_accept(site: &Site) -> bool {
    let accepts = |sent: &Sent| match &sent.message {
        Message::Request(request) => matches!(request.body, Ask::Accept { .. }),
        Message::Answer(_) => false,
    };
    site.wire.iter().any(accepts)
}

/// Delivers what is said to and by these voters and loses the rest, until something is so.
fn with_voters(site: &mut Site, voters: &[u16], is_so: fn(&Site) -> bool) {
    while !site.wire.is_empty() && !is_so(site) {
        let sent = site.wire.remove(0);
        let voter = match &sent.message {
            Message::Request(_) => sent.to,
            Message::Answer(_) => sent.from,
        };
        if voters.contains(&voter.0) {
            site.arrive(sent);
        }
    }
}

/// X04, I1: two attempts of one holder in one epoch. The first, by which it would decide alone, reached voter
/// 3 only; the second was chosen by 2, 4 and 5. Voters 1 and 3, who know nothing of that, decide nothing.
#[test]
fn of_two_attempts_in_one_epoch_only_the_chosen_one_counts() {
    let mut site = Site::new(5, 11);
    site.want(1, Wish::Hold);
    site.pass(LEASE);
    site.seat_step(NodeId(1), revote(&[1]));
    with_voters(&mut site, &[1, 2, 3, 4, 5], asks_to_accept);
    with_voters(&mut site, &[3], |_| false);
    site.seat_step(NodeId(1), revote(&[1, 2, 4]));
    site.now += 170_000;
    site.timeouts();
    with_voters(&mut site, &[1, 2, 4, 5], asks_to_accept);
    with_voters(&mut site, &[2, 4, 5], |site| site.told().len() == 3);
    let held = |site: &mut Site, node: u16| site.machine(node).voter.accepted(REGISTER).unwrap();
    let (first, second) = (held(&mut site, 3), held(&mut site, 2));
    assert_eq!((first.epoch, first.holder), (second.epoch, second.holder));
    assert_ne!(first.voters, second.voters);

    with_voters(&mut site, &[1, 3], |_| false);
    assert_eq!(site.told().last().unwrap(), "1 holds 3", "nothing was decided since");
    site.cut = [NodeId(1)].into();
    site.want(2, Wish::Hold);
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [NodeId(2)]);
}

/// Voters 1 and 3 chose a record that 2 never heard of; then the disk of 1 is replaced.
fn with_one_who_knows() -> Site {
    let mut site = Site::new(3, 11);
    site.cut = [NodeId(2)].into();
    site.want(1, Wish::Hold);
    site.pass(LEASE);
    site.machine(1).wish = Wish::Follow;
    site.now += 30_000_000;
    site.wipe(NodeId(1));
    site.wire.clear();
    site.cut.clear();
    site
}

/// F25, I1: voter 1, whose disk was replaced, and voter 2, which never heard of the record, are a majority
/// that has none. The record that voter 3 kept comes to light while a first one is written: it was not the
/// first.
#[test]
fn who_learns_of_a_record_meanwhile_founds_no_other() {
    let mut site = with_one_who_knows();

    site.want(2, Wish::Hold);
    let mut late = std::vec::Vec::new();
    while !asks_to_accept(&site) {
        let sent = site.wire.remove(0);
        if sent.to == NodeId(3) {
            late.push(sent);
        } else {
            site.arrive(sent);
        }
    }
    late.into_iter().for_each(|sent| site.arrive(sent));
    site.settle();
    assert_eq!(site.told(), ["1 holds 1"], "there is an epoch 1 already");
    site.pass(3 * LEASE);
    assert_eq!((site.holders(), site.told()[1].as_str()), ([NodeId(2)].into(), "2 holds 2"));
}

/// F25, I1: the same, when the record comes to light before anything is written.
#[test]
fn who_learns_of_a_record_in_time_asks_its_voters() {
    let mut site = with_one_who_knows();

    // It is read from voter 3, whose answer is late.
    site.timeouts();
    let is_of_3 = |sent: &Sent| sent.to == NodeId(3) && sent.from == NodeId(2);
    let (mut late, others): (std::vec::Vec<_>, _) = site.wire.drain(..).partition(is_of_3);
    site.wire = others;
    site.settle();
    late.drain(..).for_each(|sent| site.arrive(sent));
    let late = std::mem::take(&mut site.wire);
    assert!(!late.is_empty());
    site.want(2, Wish::Hold);
    let asked = site.wire.iter().position(|sent| sent.to == NodeId(2)).unwrap();
    site.deliver(asked);
    late.into_iter().for_each(|sent| site.arrive(sent));
    site.wire.retain(|sent| !is_of_3(sent));
    site.settle();
    assert_eq!(site.told(), ["1 holds 1"], "two voters without a record are not asked to found one");
    let held = |site: &mut Site, node| site.machine(node).voter.accepted(REGISTER).is_some();
    assert_eq!([1, 2, 3].map(|node| held(&mut site, node)), [false, false, true]);
    site.pass(3 * LEASE);
    assert_eq!(site.holders(), [], "of the two that decided then, one has forgotten");
}

fn rewrite(said: &[u8]) -> Event {
    Event::Rewrite(Payload::from_slice(said).unwrap())
}

/// What the newest record says that this node was told it holds.
fn held(site: &Site, node: u16) -> Record {
    let records = site.log.iter().rev().filter(|(told, _)| *told == NodeId(node));
    let record = |(_, action): &(NodeId, Action)| match action {
        Action::Held(record) => Some(record.clone()),
        Action::Ask { .. } | Action::Decide { .. } | Action::Lost(_) | Action::Seen(_) => None,
    };
    records.clone().find_map(record).unwrap()
}

/// I4: what a holder has its record say is what the next one finds, whoever was away meanwhile.
#[test]
fn what_the_record_is_to_say_is_chosen_and_found_by_the_next_holder() {
    let mut site = Site::new(3, 5);
    site.seat_step(NodeId(1), rewrite(&[9]));
    site.want(1, Wish::Hold);
    site.pass(LEASE);
    let before = held(&site, 1);
    assert_eq!(before.payload, [], "who does not hold it changes nothing");
    site.cut = [NodeId(3)].into();
    site.seat_step(NodeId(1), rewrite(&[1, 2]));
    site.pass(LEASE);
    let after = held(&site, 1);
    assert_eq!((after.payload.as_slice(), after.epoch), (&[1, 2][..], before.epoch.next()));
    assert_eq!(after.voters, before.voters);
    site.seat_step(NodeId(1), rewrite(&[1, 2]));
    site.pass(LEASE);
    assert_eq!(held(&site, 1), after, "nothing is to be changed");

    site.cut = [NodeId(1)].into();
    site.log.clear();
    site.want(2, Wish::Hold);
    site.pass(10 * LEASE);
    let found = site.log.iter().rev().find_map(|(_, action)| match action {
        Action::Decide { current } => current.clone(),
        Action::Ask { .. } | Action::Held(_) | Action::Lost(_) | Action::Seen(_) => None,
    });
    assert_eq!(found, Some(after));
}

/// I4: a change that a majority did not hear of is tried again until it is chosen, together with a change of
/// voters; one that the register was lost over is forgotten.
#[test]
fn what_the_record_is_to_say_is_tried_again_and_forgotten_with_the_register() {
    let mut site = Site::new(3, 6);
    site.want(1, Wish::Hold);
    site.pass(LEASE);
    site.seat_step(NodeId(1), rewrite(&[7]));
    with_voters(&mut site, &[1, 2, 3], asks_to_accept);
    with_voters(&mut site, &[1], |_| false);
    assert_eq!(held(&site, 1).payload, []);
    site.seat_step(NodeId(1), revote(&[1, 2]));
    site.pass(2 * LEASE);
    let now = held(&site, 1);
    assert_eq!((now.payload.as_slice(), now.voters.all().count()), (&[7][..], 2));

    site.seat_step(NodeId(1), rewrite(&[8]));
    site.wire.clear();
    site.want(1, Wish::Follow);
    site.pass(LEASE);
    site.want(1, Wish::Hold);
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [NodeId(1)]);
    assert_eq!(held(&site, 1).payload, [], "the machine above decided anew");
}

fn questions(site: &Site) -> usize {
    site.log.iter().filter(|(_, action)| matches!(action, Action::Decide { .. })).count()
}

/// X14, V11: a register that the machine above leaves, or does not decide about in time, is asked for again
/// while it is wanted: soon, then ever more seldom, for each attempt is a write on every voter's disk.
#[test]
fn what_is_left_is_asked_for_again() {
    for verdicts in [Verdicts::Leave, Verdicts::Late] {
        let mut site = Site::new(3, 7);
        site.verdicts = verdicts;
        site.want(1, Wish::Hold);
        site.pass(5 * LEASE);
        let seat = |site: &mut Site| site.machine(1).seat.clone().unwrap();
        assert!(matches!(seat(&mut site).mode(), Mode::Pausing { wait: Wait::Verdict, .. }));
        let soon = questions(&site);
        assert!((3..=5).contains(&soon), "{verdicts:?}: {soon} questions in 3 s");
        site.pass(500 * LEASE);
        let later = questions(&site) - soon;
        assert!((14..=22).contains(&later), "{verdicts:?}: {later} questions in 5 minutes");
        assert_eq!(site.told(), [] as [&str; 0]);

        // Not wanted meanwhile: asked for soon again.
        site.want(1, Wish::Follow);
        site.verdicts = Verdicts::Take;
        site.want(1, Wish::Hold);
        site.pass(LEASE);
        assert_eq!(site.holders(), [NodeId(1)], "{verdicts:?}");
    }
}
