//! Frames in and out of a MAC whose queue is read and written word by word, as those of the Stellaris are
//! (F39, V39): what is too short, too long or out of step is dropped and counted, and the network goes on.
//!
//! Received, a frame is its length (16 bits, itself and the checksum included), the frame, the checksum (32
//! bits), filled up to a word. To be sent, it is the length of what follows the header (16 bits), and the
//! frame.

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// Longest frame kept, without its checksum: an IPv4 packet of the size that every host must take (RFC 791),
/// of which the longest message of the witness uses a part. Longer ones are dropped: memory is short here.
pub const FRAME_MAX: usize = 14 + 576;
/// Shortest frame that has a header.
const FRAME_MIN: usize = 14;
/// Length and checksum around a received frame.
const AROUND: usize = 2 + 4;
/// What the queue of the MAC can hold of one frame.
const QUEUE: usize = 2_048;

/// The queues of a MAC.
pub trait Queues {
    /// Whether a whole frame waits.
    fn has_frame(&mut self) -> bool;
    /// The next word of the frame that was received first.
    fn pop(&mut self) -> u32;
    /// Forgets everything received: the queue makes no sense.
    fn forget(&mut self);
    /// Whether the last frame has left, so that another one can be written. May wait for it, not for long.
    fn is_free(&mut self) -> bool;
    /// The next word of a frame to send.
    fn push(&mut self, word: u32);
    /// The frame is written: send it.
    fn send(&mut self);
}

/// What was dropped since the start, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed to the network stack.
    pub received: u32,
    /// Frames sent.
    pub sent: u32,
    /// Too short for a header.
    pub runts: u32,
    /// Longer than [`FRAME_MAX`].
    pub giants: u32,
    /// The queue made no sense, and was forgotten whole.
    pub out_of_step: u32,
    /// Not sent: the frame before did not leave.
    pub stuck: u32,
}

/// A network device for smoltcp.
#[derive(Debug)]
pub struct Mac<Q> {
    queues: Q,
    counters: Counters,
    received: [u8; FRAME_MAX],
    to_send: [u8; FRAME_MAX],
}

impl<Q: Queues> Mac<Q> {
    /// A device on `queues`.
    pub const fn new(queues: Q) -> Self {
        let counters = Counters { received: 0, sent: 0, runts: 0, giants: 0, out_of_step: 0, stuck: 0 };
        Self { queues, counters, received: [0; FRAME_MAX], to_send: [0; FRAME_MAX] }
    }

    /// What it counted.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether a frame waits.
    pub fn has_frame(&mut self) -> bool {
        self.queues.has_frame()
    }

    /// Reads the next frame that is good into `received`. Drops at most one that is not.
    fn take(&mut self) -> Option<usize> {
        if !self.queues.has_frame() {
            return None;
        }
        let [low, high, first @ ..] = self.queues.pop().to_le_bytes();
        let length = usize::from(u16::from_le_bytes([low, high]));
        if !(AROUND..=QUEUE).contains(&length) {
            self.queues.forget();
            count(&mut self.counters.out_of_step);
            return None;
        }
        let length = length.saturating_sub(AROUND);
        let is_runt = length < FRAME_MIN;
        let is_giant = FRAME_MAX < length;
        let (head, body) = self.received.split_at_mut(2);
        head.copy_from_slice(&first);
        // The two bytes of the length and two of the frame are read. All else is, whether it is kept or not.
        let mut words = body.chunks_mut(4);
        for _ in 0..length.saturating_add(AROUND).saturating_sub(1) / 4 {
            let word = self.queues.pop().to_le_bytes();
            if let Some(place) = words.next() {
                place.iter_mut().zip(word).for_each(|(place, byte)| *place = byte);
            }
        }
        match (is_runt, is_giant) {
            (true, _) => count(&mut self.counters.runts),
            (_, true) => count(&mut self.counters.giants),
            (false, false) => {
                count(&mut self.counters.received);
                return Some(length);
            }
        }
        None
    }
}

const fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

impl<Q: Queues> phy::Device for Mac<Q> {
    type RxToken<'a>
        = Received<'a>
    where
        Q: 'a;
    type TxToken<'a>
        = ToSend<'a, Q>
    where
        Q: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ToSend<'_, Q>)> {
        let length = self.take()?;
        let Self { queues, counters, received, to_send } = self;
        Some((Received(received.get(..length)?), ToSend { queues, counters, buffer: to_send }))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSend<'_, Q>> {
        let Self { queues, counters, to_send, .. } = self;
        Some(ToSend { queues, counters, buffer: to_send })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// A received frame.
#[derive(Debug)]
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct ToSend<'a, Q> {
    queues: &'a mut Q,
    counters: &'a mut Counters,
    buffer: &'a mut [u8; FRAME_MAX],
}

impl<Q: Queues> phy::TxToken for ToSend<'_, Q> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        // smoltcp asks for no more than the capabilities say.
        let length = length.min(FRAME_MAX);
        let (frame, _) = self.buffer.split_at_mut(length);
        let result = fill(frame);
        if !self.queues.is_free() {
            count(&mut self.counters.stuck);
            return result;
        }
        let body = u16::try_from(length.saturating_sub(FRAME_MIN)).unwrap_or(u16::MAX).to_le_bytes();
        let mut bytes = body.iter().chain(frame.iter()).copied();
        while let Some(first) = bytes.next() {
            let mut next = || bytes.next().unwrap_or(0);
            self.queues.push(u32::from_le_bytes([first, next(), next(), next()]));
        }
        self.queues.send();
        count(&mut self.counters.sent);
        result
    }
}

#[cfg(test)]
#[path = "mac_tests.rs"]
mod tests;
