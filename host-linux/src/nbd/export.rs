//! What is exported: the narrow side to the storage. A request goes in, its reply is finished once, from any
//! thread; a reply that is dropped says so to the client as an error, so none is ever left waiting (I11).

use super::wire::number::transmission;
use std::fmt;
use std::sync::Arc;

/// Storage that clients can use.
pub trait Export: Send + Sync {
    /// What it looks like. Asked when a client looks for it, by the thread that all newcomers share: it must
    /// not wait. A connection keeps what it was told.
    fn geometry(&self) -> Geometry;

    /// Begins `request`, which lies within the export, and finishes `reply` when it is done: now or later,
    /// in any order, on any thread. It must not wait for the disk: the caller has other requests to read.
    fn submit(&self, request: Request, reply: Reply);

    /// What a client that arrives now uses until it leaves, if that is not this: storage that serves a client
    /// only as long as something holds that holds now. Asked by the thread that all newcomers share.
    fn session(&self) -> Option<Arc<dyn Export>> {
        None
    }
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u32,
}

impl Span {
    /// The byte after the last. Spans that reach an export end within it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.length as u64)
    }
}

/// What an export is asked. Every span lies within it, on its blocks, and is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read; answered by [`Content::Data`] of the whole span.
    Read {
        /// What.
        span: Span,
    },
    /// Write.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// Durable before it is answered.
        durable: bool,
    },
    /// Make durable everything that was answered before, on every connection if the geometry says so.
    Flush,
    /// The content is not needed any more.
    Trim {
        /// What.
        span: Span,
        /// Durable before it is answered.
        durable: bool,
    },
    /// Write zeroes.
    WriteZeroes {
        /// Where.
        span: Span,
        /// Durable before it is answered.
        durable: bool,
        /// No holes: writing there later must not run out of space.
        allocated: bool,
        /// Fail with [`Errno::Unsupported`] at once unless it is faster than writing them.
        fast: bool,
    },
    /// It will be read soon.
    Cache {
        /// What.
        span: Span,
    },
    /// What is allocated and what is zero; answered by [`Content::Extents`] from the first byte on.
    Status {
        /// What is asked about.
        span: Span,
        /// How many extents to tell at most, never 0.
        extents_max: usize,
    },
}

/// What an export looks like to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Invariant: a multiple of `block_min`.
    size: u64,
    /// Invariant: a power of two, 1 to 64 KiB.
    block_min: u32,
    /// Invariant: a power of two, 512 to 32 MiB, at least `block_min`.
    block_preferred: u32,
    read_only: bool,
    multi_conn: bool,
}

/// A geometry the protocol has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible;

impl Geometry {
    /// An export of `size` bytes in blocks of `block_min`, best used in blocks of `block_preferred`.
    ///
    /// # Errors
    ///
    /// The blocks are no powers of two or out of the protocol's bounds, or `size` is no multiple of them.
    pub const fn new(size: u64, block_min: u32, block_preferred: u32) -> Result<Self, Impossible> {
        let fine = block_min.is_power_of_two()
            && block_min <= 64 << 10
            && block_preferred.is_power_of_two()
            && 512 <= block_preferred
            && block_preferred <= 32 << 20
            && block_min <= block_preferred
            && size & (block_min as u64).wrapping_sub(1) == 0
            && size <= i64::MAX as u64;
        match fine {
            true => Ok(Self { size, block_min, block_preferred, read_only: false, multi_conn: false }),
            false => Err(Impossible),
        }
    }

    /// Nothing may be written.
    #[must_use]
    pub const fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// A flush on any connection covers what was answered on all. Say it only if it is so.
    #[must_use]
    pub const fn multi_conn(self, multi_conn: bool) -> Self {
        Self { multi_conn, ..self }
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The smallest block: offsets and lengths are multiples of it.
    #[must_use]
    pub const fn block_min(&self) -> u32 {
        self.block_min
    }

    /// The block that costs least.
    #[must_use]
    pub const fn block_preferred(&self) -> u32 {
        self.block_preferred
    }

    /// Whether nothing may be written.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The transmission flags. Everything is served for every export; what is not is refused when asked.
    #[must_use]
    pub const fn flags(&self) -> u16 {
        let all = transmission::HAS_FLAGS | transmission::FLUSH | transmission::FUA | transmission::DF;
        let writes = transmission::TRIM | transmission::WRITE_ZEROES | transmission::FAST_ZERO;
        let access = if self.read_only { transmission::READ_ONLY } else { writes };
        let together = if self.multi_conn { transmission::MULTI_CONN } else { 0 };
        all | access | together | transmission::CACHE
    }
}

/// Why a request failed, in the words the protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// It may not be done.
    Permission,
    /// The medium failed.
    Io,
    /// It makes no sense.
    Invalid,
    /// There is no room.
    NoSpace,
    /// It is not served.
    Unsupported,
    /// The export or the server goes away.
    Shutdown,
}

impl Errno {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Permission => 1,
            Self::Io => 5,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Unsupported => 95,
            Self::Shutdown => 108,
        }
    }
}

/// Why a request was not carried out: the number for programs, the text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What programs see.
    pub errno: Errno,
    /// What people see, where the client shows it.
    pub why: String,
}

impl Failed {
    /// A failure.
    pub fn new(errno: Errno, why: impl Into<String>) -> Self {
        Self { errno, why: why.into() }
    }
}

/// Bytes as their owner has them: they are sent from where they are.
pub type Payload = Box<dyn AsRef<[u8]> + Send>;

/// A part of what was read.
pub enum Piece {
    /// Content.
    Bytes(Payload),
    /// So many zeroes.
    Zeroes(u32),
}

impl Piece {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from((**bytes).as_ref().len()).unwrap_or(u64::MAX),
            Self::Zeroes(count) => u64::from(*count),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", (**bytes).as_ref().len()),
            Self::Zeroes(count) => write!(f, "Zeroes({count})"),
        }
    }
}

/// A part of an export with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes, never 0.
    pub length: u32,
    /// It is not allocated: writing there may run out of space.
    pub hole: bool,
    /// It reads as zeroes.
    pub zero: bool,
    /// Its newest content is in a write log, and not where it is kept.
    pub dirty: bool,
}

/// What a request brought.
#[derive(Debug)]
pub enum Content {
    /// It is done.
    Done,
    /// What was read, from the first byte to the last.
    Data(Vec<Piece>),
    /// Extents, from the first byte on.
    Extents(Vec<Extent>),
}

/// How a request ended.
pub type Answer = Result<Content, Failed>;

/// Who asked.
pub trait Asker: Send {
    /// Hears the answer.
    fn hear(self: Box<Self>, answer: Answer);

    /// Whether it still listens. What was not begun for one that has left must not be begun any more: it may
    /// have asked the same elsewhere meanwhile, and be further than that.
    fn listens(&self) -> bool {
        true
    }
}

impl<F: FnOnce(Answer) + Send> Asker for F {
    fn hear(self: Box<Self>, answer: Answer) {
        self(answer);
    }
}

/// The one answer to a request.
pub struct Reply(Option<Box<dyn Asker>>);

impl Reply {
    /// A reply that goes to `done`.
    pub fn new(done: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self::to(done)
    }

    /// A reply that goes to `asker`.
    pub fn to(asker: impl Asker + 'static) -> Self {
        Self(Some(Box::new(asker)))
    }

    /// Whether anybody waits for it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.as_ref().is_some_and(|asker| asker.listens())
    }

    /// Answers.
    pub fn finish(mut self, answer: Answer) {
        if let Some(asker) = self.0.take() {
            asker.hear(answer);
        }
    }

    /// Answers that it is done.
    pub fn done(self) {
        self.finish(Ok(Content::Done));
    }

    /// Answers with bytes.
    pub fn data(self, bytes: Vec<u8>) {
        self.finish(Ok(Content::Data(vec![Piece::Bytes(Box::new(bytes))])));
    }

    /// Answers that it failed.
    pub fn fail(self, errno: Errno, why: impl Into<String>) {
        self.finish(Err(Failed::new(errno, why)));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(asker) = self.0.take() {
            asker.hear(Err(Failed::new(
                Errno::Io,
                "the storage gave this request up; it may or may not be done",
            )));
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
