//! Switch.
pub mod chance;
