//! A holder of a mirror group at work: the shell of `bulkhead_core::holder` (P4; I1, I2, I10, I12; S4-03,
//! S4-07 to S4-15).
//!
//! ```text
//! handle ──▶ group ──▶ holder (core) ──▶ log          open: how it starts
//!              │          ▲
//!              ├─▶ peer ──┴─ streams                  flow: what comes, what is shown, what is sent
//!              └─▶ applier ──▶ store                  fill: what differs in a store
//! ```
//!
//! # Reading order
//!
//! 1. [`words`]: what the agent's loop and the operator say to a group, and what it asks of them.
//! 2. [`view`]: what it tells about itself; `show` puts it together, `placeholder` what it takes of its node.
//! 3. [`handle`]: how others speak to it, by its `mailbox`; `reader` answers reads, `read_cache` remembers
//!    them, `status` says what is zero.
//! 4. `window`: the writes of the log that are in memory; `tape`: those that are not; `batches`: how the log
//!    is read; `acks`: of which writes guests are told; `risk`: what the loss of this node would lose.
//! 5. `dirty`: what is to go to the backing store: `extents` in memory, the rest where the log has it;
//!    `logged` reads it there; `store`: that store, `store_directory`: what else is there; `backing`, `sums`:
//!    a volume of it; `applier`: who writes it. `tenancy`: whose it is, if several holders reach it;
//!    `tenant`: when this one has it.
//! 6. `group`: the thread; `act`, `apply`, `flow`, `peer`, `fill`, `orders`, `settings`: its parts.
//! 7. `compare`: where two stores differ; `touched`: where guests wrote meanwhile; `filler`: who fills.
//! 8. `mends`: what is damaged in the store, and what others have there; `mending`, `given`: how they are
//!    asked, and answered; `scrub`: who looks for it; `missing`: what was lost while nobody had it open.
//! 9. [`open`]: how it starts.

mod acks;
mod act;
mod applier;
mod apply;
mod backing;
mod batches;
mod compare;
mod dirty;
mod extents;
mod fill;
mod filler;
mod flow;
mod given;
mod group;
pub mod handle;
mod logged;
mod mailbox;
mod mending;
mod mends;
mod missing;
pub mod open;
mod orders;
mod peer;
mod placeholder;
mod read_cache;
mod reader;
mod risk;
mod scrub;
mod settings;
mod show;
mod status;
mod store;
mod store_directory;
mod sums;
mod tape;
mod tenancy;
mod tenant;
mod touched;
pub mod view;
mod window;
pub mod words;
mod writes;

#[cfg(test)]
mod backing_tests;
#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod fill_tests;
#[cfg(test)]
mod full_tests;
#[cfg(test)]
mod operator_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod scrub_tests;
#[cfg(test)]
mod seal_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod start_bench;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod three_tests;
