//! A socket whose senders never wait for the other side: what an encrypted one is on top of.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Reads from a socket. `None`: nothing is there, and it does not wait.
///
/// # Errors
///
/// The other side is gone, or has no more to say.
pub fn read_now(socket: impl AsFd, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
    loop {
        match rustix::io::read(&socket, &mut *buffer) {
            Ok(0) => return Err(Gone),
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(_) => return Err(Gone),
        }
    }
}

/// Sends what fits into a socket without waiting. `None`: nothing fits.
///
/// # Errors
///
/// The other side is gone.
pub fn send_now(socket: impl AsFd, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Gone> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&socket, parts, &mut SendAncillaryBuffer::default(), flags) {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(_) => return Err(Gone),
        }
    }
}
