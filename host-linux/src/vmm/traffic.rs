//! What a guest's disk or network has carried since the process of the guest began (S0-23).

use std::sync::atomic::{AtomicU64, Ordering};

/// What was carried in one direction.
#[derive(Debug, Default)]
pub struct Carried {
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Carried {
    /// One more, with so many bytes.
    pub fn add(&self, bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many, and how many bytes.
    fn all(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// What was carried. It goes on over the resets of a guest.
#[derive(Debug, Default)]
pub struct Traffic {
    /// To the guest: what it has read, or received.
    pub to_guest: Carried,
    /// From it: what it has written, or sent.
    pub from_guest: Carried,
}

impl Traffic {
    /// To the guest and from it: how many, and how many bytes.
    #[must_use]
    pub fn all(&self) -> ((u64, u64), (u64, u64)) {
        (self.to_guest.all(), self.from_guest.all())
    }
}
