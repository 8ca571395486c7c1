//! Disks of a machine.

use std::path::{Path, PathBuf};

use super::volatile::Recorded;

/// A disk: a raw image file behind a controller.
#[derive(Clone, Debug)]
pub struct Drive {
    pub(super) image: PathBuf,
    pub(super) bus: Bus,
    pub(super) cache: Cache,
    pub(super) block_size: BlockSize,
    pub(super) read_only: bool,
    pub(super) serial: Option<String>,
    /// The seed of what a power cut takes away.
    pub(super) volatile: Option<u64>,
}

/// The controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk, each disk its own PCI device.
    Virtio,
    /// NVMe, each disk its own controller.
    Nvme,
    /// SATA, on the chipset's AHCI controller: at most six disks, 512-byte blocks only.
    Ahci,
}

/// What QEMU does with writes on their way to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The disk has a volatile cache: fast, durable only after a flush.
    WriteBack,
    /// Each write is durable before it is acknowledged.
    WriteThrough,
    /// As write-through, past the host's page cache. The file system must support direct access.
    DirectSync,
}

/// Bytes of a logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl Drive {
    /// A virtio disk, write-back, with 512-byte blocks.
    pub fn new(image: impl AsRef<Path>) -> Self {
        Self {
            image: image.as_ref().to_owned(),
            bus: Bus::Virtio,
            cache: Cache::WriteBack,
            block_size: BlockSize::B512,
            read_only: false,
            serial: None,
            volatile: None,
        }
    }

    /// Sets the controller.
    #[must_use]
    pub fn bus(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// Sets the caching.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Sets the logical block size.
    #[must_use]
    pub fn block_size(mut self, block_size: BlockSize) -> Self {
        self.block_size = block_size;
        self
    }

    /// Refuses writes.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// A power cut takes away what was not flushed, each write by chance from `seed`.
    #[must_use]
    pub fn volatile(mut self, seed: u64) -> Self {
        self.volatile = Some(seed);
        self
    }

    /// The record of its writes, if it keeps one.
    pub(super) fn recorded(&self) -> Option<Recorded> {
        self.volatile.map(|seed| Recorded::new(&self.image, seed))
    }

    /// Sets the serial number; by default `disk<n>`, counted from 0.
    #[must_use]
    pub fn serial(mut self, serial: &str) -> Self {
        self.serial = Some(serial.to_owned());
        self
    }
}

impl Cache {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WriteBack => "writeback",
            Self::WriteThrough => "writethrough",
            Self::DirectSync => "directsync",
        }
    }
}

impl BlockSize {
    /// As a number of bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}
