//! The settings on the card, and the number of this start (F8, F39, F54). Formats and places are those of
//! `core::provision`.

use bulkhead_core::provision::{
    Fault, Head, PEERS_PER_BLOCK, Peer, SETTINGS_AT, STARTS_AT, encode_starts, parse_peers, parse_starts,
};
use bulkhead_core::register::store::Owner;
use heapless::Vec;

use crate::card::{BLOCK, Blocks, Trouble, block_at};

/// Why a card makes no witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The card failed.
    Card(Trouble),
    /// Neither copy of the settings can be used; why the first one cannot.
    Settings(Fault),
    /// They name more peers than this firmware was built for.
    TooManyPeers(u16),
    /// Neither copy of the number of starts is whole: a nonce could come twice.
    Starts,
}

impl From<Trouble> for Unfit {
    fn from(trouble: Trouble) -> Self {
        Self::Card(trouble)
    }
}

/// Reads the settings, and their peers into `peers`: there is no room for those twice.
///
/// # Errors
///
/// [`Unfit`]: `peers` are then without meaning.
#[inline(never)]
pub fn load<const PEERS: usize>(
    blocks: &mut impl Blocks,
    peers: &mut Vec<Peer, PEERS>,
) -> Result<Head, Unfit> {
    let [one, two] = SETTINGS_AT.map(block_at);
    let seq = |blocks: &mut _, at| -> Result<Result<u64, Fault>, Unfit> {
        Ok(head(blocks, at)?.map(|head| head.seq))
    };
    let order = match (seq(blocks, one)?, seq(blocks, two)?) {
        (Ok(a), Ok(b)) if a < b => [two, one],
        (Err(_), Ok(_)) => [two, one],
        (Ok(_) | Err(_), Ok(_) | Err(_)) => [one, two],
    };
    let mut why = None;
    for at in order {
        peers.clear();
        match copy(blocks, at, peers)? {
            Ok(head) => return Ok(head),
            Err(Reading::TooMany(count)) => return Err(Unfit::TooManyPeers(count)),
            Err(Reading::Fault(fault)) => why = why.or(Some(fault)),
        }
    }
    Err(Unfit::Settings(why.unwrap_or(Fault::Blank)))
}

enum Reading {
    TooMany(u16),
    Fault(Fault),
}

fn head(blocks: &mut impl Blocks, at: u32) -> Result<Result<Head, Fault>, Trouble> {
    let mut bytes = [0; BLOCK];
    blocks.read(at, &mut bytes)?;
    Ok(Head::parse(&bytes))
}

fn copy<const PEERS: usize>(
    blocks: &mut impl Blocks,
    at: u32,
    peers: &mut Vec<Peer, PEERS>,
) -> Result<Result<Head, Reading>, Trouble> {
    let head = match head(blocks, at)? {
        Ok(head) => head,
        Err(fault) => return Ok(Err(Reading::Fault(fault))),
    };
    if PEERS < usize::from(head.peers) {
        return Ok(Err(Reading::TooMany(head.peers)));
    }
    let mut left = usize::from(head.peers);
    for block in (at.saturating_add(1)..).take(head.peer_blocks()) {
        let mut bytes = [0; BLOCK];
        blocks.read(block, &mut bytes)?;
        // Room was asked for above.
        let parsed = parse_peers(&bytes, head.seq, left, |peer| {
            let _ = peers.push(peer);
        });
        if let Err(fault) = parsed {
            return Ok(Err(Reading::Fault(fault)));
        }
        left = left.saturating_sub(PEERS_PER_BLOCK);
    }
    Ok(Ok(head))
}

/// Counts this start, and returns its number: on the card before it is returned, and never returned twice.
///
/// # Errors
///
/// [`Unfit::Card`], [`Unfit::Starts`].
pub fn next_start(blocks: &mut impl Blocks, owner: &Owner) -> Result<u64, Unfit> {
    let mut found = [None, None];
    for (at, found) in STARTS_AT.map(block_at).into_iter().zip(&mut found) {
        let mut bytes = [0; BLOCK];
        blocks.read(at, &mut bytes)?;
        *found = parse_starts(&bytes, owner);
    }
    let [one, two] = found;
    let [place_one, place_two] = STARTS_AT.map(block_at);
    let number = one.max(two).ok_or(Unfit::Starts)?.saturating_add(1);
    // The copy that is behind is written, so that the other one is whole meanwhile.
    let place = if one < two { place_one } else { place_two };
    blocks.write(place, &encode_starts(owner, number))?;
    Ok(number)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
