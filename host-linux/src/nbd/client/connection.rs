//! A connection to a server, as an export. Two threads: one sends, and looks at the clock; one reads.

use super::assembly::{Assembly, Awaited, Broken};
use super::negotiate::{Refused, Taken, connect};
use crate::nbd::batch::{BATCH, Part, send};
use crate::nbd::encryption::Wish;
use crate::nbd::export::{Content, Errno, Export, Extent, Failed, Geometry, Piece, Reply, Request, Span};
use crate::nbd::socket::Socket;
use crate::nbd::transmission::{Body, Frame};
use crate::nbd::uri::Uri;
use crate::nbd::wire::number::{chunk, command, flag, transmission};
use crate::nbd::wire::request::Header;
use crate::nbd::wire::server::{Begin, TEXT_MAX, request as head};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests under way; beyond, they fail: whoever asks so much at once does not wait for answers.
pub const REQUESTS_MAX: usize = 4096;
/// A piece of zeroes, for servers that must be sent them.
const ZEROES: u32 = 1 << 20;
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(250);

/// A connection. When it is dropped it disconnects; what is under way fails.
#[derive(Debug)]
pub struct Client(Arc<Inner>);

struct Inner {
    socket: Socket,
    taken: Taken,
    /// How long a server may take for an answer.
    patience: Duration,
    state: Mutex<State>,
    work: Condvar,
}

struct Pending {
    since: Instant,
    reply: Reply,
    assembly: Assembly,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Part>,
    pending: HashMap<u64, Pending>,
    /// Since when the request is under way whose answer is read at this moment: it is not in `pending`.
    reading: Option<Instant>,
    next: u64,
    /// Why it is over.
    end: Option<&'static str>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to `uri`, within `patience`, which is also how long each answer may take.
    ///
    /// # Errors
    ///
    /// There is no connection, and why.
    pub fn connect(uri: &Uri, patience: Duration) -> Result<Self, Refused> {
        Self::connect_as(uri, &Wish::of(uri).map_err(Refused::Tls)?, patience)
    }

    /// As [`Self::connect`], encrypted as `wish` says and not as the URI does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn connect_as(uri: &Uri, wish: &Wish, patience: Duration) -> Result<Self, Refused> {
        let (socket, taken) = connect(uri, wish, patience)?;
        let inner =
            Arc::new(Inner { socket, taken, patience, state: Mutex::default(), work: Condvar::new() });
        let client = Self(Arc::clone(&inner));
        let thread = || std::thread::Builder::new().stack_size(256 << 10);
        let own = Arc::clone(&inner);
        thread().name("nbd-out".into()).spawn(move || own.send())?;
        thread().name("nbd-in".into()).spawn(move || {
            let why = inner.read().err().unwrap_or("it closed");
            inner.end(why);
        })?;
        Ok(client)
    }

    /// Whether the server can be asked to make writes durable.
    #[must_use]
    pub fn can_flush(&self) -> bool {
        self.0.taken.flags & transmission::FLUSH != 0
    }

    /// The largest read or write that the server takes.
    #[must_use]
    pub fn request_max(&self) -> u32 {
        self.0.taken.request_max
    }

    /// Why the connection is over, if it is. Then every request fails, and only a new one helps.
    #[must_use]
    pub fn ended(&self) -> Option<&'static str> {
        self.0.lock().end
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.end("it was given up here");
    }
}

impl Export for Client {
    fn geometry(&self) -> Geometry {
        self.0.taken.geometry
    }

    fn submit(&self, request: Request, reply: Reply) {
        Inner::submit(&self.0, request, reply);
    }
}

/// What a request becomes on the wire.
struct Wire {
    command: u16,
    flags: u16,
    span: Span,
    data: Vec<u8>,
}

impl Inner {
    fn submit(self: &Arc<Self>, request: Request, reply: Reply) {
        let can = |flag: u16| self.taken.flags & flag != 0;
        let durable = match &request {
            Request::Write { durable, .. } | Request::Trim { durable, .. } => *durable,
            Request::WriteZeroes { durable, .. } => *durable,
            Request::Read { .. } | Request::Flush | Request::Cache { .. } | Request::Status { .. } => false,
        };
        if let Request::WriteZeroes { span, durable, fast: false, .. } = request
            && !can(transmission::WRITE_ZEROES)
        {
            return Self::write_zeroes(self, span, durable, reply);
        }
        let awaited = Awaited::by(&request);
        let Some(wire) = self.wire(request) else {
            return reply.finish(self.without(awaited));
        };
        let wire = match wire {
            Ok(wire) => wire,
            Err(why) => return reply.fail(Errno::Unsupported, why),
        };
        let reply = if durable && !can(transmission::FUA) {
            // Durable by a flush after it, before it is answered.
            let own = Arc::clone(self);
            Reply::new(move |answer| match answer {
                Ok(_) => Self::submit(&own, Request::Flush, reply),
                Err(failed) => reply.finish(Err(failed)),
            })
        } else {
            reply
        };
        self.enqueue(wire, awaited, reply);
    }

    /// Writes zeroes at a server that has no word for it, piece after piece.
    fn write_zeroes(own: &Arc<Self>, span: Span, durable: bool, reply: Reply) {
        let length = span.length.min(own.taken.request_max).min(ZEROES);
        let rest = Span {
            offset: span.offset.saturating_add(u64::from(length)),
            length: span.length.saturating_sub(length),
        };
        let again = Arc::clone(own);
        let reply = match rest.length {
            0 => reply,
            _ => Reply::new(move |answer| match answer {
                Ok(_) => Self::write_zeroes(&again, rest, durable, reply),
                Err(failed) => reply.finish(Err(failed)),
            }),
        };
        let data = vec![0; usize::try_from(length).unwrap_or(0)];
        Self::submit(own, Request::Write { offset: span.offset, data, durable }, reply);
    }

    /// What `request` is on the wire; nothing if the server has no word for it and needs none.
    fn wire(&self, request: Request) -> Option<Result<Wire, &'static str>> {
        let can = |flag: u16| self.taken.flags & flag != 0;
        let fua = |durable: bool| if durable && can(transmission::FUA) { flag::FUA } else { 0 };
        let wire = |command, flags, span| Some(Ok(Wire { command, flags, span, data: Vec::new() }));
        let too_long = Some(Err("it is longer than this server takes"));
        let most = self.taken.request_max;
        match request {
            Request::Read { span } if most < span.length => too_long,
            Request::Read { span } => wire(command::READ, 0, span),
            Request::Write { offset, data, durable } => {
                let length = u32::try_from(data.len()).ok().filter(|length| *length <= most);
                let Some(length) = length else { return too_long };
                let span = Span { offset, length };
                Some(Ok(Wire { command: command::WRITE, flags: fua(durable), span, data }))
            }
            Request::Flush if !can(transmission::FLUSH) => Some(Err("this server cannot flush")),
            Request::Flush => wire(command::FLUSH, 0, Span { offset: 0, length: 0 }),
            Request::Trim { span, durable } => {
                can(transmission::TRIM).then(|| wire(command::TRIM, fua(durable), span))?
            }
            Request::WriteZeroes { span, durable, allocated, fast } => {
                if !can(transmission::WRITE_ZEROES) || (fast && !can(transmission::FAST_ZERO)) {
                    return Some(Err("this server does not say that its zeroes are fast"));
                }
                let hole = if allocated { flag::NO_HOLE } else { 0 };
                let fast = if fast { flag::FAST_ZERO } else { 0 };
                wire(command::WRITE_ZEROES, fua(durable) | hole | fast, span)
            }
            Request::Cache { span } => can(transmission::CACHE).then(|| wire(command::CACHE, 0, span))?,
            Request::Status { span, extents_max } => {
                let one = if extents_max == 1 { flag::REQ_ONE } else { 0 };
                self.taken.contexts.allocation.map(|_| wire(command::BLOCK_STATUS, one, span))?
            }
        }
    }

    /// The answer to what the server has no word for: hints are taken, and all is data.
    fn without(&self, awaited: Awaited) -> Result<Content, Failed> {
        match awaited {
            Awaited::Extents(span, ..) => {
                let extent = Extent { length: span.length, hole: false, zero: false, dirty: false };
                Ok(Content::Extents(vec![extent]))
            }
            Awaited::Done => Ok(Content::Done),
            Awaited::Data(_) => Err(Failed::new(Errno::Unsupported, "this server cannot read")),
        }
    }

    fn enqueue(&self, wire: Wire, awaited: Awaited, reply: Reply) {
        let mut state = self.lock();
        if let Some(why) = state.end {
            drop(state);
            return reply.fail(Errno::Io, format!("the connection to the server is over: {why}"));
        }
        if REQUESTS_MAX <= state.pending.len() {
            drop(state);
            return reply.fail(Errno::Io, "too many requests are under way");
        }
        let cookie = state.next;
        state.next = cookie.wrapping_add(1);
        let Wire { command, flags, span, data } = wire;
        let header = Header { flags, command, cookie, offset: span.offset, length: span.length };
        let body = if data.is_empty() { Body::None } else { Body::Bytes(Box::new(data)) };
        state.queue.push_back(Part { frame: Frame { head: head(&header), body }, slot: None });
        let assembly = Assembly::new(awaited, self.taken.contexts);
        state.pending.insert(cookie, Pending { since: Instant::now(), reply, assembly });
        self.work.notify_one();
    }

    /// Sends what is queued until the end.
    fn send(&self) {
        let (mut parts, mut gone) = (VecDeque::new(), 0_usize);
        loop {
            let mut state = self.lock();
            if state.end.is_some() {
                return;
            }
            let since = state.pending.values().map(|pending| pending.since);
            let oldest = since.chain(state.reading).min();
            if oldest.is_some_and(|since| self.patience < since.elapsed()) {
                drop(state);
                return self.end("it did not answer in time");
            }
            if parts.is_empty() {
                let count = state.queue.len().min(BATCH);
                parts = state.queue.drain(..count).collect::<VecDeque<Part>>();
            }
            if parts.is_empty() {
                let woken = self.work.wait_timeout(state, TICK);
                drop(woken.unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            drop(state);
            match send(&self.socket, &parts, gone) {
                Err(_) => return self.end("it closed"),
                Ok(None) => self.socket.wait_for_room(TICK),
                Ok(Some(count)) => {
                    gone = gone.saturating_add(count);
                    while let Some(beyond) = parts.front().and_then(|part| gone.checked_sub(part.len())) {
                        gone = beyond;
                        parts.pop_front();
                    }
                }
            }
        }
    }

    fn read(&self) -> Result<(), &'static str> {
        loop {
            self.lock().reading = None;
            let begin = Begin::parse(&self.take()?).map_err(|_| "it sent what is no reply")?;
            match begin {
                Begin::Simple { error, cookie } => self.simple(error, cookie)?,
                Begin::Chunk { flags, kind, cookie } => self.chunk(flags, kind, cookie)?,
            }
        }
    }

    fn simple(&self, error: u32, cookie: u64) -> Result<(), &'static str> {
        let mut pending = self.pending(cookie)?;
        let filled = match (error, pending.assembly.awaited) {
            (0, Awaited::Data(span)) => self.content(&mut pending, span.offset, span.length),
            (0, Awaited::Done | Awaited::Extents(..)) => Ok(()),
            (error, _) => {
                pending.assembly.error(error);
                Ok(())
            }
        };
        self.finish(filled, pending)
    }

    fn chunk(&self, flags: u16, kind: u16, cookie: u64) -> Result<(), &'static str> {
        let mut pending = self.pending(cookie)?;
        let filled = self.part(&mut pending, kind);
        if filled.is_err() || flags & chunk::DONE != 0 {
            return self.finish(filled, pending);
        }
        self.lock().pending.insert(cookie, pending);
        Ok(())
    }

    /// Reads the rest of a chunk into the answer it belongs to.
    fn part(&self, pending: &mut Pending, kind: u16) -> Result<(), &'static str> {
        let length = u32::from_be_bytes(self.take()?);
        if kind == chunk::DATA {
            let offset = u64::from_be_bytes(self.take()?);
            let length = length.checked_sub(8).ok_or("it sent a chunk that is too short")?;
            return self.content(pending, offset, length);
        }
        if TEXT_MAX < length {
            return Err("it sent a chunk that is too long");
        }
        let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut payload)?;
        pending.assembly.chunk(kind, &payload).map_err(|Broken(why)| why)
    }

    /// Reads content. No more is read than was asked for.
    fn content(&self, pending: &mut Pending, offset: u64, length: u32) -> Result<(), &'static str> {
        match pending.assembly.awaited {
            Awaited::Data(span) if length <= span.length => {}
            Awaited::Data(_) | Awaited::Extents(..) | Awaited::Done => return Err("it sent too much"),
        }
        let bytes = self.bytes(length)?;
        pending.assembly.piece(offset, length, bytes).map_err(|Broken(why)| why)
    }

    /// Answers. Whoever hears that its request failed with the connection finds the connection over.
    fn finish(&self, filled: Result<(), &'static str>, pending: Pending) -> Result<(), &'static str> {
        let Pending { reply, assembly, .. } = pending;
        match filled.and_then(|()| assembly.finish().map_err(|Broken(why)| why)) {
            Ok(answer) => {
                reply.finish(answer);
                Ok(())
            }
            Err(why) => {
                self.lock().end.get_or_insert(why);
                reply.fail(Errno::Io, format!("the connection to the server ended: {why}"));
                Err(why)
            }
        }
    }

    /// The request with this cookie; it is put back if more is to come. Its reply says so if it is dropped.
    fn pending(&self, cookie: u64) -> Result<Pending, &'static str> {
        let mut state = self.lock();
        let pending = state.pending.remove(&cookie).ok_or("it answered what nobody asked")?;
        state.reading = Some(pending.since);
        Ok(pending)
    }

    fn bytes(&self, length: u32) -> Result<Piece, &'static str> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut bytes)?;
        Ok(Piece::Bytes(Box::new(bytes)))
    }

    fn take<const N: usize>(&self) -> Result<[u8; N], &'static str> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), &'static str> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.socket.receive(rest).ok().flatten().ok_or("it closed")?;
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// The connection is over: everything under way fails.
    fn end(&self, why: &'static str) {
        let mut state = self.lock();
        state.end.get_or_insert(why);
        let pending = std::mem::take(&mut state.pending);
        state.queue.clear();
        drop(state);
        self.socket.end();
        self.work.notify_all();
        for one in pending.into_values() {
            one.reply.fail(Errno::Io, format!("the connection to the server ended: {why}"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
