//! What a holder keeps of its node for the guests that may come to run there, so that taking them over never
//! fails for lack of it (S4-04, S4-16). Whoever places guests takes it off what the node has.

use super::handle::{Shared, lock};
use super::view::PlaceholderView;
use crate::volume::catalogue::bytes;
use bulkhead_core::cache::index::{Slot, slots_for};
use bulkhead_core::cache::lists::Entry;
use bulkhead_core::cache::residents::entries_for;
use bulkhead_core::cache::stored::SUM_LEN;
use bulkhead_core::time::Instant;
use std::time::Duration;

/// Room on a disk is looked at so often.
const EVERY: Duration = Duration::from_secs(5);

/// What was found when it was looked at last.
#[derive(Debug, Default)]
pub struct Placeholder {
    looked_at: Option<Instant>,
    found: PlaceholderView,
}

impl Placeholder {
    /// What this holder takes, with a log of so many blocks.
    pub fn view(&mut self, shared: &Shared, log_blocks: u64, now: Instant) -> PlaceholderView {
        if self.looked_at.is_none_or(|at| at.after(EVERY) <= now) {
            self.looked_at = Some(now);
            self.found = look(shared, log_blocks);
        }
        self.found.clone()
    }
}

fn look(shared: &Shared, log_blocks: u64) -> PlaceholderView {
    let size = |count: usize, each: usize| u64::try_from(count.saturating_mul(each)).unwrap_or(u64::MAX);
    let index = size(slots_for(u32::try_from(log_blocks).unwrap_or(u32::MAX)), size_of::<Slot>());
    let cache = shared.store.cache.view().bytes;
    let cells = u32::try_from(cache / 4096).unwrap_or(u32::MAX);
    let cache = cache.saturating_add(size(entries_for(cells), size_of::<Entry>()));
    let pool = bytes(u64::try_from(shared.pool_blocks).unwrap_or(u64::MAX));
    let volumes: Vec<_> = lock(&shared.catalogue).list().map(|one| (one.volume, one.blocks)).collect();
    // What is on a device or an export has its checksums here.
    let is_here = |volume| shared.store.claims().get(volume).is_none();
    let content = |(volume, blocks)| if is_here(volume) { bytes(blocks) } else { 0 };
    let each = |(volume, blocks)| content((volume, blocks)).saturating_add(blocks.saturating_mul(SUM_LEN));
    let store = volumes.into_iter().map(each).sum();
    let room = shared.store.room().ok();
    PlaceholderView {
        memory_bytes: pool.saturating_add(index).saturating_add(cache),
        log_bytes: bytes(log_blocks),
        store_bytes: store,
        store_used_bytes: room.map(|room| room.used),
        store_free_bytes: room.map(|room| room.free),
        ..PlaceholderView::default()
    }
}
