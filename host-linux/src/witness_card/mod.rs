//! The card of a witness on a microcontroller: made from the site's configuration, shown, and made anew
//! without losing its votes (P1, S1-06, F8, F54, V10, V41). Formats and places are those of
//! `bulkhead_core::provision`.
//!
//! [`plan`] says what a card is to hold, [`read`] what one holds, [`write`] brings one to the other.

pub mod plan;
pub mod read;
pub mod write;

#[cfg(test)]
mod tests;
