//! The bytes of a stream, in order: what is large goes straight to where it stays, what is small comes
//! many at a time.

use super::line::Line;
use super::tally::{Counts, End};
use super::words::Timing;
use crate::tls::secure::Came;
use std::time::{Duration, Instant};

/// Bytes that are read ahead at most: some small frames.
const AHEAD: usize = 16 << 10;
/// How often a reader that waits looks whether the stream is over.
pub const LOOK: Duration = Duration::from_millis(200);

/// What comes in on a stream.
pub struct Intake<'a> {
    line: &'a Line,
    counts: &'a Counts,
    timing: Timing,
    ahead: Box<[u8]>,
    /// What of `ahead` is not handed out yet.
    from: usize,
    to: usize,
    /// When something last came, or could have been taken.
    heard: Instant,
    /// Since when a frame is awaited or under way.
    begun: Instant,
}

impl<'a> Intake<'a> {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(line: &'a Line, counts: &'a Counts, timing: Timing) -> Self {
        let (ahead, now) = (vec![0; AHEAD].into_boxed_slice(), Instant::now());
        Self { line, counts, timing, ahead, from: 0, to: 0, heard: now, begun: now }
    }

    /// The time until now was not the peer's: the group looked at a frame, or there was no memory for one.
    pub fn resume(&mut self) {
        self.heard = Instant::now();
        self.begun = self.heard;
    }

    /// Fills all of `place`.
    ///
    /// # Errors
    ///
    /// Why there is no more.
    pub fn fill(&mut self, place: &mut [u8]) -> Result<(), End> {
        let there = self.ahead.get(self.from..self.to).unwrap_or_default();
        let count = there.len().min(place.len());
        let (first, mut place) = place.split_at_mut(count);
        first.copy_from_slice(there.get(..count).unwrap_or_default());
        self.from = self.from.saturating_add(count);
        while !place.is_empty() {
            let needed = place.len();
            let count = self.receive(place)?;
            place = place.get_mut(count.min(needed)..).unwrap_or_default();
            (self.from, self.to) = (0, count.saturating_sub(needed));
        }
        Ok(())
    }

    /// Reads into `place`, and what is beyond into `ahead`, which is empty.
    fn receive(&mut self, place: &mut [u8]) -> Result<usize, End> {
        loop {
            if self.line.is_over() {
                return Err(End::Left);
            }
            let came = self.line.wire.receive(place, &mut self.ahead)?;
            if came == Came::Nothing {
                if self.timing.silence <= self.heard.elapsed() {
                    return Err(End::Silent);
                }
                continue;
            }
            self.heard = Instant::now();
            if self.timing.stall <= self.heard.saturating_duration_since(self.begun) {
                return Err(End::Slow);
            }
            // A part of what is encrypted is a sign of life, and no more.
            if let Came::Bytes(count) = came {
                self.counts.received(count);
                return Ok(count);
            }
        }
    }
}
