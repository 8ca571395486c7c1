//! Guests on a pair of nodes that loses what it can lose, singly and in pairs, is repaired, and is asked the
//! same questions after each step (S0-07, S3-01, S3-11, X09, X25; V1, V2, V4, V5, V19, V23; I5): whether each
//! guest runs once where any can, whether what it was told to be durable is, and whether it is said what is
//! wrong.
//!
//! Read [`fault`] for what can be lost, [`script`] for what follows what, [`run`] for the questions.

pub mod fault;
pub mod ledger;
pub mod plant;
pub mod questions;
pub mod report;
pub mod run;
pub mod script;
pub mod sight;
pub mod watch;
