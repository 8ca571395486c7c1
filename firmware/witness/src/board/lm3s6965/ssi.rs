//! SSI 0, the bus of the card: SPI mode 0, 8 bits.

use embedded_hal::spi::{Error, ErrorKind, ErrorType, SpiBus};

use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: SSI 0.
const SSI: Block = unsafe { Block::at(0x4000_8000) };
const FRAME: usize = 0x000;
const CONTROL: usize = 0x004;
const DATA: usize = 0x008;
const STATUS: usize = 0x00c;
const DIVIDER: usize = 0x010;

const FRAME_EIGHT_BITS: u32 = 7;
const CONTROL_ON: u32 = 1 << 1;
const STATUS_RECEIVED: u32 = 1 << 2;
const STATUS_BUSY: u32 = 1 << 4;
/// 50 MHz / 126 = 397 kHz: what every card takes while it wakes up.
const DIVIDER_SLOW: u32 = 126;
/// 50 MHz / 4 = 12.5 MHz: below the 25 MHz of any card, with wires of some length.
const DIVIDER_FAST: u32 = 4;
/// A byte takes 20 us at the slow pace; a read takes at least 60 ns.
const READS_MAX: u32 = 5_000;

/// The bus.
#[derive(Debug)]
pub struct Ssi(());

/// A byte did not come back: the bus has no clock.
#[derive(Clone, Copy, Debug)]
pub struct Stuck;

impl Error for Stuck {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Ssi {
    /// The bus at the pace for cards that wake up.
    pub fn start() -> Self {
        let mut bus = Self(());
        bus.set(DIVIDER_SLOW);
        bus
    }

    /// The pace for cards that are awake.
    pub fn faster(&mut self) {
        self.set(DIVIDER_FAST);
    }

    fn set(&mut self, divider: u32) {
        SSI.write(CONTROL, 0);
        SSI.write(FRAME, FRAME_EIGHT_BITS);
        SSI.write(DIVIDER, divider);
        SSI.write(CONTROL, CONTROL_ON);
    }

    fn exchange(&mut self, byte: u8) -> Result<u8, Stuck> {
        SSI.write(DATA, u32::from(byte));
        if !(0..READS_MAX).any(|_| SSI.read(STATUS) & STATUS_RECEIVED != 0) {
            return Err(Stuck);
        }
        let [byte, ..] = SSI.read(DATA).to_le_bytes();
        Ok(byte)
    }
}

impl ErrorType for Ssi {
    type Error = Stuck;
}

impl SpiBus for Ssi {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Stuck> {
        bytes.fill(0xff);
        self.transfer_in_place(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stuck> {
        bytes.iter().try_for_each(|byte| self.exchange(*byte).map(drop))
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Stuck> {
        let longest = read.len().max(write.len());
        let mut sent = write.iter().copied().chain(core::iter::repeat(0xff));
        let mut places = read.iter_mut();
        for _ in 0..longest {
            let received = self.exchange(sent.next().unwrap_or(0xff))?;
            if let Some(place) = places.next() {
                *place = received;
            }
        }
        Ok(())
    }

    fn transfer_in_place(&mut self, bytes: &mut [u8]) -> Result<(), Stuck> {
        for byte in bytes {
            *byte = self.exchange(*byte)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stuck> {
        (0..READS_MAX).any(|_| SSI.read(STATUS) & STATUS_BUSY == 0).then_some(()).ok_or(Stuck)
    }
}
