//! One path to one peer: its heartbeats, round trip and loss (S3-02, F31, F35).
//!
//! A heartbeat carries the sender's time and, from the last heartbeat received on this path, the peer's time
//! and how long it was held: so each end measures round trips on its own clock alone.
//!
//! Payload: sequence number (4), sent (8, microseconds on the sender's clock), echo (8, the other's time; 0:
//! none), held (4, microseconds).

use core::time::Duration;

use crate::bytes::{Reader, Writer};
use crate::time::{Instant, micros};

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

/// What is known of one path to one peer.
#[derive(Clone, Debug, Default)]
pub struct PathState {
    /// Of the next heartbeat sent.
    seq: u32,
    /// When anything authenticated came on this path.
    heard: Option<Instant>,
    /// The last heartbeat received: its number, its time, and when it came.
    last: Option<(u32, u64, Instant)>,
    /// Of the last 64 heartbeats, which came. Bit 0 is the newest.
    came: u64,
    /// How many of those 64 were due since this path was first heard.
    due: u32,
    /// Smoothed, microseconds.
    round_trip: Option<u32>,
    /// The shortest and the longest round trip of the samples being gathered, and of those before.
    spreads: [Option<(u32, u32)>; 2],
    /// How many are being gathered.
    gathered: u32,
    /// Heartbeats received.
    received: u32,
}

/// How many round trips are gathered before the oldest ones are forgotten.
const GATHERED_MAX: u32 = 32;

impl PathState {
    /// When anything was heard on this path.
    pub const fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Smoothed over about eight heartbeats (RFC 6298, section 2, without the variance).
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|micros| Duration::from_micros(micros.into()))
    }

    /// The shortest and the longest of the last 32 to 64.
    pub fn round_trips(&self) -> Option<(Duration, Duration)> {
        let (least, most) = self.spreads.iter().copied().flatten().reduce(wider)?;
        Some((Duration::from_micros(least.into()), Duration::from_micros(most.into())))
    }

    /// How many heartbeats were sent and received.
    pub const fn beats(&self) -> (u32, u32) {
        (self.seq, self.received)
    }

    /// Of the last 64 heartbeats due, how many did not come, in thousandths.
    pub fn loss_permille(&self) -> u32 {
        let lost = self.due.saturating_sub(self.came.count_ones());
        lost.saturating_mul(1_000).checked_div(self.due).unwrap_or(0)
    }

    /// The next heartbeat.
    pub fn beat(&mut self, now: Instant) -> Heartbeat {
        self.seq = self.seq.wrapping_add(1);
        let (echo, held) = match self.last {
            Some((_, sent, came)) => (sent, u32::try_from(micros(now.since(came))).unwrap_or(u32::MAX)),
            None => (0, 0),
        };
        Heartbeat { seq: self.seq, sent: now.as_micros().max(1), echo, held }
    }

    /// An authenticated frame came on this path.
    pub fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// A heartbeat came. `listening` is since when this node has been able to hear.
    pub fn take(&mut self, now: Instant, listening: Instant, heartbeat: &Heartbeat) {
        self.received = self.received.saturating_add(1);
        let ahead = match self.last {
            Some((last, ..)) => heartbeat.seq.wrapping_sub(last),
            None => 1,
        };
        // Late ones count as lost: what comes after its successor did not come when it was needed.
        if ahead == 0 || u32::MAX / 2 < ahead {
            return;
        }
        self.came = self.came.checked_shl(ahead).unwrap_or(0) | 1;
        self.due = self.due.saturating_add(ahead).min(64);
        self.last = Some((heartbeat.seq, heartbeat.sent, now));
        let sent = Instant::from_micros(heartbeat.echo);
        // No echo yet; or not of this clock; or the way back led through a sleep of this node, and nobody
        // knows how long it took.
        if heartbeat.echo == 0 || now < sent || sent < listening {
            return;
        }
        self.measured(now.since(sent).saturating_sub(Duration::from_micros(heartbeat.held.into())));
    }

    fn measured(&mut self, round_trip: Duration) {
        // An hour is the longest that can be told apart from more.
        let short = u32::try_from(micros(round_trip)).unwrap_or(u32::MAX);
        let old = u64::from(self.round_trip.unwrap_or(short));
        let smoothed = old.saturating_mul(7).saturating_add(short.into()) / 8;
        self.round_trip = u32::try_from(smoothed).ok();
        let [current, before] = self.spreads;
        self.spreads = match self.gathered < GATHERED_MAX {
            true => [current.into_iter().chain([(short, short)]).reduce(wider), before],
            false => [Some((short, short)), current],
        };
        self.gathered = self.gathered.checked_rem(GATHERED_MAX).unwrap_or(0).saturating_add(1);
    }

    /// The peer started again: what was known of it is about another process.
    pub fn restart(&mut self) {
        *self = Self { seq: self.seq, ..Self::default() };
    }
}

fn wider(a: (u32, u32), b: (u32, u32)) -> (u32, u32) {
    (a.0.min(b.0), a.1.max(b.1))
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
        let (mut here, mut there) = (PathState::default(), PathState::default());
        let beat = here.beat(Instant::from_millis(1_000));
        there.take(Instant::from_millis(77), Instant::ZERO, &beat);
        let back = there.beat(Instant::from_millis(127));
        here.take(Instant::from_millis(1_058), Instant::ZERO, &back);
        assert_eq!(here.round_trip(), Some(8 * MS));
    }

    #[test]
    fn what_does_not_come_in_time_is_lost() {
        let mut path = PathState::default();
        let beat = |seq| Heartbeat { seq, sent: 1, echo: 0, held: 0 };
        for seq in [1, 2, 4, 3, 4, 5] {
            path.take(Instant::ZERO, Instant::ZERO, &beat(seq));
        }
        assert_eq!(path.loss_permille(), 200, "one of five");
        path.take(Instant::ZERO, Instant::ZERO, &beat(1_000));
        assert_eq!(path.loss_permille(), 984, "63 of 64");
    }
}
