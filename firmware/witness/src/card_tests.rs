//! The driver against a card that follows the specification, and against cards that do not.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;

use embedded_hal::digital;
use embedded_hal::spi::ErrorType;

use super::*;

thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

/// Every look at the clock takes a microsecond.
fn clock() -> Instant {
    NOW.set(NOW.get() + 1);
    Instant::from_micros(NOW.get())
}

/// What is wrong with a card.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    Absent,
    /// Standard capacity: addresses are bytes.
    Old,
    /// The first version of the specification: it does not know the voltage command.
    First,
    /// Bits of what it reads flip on the way.
    NoisyReads,
    /// It finds the checksum of what it is to write wrong.
    NoisyWrites,
    /// It takes the block, and says afterwards that it could not be written.
    BadStatus,
    /// It never stops being busy.
    Busy,
    /// It never finds the block to read.
    NoToken,
    NeverAwake,
}

struct Fake {
    flaw: Flaw,
    blocks: Vec<[u8; BLOCK]>,
    command: Vec<u8>,
    answers: VecDeque<u8>,
    writing: Option<(usize, Vec<u8>)>,
    application: bool,
    sleepy: u32,
    crc_on: bool,
}

impl Fake {
    fn new(flaw: Flaw) -> Self {
        let sleepy = if flaw == Flaw::NeverAwake { u32::MAX } else { 3 };
        let blocks = vec![[0; BLOCK]; 8];
        let (command, answers) = (Vec::new(), VecDeque::new());
        Self { flaw, blocks, command, answers, writing: None, application: false, sleepy, crc_on: false }
    }

    fn is_high(&self) -> bool {
        !matches!(self.flaw, Flaw::Old | Flaw::First)
    }

    fn place(&self, argument: u32) -> usize {
        let stride = if self.is_high() { 1 } else { 512 };
        assert_eq!(argument % stride, 0, "addresses of this card are bytes");
        usize::try_from(argument / stride).unwrap()
    }

    fn byte(&mut self, byte: u8) -> u8 {
        if self.flaw == Flaw::Absent {
            return 0xff;
        }
        let answer = self.answers.pop_front().unwrap_or(0xff);
        if self.writing.is_some() {
            self.take_data(byte);
        } else if !self.command.is_empty() || byte & 0xc0 == 0x40 {
            self.command.push(byte);
            if let [command, a, b, c, d, check] = self.command[..] {
                assert_eq!(check, crc7(&self.command[..5]) << 1 | 1);
                self.command.clear();
                self.run(command & 0x3f, u32::from_be_bytes([a, b, c, d]));
            }
        }
        answer
    }

    fn take_data(&mut self, byte: u8) {
        let Some((at, bytes)) = &mut self.writing else { return };
        if bytes.is_empty() && byte != START_BLOCK {
            return;
        }
        bytes.push(byte);
        if bytes.len() < 1 + BLOCK + 2 {
            return;
        }
        let (at, bytes) = (*at, std::mem::take(bytes));
        self.writing = None;
        let check = u16::from_be_bytes([bytes[1 + BLOCK], bytes[2 + BLOCK]]);
        if check != crc16(&bytes[1..=BLOCK]) || self.flaw == Flaw::NoisyWrites {
            self.answers.push_back(0xeb);
            return;
        }
        if self.flaw != Flaw::BadStatus {
            self.blocks[at].copy_from_slice(&bytes[1..=BLOCK]);
        }
        let busy = if self.flaw == Flaw::Busy { 2_000_000 } else { 40 };
        self.answers.push_back(0xe5);
        self.answers.extend(std::iter::repeat_n(0, busy));
    }

    fn send_data(&mut self, bytes: &[u8]) {
        self.answers.extend([0xff, 0xff, START_BLOCK]);
        self.answers.extend(bytes);
        self.answers.extend(crc16(bytes).to_be_bytes());
    }

    fn run(&mut self, command: u8, argument: u32) {
        let is_application = std::mem::take(&mut self.application);
        self.answers.clear();
        self.answers.push_back(0xff);
        let idle = if self.sleepy == 0 { 0 } else { IDLE };
        match command {
            GO_IDLE => self.answers.push_back(IDLE),
            SEND_IF_COND if self.flaw == Flaw::First => self.answers.push_back(IDLE | ILLEGAL),
            SEND_IF_COND => self.answers.extend([IDLE, 0, 0, 1, 0xaa]),
            CRC_ON_OFF => {
                self.crc_on = argument == 1;
                self.answers.push_back(IDLE);
            }
            APPLICATION => {
                self.application = true;
                self.answers.push_back(idle);
            }
            SEND_OP_COND if is_application => {
                self.sleepy = self.sleepy.saturating_sub(1);
                self.answers.push_back(if self.sleepy == 0 { 0 } else { IDLE });
            }
            // As QEMU 7.2 does: idle, though it is not.
            READ_OCR => self.answers.extend([IDLE, if self.is_high() { 0xc0 } else { 0x80 }, 0xff, 0x80, 0]),
            SET_BLOCKLEN => self.answers.push_back(0),
            SEND_CSD => {
                let mut csd = [0; 16];
                match self.is_high() {
                    // 4 GiB: 8,192 × 512 KiB.
                    true => (csd[0], csd[8], csd[9]) = (0x40, 0x1f, 0xff),
                    // 64 MiB: (1,023 + 1) × 2^(5 + 2) blocks of 2^9.
                    false => (csd[5], csd[7], csd[8], csd[9], csd[10]) = (9, 0xff, 0xc0, 0x02, 0x80),
                }
                csd[15] = crc7(&csd[..15]) << 1 | 1;
                self.answers.push_back(0);
                self.send_data(&csd);
            }
            SEND_STATUS => {
                self.answers.extend([0, if self.flaw == Flaw::BadStatus { 4 } else { 0 }]);
            }
            READ_BLOCK => {
                self.answers.push_back(0);
                let block = self.blocks[self.place(argument)];
                if self.flaw != Flaw::NoToken {
                    self.send_data(&block);
                }
                if self.flaw == Flaw::NoisyReads {
                    let at = self.answers.len() - BLOCK;
                    self.answers[at] ^= 4;
                }
            }
            WRITE_BLOCK => {
                self.answers.push_back(0);
                self.writing = Some((self.place(argument), Vec::new()));
            }
            other => panic!("command {other} has no meaning"),
        }
    }
}

impl ErrorType for Fake {
    type Error = Infallible;
}

impl SpiBus for Fake {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0xff);
        self.transfer_in_place(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for byte in bytes {
            let _ = self.byte(*byte);
        }
        Ok(())
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Infallible> {
        read.copy_from_slice(write);
        self.transfer_in_place(read)
    }

    fn transfer_in_place(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = self.byte(*byte));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Select;

impl digital::ErrorType for Select {
    type Error = Infallible;
}

impl OutputPin for Select {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

fn card(flaw: Flaw) -> Card<Fake, Select> {
    Card::new(Fake::new(flaw), Select, clock)
}

#[test]
fn a_block_is_read_as_it_was_written() {
    for (flaw, blocks) in [(Flaw::None, 8 << 20), (Flaw::Old, 128 << 10), (Flaw::First, 128 << 10)] {
        let mut card = card(flaw);
        assert_eq!(card.wake(), Ok(blocks), "{flaw:?}");
        assert!(card.bus.crc_on);
        for at in 0..8_u8 {
            assert_eq!(card.write(at.into(), &[at + 1; BLOCK]), Ok(()));
        }
        for at in 0..8_u8 {
            let mut bytes = [0; BLOCK];
            assert_eq!(card.read(at.into(), &mut bytes), Ok(()));
            assert_eq!(bytes, [at + 1; BLOCK], "{flaw:?}");
        }
        assert_eq!(card.wake(), Ok(blocks), "a card may be woken again");
    }
}

/// F1, F2, F5: whatever a card does, the answer comes in time and says what happened.
#[test]
fn a_card_that_fails_says_so_in_time() {
    let (wake, read, write) = (0, 1, 2);
    for (flaw, fails, trouble) in [
        (Flaw::Absent, wake, Trouble::Missing),
        (Flaw::NeverAwake, wake, Trouble::Silent),
        (Flaw::NoisyReads, read, Trouble::Refused),
        (Flaw::NoToken, read, Trouble::Silent),
        (Flaw::NoisyWrites, write, Trouble::Refused),
        (Flaw::BadStatus, write, Trouble::Refused),
        (Flaw::Busy, write, Trouble::Silent),
    ] {
        let mut card = card(flaw);
        let before = NOW.get();
        let (woken, mut bytes) = (card.wake().map(drop), [0; BLOCK]);
        let result = match fails {
            0 => woken,
            1 => woken.and_then(|()| card.read(1, &mut bytes)),
            _ => woken.and_then(|()| card.write(1, &bytes)),
        };
        assert_eq!(result, Err(trouble), "{flaw:?}");
        let limit = u64::try_from((WAKE_MAX + OPERATION_MAX).as_micros()).unwrap();
        assert!(NOW.get() - before < limit + 1_000, "{flaw:?}");
    }
}

#[test]
fn a_card_that_is_pulled_is_missing() {
    let mut card = card(Flaw::None);
    assert!(card.wake().is_ok());
    card.bus.flaw = Flaw::Absent;
    assert_eq!(card.write(1, &[1; BLOCK]), Err(Trouble::Missing));
    assert_eq!(card.read(1, &mut [0; BLOCK]), Err(Trouble::Missing));
}

/// An address beyond what the card's own can say is refused, not wrapped to another block.
#[test]
fn addresses_do_not_wrap() {
    let mut card = card(Flaw::Old);
    assert!(card.wake().is_ok());
    assert_eq!(card.write(1 << 23, &[1; BLOCK]), Err(Trouble::Refused));
    assert_eq!(card.bus.blocks, [[0; BLOCK]; 8]);
}

/// The check values of the specification (4.5) and of the catalogue of checksums.
#[test]
fn checksums_are_those_of_the_specification() {
    assert_eq!(crc7(&[0x40, 0, 0, 0, 0]) << 1 | 1, 0x95);
    assert_eq!(crc7(&[0x48, 0, 0, 1, 0xaa]) << 1 | 1, 0x87);
    assert_eq!(crc16(b"123456789"), 0x31c3);
    assert_eq!(crc16(&[0xff; BLOCK]), 0x7fa1);
}
