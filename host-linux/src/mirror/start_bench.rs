//! How long a holder takes from its start to its first answers, with a log that its store has little of
//! (S4-01, F16).

use super::handle::lock;
use super::testing::{Site, ask};
use crate::nbd::export::{Content, Failed, Request, Span};
use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

const GIBI: u64 = 1 << 30;
/// Blocks of one write.
const BLOCKS: usize = 32;
/// Writes that are asked for at once.
const DEPTH: usize = 32;
const LONG: Duration = Duration::from_secs(600);

/// So many GiB, 10 unless told, are acknowledged and not in the stores, which stand still; both nodes die.
/// One starts, leads, and answers a read of what only its log has.
#[test]
#[ignore = "a measurement of minutes that writes 2.5 times as much to the disk, for a quiet machine"]
fn start_with_a_large_dirty_log() {
    let gibi = std::env::var("BULKHEAD_GIB").map_or(10, |text| text.parse().unwrap());
    let mut site = Site::new((gibi + 2) * GIBI);
    let (_, _, volume) = site.pair(gibi * GIBI / 4096);
    let leads = site.await_synced();
    let gates = [1, 2].map(|node| site.handle(node));
    let gates = gates.each_ref().map(|handle| handle.0.store.gate.lock().unwrap());
    let (handle, begun) = (site.handle(leads), Instant::now());
    let mut answers: VecDeque<Receiver<Result<Content, Failed>>> = VecDeque::new();
    for first in (0..gibi * GIBI / 4096).step_by(BLOCKS) {
        if answers.len() == DEPTH {
            answers.pop_front().unwrap().recv_timeout(LONG).unwrap().unwrap();
        }
        let data = vec![u8::try_from(first / 32 % 251).unwrap() + 1; BLOCKS * 4096];
        answers.push_back(ask(&handle, volume, Request::Write { offset: first * 4096, data, durable: true }));
    }
    answers.into_iter().for_each(|answer| drop(answer.recv_timeout(LONG).unwrap().unwrap()));
    let dirty = lock(&handle.0.dirty).data_blocks() * 4096;
    println!("{gibi} GiB written in {:.1} s, {dirty} bytes not in the store", begun.elapsed().as_secs_f64());
    drop((handle, gates));
    [1, 2].into_iter().for_each(|node| site.kill(node));
    let begun = Instant::now();
    site.start(leads);
    println!("{leads} is open after {:.1} s", begun.elapsed().as_secs_f64());
    while !site.handle(leads).view().leads {
        assert!(begun.elapsed() < LONG, "{:#?}", site.handle(leads).view());
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("it leads after {:.1} s", begun.elapsed().as_secs_f64());
    let span = Span { offset: gibi * GIBI - 4096, length: 4096 };
    while ask(&site.handle(leads), volume, Request::Read { span }).recv_timeout(LONG).unwrap().is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let dirty = lock(&site.handle(leads).0.dirty).data_blocks() * 4096;
    println!("it reads after {:.1} s, with {dirty} bytes not in the store", begun.elapsed().as_secs_f64());
}
