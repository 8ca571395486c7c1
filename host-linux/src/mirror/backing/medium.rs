//! What was there before and is a volume's now: a device of this node, or an export of an NBD server.

use super::How;
use super::device::Device;
use super::remote::Remote;
use std::io::Error;

/// One of them, in use.
#[derive(Debug)]
pub enum Medium {
    /// A block device.
    Device(Device),
    /// An export.
    Remote(Remote),
}

impl Medium {
    /// What tells it from every other one, the most certain first; nothing, if nobody knows. An export has
    /// its name only.
    pub fn identities(&self) -> &[String] {
        match self {
            Self::Device(device) => device.identities(),
            Self::Remote(_) => &[],
        }
    }

    /// How many blocks it has now; of an export that must have so many: it is not of use before it has them.
    ///
    /// # Errors
    ///
    /// The device refuses.
    pub fn blocks(&self, needs: u64) -> Result<u64, Error> {
        match self {
            Self::Device(device) => device.blocks(),
            Self::Remote(remote) => {
                remote.needs(needs);
                Ok(needs)
            }
        }
    }

    /// Why nothing can be written or read now; `None`: it can, as far as is known.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Device(_) => None,
            Self::Remote(remote) => remote.trouble(),
        }
    }

    /// Whoever waits for it waits no longer.
    pub fn stop(&self) {
        match self {
            Self::Device(_) => {}
            Self::Remote(remote) => remote.stop(),
        }
    }

    /// Writes from a block on; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Device(device) => device.write(first, bytes),
            Self::Remote(remote) => remote.write(first, bytes),
        }
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn sync(&self) -> Result<(), Error> {
        match self {
            Self::Device(device) => device.sync(),
            Self::Remote(remote) => remote.sync(),
        }
    }

    /// Reads from a block on.
    ///
    /// # Errors
    ///
    /// It fails, or would have to be waited for.
    pub fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        match self {
            Self::Device(device) => device.read(first, bytes, how),
            Self::Remote(remote) => remote.read(first, bytes, how),
        }
    }

    /// Has the system read some blocks ahead: a hint.
    pub fn fetch(&self, first: u64, blocks: u64) {
        match self {
            Self::Device(device) => device.fetch(first, blocks),
            // What a server reads ahead is its own.
            Self::Remote(_) => {}
        }
    }

    /// Makes some blocks zero.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        match self {
            Self::Device(device) => device.zero(first, blocks),
            Self::Remote(remote) => remote.zero(first, blocks),
        }
    }

    /// Nobody needs what is in some blocks. A hint.
    pub fn discard(&self, first: u64, blocks: u64) {
        match self {
            Self::Device(device) => device.discard(first, blocks),
            Self::Remote(remote) => remote.discard(first, blocks),
        }
    }
}
