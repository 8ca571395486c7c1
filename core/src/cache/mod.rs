//! The write-back cache over the log: where the newest content of each block is (P4, S4-01).
//!
//! Reading order: [`index`]; [`stored`]: what is behind the cache is checked by.

pub mod index;
pub mod stored;
