//! Relays in the power feed of nodes, each with a line that senses whether the node has power (V20, F28).
//!
//! | line  | level | meaning                                                               |
//! |-------|-------|-----------------------------------------------------------------------|
//! | relay | high  | the power is cut; low, as at every start of the board: it is not      |
//! | sense | low   | a contact that only closes without power is closed: the power is off  |
//! | sense | high  | the power is on; or the wire is broken, and nothing is confirmed      |

use bulkhead_core::fence::desk::{Act, Done};
use embedded_hal::digital::{InputPin, OutputPin};

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
pub struct Relays<O, I, const COUNT: usize>(pub [Relay<O, I>; COUNT]);

impl<O: OutputPin, I: InputPin, const COUNT: usize> Outlets for Relays<O, I, COUNT> {
    fn act(&mut self, outlet: u8, act: Act) -> Done {
        let place = usize::from(outlet).checked_sub(1);
        let Some(relay) = place.and_then(|place| self.0.get_mut(place)) else { return Done::Failed };
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

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use std::cell::Cell;
    use std::rc::Rc;

    use embedded_hal::digital::ErrorType;

    use super::*;

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
        let mut relays = Relays([Relay { cut: Line(cut.clone()), sense: Line(sense.clone()) }]);
        assert_eq!(relays.act(1, Act::Read), Done::IsOn);
        assert_eq!((relays.act(1, Act::Off), cut.get()), (Done::Switched, true));
        assert_eq!(relays.act(1, Act::Read), Done::IsOn, "the relay sticks, or the wire is broken");
        sense.set(false);
        assert_eq!(relays.act(1, Act::Read), Done::IsOff);
        assert_eq!((relays.act(1, Act::On), cut.get()), (Done::Switched, false));
        for nowhere in [0, 2, 255] {
            assert_eq!(relays.act(nowhere, Act::Off), Done::Failed);
        }
        assert!(!cut.get());
    }
}
