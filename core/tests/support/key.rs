//! What of a node its future depends on, so that a walk visits each such state once.
//!
//! Numbers that only grow are compared and counted on from, never anything else: sequence
//! numbers become ranks, boot numbers the distance from the lowest that is still around.

use super::node::Node;
use super::truth::Change;
use bulkhead_core::bcb::format::Stored;
use bulkhead_core::bcb::state::{Bcb, BootId};
use std::hash::{DefaultHasher, Hash, Hasher};

impl Node {
    /// A hash of all that matters.
    pub fn key(&self) -> u64 {
        let copies = self.copies().each().map(Result::ok);
        let marks = self.marks();
        let boots = copies.iter().flatten().map(|stored| stored.bcb.boot);
        let boots = boots.chain([self.truth.last.boot]);
        let boots = boots.chain(self.truth.in_doubt.iter().map(|in_doubt| in_doubt.next.boot));
        let runs = [self.running.map(|(running, _)| running), self.stale];
        let boots = boots.chain(runs.iter().flatten().map(|running| running.boot));
        let low = boots.map(|boot| boot.0).min().unwrap_or(0);
        let plain = |bcb: &Bcb| {
            let bcb = Bcb { boot: BootId(bcb.boot.0 - low), ..*bcb };
            Stored { seq: 1, bcb }.encode()
        };
        let mut hasher = DefaultHasher::new();
        for stored in &copies {
            stored.map(|stored| plain(&stored.bcb)).hash(&mut hasher);
        }
        let [first, second] = copies.map(|copy| copy.map(|stored| stored.seq));
        first.cmp(&second).hash(&mut hasher);
        for mark in [marks.a, marks.b] {
            mark.map(|mark| (mark.image.digest.0, mark.floor.0)).hash(&mut hasher);
        }
        marks.a.map(|mark| mark.seq).cmp(&marks.b.map(|mark| mark.seq)).hash(&mut hasher);
        let whole = self.whole();
        (whole.a, whole.b).hash(&mut hasher);
        (self.truth.slots.a, self.truth.slots.b, self.truth.floor, self.truth.tries, self.truth.lost)
            .hash(&mut hasher);
        plain(&self.truth.last).hash(&mut hasher);
        let mut in_doubt: Vec<_> =
            self.truth.in_doubt.iter().map(|one| (plain(&one.next), code(one.change))).collect();
        in_doubt.sort_unstable();
        in_doubt.dedup();
        in_doubt.hash(&mut hasher);
        for running in runs {
            running
                .map(|running| (running.slot == bulkhead_core::slot::SlotId::A, running.boot.0 - low))
                .hash(&mut hasher);
        }
        self.running.map(|(_, image)| image).hash(&mut hasher);
        hasher.finish()
    }
}

fn code(change: Change) -> (u8, usize) {
    let slot = |slot| usize::from(slot == bulkhead_core::slot::SlotId::B);
    match change {
        Change::Nothing => (0, 0),
        Change::Emptied(of) => (1, slot(of)),
        Change::Offered(of, image) => (2, slot(of) + 2 * image),
        Change::Confirmed(of, image) => (3, slot(of) + 2 * image),
        Change::GivenUp(of) => (4, slot(of)),
    }
}
