//! Guests' writes on their way into the log, in the order in which they came, each behind what it must not
//! overtake: the end of its volume's seal.
//!
//! Who seals a volume gives a name to what it holds (S3-06), and the first write behind that takes the name
//! away, in the log, before itself. So a volume that still has its seal holds what it held, on whichever
//! holder leads, whatever was lost or taken over in between; and no write waits for a disk for it.

use super::flow::EXTENTS_MAX;
use super::group::{Group, Offered, end};
use super::handle::{Payload, Pending, lock};
use super::window::{Entry, Unknown};
use crate::storage::buffers::Piece;
use crate::storage::space::sums;
use crate::volume::catalogue::Catalogue;
use bulkhead_core::holder::machine::Mode;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{BlockIndex, Kind, Volume, Write};
use bulkhead_core::volume::CATALOGUE;

/// Whether a guest's write may go into the log.
enum Before {
    /// It may.
    Ready,
    /// Not yet.
    Wait,
    /// This holder does not lead any more.
    Refused,
}

impl Group {
    /// The catalogue as the log has it: also what is not safe yet. `None`: not all of it is known, or this
    /// holder does not lead.
    pub(super) fn logged(&mut self) -> Option<&Catalogue> {
        if self.logged.is_none() && lock(&self.shared.throne).reign().is_readable {
            self.logged = Some(lock(&self.shared.catalogue).clone());
        }
        self.logged.as_ref()
    }

    /// This is in the log now.
    fn have_logged(&mut self, write: &Write, content: &[u8]) {
        if let Some(catalogue) = self.logged.as_mut().filter(|_| write.volume() == CATALOGUE) {
            // It was made here, of a record.
            let _ = catalogue.take(write.first().0, content);
        }
    }

    /// Takes in guests' writes, in the order in which they came.
    pub(super) fn write(&mut self) {
        if EXTENTS_MAX / 2 <= lock(&self.shared.dirty).extents() {
            // Until the store has some of them.
            return;
        }
        while let Some(Pending { write, payload, done }) = self.waiting.pop_front() {
            match self.break_seal(write.volume()) {
                Before::Ready => {}
                Before::Wait => {
                    self.waiting.push_front(Pending { write, payload, done });
                    return;
                }
                Before::Refused => {
                    end(done, Err(Unknown));
                    continue;
                }
            }
            let (piece, sums) = match payload.map(|payload| payload.ready(&self.shared.pool)) {
                Some(Payload::Ready(piece, sums)) => (Some(piece), sums),
                None => (None, Vec::new()),
                Some(raw) => {
                    self.waiting.push_front(Pending { write, payload: Some(raw), done });
                    return;
                }
            };
            let content = piece.clone();
            let entry = Entry { seq: Seq(0), made: Epoch(0), write, sums, piece, at: None, done };
            match self.offer(None, entry) {
                Offered::Taken => self.have_logged(&write, content.as_ref().map_or(&[], Piece::bytes)),
                Offered::Busy(Entry { write, sums, piece, done, .. }) => {
                    let payload = piece.map(|piece| Payload::Ready(piece, sums));
                    self.waiting.push_front(Pending { write, payload, done });
                    return;
                }
                Offered::Refused(entry) => end(entry.done, Err(Unknown)),
            }
        }
    }

    /// Breaks the seal of a volume that is to be written to, if it has one.
    fn break_seal(&mut self, volume: Volume) -> Before {
        if volume == CATALOGUE || self.holder.mode() != Mode::Leading {
            return Before::Ready;
        }
        let Some(catalogue) = self.logged() else { return Before::Wait };
        if catalogue.get(volume).is_none_or(|record| record.seal.is_none()) {
            return Before::Ready;
        }
        let Ok(record) = catalogue.seal(volume, None) else { return Before::Ready };
        let write = Write::new(CATALOGUE, BlockIndex(volume.0.into()), 1, Kind::Data);
        let (Some(write), Some(mut buffer)) = (write, self.shared.pool.take(1)) else { return Before::Wait };
        let block = record.encode();
        buffer.bytes_mut().copy_from_slice(&block);
        let sums = sums(buffer.bytes()).collect();
        let piece = Some(buffer.keep().piece());
        let entry = Entry { seq: Seq(0), made: Epoch(0), write, sums, piece, at: None, done: None };
        match self.offer(None, entry) {
            Offered::Taken => {
                self.have_logged(&write, &block);
                Before::Ready
            }
            Offered::Busy(_) => Before::Wait,
            Offered::Refused(_) => Before::Refused,
        }
    }
}
