//! What `embedded-hal` has no trait for.

use bulkhead_core::fence::desk::{Act, Done};
use bulkhead_core::fence::words::Outlet;

/// Resets the board unless it is fed again and again (V29).
pub trait Watchdog {
    /// Another period from now on.
    fn feed(&mut self);
}

/// Switches the power of nodes, and knows from a line of its own whether it is off.
pub trait Outlets {
    /// Does `act` at `outlet`. An outlet that is not there has failed.
    fn act(&mut self, outlet: Outlet, act: Act) -> Done;
}
