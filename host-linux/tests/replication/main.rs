//! Streams between the holders of a mirror group, over real sockets on loopback: what arrives, what never
//! does, and what hostile or broken networks change (S1-31, F31, F36, F39, V5, V16, V22, I11). Times are
//! bounds for a busy machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod bench;
mod broken;
#[path = "../common/certificates.rs"]
mod certificates;
mod encrypted;
mod flow;
mod hostile;
mod impostor;
mod meeting;
mod proxy;
mod shaking;
mod site;
mod traffic;
mod veiled;
