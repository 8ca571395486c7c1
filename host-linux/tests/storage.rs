//! V1, V12, V13, F12, F14, F16: the write log on real files. Whatever was reported durable is found after the
//! writer was killed, with its content; a disk without room fails the log and nothing else.
//!
//! `STORAGE_ROUNDS=500 cargo test -p bulkhead --test storage` kills that many writers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is a red test"
)]

use bulkhead::storage::buffers::{Payload, Pool};
use bulkhead::storage::device::{Device, Part};
use bulkhead::storage::engine::{Engine, Means};
use bulkhead::storage::job::{Durably, Fault};
use bulkhead::storage::log_disk::{Event, LogDisk, Unopened, Unread};
use bulkhead::storage::recovery;
use bulkhead::storage::space::{ReadId, crc32c};
use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
use bulkhead_core::log::batch::{BlockIndex, Kind, Sum, Volume, Write};
use bulkhead_core::log::ring::{BLOCKS_MIN, Position, Ring};
use bulkhead_core::log::scan::Outcome;
use bulkhead_core::log::superblock::{Fault as Unusable, Identity};
use bulkhead_core::log::writer::Refusal;
use bulkhead_core::log::{BLOCK_LEN, Life, Seq};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EPOCH: Epoch = Epoch(3);
/// Says to a child of the test which log it writes to.
const CHILD: &str = "STORAGE_TEST_CHILD";

fn ring() -> Ring {
    Ring::new(BLOCKS_MIN).unwrap()
}

fn engine(path: &Path, means: Means) -> Engine {
    Engine::new(Device::open(path, Part::ALL).unwrap(), Pool::new(16 << 20).unwrap(), means).unwrap()
}

fn format(path: &Path) {
    let device = Device::create(path, ring().space()).unwrap();
    let mut engine = Engine::new(device, Pool::new(8 << 20).unwrap(), Means::Best).unwrap();
    let identity =
        Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };
    let mut told = Vec::new();
    recovery::format(&mut engine, identity, ring(), Seq(1), &mut |blocks| told.push(blocks)).unwrap();
    assert!(told.is_sorted() && told.last() == Some(&BLOCKS_MIN), "progress: {told:?}");
}

/// What write `seq` is: one to seven blocks, each of which tells where it belongs.
fn write(seq: Seq) -> Write {
    let blocks = u32::try_from(seq.0 % 7 + 1).unwrap();
    Write::new(Volume(1), BlockIndex(seq.0 * 10), blocks, Kind::Data).unwrap()
}

fn content(seq: Seq) -> Vec<u8> {
    let word = |block: u32| (seq.0 << 8 | u64::from(block)).to_le_bytes();
    (0..write(seq).blocks()).flat_map(|block| word(block).repeat(BLOCK_LEN / 8)).collect()
}

fn payload(disk: &LogDisk, seq: Seq) -> Option<Payload> {
    let mut buffer = disk.engine().pool().take(write(seq).payload())?;
    buffer.bytes_mut().copy_from_slice(&content(seq));
    Some(buffer.keep())
}

/// Where the payload of each write is, and its checksums.
type Found = BTreeMap<Seq, (Position, Vec<Sum>)>;

fn open(path: &Path, means: Means) -> (LogDisk, Found) {
    let mut found = Found::new();
    let opened = LogDisk::open(engine(path, means), &mut |superblock, header| {
        let mut at = header.at.after(1);
        let mut sums = header.content.sums();
        for (seq, one) in (header.first.0..).map(Seq).zip(header.content.writes()) {
            let (here, rest) = sums.split_at(one.payload());
            assert!(!superblock.is_void(header.at, seq));
            assert_eq!(*one, write(seq));
            found.insert(seq, (at, here.to_vec()));
            at = at.after(one.payload() as u64);
            sums = rest;
        }
    });
    (opened.unwrap().begin(Durably::default()).unwrap(), found)
}

fn read(disk: &mut LogDisk, at: Position, sums: Vec<Sum>) -> Result<Payload, Unread> {
    disk.read(ReadId(7), at, sums);
    let (mut events, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < Duration::from_secs(30) {
        disk.wait(Duration::from_secs(1), &mut events);
        for event in events.drain(..) {
            if let Event::Read(ReadId(7), result) = event {
                return result;
            }
        }
    }
    panic!("no answer");
}

/// Appends up to write `last`, and applies everything some way behind; tells what is durable.
fn append(disk: &mut LogDisk, last: Seq, tell: &mut dyn FnMut(Seq)) -> Result<(), Fault> {
    let mut events = Vec::new();
    while disk.log().durable() < last {
        while disk.log().next() <= last {
            let seq = disk.log().next();
            let Some(payload) = payload(disk, seq) else { break };
            match disk.append(EPOCH, write(seq), Some(payload)) {
                Ok(given) => assert_eq!(given, seq),
                Err(Refusal::Busy) => break,
                Err(other) => panic!("{other:?}"),
            }
        }
        // Here, and not when something is durable: a log may be full from the start.
        if disk.log().free() < BLOCKS_MIN / 2 {
            disk.applied(Seq(disk.log().durable().0.saturating_sub(20)));
        }
        disk.wait(Duration::from_secs(5), &mut events);
        for event in events.drain(..) {
            match event {
                Event::Durable(seq) => {
                    tell(seq);
                    disk.commit_point(seq);
                }
                Event::Failed(fault) => return Err(fault),
                Event::Kept | Event::Read(..) => {}
            }
        }
    }
    Ok(())
}

/// Everything in the log is what was written, without a gap, and nothing up to `durable` is missing.
fn verify(path: &Path, durable: Seq) -> Seq {
    let (mut disk, found) = open(path, Means::Best);
    let first = disk.superblock().tail.first;
    let seqs: Vec<_> = found.keys().map(|seq| seq.0).collect();
    let expected: Vec<_> = (first.0..disk.log().next().0).collect();
    assert_eq!(seqs, expected, "a gap");
    assert!(
        durable < disk.log().next(),
        "{durable:?} was durable, the log ends before {:?}",
        disk.log().next()
    );
    assert!(first.before() <= disk.superblock().applied);
    for (seq, (at, sums)) in found {
        let payload = read(&mut disk, at, sums).unwrap();
        assert!(payload.bytes() == content(seq), "write {} has another content", seq.0);
    }
    disk.log().durable()
}

#[test]
fn the_processors_checksum_is_the_cores() {
    for len in [0, 1, 7, 64, 4092, 4096, 5000] {
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        assert_eq!(crc32c(&bytes), bulkhead_core::crc::crc32c(&bytes));
    }
}

/// V12: again and again around the ring, by every means.
#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    for (means, durably) in [
        (Means::Best, Durably::Dsync),
        (Means::Best, Durably::Linked),
        (Means::Threads, Durably::Dsync),
        (Means::Threads, Durably::Linked),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        format(&path);
        let mut last = Seq(0);
        for round in 1..=3 {
            last = last.after(300 * round);
            let opened = LogDisk::open(engine(&path, means), &mut |_, _| {}).unwrap();
            let mut disk = opened.begin(durably).unwrap();
            append(&mut disk, last, &mut |_| {}).unwrap();
            assert_eq!(disk.superblock().run.number, u64::from(u32::try_from(round * 2 - 1).unwrap()));
            drop(disk);
            assert_eq!(verify(&path, last), last, "{means:?}, {durably:?}");
        }
    }
}

/// F3, F4, F7, V5: what was changed behind our back is never returned.
#[test]
fn a_read_of_what_is_not_what_was_written_brings_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    format(&path);
    let (mut disk, _) = open(&path, Means::Best);
    append(&mut disk, Seq(40), &mut |_| {}).unwrap();
    drop(disk);
    let (mut disk, found) = open(&path, Means::Best);
    let (at, sums) = found[&Seq(10)].clone();
    let byte = ring().extents(at, 1).next().unwrap().first * BLOCK_LEN as u64 + 9;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xee], byte).unwrap();
    assert_eq!(read(&mut disk, at, sums).unwrap_err(), Unread::Broken);
    let (at, sums) = found[&Seq(11)].clone();
    assert!(read(&mut disk, at, sums).unwrap().bytes() == content(Seq(11)));
}

/// F7, F15, V40: what is no log, or less than it was, is not opened, and nothing is written to it.
#[test]
fn what_is_no_whole_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, vec![0; 8 << 20]).unwrap();
    let open = || LogDisk::open(engine(&path, Means::Best), &mut |_, _| {});
    assert_eq!(open().unwrap_err(), Unopened::Unusable(Unusable::Blank));
    std::fs::write(&path, vec![7; 8 << 20]).unwrap();
    assert_eq!(open().unwrap_err(), Unopened::Unusable(Unusable::Damaged));
    std::fs::remove_file(&path).unwrap();
    format(&path);
    let (mut disk, _) = self::open(&path, Means::Best);
    // Later batches say that the first ones were durable.
    for last in [10, 20, 30] {
        append(&mut disk, Seq(last), &mut |_| {}).unwrap();
    }
    drop(disk);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The header of the second batch, behind the superblocks, a header, and the two blocks of write 1.
    file.write_all_at(&[0; BLOCK_LEN], 5 * BLOCK_LEN as u64).unwrap();
    let opened = open().unwrap();
    assert!(matches!(opened.outcome, Outcome::Damaged(end) if end.next == Seq(2)), "{:?}", opened.outcome);
    assert_eq!(opened.begin(Durably::default()).unwrap_err(), Unopened::Damaged);
    file.set_len(100 * BLOCK_LEN as u64).unwrap();
    assert_eq!(open().unwrap_err(), Unopened::Fault(Fault::Ended));
}

/// Not a test by itself: the writer that the tests below start, kill, and starve.
#[test]
fn child_writer() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (mut disk, _) = open(Path::new(&path), Means::Best);
    let mut out = std::io::stdout();
    let told = append(&mut disk, Seq(u64::MAX), &mut |seq| writeln!(out, "durable {}", seq.0).unwrap());
    println!("failed {}", told.unwrap_err());
    assert_eq!(disk.append(EPOCH, write(disk.log().next()), None), Err(Refusal::Failed));
}

fn child(path: &Path, limits: &str) -> Child {
    let command = format!("{limits} exec \"$0\" --exact child_writer --nocapture --test-threads 1");
    let mut shell = Command::new("sh");
    // This very program, even if another build has replaced its file meanwhile.
    shell.args(["-c", &command]).arg(format!("/proc/{}/exe", std::process::id()));
    shell.env(CHILD, path).stdout(Stdio::piped()).spawn().unwrap()
}

/// V1, F16: a writer that is killed at any moment has lost nothing that it reported durable.
#[test]
fn what_a_killed_writer_reported_durable_is_found() {
    let rounds = std::env::var("STORAGE_ROUNDS").map_or(16, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    format(&path);
    let (mut durable, mut chance) = (Seq(0), 0x9e37_79b9_u64);
    let mut reports = 0;
    for round in 0..rounds {
        let mut child = child(&path, "");
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let most = chance % 60;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            // The first one stands behind the name of the test.
            let Some((_, seq)) = line.split_once("durable ") else { continue };
            durable = Seq(seq.parse().unwrap());
            reports += 1;
            seen += 1;
            if seen == most {
                child.kill().unwrap();
            }
            if most == 0 {
                let _ = child.kill();
            }
        }
        child.wait().unwrap();
        durable = verify(&path, durable);
        assert!(seen != 0, "round {round}: nothing was written");
    }
    assert!(rounds < reports, "{reports} reports in {rounds} rounds");
}

/// F12, V13: the log fails by name when there is no room, acknowledges nothing more, and has lost nothing.
#[test]
fn a_disk_without_room_fails_the_log_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    format(&path);
    // The kernel refuses writes behind 2 MiB, in blocks of 512 bytes.
    let child = child(&path, "trap '' XFSZ; ulimit -f 4096;");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("failed there is no room left on it"), "{text}");
    let reported = text.lines().filter_map(|line| line.split_once("durable ")?.1.parse().ok()).max();
    let durable = Seq(reported.unwrap());
    verify(&path, durable);
}
