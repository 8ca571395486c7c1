//! Every timer of a site, and how they hang together (X06).

pub mod timers;
