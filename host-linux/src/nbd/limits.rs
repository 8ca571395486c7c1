//! What a server gives at most, and to whom it stops giving (F42, V43). Each bound is per server unless it
//! says otherwise.

use std::time::Duration;

/// The largest read or write, and the largest block told to clients: what the protocol lets every client
/// assume without asking. Trims, zeroes and status may name more: they carry nothing.
pub const REQUEST_MAX: u32 = 32 << 20;
/// Memory that a connection has to itself: what it asks within this never waits for other clients. Enough
/// for 32 requests of 4 KiB with room, small enough for every connection to use it at once.
pub const OWN_BYTES: u64 = 256 << 10;
/// The most bytes one connection may have under way: one largest request, and its own share.
pub const CONNECTION_BYTES: u64 = (32 << 20) + OWN_BYTES;
/// Extents in one answer about block status: 32 KiB, and thousands of holes at once.
pub const EXTENTS_MAX: usize = 4096;
/// Requests under way on one connection; more wait in the socket.
pub const REQUESTS: u16 = 256;

/// The bounds that a deployment may want to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients that have taken an export.
    pub connections: usize,
    /// Of these, from one network address; Unix sockets count as one address.
    pub connections_per_peer: usize,
    /// Clients that have not yet taken an export. One more closes the oldest of the address that has most.
    pub half_open: usize,
    /// Time for all of a handshake.
    pub handshake: Duration,
    /// Bytes that all connections share beyond [`OWN_BYTES`] each.
    pub shared_bytes: u64,
    /// A request that is begun, and a batch of replies that is sent, get this long and a second a MiB.
    pub stall: Duration,
    /// A request that the export has not answered after this long closes its connection: the client may ask
    /// elsewhere. Longer than a takeover, shorter than the patience of guests (30 s and more).
    pub answer: Duration,
    /// Time for pending requests when an export or the server goes away.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_peer: 128,
            half_open: 512,
            handshake: Duration::from_secs(10),
            shared_bytes: 256 << 20,
            stall: Duration::from_secs(10),
            answer: Duration::from_secs(25),
            farewell: Duration::from_secs(3),
        }
    }
}

impl Limits {
    /// How long `bytes` may be on their way.
    #[must_use]
    pub fn patience(&self, bytes: u64) -> Duration {
        self.stall.saturating_add(Duration::from_secs(bytes >> 20))
    }
}

const _: () = assert!(REQUEST_MAX as u64 + OWN_BYTES <= CONNECTION_BYTES, "else the largest waits for ever");
