//! What is sent with one call: heads, content where it is, and zeroes from one page of them.

use super::socket::Socket;
use super::transmission::{Body, Frame};
use crate::tls::plain::Gone;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Frames sent with one call.
pub const BATCH: usize = 64;
/// What zeroes are sent from.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// The right to answer one request: its place and its memory, given back when the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which place.
    pub place: u16,
    /// How much memory.
    pub bytes: u64,
}

/// A frame on its way. The last one of an answer carries the slot.
pub struct Part {
    /// What is sent.
    pub frame: Frame,
    /// Free when it is sent.
    pub slot: Option<Slot>,
}

impl Part {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frame.head.len().saturating_add(self.frame.body.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sends parts, of which `gone` bytes are sent already, as far as they fit.
///
/// # Errors
///
/// The client is gone.
pub fn send(socket: &Socket, parts: &VecDeque<Part>, gone: usize) -> Result<Option<usize>, Gone> {
    let mut slices: heapless::Vec<IoSlice<'_>, { 2 * BATCH + 8 }> = heapless::Vec::new();
    let mut skip = gone;
    'parts: for part in parts {
        let head = part.frame.head.as_slice();
        let body: &[u8] = match &part.frame.body {
            Body::None => &[],
            Body::Bytes(bytes) => (**bytes).as_ref(),
            Body::Zeroes(_) => &[],
        };
        for bytes in [head, body] {
            let here = skip.min(bytes.len());
            skip = skip.saturating_sub(here);
            if let Some(rest) = bytes.get(here..).filter(|rest| !rest.is_empty())
                && slices.push(IoSlice::new(rest)).is_err()
            {
                break 'parts;
            }
        }
        if let Body::Zeroes(_) = part.frame.body {
            let mut left = part.frame.body.len().saturating_sub(skip);
            skip = skip.saturating_sub(part.frame.body.len());
            while let Some(bytes) = ZEROES.get(..left.min(ZEROES.len())).filter(|bytes| !bytes.is_empty()) {
                left = left.saturating_sub(bytes.len());
                if slices.push(IoSlice::new(bytes)).is_err() {
                    break 'parts;
                }
            }
        }
    }
    socket.send(&slices)
}
