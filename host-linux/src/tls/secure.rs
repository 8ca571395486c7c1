//! An encrypted socket that behaves as a plain one does: whoever sends never waits for the other side, and
//! what was sent is in the kernel when that is said (V43, F42).
//!
//! One lock for both directions, held while bytes are turned over, never while the socket is waited for.
//! Bounded by what one send encrypts ([`rustls`]' own limit of 64 KiB), by what is read at once, and by what
//! a handshake may take.

use super::plain::{Gone, read_now, send_now};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustls::Connection;
use std::io::{ErrorKind, IoSlice, Read as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Read at once by a connection that has taken an export.
const INBOX: usize = 64 << 10;
/// By one that has not: there may be many.
const SMALL_INBOX: usize = 4 << 10;
/// What a handshake may take from the other side: many times what the certificates of a site are.
const HANDSHAKE_MAX: usize = 32 << 10;

/// A socket with TLS on it.
#[derive(Debug)]
pub struct Secure {
    wire: OwnedFd,
    session: Mutex<Session>,
    /// Of the one thread that reads.
    inbox: Mutex<Inbox>,
    /// Reads wait for the other side.
    waits: AtomicBool,
}

#[derive(Debug)]
struct Session {
    connection: Connection,
    /// Bytes of the send that is under way: they are encrypted, and not all of that is in the kernel. The
    /// next send is of the same bytes.
    owed: usize,
    /// Bytes that came in the handshake.
    shaken: usize,
    /// This end has said its last: farewell, or that it believes nothing more. What comes now is not looked
    /// at, for TLS has no words left to complain of it.
    over: bool,
    why: Option<String>,
}

/// What came and is not decrypted.
#[derive(Debug)]
struct Inbox {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shake {
    /// Over.
    Done,
    /// The other side has something to say.
    Listens,
    /// What is to be said does not fit at the moment.
    Full,
}

/// What one look at the socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// So many bytes.
    Bytes(usize),
    /// Something, but nothing that could be decrypted yet.
    Part,
    /// Nothing.
    Nothing,
}

impl Secure {
    /// A connection over `wire`, whose reads do not wait.
    #[must_use]
    pub fn new(wire: OwnedFd, connection: Connection) -> Self {
        let session = Mutex::new(Session { connection, owed: 0, shaken: 0, over: false, why: None });
        let inbox = Inbox { bytes: vec![0; SMALL_INBOX], from: 0, to: 0 };
        Self { wire, session, inbox: Mutex::new(inbox), waits: AtomicBool::new(false) }
    }

    /// Goes on with the handshake as far as it goes without waiting.
    ///
    /// # Errors
    ///
    /// The other side is gone, or not to be believed: [`Self::why`].
    pub fn shake(&self) -> Result<Shake, Gone> {
        let mut inbox = lock(&self.inbox);
        let mut session = lock(&self.session);
        let mut asked = false;
        loop {
            if !session.flush(&self.wire)? {
                return Ok(Shake::Full);
            }
            if !session.connection.is_handshaking() {
                return Ok(Shake::Done);
            }
            if inbox.here().is_empty() {
                // Others have their turn after one read.
                if std::mem::replace(&mut asked, true) || !inbox.fill(&self.wire)? {
                    return Ok(Shake::Listens);
                }
            }
            session.take(&mut inbox, &self.wire)?;
        }
    }

    /// Whether something waits to be sent that no send knows of.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        lock(&self.session).connection.wants_write()
    }

    /// Reads, as [`read_now`] does, and waits if it is told to.
    ///
    /// # Errors
    ///
    /// The other side is gone, has no more to say, or is not to be believed.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
        loop {
            match self.receive_some(buffer)? {
                Came::Bytes(count) => return Ok(Some(count)),
                Came::Part if self.waits.load(Ordering::Acquire) => {}
                Came::Part | Came::Nothing => return Ok(None),
            }
        }
    }

    /// Reads, and looks at the socket once at most: for who must know when a record comes by and by.
    ///
    /// # Errors
    ///
    /// As for [`Self::receive`].
    pub fn receive_some(&self, buffer: &mut [u8]) -> Result<Came, Gone> {
        let mut inbox = lock(&self.inbox);
        let mut session = lock(&self.session);
        if let Some(count) = session.read(&mut inbox, &self.wire, buffer)? {
            return Ok(Came::Bytes(count));
        }
        // What the protocol itself has to say goes as far as it goes.
        session.flush(&self.wire)?;
        drop(session);
        if !inbox.fill(&self.wire)? {
            return Ok(Came::Nothing);
        }
        let mut session = lock(&self.session);
        Ok(session.read(&mut inbox, &self.wire, buffer)?.map_or(Came::Part, Came::Bytes))
    }

    /// Reads what is decrypted already; how much that was.
    pub fn at_hand(&self, buffer: &mut [u8]) -> usize {
        lock(&self.session).connection.reader().read(buffer).unwrap_or(0)
    }

    /// A secret that both sides of this connection have, and nobody else; `None` before the handshake's end.
    #[must_use]
    pub fn exported(&self, label: &[u8]) -> Option<[u8; 32]> {
        lock(&self.session).connection.export_keying_material([0; 32], label, None).ok()
    }

    /// Sends, as [`send_now`] does. After `None` the same bytes are to come
    /// again, at the beginning of what is sent next: a part of them may be on its way.
    ///
    /// # Errors
    ///
    /// The other side is gone.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Gone> {
        let mut session = lock(&self.session);
        if session.owed == 0 {
            if !session.flush(&self.wire)? {
                return Ok(None);
            }
            session.owed = session.connection.writer().write_vectored(parts).map_err(|_| Gone)?;
        }
        match session.flush(&self.wire)? {
            true => Ok(Some(std::mem::take(&mut session.owed))),
            false => Ok(None),
        }
    }

    /// Whether reads wait.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_waiting(&self, waiting: bool) -> std::io::Result<()> {
        if waiting {
            lock(&self.inbox).bytes.resize(INBOX, 0);
        }
        self.waits.store(waiting, Ordering::Release);
        Ok(rustix::io::ioctl_fionbio(&self.wire, !waiting)?)
    }

    /// Says farewell if that does not wait.
    pub fn close(&self) {
        if let Ok(mut session) = self.session.try_lock() {
            session.over = true;
            session.connection.send_close_notify();
            let _ = session.flush(&self.wire);
        }
    }

    /// Why the other side is not believed, or does not believe this one, if so.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        lock(&self.session).why.clone()
    }
}

impl AsFd for Secure {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

impl Session {
    /// Reads from what came; `None`: nothing of it can be read yet.
    fn read(&mut self, inbox: &mut Inbox, wire: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(0) => return Err(Gone),
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(Gone),
            }
            if inbox.here().is_empty() {
                return Ok(None);
            }
            self.take(inbox, wire)?;
        }
    }

    /// Decrypts some of what came.
    fn take(&mut self, inbox: &mut Inbox, wire: &OwnedFd) -> Result<(), Gone> {
        if self.over {
            return Err(Gone);
        }
        let mut rest = inbox.here();
        let count = self.connection.read_tls(&mut rest).map_err(|_| Gone)?;
        inbox.from = inbox.from.saturating_add(count);
        if self.connection.is_handshaking() {
            self.shaken = self.shaken.saturating_add(count);
            if HANDSHAKE_MAX < self.shaken {
                self.why = Some("the handshake is longer than any of ours".into());
                return Err(Gone);
            }
        }
        if let Err(error) = self.connection.process_new_packets() {
            (self.over, self.why) = (true, Some(error.to_string()));
            // It says so to the other side.
            let _ = self.flush(wire);
            return Err(Gone);
        }
        Ok(())
    }

    /// Sends what is encrypted; whether all of it went.
    fn flush(&mut self, wire: &OwnedFd) -> Result<bool, Gone> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Out(wire)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Gone),
            }
        }
        Ok(true)
    }
}

impl Inbox {
    fn here(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// Reads when nothing is here; whether something came.
    fn fill(&mut self, wire: &OwnedFd) -> Result<bool, Gone> {
        (self.from, self.to) = (0, 0);
        let came = read_now(wire, &mut self.bytes)?;
        self.to = came.unwrap_or(0);
        Ok(came.is_some())
    }
}

/// Where encrypted bytes go.
struct Out<'a>(&'a OwnedFd);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> std::io::Result<usize> {
        match send_now(self.0, parts) {
            Ok(Some(count)) => Ok(count),
            Ok(None) => Err(ErrorKind::WouldBlock.into()),
            Err(Gone) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "secure_tests.rs"]
mod tests;
