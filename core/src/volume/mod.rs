//! The volumes of a mirror group, as its catalogue has them (S3-07, S4-03; F4, V41).
//!
//! The catalogue is volume 0 of the group: block `n` of it describes volume `n`, and block 0 what is wanted
//! of the whole group. It is written like any guest's write, so that a volume is made, resized and deleted in
//! order, and durably on every holder in sync, before anybody is told that it was.
//!
//! Reading order: [`name`], [`record`] with [`guest`], [`group`]; [`claim`], [`written`] and [`tenure`],
//! which are no part of the catalogue: where a holder keeps a volume's content, if not in a file of its own,
//! and whose a store is that several holders reach.

pub mod claim;
pub mod group;
pub mod guest;
pub mod name;
pub mod record;
pub mod tenure;
#[cfg(test)]
mod testing;
pub mod written;

use crate::log::batch::Volume;

/// The volume that has the records of all others.
pub const CATALOGUE: Volume = Volume(0);

/// The largest number of a volume. Bounds what a holder must remember, and the catalogue.
pub const NUMBER_MAX: u16 = 4094;

/// Blocks of the catalogue: the group's, and one a number.
pub const CATALOGUE_BLOCKS: u64 = 4095;

/// Blocks of a volume at most: 2^40, 4 PiB.
pub const BLOCKS_MAX: u64 = 1 << 40;

const _: () = assert!(CATALOGUE_BLOCKS == NUMBER_MAX as u64 + 1, "a block for each number");
const _: () = assert!(BLOCKS_MAX <= crate::log::batch::VOLUME_BLOCKS_MAX, "the log can name every block");
