//! A witness that can be switched on and off, and all that it said over all its power-ons.

use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::board::{Board, Parts};
use crate::limit::Permit;

/// From one look at the log to the next.
const POLL: Duration = Duration::from_millis(10);
/// From the power to the first word that it votes: the firmware takes a fraction of a second.
const START_MAX: Duration = Duration::from_secs(30);
/// It tells its counters every ten seconds.
const REPORT_MAX: Duration = Duration::from_secs(40);
/// What it says when its votes are read and it begins to serve.
pub const SERVES: &str = "registers of";

/// A board with its card, on or off.
#[derive(Debug)]
pub struct Device {
    parts: Parts,
    _permit: Arc<Permit>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    board: Option<Board>,
    lines: Vec<String>,
    /// Lines before the last power-on.
    old: usize,
}

impl Device {
    /// A board that is off. `permit` is that of the machines around it.
    pub fn new(parts: Parts, permit: &Arc<Permit>) -> Self {
        let state = Mutex::new(State { board: None, lines: Vec::new(), old: 0 });
        Self { parts, _permit: Arc::clone(permit), state }
    }

    /// What it is built from.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Switches it on, and waits until it votes.
    ///
    /// # Errors
    /// When it is on, or does not come up.
    pub fn power_on(&self) -> Result<()> {
        self.start()?;
        self.wait_log(SERVES, START_MAX).map(drop)
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When it is on, or QEMU does not start.
    pub fn start(&self) -> Result<()> {
        let mut state = self.lock();
        ensure!(state.board.is_none(), "the witness is on");
        state.old = state.lines.len();
        state.board = Some(Board::power_on(&self.parts)?);
        Ok(())
    }

    /// Cuts its power.
    ///
    /// # Errors
    /// When it was off.
    pub fn power_cut(&self) -> Result<()> {
        let mut state = self.lock();
        state.listen();
        let board = state.board.take().context("the witness was off")?;
        drop(board);
        Ok(())
    }

    /// Its processor stands still until [`Self::resume`].
    ///
    /// # Errors
    /// When it is off.
    pub fn pause(&self) -> Result<()> {
        self.with(|board| board.qmp().stop())
    }

    /// Its processor goes on.
    ///
    /// # Errors
    /// When it is off.
    pub fn resume(&self) -> Result<()> {
        self.with(|board| board.qmp().resume())
    }

    /// Does something with the board.
    ///
    /// # Errors
    /// When it is off, and those of `what`.
    pub fn with<T>(&self, what: impl FnOnce(&Board) -> Result<T>) -> Result<T> {
        what(self.lock().board.as_ref().context("the witness is off")?)
    }

    /// What it counts under `name` by now: it tells every ten seconds, and the next time is waited for.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn count(&self, name: &str) -> Result<u64> {
        let from = self.lines().len();
        // The last line of a report.
        let (end, _) = self.wait_line(from, "datagrams dropped", REPORT_MAX)?;
        let lines = self.lines();
        let lines = lines.get(..end).unwrap_or_default();
        let after = |line: &String| {
            let (_, rest) =
                line.split_once(&format!("{name} ")).or_else(|| line.split_once(&format!("{name}: ")))?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        lines.iter().rev().find_map(after).with_context(|| format!("the witness does not count {name:?}"))
    }

    /// All that it logged since it was switched on last.
    pub fn lines(&self) -> Vec<String> {
        let mut state = self.lock();
        state.listen();
        state.lines.get(state.old..).unwrap_or_default().to_vec()
    }

    /// All that it ever logged.
    pub fn all_lines(&self) -> Vec<String> {
        let mut state = self.lock();
        state.listen();
        state.lines.clone()
    }

    /// Waits until a line with `words` is in the log since the last power-on; that line.
    ///
    /// # Errors
    /// When none comes within `timeout`; shows the log.
    pub fn wait_log(&self, words: &str, timeout: Duration) -> Result<String> {
        self.wait_line(0, words, timeout).map(|(_, line)| line)
    }

    /// As [`Self::wait_log`], from the line number `from` on; also how many lines are before the next.
    ///
    /// # Errors
    /// As [`Self::wait_log`].
    pub fn wait_line(&self, from: usize, words: &str, timeout: Duration) -> Result<(usize, String)> {
        let begin = Instant::now();
        loop {
            let lines = self.lines();
            let found = lines.iter().enumerate().skip(from).find(|(_, line)| line.contains(words));
            if let Some((at, line)) = found {
                return Ok((at + 1, line.clone()));
            }
            if timeout <= begin.elapsed() {
                bail!("the witness did not say {words:?} within {timeout:?}:\n{}", lines.join("\n"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn listen(&mut self) {
        let Some(board) = &self.board else { return };
        loop {
            match board.log.try_recv() {
                Ok(line) => self.lines.push(line),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }
}
