//! Carries out a plan of the core: writes, flushes, and stops at the first that fails (V13).

use super::disk::Disk;
use bulkhead_core::plan::{Data, Plan, Step};
use uefi::Status;

/// Carries out `plan`. The boot path only ever writes single sectors (V37).
pub(super) fn carry_out(disk: &mut Disk, plan: &Plan) -> Result<(), Status> {
    for step in plan.steps() {
        match step {
            Step::Write { at, data: Data::Sector(bytes) } => disk.write_block(disk.block_at(at.0), bytes)?,
            Step::Write { data: Data::Image { .. } | Data::Entries, .. } => return Err(Status::UNSUPPORTED),
            Step::Flush => disk.flush()?,
        }
    }
    Ok(())
}
