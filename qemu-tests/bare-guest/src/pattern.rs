//! What blocks hold: a number, and words that follow from it, each another one; or the last number alone.

use super::disk::{BLOCK, DATA};
use super::memory::{WORD, get, put};

/// Behind the last number: a block of zeroes has none, and no part of another block looks like it.
const MARK: u32 = 0x6b6c_7562;

/// The word `place` of the block with this number.
fn word(number: u32, place: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b9) ^ place.wrapping_mul(0x85eb_ca6b)
}

fn places() -> impl Iterator<Item = (u32, u32)> {
    (0..BLOCK / WORD).zip((DATA..).step_by(WORD as usize))
}

/// Makes the block of this number.
pub fn fill(number: u32) {
    places().for_each(|(place, at)| put(at, word(number, place)));
}

/// Whether the block is that of this number, all of it.
pub fn is_whole(number: u32) -> bool {
    places().all(|(place, at)| get(at) == word(number, place))
}

/// Whether the block begins as that of this number: no other number's does.
pub fn begins_as(number: u32) -> bool {
    places().take(1).all(|(place, at)| get(at) == word(number, place))
}

/// Whether nothing was ever written there.
pub fn is_empty() -> bool {
    places().take(1).all(|(_, at)| get(at) == 0)
}

/// Makes the block that says which number is the last one.
pub fn mark(number: u32) {
    places().for_each(|(_, at)| put(at, 0));
    for (at, value) in (DATA..).step_by(WORD as usize).zip([number, MARK, !number]) {
        put(at, value);
    }
}

/// Which number is the last one: none of a disk that was never written.
pub fn marked() -> Option<u32> {
    let mut words = places().map(|(_, at)| get(at));
    match (words.next()?, words.next()?, words.next()?) {
        (0, 0, 0) => Some(0),
        (number, MARK, rest) if rest == !number => Some(number),
        (_, _, _) => None,
    }
}
