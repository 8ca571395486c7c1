//! Bulkhead core: every decision a node makes, and nothing else.
//!
//! The core owns no clock, no disk, no socket and no heap. A shell (the Linux command, the UEFI
//! application, or a test) feeds it bytes it has read and carries out what it returns. The same
//! inputs give the same decision in every shell.
//!
//! # Reading order
//!
//! 1. [`block`], [`bytes`], [`crc`]: the words every format is written in; [`time`], [`id`], [`actions`]: the
//!    words every machine is written in.
//! 2. [`gpt`]: where the partitions of a node disk are (S1-01).
//! 3. [`container`]: what a boot partition holds, and when it may be believed (V32).
//! 4. [`bcb`]: what the disk remembers about its two boot slots (I8).
//! 5. [`plan`]: how a change becomes writes and flushes that survive a power cut.
//! 6. [`register`]: the leased register, the one coordination primitive (I1, I5).
//! 7. [`link`]: between a message and a datagram on two paths (V22, S3-02).
//! 8. [`monitor`]: who is alive, who is master (S1-17 to S1-20).
//! 9. [`boot`]: which slot starts, and the operations on slots.
//! 10. [`node`]: all machines of the cluster together; [`budget`]: their timers.
//! 11. [`fence`]: power cut through a witness, for the rightful side only (V20, V21).
//! 12. [`resource`]: the services of a node, in their order (S1-15).
//! 13. [`log`]: what a holder of a mirror group has acknowledged, in order (I2, V12).
//! 14. [`cache`]: where the newest content of each block is, and which stay in memory (P4, S4-02).
//! 15. [`mirror`]: who holds every acknowledged write, and who may go on with it (I2, I3).
//! 16. [`holder`]: log and role of one holder, in one machine (I1 to I4).
//! 17. [`volume`]: what the volumes of a mirror group are (S3-07).
//! 18. [`provision`]: what the card of a witness on a microcontroller holds (P1).
//! 19. [`placement`]: which host each guest runs on, now and after a loss (S1-40, X17).
#![no_std]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a red test"))]

#[cfg(test)]
extern crate std;

pub mod actions;
pub mod alert;
pub mod bcb;
pub mod block;
pub mod boot;
pub mod budget;
pub mod bug;
pub mod bytes;
pub mod cache;
pub mod container;
pub mod crc;
pub mod failover;
pub mod fence;
pub mod gpt;
pub mod holder;
pub mod id;
pub mod link;
pub mod log;
pub mod mirror;
pub mod monitor;
pub mod node;
pub mod placement;
pub mod plan;
pub mod provision;
pub mod register;
pub mod resource;
pub mod slot;
pub mod time;
pub mod volume;
