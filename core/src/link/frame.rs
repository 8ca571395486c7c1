//! A frame: what a datagram on a control network carries.
//!
//! |  at | len | field    | unit, values                                                        |
//! |----:|----:|----------|---------------------------------------------------------------------|
//! |   0 |   4 | magic    | "BHLK"                                                              |
//! |   4 |   1 | format   | 1                                                                   |
//! |   5 |   1 | kind     | 1 hello, 2 data                                                     |
//! |   6 |   2 | length   | of the payload, bytes                                               |
//! |   8 |  16 | site     |                                                                     |
//! |  24 |   2 | from     | node                                                                |
//! |  26 |   2 | to       | node                                                                |
//! |  28 |   8 | counter  | data: +1 a frame, one sequence for both paths; hello: 0             |
//! |  36 |   n | payload  |                                                                     |
//! | +n  |  16 | tag      | over all before it; the key is of the two nodes, or of their session |
//!
//! All integers little-endian. 384 bytes at most: no network fragments that, it is more than the longest
//! message of today needs, and a microcontroller builds several of them on its stack.

use heapless::Vec;
use thiserror::Error;

use super::key::{Key, TAG_LEN, Tag};
use crate::bytes::{Reader, Writer};
use crate::id::{NodeId, SiteId};

/// Bytes of the longest datagram.
pub const DATAGRAM_MAX: usize = 384;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 36;
/// Bytes of the longest payload.
pub const PAYLOAD_MAX: usize = DATAGRAM_MAX - HEADER_LEN - TAG_LEN;

const MAGIC: [u8; 4] = *b"BHLK";
const FORMAT: u8 = 1;

/// Bytes for the network.
pub type Datagram = Vec<u8, DATAGRAM_MAX>;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of a handshake.
    Hello,
    /// Part of a session.
    Data,
}

/// The fields before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// Of which site.
    pub site: SiteId,
    /// Who says it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// Its place in the session.
    pub counter: u64,
}

/// A frame whose shape is right. Nothing in it is believed before [`Frame::is_by`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fields before the payload.
    pub header: Header,
    /// The payload.
    pub payload: &'a [u8],
    signed: &'a [u8],
    tag: Tag,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAFrame {
    /// Too short, too long, or its length field says something else.
    #[error("its length is wrong")]
    Length,
    /// It does not begin as a frame does.
    #[error("it is not a Bulkhead frame")]
    Magic,
    /// A newer Bulkhead, or none.
    #[error("its format is {found}, this Bulkhead reads {FORMAT}")]
    Format {
        /// The format found.
        found: u8,
    },
    /// No such kind.
    #[error("its kind {found} is unknown")]
    Kind {
        /// The kind found.
        found: u8,
    },
}

/// Writes a frame with the parts of its payload.
///
/// # Panics
///
/// If `payload` is longer than [`PAYLOAD_MAX`]: a defect of the caller.
pub fn seal(header: &Header, payload: &[&[u8]], key: &Key) -> Datagram {
    let length = payload.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
    assert!(length <= PAYLOAD_MAX, "the payload does not fit a datagram");
    let mut out = Writer::<HEADER_LEN>::default();
    out.put(&MAGIC);
    out.u8(FORMAT);
    out.u8(match header.kind {
        Kind::Hello => 1,
        Kind::Data => 2,
    });
    out.u16(u16::try_from(length).unwrap_or(u16::MAX));
    out.put(&header.site.0);
    out.u16(header.from.0);
    out.u16(header.to.0);
    out.u64(header.counter);
    let mut datagram = Datagram::new();
    let mut fits = datagram.extend_from_slice(&out.finish()).is_ok();
    fits &= payload.iter().all(|part| datagram.extend_from_slice(part).is_ok());
    let tag = key.tag(&datagram);
    fits &= datagram.extend_from_slice(&tag).is_ok();
    assert!(fits, "a frame is no longer than a datagram");
    datagram
}

impl<'a> Frame<'a> {
    /// Reads the shape of a frame. Total: any bytes give a frame or a reason.
    ///
    /// # Errors
    ///
    /// [`NotAFrame`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotAFrame> {
        let (signed, tag) = bytes.split_last_chunk::<TAG_LEN>().ok_or(NotAFrame::Length)?;
        let (head, payload) = signed.split_first_chunk::<HEADER_LEN>().ok_or(NotAFrame::Length)?;
        let mut fields = Reader::new(head);
        if fields.array::<4>() != Some(MAGIC) {
            return Err(NotAFrame::Magic);
        }
        let format = fields.u8().ok_or(NotAFrame::Length)?;
        if format != FORMAT {
            return Err(NotAFrame::Format { found: format });
        }
        let kind = match fields.u8().ok_or(NotAFrame::Length)? {
            1 => Kind::Hello,
            2 => Kind::Data,
            found => return Err(NotAFrame::Kind { found }),
        };
        let length = fields.u16().ok_or(NotAFrame::Length)?;
        if usize::from(length) != payload.len() || PAYLOAD_MAX < payload.len() {
            return Err(NotAFrame::Length);
        }
        let header = header(kind, &mut fields).ok_or(NotAFrame::Length)?;
        Ok(Self { header, payload, signed, tag: *tag })
    }

    /// Whether somebody who has `key` wrote it, and nobody changed it.
    pub fn is_by(&self, key: &Key) -> bool {
        key.is_tag(self.signed, &self.tag)
    }
}

fn header(kind: Kind, fields: &mut Reader<'_>) -> Option<Header> {
    let site = SiteId(fields.array()?);
    let (from, to) = (NodeId(fields.u16()?), NodeId(fields.u16()?));
    Some(Header { kind, site, from, to, counter: fields.u64()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::key::SiteKey;

    fn key() -> Key {
        SiteKey::new([7; 32]).between(NodeId(1), NodeId(2))
    }

    fn frame() -> Datagram {
        let site = SiteId([0x5a; 16]);
        let header = Header { kind: Kind::Data, site, from: NodeId(1), to: NodeId(0x0203), counter: 0x0405 };
        seal(&header, &[b"hi"], &key())
    }

    /// These bytes are in the field. If this test fails, add a format; do not edit the bytes.
    #[test]
    fn format_1_never_changes() {
        let bytes = frame();
        let mut expected = std::vec::Vec::from(*b"BHLK\x01\x02\x02\x00");
        expected.extend([0x5a; 16]);
        expected.extend([1, 0, 3, 2, 5, 4, 0, 0, 0, 0, 0, 0]);
        expected.extend(*b"hi");
        assert_eq!(bytes[..38], expected);
        assert_eq!(bytes[38..], key().tag(&expected));
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(
            (frame.payload, frame.header.to, frame.header.counter),
            (&b"hi"[..], NodeId(0x0203), 0x0405)
        );
        assert!(frame.is_by(&key()));
        assert!(!frame.is_by(&SiteKey::new([8; 32]).between(NodeId(1), NodeId(2))));
    }

    /// V22, F32: any single bit that is changed makes it nobody's.
    #[test]
    fn no_bit_can_be_changed() {
        let bytes = frame();
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(!Frame::parse(&bent).is_ok_and(|frame| frame.is_by(&key())), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(!Frame::parse(&bytes[..len]).is_ok_and(|frame| frame.is_by(&key())), "{len} bytes");
        }
    }
}
