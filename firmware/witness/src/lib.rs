//! The witness, as far as it does not depend on a board: third voter of many pairs, and fencing device (P1,
//! S1-06, S4-11, X03).
//!
//! It runs without a heap and without an operating system. Everything here is tested on the host; a board
//! (`src/board` of the program) brings registers, interrupts and the log.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a red test"))]

pub mod card;
mod datagram;
pub mod frames;
pub mod hardware;
pub mod mac;
pub mod network;
pub mod records;
pub mod relays;
pub mod settings;
pub mod shell;
pub mod store;
pub mod strip;
pub mod survivor;

/// Pairs that one witness serves in the memory of the smallest board.
pub const PAIRS: usize = 64;
/// Nodes that it speaks with: two for each pair.
pub const PEERS: usize = PAIRS * 2;
/// Registers that it keeps: two for each pair, and the controller's.
pub const REGISTERS: usize = PAIRS * 2 + 1;
