//! The kernel's NBD driver, asked over generic netlink: a device that has several connections, and a new
//! connection in the place of one that ended (Linux `include/uapi/linux/nbd-netlink.h`; S1-27).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// The kernel answers at once, or never.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for any answer: attributes of one family.
const ANSWER_MAX: usize = 8192;
/// A message's length, type, flags, number, sender; and the command, its version, nothing.
const HEADER: usize = 16;
const COMMAND: usize = 4;
/// An attribute's length and type.
const ATTRIBUTE: usize = 4;

/// Where families are looked up, and by which command and attributes.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// A message of this type is an error number, 0 for success.
const ERROR: u16 = 2;
/// It is a request, and is to be acknowledged.
const REQUEST_ACK: u16 = 0x01 | 0x04;
/// An attribute that is made of attributes.
const NESTED: u16 = 0x8000;

/// The driver's commands.
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;
/// Its attributes.
const INDEX: u16 = 1;
const SIZE: u16 = 2;
const BLOCK: u16 = 3;
const TIMEOUT: u16 = 4;
const SERVER_FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const DEAD_TIMEOUT: u16 = 8;
const SOCKET_ITEM: u16 = 1;
const SOCKET_FD: u16 = 1;

/// What a device is made of, besides its connections.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes.
    pub size: u64,
    /// Bytes of a block.
    pub block: u32,
    /// The server's transmission flags.
    pub flags: u16,
    /// A request that was not answered for so long is asked on another connection, and its own is given up.
    pub timeout: Duration,
    /// Requests wait for a connection so long, and fail then.
    pub patience: Duration,
}

/// A way to ask the driver.
#[derive(Debug)]
pub struct Driver {
    socket: OwnedFd,
    family: u16,
    number: u32,
}

impl Driver {
    /// Finds the driver.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when the kernel has none, or has not loaded it.
    pub fn open() -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        let socket = socket_with(kind.0, kind.1, kind.2, Some(GENERIC))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        let mut driver = Self { socket, family: CONTROL, number: 0 };
        let mut name = Vec::new();
        attribute(&mut name, FAMILY_NAME, b"nbd\0");
        let found = driver.ask(GET_FAMILY, &name)?;
        let id = attributes(&found).find(|(kind, _)| *kind == FAMILY_ID).map(|(_, data)| data);
        let id = id.and_then(|data| data.first_chunk()).ok_or(io::ErrorKind::InvalidData)?;
        driver.family = u16::from_ne_bytes(*id);
        Ok(driver)
    }

    /// Makes device number `index` of `sockets`, which the kernel has to itself from now on.
    ///
    /// # Errors
    /// The device is in use, or the kernel refuses.
    pub fn connect(&mut self, index: u32, shape: Shape, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut all = Vec::new();
        attribute(&mut all, INDEX, &index.to_ne_bytes());
        let quads = [
            (SIZE, shape.size),
            (BLOCK, u64::from(shape.block)),
            (TIMEOUT, shape.timeout.as_secs()),
            (SERVER_FLAGS, u64::from(shape.flags)),
            (DEAD_TIMEOUT, shape.patience.as_secs()),
        ];
        quads.iter().for_each(|(kind, value)| attribute(&mut all, *kind, &value.to_ne_bytes()));
        attribute(&mut all, NESTED | SOCKETS, &list(sockets)?);
        self.ask(CONNECT, &all).map(drop)
    }

    /// Gives device `index` a connection in the place of one that ended.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when none has ended as far as the kernel knows; what else it refuses.
    pub fn replace(&mut self, index: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut all = Vec::new();
        attribute(&mut all, INDEX, &index.to_ne_bytes());
        attribute(&mut all, NESTED | SOCKETS, &list(&[socket])?);
        self.ask(RECONFIGURE, &all).map(drop)
    }

    /// Ends device `index`: what it was asked and has not done fails.
    ///
    /// # Errors
    /// There is none of that number, or the kernel refuses.
    pub fn disconnect(&mut self, index: u32) -> io::Result<()> {
        let mut all = Vec::new();
        attribute(&mut all, INDEX, &index.to_ne_bytes());
        self.ask(DISCONNECT, &all).map(drop)
    }

    /// Asks `command`; the attributes of the answer, if there is one besides success.
    fn ask(&mut self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        self.number = self.number.wrapping_add(1);
        let length = attributes.len().saturating_add(HEADER).saturating_add(COMMAND);
        let mut message = u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes().to_vec();
        message.extend(self.family.to_ne_bytes());
        message.extend(REQUEST_ACK.to_ne_bytes());
        message.extend(self.number.to_ne_bytes());
        message.extend([0; 4]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        sendto(&self.socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = Vec::new();
        loop {
            let mut room = vec![0; ANSWER_MAX];
            let (count, _) = recv(&self.socket, room.as_mut_slice(), RecvFlags::empty())?;
            room.truncate(count);
            let mut rest = room.as_slice();
            while let Some((kind, number, body)) = message_of(&mut rest) {
                if number != self.number {
                    continue;
                }
                if kind != ERROR {
                    answer = body.get(COMMAND..).unwrap_or_default().to_vec();
                    continue;
                }
                let code = body.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
                return match i32::from_ne_bytes(*code) {
                    0 => Ok(answer),
                    error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
                };
            }
        }
    }
}

/// Appends an attribute, filled up to a multiple of four.
fn attribute(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    // None here is near the 64 KiB that a length can say.
    let length = u16::try_from(data.len().saturating_add(ATTRIBUTE)).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Sockets, as the driver wants them.
fn list(sockets: &[BorrowedFd<'_>]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for socket in sockets {
        let number = u32::try_from(socket.as_raw_fd()).map_err(io::Error::other)?;
        let mut item = Vec::new();
        attribute(&mut item, SOCKET_FD, &number.to_ne_bytes());
        attribute(&mut all, NESTED | SOCKET_ITEM, &item);
    }
    Ok(all)
}

/// Takes the next message off `rest`: its type, its number, and what it holds.
fn message_of<'a>(rest: &mut &'a [u8]) -> Option<(u16, u32, &'a [u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let whole = rest.get(..length)?;
    let kind = u16::from_ne_bytes(*whole.get(4..)?.first_chunk()?);
    let number = u32::from_ne_bytes(*whole.get(8..)?.first_chunk()?);
    let body = whole.get(HEADER..)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, number, body))
}

/// Attributes in `bytes`, up to the first that is malformed.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let data = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NESTED, data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written_and_malformed_ones_end_the_list() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, FAMILY_NAME, b"nbd\0x");
        attribute(&mut bytes, NESTED | SOCKETS, &[1, 2, 3, 4]);
        assert_eq!(bytes.len(), 12 + 8);
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(FAMILY_NAME, &b"nbd\0x"[..]), (SOCKETS, &[1, 2, 3, 4][..])]);
        for length in 0..bytes.len() {
            assert!(attributes(&bytes[..length]).count() <= 1 + usize::from(length >= 20), "{length}");
        }
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9, 9, 9]).count(), 0, "shorter than its own head");
    }

    #[test]
    fn messages_are_taken_off_one_by_one_and_a_part_of_one_is_none() {
        let one = [20, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let two = [one, one].concat();
        let mut rest = two.as_slice();
        assert_eq!(message_of(&mut rest), Some((ERROR, 7, &[0; 4][..])));
        assert_eq!(message_of(&mut rest), Some((ERROR, 7, &[0; 4][..])));
        assert_eq!(message_of(&mut rest), None);
        assert_eq!(message_of(&mut &one[..19]), None);
        assert_eq!(message_of(&mut &[0; 64][..]), None, "a message without a head does not end");
    }

    #[test]
    fn a_family_that_every_kernel_has_is_found() {
        let mut driver = Driver {
            socket: socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(GENERIC))
                .unwrap(),
            family: CONTROL,
            number: 0,
        };
        let mut name = Vec::new();
        attribute(&mut name, FAMILY_NAME, b"nlctrl\0");
        let found = driver.ask(GET_FAMILY, &name).unwrap();
        let id = attributes(&found).find(|(kind, _)| *kind == FAMILY_ID).unwrap().1;
        assert_eq!(id, CONTROL.to_ne_bytes());
        let mut name = Vec::new();
        attribute(&mut name, FAMILY_NAME, b"no-such\0");
        assert_eq!(driver.ask(GET_FAMILY, &name).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
