//! One line per step: its name, what came of it, how long it took; slow steps say that they still run.

use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// On a terminal the elapsed time is redrawn this often.
const REDRAW: Duration = Duration::from_millis(500);
/// In a log file a line is added this often, so that a watcher sees life without a flood.
const REPORT: Duration = Duration::from_secs(15);

/// Runs `work` as the step `name`. The remark it returns ("up to date", "3 installed") ends its line.
///
/// # Errors
/// Those of `work`, unchanged, after its line said that it failed.
pub fn step(name: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
    let start = Instant::now();
    let (stop, stopped) = channel();
    let result = thread::scope(move |scope| {
        scope.spawn(move || watch(name, start, &stopped));
        let result = work();
        // Also dropped when `work` panics: the watcher ends in every case.
        drop(stop);
        result
    });
    match &result {
        Ok(remark) => say("ok", name, start, remark),
        Err(_) => say("FAIL", name, start, ""),
    }
    result.map(|_| ())
}

/// `1.2 s`, `2 min 03 s`.
#[must_use]
pub fn spoken(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 60.. => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

fn say(verdict: &str, name: &str, start: Instant, remark: &str) {
    let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let separator = if remark.is_empty() { "" } else { "  " };
    eprintln!("{clear}{verdict:>4}  {name:<34} {:>12}{separator}{remark}", spoken(start.elapsed()));
}

fn watch(name: &str, start: Instant, stopped: &Receiver<()>) {
    let terminal = stderr().is_terminal();
    let pause = if terminal { REDRAW } else { REPORT };
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
        let elapsed = spoken(start.elapsed());
        let shown = if terminal {
            write!(stderr(), "\r\x1b[K  ..  {name:<34} {elapsed:>12}")
        } else {
            writeln!(stderr(), "  ..  {name:<34} {elapsed:>12}  still running")
        };
        // A closed stderr takes the display away, not the work.
        if shown.and_then(|()| stderr().flush()).is_err() {
            return;
        }
    }
}
