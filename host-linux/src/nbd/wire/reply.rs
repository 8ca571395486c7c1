//! The headers of replies to requests; content follows them as it is.

use super::number::{CHUNK_MAGIC, SIMPLE_REPLY_MAGIC};
use crate::nbd::export::Errno;

/// The longest head: the header of a chunk with the fields of a hole.
pub const HEAD_MAX: usize = 32;

/// The head of a frame.
pub type Head = heapless::Vec<u8, HEAD_MAX>;

/// A chunk's place in its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose reply it is.
    pub cookie: u64,
    /// Its flags.
    pub flags: u16,
}

/// A simple reply; content follows if it is one to a read that succeeded.
#[must_use]
pub fn simple(cookie: u64, error: Option<Errno>) -> Head {
    let error = error.map_or(0, Errno::number);
    head(&[&SIMPLE_REPLY_MAGIC.to_be_bytes(), &error.to_be_bytes(), &cookie.to_be_bytes()])
}

/// The header of a chunk with `length` bytes after it.
#[must_use]
pub fn chunk(place: Place, kind: u16, length: u32) -> Head {
    head(&[
        &CHUNK_MAGIC.to_be_bytes(),
        &place.flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &place.cookie.to_be_bytes(),
        &length.to_be_bytes(),
    ])
}

/// A chunk's header and the offset its content belongs to; `length` bytes of content follow.
#[must_use]
pub fn data(place: Place, offset: u64, length: u32) -> Head {
    let mut head = chunk(place, super::number::chunk::DATA, length.saturating_add(8));
    append(&mut head, &offset.to_be_bytes());
    head
}

/// A whole chunk: `length` zeroes at `offset`.
#[must_use]
pub fn hole(place: Place, offset: u64, length: u32) -> Head {
    let mut head = chunk(place, super::number::chunk::HOLE, 12);
    append(&mut head, &offset.to_be_bytes());
    append(&mut head, &length.to_be_bytes());
    head
}

/// A chunk's header, the error and the length of its message, which follows.
#[must_use]
pub fn error(place: Place, error: Errno, message: u16) -> Head {
    let mut head = chunk(place, super::number::chunk::ERROR, u32::from(message).saturating_add(6));
    append(&mut head, &error.number().to_be_bytes());
    append(&mut head, &message.to_be_bytes());
    head
}

fn head(parts: &[&[u8]]) -> Head {
    let mut head = Head::new();
    for part in parts {
        append(&mut head, part);
    }
    head
}

/// Heads are made of the fields above and nothing else: the longest is [`HEAD_MAX`], which tests hold.
fn append(head: &mut Head, part: &[u8]) {
    assert!(head.extend_from_slice(part).is_ok(), "a head is longer than any the protocol has");
}
