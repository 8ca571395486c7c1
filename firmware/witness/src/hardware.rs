//! What `embedded-hal` has no trait for.

use bulkhead_core::fence::desk::{Act, Done, OrderId};
use bulkhead_core::fence::strip::line::Counters;
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::time::Instant;

/// Resets the board unless it is fed again and again (V29).
pub trait Watchdog {
    /// Another period from now on.
    fn feed(&mut self);
}

/// Switches the power of nodes, and knows from a line of its own whether it is off. Never waits.
pub trait Outlets {
    /// Begins to do `act` at `outlet`. An outlet that is not there has failed.
    fn begin(&mut self, now: Instant, order: OrderId, outlet: Outlet, act: Act);

    /// Goes on with what was begun, and returns an order that ended: once each.
    fn turn(&mut self, now: Instant) -> Option<(OrderId, Done)>;

    /// What a strip said that was no answer.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// Relays on the board, and a strip on its line: each takes the orders for its own outlets.
#[derive(Debug)]
pub struct Both<R, S> {
    /// The relays.
    pub relays: R,
    /// The strip.
    pub strip: S,
}

impl<R: Outlets, S: Outlets> Outlets for Both<R, S> {
    fn begin(&mut self, now: Instant, order: OrderId, outlet: Outlet, act: Act) {
        match outlet {
            Outlet::Relay(_) => self.relays.begin(now, order, outlet, act),
            Outlet::Strip(_) => self.strip.begin(now, order, outlet, act),
        }
    }

    fn turn(&mut self, now: Instant) -> Option<(OrderId, Done)> {
        self.relays.turn(now).or_else(|| self.strip.turn(now))
    }

    fn counters(&self) -> Counters {
        self.strip.counters()
    }
}
