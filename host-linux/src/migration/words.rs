//! What the two processes of a guest that is moved say to each other (X15).
//!
//! ```text
//! here ── Offer, Bring ───▶ the other node's agent, which begins a process
//!      ◀────── Accepted ──
//!      ── Bytes … Bytes ──▶ the guest as a snapshot has it, while it runs; its rest while it stands still
//!      ◀───────── Whole ──  all of it is there, and can go on
//!      ── Go ─────────────▶ from here on it is the other node's
//!      ◀────────── Runs ──
//! ```
//!
//! A guest with a volume of its own has that brought before, by a connection of its own (`own.rs`): `Keep`,
//! `Accepted`, its files in `Bytes`, `Whole`. Then it comes with `BringOwn` in place of `Bring`.
//!
//! Either says `Failed` in place of what it would say next. Before `Go` the guest is here, whatever is heard
//! or not; after it, there.

use crate::failure::{Exit, Failure};
use serde::{Deserialize, Serialize};

/// A message, by postcard: kinds are numbered in their order, so new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word<'a> {
    /// This guest would come.
    Offer(Offer),
    /// Let it come.
    Accepted,
    /// A part of it.
    Bytes(#[serde(borrow)] &'a [u8]),
    /// It could go on now.
    Whole,
    /// It is to go on.
    Go,
    /// It goes on.
    Runs,
    /// It does not, and will not.
    Failed(Refusal),
    /// This guest would come, and what is on its disks with it.
    Bring(Offer, Sizes),
    /// This is the guest's own volume, whose files follow: the guest itself comes by another connection.
    Keep(Files),
    /// As `Bring`, of a guest whose own volume is there already.
    BringOwn(Offer, Sizes),
}

/// Bytes of each disk of a guest that come with it; `None`: none of it, for the guest only reads it.
pub type Sizes = Vec<Option<u64>>;

/// What is in the own volume of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Its description: the text of its file.
    pub description: String,
    /// Bytes of its kernel, which come first.
    pub kernel: u64,
    /// Bytes of its first files, which come behind that, if it has some.
    pub initrd: Option<u64>,
    /// How many blocks the volume has.
    pub blocks: u64,
}

/// The guest that would come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its description: the text of its file.
    pub description: String,
    /// It runs by the lease of its node, and is to run by that of the other.
    pub is_leased: bool,
    /// It stands still until somebody has it go on.
    pub is_paused: bool,
}

/// Why it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// It would have endangered something.
    pub is_refused: bool,
    /// What happened.
    pub what: String,
    /// What to do.
    pub next: String,
}

impl Refusal {
    /// For this reason.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        let is_refused = failure.exit != Exit::Failed;
        Self { is_refused, what: failure.what.clone(), next: failure.next.clone() }
    }

    /// As it is told here.
    pub fn failure(self) -> Failure {
        let Self { is_refused, what, next } = self;
        if is_refused { Failure::refused(what) } else { Failure::failed(what) }.left("").next(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the field. If this test fails, add a kind; do not edit the numbers.
    #[test]
    fn version_1_never_changes() {
        let offer = Offer { description: "x".into(), is_leased: true, is_paused: false };
        let refusal = Refusal { is_refused: true, what: "w".into(), next: "n".into() };
        let files = Files { description: "x".into(), kernel: 300, initrd: Some(2), blocks: 3 };
        let all: [(Word<'_>, &[u8]); 10] = [
            (Word::Offer(offer.clone()), b"\0\x01x\x01\0"),
            (Word::Accepted, b"\x01"),
            (Word::Bytes(b"ab"), b"\x02\x02ab"),
            (Word::Whole, b"\x03"),
            (Word::Go, b"\x04"),
            (Word::Runs, b"\x05"),
            (Word::Failed(refusal), b"\x06\x01\x01w\x01n"),
            (Word::Bring(offer.clone(), vec![Some(300), None]), b"\x07\x01x\x01\0\x02\x01\xac\x02\0"),
            (Word::Keep(files), b"\x08\x01x\xac\x02\x01\x02\x03"),
            (Word::BringOwn(offer, vec![None]), b"\x09\x01x\x01\0\x01\0"),
        ];
        for (word, bytes) in all {
            assert_eq!(postcard::to_extend(&word, Vec::new()).unwrap(), bytes);
            assert_eq!(postcard::from_bytes::<Word<'_>>(bytes).unwrap(), word);
        }
    }
}
