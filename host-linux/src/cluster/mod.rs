//! The cluster part of the agent: runs the machines of `bulkhead_core::node` over two networks, with
//! durable votes, and tells people and programs how things are.

pub mod client;
pub mod control;
pub mod events;
pub mod medium;
pub mod outlook;
pub mod pressure;
pub mod request;
pub mod status;
pub mod status_text;
pub mod store;
pub mod transport;
pub mod wake;
pub mod writer;
