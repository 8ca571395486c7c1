//! A node that is simulated down to the sectors of its disk, and an oracle that knows the truth.
//!
//! Reading order: [`disk`] is a disk that loses power, [`images`] the signed images there are, [`truth`]
//! what must hold whatever the core thinks, [`node`] the shell that drives the core, [`events`] what can
//! happen, with the one decoding of bytes that walk and fuzzer share; [`links`] is the same for two ends of
//! a link, [`votes`] for a voter and its disk, [`witness`] for a witness's card and strip.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod disk;
pub mod events;
pub mod images;
pub mod key;
pub mod links;
pub mod node;
pub mod parsers;
pub mod truth;
pub mod votes;
pub mod witness;

/// Numbers that look random and are the same in every run (STYLE rule 13).
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number (splitmix64).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}
