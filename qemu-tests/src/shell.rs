//! Commands in a running node, on its second serial port, where images with the overlay `shell` have a root
//! shell that echoes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::console::{Console, Pattern};
use crate::machine::Machine;

/// What the shell says when it is there.
const READY: &str = "shell: ready";

/// The shell of one machine, over all its power-ons.
#[derive(Debug)]
pub struct Shell {
    console: Console,
    /// Numbers the commands, so that a late answer is not taken for that of the next.
    next: AtomicU64,
}

/// How a command in the node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code.
    pub code: u8,
    /// What it printed, both streams.
    pub text: String,
}

impl Shell {
    /// The shell on the second console of `machine`.
    ///
    /// # Errors
    /// When the machine has no second console.
    pub fn of(machine: &Machine) -> Result<Self> {
        let console = machine.second().context("the machine has no second console")?.clone();
        Ok(Self { console, next: AtomicU64::new(0) })
    }

    /// Waits until the shell of this power-on is there.
    ///
    /// # Errors
    /// When it does not come within `timeout`.
    pub fn ready(&self, timeout: Duration) -> Result<()> {
        self.console.wait_for(READY, timeout)?;
        Ok(())
    }

    /// Types a command and does not wait for it.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn start(&self, command: &str) -> Result<()> {
        self.console.send_line(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it does not end within `timeout`, or the machine goes off.
    pub fn run(&self, command: &str, timeout: Duration) -> Result<Answer> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (begin, end) = (format!("shell: begin {number}"), format!("shell: end {number} code "));
        self.console.send_line(&format!("echo '{begin}'; ( {command} ) </dev/null; echo \"{end}$?\""))?;
        let first = self.console.wait_for(begin.as_str(), timeout)?;
        let last = self.console.wait_for(Pattern::text(&*end), timeout)?;
        let between = |number: u64| first.number < number && number < last.number;
        let lines = self.console.lines().into_iter().filter(|line| between(line.number));
        let mut text: Vec<_> = lines.map(|line| line.text).collect();
        // A command that ends without a line feed leaves its last words in front of the end.
        let (rest, code) = last.text.split_once(&end).context("the end of a command")?;
        if !rest.is_empty() {
            text.push(rest.to_owned());
        }
        Ok(Answer { code: code.trim().parse()?, text: text.join("\n") })
    }

    /// Runs a command that must end with exit code `code`; gives what it printed.
    ///
    /// # Errors
    /// As [`Shell::run`], and when it ends otherwise.
    pub fn exit(&self, code: u8, command: &str, timeout: Duration) -> Result<String> {
        let answer = self.run(command, timeout)?;
        if answer.code != code {
            bail!(
                "`{command}` in the node ended with exit code {}, not {code}:\n{}",
                answer.code,
                answer.text
            );
        }
        Ok(answer.text)
    }
}
