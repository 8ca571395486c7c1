//! Thousands of clients (F42, V43).

use super::harness::Plant;
use super::raw::{Raw, Simple};
use bulkhead::nbd::limits::Limits;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[test]
fn thousands_of_half_open_connections_change_nothing_for_others() {
    let plant = Plant::new();
    let mut good = Raw::enter(plant.tcp, "disk");
    let mut crowd = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..40_u64 {
        // This process has both ends: the oldest of ours go when the server has long closed them.
        crowd.extend((0..50).map(|_| TcpStream::connect(plant.tcp).unwrap()));
        crowd.drain(..crowd.len().saturating_sub(700));
        let begin = Instant::now();
        good.request(0, 0, round, 0, 4096);
        assert_eq!(good.reply(), Simple { error: 0, cookie: round });
        good.take::<4096>();
        let mut newcomer = Raw::enter(plant.tcp, "disk");
        newcomer.request(0, 3, 1, 0, 0);
        assert_eq!(newcomer.reply(), Simple { error: 0, cookie: 1 });
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 200, "{threads} threads");
}

#[test]
fn clients_beyond_the_bound_are_told_so_and_those_of_another_kind_are_not_hurt() {
    let plant = Plant::with(Limits { connections: 6, connections_per_peer: 4, ..Limits::default() });
    let go = [&[0, 0, 0, 4][..], b"disk", &[0, 0]].concat();
    let mut inside: Vec<_> = (0..4).map(|_| Raw::enter(plant.tcp, "disk")).collect();
    let mut refused = Raw::new(plant.tcp);
    refused.say(&3_u32.to_be_bytes());
    refused.option(7, &go);
    assert_eq!(refused.answer(), (0x8000_0002, b"too many clients are connected".to_vec()));
    let near = UnixStream::connect(&plant.unix).unwrap();
    near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    drop(near);
    assert_eq!(plant.server.clients("disk"), 4);
    drop(inside.pop());
    let begin = Instant::now();
    while plant.server.clients("disk") == 4 {
        assert!(begin.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    // The same newcomer may try again: its connection was kept.
    std::thread::sleep(Duration::from_millis(50));
    refused.option(7, &go);
    assert_eq!(refused.answer().0, 3);
}
