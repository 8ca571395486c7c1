//! F10 to F13, F15, V13, V16: what is written is read back, by both means; what cannot be done is said by
//! name, and nothing waits for ever.

use super::*;
use crate::storage::device::Part;
use std::time::Instant;

const BLOCKS: u64 = 256;

struct Bench {
    engine: Engine,
    _dir: tempfile::TempDir,
}

fn bench(means: Means) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::create(&dir.path().join("disk"), BLOCKS).unwrap();
    let engine = Engine::new(device, Pool::new(1 << 20).unwrap(), means).unwrap();
    Bench { engine, _dir: dir }
}

fn filled(engine: &Engine, blocks: usize, fill: u8) -> Vec<Piece> {
    let mut buffer = engine.pool().take(blocks).unwrap();
    for (number, block) in (0..).zip(buffer.bytes_mut().chunks_mut(BLOCK)) {
        block.fill(fill.wrapping_add(number));
    }
    vec![buffer.keep().piece()]
}

/// What is done until nothing is under way.
fn all(engine: &mut Engine) -> Vec<Done> {
    let (mut done, begin) = (Vec::new(), Instant::now());
    while engine.under_way() != 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the engine stands still");
        engine.wait(Duration::from_secs(1), &mut done).unwrap();
    }
    done
}

fn read(engine: &mut Engine, block: u64, blocks: usize) -> Result<Vec<u8>, Fault> {
    let buffer = engine.pool().take(blocks).unwrap();
    engine.read(Ticket(9), block, buffer);
    match all(engine).pop() {
        Some(Done::Read(Ticket(9), buffer, Ok(()))) => {
            Ok(buffer.bytes().chunks(BLOCK).filter_map(|block| block.first().copied()).collect())
        }
        Some(Done::Read(_, _, Err(fault))) => Err(fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read_back_by_every_means() {
    for means in [Means::Best, Means::Threads] {
        let Bench { mut engine, _dir } = bench(means);
        for (number, durably) in (0..).zip([Durably::No, Durably::Dsync, Durably::Linked]) {
            // From several pieces, parts of others among them.
            let mut pieces = filled(&engine, 3, 10);
            let (_, tail) = filled(&engine, 40, 30)[0].split(38);
            pieces.push(tail);
            engine.write(Ticket(number), number * 5, pieces, durably);
        }
        let mut tickets: Vec<_> = all(&mut engine)
            .into_iter()
            .map(|done| match done {
                Done::Wrote(Ticket(number), Ok(())) => number,
                Done::Wrote(..) | Done::Read(..) | Done::Flushed(..) => panic!("{means:?}: {done:?}"),
            })
            .collect();
        tickets.sort_unstable();
        assert_eq!(tickets, [0, 1, 2]);
        let one = [10, 11, 12, 68, 69];
        assert_eq!(read(&mut engine, 0, 15), Ok([one, one, one].concat()), "{}", engine.means());
        engine.flush(Ticket(4));
        assert!(matches!(all(&mut engine).as_slice(), [Done::Flushed(Ticket(4), Ok(()))]));
        assert_eq!(engine.pool().free(), 256, "all memory came back");
    }
}

/// F15, V40: behind its end, and behind what is left of it, is nothing.
#[test]
fn a_device_that_ends_early_is_said_by_name() {
    for means in [Means::Best, Means::Threads] {
        let Bench { mut engine, _dir } = bench(means);
        assert_eq!(read(&mut engine, BLOCKS - 1, 2), Err(Fault::Ended));
        let file = std::fs::OpenOptions::new().write(true).open(engine.device().path()).unwrap();
        file.set_len(10 * 4096).unwrap();
        assert_eq!(read(&mut engine, 8, 4), Err(Fault::Ended), "{means:?}");
        assert_eq!(read(&mut engine, 8, 2), Ok(vec![0, 0]));
    }
}

/// V16: more than there is room for is refused, and the rest goes on.
#[test]
fn what_finds_no_room_is_refused() {
    for means in [Means::Best, Means::Threads] {
        let Bench { mut engine, _dir } = bench(means);
        let pieces = filled(&engine, 1, 7);
        for number in 0..JOBS_MAX + 3 {
            let number = u64::try_from(number).unwrap();
            engine.write(Ticket(number), number, pieces.clone(), Durably::No);
        }
        assert_eq!(engine.room(), 0);
        let done = all(&mut engine);
        let refused = done.iter().filter(|done| matches!(done, Done::Wrote(_, Err(Fault::Busy)))).count();
        let whole = done.iter().filter(|done| matches!(done, Done::Wrote(_, Ok(())))).count();
        assert_eq!((refused, whole), (3, JOBS_MAX));
    }
}

#[test]
fn any_thread_wakes_it_and_a_wait_ends() {
    for means in [Means::Best, Means::Threads] {
        let Bench { mut engine, _dir } = bench(means);
        let mut done = Vec::new();
        let begin = Instant::now();
        engine.wait(Duration::from_millis(30), &mut done).unwrap();
        assert!(Duration::from_millis(25) < begin.elapsed(), "{means:?}: it did not wait");
        for _ in 0..3 {
            let wake = engine.waker();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                wake.wake();
            });
            let begin = Instant::now();
            let mut is_woken = false;
            while !is_woken && begin.elapsed() < Duration::from_secs(10) {
                is_woken = engine.wait(Duration::from_secs(10), &mut done).unwrap();
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "{means:?}: it slept through");
            thread.join().unwrap();
        }
        assert!(done.is_empty());
    }
}

/// F16: an engine that is dropped in the middle of its work frees its memory and its device when the disk is
/// done.
#[test]
fn a_dropped_engine_leaves_nothing_behind() {
    for means in [Means::Best, Means::Threads] {
        let Bench { mut engine, _dir } = bench(means);
        let pool = engine.pool().clone();
        for number in 0..8 {
            let pieces = filled(&engine, 16, 1);
            engine.write(Ticket(number), number * 16, pieces, Durably::Dsync);
        }
        engine.send().unwrap();
        let path = engine.device().path().to_owned();
        drop(engine);
        assert_eq!(pool.free(), 256);
        assert_eq!(Device::open(&path, Part::ALL).unwrap().blocks(), BLOCKS);
    }
}

#[test]
fn what_it_lacks_is_said() {
    let Bench { engine, _dir } = bench(Means::Threads);
    assert!(engine.means().starts_with("threads"));
    assert!(engine.lack().is_some_and(|lack| lack.contains("as was asked for")));
}
