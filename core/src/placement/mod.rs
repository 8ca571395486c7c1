//! Which host each guest runs on, now and after a loss (S1-37 to S1-41, S3-13 to S3-18, S3-21, X16, X17).
//!
//! | question | answer |
//! |---|---|
//! | what is there? | [`site`]: zones, pools, hosts, guests, checked once |
//! | who comes first? | [`priority`]: what a guest matters, and gains by those that need it |
//! | where does it go? | [`steps`]: the five steps; [`search`]: all guests together; [`answer`]: the result |
//! | where would it go? | [`alternates`]: the same for each loss that may come |
//! | where is room kept for it? | [`placeholder`]: far away, and at nobody's cost |
//! | may one more be started? | [`admission`]: boxes and slots, and what would help |
//! | how much is left? | [`quota`]: of each pool, without what no guest could use |
//!
//! Nothing here waits, moves or starts anything: a shell asks again when something has changed, and tells
//! the nodes. Time is counted in steps, memory is the caller's.

pub mod admission;
pub mod alternates;
pub mod amounts;
pub mod answer;
pub mod guest;
pub mod hosts;
pub mod memory;
pub mod placeholder;
pub mod priority;
pub mod quota;
mod rooms;
pub mod search;
pub mod site;
pub mod slots;
pub mod steps;
pub mod zones;

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod alternates_tests;
#[cfg(test)]
mod brute_tests;
#[cfg(test)]
mod placeholder_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod testing;

/// The memory that was given has too few places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// How many it takes: one for each guest.
    pub needed: usize,
}
