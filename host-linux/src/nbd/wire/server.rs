//! What a server sends, for our client: parsed, bounded, or refused. And what our client sends.

use super::context::Context;
use super::number::{
    CHUNK_MAGIC, GREETING, OPTION_MAGIC, OPTION_REPLY_MAGIC, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, info,
};
use super::request::Header;
use super::take::Take;
use crate::nbd::wire::reply::Head;

/// Length of the greeting.
pub const GREETING_LEN: usize = 18;
/// Length of the header of a reply to an option.
pub const OPTION_REPLY: usize = 20;
/// Length of a simple reply, and of the part of a chunk's header that tells them apart.
pub const REPLY: usize = 16;
/// The longest reply to an option that is read, the longest payload of a chunk that is no content, too.
pub const TEXT_MAX: u32 = 64 << 10;

/// These bytes are not what a server of the protocol sends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAServer;

/// The flags of a greeting.
///
/// # Errors
///
/// It is none, or one of the old style without options.
pub fn greeting(bytes: &[u8; GREETING_LEN]) -> Result<u16, NotAServer> {
    let mut take = Take(bytes);
    match (take.u64(), take.u64(), take.u16()) {
        (Some(GREETING), Some(OPTION_MAGIC), Some(flags)) => Ok(flags),
        (_, _, _) => Err(NotAServer),
    }
}

/// The header of a reply to `option`: what it is, and how many bytes follow.
///
/// # Errors
///
/// It is none, one to another option, or longer than any that makes sense.
pub fn option_reply(bytes: &[u8; OPTION_REPLY], option: u32) -> Result<(u32, u32), NotAServer> {
    let mut take = Take(bytes);
    match (take.u64(), take.u32(), take.u32(), take.u32()) {
        (Some(OPTION_REPLY_MAGIC), Some(of), Some(kind), Some(length))
            if of == option && length <= TEXT_MAX =>
        {
            Ok((kind, length))
        }
        (_, _, _, _) => Err(NotAServer),
    }
}

/// Something about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Size and flags.
    Export {
        /// Bytes.
        size: u64,
        /// Transmission flags.
        flags: u16,
    },
    /// Blocks.
    Blocks {
        /// The smallest.
        least: u32,
        /// The preferred one.
        preferred: u32,
        /// The largest read or write.
        most: u32,
    },
    /// Something we did not ask for.
    Other,
}

/// Parses one thing about an export.
///
/// # Errors
///
/// It is too short or too long for what it says it is.
pub fn told(data: &[u8]) -> Result<Told, NotAServer> {
    let mut take = Take(data);
    let told = match take.u16() {
        Some(info::EXPORT) => match (take.u64(), take.u16()) {
            (Some(size), Some(flags)) => Told::Export { size, flags },
            (_, _) => return Err(NotAServer),
        },
        Some(info::BLOCK_SIZE) => match (take.u32(), take.u32(), take.u32()) {
            (Some(least), Some(preferred), Some(most)) => Told::Blocks { least, preferred, most },
            (_, _, _) => return Err(NotAServer),
        },
        Some(_) => return Ok(Told::Other),
        None => return Err(NotAServer),
    };
    if take.is_empty() { Ok(told) } else { Err(NotAServer) }
}

/// The beginning of a reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// A simple reply.
    Simple {
        /// 0 is success.
        error: u32,
        /// Whose.
        cookie: u64,
    },
    /// A chunk; its length follows.
    Chunk {
        /// Its flags.
        flags: u16,
        /// What it is.
        kind: u16,
        /// Whose.
        cookie: u64,
    },
}

impl Begin {
    /// Parses it.
    ///
    /// # Errors
    ///
    /// The magic number is another.
    pub fn parse(bytes: &[u8; REPLY]) -> Result<Self, NotAServer> {
        let mut take = Take(bytes);
        match (take.u32(), take.u16(), take.u16(), take.u64()) {
            (Some(SIMPLE_REPLY_MAGIC), Some(high), Some(low), Some(cookie)) => {
                Ok(Self::Simple { error: u32::from(high) << 16 | u32::from(low), cookie })
            }
            (Some(CHUNK_MAGIC), Some(flags), Some(kind), Some(cookie)) => {
                Ok(Self::Chunk { flags, kind, cookie })
            }
            (_, _, _, _) => Err(NotAServer),
        }
    }
}

/// An option.
#[must_use]
pub fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    [&OPTION_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// The data of `GO`: an export, and the wish to know its blocks.
#[must_use]
pub fn go(name: &str) -> Vec<u8> {
    [&text(name)[..], &1_u16.to_be_bytes(), &info::BLOCK_SIZE.to_be_bytes()].concat()
}

/// The data of `SET_META_CONTEXT`: all that we know, of an export.
#[must_use]
pub fn contexts(name: &str) -> Vec<u8> {
    let count = u32::try_from(Context::ALL.len()).unwrap_or(u32::MAX).to_be_bytes();
    let queries = Context::ALL.map(|context| text(context.name())).concat();
    [&text(name)[..], &count, &queries].concat()
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// The header of a request.
#[must_use]
pub fn request(header: &Header) -> Head {
    let mut head = Head::new();
    let parts: [&[u8]; 6] = [
        &REQUEST_MAGIC.to_be_bytes(),
        &header.flags.to_be_bytes(),
        &header.command.to_be_bytes(),
        &header.cookie.to_be_bytes(),
        &header.offset.to_be_bytes(),
        &header.length.to_be_bytes(),
    ];
    for part in parts {
        // 28 bytes, which fit; the golden test holds it.
        let _ = head.extend_from_slice(part);
    }
    head
}
