//! Two networks that can be cut, in each direction of each link: a relay through which all datagrams of a
//! playground go. Nodes know each other by the relay's addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// From which node to which, on which network (0 or 1).
pub type Lane = (u16, u16, usize);

/// How long the relay rests when nothing is under way; far below any timer of a site.
const REST: Duration = Duration::from_micros(500);
/// Longer than any datagram of ours.
const DATAGRAM_MAX: usize = 2048;

/// The relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where to send to for each lane.
    pub entrances: BTreeMap<Lane, SocketAddr>,
    cut: Arc<Mutex<BTreeSet<Lane>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to the `exits`: each node's real address on each network.
    ///
    /// # Errors
    ///
    /// The system gives no more sockets or threads.
    pub fn start(exits: &BTreeMap<(u16, usize), SocketAddr>) -> io::Result<Self> {
        let (mut lanes, mut entrances) = (Vec::new(), BTreeMap::new());
        let nodes: BTreeSet<u16> = exits.keys().map(|(node, _)| *node).collect();
        for ((to, network), exit) in exits {
            for from in nodes.iter().filter(|from| *from != to) {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.set_nonblocking(true)?;
                entrances.insert((*from, *to, *network), socket.local_addr()?);
                lanes.push(((*from, *to, *network), socket, *exit));
            }
        }
        let out = UdpSocket::bind("127.0.0.1:0")?;
        let (cut, stop) = (Arc::<Mutex<BTreeSet<Lane>>>::default(), Arc::<AtomicBool>::default());
        let (theirs, stopping) = (Arc::clone(&cut), Arc::clone(&stop));
        let work = move || {
            while !stopping.load(Ordering::Relaxed) {
                if !carry(&lanes, &out, &theirs) {
                    std::thread::sleep(REST);
                }
            }
        };
        let thread = std::thread::Builder::new().name("relay".into()).spawn(work)?;
        Ok(Self { entrances, cut, stop, thread: Some(thread) })
    }

    /// Cuts everything between two nodes, on both networks, in both directions.
    pub fn part(&self, a: u16, b: u16) {
        let lanes = (0..2).flat_map(|network| [(a, b, network), (b, a, network)]);
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).extend(lanes);
    }

    /// Nothing is cut any more.
    pub fn heal(&self) {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carries what waits; `false` when nothing did.
fn carry(lanes: &[(Lane, UdpSocket, SocketAddr)], out: &UdpSocket, cut: &Mutex<BTreeSet<Lane>>) -> bool {
    let mut buffer = [0; DATAGRAM_MAX];
    let mut carried = false;
    for (lane, socket, exit) in lanes {
        while let Ok(len) = socket.recv(&mut buffer) {
            carried = true;
            let is_cut = cut.lock().unwrap_or_else(PoisonError::into_inner).contains(lane);
            if let Some(bytes) = buffer.get(..len).filter(|_| !is_cut) {
                // A network may lose what it likes: a node that is down refuses its datagrams.
                let _ = out.send_to(bytes, exit);
            }
        }
    }
    carried
}
