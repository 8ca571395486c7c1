//! The disk this application was loaded from, and no other (S1-02).
#![allow(unsafe_code, reason = "the protocol is shared with the partition driver, which must stay connected")]

use super::memory::Pages;
use bulkhead_core::block::{BlockSize, Extent, Geometry, Lba};
use core::fmt;
use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::proto::ProtocolPointer;
use uefi::proto::device_path::{DevicePath, DeviceSubType, DeviceType};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::block::BlockIO;
use uefi::{Handle, Status};

/// Bytes of one request: large enough for full speed, small enough for every driver.
const REQUEST_MAX: usize = 8 << 20;

/// Why the disk cannot be used.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoDisk {
    /// The firmware does not say where it loaded us from.
    Unknown,
    /// We were not loaded from a partition of a disk (but from a network, say).
    NotAPartition,
    /// The disk of our partition is not there.
    Gone,
    /// Its blocks have a size we do not support.
    BlockSize(u32),
}

impl fmt::Display for NoDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the firmware does not say which disk this program came from"),
            Self::NotAPartition => f.write_str("this program was not loaded from a partition of a disk"),
            Self::Gone => f.write_str("the disk this program came from is not there"),
            Self::BlockSize(bytes) => write!(f, "the disk has blocks of {bytes} bytes, not 512 or 4096"),
        }
    }
}

/// An open disk.
pub(super) struct Disk {
    io: ScopedProtocol<BlockIO>,
    geometry: Geometry,
}

impl Disk {
    /// The disk that holds the partition we were loaded from.
    pub(super) fn loaded_from() -> Result<Self, NoDisk> {
        let image = open::<LoadedImage>(boot::image_handle()).ok_or(NoDisk::Unknown)?;
        let partition = image.device().ok_or(NoDisk::Unknown)?;
        let path = open::<DevicePath>(partition).ok_or(NoDisk::Unknown)?;
        let mut before = 0_usize;
        let hard_drive = (DeviceType::MEDIA, DeviceSubType::MEDIA_HARD_DRIVE);
        for node in path.node_iter().take_while(|node| node.full_type() != hard_drive) {
            before = before.saturating_add(usize::from(node.length()));
        }
        let of_disk = path.as_bytes().get(..before).ok_or(NoDisk::NotAPartition)?;
        if !path.node_iter().any(|node| node.full_type() == hard_drive) {
            return Err(NoDisk::NotAPartition);
        }
        let handles = boot::find_handles::<BlockIO>().map_err(|_| NoDisk::Gone)?;
        let disk = handles.into_iter().find(|handle| {
            open::<DevicePath>(*handle).is_some_and(|path| without_end(path.as_bytes()) == of_disk)
        });
        let io = disk.and_then(open::<BlockIO>).ok_or(NoDisk::Gone)?;
        let media = io.media();
        let bytes = media.block_size();
        let block_size = BlockSize::from_bytes(bytes).ok_or(NoDisk::BlockSize(bytes))?;
        let geometry = Geometry { block_size, blocks: media.last_block().saturating_add(1) };
        Ok(Self { io, geometry })
    }

    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Reads whole blocks from `from` on into `to`; its length must be a multiple of the block size.
    pub(super) fn read(&mut self, from: Lba, to: &mut [u8]) -> Result<(), Status> {
        let media = self.io.media().media_id();
        let mut at = from;
        for piece in to.chunks_mut(REQUEST_MAX) {
            self.io.read_blocks(media, at.0, piece).map_err(|error| error.status())?;
            at = at.plus(self.blocks_in(piece.len()));
        }
        Ok(())
    }

    /// The blocks of `extent`, in memory of their own; `None` when they could not be read.
    pub(super) fn extent(&mut self, extent: Extent) -> Option<Pages> {
        let bytes = extent.bytes(self.geometry.block_size);
        let mut pages = Pages::new(bytes)?;
        let to = pages.bytes_mut().get_mut(..usize::try_from(bytes).ok()?)?;
        self.read(extent.first(), to).ok()?;
        Some(pages)
    }

    /// The block at byte `offset` of the disk, which is a multiple of the block size.
    pub(super) fn block_at(&self, offset: u64) -> Lba {
        Lba(offset.checked_div(u64::from(self.geometry.block_size.bytes())).unwrap_or(u64::MAX))
    }

    /// Writes one block: `content`, then zeros.
    pub(super) fn write_block(&mut self, at: Lba, content: &[u8; 512]) -> Result<(), Status> {
        let mut pages =
            Pages::new(u64::from(self.geometry.block_size.bytes())).ok_or(Status::OUT_OF_RESOURCES)?;
        let size = usize::try_from(self.geometry.block_size.bytes()).unwrap_or_default();
        let block = pages.bytes_mut().get_mut(..size).ok_or(Status::BAD_BUFFER_SIZE)?;
        block.iter_mut().zip(content).for_each(|(to, from)| *to = *from);
        let media = self.io.media().media_id();
        self.io.write_blocks(media, at.0, block).map_err(|error| error.status())
    }

    /// Makes all writes durable.
    pub(super) fn flush(&mut self) -> Result<(), Status> {
        self.io.flush_blocks().map_err(|error| error.status())
    }

    fn blocks_in(&self, bytes: usize) -> u64 {
        self.geometry.block_size.blocks_for(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// A path without its end node of four bytes.
fn without_end(path: &[u8]) -> &[u8] {
    path.strip_suffix(&[0x7f, 0xff, 4, 0]).unwrap_or(path)
}

/// Opens a protocol beside whoever else uses it.
pub(super) fn open<P: ProtocolPointer + ?Sized>(handle: Handle) -> Option<ScopedProtocol<P>> {
    let params = OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
    // SAFETY: nobody uninstalls these protocols while we run: the disk and our own image stay, and
    // the firmware calls no driver of them behind our back (UEFI applications run alone).
    unsafe { boot::open_protocol::<P>(params, OpenProtocolAttributes::GetProtocol) }.ok()
}
