//! A network (virtio 1.3, 5.1): frames go between a guest and a tap, one by one, and none is kept here but
//! one that the guest has no room for yet. A frame that nobody takes is lost, as on any network (F43, V44).

use super::Device;
use super::ring::{Broken, Put, Ring};
use super::worker::{Next, Worker};
use crate::vmm::mac::Mac;
use crate::vmm::tap::{HEADER, Offload, Tap};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

/// Its number.
const KIND: u32 = 1;
/// What the guest receives into, and what it sends.
const QUEUES: [u16; 2] = [256, 256];

/// Features.
mod feature {
    /// The guest sends, or takes, frames whose checksum is to be completed.
    pub const CHECKSUM: u64 = 1 << 0;
    pub const GUEST_CHECKSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    /// It takes, or sends, segments of TCP that are to be cut into frames.
    pub const GUEST_TCP4: u64 = 1 << 7;
    pub const GUEST_TCP6: u64 = 1 << 8;
    pub const TCP4: u64 = 1 << 11;
    pub const TCP6: u64 = 1 << 12;
    /// A frame may lie in several chains.
    pub const MERGED: u64 = 1 << 15;
}

const FEATURES: u64 = feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::MTU
    | feature::MAC
    | feature::GUEST_TCP4
    | feature::GUEST_TCP6
    | feature::TCP4
    | feature::TCP6
    | feature::MERGED;

/// The header of a frame: flags, the kind of segment, and the number of chains at its end.
mod header {
    pub const FLAGS: usize = 0;
    pub const KIND: usize = 1;
    pub const CHAINS: usize = 10;
    /// Of the flags: the checksum is to be completed.
    pub const UNSUMMED: u8 = 1;
    /// Kinds.
    pub const WHOLE: u8 = 0;
    pub const TCP4: u8 = 1;
    pub const TCP6: u8 = 4;
}

/// The header of Ethernet, with a VLAN.
const ETHERNET: usize = 18;
/// The shortest frame, without its checksum.
const ETHERNET_MIN: usize = 60;
/// The longest frame, with what stands before it: a segment of 64 KiB.
const FRAME_MAX: usize = HEADER + ETHERNET + (64 << 10);
/// Frames in one direction before it is looked at the other, and whether the thread is to stop.
const AT_ONCE: usize = 64;

/// A network of a guest.
#[derive(Debug)]
pub struct Net {
    tap: Arc<Tap>,
    mac: Mac,
    config: Vec<u8>,
    /// Once a driver is ready: what it has set up, and the features that it took.
    begun: Option<(Vec<Arc<Ring>>, u64)>,
    worker: Option<Worker>,
}

impl Net {
    /// The network behind `tap`, on which the guest is `mac`.
    #[must_use]
    pub fn new(tap: Arc<Tap>, mac: Mac) -> Self {
        // Address, status, pairs of queues, MTU (5.1.4): what is not offered is zero.
        let config = [&mac.bytes()[..], &[0; 4], &tap.mtu().to_le_bytes()].concat();
        Self { tap, mac, config, begun: None, worker: None }
    }
}

impl Device for Net {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queues(&self) -> &[u16] {
        &QUEUES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn begin(&mut self, rings: Vec<Arc<Ring>>, features: u64) -> std::io::Result<()> {
        self.begun = Some((rings, features));
        self.resume()
    }

    fn end(&mut self) {
        (self.begun, self.worker) = (None, None);
    }

    fn pause(&mut self) {
        self.worker = None;
    }

    fn resume(&mut self) -> std::io::Result<()> {
        let Some((rings, features)) = &self.begun else { return Ok(()) };
        let [receive, send] = rings.as_slice() else { return Ok(()) };
        let has = |feature: u64| features & feature != 0;
        self.tap.set_offload(Offload {
            has_checksums: has(feature::GUEST_CHECKSUM),
            has_tcp4: has(feature::GUEST_TCP4),
            has_tcp6: has(feature::GUEST_TCP6),
        })?;
        let mut session = Session {
            tap: Arc::clone(&self.tap),
            receive: Arc::clone(receive),
            send: Arc::clone(send),
            features: *features,
            // A frame that fills it was longer.
            incoming: vec![0; FRAME_MAX.saturating_add(1)],
            waiting: None,
            outgoing: vec![0; FRAME_MAX],
        };
        self.tap.write(&announcement(self.mac));
        let tap = Arc::clone(&self.tap);
        let worker = Worker::start_with("vmm-net", rings.clone(), Some(tap.as_fd()), move || {
            session.look().unwrap_or(Next::End)
        });
        self.worker = Some(worker?);
        Ok(())
    }
}

/// A network in a driver's hands.
struct Session {
    tap: Arc<Tap>,
    receive: Arc<Ring>,
    send: Arc<Ring>,
    features: u64,
    incoming: Vec<u8>,
    /// So long a frame is in there that the guest has no room for yet.
    waiting: Option<usize>,
    outgoing: Vec<u8>,
}

impl Session {
    /// Moves frames in both directions, as many as there are, and not too many.
    fn look(&mut self) -> Result<Next, Broken> {
        let (receives, sends) = (self.receive()?, self.send()?);
        Ok(if receives || sends { Next::Within(Duration::ZERO) } else { Next::Wait })
    }

    /// Gives the guest what has come. While it asks nothing, frames stay in the tap, which keeps a bounded
    /// number of them. Whether there may be more.
    fn receive(&mut self) -> Result<bool, Broken> {
        for _ in 0..AT_ONCE {
            if !self.receive.is_asked()? {
                return Ok(false);
            }
            let count = match self.waiting.take() {
                Some(count) => count,
                None => {
                    let Some(count) = self.tap.read(&mut self.incoming) else { return Ok(false) };
                    count
                }
            };
            let Some(frame) = self.incoming.get_mut(..count) else { continue };
            if FRAME_MAX < count || !is_understood(frame, self.features) {
                continue;
            }
            let chains_max = if self.features & feature::MERGED == 0 { 1 } else { usize::MAX };
            let stamp = |frame: &mut [u8], chains: u16| put(frame, header::CHAINS, &chains.to_le_bytes());
            match self.receive.put(frame, chains_max, stamp)? {
                Put::Done => self.tap.traffic().to_guest.add(length(count)),
                Put::Later => {
                    self.waiting = Some(count);
                    return Ok(false);
                }
                Put::Never => {}
            }
        }
        Ok(true)
    }

    /// Sends what the guest has. Whether there may be more.
    fn send(&mut self) -> Result<bool, Broken> {
        for _ in 0..AT_ONCE {
            let Some(count) = self.send.get(&mut self.outgoing)? else { return Ok(false) };
            let Some(frame) = self.outgoing.get_mut(..count) else { continue };
            if self.features & feature::CHECKSUM == 0 {
                put(frame, 0, &[0; HEADER]);
            }
            self.tap.traffic().from_guest.add(length(count));
            // What is no frame the tap refuses.
            self.tap.write(frame);
        }
        Ok(true)
    }
}

/// A frame of the guest that nobody answers (RFC 903): bridges and switches learn by it where the guest is
/// now, which was on another node a moment ago when this is its copy.
fn announcement(mac: Mac) -> Vec<u8> {
    const REVERSE_ARP: [u8; 2] = [0x80, 0x35];
    /// Ethernet, IPv4, the lengths of their addresses; who has which.
    const QUESTION: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 3];
    const NOBODY: [u8; 4] = [0; 4];
    let mac = mac.bytes();
    let parts: [&[u8]; 8] = [&[0; HEADER], &[0xff; 6], &mac, &REVERSE_ARP, &QUESTION, &mac, &NOBODY, &mac];
    let mut frame = parts.concat();
    frame.resize(HEADER.saturating_add(ETHERNET_MIN), 0);
    frame
}

/// Whether a driver that took these features understands a frame. Flags that it does not know are taken away.
fn is_understood(frame: &mut [u8], features: u64) -> bool {
    let has = |feature: u64| features & feature != 0;
    let (Some(flags), Some(kind)) = (frame.get(header::FLAGS), frame.get(header::KIND)) else { return false };
    let is_summed = flags & header::UNSUMMED == 0;
    let is_known = match *kind {
        header::WHOLE => true,
        header::TCP4 => has(feature::GUEST_TCP4),
        header::TCP6 => has(feature::GUEST_TCP6),
        _ => false,
    };
    if has(feature::GUEST_CHECKSUM) {
        return is_known;
    }
    put(frame, header::FLAGS, &[0]);
    is_known && is_summed
}

/// The length of a frame, of what lies in memory.
fn length(count: usize) -> u64 {
    u64::try_from(count.saturating_sub(HEADER)).unwrap_or(u64::MAX)
}

/// Writes these bytes into a frame, if it is so long.
fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    let to = frame.get_mut(at..at.saturating_add(bytes.len())).unwrap_or_default();
    to.copy_from_slice(bytes.get(..to.len()).unwrap_or_default());
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
