//! A whole site from one seed (X22, V47): the real [`bulkhead_core::node::machine::Node`], and beside it the
//! real [`bulkhead_core::holder::machine::Holder`], on simulated clocks, networks and disks. First everything
//! goes wrong that may go wrong, and safety is checked at every step; then everything is healed, and the site
//! must come together within its time.
//!
//! The same seed gives the same run on every machine: no clock, no thread, no random source, no hash order.
//!
//! Reading order: [`run`] (what a run is), [`plan`] (what goes wrong), [`world`] (the engine), `queue`,
//! [`oracle`] (what must never happen), `group`, [`site`] (many pairs, with guests), [`network`], [`disk`],
//! [`clock`], [`trace`].
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a simulator: an overflow or a wrong index is a defect of the test, and a panic says so"
)]

pub mod chance;
pub mod clock;
pub mod disk;
mod group;
pub mod network;
pub mod oracle;
pub mod plan;
mod power;
mod queue;
mod relay;
pub mod run;
pub mod shape;
pub mod site;
pub mod trace;
pub mod world;
