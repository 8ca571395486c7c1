//! The system calls of taps and bridges that have no safe wrapper.
//!
//! JUSTIFICATION: taps are made and set up by ioctl only (`linux/if_tun.h`, `netdevice(7)`).
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use std::fs::File;
use std::io::Result;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// Longest name of an interface.
pub(super) const NAME_MAX: usize = libc::IFNAMSIZ - 1;

const ATTACH: Opcode = opcode::write::<i32>(b'T', 202);
const SET_OFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const SET_HEADER: Opcode = opcode::write::<i32>(b'T', 216);
const GET_FLAGS: Opcode = 0x8913;
const SET_FLAGS: Opcode = 0x8914;
const GET_MTU: Opcode = 0x8921;
const BRIDGE_ADD: Opcode = 0x89a2;
const BRIDGE_REMOVE: Opcode = 0x89a3;

/// `struct ifreq`: an interface, and a number of it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    number: i32,
    rest: [u8; 20],
}

const _: () = assert!(size_of::<Request>() == 40, "on 64-bit machines");

impl Request {
    /// The last byte of the name stays zero.
    fn new(name: &str, number: i32) -> Self {
        let mut request = Self { name: [0; libc::IFNAMSIZ], number, rest: [0; 20] };
        request.name.iter_mut().zip(name.bytes().take(NAME_MAX)).for_each(|(to, from)| *to = from);
        request
    }

    /// The number, where it is a short one.
    fn flags(&self) -> i32 {
        self.number & 0xffff
    }
}

/// One of the calls above that have a `struct ifreq`: no other opcode is used with this.
fn ask<const OPCODE: Opcode>(of: impl AsFd, mut request: Request) -> Result<Request> {
    // SAFETY: for these opcodes the kernel reads and writes one `struct ifreq`, whose size `Request` has and
    // of which any bytes are one. It lives until the call returns.
    unsafe { ioctl(of, Updater::<OPCODE, Request>::new(&mut request)) }?;
    Ok(request)
}

/// Makes `device` the tap of this name, or one that is made for it.
pub(super) fn attach(device: &File, name: &str) -> Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    ask::<ATTACH>(device, Request::new(name, flags)).map(|_| ())
}

/// So many bytes stand before each frame.
pub(super) fn set_header(tap: &File, bytes: i32) -> Result<()> {
    // SAFETY: the kernel reads one `int` for this opcode.
    Ok(unsafe { ioctl(tap, Setter::<SET_HEADER, i32>::new(bytes)) }?)
}

/// What whoever reads the tap understands, `TUN_F_...`; the kernel does the rest itself.
pub(super) fn set_offload(tap: &File, flags: u32) -> Result<()> {
    let flags = usize::try_from(flags).map_err(std::io::Error::other)?;
    // SAFETY: for this opcode the kernel takes a number, and refuses one with bits that it does not know.
    Ok(unsafe { ioctl(tap, IntegerSetter::<SET_OFFLOAD>::new_usize(flags)) }?)
}

/// Brings an interface up, if it is not.
pub(super) fn bring_up(socket: &UnixDatagram, name: &str) -> Result<()> {
    let flags = ask::<GET_FLAGS>(socket, Request::new(name, 0))?.flags();
    match flags & libc::IFF_UP {
        0 => ask::<SET_FLAGS>(socket, Request::new(name, flags | libc::IFF_UP)).map(|_| ()),
        _ => Ok(()),
    }
}

/// The longest content of a frame.
pub(super) fn mtu(socket: &UnixDatagram, name: &str) -> Result<i32> {
    Ok(ask::<GET_MTU>(socket, Request::new(name, 0))?.number)
}

/// Puts the interface with this number into a bridge.
pub(super) fn add_to_bridge(socket: &UnixDatagram, bridge: &str, number: i32) -> Result<()> {
    ask::<BRIDGE_ADD>(socket, Request::new(bridge, number)).map(|_| ())
}

/// Takes it out.
pub(super) fn remove_from_bridge(socket: &UnixDatagram, bridge: &str, number: i32) -> Result<()> {
    ask::<BRIDGE_REMOVE>(socket, Request::new(bridge, number)).map(|_| ())
}
