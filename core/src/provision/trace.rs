//! What a witness was told and a sum of all it did, recorded on one machine and replayed on another: the same
//! inputs must give the same outputs (X22, X23).
//!
//! Blocks of 512 bytes, so that a card can hold them: the beginning; the head and its blocks of peers, as on
//! a card of a witness; the votes it began with, as `register::store` keeps them; then steps, one behind the
//! other, up to one of kind 0. It holds the site key: keep it like one.
//!
//! The beginning, little-endian: magic "BHTRAC", 0, version 1 (8); votes (2); when the witness began (8);
//! nonce of the start (16); the rest zero. A step:
//!
//! | at | len | field   | unit, values                                                                  |
//! |---:|----:|---------|-------------------------------------------------------------------------------|
//! |  0 |   1 | kind    | 0 end, 1 received, 2 persisted, 3 failed, 4 timeout, 5 history, 6 start, 7 stop |
//! |  1 |   1 | which   | network 1 or 2; office 0, 1 or 2; else 0                                      |
//! |  2 |   2 | payload | how many bytes follow                                                         |
//! |  4 |   8 | at      | microseconds                                                                  |
//! | 12 |   8 | sum     | of all that was done up to the end of this step                               |
//! | 20 |     | payload | datagram; number of the write (8); starts (4), failures (2), silent (2)       |

use core::fmt;

use super::{BLOCK_LEN, Block};
use crate::bytes::{Reader, Writer};
use crate::id::Path;
use crate::link::key::{NONCE_LEN, Nonce};
use crate::node::health::History;
use crate::node::message::Office;
use crate::node::words::{Action, Command, Event};
use crate::register::acceptor::PersistId;
use crate::time::Instant;

const MAGIC: [u8; 8] = *b"BHTRAC\0\x01";
/// Bytes in front of a payload.
pub const STEP_HEAD: usize = 20;
/// Longest step: no datagram of a link is longer than its payload may be.
pub const STEP_MAX: usize = STEP_HEAD + 512;

/// With what a trace begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// How many votes the witness began with.
    pub votes: u16,
    /// When.
    pub at: Instant,
    /// The nonce of its start.
    pub nonce: Nonce,
}

impl Beginning {
    /// As a block.
    pub fn encode(&self) -> Block {
        let mut out = Writer::<BLOCK_LEN>::default();
        out.put(&MAGIC);
        out.u16(self.votes);
        out.u64(self.at.as_micros());
        out.put(&self.nonce.0);
        out.finish()
    }

    /// From a block; `None` when it begins no trace.
    pub fn parse(bytes: &Block) -> Option<Self> {
        let mut fields = Reader::new(bytes);
        let is_one = fields.array()? == MAGIC;
        let votes = fields.u16()?;
        let at = Instant::from_micros(fields.u64()?);
        let nonce = Nonce(fields.array::<NONCE_LEN>()?);
        is_one.then_some(Self { votes, at, nonce })
    }
}

/// A sum over actions: equal for equal actions in equal order, and hardly ever for others (FNV-1a of their
/// text).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum(pub u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    /// One more action.
    pub fn add(&mut self, action: &Action) {
        // This writer never fails.
        let _ = fmt::write(self, format_args!("{action:?}\n"));
    }
}

impl fmt::Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}

/// One step of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// When it was.
    pub at: Instant,
    /// What the witness was told.
    pub event: Event<'a>,
    /// The sum at its end.
    pub sum: Sum,
}

/// The end of a trace.
pub const END: [u8; STEP_HEAD] = [0; STEP_HEAD];

impl<'a> Step<'a> {
    /// As bytes; `None` for what no witness without outlets is told.
    pub fn encode(&self) -> Option<Writer<STEP_MAX>> {
        let mut payload = Writer::<{ STEP_MAX - STEP_HEAD }>::default();
        let office = |office| match office {
            Office::Infra => 0,
            Office::Controller => 1,
            Office::Storage => 2,
        };
        let (kind, which) = match &self.event {
            Event::Received { path, bytes } if bytes.len() <= STEP_MAX.saturating_sub(STEP_HEAD) => {
                payload.put(bytes);
                (1, if *path == Path::One { 1 } else { 2 })
            }
            Event::Persisted(PersistId(id)) => {
                payload.u64(*id);
                (2, 0)
            }
            Event::PersistFailed => (3, 0),
            Event::Timeout => (4, 0),
            Event::History(History { starts, failures, silent }) => {
                payload.u32(*starts);
                payload.u16(*failures);
                payload.u16(*silent);
                (5, 0)
            }
            Event::Command(Command::Start(one)) => (6, office(*one)),
            Event::Command(Command::Stop(one)) => (7, office(*one)),
            Event::Received { .. }
            | Event::FenceAnswered { .. }
            | Event::PowerDone { .. }
            | Event::Force(_)
            | Event::Storage(_)
            | Event::Command(Command::Move { .. } | Command::Power { .. }) => return None,
        };
        let payload = payload.written();
        let mut out = Writer::default();
        out.put(&[kind, which]);
        out.u16(u16::try_from(payload.len()).ok()?);
        out.u64(self.at.as_micros());
        out.u64(self.sum.0);
        out.put(payload);
        Some(out)
    }

    /// How long the payload behind these bytes is; `None` at the end of a trace.
    pub const fn payload_len(head: &[u8; STEP_HEAD]) -> Option<usize> {
        let [kind, _, low, high, ..] = *head;
        let length = u16::from_le_bytes([low, high]);
        // Widening; `From` is not const.
        if kind == 0 { None } else { Some(length as usize) }
    }

    /// From its bytes; `None` when they are no step.
    pub fn parse(head: &[u8; STEP_HEAD], payload: &'a [u8]) -> Option<Self> {
        let mut fields = Reader::new(head);
        let (kind, which, _) = (fields.u8()?, fields.u8()?, fields.u16()?);
        let at = Instant::from_micros(fields.u64()?);
        let sum = Sum(fields.u64()?);
        let mut words = Reader::new(payload);
        let path = if which == 1 { Path::One } else { Path::Two };
        let office = match which {
            0 => Some(Office::Infra),
            1 => Some(Office::Controller),
            2 => Some(Office::Storage),
            3.. => None,
        };
        let event = match kind {
            1 => Event::Received { path, bytes: payload },
            2 => Event::Persisted(PersistId(words.u64()?)),
            3 => Event::PersistFailed,
            4 => Event::Timeout,
            5 => {
                Event::History(History { starts: words.u32()?, failures: words.u16()?, silent: words.u16()? })
            }
            6 => Event::Command(Command::Start(office?)),
            7 => Event::Command(Command::Stop(office?)),
            0 | 8.. => return None,
        };
        Some(Self { at, event, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::words::Note;

    fn again(step: &Step<'_>) {
        let bytes = step.encode().unwrap();
        let (head, payload) = bytes.written().split_first_chunk().unwrap();
        assert_eq!(Step::payload_len(head), Some(payload.len()));
        assert_eq!(Step::parse(head, payload).as_ref(), Some(step));
    }

    #[test]
    fn steps_are_read_as_they_were_written() {
        let datagram = [7; 300];
        for event in [
            Event::Received { path: Path::Two, bytes: &datagram },
            Event::Received { path: Path::One, bytes: &[] },
            Event::Persisted(PersistId(u64::MAX)),
            Event::PersistFailed,
            Event::Timeout,
            Event::History(History { starts: 70_000, failures: 3, silent: 4 }),
            Event::Command(Command::Start(Office::Controller)),
            Event::Command(Command::Stop(Office::Infra)),
            Event::Command(Command::Start(Office::Storage)),
        ] {
            again(&Step { at: Instant::from_micros(1_234_567), event, sum: Sum(99) });
        }
        assert_eq!(Step::payload_len(&END), None);
        assert_eq!(Step::parse(&END, &[]), None);
        let long = [0; 513];
        let event = Event::Received { path: Path::One, bytes: &long };
        assert!(Step { at: Instant::ZERO, event, sum: Sum(0) }.encode().is_none());
    }

    #[test]
    fn a_beginning_is_read_as_it_was_written() {
        let beginning = Beginning { votes: 3, at: Instant::from_micros(5), nonce: Nonce([8; NONCE_LEN]) };
        assert_eq!(Beginning::parse(&beginning.encode()), Some(beginning));
        assert_eq!(Beginning::parse(&[0; BLOCK_LEN]), None);
    }

    /// Golden: what is recorded today is compared with what a board of tomorrow says.
    #[test]
    fn sums_differ_when_an_action_does() {
        let sum = |actions: &[Action]| {
            let mut sum = Sum::default();
            actions.iter().for_each(|action| sum.add(action));
            sum
        };
        let failed = || Action::Note(Note::VoterFailed);
        assert_eq!(sum(&[]), Sum(0xcbf2_9ce4_8422_2325));
        assert_ne!(sum(&[failed()]), sum(&[failed(), failed()]));
        assert_eq!(sum(&[failed()]), sum(&[failed()]));
    }
}
