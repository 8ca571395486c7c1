//! The firmware fails in every way: each ends in a start that says why, and is counted (F13, V29). And its
//! clock keeps the time when the processor stands still (F22, V11).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::tooling::firmware;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::witness::board::{Board, Parts, Wire};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than the watchdog takes, on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(30);
/// How far the clock may be off: what is left of the log's way from the board to here.
const OFF_MAX: Duration = Duration::from_millis(150);
/// How many times the board's time is read before the processor first stands still.
const FIRST_READINGS: usize = 10;

/// What the board says, in this order.
const STORY: [&str; 14] = [
    "start after the power came; 0 failures, 0 silent resets",
    "now: a stack that runs out",
    "fault: the stack ran out",
    "start after a fault; 1 failures, 0 silent resets",
    "now: a loop that hangs",
    "start after a reset without a word; 1 failures, 1 silent resets",
    "now: a loop that hangs with interrupts masked",
    "start after a reset without a word; 1 failures, 2 silent resets",
    "now: an interrupt without end",
    "start after a reset without a word; 1 failures, 3 silent resets",
    "panic: on purpose",
    "start after a panic; 2 failures, 3 silent resets",
    "fault at 0x",
    "start after a fault; 3 failures, 3 silent resets",
];

fn next(board: &Board, words: &str) -> Result<(Instant, String)> {
    let begin = Instant::now();
    let mut seen = Vec::new();
    while let Some(left) = LONG.checked_sub(begin.elapsed()) {
        let line = board.log.recv_timeout(left).with_context(|| format!("{words}: {seen:#?}"))?;
        if line.contains(words) {
            return Ok((Instant::now(), line));
        }
        seen.push(line);
    }
    anyhow::bail!("{words}: not within {LONG:?}: {seen:#?}")
}

/// The board's time, and ours when it came here.
fn time(board: &Board) -> Result<(Instant, Duration)> {
    // Whatever waited is older.
    board.log.try_iter().for_each(drop);
    let (at, line) = next(board, "time ")?;
    let micros = line.split_whitespace().find_map(|word| word.parse().ok()).context(line.clone())?;
    Ok((at, Duration::from_micros(micros)))
}

/// When the board's clock began, by ours, if this reading had come here at once.
fn beginning(board: &Board) -> Result<Instant> {
    let (at, told) = time(board)?;
    at.checked_sub(told).context("the board's clock is older than ours")
}

/// Fails if the board's clock, which began at `began`, has lost time, or won some.
///
/// A reading that is late here shows a clock that is behind, and on a busy machine one is late by as much as
/// it likes. The next one is not; but a clock that lost time never finds it again.
fn ensure_no_time_is_lost(board: &Board, began: Instant) -> Result<()> {
    let patience = Instant::now();
    let mut seen = Vec::new();
    while patience.elapsed() < LONG {
        let begins = beginning(board)?;
        let early = began.saturating_duration_since(begins);
        ensure!(early < OFF_MAX, "the board's clock won {early:?}");
        let late = begins.saturating_duration_since(began);
        if late < OFF_MAX {
            return Ok(());
        }
        seen.push(late);
    }
    anyhow::bail!("the board's clock is behind in all readings within {LONG:?}: {seen:?}")
}

#[test]
fn every_failure_ends_in_a_start_that_is_counted_and_the_clock_loses_no_time() -> Result<()> {
    Artefacts::of("firmware-failures", |artefacts| {
        let elf = firmware::failures(&Workspace::locate())?;
        let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
        let [one, two] = &sockets;
        let wire = Wire::User([one.local_addr()?.port(), two.local_addr()?.port()]);
        // Somebody has its ports still, as its power comes.
        let held = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            drop(sockets);
        });
        let control = artefacts.socket("w.qmp");
        let board = Board::power_on(&Parts { elf, card: None, strip: None, wire, control })?;
        held.join().ok().context("the ports are free")?;
        for words in STORY {
            next(&board, words)?;
        }
        next(&board, "all failures ended in a start")?;

        // The processor stands still, for longer than the clock once could bear: less than the watchdog does.
        let beginnings: Vec<Instant> =
            (0..FIRST_READINGS).map(|_| beginning(&board)).collect::<Result<_>>()?;
        let began = beginnings.into_iter().min().context("read more than once")?;
        let pid = Pid::from_raw(board.process_id().try_into()?).context("QEMU has a process id")?;
        for stall in [400, 700, 1_100, 1_900, 1_900, 1_900].map(Duration::from_millis) {
            kill_process(pid, Signal::STOP)?;
            std::thread::sleep(stall);
            kill_process(pid, Signal::CONT)?;
            ensure_no_time_is_lost(&board, began).with_context(|| format!("after {stall:?}"))?;
        }
        Ok(())
    })
}
