//! Sealed frames on their way out and in: payload is sent from where it is, and received to where it stays.

use super::frame::{HEAD_LEN, Head, Kind};
use super::seal::{HEAD_TAG_LEN, Sealer, TAG_LEN};
use super::tally::End;
use super::wire::Wire;
use crate::storage::buffers::Piece;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Frames sent with one call.
pub const BATCH: usize = 64;
/// Bytes of a head with its tag.
pub const FRONT_LEN: usize = HEAD_LEN + HEAD_TAG_LEN;
/// Bytes of a frame that has nothing behind its head.
pub const BARE_LEN: usize = FRONT_LEN + TAG_LEN;
/// What a frame that waits takes, beside its bytes.
const COST: usize = 256;

/// A sealed frame.
pub struct Part {
    /// Head and meta; and the tag, where there is no payload.
    front: Vec<u8>,
    rest: Option<(Piece, [u8; TAG_LEN])>,
}

impl Part {
    fn slices(&self) -> [&[u8]; 3] {
        match &self.rest {
            Some((payload, tag)) => [&self.front, payload.bytes(), tag],
            None => [&self.front, &[], &[]],
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slices().iter().map(|slice| slice.len()).fold(0, usize::saturating_add)
    }

    /// The memory that it takes while it waits.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.bytes().saturating_add(COST)
    }

    /// The bytes in front of the payload.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        &self.front
    }
}

/// Seals a frame.
#[must_use]
pub fn seal(sealer: &mut Sealer, head: &Head, meta: &[u8], payload: Option<Piece>) -> Part {
    let mut front = Vec::with_capacity(BARE_LEN.saturating_add(meta.len()));
    front.extend_from_slice(&head.encode());
    let tag = sealer.head(&front);
    front.extend_from_slice(&tag);
    let tag = sealer.frame(&front, meta, payload.as_ref().map_or(&[], Piece::bytes));
    front.extend_from_slice(meta);
    let rest = payload.map(|payload| (payload, tag));
    if rest.is_none() {
        front.extend_from_slice(&tag);
    }
    Part { front, rest }
}

/// The first frame in a direction.
#[must_use]
pub fn begun(sealer: &mut Sealer) -> Part {
    seal(sealer, &Head::bare(Kind::Begun), &[], None)
}

/// Whether these bytes are the first frame in a direction, which `opener` opens.
#[must_use]
pub fn is_begun(opener: &mut Sealer, bytes: &[u8]) -> bool {
    begun(opener).front == bytes
}

/// Whether a head, and what it says, came as they were sealed: `None` when not.
#[must_use]
pub fn open(opener: &Sealer, front: &[u8; FRONT_LEN]) -> Option<[u8; HEAD_LEN]> {
    let (head, tag) = front.split_first_chunk::<HEAD_LEN>()?;
    // Whoever guesses wrong has no second try on this stream: how long the comparison takes says nothing.
    (opener.head(head)[..] == *tag).then_some(*head)
}

/// Sends parts, of which `gone` bytes are sent already, as far as they fit. `None`: nothing fits, and the
/// same parts are to be sent next.
///
/// # Errors
///
/// Why the stream is over.
pub fn transmit(wire: &Wire, batch: &VecDeque<Part>, gone: usize) -> Result<Option<usize>, End> {
    let mut slices: heapless::Vec<IoSlice<'_>, { 3 * BATCH }> = heapless::Vec::new();
    let mut skip = gone;
    for bytes in batch.iter().flat_map(Part::slices) {
        let here = skip.min(bytes.len());
        skip = skip.saturating_sub(here);
        if let Some(rest) = bytes.get(here..).filter(|rest| !rest.is_empty()) {
            // There is room for all of a batch.
            let _ = slices.push(IoSlice::new(rest));
        }
    }
    wire.send(&slices)
}
