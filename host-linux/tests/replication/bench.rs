//! What a stream costs, in the clear and inside TLS: a block there and a word back, and large writes one
//! after the other. By hand, with
//! `cargo test --release -p bulkhead --test replication -- --ignored --nocapture bench`.

use super::site::{Node, Place, meet, until};
use super::traffic::frame;
use super::veiled::veiled;
use bulkhead::replication::words::{Frame, Settings};
use bulkhead::storage::buffers::Pool;
use bulkhead_core::holder::words::Word;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use std::time::{Duration, Instant};

/// A write of so many blocks.
fn write(pool: &Pool, blocks: u32) -> Frame {
    let is_it = |frame: &Frame| match frame {
        Frame::Write { write, payload, .. } => payload.is_some() && write.blocks() == blocks,
        Frame::Word(_) | Frame::Fill { .. } | Frame::Filled { .. } => false,
        Frame::Compare { .. } | Frame::Differs { .. } | Frame::Compared { .. } => false,
        Frame::Wants { .. } | Frame::Mend { .. } | Frame::Lacks { .. } | Frame::Member { .. } => false,
    };
    (1..).map(|number| frame(pool, 1, number, blocks)).find(is_it).unwrap()
}

fn have(seq: u64) -> Frame {
    Frame::Word(Box::new(Word::Have { epoch: Epoch(1), durable: Seq(seq) }))
}

#[test]
#[ignore = "a measurement of some minutes, for a quiet machine"]
fn bench() {
    for round in 1..=3 {
        println!("round {round}");
        measure("in the clear", |clear| clear);
        measure("inside TLS", veiled);
    }
}

fn measure(how: &str, dress: fn(Settings) -> Settings) {
    const ROUNDS: usize = 20_000;
    let place = Place::new();
    let high = Node::start(dress(place.settings(2, 2)));
    let low = Node::start(dress(place.settings(1, 2)));
    let (to_high, to_low) = meet(&low, &high);
    for blocks in [1, 32] {
        let write = write(&low.made, blocks);
        let mut times: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(|| {
                for seq in 0..ROUNDS {
                    high.frame();
                    high.streams.send(to_low, vec![have(seq as u64)]);
                }
            });
            let round = |_| {
                let begun = Instant::now();
                low.streams.send(to_high, vec![write.clone()]);
                low.frame();
                begun.elapsed()
            };
            (0..ROUNDS).map(round).collect()
        });
        times.sort_unstable();
        let at = |percent: usize| times[ROUNDS * percent / 100].as_micros();
        println!("{how}: {blocks} blocks there, a word back: p50 {} us, p99 {} us", at(50), at(99));
    }
    let write = write(&low.made, 32);
    let (begun, used) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..ROUNDS).for_each(|_| drop(high.frame())));
        for _ in 0..ROUNDS {
            until("it is taken", || low.peer().queued < 8 << 20);
            low.streams.send(to_high, vec![write.clone()]);
        }
    });
    let mebibytes = ROUNDS as f64 / 8.0;
    let (took, used) = (begun.elapsed(), processor() - used);
    let each = used.as_micros() / ROUNDS as u128;
    let rate = mebibytes / took.as_secs_f64();
    println!("{how}: 128 KiB writes: {rate:.0} MiB/s, {each} us of processor each, at both ends together");
}

/// What this process has used of the processors.
fn processor() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
