//! Clients that mean harm, each beside a good one: it is served as if they were not there (F42, V43).

use super::harness::{Plant, noise};
use super::raw::{Raw, Simple, request};
use bulkhead::nbd::limits::{Limits, OWN_BYTES};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Short times, so that what must end does so while a test can watch.
fn strict() -> Limits {
    let second = Duration::from_secs(1);
    Limits { handshake: second, stall: second, ..Limits::default() }
}

/// Writes and reads a little, and tells the longest time that took.
fn works(address: SocketAddr, rounds: u64) -> Duration {
    let mut raw = Raw::enter(address, "disk");
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let begin = Instant::now();
        let data = noise(round, 4096);
        raw.request(0, 1, round, round * 4096, 4096);
        raw.say(&data);
        assert_eq!(raw.reply(), Simple { error: 0, cookie: round });
        raw.request(0, 0, round, round * 4096, 4096);
        assert_eq!(raw.reply(), Simple { error: 0, cookie: round });
        assert!(raw.take::<4096>() == data[..]);
        slowest = slowest.max(begin.elapsed());
    }
    slowest
}

/// A reply that is late by more than this is a client that was disturbed; far above a busy machine's noise.
const UNDISTURBED: Duration = Duration::from_millis(900);

#[test]
fn a_client_that_does_not_read_is_closed_and_its_memory_is_free_again() {
    let plant = Plant::with(strict());
    let free = plant.server.free_bytes();
    let mut deaf = Raw::enter(plant.tcp, "disk");
    // More than fits into any socket buffer; the server stops reading when its bounds are reached.
    deaf.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for cookie in 0..200 {
        if deaf.0.write_all(&request(0, 0, cookie, 0, 8 << 20)).is_err() {
            break;
        }
    }
    assert!(works(plant.tcp, 300) < UNDISTURBED);
    let begin = Instant::now();
    while plant.server.clients("disk") != 0 {
        assert!(begin.elapsed() < Duration::from_secs(45), "still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(plant.server.free_bytes(), free);
    assert!(deaf.closes());
}

#[test]
fn a_write_that_never_ends_is_closed_and_writes_nothing() {
    let plant = Plant::with(strict());
    let free = plant.server.free_bytes();
    let mut slow = Raw::enter(plant.tcp, "disk");
    slow.request(0, 1, 1, 0, 1 << 20);
    slow.say(&[0xee; 1000]);
    let mut begun = Raw::enter(plant.tcp, "disk");
    begun.say(&request(0, 0, 1, 0, 512)[..11]);
    let mut refused = Raw::enter(plant.tcp, "disk");
    refused.request(0, 1, 1, u64::MAX, 1 << 20);
    assert!(works(plant.tcp, 300) < UNDISTURBED);
    assert!(slow.closes() && begun.closes() && refused.closes());
    let mut file = std::fs::File::open(plant.path("disk")).unwrap();
    let mut bytes = [0; 1000];
    file.read_exact(&mut bytes).unwrap();
    // `works` wrote its own there: nothing of the half-sent write is among it.
    assert!(!bytes.windows(16).any(|run| run == [0xee; 16]));
    assert_eq!(plant.server.free_bytes(), free);
}

#[test]
fn a_write_too_long_to_skip_closes_at_once() {
    let plant = Plant::new();
    for length in [(32 << 20) + 1, u32::MAX] {
        let mut raw = Raw::enter(plant.tcp, "disk");
        raw.request(0, 1, 1, 0, length);
        assert!(raw.closes());
    }
}

#[test]
fn greedy_clients_leave_small_requests_alone() {
    let limits = Limits { shared_bytes: 64 << 20, ..strict() };
    let plant = Plant::with(limits);
    // Each holds as much as it may, and keeps it until it is closed.
    let greedy: Vec<_> = (0..12)
        .map(|_| {
            let mut raw = Raw::enter(plant.tcp, "disk");
            raw.request(0, 1, 1, 0, 32 << 20);
            raw.say(&[0; 100]);
            raw
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    assert!(plant.server.free_bytes() < 32 << 20, "they hold what is shared");
    assert!(works(plant.tcp, 300) < UNDISTURBED);
    const { assert!(16 * 4096 < OWN_BYTES) };
    drop(greedy);
}

#[test]
fn bytes_without_sense_are_answered_or_closed() {
    let plant = Plant::with(strict());
    let mut seeds = 0..400;
    let good = std::thread::spawn({
        let address = plant.tcp;
        move || works(address, 500)
    });
    for seed in &mut seeds {
        let bytes = noise(seed + 1, 200 + (seed as usize * 37) % 3000);
        let mut raw = if seed % 2 == 0 {
            let mut raw = Raw::new(plant.tcp);
            raw.say(&3_u32.to_be_bytes());
            raw
        } else {
            Raw::enter(plant.tcp, "disk")
        };
        // The magic number, so that what follows is looked at.
        let magic: &[u8] =
            if seed % 2 == 0 { b"IHAVEOPT\0\0\0\x07" } else { &[0x25, 0x60, 0x95, 0x13, 0, 0, 0] };
        let _ = raw.0.write_all(magic).and_then(|()| raw.0.write_all(&bytes));
    }
    assert!(good.join().unwrap() < UNDISTURBED);
}

#[test]
fn a_connection_that_says_nothing_ends() {
    let plant = Plant::with(strict());
    let mut silent = Raw::new(plant.tcp);
    let mut trickle = Raw::new(plant.tcp);
    trickle.say(&3_u32.to_be_bytes());
    for byte in b"IHAVEOPT" {
        let _ = trickle.0.write_all(&[*byte]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(trickle.closes() && silent.closes());
    // One that has taken an export may be silent for as long as it likes.
    let mut idle = Raw::enter(plant.tcp, "disk");
    std::thread::sleep(Duration::from_millis(2500));
    idle.request(0, 3, 4, 0, 0);
    assert_eq!(idle.reply(), Simple { error: 0, cookie: 4 });
    drop(TcpStream::connect(plant.tcp).unwrap());
}
