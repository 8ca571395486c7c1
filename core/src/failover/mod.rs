//! The guests of a pair on the node that leads their volumes: which of them are begun, in which order, and
//! what follows when one does not run that is to (S3-01, S3-04, S3-08, S3-14, S3-19; X14; P3 claim 1).
//!
//! What is wanted is in the catalogue of the volumes ([`crate::volume::guest::Guest`]), which every holder
//! has, in the order of the log: so whoever comes to lead needs to ask nobody. What runs is looked at, never
//! remembered: a node that comes to lead may have guests already that were moved there.
//!
//! Reading order: [`life`], one guest; [`room`], what a node has for them; [`table`], all of them;
//! [`forecast`], what a loss would mean.

pub mod forecast;
pub mod life;
pub mod room;
pub mod table;
