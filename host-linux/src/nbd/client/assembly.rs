//! One answer, put together from what a server sends about it: in any order, in any pieces, or wrongly.

use crate::nbd::export::{Answer, Content, Errno, Extent, Failed, Piece, Request, Span};
use crate::nbd::wire::context::Numbers;
use crate::nbd::wire::number::{chunk, extent};
use crate::nbd::wire::take::Take;
use std::collections::BTreeMap;

/// A server that says this does not speak the protocol: nothing it says after that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Content of a span.
    Data(Span),
    /// Extents of a span, so many at most.
    Extents(Span, usize),
    /// A word.
    Done,
}

impl Awaited {
    /// What `request` is answered by.
    #[must_use]
    pub const fn by(request: &Request) -> Self {
        match request {
            Request::Read { span } => Self::Data(*span),
            Request::Status { span, extents_max } => Self::Extents(*span, *extents_max),
            Request::Write { .. }
            | Request::Flush
            | Request::Trim { .. }
            | Request::WriteZeroes { .. }
            | Request::Cache { .. } => Self::Done,
        }
    }
}

/// An answer that is not complete.
#[derive(Debug)]
pub struct Assembly {
    /// What is awaited.
    pub awaited: Awaited,
    pieces: BTreeMap<u64, Piece>,
    /// Invariant: the bytes of all pieces, which do not overlap.
    covered: u64,
    contexts: Numbers,
    /// By the number of their context: lengths and flags, which lie within what was asked for.
    extents: BTreeMap<u32, Vec<(u32, u32)>>,
    failed: Option<Failed>,
}

impl Assembly {
    /// Nothing has come yet.
    #[must_use]
    pub const fn new(awaited: Awaited, contexts: Numbers) -> Self {
        Self {
            awaited,
            pieces: BTreeMap::new(),
            covered: 0,
            contexts,
            extents: BTreeMap::new(),
            failed: None,
        }
    }

    /// Content at `offset`.
    ///
    /// # Errors
    ///
    /// It was not asked for, or came already.
    pub fn piece(&mut self, offset: u64, length: u32, piece: Piece) -> Result<(), Broken> {
        let Awaited::Data(span) = self.awaited else { return Err(Broken("content that nobody asked for")) };
        let end = offset.checked_add(u64::from(length)).ok_or(Broken("content beyond all offsets"))?;
        if length == 0 || offset < span.offset || span.end() < end {
            return Err(Broken("content beside what was asked for"));
        }
        let before = self.pieces.range(..end).next_back();
        if before.is_some_and(|(at, piece)| offset < at.saturating_add(piece.len())) {
            return Err(Broken("content that came already"));
        }
        self.pieces.insert(offset, piece);
        self.covered = self.covered.saturating_add(u64::from(length));
        Ok(())
    }

    /// A chunk that is no data, with its whole payload.
    ///
    /// # Errors
    ///
    /// It makes no sense here.
    pub fn chunk(&mut self, kind: u16, payload: &[u8]) -> Result<(), Broken> {
        let mut take = Take(payload);
        match kind {
            chunk::NONE if payload.is_empty() => Ok(()),
            chunk::HOLE => match (take.u64(), take.u32(), take.is_empty()) {
                (Some(offset), Some(length), true) => self.piece(offset, length, Piece::Zeroes(length)),
                (_, _, _) => Err(Broken("a hole of the wrong size")),
            },
            chunk::BLOCK_STATUS => self.status(take),
            kind if kind & 0x8000 != 0 => {
                let errno = take.u32().filter(|errno| *errno != 0).ok_or(Broken("an error that is none"))?;
                let length = usize::from(take.u16().unwrap_or(0));
                let text = take.0.get(..length).ok_or(Broken("an error with half a message"))?;
                self.failed.get_or_insert_with(|| failed(errno, &String::from_utf8_lossy(text)));
                Ok(())
            }
            _ => Err(Broken("a chunk of an unknown kind")),
        }
    }

    /// A simple reply's error.
    pub fn error(&mut self, errno: u32) {
        self.failed.get_or_insert_with(|| failed(errno, ""));
    }

    /// Nothing more comes.
    ///
    /// # Errors
    ///
    /// Something is missing.
    pub fn finish(self) -> Result<Answer, Broken> {
        if let Some(failed) = self.failed {
            return Ok(Err(failed));
        }
        match self.awaited {
            Awaited::Done if self.extents.is_empty() => Ok(Ok(Content::Done)),
            Awaited::Data(span) if self.extents.is_empty() && self.covered == u64::from(span.length) => {
                Ok(Ok(Content::Data(self.pieces.into_values().collect())))
            }
            Awaited::Extents(_, max) => match self.together(max) {
                extents if extents.is_empty() => Err(Broken("an answer with a part missing")),
                extents => Ok(Ok(Content::Extents(extents))),
            },
            Awaited::Done | Awaited::Data(_) => Err(Broken("an answer with a part missing")),
        }
    }

    /// What all contexts say, as far as each of them says something.
    fn together(&self, max: usize) -> Vec<Extent> {
        let of = |number: Option<u32>| number.and_then(|number| self.extents.get(&number));
        let (Some(allocation), dirty) = (of(self.contexts.allocation), of(self.contexts.dirty)) else {
            return Vec::new();
        };
        let whole = [(u32::MAX, 0)];
        let mut dirty = match self.contexts.dirty {
            Some(_) => dirty.map_or(&[][..], Vec::as_slice),
            // A server without this context has nothing dirty that anybody could know of.
            None => &whole,
        }
        .iter()
        .copied();
        let (mut extents, mut now) = (Vec::new(), dirty.next());
        for (length, flags) in allocation {
            let mut left = *length;
            while left != 0 && extents.len() < max {
                let Some((rest, is_dirty)) = now else { return extents };
                let here = left.min(rest);
                let (hole, zero) = (flags & extent::HOLE != 0, flags & extent::ZERO != 0);
                extents.push(Extent { length: here, hole, zero, dirty: is_dirty & extent::DIRTY != 0 });
                left = left.saturating_sub(here);
                now = if here == rest { dirty.next() } else { Some((rest.saturating_sub(here), is_dirty)) };
            }
        }
        extents
    }

    fn status(&mut self, mut take: Take<'_>) -> Result<(), Broken> {
        let Awaited::Extents(span, max) = self.awaited else {
            return Err(Broken("extents nobody asked for"));
        };
        let number = take.u32().filter(|number| !self.extents.contains_key(number));
        let number = number.ok_or(Broken("extents twice, or of nothing"))?;
        if ![self.contexts.allocation, self.contexts.dirty].contains(&Some(number)) {
            return Err(Broken("extents of a context that nobody chose"));
        }
        let mut extents = Vec::new();
        let mut left = span.length;
        while !take.is_empty() {
            let (Some(length), Some(flags)) = (take.u32(), take.u32()) else {
                return Err(Broken("half an extent"));
            };
            // The last may reach beyond what was asked for.
            let here = length.min(left);
            left = left.saturating_sub(here);
            if length == 0 {
                return Err(Broken("an empty extent"));
            }
            if here != 0 && extents.len() < max {
                extents.push((here, flags));
            }
        }
        self.extents.insert(number, extents);
        if left == span.length { Err(Broken("extents of nothing")) } else { Ok(()) }
    }
}

/// A server's error in our words.
fn failed(errno: u32, text: &str) -> Failed {
    let known =
        [Errno::Permission, Errno::Io, Errno::Invalid, Errno::NoSpace, Errno::Unsupported, Errno::Shutdown];
    let ours = known.into_iter().find(|known| known.number() == errno).unwrap_or(Errno::Io);
    let text = if text.is_empty() { "no reason given" } else { text };
    Failed::new(ours, format!("the server answered: {text} (error {errno})"))
}
