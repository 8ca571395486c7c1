//! An own volume as this node's agent serves it: by NBD, over its Unix socket.
//!
//! Whoever changes it does so by a session of one reign: what is asked there is done while this node leads,
//! or never, so that nothing of a node that led comes later than what its successor wrote (X02, V8). On one
//! node a file lock keeps those apart who change it.

use super::medium::{Awaited, Medium, PIECE, begun};
use super::table::BLOCK;
use crate::failure::Failure;
use crate::nbd::client::connection::Client;
use crate::nbd::client::negotiate::Refused;
use crate::nbd::export::{Answer, Content, Errno, Export as _, Piece, Reply, Request, Span};
use crate::nbd::turns::{draw, session};
use crate::nbd::uri::Uri;
use crate::volume::route::between_nodes;
use bulkhead_core::volume::name::Name;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno as Os;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a connection may take to be made, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// A volume that was made is exported within this time.
const EXPORTED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// Blocks that are forgotten by one request.
const FORGET_MAX: u64 = (1 << 30) / BLOCK as u64;

/// What is done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is looked at: on any node of the pair.
    Look,
    /// Parts of it are read, so nobody on this node may change it.
    Read,
    /// It is changed: on the node that leads.
    Change,
}

/// A connection to an own volume.
#[derive(Debug)]
pub struct Served {
    client: Client,
    blocks: u64,
    _lock: Option<File>,
}

impl Served {
    /// Connects to the volume of this name at an agent's NBD socket.
    ///
    /// # Errors
    ///
    /// It is not served, or somebody on this node is at work on it.
    pub fn connect(socket: &Path, volume: &Name, access: Access) -> std::result::Result<Self, Failure> {
        let lock = match access {
            Access::Look => None,
            Access::Read => Some(lock(socket, volume, FlockOperation::NonBlockingLockShared)?),
            Access::Change => Some(lock(socket, volume, FlockOperation::NonBlockingLockExclusive)?),
        };
        let name = match access {
            Access::Look | Access::Read => volume.to_string(),
            Access::Change => session(&between_nodes(volume.as_str()), draw()?),
        };
        let (uri, begun) = (Uri::unix(socket, &name), Instant::now());
        let client = loop {
            match Client::connect(&uri, PATIENCE) {
                Ok(client) => break client,
                // It was made a moment ago, perhaps.
                Err(Refused::Denied(..)) if begun.elapsed() < EXPORTED => std::thread::sleep(LOOK),
                Err(why) => {
                    let what = format!("volume {volume} at {}: {why}", socket.display());
                    return Err(Failure::failed(what).next("`bulkhead volume list` shows the volumes."));
                }
            }
        };
        let wrong = |why: &str| Failure::failed(format!("volume {volume} at {}: {why}", socket.display()));
        if u32::try_from(PIECE).map_or(true, |piece| client.request_max() < piece) || !client.can_flush() {
            return Err(wrong("its server takes too little at once, or makes nothing durable"));
        }
        let blocks = client.geometry().size() >> BLOCK.ilog2();
        Ok(Self { client, blocks, _lock: lock })
    }

    /// Asks, and has `done` made of the answer.
    fn ask<T: Send + 'static>(
        &self,
        request: Request,
        done: impl FnOnce(Content) -> Result<T> + Send + 'static,
    ) -> Awaited<T> {
        let (tell, awaited) = begun();
        let hear = move |answer: Answer| {
            tell.say(match answer {
                Ok(content) => done(content),
                Err(failed) => Err(Error::new(kind(failed.errno), failed.why)),
            });
        };
        self.client.submit(request, Reply::new(hear));
        awaited
    }
}

const fn kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NoSpace => ErrorKind::StorageFull,
        Errno::Permission => ErrorKind::PermissionDenied,
        Errno::Shutdown => ErrorKind::ConnectionAborted,
        Errno::Invalid => ErrorKind::InvalidInput,
        Errno::Unsupported => ErrorKind::Unsupported,
        Errno::Io => ErrorKind::Other,
    }
}

/// Bytes of so many blocks, from the first of them on.
fn offset(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK as u64)
}

impl Medium for Served {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&self, block: u64, bytes: usize) -> Awaited<Vec<u8>> {
        let span = Span { offset: offset(block), length: u32::try_from(bytes).unwrap_or(u32::MAX) };
        self.ask(Request::Read { span }, move |content| whole(content, bytes))
    }

    fn write(&self, block: u64, bytes: Vec<u8>) -> Awaited<()> {
        self.ask(Request::Write { offset: offset(block), data: bytes, durable: false }, |_| Ok(()))
    }

    fn flush(&self) -> Awaited<()> {
        self.ask(Request::Flush, |_| Ok(()))
    }

    fn forget(&self, blocks: Range<u64>) -> Awaited<()> {
        let (mut from, mut last) = (blocks.start, Ok(()));
        while from < blocks.end {
            let count = FORGET_MAX.min(blocks.end.saturating_sub(from));
            let length = u32::try_from(offset(count)).unwrap_or(u32::MAX);
            let trim = Request::Trim { span: Span { offset: offset(from), length }, durable: false };
            last = last.and(self.ask(trim, |_| Ok(())).wait());
            from = from.saturating_add(count);
        }
        let (done, awaited) = begun();
        done.say(last);
        awaited
    }
}

/// What was read, in one piece of so many bytes.
fn whole(content: Content, bytes: usize) -> Result<Vec<u8>> {
    let Content::Data(pieces) = content else { return Err(ErrorKind::InvalidData.into()) };
    let mut all = Vec::with_capacity(bytes);
    for piece in &pieces {
        match piece {
            Piece::Bytes(piece) => all.extend_from_slice((**piece).as_ref()),
            Piece::Zeroes(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                all.resize(all.len().saturating_add(count).min(bytes), 0);
            }
        }
    }
    if all.len() == bytes { Ok(all) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Keeps others on this node from it, who would change it at the same time. The file stays: who would remove
/// it could remove another one's lock.
fn lock(socket: &Path, volume: &Name, how: FlockOperation) -> std::result::Result<File, Failure> {
    let path = socket.with_file_name(format!("{volume}.lock"));
    let failed = |error: Error| Failure::io("lock", &path, &error);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match flock(&file, how) {
        Ok(()) => Ok(file),
        Err(Os::WOULDBLOCK) => {
            let what = format!("another command is at work on volume {volume}");
            Err(Failure::refused(what).next("try again when it is done."))
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
#[path = "served_tests.rs"]
mod tests;
