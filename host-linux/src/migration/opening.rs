//! How a connection begins by which a guest is moved, at its two ends, and how it is encrypted (V22, V43).
//!
//! ```text
//! the node that it leaves                  the other one
//! hello(versions)                    ->
//!                                    <-    welcome(version)        0: none that both speak, and the end
//! proof of the site key              ->                            from here on in version 2 only
//!                                    <-    proof of the site key
//! TLS 1.3, as its client            <-->   certificates of both    each for the node's address in `nbd`
//!                                    <-    proof of the TLS session
//! ```
//!
//! The site key first, as for the streams between holders (`replication::veil`): who does not know it is
//! shown no certificate, and none of its bytes reaches TLS. The keys of the frames inside are made of all
//! that and of the TLS session, so that nobody is between two.

use super::hello::{HELLO_LEN, Hello, Keys, Versions};
use crate::cluster::volumes::secrecy_of_moves;
use crate::failure::Failure;
use crate::replication::wire::Wire;
use crate::replication::words::Tls;
use crate::site_config::SiteConfig;
use crate::site_config::key::{self, SiteKey};
use crate::tls::secure::{Came, Shake};
use bulkhead_core::id::{NodeId, SiteId};
use rustix::event::{PollFd, Timespec, poll};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Each step of it is done within this time.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// For what the secret of a TLS session is asked. Never changes for version 2.
const LABEL: &[u8] = b"EXPORTER bulkhead migration 2";
const PROOF_LEN: usize = 32;

/// What a node knows that begins such connections, or answers them.
#[derive(Debug)]
pub struct End {
    me: NodeId,
    site: SiteId,
    key: SiteKey,
    tls: Option<Tls>,
}

impl End {
    /// Of this node.
    ///
    /// # Errors
    ///
    /// Its keys or certificates cannot be read.
    pub fn of(config: &SiteConfig) -> Result<Self, Failure> {
        let (me, site, key) = (config.local.node, config.site, key::read(&config.local.key_file)?);
        Ok(Self { me, site, key, tls: secrecy_of_moves(config)? })
    }

    /// Which versions it speaks.
    const fn versions(&self) -> Versions {
        match &self.tls {
            None => Versions::CLEAR,
            Some(tls) if tls.is_required => Versions::ENCRYPTED,
            Some(_) => Versions::EITHER,
        }
    }

    /// Begins, as the node that a guest leaves.
    ///
    /// # Errors
    ///
    /// Why there is no connection, in the operator's words.
    pub fn call(&self, mut wire: TcpStream, to: NodeId, name: &str) -> Result<(Wire, Keys), String> {
        let lost = |error: std::io::Error| format!("{name} was lost: {error}");
        patient(&wire).map_err(lost)?;
        let mine = self.versions();
        let hello = Hello::new(self.site, self.me, to).map_err(lost)?.speaking(mine);
        wire.write_all(&hello.encode()).map_err(lost)?;
        let mut bytes = [0; HELLO_LEN];
        let came = wire.read_exact(&mut bytes);
        came.map_err(|error| {
            format!("{name} says nothing to one that may encrypt, as if it could not: {error}")
        })?;
        let welcome = Hello::parse(&bytes).filter(|welcome| hello.is_answered_by(welcome));
        let welcome = welcome.ok_or_else(|| format!("what answers is not {name} of this site"))?;
        match welcome.versions {
            Versions::CLEAR if mine.has(Versions::CLEAR) => {
                let keys = Keys::new(&self.key, &hello, &welcome);
                return Ok((Wire::Clear(wire), keys));
            }
            Versions::ENCRYPTED if mine.has(Versions::ENCRYPTED) => {}
            _ if mine == Versions::ENCRYPTED => return Err(format!("{name} {}", APART.0)),
            _ => return Err(format!("{name} {}", APART.1)),
        }
        let before = Keys::new(&self.key, &hello, &welcome);
        wire.write_all(&proof(&before.out)).map_err(lost)?;
        proved(&mut wire, &before.back).map_err(|why| format!("{name}: {why}"))?;
        let (wire, secret) = self.encrypt(wire, to, true).map_err(|why| format!("{name}: {why}"))?;
        let keys = Keys::in_tls(&self.key, &hello, &welcome, &secret);
        let answered = receive(&wire).is_some_and(|bytes| is_equal(&bytes, &proof(&keys.back)));
        if !answered {
            let why = wire.why().unwrap_or_else(|| "it broke off in TLS".into());
            return Err(format!("{name}: {why}; {CERTIFICATES}"));
        }
        Ok((wire, keys))
    }

    /// Answers, as the node that a guest comes to.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub fn answer(&self, mut wire: TcpStream, hello: &Hello) -> Result<(Wire, Keys), String> {
        let lost = |error: std::io::Error| error.to_string();
        patient(&wire).map_err(lost)?;
        let version = self.versions().with(hello.versions);
        let welcome = Hello::new(self.site, self.me, hello.from).map_err(lost)?;
        let welcome = welcome.speaking(version.unwrap_or(Versions::NONE));
        wire.write_all(&welcome.encode()).map_err(lost)?;
        match version {
            None => Err("no version is spoken by both".into()),
            Some(Versions::ENCRYPTED) => {
                let before = Keys::new(&self.key, hello, &welcome);
                proved(&mut wire, &before.out)?;
                wire.write_all(&proof(&before.back)).map_err(lost)?;
                let (wire, secret) = self.encrypt(wire, hello.from, false)?;
                let keys = Keys::in_tls(&self.key, hello, &welcome, &secret);
                let sent = wire.send(&[std::io::IoSlice::new(&proof(&keys.back))]);
                match sent == Ok(Some(PROOF_LEN)) {
                    true => Ok((wire, keys)),
                    false => Err("it broke off in TLS".into()),
                }
            }
            Some(_) => Ok((Wire::Clear(wire), Keys::new(&self.key, hello, &welcome))),
        }
    }

    /// Has TLS with a node, whose certificate must be its own; what this session is called by nobody else.
    fn encrypt(&self, wire: TcpStream, peer: NodeId, dialled: bool) -> Result<(Wire, [u8; 32]), String> {
        let tls = self.tls.as_ref().ok_or("this node cannot encrypt")?;
        let host = tls.hosts.iter().find(|(node, _)| *node == peer).map(|(_, host)| host);
        let host = host.ok_or("nobody knows for what its certificate is: it has no `nbd` in its [[node]]")?;
        // What is wrong with this node's own is said in its status.
        let _ = tls.keeper.look();
        let credentials = tls.keeper.current();
        let begun = if dialled { credentials.trust().client(host) } else { credentials.server_for(host) };
        wire.set_nonblocking(true).map_err(|error| error.to_string())?;
        let wire = Wire::Clear(wire).secured(begun?).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        loop {
            match wire.shake() {
                Ok(Shake::Done) => break,
                Ok(Shake::Listens | Shake::Full) if begun.elapsed() < PATIENCE => wait(&wire),
                Ok(_) => return Err(format!("TLS did not come to its end; {CERTIFICATES}")),
                Err(_) => {
                    let why = wire.why().unwrap_or_else(|| "it broke off in TLS".into());
                    return Err(format!("{why}; {CERTIFICATES}"));
                }
            }
        }
        let secret = wire.exported(LABEL).ok_or("TLS has no secret")?;
        Ok((wire, secret))
    }
}

/// What the other node does, where this one encrypts all, or nothing.
const APART: (&str, &str) = (
    "does not encrypt what moves, and this node does nothing else: write `[local.storage.tls]` in its file, \
     or `streams = \"allow\"` in this node's until then",
    "wants what moves encrypted, and this node does not encrypt: write `[local.storage.tls]` in this node's \
     file, or `streams = \"allow\"` in its until then",
);
const CERTIFICATES: &str = "each node needs a certificate that an authority of the other has signed for the \
                            address in its `nbd` (docs/nbd.md, \"Encryption\")";

fn patient(wire: &TcpStream) -> std::io::Result<()> {
    wire.set_nodelay(true)?;
    wire.set_read_timeout(Some(PATIENCE))?;
    wire.set_write_timeout(Some(PATIENCE))
}

/// What only who has this key can say.
fn proof(key: &[u8; blake3::KEY_LEN]) -> [u8; PROOF_LEN] {
    blake3::keyed_hash(key, b"bulkhead migration 2: it knows the key").into()
}

fn proved(wire: &mut TcpStream, key: &[u8; blake3::KEY_LEN]) -> Result<(), String> {
    let mut bytes = [0; PROOF_LEN];
    wire.read_exact(&mut bytes).map_err(|error| format!("it does not prove the site key: {error}"))?;
    match is_equal(&bytes, &proof(key)) {
        true => Ok(()),
        false => Err("its site key is another one".into()),
    }
}

/// In the same time, whatever is in them.
fn is_equal(one: &[u8; PROOF_LEN], other: &[u8; PROOF_LEN]) -> bool {
    blake3::Hash::from_bytes(*one) == blake3::Hash::from_bytes(*other)
}

/// So many bytes, and no more, of an encrypted connection.
fn receive(wire: &Wire) -> Option<[u8; PROOF_LEN]> {
    let (mut bytes, mut have, begun) = ([0; PROOF_LEN], 0_usize, Instant::now());
    while begun.elapsed() < PATIENCE {
        let room = bytes.get_mut(have..).filter(|room| !room.is_empty());
        let Some(room) = room else { return Some(bytes) };
        match wire.receive(room, &mut []) {
            Ok(Came::Bytes(count)) => have = have.saturating_add(count),
            Ok(Came::Part) => {}
            Ok(Came::Nothing) => wait(wire),
            Err(_) => return None,
        }
    }
    None
}

/// Waits until it can go on, for a moment at most.
fn wait(wire: &Wire) {
    let most = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let _ = poll(&mut [PollFd::new(wire, wire.awaited())], Some(&most));
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
