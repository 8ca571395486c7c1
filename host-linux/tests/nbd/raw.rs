//! A client that says exactly what a test wants, right or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection.
pub struct Raw(pub TcpStream);

/// What a simple reply says.
#[derive(Debug, PartialEq, Eq)]
pub struct Simple {
    pub error: u32,
    pub cookie: u64,
}

impl Raw {
    /// Connects, takes the greeting, says nothing.
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self(stream);
        assert_eq!(raw.take::<16>(), *b"NBDMAGICIHAVEOPT");
        assert_eq!(raw.take(), [0, 3], "fixed newstyle, no zeroes");
        raw
    }

    /// Connects and takes an export by its name, in the old way: simple replies.
    pub fn enter(address: SocketAddr, name: &str) -> Self {
        let mut raw = Self::new(address);
        raw.say(&3_u32.to_be_bytes());
        raw.option(1, name.as_bytes());
        raw.take::<10>();
        raw
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let length = data.len() as u32;
        self.say(&[&b"IHAVEOPT"[..], &option.to_be_bytes(), &length.to_be_bytes(), data].concat());
    }

    /// The next reply to an option: what it is, and its data.
    pub fn answer(&mut self) -> (u32, Vec<u8>) {
        assert_eq!(self.take::<8>(), 0x0003_e889_0455_65a9_u64.to_be_bytes());
        self.take::<4>();
        let kind = u32::from_be_bytes(self.take());
        let mut data = vec![0; u32::from_be_bytes(self.take()) as usize];
        self.0.read_exact(&mut data).unwrap();
        (kind, data)
    }

    pub fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32) {
        self.say(&request(flags, command, cookie, offset, length));
    }

    pub fn reply(&mut self) -> Simple {
        assert_eq!(self.take(), 0x6744_6698_u32.to_be_bytes());
        let error = u32::from_be_bytes(self.take());
        Simple { error, cookie: u64::from_be_bytes(self.take()) }
    }

    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the server closes within the time limit of reads, whatever it says before.
    pub fn closes(&mut self) -> bool {
        let mut sink = [0; 65_536];
        loop {
            match self.0.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

pub fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    [
        &0x2560_9513_u32.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &command.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat()
}
