//! Volumes: what an operator and a guest see of a mirror group (S1-27 to S1-29, S3-07; docs/volumes.md).
//!
//! Reading order: [`catalogue`] (which volumes there are), [`orders`] (what is asked of them), [`route`]
//! (how a request finds the node that leads), [`serve`] (what is exported), [`size`] (how large one is).

pub mod catalogue;
pub mod orders;
pub mod route;
pub mod serve;
pub mod size;
