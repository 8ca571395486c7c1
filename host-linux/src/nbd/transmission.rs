//! What becomes of a request, and how its answer is put into frames: no socket, no clock (V42).

use super::export::{Answer, Content, Errno, Extent, Failed, Payload, Piece, Request, Span};
use super::handshake::Session;
use super::limits::{EXTENTS_MAX, REQUEST_MAX};
use super::wire::context::{Chosen, Context};
use super::wire::number::{chunk, command, flag};
use super::wire::reply::{self, Head, Place};
use super::wire::request::Header;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the export.
    Submit(Work),
    /// It is answered at once. So many bytes of payload come first and are thrown away.
    Answer {
        /// What the client is told.
        answer: Result<(), Failed>,
        /// How it is told.
        form: Form,
        /// What is thrown away.
        payload: u32,
    },
    /// The client leaves. What is under way is still answered.
    Leave,
    /// It would have to be skipped, and is longer than that is worth. The connection closes.
    TooLong,
}

/// A request that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which command.
    pub kind: Kind,
    /// Where.
    pub span: Span,
    /// Its flags; only those that its command knows.
    flags: u16,
    /// How it is answered.
    pub form: Form,
    /// In what block status is told.
    pub contexts: Chosen,
}

/// The commands that reach an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Trim.
    Trim,
    /// Cache.
    Cache,
    /// Write zeroes.
    Zeroes,
    /// Block status.
    Status,
}

impl Kind {
    const fn of(command: u16) -> Option<Self> {
        match command {
            command::READ => Some(Self::Read),
            command::WRITE => Some(Self::Write),
            command::FLUSH => Some(Self::Flush),
            command::TRIM => Some(Self::Trim),
            command::CACHE => Some(Self::Cache),
            command::WRITE_ZEROES => Some(Self::Zeroes),
            command::BLOCK_STATUS => Some(Self::Status),
            _ => None,
        }
    }

    const fn flags(self) -> u16 {
        match self {
            Self::Read => flag::FUA | flag::DF,
            Self::Write | Self::Flush | Self::Trim | Self::Cache => flag::FUA,
            Self::Zeroes => flag::FUA | flag::NO_HOLE | flag::FAST_ZERO,
            Self::Status => flag::FUA | flag::REQ_ONE,
        }
    }

    const fn writes(self) -> bool {
        match self {
            Self::Write | Self::Trim | Self::Zeroes => true,
            Self::Read | Self::Flush | Self::Cache | Self::Status => false,
        }
    }
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Repeated.
    pub cookie: u64,
    /// In chunks, where the protocol has chunks for it.
    structured: bool,
    /// Its content in one chunk.
    whole: bool,
}

/// Judges a request.
#[must_use]
pub fn judge(header: &Header, session: &Session) -> Verdict {
    let Header { command, length, .. } = *header;
    let span = Span { offset: header.offset, length };
    let kind = Kind::of(command);
    let structured = session.structured;
    let whole = header.flags & flag::DF != 0;
    let form = Form { cookie: header.cookie, structured, whole };
    let payload = if command == command::WRITE { length } else { 0 };
    if command == command::DISC {
        return Verdict::Leave;
    }
    if REQUEST_MAX < payload {
        return Verdict::TooLong;
    }
    let known = kind.ok_or(("unknown command", Errno::Invalid));
    match known.and_then(|kind| check(kind, header.flags, span, session).map(|()| kind)) {
        Err((why, errno)) => Verdict::Answer { answer: Err(Failed::new(errno, why)), form, payload },
        // Nothing to do, and done. The protocol leaves it open.
        Ok(kind) if length == 0 && kind != Kind::Flush => Verdict::Answer { answer: Ok(()), form, payload },
        Ok(kind) => {
            Verdict::Submit(Work { kind, span, flags: header.flags, form, contexts: session.contexts })
        }
    }
}

type Wrong = (&'static str, Errno);

fn check(kind: Kind, flags: u16, span: Span, session: &Session) -> Result<(), Wrong> {
    let invalid = |why| Err((why, Errno::Invalid));
    let geometry = &session.geometry;
    if flags & !kind.flags() != 0 {
        return invalid("a flag that this command does not know");
    }
    if flags & flag::DF != 0 && !session.structured {
        return invalid("this flag needs structured replies");
    }
    if kind == Kind::Flush {
        let zero = span == Span { offset: 0, length: 0 };
        return if zero { Ok(()) } else { invalid("a flush has no offset and no length") };
    }
    if kind == Kind::Status && session.contexts.is_empty() {
        return invalid("no metadata context was negotiated");
    }
    if kind == Kind::Status && span.length == 0 {
        return invalid("block status of nothing");
    }
    if kind.writes() && geometry.is_read_only() {
        return Err(("this export is read-only", Errno::Permission));
    }
    let inside = span.offset.checked_add(u64::from(span.length)).is_some_and(|end| end <= geometry.size());
    if !inside {
        let errno = if kind.writes() && kind != Kind::Trim { Errno::NoSpace } else { Errno::Invalid };
        return Err(("beyond the end of the export", errno));
    }
    let mask = geometry.block_min().wrapping_sub(1);
    if span.offset & u64::from(mask) != 0 || span.length & mask != 0 {
        return invalid("not on the blocks of this export");
    }
    if kind == Kind::Read && REQUEST_MAX < span.length {
        return invalid("a read of more than 32 MiB");
    }
    Ok(())
}

impl Work {
    /// Memory it takes until it is answered: what it carries, or what its answer will.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self.kind {
            Kind::Read | Kind::Write => u64::from(self.span.length),
            Kind::Status => {
                let each = self.extents_max().saturating_mul(8).saturating_mul(self.contexts.iter().count());
                u64::try_from(each).unwrap_or(u64::MAX)
            }
            Kind::Flush | Kind::Trim | Kind::Cache | Kind::Zeroes => 0,
        }
    }

    /// How much payload follows its header.
    #[must_use]
    pub const fn payload(&self) -> u32 {
        match self.kind {
            Kind::Write => self.span.length,
            Kind::Read | Kind::Flush | Kind::Trim | Kind::Cache | Kind::Zeroes | Kind::Status => 0,
        }
    }

    /// The request, with its payload if it is a write.
    #[must_use]
    pub fn request(&self, data: Vec<u8>) -> Request {
        let span = self.span;
        let durable = self.flags & flag::FUA != 0;
        match self.kind {
            Kind::Read => Request::Read { span },
            Kind::Write => Request::Write { offset: span.offset, data, durable },
            Kind::Flush => Request::Flush,
            Kind::Trim => Request::Trim { span, durable },
            Kind::Cache => Request::Cache { span },
            Kind::Zeroes => Request::WriteZeroes {
                span,
                durable,
                allocated: self.flags & flag::NO_HOLE != 0,
                fast: self.flags & flag::FAST_ZERO != 0,
            },
            Kind::Status => Request::Status { span, extents_max: self.extents_max() },
        }
    }

    /// The frames of its answer. An answer that is none to what was asked is the export's error.
    #[must_use]
    pub fn frames(&self, answer: Answer) -> Vec<Frame> {
        match (self.kind, answer) {
            (_, Err(failed)) => self.form.frames(Err(failed)),
            (Kind::Read, Ok(Content::Data(pieces))) if total(&pieces) == u64::from(self.span.length) => {
                read(&self.form, self.span, pieces)
            }
            (Kind::Status, Ok(Content::Extents(extents))) if fits(&extents, self.span) => {
                status(&self.form, &extents, self.extents_max(), self.contexts)
            }
            (Kind::Write | Kind::Flush | Kind::Trim | Kind::Cache | Kind::Zeroes, Ok(Content::Done)) => {
                self.form.frames(Ok(()))
            }
            (_, Ok(Content::Done | Content::Data(_) | Content::Extents(_))) => {
                self.form.frames(Err(Failed::new(Errno::Io, "the storage answered something else")))
            }
        }
    }

    const fn extents_max(&self) -> usize {
        if self.flags & flag::REQ_ONE != 0 { 1 } else { EXTENTS_MAX }
    }
}

/// Bytes to be sent in one piece.
pub struct Frame {
    /// Made here.
    pub head: Head,
    /// Content after it.
    pub body: Body,
}

/// Content of a frame.
pub enum Body {
    /// None.
    None,
    /// Bytes.
    Bytes(Payload),
    /// So many zeroes.
    Zeroes(u32),
}

impl Body {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => (**bytes).as_ref().len(),
            Self::Zeroes(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Form {
    /// The frames of an answer without content.
    #[must_use]
    pub fn frames(&self, answer: Result<(), Failed>) -> Vec<Frame> {
        let place = Place { cookie: self.cookie, flags: chunk::DONE };
        let bare = |head| vec![Frame { head, body: Body::None }];
        match answer {
            Ok(()) if self.structured => bare(reply::chunk(place, chunk::NONE, 0)),
            Ok(()) => bare(reply::simple(self.cookie, None)),
            Err(failed) if self.structured => {
                // Texts are ours and short; one that is not is left out.
                let length = u16::try_from(failed.why.len()).ok().filter(|length| *length <= 4096);
                let head = reply::error(place, failed.errno, length.unwrap_or(0));
                let body = if length.is_some() { Body::Bytes(Box::new(failed.why)) } else { Body::None };
                vec![Frame { head, body }]
            }
            Err(failed) => bare(reply::simple(self.cookie, Some(failed.errno))),
        }
    }
}

fn read(form: &Form, span: Span, pieces: Vec<Piece>) -> Vec<Frame> {
    let mut frames = Vec::with_capacity(pieces.len().saturating_add(1));
    if !form.structured || form.whole {
        // One head, and everything after it.
        let head = match form.structured {
            true => reply::data(Place { cookie: form.cookie, flags: chunk::DONE }, span.offset, span.length),
            false => reply::simple(form.cookie, None),
        };
        let mut head = Some(head);
        for piece in pieces {
            let body = match piece {
                Piece::Bytes(bytes) => Body::Bytes(bytes),
                Piece::Zeroes(count) => Body::Zeroes(count),
            };
            frames.push(Frame { head: head.take().unwrap_or_default(), body });
        }
        return frames;
    }
    let mut offset = span.offset;
    for piece in pieces {
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        if length == 0 {
            continue;
        }
        let end = offset.saturating_add(u64::from(length));
        let flags = if end == span.end() { chunk::DONE } else { 0 };
        let place = Place { cookie: form.cookie, flags };
        frames.push(match piece {
            Piece::Bytes(bytes) => {
                Frame { head: reply::data(place, offset, length), body: Body::Bytes(bytes) }
            }
            Piece::Zeroes(count) => Frame { head: reply::hole(place, offset, count), body: Body::None },
        });
        offset = end;
    }
    frames
}

/// A chunk for each context. What is alike there is one extent, whatever the other says of it.
fn status(form: &Form, extents: &[Extent], extents_max: usize, contexts: Chosen) -> Vec<Frame> {
    let last = contexts.iter().last();
    let frame = |context: Context| {
        let mut told: Vec<(u32, u32)> = Vec::new();
        for one in extents.iter().take(extents_max) {
            let flags = context.flags(one);
            match told.last_mut() {
                Some((length, before)) if *before == flags => *length = length.saturating_add(one.length),
                Some(_) | None => told.push((one.length, flags)),
            }
        }
        let numbers = told.into_iter().flat_map(|(length, flags)| [length, flags]);
        let body: Vec<u8> =
            std::iter::once(context.number()).chain(numbers).flat_map(u32::to_be_bytes).collect();
        let flags = if last == Some(context) { chunk::DONE } else { 0 };
        let place = Place { cookie: form.cookie, flags };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let head = reply::chunk(place, chunk::BLOCK_STATUS, length);
        Frame { head, body: Body::Bytes(Box::new(body)) }
    };
    contexts.iter().map(frame).collect()
}

fn total(pieces: &[Piece]) -> u64 {
    pieces.iter().map(Piece::len).fold(0, u64::saturating_add)
}

/// Whether extents say something about `span` and nothing about what lies beyond.
fn fits(extents: &[Extent], span: Span) -> bool {
    let told = extents.iter().map(|one| u64::from(one.length)).fold(0, u64::saturating_add);
    0 < told && told <= u64::from(span.length) && extents.iter().all(|one| one.length != 0)
}

#[cfg(test)]
#[path = "transmission_tests.rs"]
mod tests;
