//! The streams between the holders of a mirror group: TCP on both control networks, authenticated, encrypted
//! if wanted, bounded, back-pressured (S1-24, S1-31, S4-07; F31, F36, F39, V5, V16, V22, V43; I11).
//!
//! They keep what `bulkhead_core::holder` asks of them: what one holder sends arrives in order, and once, or
//! the stream breaks; nothing of a stream that broke arrives later; and a stream is met when both ends have
//! begun anew. A frame is sent on the [`words::Stream`] it is meant for, so that what a holder says before it
//! knows that a stream broke does not go by the next one.
//!
//! ```text
//!   group ── send ──▶ Line ── socket ──▶ peer          the caller's thread; then the line's own
//!   group ◀─ inbox ── Peer's gate ◀── Reader ◀── peer  one thread a stream
//!                        ▲
//!   Door: newcomers, dials, the clock                  one thread in all
//! ```
//!
//! # Reading order
//!
//! 1. [`words`]: what is sent and told; what the streams must know.
//! 2. [`frame`], [`seal`], [`part`]: frames in bytes, their tags, and both together.
//! 3. [`hello`], [`veil`]: how a stream begins, and how one that is encrypted.
//! 4. [`wire`], [`line`], [`intake`], [`reader`]: one stream, out and in.
//! 5. [`peer`]: which stream of a peer counts.
//! 6. [`knock`], [`dial`], [`door`]: how streams are had.
//! 7. [`tally`]: what was seen; [`service`]: all together.

pub mod dial;
pub mod door;
pub mod frame;
pub mod hello;
pub mod intake;
pub mod knock;
pub mod line;
pub mod part;
pub mod peer;
pub mod reader;
pub mod seal;
pub mod service;
pub mod tally;
pub mod veil;
pub mod wire;
pub mod words;

#[cfg(test)]
mod frame_tests;
