//! Volumes: what an operator and a guest see of a mirror group (S1-27 to S1-29, S3-07; docs/volumes.md).
//!
//! Reading order: [`catalogue`] (which volumes there are), [`orders`] (what is asked of them), [`route`]
//! (what clients are given on every node).

pub mod catalogue;
pub mod orders;
pub mod route;
