//! The firmware witness in QEMU: its card, its board, its log (P1, S1-06, X03).

pub mod board;
pub mod card;
pub mod device;
pub mod log;
pub mod site;
pub mod strip;
