//! An export of an NBD server that holds the content of a volume, and of nothing else (S1-24, S1-31; F5, F10
//! to F13, F31; V1, V13, X14).
//!
//! # What a connection that is lost costs
//!
//! Time, and nothing else. A server may lose what it was not asked to flush, so whatever was written since
//! the last flush stays in memory here, in order (the journal). The next connection is of use only after all
//! of it was written again, and a flush on that covers it, too.
//!
//! ```text
//! write ─▶ journal ─▶ server      flush answered: the journal is empty
//!             │
//!             └── connection lost, or a write or flush refused ─▶ another connection: all of it again
//! ```
//!
//! A flush that failed is never asked for again by itself (V13): nobody knows which writes it lost. All of
//! them are written again before the next one is asked for.
//!
//! # How it ends (X14)
//!
//! - **Not reached**: writes wait, for as long as it takes, or until the agent stops; the log has them. Reads
//!   wait [`PATIENCE`] from the moment at which the connection was lost, and fail then.
//! - **Refused** (no room, its disk fails): as above, tried again and again; after [`GIVE_UP`] this holder
//!   fails, as it does with a disk, and the other one leads.
//!
//! What is not prevented: a server that still carries out a write of a dead connection after newer ones of
//! the next. NBD has no word for it. The connection is shut down before the next one is made.

use super::{BLOCK, How, byte};
use crate::mirror::handle::lock;
use crate::nbd::client::connection::Client;
use crate::nbd::export::{Content, Errno, Export as _, Failed, Piece, Reply, Request, Span};
use crate::nbd::uri::Uri;
use std::io::{Error, ErrorKind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long reads wait for a server that is away, and a server may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// So long a server may refuse what is written. Longer than the restart of most; and no longer, for the other
/// holder may have a store that works.
pub const GIVE_UP: Duration = Duration::from_secs(if cfg!(test) { 8 } else { 60 });
/// From one attempt to the next, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Who is away for no longer is not told of.
const TOLD: Duration = Duration::from_secs(1);
/// Bytes of the journal, above which a flush is asked for: a failed connection costs no more than that.
const JOURNAL_MAX: usize = 16 << 20;
/// Bytes of one request at most.
const REQUEST: usize = 1 << 20;
/// Blocks that one request makes zeroes at most: 1 GiB.
const ZEROES: u64 = 1 << 18;

/// An export. Dropped, it disconnects.
#[derive(Debug)]
pub struct Remote(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    uri: Uri,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while something is written or flushed: what a flush covers was answered before.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    link: Link,
    /// What was written and not flushed since, in order.
    journal: Vec<Arc<Entry>>,
    /// Bytes of it.
    bytes: usize,
    /// How many blocks the export must have.
    needs: u64,
    /// Since when the server has refused what is written.
    refused: Option<Instant>,
    is_over: bool,
}

/// The connection.
#[derive(Debug)]
enum Link {
    Up(Arc<Client>),
    /// Another one is made.
    Down {
        since: Instant,
        why: String,
    },
}

/// What is to be in some blocks.
#[derive(Debug)]
enum Entry {
    Data(u64, Vec<u8>),
    Zeroes(u64, u64),
}

/// Why a request was not carried out.
enum Failing {
    /// With its connection.
    Lost(String),
    /// The server says so.
    Refused(Failed),
}

impl Remote {
    /// An export that must have so many blocks. It is connected to from now on, by a thread of its own.
    ///
    /// # Errors
    ///
    /// There are no threads.
    pub fn new(uri: Uri, needs: u64) -> Result<Self, Error> {
        let link = Link::Down { since: Instant::now(), why: "it is being connected to".into() };
        let state = State { link, journal: Vec::new(), bytes: 0, needs, refused: None, is_over: false };
        let (changed, writing) = (Condvar::new(), Mutex::default());
        let shared = Arc::new(Shared { uri, state: Mutex::new(state), changed, writing });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("nbd-backing".into()).stack_size(256 << 10);
        thread.spawn(move || own.keep_connected())?;
        Ok(Self(shared))
    }

    /// Why nothing can be written or read, for a while already; `None`: it can.
    pub fn trouble(&self) -> Option<String> {
        match &lock(&self.0.state).link {
            Link::Down { since, why } if TOLD <= since.elapsed() => Some(self.0.away(why)),
            Link::Up(_) | Link::Down { .. } => None,
        }
    }

    /// Whoever waits for it waits no longer, and nobody will.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// It must have so many blocks from now on. Only another connection tells.
    pub fn needs(&self, blocks: u64) {
        let mut state = lock(&self.0.state);
        if state.needs < blocks {
            state.needs = blocks;
            let why = "it is asked for its size".into();
            self.0.down(state, Link::Down { since: Instant::now(), why });
        }
    }

    /// Writes from a block on; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// It refuses for too long, or the agent stops.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        for (number, part) in (0_u64..).zip(bytes.chunks(REQUEST)) {
            let blocks = u64::try_from(REQUEST).unwrap_or(0) / BLOCK;
            let at = first.saturating_add(number.saturating_mul(blocks));
            self.0.put(Entry::Data(at, part.to_vec()))?;
        }
        Ok(())
    }

    /// Makes some blocks zero.
    ///
    /// # Errors
    ///
    /// As for [`Self::write`].
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        let end = first.saturating_add(blocks);
        let mut at = first;
        while at < end {
            let here = end.saturating_sub(at).min(ZEROES);
            self.0.put(Entry::Zeroes(at, here))?;
            at = at.saturating_add(here);
        }
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// As for [`Self::write`].
    pub fn sync(&self) -> Result<(), Error> {
        let _writing = lock(&self.0.writing);
        self.0.flush()
    }

    /// Nobody needs what is in some blocks: a server that can gives them up. A hint.
    pub fn discard(&self, first: u64, blocks: u64) {
        let _writing = lock(&self.0.writing);
        let state = lock(&self.0.state);
        let Link::Up(client) = &state.link else { return };
        let client = Arc::clone(client);
        drop(state);
        let mut at = first;
        let end = first.saturating_add(blocks);
        while at < end {
            let here = end.saturating_sub(at).min(ZEROES);
            // In order with what is written there later; else nothing depends on it.
            if ask(&client, Request::Trim { span: span(at, here), durable: false }).is_err() {
                return;
            }
            at = at.saturating_add(here);
        }
    }

    /// Reads from a block on.
    ///
    /// # Errors
    ///
    /// It is away or fails, or must be waited for.
    pub fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        if how == How::AtOnce {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut at = first;
        for part in bytes.chunks_mut(REQUEST) {
            let blocks = u64::try_from(part.len()).unwrap_or(0) / BLOCK;
            self.0.get(at, part)?;
            at = at.saturating_add(blocks);
        }
        Ok(())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Shared {
    fn stop(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        self.down(state, Link::Down { since: Instant::now(), why: "it is not used any more".into() });
    }

    fn down(&self, mut state: MutexGuard<'_, State>, link: Link) {
        let old = std::mem::replace(&mut state.link, link);
        drop(state);
        // It disconnects when nobody uses it any more.
        drop(old);
        self.changed.notify_all();
    }

    fn away(&self, why: &str) -> String {
        format!("{} is away: {why}; what is written waits in the log until it is back", self.uri)
    }

    /// The connection of this client is of no use any more.
    fn lost(&self, client: &Arc<Client>, why: String) {
        let state = lock(&self.state);
        if matches!(&state.link, Link::Up(now) if Arc::ptr_eq(now, client)) {
            self.down(state, Link::Down { since: Instant::now(), why });
        }
    }

    /// The connection, once there is one. Who does not wait for as long as it takes does so until
    /// [`PATIENCE`] after the last one was lost.
    fn up(&self, waits: bool) -> Result<(MutexGuard<'_, State>, Arc<Client>), Error> {
        let mut state = lock(&self.state);
        loop {
            let (since, why) = match &state.link {
                Link::Up(client) => {
                    let client = Arc::clone(client);
                    return Ok((state, client));
                }
                Link::Down { since, why } => (*since, why),
            };
            if state.is_over {
                return Err(Error::new(ErrorKind::Interrupted, "the agent stops"));
            }
            if let Some(refused) = state.refused.filter(|refused| waits && GIVE_UP <= refused.elapsed()) {
                let (uri, seconds) = (&self.uri, refused.elapsed().as_secs());
                return Err(Error::other(format!("{uri} has refused to be written for {seconds} s: {why}")));
            }
            let left = PATIENCE.saturating_sub(since.elapsed());
            if !waits && left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, self.away(why)));
            }
            let woken = self.changed.wait_timeout(state, if waits { PAUSE.1 } else { left });
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has the server write something, or remembers it for the next connection.
    fn put(&self, entry: Entry) -> Result<(), Error> {
        let _writing = lock(&self.writing);
        if JOURNAL_MAX <= lock(&self.state).bytes {
            self.flush()?;
        }
        let entry = Arc::new(entry);
        // While there is a connection: whoever makes the next one finds it there.
        let (mut state, client) = self.up(true)?;
        state.bytes = state.bytes.saturating_add(entry.bytes());
        state.journal.push(Arc::clone(&entry));
        drop(state);
        if let Err(failing) = entry.send(&client) {
            self.failing(&client, failing);
            drop(client);
            // It was written on the next one before that was of use to anybody.
            drop(self.up(true)?);
        }
        Ok(())
    }

    /// Makes the journal durable, and empty.
    fn flush(&self) -> Result<(), Error> {
        loop {
            let (state, client) = self.up(true)?;
            drop(state);
            if let Err(failing) = ask(&client, Request::Flush) {
                self.failing(&client, failing);
                continue;
            }
            let mut state = lock(&self.state);
            // Of another one than the writes were answered on, it may cover none of them.
            if matches!(&state.link, Link::Up(now) if Arc::ptr_eq(now, &client)) {
                state.journal.clear();
                (state.bytes, state.refused) = (0, None);
                return Ok(());
            }
        }
    }

    fn failing(&self, client: &Arc<Client>, failing: Failing) {
        let why = match failing {
            Failing::Lost(why) => why,
            Failing::Refused(failed) => {
                lock(&self.state).refused.get_or_insert_with(Instant::now);
                failed.why
            }
        };
        self.lost(client, why);
    }

    fn get(&self, first: u64, bytes: &mut [u8]) -> Result<(), Error> {
        loop {
            let (state, client) = self.up(false)?;
            drop(state);
            let blocks = u64::try_from(bytes.len()).unwrap_or(0) / BLOCK;
            match ask(&client, Request::Read { span: span(first, blocks) }) {
                Ok(Content::Data(pieces)) => {
                    fill(bytes, &pieces);
                    return Ok(());
                }
                Ok(Content::Done | Content::Extents(_)) => {
                    self.lost(&client, "it answered something else".into());
                }
                Err(Failing::Lost(why)) => self.lost(&client, why),
                // As a disk that cannot read: another holder is asked for it.
                Err(Failing::Refused(Failed { errno: Errno::Io, .. })) => {
                    return Err(rustix::io::Errno::IO.into());
                }
                Err(Failing::Refused(failed)) => return Err(Error::other(failed.why)),
            }
        }
    }

    /// Makes connections, one after the other, until it is over.
    fn keep_connected(&self) {
        let mut pause = PAUSE.0;
        loop {
            let (begun, needs) = (Instant::now(), lock(&self.state).needs);
            let made = self.connect(needs);
            let mut state = lock(&self.state);
            if let (Err(said), Link::Down { why, .. }) = (made, &mut state.link) {
                *why = said;
            }
            let is_up = |state: &mut State| matches!(state.link, Link::Up(_)) && !state.is_over;
            let woken = self.changed.wait_while(state, is_up);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            // A server that refuses, or takes connections and loses them, is not asked all the time.
            if PAUSE.1 <= begun.elapsed() {
                pause = PAUSE.0;
            } else {
                let woken = self.changed.wait_timeout_while(state, pause, |state| !state.is_over);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                pause = pause.saturating_mul(2).min(PAUSE.1);
            }
            if state.is_over {
                return;
            }
        }
    }

    /// Makes a connection of use, on which all of the journal was written.
    fn connect(&self, needs: u64) -> Result<(), String> {
        let client = Client::connect(&self.uri, PATIENCE).map_err(|refused| refused.to_string())?;
        let (geometry, client) = (client.geometry(), Arc::new(client));
        let has = geometry.size() / BLOCK;
        if geometry.is_read_only() {
            return Err("it must not be written".into());
        }
        if !client.can_flush() {
            return Err("it cannot make durable what is written: it must serve flushes".into());
        }
        if u64::from(geometry.block_min()) > BLOCK || u64::from(client.request_max()) < BLOCK {
            return Err("it does not take blocks of 4096 bytes".into());
        }
        if has < needs {
            return Err(format!("it has {} bytes, {} are needed: make it larger", byte(has), byte(needs)));
        }
        // Nobody adds to it before there is a connection.
        let journal = lock(&self.state).journal.clone();
        for entry in journal {
            entry.send(&client).map_err(|failing| match failing {
                Failing::Lost(why) => why,
                Failing::Refused(failed) => {
                    lock(&self.state).refused.get_or_insert_with(Instant::now);
                    failed.why
                }
            })?;
        }
        let mut state = lock(&self.state);
        if !state.is_over && state.needs == needs {
            state.link = Link::Up(client);
        }
        self.changed.notify_all();
        Ok(())
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(_, data) => data.len(),
            Self::Zeroes(..) => size_of::<Self>(),
        }
    }

    fn send(&self, client: &Client) -> Result<(), Failing> {
        match self {
            Self::Data(first, data) => {
                let most = usize::try_from(client.request_max()).unwrap_or(REQUEST) / SECTOR;
                let mut offset = byte(*first);
                for part in data.chunks(most.max(1).saturating_mul(SECTOR)) {
                    ask(client, Request::Write { offset, data: part.to_vec(), durable: false })?;
                    offset = offset.saturating_add(u64::try_from(part.len()).unwrap_or(0));
                }
                Ok(())
            }
            Self::Zeroes(first, blocks) => {
                let span = span(*first, *blocks);
                let zeroes = Request::WriteZeroes { span, durable: false, allocated: false, fast: false };
                ask(client, zeroes).map(drop)
            }
        }
    }
}

/// Bytes of a block, in memory.
const SECTOR: usize = 4096;

fn span(first: u64, blocks: u64) -> Span {
    // No request has more than 1 GiB.
    let length = u32::try_from(byte(blocks)).unwrap_or(u32::MAX);
    Span { offset: byte(first), length }
}

/// Asks, and waits for the answer.
fn ask(client: &Client, request: Request) -> Result<Content, Failing> {
    let (tell, told) = channel();
    client.submit(request, Reply::new(move |answer| drop(tell.send(answer))));
    let answer = told.recv().unwrap_or_else(|_| Err(Failed::new(Errno::Io, "nobody answered")));
    answer.map_err(|failed| match client.ended() {
        Some(why) => Failing::Lost(why.to_owned()),
        None => Failing::Refused(failed),
    })
}

/// Puts together what was read.
fn fill(bytes: &mut [u8], pieces: &[Piece]) {
    let mut rest = bytes;
    for piece in pieces {
        let count = usize::try_from(piece.len()).unwrap_or(usize::MAX).min(rest.len());
        let (here, behind) = rest.split_at_mut(count);
        match piece {
            Piece::Bytes(bytes) => here.copy_from_slice((**bytes).as_ref().get(..count).unwrap_or_default()),
            Piece::Zeroes(_) => here.fill(0),
        }
        rest = behind;
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
