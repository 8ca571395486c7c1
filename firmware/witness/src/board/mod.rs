//! What the witness needs of a board. Another board is one more module here, with the same public names.
//!
//! Everything it hands out implements the traits of `embedded-hal` and `embedded-io`; what those lack, a
//! watchdog, a clock and a network device, is a small trait of [`bulkhead_witness::hardware`] or of smoltcp.

pub mod lm3s6965;

pub use lm3s6965 as here;
