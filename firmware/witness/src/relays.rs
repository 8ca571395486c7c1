//! Relays in the power feed of nodes, each with a line that senses whether the node has power (V20, F28).
//!
//! | line  | level | meaning                                                               |
//! |-------|-------|-----------------------------------------------------------------------|
//! | relay | high  | the power is cut; low, as at every start of the board: it is not      |
//! | sense | low   | a contact that only closes without power is closed: the power is off  |
//! | sense | high  | the power is on; or the wire is broken, and nothing is confirmed      |

use bulkhead_core::fence::desk::{Act, Done, ORDERS_MAX, OrderId};
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::time::Instant;
use embedded_hal::digital::{InputPin, OutputPin};

use heapless::Deque;

use crate::hardware::Outlets;

/// One relay and its sense line.
#[derive(Debug)]
pub struct Relay<O, I> {
    /// High cuts the power.
    pub cut: O,
    /// Low when the power is off.
    pub sense: I,
}

/// All relays of a board.
#[derive(Debug)]
pub struct Relays<O, I, const COUNT: usize> {
    relays: [Relay<O, I>; COUNT],
    ended: Deque<(OrderId, Done), ORDERS_MAX>,
}

impl<O: OutputPin, I: InputPin, const COUNT: usize> Relays<O, I, COUNT> {
    /// Relay 1 first.
    pub const fn new(relays: [Relay<O, I>; COUNT]) -> Self {
        Self { relays, ended: Deque::new() }
    }

    fn act(&mut self, outlet: Outlet, act: Act) -> Done {
        let Outlet::Relay(number) = outlet else { return Done::Failed };
        let place = usize::from(number.get()).checked_sub(1);
        let Some(relay) = place.and_then(|place| self.relays.get_mut(place)) else { return Done::Failed };
        let done = match act {
            Act::Off => relay.cut.set_high().map(|()| Done::Switched).map_err(drop),
            Act::On => relay.cut.set_low().map(|()| Done::Switched).map_err(drop),
            Act::Read => {
                let is_off = relay.sense.is_low().map_err(drop);
                is_off.map(|is_off| if is_off { Done::IsOff } else { Done::IsOn })
            }
        };
        done.unwrap_or(Done::Failed)
    }
}

impl<O: OutputPin, I: InputPin, const COUNT: usize> Outlets for Relays<O, I, COUNT> {
    fn begin(&mut self, _: Instant, order: OrderId, outlet: Outlet, act: Act) {
        let done = self.act(outlet, act);
        // One that finds no room is overdue for the desk, and so has failed.
        let _ = self.ended.push_back((order, done));
    }

    fn turn(&mut self, _: Instant) -> Option<(OrderId, Done)> {
        self.ended.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use std::cell::Cell;
    use std::rc::Rc;

    use embedded_hal::digital::ErrorType;

    use super::*;

    const RELAY_1: Outlet = Outlet::Relay(core::num::NonZeroU8::MIN);

    struct Line(Rc<Cell<bool>>);

    impl ErrorType for Line {
        type Error = Infallible;
    }

    impl OutputPin for Line {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.set(false);
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            self.0.set(true);
            Ok(())
        }
    }

    impl InputPin for Line {
        fn is_high(&mut self) -> Result<bool, Infallible> {
            Ok(self.0.get())
        }

        fn is_low(&mut self) -> Result<bool, Infallible> {
            Ok(!self.0.get())
        }
    }

    /// V20: off is what the sense line says, never what was asked for; a broken wire confirms nothing.
    #[test]
    fn a_cut_is_confirmed_by_the_sense_line_alone() {
        let (cut, sense) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(true)));
        let mut relays = Relays::new([Relay { cut: Line(cut.clone()), sense: Line(sense.clone()) }]);
        assert_eq!(relays.act(RELAY_1, Act::Read), Done::IsOn);
        assert_eq!((relays.act(RELAY_1, Act::Off), cut.get()), (Done::Switched, true));
        assert_eq!(relays.act(RELAY_1, Act::Read), Done::IsOn, "the relay sticks, or the wire is broken");
        sense.set(false);
        assert_eq!(relays.act(RELAY_1, Act::Read), Done::IsOff);
        assert_eq!((relays.act(RELAY_1, Act::On), cut.get()), (Done::Switched, false));
        let number = |number| core::num::NonZeroU8::new(number).unwrap();
        for nowhere in [Outlet::Relay(number(2)), Outlet::Relay(number(255)), Outlet::Strip(number(1))] {
            assert_eq!(relays.act(nowhere, Act::Off), Done::Failed);
        }
        assert!(!cut.get());
        relays.begin(Instant::ZERO, OrderId(5), RELAY_1, Act::Off);
        let ended = [relays.turn(Instant::ZERO), relays.turn(Instant::ZERO)];
        assert_eq!(ended, [Some((OrderId(5), Done::Switched)), None]);
    }
}
