//! Devices that a guest reaches through rings in its own memory (virtio 1.3). What a guest writes there is
//! never believed: at worst its device stops (F43, V44).
//!
//! [`transport`] are the registers; [`ring`] a queue that both may use until it is closed, [`worker`] the
//! thread that looks at it; [`saved`] both as a snapshot has them; [`block`] a disk, [`net`] a
//! network, [`entropy`] chance, [`terminal`] a console.

pub mod block;
pub mod entropy;
pub mod net;
pub mod ring;
pub mod saved;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod worker;

use ring::Ring;
use std::sync::Arc;

/// `VIRTIO_F_VERSION_1`: nothing older is spoken.
pub const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_INDIRECT_DESC`: a chain may stand in a table of its own.
pub const INDIRECT: u64 = 1 << 28;

/// A device behind the registers.
pub trait Device: Send {
    /// Its number (virtio 1.3, 5).
    fn kind(&self) -> u32;

    /// What it can do.
    fn features(&self) -> u64;

    /// How long each of its queues may be.
    fn queues(&self) -> &[u16];

    /// Its configuration, from the first byte on; what lies beyond reads as zero.
    fn config(&self) -> &[u8];

    /// A driver is ready. `rings` are as many as [`Self::queues`], each open until the driver resets the
    /// device.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    fn begin(&mut self, rings: Vec<Arc<Ring>>, features: u64) -> std::io::Result<()>;

    /// The driver resets it: what it began has ended when this returns. Its rings are closed already.
    fn end(&mut self);

    /// It takes nothing more from its rings, which stay open: what it has asked of others still arrives.
    fn pause(&mut self);

    /// It goes on after a pause, if it had begun before.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    fn resume(&mut self) -> std::io::Result<()>;

    /// Who has something of the guest's, and may yet write into its memory. `None`: nobody, once it is
    /// paused.
    fn waits_for(&self) -> Option<String> {
        None
    }
}
