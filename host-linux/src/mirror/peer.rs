//! Another holder, as this one speaks to it: what it is to be told, in order, and what it said (S4-07, X07).
//!
//! What is to be sent waits here by its numbers, and takes no memory: a peer that takes little is sent
//! little.

use super::tape::Tape;
use super::window::{Entry, Window};
use super::words::Streams;
use crate::replication::words::{Frame, Stream};
use bulkhead_core::holder::words::Word;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use std::collections::VecDeque;

/// Bytes on their way to a peer, above which nothing more is sent for now.
const QUEUED_MAX: usize = 4 << 20;
/// Blocks of writes that are handed to a stream at once, one for each write besides.
const AT_ONCE: usize = 256;

/// Frames that wait to be looked at, at most. A primary has 1024 writes on their way, with a commit point
/// behind each; a filler far less.
const HEARD_MAX: usize = 8192;

/// Another holder.
#[derive(Debug, Default)]
pub struct Peer {
    /// Of the stream that is met.
    pub stream: Option<Stream>,
    /// What it said, and was not looked at yet.
    heard: VecDeque<Frame>,
    /// Reads the writes that are not in memory.
    pub tape: Tape,
    /// It leads under this epoch, and has said that this holder is in the in-sync set.
    pub counts_us: Option<Epoch>,
    /// What it was told of that, by this holder as the primary under this epoch.
    pub counted: Option<(Epoch, bool)>,
    out: VecDeque<Out>,
}

#[derive(Debug)]
enum Out {
    Word(Box<Word>),
    Feed { epoch: Epoch, next: Seq, last: Seq },
}

impl Peer {
    /// There is a new stream, or none: nothing of the old one counts.
    pub fn begin(&mut self, stream: Option<Stream>) {
        *self = Self { stream, ..Self::default() };
    }

    /// It said something, which waits until it is looked at; `false`: that is more than anybody has to say.
    pub fn hears(&mut self, frame: Frame) -> bool {
        if let (Frame::Word(word), Some(Frame::Word(last))) = (&frame, self.heard.back_mut())
            && is_newer(word, last)
        {
            last.clone_from(word);
            return true;
        }
        let is_bounded = self.heard.len() < HEARD_MAX;
        if is_bounded {
            self.heard.push_back(frame);
        }
        is_bounded
    }

    /// What it said first, of what was not looked at yet.
    pub fn next_heard(&mut self) -> Option<Frame> {
        self.heard.pop_front()
    }

    /// There is no room for that now: it is looked at first, later.
    pub fn unhear(&mut self, frame: Frame) {
        self.heard.push_front(frame);
    }

    /// Says something, behind what is to be said already.
    pub fn say(&mut self, word: Box<Word>) {
        if matches!(*word, Word::Offer { .. }) {
            // Whoever is offered anew says from where on it is to be fed.
            self.out.clear();
        }
        match self.out.back_mut() {
            Some(Out::Word(last)) if is_newer(&word, last) => *last = word,
            Some(Out::Word(_) | Out::Feed { .. }) | None => self.out.push_back(Out::Word(word)),
        }
    }

    /// Feeds these writes, behind what is to be said already.
    pub fn feed(&mut self, epoch: Epoch, next: Seq, last: Seq) {
        self.out.push_back(Out::Feed { epoch, next, last });
    }

    /// Sends what can be sent. Returns the write that must be read from the log first.
    pub fn send(&mut self, window: &Window, streams: &dyn Streams) -> Option<Seq> {
        let Some(stream) = self.stream else {
            self.out.clear();
            return None;
        };
        let mut frames = Vec::new();
        let mut missing = None;
        while let Some(out) = self.out.front_mut() {
            if QUEUED_MAX <= streams.queued(stream) {
                break;
            }
            match out {
                Out::Word(word) => frames.push(Frame::Word(word.clone())),
                Out::Feed { epoch, next, last } => {
                    let mut weight = 0_usize;
                    while *next <= *last && weight < AT_ONCE {
                        let Some(entry) = window.get(*next) else {
                            missing = Some(*next);
                            break;
                        };
                        frames.push(frame(*epoch, entry));
                        weight = weight.saturating_add(entry.write.payload()).saturating_add(1);
                        *next = next.next();
                    }
                    if *next <= *last {
                        streams.send(stream, std::mem::take(&mut frames));
                        match missing {
                            Some(_) => break,
                            None => continue,
                        }
                    }
                }
            }
            self.out.pop_front();
        }
        if !frames.is_empty() {
            streams.send(stream, frames);
        }
        missing
    }

    /// Sends writes that were read from the log, as far as they are wanted.
    pub fn send_read(&mut self, entries: &[Entry], streams: &dyn Streams) {
        let Some(stream) = self.stream else { return };
        let Some(Out::Feed { epoch, next, last }) = self.out.front_mut() else { return };
        let mut frames = Vec::new();
        for entry in entries {
            if entry.seq == *next && entry.seq <= *last {
                frames.push(frame(*epoch, entry));
                *next = next.next();
            }
        }
        let is_over = last < next;
        streams.send(stream, frames);
        if is_over {
            self.out.pop_front();
        }
    }
}

/// Whether a word says all that one before it says, of a later time.
fn is_newer(word: &Word, last: &Word) -> bool {
    match (word, last) {
        (Word::Commit { epoch, .. }, Word::Commit { epoch: before, .. })
        | (Word::Have { epoch, .. }, Word::Have { epoch: before, .. }) => epoch == before,
        (
            Word::Offer { .. }
            | Word::Ready { .. }
            | Word::Behind { .. }
            | Word::Have { .. }
            | Word::Commit { .. }
            | Word::Outranked { .. },
            _,
        ) => false,
    }
}

fn frame(epoch: Epoch, entry: &Entry) -> Frame {
    let (made, seq, write) = (entry.made, entry.seq, entry.write);
    Frame::Write { epoch, made, seq, write, sums: entry.sums.clone(), payload: entry.piece.clone() }
}
