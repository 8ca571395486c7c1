//! What a witness is told before its first start: who it is, its networks, its keys, its peers (P1, S1-06,
//! F54, V41). `bulkhead witness provision` writes it to a card, the firmware reads it.
//!
//! The head and the blocks with the peers stand together in a copy; there are two copies. A copy counts when
//! all of its blocks are whole and carry one sequence number; of two that count, the one with the higher
//! number. So a card that is provisioned again, and cut meanwhile, keeps what it had.
//!
//! | at (bytes)       | what                                                                          |
//! |------------------|-------------------------------------------------------------------------------|
//! | 0                | free: a partition table may stand there                                       |
//! | 64 KiB, 128 KiB  | head and peers, two copies                                                    |
//! | 192 KiB, 196 KiB | the number of starts, two copies, written in turn                             |
//! | 256 KiB, 320 KiB | records of fences: orders, refusals ([`records`])                             |
//! | 1 MiB            | the votes (`register::store`)                                                 |
//!
//! The head, 512 bytes, little-endian:
//!
//! |  at | len | field      | unit, values                                                          |
//! |----:|----:|------------|-----------------------------------------------------------------------|
//! |   0 |   8 | magic      | "BHWITN", 0, version 1                                                |
//! |   8 |   8 | seq        | +1 a provisioning, never 0                                            |
//! |  16 |  22 | owner      | site (16), node (2), life of the votes (4), never 0                   |
//! |  38 |   2 | peers      | how many, 1..=128                                                     |
//! |  40 |  32 | site key   |                                                                       |
//! |  72 |  32 | secret     | of this witness alone: its nonces come from it                        |
//! | 104 |   6 | hardware   | address of its Ethernet MAC                                           |
//! | 110 |  16 | paths      | twice: host (4), bits of its network (1, 0: by DHCP), 0 (1), port (2) |
//! | 126 |   4 | gateway    | all zero: none                                                        |
//! | 130 |   2 | pair       | the pair of the witness itself                                        |
//! | 132 |  20 | timers     | heartbeat, slow, silence, stable, lease: microseconds (4 each)        |
//! | 152 |   4 | drift      | parts per million                                                     |
//! | 156 |  16 | digest     | of what all nodes of the site were told                               |
//! | 172 |   4 | old lease  | microseconds, 0: none; a start waits for it, as it is longer than lease |
//! | 176 | 332 | reserved   | zero                                                                  |
//! | 508 |   4 | crc        | CRC-32C of bytes 0..508                                               |
//!
//! A block of peers, 512 bytes: magic "BHPEER", 0, version 2 (8); seq (8); up to 24 peers (20 each), most
//! wanted first, the rest zero; reserved, zero (12); crc (4). A peer: node (2); pair (2); side (1: 0 none, 1
//! A, 2 B); whether it votes (1); outlet that cuts its power (1, 0: none); what that is (1: 0 none or a relay
//! of the witness, 1 an outlet of its power strip); twice host (4) and port (2). Version 1 knew relays only,
//! in the same bytes.
//!
//! The number of starts, 512 bytes: magic "BHSTRT", 0, version 1 (8); owner (22); number, +1 a start (8);
//! reserved, zero (470); crc (4). It is on the card before the first datagram of its start leaves: nonces
//! come from it.

pub mod records;
pub mod trace;

use core::num::NonZeroU8;
use core::time::Duration;

use heapless::Vec;
use thiserror::Error;

use crate::budget::timers::Timers;
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::fence::words::Outlet;
use crate::id::{NodeId, PairId, Side, SiteId};
use crate::link::key::{KEY_LEN, NONCE_LEN, Nonce, SiteKey};
use crate::node::settings::{Digest, Member, Relay, Settings, Unsound};
use crate::register::store::Owner;
use crate::register::voters::Life;
use crate::time::{Drift, micros};

mod write;

pub use write::{ERASED, OWNERS, card, copy};

/// Bytes of one block.
pub const BLOCK_LEN: usize = 512;
/// Two nodes for each of 64 pairs.
pub const PEERS_MAX: usize = 128;
/// Peers in one block.
pub const PEERS_PER_BLOCK: usize = 24;
/// Blocks of a copy: the head, and the peers behind it.
pub const COPY_BLOCKS: usize = 1 + PEERS_MAX.div_ceil(PEERS_PER_BLOCK);

/// Where the copies of head and peers begin, in bytes.
pub const SETTINGS_AT: [u64; 2] = [64 << 10, 128 << 10];
/// Where the copies of the number of starts are, in bytes.
pub const STARTS_AT: [u64; 2] = [192 << 10, 196 << 10];
/// Where the votes begin, in bytes.
pub const VOTES_AT: u64 = 1 << 20;

const STARTS_MAGIC: [u8; 7] = *b"BHSTRT\0";
const HEAD_MAGIC: [u8; 7] = *b"BHWITN\0";
const PEERS_MAGIC: [u8; 7] = *b"BHPEER\0";
const VERSION: u8 = 1;
const PEERS_VERSION: u8 = 2;
/// What an outlet is.
const RELAY: u8 = 0;
const STRIP: u8 = 1;
const CRC_AT: usize = BLOCK_LEN - 4;

/// A block.
pub type Block = [u8; BLOCK_LEN];

/// Where something receives, by IPv4 and UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub host: [u8; 4],
    /// The port.
    pub port: u16,
}

/// Where the witness receives on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its host address and how many bits of it are its network's; `None`: by DHCP.
    pub host: Option<([u8; 4], u8)>,
    /// Its port.
    pub port: u16,
}

/// One node that the witness speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub member: Member,
    /// What cuts its power.
    pub outlet: Option<Outlet>,
    /// Where it receives.
    pub paths: [Address; 2],
}

/// All that stands in the head.
#[derive(Clone, Debug)]
pub struct Head {
    /// Counts provisionings.
    pub seq: u64,
    /// Whose votes the card keeps.
    pub owner: Owner,
    /// The pair of the witness itself.
    pub pair: PairId,
    /// How many peers follow.
    pub peers: u16,
    /// The secret of the site.
    pub key: SiteKey,
    /// The secret of this witness.
    pub secret: SiteKey,
    /// The address of its MAC.
    pub hardware: [u8; 6],
    /// Where it receives.
    pub paths: [Local; 2],
    /// The way to other networks.
    pub gateway: Option<[u8; 4]>,
    /// The timers of the site: heartbeat, slow, silence, stable and lease count, the rest is the default's.
    pub timers: Timers,
    /// The bound on drift.
    pub drift: Drift,
    /// Of what all nodes of the site were told.
    pub digest: Digest,
    /// The longest lease of an earlier provisioning, where that is longer than the one in `timers`; zero:
    /// none.
    pub old_lease: Duration,
}

/// The secret bytes of a card: they are written, and never printed.
#[derive(Clone, Copy)]
pub struct Secrets {
    /// The site key.
    pub key: [u8; KEY_LEN],
    /// Drawn at random for this witness.
    pub secret: [u8; KEY_LEN],
}

impl Secrets {
    /// Those that a head holds. The block must be one: [`Head::parse`] says so.
    pub fn of(head: &Block) -> Self {
        let mut fields = Reader::new(head.get(40..).unwrap_or_default());
        let mut next = || fields.array().unwrap_or_default();
        Self { key: next(), secret: next() }
    }
}

/// Why a block is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Nothing was ever written here.
    #[error("blank")]
    Blank,
    /// Torn, rotten, or something else.
    #[error("damaged: its checksum or its fields do not fit")]
    Damaged,
    /// Written by a newer Bulkhead.
    #[error("format version {found}, which is newer than this Bulkhead")]
    NewerFormat {
        /// The version found.
        found: u8,
    },
    /// A whole block of another provisioning: this copy was cut while it was written.
    #[error("it belongs to another provisioning")]
    OtherSeq,
}

impl Head {
    /// The bytes of the head. The keys are given again: a key does not hand out its bytes.
    pub fn encode(&self, secrets: &Secrets) -> Block {
        let mut out = begin(HEAD_MAGIC, VERSION, self.seq);
        out.put(&self.owner.site.0);
        out.u16(self.owner.node.0);
        out.u32(self.owner.life.0);
        out.u16(self.peers);
        out.put(&secrets.key);
        out.put(&secrets.secret);
        out.put(&self.hardware);
        for path in self.paths {
            let (host, bits) = path.host.unwrap_or_default();
            out.put(&host);
            out.put(&[bits, 0]);
            out.u16(path.port);
        }
        out.put(&self.gateway.unwrap_or_default());
        out.u16(self.pair.0);
        for time in times(&self.timers) {
            out.u32(u32::try_from(micros(time)).unwrap_or(u32::MAX));
        }
        out.u32(self.drift.as_ppm());
        out.put(&self.digest.0);
        out.u32(u32::try_from(micros(self.old_lease)).unwrap_or(u32::MAX));
        out.reserved(CRC_AT - 176);
        seal(out)
    }

    /// Reads a head. What it returns can be run with: a head that cannot is damaged.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub fn parse(bytes: &Block) -> Result<Self, Fault> {
        let (mut fields, _) = open(bytes, HEAD_MAGIC, VERSION)?;
        let parsed = head(&mut fields).ok_or(Fault::Damaged)?;
        let Timers { heartbeat, slow, silence, lease, .. } = parsed.timers;
        let waits = !heartbeat.is_zero() && heartbeat < slow && slow < silence && !lease.is_zero();
        let peers = (1..=PEERS_MAX).contains(&usize::from(parsed.peers));
        let named = parsed.seq != 0 && parsed.owner.node.0 != 0 && parsed.owner.life != Life::UNSEEN;
        let ports = parsed.paths.iter().all(|path| path.port != 0 && path.host.is_none_or(|(_, b)| b <= 32));
        (waits && peers && named && ports).then_some(parsed).ok_or(Fault::Damaged)
    }

    /// How many blocks of peers follow.
    pub const fn peer_blocks(&self) -> usize {
        // Widening; `From` is not const.
        (self.peers as usize).div_ceil(PEERS_PER_BLOCK)
    }

    /// How long a start waits before it votes: a voter takes all leases that it granted earlier for as long
    /// as the present ones, and some may have been longer (V11).
    pub fn old_leases(&self) -> Duration {
        match self.timers.lease < self.old_lease {
            true => self.drift.at_least(self.old_lease),
            false => Duration::ZERO,
        }
    }

    /// The nonce of one start of the witness. `count` must never be used twice.
    pub fn nonce(&self, count: u64) -> Nonce {
        let me = self.owner.node;
        self.secret.between(me, me).challenge(me, &Nonce([0; NONCE_LEN]), count)
    }

    /// What the witness must know at its start with the number `count`.
    ///
    /// # Errors
    ///
    /// [`Unsound::NoRoom`]: more peers than a site has members.
    pub fn settings(&self, count: u64, peers: &[Peer]) -> Result<Settings, Unsound> {
        let me = self.owner.node;
        let own = Member { node: me, pair: self.pair, side: None, votes: true };
        let (mut members, mut relays) = (Vec::new(), Vec::new());
        for peer in peers {
            members.push(peer.member).map_err(|_| Unsound::NoRoom)?;
            if peer.outlet.is_some() {
                let relay = Relay { node: peer.member.node, witness: me };
                relays.push(relay).map_err(|_| Unsound::NoRoom)?;
            }
        }
        members.push(own).map_err(|_| Unsound::NoRoom)?;
        Ok(Settings {
            site: self.owner.site,
            me,
            nonce: self.nonce(count),
            key: self.key.clone(),
            members,
            timers: self.timers,
            drift: self.drift,
            life: self.owner.life,
            // It takes no office, so it never waits for a fence.
            fences: false,
            digest: self.digest,
            relays,
            stores: false,
        })
    }
}

/// The bytes of a block of peers. More than [`PEERS_PER_BLOCK`] do not fit, and are left out.
pub fn encode_peers(seq: u64, peers: &[Peer]) -> Block {
    let mut out = begin(PEERS_MAGIC, PEERS_VERSION, seq);
    for place in 0..PEERS_PER_BLOCK {
        let Some(peer) = peers.get(place) else {
            out.reserved(20);
            continue;
        };
        let Member { node, pair, side, votes } = peer.member;
        out.u16(node.0);
        out.u16(pair.0);
        let side = match side {
            None => 0,
            Some(Side::A) => 1,
            Some(Side::B) => 2,
        };
        let (number, what) = match peer.outlet {
            None => (0, RELAY),
            Some(Outlet::Relay(number)) => (number.get(), RELAY),
            Some(Outlet::Strip(number)) => (number.get(), STRIP),
        };
        out.put(&[side, u8::from(votes), number, what]);
        for address in peer.paths {
            out.put(&address.host);
            out.u16(address.port);
        }
    }
    out.reserved(12);
    seal(out)
}

/// Reads the first `count` peers of a block of the provisioning `seq`, and hands them to `found`.
///
/// # Errors
///
/// [`Fault`].
pub fn parse_peers(bytes: &Block, seq: u64, count: usize, mut found: impl FnMut(Peer)) -> Result<(), Fault> {
    let (mut fields, version) = open(bytes, PEERS_MAGIC, PEERS_VERSION)?;
    if fields.u64() != Some(seq) {
        return Err(Fault::OtherSeq);
    }
    for _ in 0..count.min(PEERS_PER_BLOCK) {
        found(peer(&mut fields, version).ok_or(Fault::Damaged)?);
    }
    Ok(())
}

/// A number of starts of `owner` as bytes.
pub fn encode_starts(owner: &Owner, number: u64) -> Block {
    let mut out = Writer::default();
    out.put(&STARTS_MAGIC);
    out.put(&[VERSION]);
    out.put(&owner.site.0);
    out.u16(owner.node.0);
    out.u32(owner.life.0);
    out.u64(number);
    out.reserved(CRC_AT - 38);
    seal(out)
}

/// Reads a number of starts of `owner`; `None` when it is none.
pub fn parse_starts(bytes: &Block, owner: &Owner) -> Option<u64> {
    let mut fields = Reader::new(bytes.get(30..)?);
    let number = fields.u64()?;
    (encode_starts(owner, number) == *bytes).then_some(number)
}

const fn times(timers: &Timers) -> [Duration; 5] {
    [timers.heartbeat, timers.slow, timers.silence, timers.stable, timers.lease]
}

fn head(fields: &mut Reader<'_>) -> Option<Head> {
    let seq = fields.u64()?;
    let site = SiteId(fields.array()?);
    let (node, life) = (NodeId(fields.u16()?), Life(fields.u32()?));
    let peers = fields.u16()?;
    let (key, secret) = (SiteKey::new(fields.array()?), SiteKey::new(fields.array()?));
    let hardware = fields.array()?;
    let paths = [local(fields)?, local(fields)?];
    let gateway = Some(fields.array::<4>()?).filter(|host| *host != [0; 4]);
    let pair = PairId(fields.u16()?);
    let mut time = || Some(Duration::from_micros(fields.u32()?.into()));
    let (heartbeat, slow, silence) = (time()?, time()?, time()?);
    let (stable, lease) = (time()?, time()?);
    let timers = Timers { heartbeat, slow, silence, stable, lease, ..Timers::DEFAULT };
    let drift = Drift::from_ppm(fields.u32()?)?;
    let digest = Digest(fields.array()?);
    let old_lease = Duration::from_micros(fields.u32()?.into());
    fields.reserved::<332>()?.then_some(())?;
    let owner = Owner { site, node, life };
    Some(Head {
        seq,
        owner,
        pair,
        peers,
        key,
        secret,
        hardware,
        paths,
        gateway,
        timers,
        drift,
        digest,
        old_lease,
    })
}

fn local(fields: &mut Reader<'_>) -> Option<Local> {
    let (host, [bits, zero], port) = (fields.array()?, fields.array()?, fields.u16()?);
    (zero == 0).then_some(Local { host: (bits != 0).then_some((host, bits)), port })
}

fn peer(fields: &mut Reader<'_>, version: u8) -> Option<Peer> {
    let (node, pair) = (NodeId(fields.u16()?), PairId(fields.u16()?));
    let [side, votes @ (0 | 1), outlet, what] = fields.array()? else { return None };
    let side = match side {
        0 => None,
        1 => Some(Side::A),
        2 => Some(Side::B),
        3.. => return None,
    };
    let member = Member { node, pair, side, votes: votes == 1 };
    let mut address = || Some(Address { host: fields.array()?, port: fields.u16()? });
    let paths = [address()?, address()?];
    let outlet = match (NonZeroU8::new(outlet), what) {
        (None, RELAY) => None,
        (Some(number), RELAY) => Some(Outlet::Relay(number)),
        (Some(number), STRIP) if version != VERSION => Some(Outlet::Strip(number)),
        (None | Some(_), _) => return None,
    };
    (node.0 != 0).then_some(Peer { member, outlet, paths })
}

fn begin(magic: [u8; 7], version: u8, seq: u64) -> Writer<BLOCK_LEN> {
    let mut out = Writer::default();
    out.put(&magic);
    out.put(&[version]);
    out.u64(seq);
    out
}

fn seal(out: Writer<BLOCK_LEN>) -> Block {
    let mut bytes = out.finish();
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c(body).to_le_bytes();
    }
    bytes
}

/// The fields of a whole structure, and its version: the newest that is known, or one before it.
fn open(bytes: &Block, magic: [u8; 7], newest: u8) -> Result<(Reader<'_>, u8), Fault> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Fault::Blank);
    }
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Err(Fault::Damaged) };
    if crc32c(body).to_le_bytes() != *crc {
        return Err(Fault::Damaged);
    }
    let mut fields = Reader::new(body);
    match (fields.array::<7>(), fields.u8()) {
        (Some(found), Some(version)) if found == magic && (VERSION..=newest).contains(&version) => {
            Ok((fields, version))
        }
        (Some(found), Some(version)) if found == magic && newest < version => {
            Err(Fault::NewerFormat { found: version })
        }
        (Some(_) | None, Some(_) | None) => Err(Fault::Damaged),
    }
}

#[cfg(test)]
mod tests;
