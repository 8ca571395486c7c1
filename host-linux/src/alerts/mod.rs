//! Alerts: what is wrong and stays so, in the words of a plant, raised once and cleared once (S0-12, S0-19,
//! S0-20, X25). When one begins and ends is `bulkhead_core::alert`'s to say.
//!
//! Reading order: [`conditions`], what is wrong, by a status; [`raised`], what is told of it.

pub mod conditions;
pub mod raised;
