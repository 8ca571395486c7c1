//! The write-back cache over the log: where the newest content of each block is (P4, S4-01).
//!
//! Reading order: [`index`].

pub mod index;
