//! One path to one peer: its heartbeats, round trip and loss (S3-02, F31, F35).
//!
//! A heartbeat carries the sender's time and, from the last heartbeat received on this path, the peer's time
//! and how long it was held: so each end measures round trips on its own clock alone.
//!
//! Payload: sequence number (4), sent (8, microseconds on the sender's clock), echo (8, the other's time; 0:
//! none), held (4, microseconds).

use core::num::NonZeroU32;
use core::time::Duration;

use crate::bytes::{Long, Reader, Writer};
use crate::time::{Instant, Stamp, micros};

/// Bytes of a heartbeat.
pub const HEARTBEAT_LEN: usize = 24;

/// A heartbeat on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// +1 a heartbeat on this path.
    pub seq: u32,
    /// When it was sent, on the sender's clock.
    pub sent: u64,
    /// The time in the last heartbeat received, on the receiver's clock; 0: none yet.
    pub echo: u64,
    /// How long ago that one was received, microseconds.
    pub held: u32,
}

impl Heartbeat {
    /// The payload.
    pub fn encode(&self) -> [u8; HEARTBEAT_LEN] {
        let mut out = Writer::<HEARTBEAT_LEN>::default();
        out.u32(self.seq);
        out.u64(self.sent);
        out.u64(self.echo);
        out.u32(self.held);
        out.finish()
    }

    /// Reads a payload; `None` when it is none.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(<&[u8; HEARTBEAT_LEN]>::try_from(payload).ok()?);
        Some(Self { seq: fields.u32()?, sent: fields.u64()?, echo: fields.u64()?, held: fields.u32()? })
    }
}

/// What is known of one path to one peer, as far as it decides anything.
#[derive(Clone, Debug, Default)]
pub struct PathState {
    /// When anything authenticated came on this path.
    heard: Option<Stamp>,
    /// The last heartbeat received.
    last: Option<Last>,
    /// Smoothed, microseconds, and one more.
    round_trip: Option<NonZeroU32>,
}

/// A heartbeat that was received: its number, its time, and when it came.
#[derive(Clone, Copy, Debug)]
struct Last {
    seq: [u8; 4],
    sent: Long,
    came: Stamp,
}

/// What a heartbeat showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How many are due since the one before; `None`: it came after its successor.
    pub ahead: Option<u32>,
    /// The round trip that it completes, microseconds.
    pub round_trip: Option<u32>,
}

impl PathState {
    /// When anything was heard on this path.
    pub fn heard(&self) -> Option<Instant> {
        self.heard.map(Stamp::instant)
    }

    /// Smoothed over about eight heartbeats (RFC 6298, section 2, without the variance).
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|more| Duration::from_micros(more.get().saturating_sub(1).into()))
    }

    /// The next heartbeat, with this number.
    pub fn beat(&self, now: Instant, seq: u32) -> Heartbeat {
        let (echo, held) = match self.last {
            Some(Last { sent, came, .. }) => {
                (sent.get(), u32::try_from(micros(now.since(came.instant()))).unwrap_or(u32::MAX))
            }
            None => (0, 0),
        };
        Heartbeat { seq, sent: now.as_micros().max(1), echo, held }
    }

    /// An authenticated frame came on this path.
    pub fn hear(&mut self, now: Instant) {
        self.heard = Some(now.into());
    }

    /// A heartbeat came. `listening` is since when this node has been able to hear.
    pub fn take(&mut self, now: Instant, listening: Instant, heartbeat: &Heartbeat) -> Shown {
        let ahead = match self.last {
            Some(Last { seq, .. }) => heartbeat.seq.wrapping_sub(u32::from_le_bytes(seq)),
            None => 1,
        };
        // Late ones count as lost: what comes after its successor did not come when it was needed.
        if ahead == 0 || u32::MAX / 2 < ahead {
            return Shown { ahead: None, round_trip: None };
        }
        let seq = heartbeat.seq.to_le_bytes();
        self.last = Some(Last { seq, sent: heartbeat.sent.into(), came: now.into() });
        let sent = Instant::from_micros(heartbeat.echo);
        // No echo yet; or not of this clock; or the way back led through a sleep of this node, and nobody
        // knows how long it took.
        if heartbeat.echo == 0 || now < sent || sent < listening {
            return Shown { ahead: Some(ahead), round_trip: None };
        }
        let round_trip = now.since(sent).saturating_sub(Duration::from_micros(heartbeat.held.into()));
        Shown { ahead: Some(ahead), round_trip: Some(self.measured(round_trip)) }
    }

    fn measured(&mut self, round_trip: Duration) -> u32 {
        // An hour is the longest that can be told apart from more.
        let short = u32::try_from(micros(round_trip)).unwrap_or(u32::MAX);
        let old = self.round_trip.map_or(short, |more| more.get().saturating_sub(1));
        let smoothed = u64::from(old).saturating_mul(7).saturating_add(short.into()) / 8;
        let smoothed = u32::try_from(smoothed).unwrap_or(u32::MAX);
        self.round_trip = NonZeroU32::new(smoothed.saturating_add(1));
        short
    }

    /// The peer started again: what was known of it is about another process.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn format_1_never_changes() {
        let beat = Heartbeat { seq: 0x0102, sent: 3, echo: 0x0405, held: 6 };
        let mut expected = [0; HEARTBEAT_LEN];
        expected[..2].copy_from_slice(&[2, 1]);
        expected[4] = 3;
        expected[12..14].copy_from_slice(&[5, 4]);
        expected[20] = 6;
        assert_eq!(beat.encode(), expected);
        assert_eq!(Heartbeat::parse(&expected), Some(beat));
        assert_eq!(Heartbeat::parse(&expected[1..]), None);
    }

    /// Each end measures on its own clock, whatever the other's says.
    #[test]
    fn a_round_trip_is_measured_without_the_other_clock() {
        let (mut here, mut there) = <(PathState, PathState)>::default();
        let beat = here.beat(Instant::from_millis(1_000), 1);
        there.take(Instant::from_millis(77), Instant::ZERO, &beat);
        let back = there.beat(Instant::from_millis(127), 1);
        here.take(Instant::from_millis(1_058), Instant::ZERO, &back);
        assert_eq!(here.round_trip(), Some(8 * MS));
    }
}
