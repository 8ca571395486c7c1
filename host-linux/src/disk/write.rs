//! Carries out plans of the core, step by step, and stops for good at the first step that fails.

use super::open::Disk;
use crate::output::size;
use bulkhead_core::plan::{Data, DiskOffset, Plan, SECTOR, Step};
use std::io;

/// Bytes moved at once: large enough that the disk, not the system call, sets the pace.
pub const CHUNK: usize = 1 << 20;

/// Where a plan stopped. What the disk holds then is the promise of the plan's maker.
#[derive(Debug)]
pub struct Stopped {
    /// The step, from 0.
    pub step: usize,
    /// How many steps there are.
    pub steps: usize,
    /// Why.
    pub error: io::Error,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, steps, error } = self;
        write!(f, "step {} of {steps} of the change failed: {error}", step.saturating_add(1))
    }
}

/// Gives the bytes of an image that is being flashed, from an offset in the container on.
pub type ImageBytes<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

/// What a plan needs besides itself.
#[derive(Default)]
pub struct Supplies<'a> {
    /// The encoded entry array, for plans that write a partition table.
    pub entries: Option<&'a [u8]>,
    /// The image, for plans that write one.
    pub image: Option<ImageBytes<'a>>,
}

/// Carries out `plan` on `disk`.
///
/// # Errors
///
/// The step that failed; no later step was begun.
pub fn carry_out(disk: &Disk, plan: &Plan, mut supplies: Supplies<'_>) -> Result<(), Stopped> {
    let steps = plan.steps().len();
    for (index, step) in plan.steps().iter().enumerate() {
        let done = match step {
            Step::Flush => disk.flush(),
            Step::Write { at, data } => write_data(disk, *at, data, &mut supplies),
        };
        done.map_err(|error| Stopped { step: index, steps, error })?;
    }
    Ok(())
}

fn write_data(disk: &Disk, at: DiskOffset, data: &Data, supplies: &mut Supplies<'_>) -> io::Result<()> {
    let block = usize::try_from(disk.geometry.block_size.bytes()).unwrap_or(SECTOR);
    let missing = || io::Error::other("the plan needs bytes that were not supplied");
    match data {
        Data::Sector(sector) => {
            let mut bytes = sector.to_vec();
            bytes.resize(block, 0);
            disk.write(at, &bytes)
        }
        Data::Entries => disk.write(at, &padded(supplies.entries.ok_or_else(missing)?, block)),
        Data::Image { from, len } => {
            let image = supplies.image.as_mut().ok_or_else(missing)?;
            copy_image(disk, at, *from, *len, block, image)
        }
    }
}

fn copy_image(
    disk: &Disk,
    at: DiskOffset,
    from: u64,
    len: u64,
    block: usize,
    image: &mut ImageBytes<'_>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0_u64;
    while done < len {
        let count = usize::try_from(len.saturating_sub(done)).unwrap_or(CHUNK).min(CHUNK);
        // The buffer is a multiple of every block size, so the padded piece always fits in it.
        let piece = buffer.get_mut(..count.next_multiple_of(block)).unwrap_or_default();
        let (bytes, padding) = piece.split_at_mut(count);
        image(from.saturating_add(done), bytes)?;
        padding.fill(0);
        disk.write(at.plus(done), piece)?;
        done = done.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    Ok(())
}

fn padded(bytes: &[u8], block: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(block), 0);
    bytes
}

/// The plan in words, one line a step: what `--dry-run` prints.
pub fn describe(plan: &Plan) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::Flush => "flush".to_owned(),
        Step::Write { at, data: Data::Sector(_) } => format!("write one block at byte {}", at.0),
        Step::Write { at, data: Data::Entries } => format!("write the partition entries at byte {}", at.0),
        Step::Write { at, data: Data::Image { from, len } } => {
            format!("write {} of the image from its byte {from} on at byte {}", size(*len), at.0)
        }
    };
    plan.steps().iter().map(line).collect()
}
