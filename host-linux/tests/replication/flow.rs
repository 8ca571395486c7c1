//! What flows on a stream that nobody hurts: all of it, in order, within bounds of memory and time.

use super::site::{Node, Place, meet, millis, part, until};
use super::traffic::{LARGEST, check, frame};
use super::veiled::veiled;
use bulkhead::replication::service::Replication;
use bulkhead::replication::tally::End;
use bulkhead::replication::words::{News, QUEUE_MAX, Settings, Timing};
use bulkhead::storage::buffers::Pool;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::BLOCK_LEN;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// 100,000 frames of all kinds and sizes in one direction, while the other has its own.
#[test]
fn everything_arrives_in_order() {
    const FRAMES: u64 = 100_000;
    const BACK: u64 = 5_000;
    let place = Place::new();
    let high = Node::start(place.settings(2, 2));
    let low = Node::start(place.settings(1, 2));
    let (to_high, to_low) = meet(&low, &high);
    let paced = |node: &Node, number: u64| {
        // Who feeds a peer looks at what waits for it.
        if number.is_multiple_of(4) {
            until("it is taken", || node.peer().queued < QUEUE_MAX / 16);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..=FRAMES).step_by(4) {
                paced(&low, number / 4);
                let frames = (number..number + 4).map(|number| frame(&low.made, 7, number, 40)).collect();
                low.streams.send(to_high, frames);
            }
        });
        scope.spawn(|| {
            for number in 1..=BACK {
                paced(&high, number);
                high.streams.send(to_low, vec![frame(&high.made, 8, number, LARGEST)]);
            }
        });
        scope.spawn(|| (1..=BACK).for_each(|number| check(&low.frame(), 8, number, LARGEST)));
        (1..=FRAMES).for_each(|number| check(&high.frame(), 7, number, 40));
    });
    let (low, high) = (low.peer(), high.peer());
    assert_eq!((high.frames_in, low.frames_in, low.met, high.met), (FRAMES, BACK, 1, 1));
    // Both count the same bytes, but for words that they are there.
    assert!(high.bytes_in.abs_diff(low.bytes_out) < 10_000 && FRAMES * 1000 < high.bytes_in);
}

/// X07, X11, V16: what waits for a peer that takes nothing is bounded; then the peer is gone, and comes back
/// when it can.
#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    gives_up(|clear| clear);
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_inside_tls() {
    gives_up(veiled);
}

fn gives_up(dress: fn(Settings) -> Settings) {
    let place = Place::new();
    let hold = Arc::new(Mutex::new(()));
    let (held, waits) = (hold.lock().unwrap(), Arc::clone(&hold));
    let inbox = move |news| {
        if matches!(news, News::Frame(..)) {
            drop(waits.lock().unwrap());
        }
    };
    let pool = Pool::new(8 << 20).unwrap();
    let high = Replication::start(dress(place.settings(2, 2)), pool, inbox).unwrap();
    let low = Node::start(dress(Settings { queue_max: 4 << 20, ..place.settings(1, 2) }));
    let stream = low.met();
    let (mut most, mut sent) = (0, 0);
    while low.peer().network.is_some() {
        let begun = Instant::now();
        sent += 1;
        assert!(sent < 2000, "two hundred times what may wait");
        low.streams.send(stream, vec![frame(&low.made, 7, sent, LARGEST)]);
        assert!(begun.elapsed() < millis(2000), "sending does not wait for the peer");
        most = most.max(low.peer().queued);
    }
    assert!((1 << 20..(4 << 20) + 4096).contains(&most), "{most}");
    assert_eq!(low.gone(), NodeId(2));
    until("why is shown", || low.peer().ends.contains_key(&End::Deaf));
    until("all memory is back", || low.made.free() == (32 << 20) / BLOCK_LEN);
    drop(held);
    assert_eq!(low.met().peer(), NodeId(2));
    drop(high);
}

/// V16: without memory the receiver does not read; the peer waits, and is not taken for dead. Then it
/// goes on.
#[test]
fn an_empty_pool_is_waited_for() {
    waits_for_memory(|clear| clear);
}

#[test]
fn an_empty_pool_is_waited_for_inside_tls() {
    waits_for_memory(veiled);
}

fn waits_for_memory(dress: fn(Settings) -> Settings) {
    let place = Place::new();
    let timing = Timing { alive: millis(200), silence: millis(2000), ..Timing::default() };
    let high = Node::with_pool(
        dress(Settings { timing, ..place.settings(2, 2) }),
        Pool::new(LARGEST as usize * BLOCK_LEN).unwrap(),
    );
    let low = Node::start(dress(Settings { timing, ..place.settings(1, 2) }));
    let (stream, _) = meet(&low, &high);
    let taken = high.pool.take(LARGEST as usize).unwrap();
    // More than both sockets hold.
    let large = |number| frame(&low.made, 7, number, LARGEST);
    let frames: Vec<_> = (1..400).filter(|number| !large(*number).is_small()).take(40).collect();
    for number in &frames {
        low.streams.send(stream, vec![large(*number)]);
    }
    high.quiet(millis(4000));
    low.quiet(millis(1));
    assert_eq!((high.peer().waits, low.peer().met), (1, 1));
    drop(taken);
    for number in frames {
        check(&high.frame(), 7, number, LARGEST);
    }
    assert_eq!((low.peer().met, high.peer().met), (1, 1), "the same stream");
}

/// Waiting for memory has an end: the stream breaks, and says why.
#[test]
fn memory_that_never_comes_ends_the_stream() {
    let place = Place::new();
    let timing = Timing { stall: millis(500), ..place.settings(2, 2).timing };
    let pool = Pool::new(64 * BLOCK_LEN).unwrap();
    let high = Node::with_pool(Settings { timing, ..place.settings(2, 2) }, pool);
    let low = Node::start(place.settings(1, 2));
    let (stream, _) = meet(&low, &high);
    let taken = high.pool.take(64).unwrap();
    let number = (1..).find(|number| !frame(&low.made, 7, *number, 2).is_small()).unwrap();
    low.streams.send(stream, vec![frame(&low.made, 7, number, 2)]);
    part(&high, &low);
    until("why is shown", || high.peer().ends.contains_key(&End::Full));
    drop(taken);
    meet(&high, &low);
}

/// Whatever the threads wait for, stopping does not wait for it.
#[test]
fn stopping_takes_bounded_time() {
    stops(|clear| clear);
}

#[test]
fn stopping_takes_bounded_time_inside_tls() {
    stops(veiled);
}

fn stops(dress: fn(Settings) -> Settings) {
    let place = Place::new();
    let high = Node::with_pool(dress(place.settings(2, 2)), Pool::new(64 * BLOCK_LEN).unwrap());
    let low = Node::start(dress(place.settings(1, 3)));
    let (stream, _) = meet(&low, &high);
    let _taken = high.pool.take(64).unwrap();
    let mut number = 0;
    until("one waits for memory, the other to send", || {
        number += 1;
        low.streams.send(stream, vec![frame(&low.made, 7, number, LARGEST)]);
        high.peer().waits == 1 && low.peer().queued != 0
    });
    let begun = Instant::now();
    drop(low);
    drop(high);
    assert!(begun.elapsed() < millis(3000), "{:?}", begun.elapsed());
}

/// Whether a frame has no payload.
trait Small {
    fn is_small(&self) -> bool;
}

impl Small for bulkhead::replication::words::Frame {
    fn is_small(&self) -> bool {
        match self {
            Self::Write { payload, .. } | Self::Fill { payload, .. } | Self::Mend { payload, .. } => {
                payload.is_none()
            }
            Self::Word(_)
            | Self::Filled { .. }
            | Self::Compare { .. }
            | Self::Differs { .. }
            | Self::Compared { .. }
            | Self::Wants { .. }
            | Self::Lacks { .. }
            | Self::Member { .. } => true,
        }
    }
}
