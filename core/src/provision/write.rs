//! In which order a card is written, so that one which is cut meanwhile is what it was, or nobody's (F8,
//! V10).

use super::{BLOCK_LEN, Block, Head, PEERS_PER_BLOCK, Peer, SETTINGS_AT, STARTS_AT, Secrets, VOTES_AT};
use super::{encode_peers, encode_starts};
use crate::register::store::{STRIDE, offset};

/// Blocks of [`card`] that come first and make the card nobody's. Flush them before the next one.
pub const ERASED: usize = 4;
/// Blocks of [`card`] that come last and make it the witness's. Flush everything before them.
pub const OWNERS: usize = 2;

/// Everything that a card of a witness that never voted must hold, as blocks to write in this order. A card
/// cut meanwhile is no witness's: what makes it one comes last.
pub fn card<'a>(
    head: &'a Head,
    secrets: &'a Secrets,
    peers: &'a [Peer],
    registers: u16,
) -> impl Iterator<Item = (u64, Block)> + 'a {
    const NOTHING: Block = [0; BLOCK_LEN];
    let votes = |at: u64| VOTES_AT.saturating_add(at);
    let owner_at = [0, STRIDE].map(votes);
    let old = SETTINGS_AT.into_iter().chain(owner_at).map(|at| (at, NOTHING));
    let places =
        (0..registers).flat_map(move |place| [0, 1].map(|copy| (votes(offset(place, copy)), NOTHING)));
    let starts = STARTS_AT.map(|at| (at, encode_starts(&head.owner, 0)));
    let copies = SETTINGS_AT.into_iter().flat_map(move |at| copy(at, head, secrets, peers));
    let owner = owner_at.map(|at| (at, head.owner.encode()));
    old.chain(places).chain(starts).chain(copies).chain(owner)
}

/// One copy of the settings, to be written at one of [`SETTINGS_AT`] in this order: the head comes last. A
/// card that is provisioned again gets the copy first that is not in force, is flushed, and then gets the
/// other.
pub fn copy<'a>(
    at: u64,
    head: &'a Head,
    secrets: &'a Secrets,
    peers: &'a [Peer],
) -> impl Iterator<Item = (u64, Block)> + 'a {
    let block = move |number: u64| at.saturating_add(number.saturating_mul(512));
    let behind = (1..).zip(peers.chunks(PEERS_PER_BLOCK));
    let behind = behind.map(move |(number, peers)| (block(number), encode_peers(head.seq, peers)));
    behind.chain([(at, head.encode(secrets))])
}
