//! Block status of a volume: which blocks are zero without anybody reading them, and which are dirty: not in
//! the store yet (S1-27, S4-01; V42).
//!
//! As for a read, what is dirty counts first, and the store has the rest: a block leaves what is dirty only
//! after the store has it, so what was acknowledged before the question is never called zero. Zeroes that are
//! dirty are holes, as they will be in the store.

use super::dirty::{Dirty, Found, Part};
use super::extents::Content;
use super::handle::{length, lock};
use super::store::Store;
use crate::nbd::export::Extent;
use bulkhead_core::log::batch::Volume;
use std::io::Error;
use std::sync::Mutex;

/// Blocks that are looked at under one lock: writes wait no longer for a question about a large volume.
const WINDOW: u64 = 4096;

/// Extents of blocks from `first` on, at most `max` of them.
///
/// # Errors
///
/// The store failed.
pub fn status(
    (dirty, store): (&Mutex<Dirty>, &Store),
    volume: Volume,
    (first, blocks): (u64, u64),
    max: usize,
) -> Result<Vec<Extent>, Error> {
    let (mut extents, mut at) = (Vec::new(), first);
    let end = first.saturating_add(blocks);
    while at < end {
        let parts = lock(dirty).look(volume, at, WINDOW.min(end.saturating_sub(at)));
        for Part { blocks, found } in parts {
            let end = at.saturating_add(blocks);
            while at < end {
                let left = end.saturating_sub(at);
                let (is_data, dirty, run) = match &found {
                    Found::Memory(Content::Zeroes) => (false, true, left),
                    Found::Memory(Content::Data(_)) | Found::Log(_) => (true, true, left),
                    Found::Store => {
                        let (is_data, run) = store.run(volume, at, left)?;
                        (is_data, false, run)
                    }
                };
                let extent = Extent { length: length(run), hole: !is_data, zero: !is_data, dirty };
                if !add(&mut extents, max, extent) {
                    return Ok(extents);
                }
                at = at.saturating_add(run);
            }
        }
    }
    Ok(extents)
}

/// Adds what comes next; whether there was room for it.
fn add(extents: &mut Vec<Extent>, max: usize, next: Extent) -> bool {
    let is_full = max <= extents.len();
    match extents.last_mut() {
        Some(last) if (last.zero, last.dirty) == (next.zero, next.dirty) => {
            last.length = last.length.saturating_add(next.length);
        }
        Some(_) | None if is_full => return false,
        Some(_) | None => extents.push(next),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::applier::{Applier, Job};
    use super::super::dirty::Era;
    use super::super::testing::{Site, ask, create};
    use super::super::window::testing::entry;
    use super::*;
    use crate::nbd::export::{Content as Answer, Request, Span};
    use crate::storage::buffers::Pool;
    use bulkhead_core::log::Seq;
    use bulkhead_core::log::batch::{BlockIndex, Kind, Write};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    const V: Volume = Volume(3);
    const SPAN: u64 = 3 * WINDOW;

    /// Every block of an answer: whether it may have something in it.
    fn spread(extents: &[Extent]) -> Vec<bool> {
        let blocks = |one: &Extent| std::iter::repeat_n(!one.zero, (one.length / 4096) as usize);
        extents.iter().flat_map(blocks).collect()
    }

    proptest! {
        /// Against a model block by block, dirty or in the store: exactly what is zero, and what the store
        /// does not have, is called so.
        #[test]
        fn what_is_zero_or_dirty_is_called_so_and_nothing_else(
            ops in prop::collection::vec((0..SPAN / 64, 1..65_u64, 0..5_u8), 1..40),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let store = Arc::new(Store::open(directory.path()).unwrap());
            let dirty = Arc::new(Mutex::new(Dirty::default()));
            let (tell, told) = mpsc::channel();
            let applier = Applier::start(Arc::clone(&store), Arc::clone(&dirty), None, move |done| {
                tell.send(done).unwrap();
            });
            let (applier, pool) = (applier.unwrap(), Pool::new(16 << 20).unwrap());
            let (mut data, mut dirty_blocks) = (BTreeSet::new(), BTreeSet::new());
            for (seq, (place, blocks, kind)) in (1..).zip(ops) {
                let first = place * 64;
                let kind = match kind {
                    0 => Kind::Zeroes,
                    1 => Kind::Trimmed,
                    2 => {
                        applier.ask(Job::Apply { applied: Seq(0), upto: Seq(seq), era: Era::default() });
                        told.recv().unwrap();
                        dirty_blocks.clear();
                        continue;
                    }
                    _ => Kind::Data,
                };
                let write = Write::new(V, BlockIndex(first), blocks.try_into().unwrap(), kind).unwrap();
                let piece = (kind == Kind::Data).then(|| {
                    let mut buffer = pool.take(blocks.try_into().unwrap()).unwrap();
                    buffer.bytes_mut().fill(1);
                    buffer.keep().piece()
                });
                dirty.lock().unwrap().insert(&entry(seq, write, piece));
                (first..first + blocks).for_each(|block| {
                    data.remove(&block);
                    data.extend((kind == Kind::Data).then_some(block));
                    dirty_blocks.insert(block);
                });
            }
            let all = status((&dirty, &store), V, (0, SPAN), 4096).unwrap();
            let model: Vec<_> = (0..SPAN).map(|block| data.contains(&block)).collect();
            prop_assert!(spread(&all) == model);
            let dirty_model: Vec<_> = (0..SPAN).map(|block| dirty_blocks.contains(&block)).collect();
            let blocks = |one: &Extent| std::iter::repeat_n(one.dirty, (one.length / 4096) as usize);
            prop_assert!(all.iter().flat_map(blocks).eq(dirty_model));
            let is_other = |two: &[Extent]| (two[0].zero, two[0].dirty) != (two[1].zero, two[1].dirty);
            prop_assert!(all.windows(2).all(is_other), "what is alike is one extent");
            prop_assert!(all.iter().all(|one| one.hole == one.zero));
            for max in 1..4 {
                let some = status((&dirty, &store), V, (0, SPAN), max).unwrap();
                prop_assert_eq!(&some[..], &all[..max.min(all.len())]);
            }
        }
    }

    /// V42, I11: while a client writes, and the log is written to the store, what was acknowledged is data.
    #[test]
    fn what_was_acknowledged_is_never_called_zero() {
        const BLOCKS: u64 = 3000;
        let mut site = Site::new(8 << 20);
        site.start(1);
        site.start(2);
        let leads = site.await_synced();
        let handle = site.handle(leads);
        let volume = create(&handle, "vm1", 4096);
        let (written, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        let ask_status = |blocks: u64, extents_max| {
            let span = Span { offset: 0, length: length(blocks) };
            let answer = ask(&handle, volume, Request::Status { span, extents_max });
            match answer.recv_timeout(Duration::from_secs(30)).unwrap() {
                Ok(Answer::Extents(extents)) => extents,
                other => panic!("{other:?}"),
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while written.load(Ordering::SeqCst) < BLOCKS {
                    let known = written.load(Ordering::SeqCst);
                    if known != 0 {
                        let said = spread(&ask_status(known, 16));
                        assert!(said.len() as u64 == known && said.iter().all(|data| *data), "{known}");
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
            for block in 0..BLOCKS {
                let write = Request::Write { offset: block * 4096, data: vec![1; 4096], durable: true };
                ask(&handle, volume, write).recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
                written.store(block + 1, Ordering::SeqCst);
            }
        });
        assert!(10 < asked.load(Ordering::SeqCst));
        assert_eq!(spread(&ask_status(4096, 2)).iter().filter(|data| **data).count() as u64, BLOCKS);
        let other =
            ask(&site.handle(3 - leads), volume, Request::Cache { span: Span { offset: 0, length: 4096 } });
        assert!(other.recv().unwrap().is_err(), "only who leads answers");
    }
}
