//! Every request ends, whoever believes what; connections and sizes are what they were told.

use super::pair::{Pair, QUICK, SIZE, answer, ask, done, eventually, read, write};
use bulkhead::nbd::export::{Errno, Export as _};
use bulkhead::volume::route::Settings;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SHORT: Settings = Settings { patience: Duration::from_millis(600), ..QUICK };

/// A write at `node` fails in time, and says why.
fn fails(pair: &Pair, node: usize) -> String {
    let client = pair.client(node);
    let begin = Instant::now();
    let failed = answer(&client, write(0, 1)).unwrap_err();
    let took = begin.elapsed();
    assert_eq!(failed.errno, Errno::Io);
    assert!(SHORT.patience <= took && took < SHORT.patience + Duration::from_secs(3), "{took:?}");
    failed.why
}

/// As [`fails`], because the other node does not lead either. A request that is there when its time is over
/// is only said to be there: then it is asked for again.
fn fails_for_nobody_leads(pair: &Pair, node: usize) {
    let is_said = (0..5).any(|_| {
        let why = fails(pair, node);
        let is_said = why.contains("does not lead");
        assert!(is_said || why.contains("it may or may not be done"), "{why}");
        is_said
    });
    assert!(is_said, "five times in a row the other node did not say that it does not lead");
}

#[test]
fn when_nobody_leads_every_request_ends_and_says_why() {
    let pair = Pair::new(SHORT);
    for node in 0..2 {
        let why = fails(&pair, node);
        assert!(why.contains("no node of the pair leads") && why.contains("nothing of it was done"), "{why}");
    }
}

#[test]
fn when_each_node_takes_the_other_for_the_one_that_leads_nothing_goes_in_circles() {
    let pair = Pair::new(SHORT);
    for node in 0..2 {
        *pair.nodes[node].holder.primary.lock().unwrap() = Some(pair.nodes[1 - node].tcp);
    }
    pair.tell();
    (0..2).for_each(|node| fails_for_nobody_leads(&pair, node));
    // And one that takes itself for it.
    *pair.nodes[0].holder.primary.lock().unwrap() = Some(pair.nodes[0].tcp);
    fails_for_nobody_leads(&pair, 0);
    for node in &pair.nodes {
        assert_eq!(node.holder.taken.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_node_that_cannot_be_reached_is_named() {
    let mut pair = Pair::new(SHORT);
    pair.lead(1);
    pair.nodes[1].alive = None;
    let why = fails(&pair, 0);
    assert!(why.contains(&pair.nodes[1].tcp.to_string()) && why.contains("nothing of it was done"), "{why}");
}

#[test]
fn a_node_that_leads_and_does_not_answer_leaves_it_open_what_was_done() {
    for (leads, asked) in [(0, 0), (1, 0)] {
        let mut pair = Pair::new(SHORT);
        pair.lead(leads);
        pair.nodes[leads].holder.stands_still.store(true, Ordering::SeqCst);
        let why = fails(&pair, asked);
        assert!(why.contains("does not answer") && why.contains("may or may not"), "{why}");
        pair.nodes[leads].holder.go_on();
        let client = pair.client(asked);
        done(&client, write(1, 1));
    }
}

#[test]
fn a_volume_that_grew_is_reached_beyond_its_old_end_by_whoever_was_told() {
    let mut pair = Pair::new(QUICK);
    let last = SIZE / 4096 - 1;
    for node in &pair.nodes {
        node.holder.size.store(SIZE / 2, Ordering::SeqCst);
    }
    pair.lead(1);
    let small = pair.client(0);
    done(&small, write(0, 1));
    assert_eq!(answer(&small, write(last, 1)).unwrap_err().errno, Errno::NoSpace);
    for node in &pair.nodes {
        node.holder.size.store(SIZE, Ordering::SeqCst);
    }
    let large = pair.client(0);
    assert_eq!((small.geometry().size(), large.geometry().size()), (SIZE / 2, SIZE));
    done(&large, write(last, 2));
    assert_eq!(read(&large, last), Ok(2));
    assert_eq!(
        answer(&small, write(last, 3)).unwrap_err().errno,
        Errno::NoSpace,
        "it keeps what it was told"
    );
    // The other side does not know of it yet: it is asked once more, and its word is passed on.
    pair.nodes[1].holder.size.store(SIZE / 2, Ordering::SeqCst);
    pair.lead(1);
    assert_eq!(answer(&large, write(last, 4)).unwrap_err().errno, Errno::NoSpace);
}

#[test]
fn the_connection_between_nodes_is_closed_when_it_is_not_used() {
    let mut pair = Pair::new(Settings { idle: Duration::from_millis(300), ..QUICK });
    pair.lead(1);
    let client = pair.client(0);
    assert_eq!(pair.route(0).view().connected_to, None);
    done(&client, write(0, 1));
    assert_eq!(pair.route(0).view().connected_to, Some(pair.nodes[1].tcp));
    eventually("it is closed", || pair.route(0).view().connected_to.is_none());
    done(&client, write(0, 2));
}

#[test]
fn many_clients_at_once_share_one_connection_and_all_are_answered() {
    let mut pair = Pair::new(QUICK);
    pair.lead(1);
    let clients: Vec<_> = (0..4).map(|_| pair.client(0)).collect();
    let asked = |value: u64| ask(&clients[(value % 4) as usize], write(value % 64, value));
    let answers: Vec<_> = (0..1000).map(asked).collect();
    for answer in answers {
        assert!(answer.recv_timeout(Duration::from_secs(30)).unwrap().is_ok());
    }
    assert_eq!(pair.nodes[1].holder.taken.load(Ordering::SeqCst), 1000);
    let view = pair.route(0).view();
    assert_eq!((view.requests, view.waiting, view.waits_because), (0, 0, None));
}

#[test]
fn a_volume_that_goes_away_leaves_nobody_waiting() {
    let mut pair = Pair::new(QUICK);
    let client = pair.client(0);
    let answer = ask(&client, write(0, 1));
    eventually("it waits", || pair.route(0).view().waiting == 1);
    let begin = Instant::now();
    pair.kill(0);
    assert!(answer.recv_timeout(Duration::from_secs(10)).unwrap().is_err());
    assert!(begin.elapsed() < Duration::from_secs(5));
}
