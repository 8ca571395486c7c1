//! One card in two networks: a machine with a single Ethernet port, of which each network has its own switch.
//!
//! What the machine sends goes to the network of its addresses, as a managed switch sorts by subnet; what has
//! none (DHCP) goes to both. What either network has for it goes to the machine. So the rules, cuts and
//! counters of each switch hold for such a machine as for one with a card in each.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{FRAME_MAX, Peer, Port};
use crate::artefacts::Artefacts;

/// The first three bytes of the addresses of a network.
pub type Subnet = [u8; 3];

/// Longest sleep: how long the end of a trunk may take.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Frames taken from one side before the other has its turn.
const TURN_MAX: usize = 64;

/// A trunk. It ends when it is dropped.
#[derive(Debug)]
pub struct Trunk {
    machine: PathBuf,
    switch: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Trunk {
    /// A trunk into these ports, for a machine called `name`.
    ///
    /// # Errors
    /// When a socket cannot be made, or a port is in use.
    pub fn new(artefacts: &Artefacts, name: &str, ports: [(Subnet, &Port); 2]) -> Result<Self> {
        let socket = |end: &str| artefacts.socket(&format!("{name}-trunk.{end}"));
        let (machine, switch) = (socket("vm"), socket("sw"));
        let ours = UnixDatagram::bind(&switch).with_context(|| format!("making {}", switch.display()))?;
        ours.set_nonblocking(true)?;
        let [(one_net, one), (two_net, two)] = ports;
        let peers = [one.peer()?, two.peer()?];
        peers.iter().try_for_each(|peer| peer.socket.set_nonblocking(true))?;
        let stop = Arc::<AtomicBool>::default();
        let carrier = Carrier { ours, machine: machine.clone(), subnets: [one_net, two_net], peers };
        let stopping = Arc::clone(&stop);
        let work = move || {
            let mut buffer = vec![0; FRAME_MAX];
            while !stopping.load(Ordering::Relaxed) {
                carrier.carry(&mut buffer);
                carrier.sleep();
            }
        };
        let thread = std::thread::Builder::new().name("trunk".to_owned()).spawn(work)?;
        Ok(Self { machine, switch, stop, thread: Some(thread) })
    }

    /// The socket of the machine's end.
    pub fn machine_socket(&self) -> &Path {
        &self.machine
    }

    /// The socket of the trunk's end.
    pub fn switch_socket(&self) -> &Path {
        &self.switch
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Carrier {
    ours: UnixDatagram,
    machine: PathBuf,
    subnets: [Subnet; 2],
    peers: [Peer; 2],
}

impl Carrier {
    fn carry(&self, buffer: &mut [u8]) {
        for _ in 0..TURN_MAX {
            let Ok(length) = self.ours.recv(buffer) else { break };
            let frame = buffer.get(..length).unwrap_or_default();
            let network = subnet(frame);
            let is_known = self.subnets.iter().any(|one| Some(*one) == network);
            for (one, peer) in self.subnets.iter().zip(&self.peers) {
                if !is_known || Some(*one) == network {
                    // A full queue loses frames, as a switch does.
                    let _ = peer.socket.send(frame);
                }
            }
        }
        for peer in &self.peers {
            for _ in 0..TURN_MAX {
                let Ok(length) = peer.socket.recv(buffer) else { break };
                // A machine that is off hears nothing.
                let _ = self.ours.send_to(buffer.get(..length).unwrap_or_default(), &self.machine);
            }
        }
    }

    fn sleep(&self) {
        let [one, two] = &self.peers;
        let mut sources =
            [&self.ours, &one.socket, &two.socket].map(|socket| PollFd::new(socket, PollFlags::IN));
        let time = Timespec { tv_sec: 0, tv_nsec: SLEEP_MAX.subsec_nanos().into() };
        // An interrupted sleep is a short one.
        let _ = poll(&mut sources, Some(&time));
    }
}

/// The network a frame belongs to: that of the IPv4 source, or of whom ARP asks for.
fn subnet(frame: &[u8]) -> Option<Subnet> {
    let kind = frame.get(12..14)?;
    let at = match kind {
        [0x08, 0x00] => 26,
        [0x08, 0x06] => 38,
        _ => return None,
    };
    let address: [u8; 4] = frame.get(at..)?.first_chunk().copied()?;
    let [a, b, c, _] = address;
    (address != [0; 4]).then_some([a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::{Address, Rule, Switch};

    const LONG: Duration = Duration::from_secs(5);
    const SHORT: Duration = Duration::from_millis(150);

    fn frame(kind: [u8; 2], at: usize, host: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&Address::BROADCAST.0);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[12..14].copy_from_slice(&kind);
        frame[at..at + 4].copy_from_slice(&host);
        frame
    }

    /// One card, two networks: each frame goes to its own, and a cut of one network leaves the other.
    #[test]
    fn frames_are_sorted_by_their_network_and_cuts_hold() {
        let artefacts = Artefacts::new("trunk").unwrap();
        let switches = ["t1", "t2"].map(|name| Switch::new(&artefacts, name, 1).unwrap());
        let [one, two] = switches.each_ref().map(|switch| switch.port().unwrap());
        let others = switches.each_ref().map(|switch| switch.port().unwrap());
        let trunk = Trunk::new(&artefacts, "w", [([10, 1, 1], &one), ([10, 1, 2], &two)]).unwrap();
        let machine = UnixDatagram::bind(trunk.machine_socket()).unwrap();
        machine.connect(trunk.switch_socket()).unwrap();
        machine.set_read_timeout(Some(LONG)).unwrap();
        let stations = others.each_ref().map(|port| port.peer().unwrap());
        let heard = |wait| stations.each_ref().map(|station| station.receive(wait).unwrap().is_some());

        machine.send(&frame([8, 0], 26, [10, 1, 1, 3])).unwrap();
        assert!(stations[0].receive(LONG).unwrap().is_some());
        machine.send(&frame([8, 6], 38, [10, 1, 2, 1])).unwrap();
        assert!(stations[1].receive(LONG).unwrap().is_some());
        assert_eq!(heard(SHORT), [false, false], "each went to its own network alone");
        machine.send(&frame([8, 0], 26, [0; 4])).unwrap();
        assert_eq!(heard(LONG), [true, true], "who has no address yet asks everywhere");

        let mut buffer = [0; 100];
        for station in &stations {
            station.send(Address::BROADCAST, b"to all").unwrap();
            assert!(machine.recv(&mut buffer).unwrap() > 14);
        }
        switches[0].rule(&one, &others[0], Rule::CUT);
        machine.send(&frame([8, 0], 26, [0; 4])).unwrap();
        assert!(stations[1].receive(LONG).unwrap().is_some());
        assert!(stations[0].receive(SHORT).unwrap().is_none());
    }
}
