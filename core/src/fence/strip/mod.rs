//! A power strip on a serial line: its outlets feed nodes, a witness has them switched and reads them back
//! (S1-06, V20, F28).
//!
//! - [`words`]: the lines that are sent, byte by byte.
//! - [`line`]: the witness's end: one request at a time, repeated until it is answered or has failed.
//!
//! docs/power-strip.md is the same for those who build a strip.

pub mod line;
pub mod words;
