//! Guests run where their volumes are led: the node that comes to lead begins those that are to run, and
//! begins them again when they are gone (S3-01, S3-04, S3-08, S3-11, S3-14, S3-19; S0-07, S0-08). Who decides
//! is [`bulkhead_core::failover`]; here that is carried out.
//!
//! # Reading order
//!
//! 1. [`wanted`]: what is wanted of a guest, as people and programs say it.
//! 2. [`service`]: the agent's thread that looks, and has guests begun.
//! 3. [`begin`]: one guest is begun; [`sight`]: one is looked at; [`came`]: one has come from another pair;
//!    [`adrift`]: one went, and was not heard of; [`hearts`]: one does not beat.
//! 4. [`room`]: who has room, and whether one more may be started; [`placeholder`]: memory that is kept for
//!    those who would begin here.
//! 5. [`forecast`]: what would follow a loss; [`drill`]: what did; [`homing`]: the way home.

pub mod adrift;
pub mod begin;
pub mod came;
pub mod drill;
pub mod forecast;
pub mod hearts;
pub mod homing;
pub mod placeholder;
pub mod room;
pub mod service;
pub mod sight;
pub mod wanted;
