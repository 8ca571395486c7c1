//! Infrastructure resources: services that a control domain starts in order, watches, and stops in the
//! opposite order (S1-04, S1-05, S1-06, S1-15).
//!
//! [`life`] is one resource: what is done to it, and what each answer means. [`lineup`] is all of a node's in
//! their order. [`tenure`] is a node's right to the management system. The shell carries out the tasks:
//! systemd units, OCF resource agents.
//!
//! A resource of the *management system* runs only where its role is held, and must be known not to run
//! elsewhere. No lease is long enough for that: a stop takes seconds, or fails. So
//!
//! 1. who loses the role stops them at once, and a node that has not stopped them after the longest stop may
//!    take lets its watchdog reset it ([`lineup::Lineup::is_overdue`]);
//! 2. who wins the role waits that time, and the watchdog's, before it starts them ([`tenure::Tenure`]).
//!
//! A node without a watchdog cannot promise the first step after its agent died; the shell says so.

pub mod life;
pub mod lineup;
pub mod tenure;
