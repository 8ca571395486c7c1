//! A holder of a mirror group at work: the shell of `bulkhead_core::holder` (P4; I1, I2, I10, I12; S4-03,
//! S4-07 to S4-15).
//!
//! ```text
//! handle ──▶ group ──▶ holder (core) ──▶ log          open: how it starts
//!              │          ▲
//!              ├─▶ peer ──┴─ streams                  flow: what comes, what is shown, what is sent
//!              └─▶ applier ──▶ store                  fill: the whole of a store
//! ```
//!
//! # Reading order
//!
//! 1. [`words`]: what the agent's loop and the operator say to a group, and what it asks of them.
//! 2. [`view`]: what it tells about itself; `show` puts it together.
//! 3. [`handle`]: how others speak to it; `reader` answers reads.
//! 4. `window`: the writes of the log that are in memory; `tape`: those that are not.
//! 5. `dirty`: what is to go to the backing store; `store`: that store; `applier`: who writes it.
//! 6. `group`: the thread; `act`, `apply`, `flow`, `peer`, `fill`, `orders`: its parts.
//! 7. [`open`]: how it starts.

mod act;
mod applier;
mod apply;
mod dirty;
mod fill;
mod flow;
mod group;
pub mod handle;
pub mod open;
mod orders;
mod peer;
mod reader;
mod show;
mod store;
mod tape;
pub mod view;
mod window;
pub mod words;

#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod testing;
