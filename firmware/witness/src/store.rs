//! The voter's state on the card, as `core::register::store` lays it out (V10, V13; F1, F8, F25).
//!
//! A change goes to copy 0 and then counts: a block that was written is durable ([`Blocks::write`]). Copy 1
//! follows when there is time, and before copy 0 of the same place is written again. So at every instant one
//! copy holds all that was answered, and once both are written, either may rot. Nothing is kept in memory
//! for copy 1: it is read back from copy 0, so only what really reached the card is copied.

use bulkhead_core::provision::VOTES_AT;
use bulkhead_core::register::store::{Fault, Owner, STORED_LEN, STRIDE, Stored, is_whole, newest, offset};

use crate::card::{BLOCK, Blocks, Trouble, block_at};

const _: () = assert!(STORED_LEN == BLOCK, "a structure is a block");
const _: () = assert!(STRIDE.is_multiple_of(512), "places begin with a block");

/// The state of a voter of up to `PLACES` registers.
#[derive(Debug)]
pub struct Store<B, const PLACES: usize> {
    blocks: B,
    owner: Owner,
    /// Places whose copy 1 lacks what copy 0 has.
    behind: [bool; PLACES],
    /// Final: nobody knows what the card holds (V13).
    failed: Option<Trouble>,
}

/// Why a voter cannot use the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The card failed.
    Card(Trouble),
    /// A structure is of no use: the owner, or the register at a place.
    Fault(Option<u16>, Fault),
    /// It holds the votes of somebody else.
    Foreign(Owner),
    /// A register stands at this place and none before it, or its two copies are of two registers.
    Misplaced(u16),
}

impl From<Trouble> for Unusable {
    fn from(trouble: Trouble) -> Self {
        Self::Card(trouble)
    }
}

/// Where a copy lies, in blocks from the start of the card.
fn block(place: u16, copy: u8) -> u32 {
    at(offset(place, copy))
}

/// Where byte `offset` of the voter's space lies.
fn at(offset: u64) -> u32 {
    block_at(VOTES_AT.saturating_add(offset))
}

impl<B: Blocks, const PLACES: usize> Store<B, PLACES> {
    /// Opens the votes of `owner`, made by `provision::card`. Repairs copies that are behind, torn or
    /// rotten, and hands every register to `found`, in the order of the places.
    ///
    /// # Errors
    ///
    /// [`Unusable`], and the blocks: this witness must not vote.
    pub fn open(mut blocks: B, owner: Owner, found: impl FnMut(Stored)) -> Result<Self, (B, Unusable)> {
        match read_all::<B, PLACES>(&mut blocks, &owner, found) {
            Ok(()) => Ok(Self { blocks, owner, behind: [false; PLACES], failed: None }),
            Err(why) => Err((blocks, why)),
        }
    }

    /// Makes `bytes` durable at `place`. When it returns, they are.
    ///
    /// # Errors
    ///
    /// [`Trouble`], for ever: this voter is silent from now on (V13).
    pub fn persist(&mut self, place: u16, bytes: &[u8; STORED_LEN]) -> Result<(), Trouble> {
        let behind = self.behind.get(usize::from(place)).copied();
        // The voter's table has as many places as its store.
        let behind = behind.ok_or(Trouble::Refused)?;
        if behind {
            self.settle_place(place)?;
        }
        self.attempt(|blocks| blocks.write(block(place, 0), bytes))?;
        self.mark(place, true);
        Ok(())
    }

    /// Writes one copy 1 that is behind. `false` when none is: call it when nothing else is to be done.
    ///
    /// # Errors
    ///
    /// As [`Self::persist`].
    pub fn settle(&mut self) -> Result<bool, Trouble> {
        let place = self.behind.iter().position(|behind| *behind).and_then(|place| u16::try_from(place).ok());
        place.map_or(Ok(false), |place| self.settle_place(place).map(|()| true))
    }

    /// Looks whether the card is still there, and still this voter's: one that was pulled is found before the
    /// next vote is written.
    ///
    /// # Errors
    ///
    /// As [`Self::persist`].
    pub fn look(&mut self) -> Result<(), Trouble> {
        let owner = self.owner;
        self.attempt(|blocks| {
            let mut bytes = [0; STORED_LEN];
            blocks.read(at(0), &mut bytes)?;
            if Owner::parse(&bytes) == Ok(owner) { Ok(()) } else { Err(Trouble::Refused) }
        })
    }

    /// Writes what is no vote: a record of a fence.
    ///
    /// # Errors
    ///
    /// As [`Self::persist`].
    pub fn note(&mut self, at: u64, bytes: &[u8; BLOCK]) -> Result<(), Trouble> {
        self.attempt(|blocks| blocks.write(block_at(at), bytes))
    }

    /// Whose votes these are.
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What it is silent for.
    pub const fn failed(&self) -> Option<Trouble> {
        self.failed
    }

    /// The card: to look whether it is still there, or to write what is no vote.
    pub const fn blocks(&mut self) -> &mut B {
        &mut self.blocks
    }

    fn settle_place(&mut self, place: u16) -> Result<(), Trouble> {
        let owner = self.owner;
        self.attempt(|blocks| {
            let mut bytes = [0; STORED_LEN];
            blocks.read(block(place, 0), &mut bytes)?;
            // What was answered from is gone within seconds: this card is not to be trusted with more.
            if !is_whole(&bytes, &owner) {
                return Err(Trouble::Refused);
            }
            blocks.write(block(place, 1), &bytes)
        })?;
        self.mark(place, false);
        Ok(())
    }

    fn mark(&mut self, place: u16, behind: bool) {
        if let Some(mark) = self.behind.get_mut(usize::from(place)) {
            *mark = behind;
        }
    }

    fn attempt<T>(&mut self, what: impl FnOnce(&mut B) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if let Some(trouble) = self.failed {
            return Err(trouble);
        }
        let done = what(&mut self.blocks);
        self.failed = done.as_ref().err().copied();
        done
    }
}

/// Whose votes `blocks` hold.
///
/// # Errors
///
/// [`Unusable`]: also when there never were any.
pub fn owner_of(blocks: &mut impl Blocks) -> Result<Owner, Unusable> {
    let mut copies = [Err(Fault::Blank), Err(Fault::Blank)];
    for (offset, copy) in [0, STRIDE].into_iter().zip(&mut copies) {
        let mut bytes = [0; STORED_LEN];
        blocks.read(at(offset), &mut bytes)?;
        *copy = Owner::parse(&bytes);
    }
    match copies {
        [Ok(owner), _] | [Err(Fault::Blank | Fault::Damaged), Ok(owner)] => Ok(owner),
        [Err(fault), Ok(_) | Err(_)] => Err(Unusable::Fault(None, fault)),
    }
}

fn read_all<B: Blocks, const PLACES: usize>(
    blocks: &mut B,
    owner: &Owner,
    mut found: impl FnMut(Stored),
) -> Result<(), Unusable> {
    let written = owner_of(blocks)?;
    if written != *owner {
        return Err(Unusable::Foreign(written));
    }
    let mut is_ended = false;
    for place in (0..u16::MAX).take(PLACES) {
        match read_place(blocks, owner, place)? {
            None => is_ended = true,
            // Places are taken in order, and each is durable before the next: a gap is no work of ours.
            Some(_) if is_ended => return Err(Unusable::Misplaced(place)),
            Some(stored) => found(stored),
        }
    }
    Ok(())
}

/// The register at `place`, and both copies made the same.
fn read_place(blocks: &mut impl Blocks, owner: &Owner, place: u16) -> Result<Option<Stored>, Unusable> {
    let mut copies = [Err(Fault::Blank), Err(Fault::Blank)];
    for (number, copy) in (0..).zip(&mut copies) {
        let mut bytes = [0; STORED_LEN];
        blocks.read(block(place, number), &mut bytes)?;
        *copy = Stored::parse(&bytes, owner);
    }
    let is_good = |copy: &Result<Stored, Fault>, best: &Stored| copy.as_ref() == Ok(best);
    let [zero, one] = &copies;
    if let (Ok(zero), Ok(one)) = (zero, one)
        && zero.register != one.register
    {
        return Err(Unusable::Misplaced(place));
    }
    let [zero, one] = [zero.clone(), one.clone()];
    match newest(copies) {
        Ok(best) => {
            let bytes = best.encode(owner);
            for (copy, number) in [(&zero, 0), (&one, 1)] {
                if !is_good(copy, &best) {
                    blocks.write(block(place, number), &bytes)?;
                }
            }
            Ok(Some(best))
        }
        Err(Fault::Blank) => {
            // The first write of this place was torn, and nothing was answered from it.
            for (copy, number) in [(&zero, 0), (&one, 1)] {
                if *copy != Err(Fault::Blank) {
                    blocks.write(block(place, number), &[0; BLOCK])?;
                }
            }
            Ok(None)
        }
        Err(fault @ (Fault::Damaged | Fault::NewerFormat { .. } | Fault::Foreign)) => {
            Err(Unusable::Fault(Some(place), fault))
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
