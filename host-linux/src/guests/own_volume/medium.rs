//! What an own volume is on: blocks that are read and written, several requests at once, and a flush.

use super::table::BLOCK;
use std::io::{Error, Result};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of one request at most.
pub const PIECE: usize = 1 << 20;
/// Requests under way: what is in memory of a stream is so many pieces.
pub const WINDOW: usize = 8;

const _: () = assert!(PIECE.is_multiple_of(BLOCK), "requests are of whole blocks");

/// Blocks. No request waits; what comes of one is waited for by [`Awaited`].
pub trait Medium {
    /// How many there are.
    fn blocks(&self) -> u64;
    /// Reads whole blocks, so many bytes, [`PIECE`] at most.
    fn read(&self, block: u64, bytes: usize) -> Awaited<Vec<u8>>;
    /// Writes whole blocks, [`PIECE`] bytes at most.
    fn write(&self, block: u64, bytes: Vec<u8>) -> Awaited<()>;
    /// Makes all durable whose writes were done before.
    fn flush(&self) -> Awaited<()>;
    /// What is there is not needed any more: it is done when it is answered, and may have no effect.
    fn forget(&self, blocks: Range<u64>) -> Awaited<()>;
}

/// What comes of a request.
#[derive(Debug)]
pub struct Awaited<T>(Receiver<Result<T>>);

/// Who says what came of it.
#[derive(Debug)]
pub struct Done<T>(SyncSender<Result<T>>);

/// A request, and who answers it.
pub fn begun<T>() -> (Done<T>, Awaited<T>) {
    let (done, awaited) = sync_channel(1);
    (Done(done), Awaited(awaited))
}

impl<T> Done<T> {
    /// This came of it.
    pub fn say(self, result: Result<T>) {
        // Who asked may have given up.
        let _ = self.0.send(result);
    }
}

impl<T> Awaited<T> {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// It was not done, or nobody says so.
    pub fn wait(self) -> Result<T> {
        self.0.recv().unwrap_or_else(|_| Err(Error::other("nobody answered")))
    }
}
