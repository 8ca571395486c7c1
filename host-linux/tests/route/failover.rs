//! Who leads changes, and dies, in the middle of a stream of writes.

use super::pair::{Pair, QUICK, answer, ask, connect, done, eventually, read, write};
use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::export::{Content, Errno, Failed, Request};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn what_one_node_acknowledged_the_other_reads_and_flushes() {
    let mut pair = Pair::new(QUICK);
    let (a, b) = (pair.client(0), pair.client(1));
    for (round, leads) in [0, 1, 0].into_iter().enumerate() {
        let value = round as u64 + 1;
        pair.lead(leads);
        done(&a, write(1, value));
        assert_eq!(read(&b, 1), Ok(value), "round {round}");
        done(&b, write(2, value));
        done(&a, Request::Flush);
        assert_eq!(read(&a, 2), Ok(value));
        pair.lead(1 - leads);
        assert_eq!(read(&a, 1), Ok(value), "the other leads now");
        done(&b, Request::Flush);
    }
}

#[test]
fn what_was_asked_while_nobody_led_is_done_when_somebody_does_in_order() {
    let mut pair = Pair::new(QUICK);
    let a = pair.client(0);
    let answers: Vec<_> = (1..=200).map(|value| ask(&a, write(7, value))).collect();
    eventually("all wait", || pair.route(0).view().waiting == 200);
    assert!(pair.route(0).view().waits_because.unwrap().contains("no node of the pair leads"));
    pair.lead(0);
    for answer in answers {
        assert!(matches!(answer.recv_timeout(Duration::from_secs(20)).unwrap(), Ok(Content::Done)));
    }
    assert_eq!(pair.nodes[0].holder.taken.load(Ordering::SeqCst), 200);
}

#[test]
fn errors_of_the_storage_are_passed_on_at_once() {
    let mut pair = Pair::new(QUICK);
    let (a, b) = (pair.client(0), pair.client(1));
    pair.lead(1);
    for errno in [Errno::NoSpace, Errno::Io, Errno::Invalid, Errno::Permission, Errno::Unsupported] {
        *pair.nodes[1].holder.fails.lock().unwrap() = Some(Failed::new(errno, "the disk says so"));
        for client in [&a, &b] {
            let failed = answer(client, write(0, 1)).unwrap_err();
            assert_eq!(failed.errno, errno);
        }
    }
    assert_eq!(pair.nodes[1].holder.taken.load(Ordering::SeqCst), 10, "none is tried again");
}

/// A client with a path to each node, as multipath has it; each block has one writer, which knows what it
/// says.
struct Writer {
    sockets: [PathBuf; 2],
    paths: [Option<Client>; 2],
    block: u64,
}

impl Writer {
    /// Over any path that works. An error of a path that is dead now says nothing; others are red.
    fn on_any<T>(&mut self, first: usize, mut work: impl FnMut(&Client) -> Result<T, Failed>) -> T {
        let begin = Instant::now();
        for turn in first.. {
            assert!(begin.elapsed() < Duration::from_secs(60), "block {} hangs", self.block);
            let path = &mut self.paths[turn % 2];
            if path.as_ref().is_none_or(|client| client.ended().is_some()) {
                *path = connect(&self.sockets[turn % 2]);
            }
            let Some(client) = path else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            match work(client) {
                Ok(done) => return done,
                Err(failed) => {
                    let dies = client.ended().is_some() || failed.errno == Errno::Shutdown;
                    assert!(dies, "block {}: {failed:?}", self.block);
                    // Before it asks elsewhere it gives this one up.
                    *path = None;
                }
            }
        }
        unreachable!("it goes on for ever")
    }

    fn run(mut self, over: &AtomicBool, acknowledged: &AtomicU64) -> (u64, u64) {
        let mut value = 0;
        while !over.load(Ordering::SeqCst) {
            value += 1;
            let (block, first) = (self.block, (value % 2) as usize);
            self.on_any(first, |client| answer(client, write(block, value)).map(|_| ()));
            acknowledged.fetch_add(1, Ordering::SeqCst);
            let seen = self.on_any(first + 1, |client| read(client, block));
            assert_eq!(seen, value, "block {block}: old or foreign data after an acknowledged write");
        }
        (self.block, value)
    }
}

fn writers(
    pair: &Pair,
    over: &Arc<AtomicBool>,
    count: &Arc<AtomicU64>,
) -> Vec<std::thread::JoinHandle<(u64, u64)>> {
    let sockets = [pair.nodes[0].unix.clone(), pair.nodes[1].unix.clone()];
    let start = |block| {
        let (over, count) = (Arc::clone(over), Arc::clone(count));
        let writer = Writer { sockets: sockets.clone(), paths: [None, None], block };
        std::thread::spawn(move || writer.run(&over, &count))
    };
    (0..6).map(start).collect()
}

fn under_load(mut disturb: impl FnMut(&mut Pair, usize)) {
    let mut pair = Pair::new(QUICK);
    pair.lead(0);
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers = writers(&pair, &over, &count);
    for round in 0..12 {
        // Each round under load: some writes are acknowledged before and after.
        let before = count.load(Ordering::SeqCst);
        eventually("writes go on", || before + 20 < count.load(Ordering::SeqCst));
        disturb(&mut pair, round);
    }
    over.store(true, Ordering::SeqCst);
    let last: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    for node in 0..2 {
        let client = pair.client(node);
        for (block, value) in &last {
            assert_eq!(read(&client, *block), Ok(*value));
        }
    }
}

#[test]
fn a_stream_of_writes_survives_that_another_node_leads() {
    under_load(|pair, round| pair.lead((round + 1) % 2));
}

#[test]
fn a_stream_of_writes_survives_that_nobody_leads_for_a_while_and_requests_are_lost() {
    under_load(|pair, round| {
        let leads = round % 2;
        pair.nodes[leads].holder.stands_still.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        // What it kept it never did; nobody knows but itself.
        pair.nodes[leads].holder.stop();
        std::thread::sleep(Duration::from_millis(20));
        pair.lead(1 - leads);
    });
}

#[test]
fn a_stream_of_writes_survives_the_death_of_the_node_that_leads() {
    under_load(|pair, round| {
        let leads = round % 2;
        pair.kill(leads);
        pair.lead(1 - leads);
        std::thread::sleep(Duration::from_millis(10));
        pair.restart(leads);
        pair.tell();
    });
}
