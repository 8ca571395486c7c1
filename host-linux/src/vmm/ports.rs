//! What a guest reaches by port: its serial console, its heartbeat, reset, and power (ACPI 6.5, 4.8.3.6 and
//! 4.8.3.7).

use super::acpi::S5;
use super::console::Console;
use super::layout::{BEAT, KEYBOARD, NO_BEAT, RESET, RESET_PORT, SERIAL, SLEEP_CONTROL, SLEEP_STATUS};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

/// What a guest wants by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To begin anew.
    Reset,
    /// To be off.
    PowerOff,
    /// To be expected to beat again, within a time that is coded like this.
    Beat(u8),
    /// Not to be expected to beat any more.
    NoBeat,
}

/// The command of the keyboard controller that resets.
const KEYBOARD_RESET: u8 = 0xfe;
/// `SLP_EN` of the sleep control register; the kind of sleep stands below it.
const SLEEP: u8 = 1 << 5;
const SLEEP_KIND: u32 = 2;

/// The ports of a guest. Nothing answers on all others: they read as ones.
pub struct Ports {
    serial: Mutex<Serial<Line, NoEvents, Console>>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

/// An interrupt line.
struct Line(EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.write(1)
    }
}

impl Ports {
    /// With a console that goes to `console`, and tells the guest of input by `interrupt`.
    #[must_use]
    pub fn new(interrupt: EventFd, console: Console) -> Self {
        Self { serial: Mutex::new(Serial::new(Line(interrupt), console)) }
    }

    /// With a console as it was when [`Self::saved`] was asked. `None`: there never was one like this.
    #[must_use]
    pub fn restored(saved: &SerialState, interrupt: EventFd, console: Console) -> Option<Self> {
        let serial = Serial::from_state(saved, Line(interrupt), NoEvents, console).ok()?;
        Some(Self { serial: Mutex::new(serial) })
    }

    /// The registers of the console, and what was typed and is not read.
    #[must_use]
    pub fn saved(&self) -> SerialState {
        self.lock().state()
    }

    /// The guest writes.
    pub fn write(&self, port: u16, data: &[u8]) -> Option<Wish> {
        let byte = data.first().copied().unwrap_or_default();
        match port {
            port if SERIAL.contains(&port) => {
                if let Ok(offset) = u8::try_from(port.saturating_sub(SERIAL.start)) {
                    // Nobody may read it: a guest goes on without its console.
                    let _ = self.lock().write(offset, byte);
                }
                None
            }
            KEYBOARD => (byte == KEYBOARD_RESET).then_some(Wish::Reset),
            RESET_PORT => (byte == RESET).then_some(Wish::Reset),
            BEAT => Some(Wish::Beat(byte)),
            NO_BEAT => Some(Wish::NoBeat),
            SLEEP_CONTROL => (byte == SLEEP | S5 << SLEEP_KIND).then_some(Wish::PowerOff),
            _ => None,
        }
    }

    /// The guest reads.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(u8::MAX);
        let Some(first) = data.first_mut() else { return };
        match port {
            port if SERIAL.contains(&port) => {
                let offset = u8::try_from(port.saturating_sub(SERIAL.start)).unwrap_or(u8::MAX);
                *first = self.lock().read(offset);
            }
            // It takes a command at any time, and has nothing to say.
            KEYBOARD | SLEEP_STATUS => *first = 0,
            _ => {}
        }
    }

    /// Somebody types. How many bytes the guest has room for.
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut serial = self.lock();
        let count = serial.fifo_capacity().min(bytes.len());
        let taken = bytes.get(..count).map(|bytes| serial.enqueue_raw_bytes(bytes));
        taken.and_then(Result::ok).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Serial<Line, NoEvents, Console>> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// Whatever a guest writes where, it gets what it wants or nothing.
    #[test]
    fn ports_do_what_they_are_for_and_nothing_else() {
        let (mut said, writer) = std::io::pipe().unwrap();
        let ports = Ports::new(EventFd::new(0).unwrap(), Console::to(writer).unwrap());
        b"hello".iter().for_each(|byte| assert_eq!(ports.write(SERIAL.start, &[*byte]), None));
        let mut hello = [0; 5];
        said.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
        assert_eq!(ports.input(b"abc"), 3);
        let mut byte = [0; 1];
        ports.read(SERIAL.start, &mut byte);
        assert_eq!(byte, *b"a");
        assert!(ports.input(&[7; 1000]) < 1000, "its room is bounded");

        for port in 0..=u16::MAX {
            for value in [0, 1, SLEEP, 0x34, 0x3c, 0xfe, 0xff] {
                let expected = match (port, value) {
                    (0x64, 0xfe) | (0x600, 1) => Some(Wish::Reset),
                    (0x601, 0x34) => Some(Wish::PowerOff),
                    (0x443, value) => Some(Wish::Beat(value)),
                    (0x441, _) => Some(Wish::NoBeat),
                    _ => None,
                };
                if !SERIAL.contains(&port) {
                    assert_eq!(ports.write(port, &[value, 0]), expected, "{port:#x} {value:#x}");
                }
            }
            let nothing = ports.write(port, &[]);
            assert!(!matches!(nothing, Some(Wish::Reset | Wish::PowerOff)), "{port:#x}");
            ports.read(port, &mut []);
        }
        let mut word = [0; 4];
        ports.read(0xcf8, &mut word);
        assert_eq!(word, [u8::MAX; 4]);
    }
}
