//! What the links are told and what they say.

use core::time::Duration;

use heapless::Vec;

use super::frame::{self, Datagram, NotAFrame};
use super::key::{Nonce, SiteKey};
use super::suspicion::Limits;
use crate::id::{NodeId, Path, SiteId};
use crate::time::Instant;

/// Bytes of the longest message: one byte of the payload says that it is one.
pub const MESSAGE_MAX: usize = frame::PAYLOAD_MAX - 1;

/// A message as it travels.
pub type Message = Vec<u8, MESSAGE_MAX>;

/// What the links must know from their configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site.
    pub site: SiteId,
    /// This node.
    pub me: NodeId,
    /// Drawn at random for this start of it.
    pub nonce: Nonce,
    /// The secret of the site.
    pub key: SiteKey,
    /// How often each peer is told on each path that this node is alive.
    pub heartbeat: Duration,
    /// When a peer is slow or silent.
    pub limits: Limits,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// It carried a message.
    Message {
        /// Of whom.
        from: NodeId,
        /// What.
        message: &'a [u8],
    },
    /// It served the links themselves.
    Handled,
    /// It was dropped, and counted.
    Dropped(Drop),
}

/// Why a datagram was dropped. Each has its counter in [`Drops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// It is no frame.
    NotAFrame(NotAFrame),
    /// It is of another site, or not for this node.
    NotForUs,
    /// Its sender is no peer.
    Stranger,
    /// Its tag is wrong, or its session is over.
    NotAuthentic,
    /// Another copy came before: on the other path, as a rule.
    Repeated,
    /// It is older than anybody remembers.
    TooLate,
    /// The peer speaks no version that this node speaks.
    NoCommonVersion,
    /// It is of a start of the peer that is over. A recording; or two nodes have one name (F54).
    EarlierStart,
    /// It is authentic, and makes no sense.
    Malformed,
}

/// How many datagrams were dropped since the start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the reasons of `Drop`")]
pub struct Drops {
    pub not_a_frame: u32,
    pub not_for_us: u32,
    pub stranger: u32,
    pub not_authentic: u32,
    pub repeated: u32,
    pub too_late: u32,
    pub no_common_version: u32,
    pub earlier_start: u32,
    pub malformed: u32,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// On which path; `None`: on both.
    pub path: Option<Path>,
    /// What.
    pub datagram: Datagram,
}

/// There is no session with this peer: it is away, or the handshake is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSession;

/// One path to a peer, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// When anything was heard on it.
    pub heard: Option<Instant>,
    /// Smoothed round trip.
    pub round_trip: Option<Duration>,
    /// The shortest and the longest of the last 32 to 64.
    pub round_trips: Option<(Duration, Duration)>,
    /// Heartbeats lost, in thousandths of the last 64.
    pub loss_permille: u32,
    /// Heartbeats sent since this node started, and received since the peer did.
    pub beats: (u32, u32),
}

impl Drops {
    /// How many in all.
    pub const fn all(&self) -> u32 {
        let Self { not_a_frame, not_for_us, stranger, not_authentic, repeated, too_late, .. } = *self;
        let Self { no_common_version, earlier_start, malformed, .. } = *self;
        let first = not_a_frame.wrapping_add(not_for_us).wrapping_add(stranger).wrapping_add(not_authentic);
        let second = repeated.wrapping_add(too_late).wrapping_add(no_common_version);
        first.wrapping_add(second).wrapping_add(earlier_start).wrapping_add(malformed)
    }

    pub(super) const fn count(&mut self, drop: Drop) {
        let counter = match drop {
            Drop::NotAFrame(_) => &mut self.not_a_frame,
            Drop::NotForUs => &mut self.not_for_us,
            Drop::Stranger => &mut self.stranger,
            Drop::NotAuthentic => &mut self.not_authentic,
            Drop::Repeated => &mut self.repeated,
            Drop::TooLate => &mut self.too_late,
            Drop::NoCommonVersion => &mut self.no_common_version,
            Drop::EarlierStart => &mut self.earlier_start,
            Drop::Malformed => &mut self.malformed,
        };
        *counter = counter.saturating_add(1);
    }
}
