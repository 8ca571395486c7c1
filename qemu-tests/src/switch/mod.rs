//! An Ethernet switch inside the test: no root, no network of the host, faults on demand.
//!
//! Each port is a pair of Unix datagram sockets, one datagram a frame, which QEMU speaks with
//! `-netdev dgram`. The switch learns addresses and floods what it does not know. Between any two
//! ports a [`Rule`] drops, delays and doubles frames by a seeded chance: the n-th frame from one port
//! to another has the same fate whenever the seed is the same. All that is lost is counted.

pub mod chance;
mod fabric;
pub mod trunk;
mod worker;

use std::fmt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::artefacts::Artefacts;
pub use chance::PerMille;
use fabric::Fabric;
pub use fabric::{Counters, Rule};
use worker::Worker;

/// Ports of one switch.
pub const PORTS_MAX: usize = 64;
/// Longest frame: an Ethernet jumbo frame and some room.
const FRAME_MAX: usize = 16 * 1024;
/// Pause between two looks at counters.
const POLL: Duration = Duration::from_millis(2);

/// A port's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(usize);

/// A card's Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub [u8; 6]);

impl Address {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A switch. Dropping it takes the network down.
#[derive(Debug)]
pub struct Switch {
    name: String,
    directory: PathBuf,
    fabric: Arc<Mutex<Fabric>>,
    worker: Worker,
}

/// A port, for [`crate::machine::Machine::port`] or a [`Peer`].
#[derive(Clone, Debug)]
pub struct Port {
    id: PortId,
    address: Address,
    machine_socket: PathBuf,
    switch_socket: PathBuf,
}

impl Switch {
    /// A switch without ports. `seed` decides all chances.
    ///
    /// # Errors
    /// When its thread cannot be set up.
    pub fn new(artefacts: &Artefacts, name: &str, seed: u64) -> Result<Self> {
        let fabric = Arc::new(Mutex::new(Fabric::new(seed)));
        let worker = Worker::start(Arc::clone(&fabric))?;
        Ok(Self { name: name.to_owned(), directory: artefacts.socket(""), fabric, worker })
    }

    /// Adds a port.
    ///
    /// # Errors
    /// When its socket cannot be made, or there are [`PORTS_MAX`] already.
    pub fn port(&self) -> Result<Port> {
        let added = self.lock().add_port();
        let Some(id) = added else { bail!("the switch {} has {PORTS_MAX} ports already", self.name) };
        let socket = |end: &str| self.directory.join(format!("{}-{}.{end}", self.name, id.0));
        let port = Port {
            id,
            address: address(&self.name, id),
            machine_socket: socket("vm"),
            switch_socket: socket("sw"),
        };
        let ours = UnixDatagram::bind(&port.switch_socket)
            .with_context(|| format!("making {}", port.switch_socket.display()))?;
        ours.set_nonblocking(true)?;
        self.worker.add(id, ours, port.machine_socket.clone())?;
        Ok(port)
    }

    /// Sets the rule of all pairs that have none of their own.
    pub fn rule_for_all(&self, rule: Rule) {
        self.lock().set_default(rule);
    }

    /// Sets the rule for frames from one port to another; the way back has its own.
    pub fn rule(&self, from: &Port, to: &Port, rule: Rule) {
        self.lock().set_rule(from.id, to.id, rule);
    }

    /// Splits the network: frames pass within a group only. Ports in no group are alone.
    pub fn split(&self, groups: &[&[&Port]]) {
        let groups = groups.iter().map(|group| group.iter().map(|port| port.id).collect()).collect();
        self.lock().split(groups);
    }

    /// Pulls the port's cable.
    pub fn unplug(&self, port: &Port) {
        self.lock().plug(port.id, false);
    }

    /// Puts the port's cable back.
    pub fn plug(&self, port: &Port) {
        self.lock().plug(port.id, true);
    }

    /// Ends the split, puts all cables back and forgets all rules. The counters stay.
    pub fn heal(&self) {
        self.lock().heal();
    }

    /// The counters of a port.
    pub fn counters(&self, port: &Port) -> Counters {
        self.lock().counters(port.id)
    }

    /// Waits until the counters of a port fit `condition`.
    ///
    /// # Errors
    /// When they do not within `timeout`; shows them.
    pub fn wait_counters(
        &self,
        port: &Port,
        timeout: Duration,
        condition: impl Fn(&Counters) -> bool,
    ) -> Result<Counters> {
        let deadline = Instant::now() + timeout;
        loop {
            let counters = self.counters(port);
            if condition(&counters) {
                return Ok(counters);
            }
            if Instant::now() >= deadline {
                bail!(
                    "port {} of the switch {} still has {counters:?} after {timeout:?}",
                    port.id.0,
                    self.name
                );
            }
            std::thread::sleep(POLL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Fabric> {
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// The address of the card in this port.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The socket of the machine's end.
    pub fn machine_socket(&self) -> &Path {
        &self.machine_socket
    }

    /// The socket of the switch's end.
    pub fn switch_socket(&self) -> &Path {
        &self.switch_socket
    }

    /// Puts the test itself in this port instead of a machine.
    ///
    /// # Errors
    /// When the port is in use.
    pub fn peer(&self) -> Result<Peer> {
        let socket = UnixDatagram::bind(&self.machine_socket)
            .with_context(|| format!("taking the port at {}", self.machine_socket.display()))?;
        socket.connect(&self.switch_socket)?;
        Ok(Peer { socket, address: self.address })
    }
}

/// The test as a station of the network.
#[derive(Debug)]
pub struct Peer {
    socket: UnixDatagram,
    address: Address,
}

impl Peer {
    /// Sends `payload` to `to` with our address and the experimental Ethernet type 0x88b5.
    ///
    /// # Errors
    /// When the switch is gone.
    pub fn send(&self, to: Address, payload: &[u8]) -> Result<()> {
        let frame = [to.0.as_slice(), &self.address.0, &[0x88, 0xb5], payload].concat();
        self.send_frame(&frame)
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When the switch is gone.
    pub fn send_frame(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame).context("sending to the switch").map(drop)
    }

    /// The next frame, or `None` when none comes within `timeout`.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        // A timeout of zero would mean for ever.
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut frame = vec![0; FRAME_MAX];
        match self.socket.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("receiving from the switch"),
        }
    }
}

/// A locally administered address: the same for the same switch name and port, so runs are alike.
fn address(switch: &str, port: PortId) -> Address {
    let digest = switch.bytes().fold(0_u64, |state, byte| chance::next(state ^ u64::from(byte) ^ 0x5bd1));
    let [a, b, ..] = digest.to_le_bytes();
    let number = u8::try_from(port.0).unwrap_or(u8::MAX);
    Address([0x52, 0x54, 0x00, a, b, number])
}
