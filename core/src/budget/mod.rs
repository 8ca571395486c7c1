//! Every timer of a site, and how they hang together (X06).
//!
//! [`demand`]: what is wanted. [`rules`]: the inequalities. [`compile`](compile::compile): from the one to
//! the timers that keep the other, or a refusal that names the inequality. [`timers`]: the result.

pub mod compile;
pub mod demand;
pub mod rules;
pub mod timers;
