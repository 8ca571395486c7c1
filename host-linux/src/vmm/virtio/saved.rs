//! A device's registers and queues as a snapshot has them (S3-06). Nothing in them is believed more than what
//! the guest itself says: an address is checked when it is used.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState};

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its number, and its configuration as the guest has read it: a copy has the same.
    pub kind: u32,
    /// As above.
    pub config: Vec<u8>,
    /// The status that the driver has written.
    pub status: u32,
    /// Which half of the features is read, and which written.
    pub offered_half: u32,
    /// As above.
    pub taken_half: u32,
    /// The features that the driver has taken.
    pub taken: u64,
    /// The queue that the registers are of.
    pub queue: u32,
    /// Why its interrupt was raised, as far as the driver has not said that it knows.
    pub why: u32,
    /// The device has its queues.
    pub has_begun: bool,
    /// All of them.
    pub queues: Vec<SavedQueue>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQueue {
    /// How long it may be, and is.
    pub size_max: u16,
    /// As above.
    pub size: u16,
    /// The driver says that it is set up.
    pub is_ready: bool,
    /// Where its three parts are.
    pub descriptors: u64,
    /// As above.
    pub available: u64,
    /// As above.
    pub used: u64,
    /// How many chains were taken, and how many given back, counted without end.
    pub next_available: u16,
    /// As above.
    pub next_used: u16,
    /// Chains that were taken and not given back: no more than `size`.
    pub taken: Vec<Parts>,
}

/// A chain: where its parts are, and how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// What the driver calls it.
    pub head: u16,
    /// What the device may read.
    pub readable: Vec<(u64, u32)>,
    /// What it may write.
    pub writable: Vec<(u64, u32)>,
}

impl SavedQueue {
    /// What this queue is.
    #[must_use]
    pub fn of(queue: &Queue, taken: Vec<Parts>) -> Self {
        let state = queue.state();
        Self {
            size_max: state.max_size,
            size: state.size,
            is_ready: state.ready,
            descriptors: state.desc_table,
            available: state.avail_ring,
            used: state.used_ring,
            next_available: state.next_avail,
            next_used: state.next_used,
            taken,
        }
    }

    /// The queue. `None`: there never was one like this.
    #[must_use]
    pub fn queue(&self) -> Option<Queue> {
        let state = QueueState {
            max_size: self.size_max,
            next_avail: self.next_available,
            next_used: self.next_used,
            // Never offered.
            event_idx_enabled: false,
            size: self.size,
            ready: self.is_ready,
            desc_table: self.descriptors,
            avail_ring: self.available,
            used_ring: self.used,
        };
        Queue::try_from(state).ok()
    }
}
