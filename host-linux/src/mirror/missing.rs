//! What a store has lost while nobody had it open: nobody takes that for what was never written (F14, F15,
//! V5, V40). What the log still has is not known yet, so a block of the list of volumes may be there again
//! soon.

use super::backing::How;
use super::store::{Damaged, Store};
use super::sums::Sums;
use crate::failure::Failure;
use crate::volume::catalogue::Catalogue;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::log::{BLOCK_LEN, Seq};
use bulkhead_core::volume::{CATALOGUE, CATALOGUE_BLOCKS};
use std::collections::BTreeSet;
use std::io::Error;

/// Looks whether files are gone. `applied`: up to there the log is in the store, as its holder knows.
///
/// # Errors
///
/// They are, and what to do; or it cannot be said.
pub fn check(store: &Store, catalogue: &Catalogue, applied: Seq) -> Result<(), Failure> {
    let place = store.directory().display();
    let list = store.path(CATALOGUE);
    if applied != Seq(0) && !list.exists() && !store.sums_path(CATALOGUE).exists() {
        return Err(gone(format!("the store in {place} is empty, and its log says that writes are in it")));
    }
    let volumes = catalogue.list().map(|record| (record.volume, record.blocks));
    for (volume, blocks) in std::iter::once((CATALOGUE, CATALOGUE_BLOCKS)).chain(volumes) {
        let is_gone = has_lost(store, volume, blocks);
        if is_gone.map_err(|error| Failure::io("look into", &store.sums_path(volume), &error))? {
            let file = store.path(volume);
            return Err(gone(format!("{} is gone, and what was in it", file.display())));
        }
    }
    Ok(())
}

/// Whether something was written into a volume whose file is not there. Its checksums come after its content,
/// and are lost with it where all of it is lost; then only the log can tell.
fn has_lost(store: &Store, volume: Volume, blocks: u64) -> Result<bool, Error> {
    let sums = store.sums_path(volume);
    if store.claims().get(volume).is_some() || store.path(volume).exists() || !sums.exists() {
        return Ok(false);
    }
    Ok(Sums::open(&sums, volume, false)?.unwritten(0, blocks)? != blocks)
}

fn gone(what: String) -> Failure {
    let next = "put it back; or have this node's copy filled anew, as docs/volumes.md says: stop its agent, \
                delete what is in its `volumes`, and fill the first 8 KiB of its log with zeroes.";
    Failure::failed(what).left("Nothing was started, and nothing was changed.").next(next)
}

/// The blocks of the list of volumes that are not what was written there.
///
/// # Errors
///
/// The disk fails otherwise than at one block.
pub fn damaged(store: &Store) -> Result<BTreeSet<u64>, Failure> {
    let failed = |error: &Error| Failure::io("read the catalogue of volumes", &store.path(CATALOGUE), error);
    let mut all = BTreeSet::new();
    for block in 0..CATALOGUE_BLOCKS {
        let read = store.read(CATALOGUE, block, &mut [0; BLOCK_LEN], How::Waiting);
        match read.as_ref().map_err(Damaged::of) {
            Ok(()) => {}
            Err(Some(_)) => drop(all.insert(block)),
            Err(None) => read.map_err(|error| failed(&error))?,
        }
    }
    Ok(all)
}
