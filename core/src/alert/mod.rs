//! Alerts: what is wrong with a site and stays so, each said once when it begins and once when it is over
//! (S0-12, S0-19, S0-20, X25).
//!
//! A shell tells the board what holds now, as often as it likes; the board says what became an alert and what
//! is none any more. What holds for a moment only is no alert, and what comes and goes is one, not many.
//!
//! Reading order: [`kind`], what there is; [`board`], when it begins and ends.

pub mod board;
pub mod kind;
