//! The cluster part of the agent: runs the machine of `bulkhead_core::node` over two networks, with durable
//! votes, and tells people and programs how things are (issue of S1-17..S1-23, S2-02..S2-08).
//!
//! Reading order:
//!
//! 1. [`start`]: from a configuration file to a loop; [`node_settings`], [`pressure`].
//! 2. [`run`]: the loop, which never waits; [`hands`] carries out what the node asks for.
//! 3. What waits, each in a thread of its own: [`writer`] on [`store`] on [`medium`], [`fencer`] with
//!    [`fence_agent`], [`switchboard`], [`fence_history`], [`resources`] with [`resource_agent`], [`profile`]
//!    with [`echo`], [`marks`], [`control`] with [`request`], [`events`].
//!    [`apply`] takes a file that changed; [`storage`] stands between the node and its mirror group, which
//!    [`volumes`] starts.
//! 4. [`transport`], [`clock`], [`wake`]: the system, in small pieces.
//! 5. [`view`] makes a [`status`] of the machines and of what [`witnesses`] say of themselves, [`outlook`]
//!    says what would happen, `looks` has the agent look at it; [`status_text`] and [`words`]
//!    say it to people, [`client`] asks for it.

pub mod apply;
pub mod client;
pub mod clock;
pub mod control;
pub mod echo;
pub mod events;
pub mod fence_agent;
pub mod fence_history;
mod fence_requests;
pub mod fencer;
mod force_requests;
pub mod guest_moves;
pub mod guest_requests;
pub mod hands;
pub mod holds;
mod looks;
pub mod management;
pub mod marks;
pub mod medium;
pub mod node_settings;
pub mod outlook;
pub mod pressure;
pub mod profile;
pub mod record;
pub mod request;
pub mod resource_agent;
pub mod resources;
pub mod run;
pub mod start;
pub mod status;
pub mod status_text;
pub mod storage;
pub mod store;
pub mod switchboard;
pub mod transport;
pub mod view;
mod volume_requests;
pub mod volumes;
pub mod wake;
pub mod witnesses;
pub mod words;
pub mod writer;
