//! The firmware witness in QEMU: its card, its board, its log, its power strip (P1, S1-06, X03).

pub mod asker;
pub mod board;
pub mod budget;
pub mod card;
pub mod cluster;
pub mod device;
pub mod layout;
pub mod log;
pub mod outlet;
pub mod pairs;
pub mod playground;
pub mod site;
pub mod strip;
pub mod tap;
pub mod votes;
