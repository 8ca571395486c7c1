//! The cluster part of the agent: runs the machines of `bulkhead_core::node` over two networks, with
//! durable votes, and tells people and programs how things are.

pub mod medium;
pub mod store;
