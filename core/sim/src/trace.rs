//! What happened, to read and to compare: a hash of everything, and the last lines in words.

use std::collections::VecDeque;

/// Lines kept for a failure.
const KEPT_MAX: usize = 400;

/// The trace of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    /// FNV-1a, 64 bits, of all that was noted.
    hash: u64,
    lines: VecDeque<String>,
    /// Whether all lines are kept, to be shown.
    pub is_whole: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), is_whole: false }
    }
}

impl Trace {
    /// Notes a number: something happened, which the lines need not tell.
    pub fn mix(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Notes what happened at the true time `micros`.
    pub fn note(&mut self, micros: u64, text: &dyn Fn() -> String) {
        let line = format!("{:>4}.{:06} {}", micros / 1_000_000, micros % 1_000_000, text());
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.lines.len() == KEPT_MAX && !self.is_whole {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The hash of everything so far.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
