//! The cache over the backing store: where the newest content of each block is while the log has it, and
//! which blocks of the store stay in memory (P4, S4-01, S4-02).
//!
//! Reading order: [`index`], of what is dirty; [`residents`], of what is read again, with `arc`, one of its
//! algorithms, and [`lists`], of which all of them are made; [`stored`]: what is behind the cache is checked
//! by.

mod arc;
pub mod index;
pub mod lists;
pub mod residents;
pub mod stored;
