//! A whole site on one machine, as real processes: what a newcomer tries first, and what other tests reuse
//! (BLACKBOX 7).
//!
//! [`relay`] carries every datagram and stream between the processes, so that links can be cut without root;
//! [`layout`] writes their configuration, with [`ports`] of their own; [`site`] starts, stops and hurts them.

pub mod guest;
pub mod layout;
pub mod ports;
pub mod relay;
pub mod site;
mod streams;
