//! What a node boots, and the operations on its boot slots (I8, V30-V38, X18-X20).
//!
//! Reading order: [`choice`] decides which slot starts, [`explain`] says why, [`operations`] are
//! flash, set next, confirm and roll back. [`profile`]: what a control domain then starts (S1-04 to S1-09).

pub mod choice;
pub mod explain;
pub mod operations;
pub mod profile;
