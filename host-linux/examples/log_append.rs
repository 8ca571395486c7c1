//! Appends to a write log on a file for some seconds, and prints what that took as one JSON object: the
//! contestant of `cargo xtask bench log` (P4).
//!
//! `log_append FILE BLOCKS DEPTH SECONDS linked|dsync|threads [MIB]`: makes a log of so many MiB when there
//! is none, and tells how long reading it took when there is one.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a tool for measuring")]

use bulkhead::storage::buffers::{Payload, Pool};
use bulkhead::storage::device::{Device, Part};
use bulkhead::storage::engine::{Engine, Means};
use bulkhead::storage::job::Durably;
use bulkhead::storage::log_disk::{Event, LogDisk};
use bulkhead::storage::recovery;
use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
use bulkhead_core::log::batch::{BlockIndex, Kind, Volume, Write};
use bulkhead_core::log::ring::Ring;
use bulkhead_core::log::superblock::Identity;
use bulkhead_core::log::{Life, Seq};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// MiB of the ring when it is not said.
const RING_MIB: u64 = 256;
const POOL: usize = 32 << 20;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [file, blocks, depth, seconds, way, size @ ..] = arguments.as_slice() else {
        eprintln!("log_append FILE BLOCKS DEPTH SECONDS linked|dsync|threads [MIB]");
        std::process::exit(2);
    };
    let (durably, means) = match way.as_str() {
        "dsync" => (Durably::Dsync, Means::Best),
        "threads" => (Durably::Dsync, Means::Threads),
        _linked => (Durably::Linked, Means::Best),
    };
    let mib = size.first().map_or(RING_MIB, |mib| mib.parse().unwrap());
    let Opened { mut disk, batches, blocks_read, time } =
        open(Path::new(file), durably, means, Ring::new(mib << 8).unwrap());
    let payloads = payloads(&disk, blocks.parse().unwrap());
    let load =
        Load { depth: depth.parse().unwrap(), time: Duration::from_secs_f64(seconds.parse().unwrap()) };
    let mut waits = append(&mut disk, &payloads, &load);
    waits.sort_unstable();
    let at = |part: usize| waits.get(waits.len() * part / 1000).map_or(0.0, |wait| wait.as_secs_f64() * 1e6);
    let rate = f64::from(u32::try_from(waits.len()).unwrap()) / load.time.as_secs_f64();
    let answer = serde_json::json!({
        "per_second": rate, "p50_us": at(500), "p99_us": at(990), "means": disk.engine().means(),
        "lack": disk.engine().lack(), "open_ms": time.as_secs_f64() * 1e3, "batches_read": batches,
        "mib_read": blocks_read >> 8,
    });
    println!("{answer}");
}

struct Load {
    depth: usize,
    time: Duration,
}

struct Opened {
    disk: LogDisk,
    batches: u64,
    blocks_read: u64,
    time: Duration,
}

fn open(path: &Path, durably: Durably, means: Means, ring: Ring) -> Opened {
    let engine = |device| Engine::new(device, Pool::new(POOL).unwrap(), means).unwrap();
    if !path.exists() {
        let identity =
            Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };
        let mut engine = engine(Device::create(path, ring.space()).unwrap());
        recovery::format(&mut engine, identity, ring, Seq(1), &mut |_| {}).unwrap();
    }
    let (begin, mut batches, mut blocks_read) = (Instant::now(), 0, 0);
    let engine = engine(Device::open(path, Part::ALL).unwrap());
    let opened = LogDisk::open(engine, &mut |_, header| {
        batches += 1;
        blocks_read += header.content.blocks();
    });
    let time = begin.elapsed();
    Opened { disk: opened.unwrap().begin(durably).unwrap(), batches, blocks_read, time }
}

/// A few that differ, taken in turn: a guest's memory is not the same page again and again.
fn payloads(disk: &LogDisk, blocks: usize) -> Vec<Payload> {
    let one = |fill: u8| {
        let mut buffer = disk.engine().pool().take(blocks).unwrap();
        for (at, byte) in (0_usize..).zip(buffer.bytes_mut()) {
            *byte = fill.wrapping_mul(31).wrapping_add(u8::try_from(at % 251).unwrap());
        }
        buffer.keep()
    };
    (0..64).map(one).collect()
}

/// How long each write took until it was durable.
fn append(disk: &mut LogDisk, payloads: &[Payload], load: &Load) -> Vec<Duration> {
    let (mut waits, mut asked, mut events) = (Vec::new(), VecDeque::new(), Vec::new());
    let mut turn = payloads.iter().cycle();
    let begin = Instant::now();
    while begin.elapsed() < load.time {
        while asked.len() < load.depth {
            let payload = turn.next().unwrap();
            let blocks = u32::try_from(payload.blocks()).unwrap();
            let write = Write::new(Volume(0), BlockIndex(disk.log().next().0), blocks, Kind::Data).unwrap();
            if disk.append(Epoch(1), write, Some(payload.clone())).is_err() {
                break;
            }
            asked.push_back(Instant::now());
        }
        disk.wait(Duration::from_secs(5), &mut events);
        for event in events.drain(..) {
            match event {
                Event::Durable(seq) => {
                    let behind = usize::try_from(disk.log().next().0 - seq.0 - 1).unwrap();
                    waits.extend(asked.drain(..asked.len() - behind).map(|at: Instant| at.elapsed()));
                    disk.commit_point(seq);
                    if disk.log().free() < disk.superblock().ring.blocks() / 2 {
                        disk.applied(seq);
                    }
                }
                Event::Failed(fault) => panic!("{fault}"),
                Event::Kept | Event::Read(..) => {}
            }
        }
    }
    waits
}
