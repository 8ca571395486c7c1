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
/// How far the clock may be off: the log's own way from the board to here, on a busy machine.
const OFF_MAX: Duration = Duration::from_millis(150);

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

/// The board's time, and ours.
fn time(board: &Board) -> Result<(Instant, Duration)> {
    // Whatever waited is older.
    board.log.try_iter().for_each(drop);
    let (at, line) = next(board, "time ")?;
    let micros = line.split_whitespace().find_map(|word| word.parse().ok()).context(line.clone())?;
    Ok((at, Duration::from_micros(micros)))
}

#[test]
fn every_failure_ends_in_a_start_that_is_counted_and_the_clock_loses_no_time() -> Result<()> {
    Artefacts::of("firmware-failures", |artefacts| {
        let elf = firmware::failures(&Workspace::locate())?;
        let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
        let [one, two] = &sockets;
        let wire = Wire::User([one.local_addr()?.port(), two.local_addr()?.port()]);
        drop(sockets);
        let control = artefacts.socket("w.qmp");
        let board = Board::power_on(&Parts { elf, card: None, strip: None, wire, control })?;
        for words in STORY {
            next(&board, words)?;
        }
        next(&board, "all failures ended in a start")?;

        // The processor stands still, for longer than the clock once could bear: less than the watchdog does.
        let (began, first) = time(&board)?;
        let pid = Pid::from_raw(board.process_id().try_into()?).context("QEMU has a process id")?;
        for stall in [400, 700, 1_100, 1_900].map(Duration::from_millis) {
            kill_process(pid, Signal::STOP)?;
            std::thread::sleep(stall);
            kill_process(pid, Signal::CONT)?;
            std::thread::sleep(Duration::from_millis(300));
            let (at, now) = time(&board)?;
            let (real, told) = (at.saturating_duration_since(began), now.saturating_sub(first));
            let off = real.abs_diff(told);
            ensure!(off < OFF_MAX, "after {stall:?}: {real:?} here, {told:?} by the board");
        }
        Ok(())
    })
}
