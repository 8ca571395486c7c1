//! The GUID partition table: where the partitions of a node disk are (S1-01, F45, V33).
//!
//! UEFI specification 2.10, section 5.3. Both copies are read and validated, every field of them;
//! what is used is the value that was validated, never a second reading of the bytes.
//!
//! Reading order: [`header`] and [`entries`] are the format, [`reading`] decides which copy is
//! used, [`layout`] finds Bulkhead's partitions in it, [`format`] writes a table.

pub mod entries;
pub mod format;
pub mod header;
pub mod layout;
pub mod reading;

#[cfg(test)]
mod tests;
