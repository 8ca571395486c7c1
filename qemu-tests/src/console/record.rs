//! The lines of a console with their times, in memory and in files, and the place of the next wait.
//!
//! Both are bounded: the oldest lines leave memory, the files end at a size; what is lost is counted
//! and shown, so that a gap is itself on record.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::line::Splitter;
use super::pattern::Pattern;

/// Lines in memory. A boot prints about a thousand.
const LINES_MAX: usize = 50_000;
/// Bytes written to each file: a guest that prints in a loop must not fill the disk.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// One line of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 0 over the whole record.
    pub number: u64,
    /// When its last byte came, from the making of the console.
    pub at: Duration,
    /// The text without escape sequences and trailing blanks.
    pub text: String,
}

#[derive(Debug)]
pub(super) struct Record {
    started: Instant,
    splitter: Splitter,
    lines: VecDeque<Line>,
    /// Number of the line that is being printed. Invariant: that of the last line in `lines` + 1.
    next: u64,
    /// The place of the next wait: a line, and how many bytes of it were found already.
    cursor: (u64, usize),
    log: Sink,
    raw: Sink,
}

impl Record {
    pub(super) fn new(directory: &Path, name: &str) -> std::io::Result<Self> {
        Ok(Self {
            started: Instant::now(),
            splitter: Splitter::default(),
            lines: VecDeque::new(),
            next: 0,
            cursor: (0, 0),
            log: Sink::new(&directory.join(format!("{name}.log")))?,
            raw: Sink::new(&directory.join(format!("{name}.raw")))?,
        })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.raw.write(bytes);
        for byte in bytes {
            if let Some(text) = self.splitter.take(*byte) {
                self.push(text);
            }
        }
    }

    /// Ends the line that is being printed: the machine went off.
    pub(super) fn end_line(&mut self) {
        if let Some(text) = self.splitter.end() {
            self.push(text);
        }
    }

    /// The next line that fits one of `patterns`; the next search begins behind it.
    pub(super) fn find(&mut self, patterns: &[Pattern]) -> Option<(usize, Line)> {
        let (from, seen) = self.cursor;
        let oldest = self.next.saturating_sub(u64::try_from(self.lines.len()).unwrap_or(u64::MAX));
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        for line in self.lines.iter().skip(skip) {
            let text = rest(&line.text, if line.number == from { seen } else { 0 });
            if let Some(index) = patterns.iter().position(|pattern| pattern.find(text).is_some()) {
                let line = line.clone();
                self.cursor = (line.number + 1, 0);
                return Some((index, line));
            }
        }
        let text = self.splitter.unfinished();
        let seen = if from == self.next { seen } else { 0 };
        for (index, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| pattern.fits_unfinished()) {
            if let Some(end) = pattern.find(rest(&text, seen)) {
                self.cursor = (self.next, seen + end);
                return Some((index, Line { number: self.next, at: self.started.elapsed(), text }));
            }
        }
        None
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    pub(super) fn skip(&mut self) {
        self.cursor = (self.next, self.splitter.unfinished().len());
    }

    pub(super) fn rewind(&mut self) {
        self.cursor = (0, 0);
    }

    pub(super) fn tail(&self, count: usize) -> String {
        let mut text = String::new();
        for line in self.lines.iter().skip(self.lines.len().saturating_sub(count)) {
            text.push_str(&shown(line));
        }
        let unfinished = self.splitter.unfinished();
        if !unfinished.trim().is_empty() {
            text.push_str(&format!("  {:>12} {unfinished}\n", "(unfinished)"));
        }
        if text.is_empty() {
            text.push_str("  (nothing was printed)\n");
        }
        for (sink, file) in [(&self.log, "log"), (&self.raw, "raw")] {
            if sink.lost > 0 {
                text.push_str(&format!("  ({} bytes are missing in the .{file} file)\n", sink.lost));
            }
        }
        text
    }

    fn push(&mut self, text: String) {
        let line = Line { number: self.next, at: self.started.elapsed(), text };
        self.log.write(shown(&line).as_bytes());
        self.next += 1;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

fn shown(line: &Line) -> String {
    format!("  {:>10.3} s {}\n", line.at.as_secs_f64(), line.text)
}

/// `text` from byte `from`. A line can become shorter than what was found in it: trailing blanks are
/// cut when it ends, and backspace deletes.
fn rest(text: &str, from: usize) -> &str {
    text.get(from..).unwrap_or_default()
}

/// A file that takes so many bytes and counts the rest.
#[derive(Debug)]
struct Sink {
    file: File,
    room: u64,
    lost: u64,
}

impl Sink {
    fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::create(path)?, room: FILE_MAX, lost: 0 })
    }

    fn write(&mut self, bytes: &[u8]) {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if count <= self.room && self.file.write_all(bytes).is_ok() {
            self.room -= count;
        } else {
            self.room = 0;
            self.lost = self.lost.saturating_add(count);
        }
    }
}
