//! A connection by which a guest is moved: frames, each with a tag that binds it to this connection, its
//! direction and its place there, so that nobody without the site key says or changes anything (V22, I11).
//!
//! | at | len | frame | value |
//! |---:|----:|-------|-------|
//! | 0 | 4 | length | bytes of the word, at most 320 KiB; little-endian |
//! | 4 | 16 | tag | keyed BLAKE3 of the word, then the frame's number, 8 bytes |
//! | 20 | | word | [`Word`], by postcard |

use super::hello::Keys;
use super::socket::Socket;
use super::words::Word;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest word.
const WORD_MAX: usize = 320 << 10;
/// Bytes of a guest in one word.
const PIECE: usize = 256 << 10;
const TAG_LEN: usize = 16;
const HEAD: usize = 4 + TAG_LEN;
/// A frame that does not leave, or does not come to its end, for so long has no other end any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, of one of its ends.
#[derive(Debug)]
pub struct Channel {
    wire: Socket,
    says: Tags,
    hears: Tags,
    /// The word that was heard last.
    heard: Vec<u8>,
    /// A frame to be sent: its room is used again.
    frame: Vec<u8>,
    pace: Option<Pace>,
}

/// The tags of one direction.
struct Tags {
    key: [u8; blake3::KEY_LEN],
    number: u64,
}

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tags(frame {})", self.number)
    }
}

impl Tags {
    const fn new(key: [u8; blake3::KEY_LEN]) -> Self {
        Self { key, number: 0 }
    }

    /// Of the next frame.
    fn next(&mut self, word: &[u8]) -> [u8; TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(word).update(&self.number.to_le_bytes());
        self.number = self.number.saturating_add(1);
        let mut tag = [0; TAG_LEN];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }
}

/// So many bytes a second at most.
#[derive(Debug)]
struct Pace {
    /// It may change at any time.
    rate: Arc<AtomicU64>,
    /// When the next bytes may go.
    next: Instant,
}

impl Pace {
    fn wait(&mut self, bytes: usize) {
        let now = Instant::now();
        std::thread::sleep(self.next.saturating_duration_since(now));
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros =
            bytes.saturating_mul(1_000_000).checked_div(self.rate.load(Ordering::Relaxed)).unwrap_or(0);
        self.next = self.next.max(now).checked_add(Duration::from_micros(micros)).unwrap_or(now);
    }
}

impl Channel {
    /// The end at the node that the guest leaves.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn leaving(wire: impl Into<Socket>, keys: &Keys) -> Result<Self> {
        Self::new(wire.into(), Tags::new(keys.out), Tags::new(keys.back))
    }

    /// The end at the node that it comes to.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn arriving(wire: impl Into<Socket>, keys: &Keys) -> Result<Self> {
        Self::new(wire.into(), Tags::new(keys.back), Tags::new(keys.out))
    }

    fn new(wire: Socket, says: Tags, hears: Tags) -> Result<Self> {
        wire.set_write_timeout(PATIENCE)?;
        Ok(Self { wire, says, hears, heard: Vec::new(), frame: Vec::new(), pace: None })
    }

    /// Its socket, and how many frames came by it: for another process that goes on hearing. Nothing was said
    /// yet.
    #[must_use]
    pub fn into_parts(self) -> (Socket, u64) {
        (self.wire, self.hears.number)
    }

    /// Frames up to this one were heard by another process.
    #[must_use]
    pub const fn after(mut self, heard: u64) -> Self {
        self.hears.number = heard;
        self
    }

    /// From now on so many bytes a second go at most; `None`: as many as can.
    pub fn limit(&mut self, rate: Option<u64>) {
        self.pace = None;
        let _ = rate.map(|rate| self.follow(Arc::new(AtomicU64::new(rate))));
    }

    /// From now on as many bytes a second go at most as stand there.
    pub fn follow(&mut self, rate: Arc<AtomicU64>) {
        self.pace = Some(Pace { rate, next: Instant::now() });
    }

    /// Whether the other end is there, as far as can be known, and says nothing.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.wire.is_quiet()
    }

    /// Says a word.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn say(&mut self, word: &Word<'_>) -> Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(HEAD, 0);
        let mut frame = postcard::to_extend(word, frame).map_err(Error::other)?;
        let (head, word) = frame.split_at_mut_checked(HEAD).ok_or(ErrorKind::InvalidInput)?;
        let length = u32::try_from(word.len()).map_err(Error::other)?;
        let tag = self.says.next(word);
        let (at, place) = head.split_at_mut(4);
        at.copy_from_slice(&length.to_le_bytes());
        place.copy_from_slice(&tag);
        if let Some(pace) = &mut self.pace {
            pace.wait(frame.len());
        }
        self.wire.write_all(&frame)?;
        self.frame = frame;
        Ok(())
    }

    /// The next word, which begins within this time.
    ///
    /// # Errors
    ///
    /// The other end is gone, silent, or somebody else's.
    pub fn hear(&mut self, within: Duration) -> Result<Word<'_>> {
        let mut head = [0; HEAD];
        let (first, rest) = head.split_at_mut(1);
        self.wire.set_read_timeout(within)?;
        self.wire.read_exact(first).map_err(silent)?;
        self.wire.set_read_timeout(PATIENCE)?;
        self.wire.read_exact(rest).map_err(silent)?;
        let (length, tag) = head.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let foreign = |why: &str| Error::new(ErrorKind::InvalidData, why.to_owned());
        if WORD_MAX < length {
            return Err(foreign("a frame is too long"));
        }
        self.heard.resize(length, 0);
        self.wire.read_exact(&mut self.heard).map_err(silent)?;
        if self.hears.next(&self.heard) != tag {
            return Err(foreign("a frame is not the other node's"));
        }
        postcard::from_bytes(&self.heard).map_err(|error| foreign(&format!("a word is none: {error}")))
    }

    /// Lets the other end read what was said last, before the connection ends.
    pub fn finish(mut self) {
        self.wire.finish();
        let _ = self.wire.set_read_timeout(Duration::from_secs(1));
        let begun = Instant::now();
        // What it still sends would have the system throw away what we said.
        while begun.elapsed() < Duration::from_secs(2) && self.wire.read(&mut [0; 4096]).is_ok_and(|n| n != 0)
        {
        }
    }
}

/// A time that is over, in words.
fn silent(error: Error) -> Error {
    let words = [
        (ErrorKind::WouldBlock, ErrorKind::TimedOut, "the other node says nothing"),
        (ErrorKind::UnexpectedEof, ErrorKind::UnexpectedEof, "the other node broke off"),
    ];
    let known = words.into_iter().find(|(kind, ..)| *kind == error.kind());
    known.map_or(error, |(_, kind, words)| Error::new(kind, words))
}

/// Where the bytes of a guest go.
#[derive(Debug)]
pub struct Outgoing<'a> {
    channel: &'a mut Channel,
    piece: Vec<u8>,
    sent: u64,
}

impl<'a> Outgoing<'a> {
    /// Into this connection.
    pub fn new(channel: &'a mut Channel) -> Self {
        Self { channel, piece: Vec::with_capacity(PIECE), sent: 0 }
    }

    /// Bytes of the guest so far.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// From now on so many bytes a second go at most.
    pub fn limit(&mut self, rate: Option<u64>) {
        self.channel.limit(rate);
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let room = PIECE.saturating_sub(self.piece.len());
        let here = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.piece.extend_from_slice(here);
        self.sent = self.sent.saturating_add(u64::try_from(here.len()).unwrap_or(u64::MAX));
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(here.len())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.piece.is_empty() {
            self.channel.say(&Word::Bytes(&self.piece))?;
            self.piece.clear();
        }
        Ok(())
    }
}

/// Where the bytes of a guest come from.
#[derive(Debug)]
pub struct Incoming<'a> {
    channel: &'a mut Channel,
    piece: Vec<u8>,
    at: usize,
}

impl<'a> Incoming<'a> {
    /// From this connection.
    pub const fn new(channel: &'a mut Channel) -> Self {
        Self { channel, piece: Vec::new(), at: 0 }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        if self.piece.len() <= self.at {
            self.piece.clear();
            match self.channel.hear(PATIENCE)? {
                Word::Bytes(bytes) => self.piece.extend_from_slice(bytes),
                Word::Failed(why) => return Err(Error::other(why.what)),
                other @ (Word::Offer(_)
                | Word::Bring(..)
                | Word::Keep(_)
                | Word::BringOwn(..)
                | Word::Accepted
                | Word::Whole
                | Word::Go
                | Word::Runs) => {
                    return Err(Error::new(ErrorKind::InvalidData, format!("{other:?} in place of a guest")));
                }
            }
            self.at = 0;
        }
        let here = self.piece.get(self.at..).unwrap_or_default();
        let count = here.len().min(room.len());
        if let (Some(room), Some(here)) = (room.get_mut(..count), here.get(..count)) {
            room.copy_from_slice(here);
        }
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
