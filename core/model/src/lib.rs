//! Every order of events within small bounds: the real machines of the core under the model checker
//! `stateright` (I1 to I3, I5, I10, V2, V3, V10, V11, V20, V21, S4-10, X04, X14, L-1).
//!
//! The simulator draws long stories by chance; a model here tries all short ones. Each model states its
//! bounds, visits every state within them once, and shows with "sometimes" properties that it is not empty.
//! What it assumes stands in the file of the model.
//!
//! - [`register`]: voters and proposers, with lost, late and repeated messages, and power cuts at every
//!   write.
//! - [`lease`]: seats and voters on drifting clocks, with restarts, pauses, fences and a change of voters.
//! - [`pair`]: two instances, their rule, false suspicion, lost words, and a fencing device.
//! - [`mirror`]: the holders of a mirror group, with takeovers, power cuts at every write, broken streams.
//!
//! Visited states are kept as 64-bit fingerprints: at ten million of them, two different ones are taken for
//! one with a chance below one in 100,000.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a checker: a panic is its error message"
)]

pub mod lease;
pub mod mirror;
pub mod pair;
pub mod register;
pub mod run;
pub mod shared;
