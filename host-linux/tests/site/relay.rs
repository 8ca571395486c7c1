//! Two networks that a test can cut, in each direction of each link, and make lossy and slow: a relay through
//! which all datagrams of a site go. Nodes know each other by the relay's addresses.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// From which node to which, on which network (0 or 1).
pub type Lane = (u16, u16, usize);

/// What the networks do to datagrams.
#[derive(Clone, Default)]
pub struct Weather {
    /// Lanes through which nothing gets.
    pub cut: BTreeSet<Lane>,
    /// Of a hundred datagrams, how many are lost.
    pub loss_percent: u64,
    /// Of a hundred, how many come twice.
    pub twice_percent: u64,
    /// Each is held up to this long, so they overtake each other.
    pub delay_max: Duration,
}

pub struct Relay {
    /// Where to send to for each lane.
    pub entrances: BTreeMap<Lane, SocketAddr>,
    weather: Arc<Mutex<Weather>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// A relay to the `exits`: a node's real address on a network.
    pub fn start(exits: &BTreeMap<(u16, usize), SocketAddr>) -> Self {
        let mut lanes = Vec::new();
        let nodes: BTreeSet<u16> = exits.keys().map(|(node, _)| *node).collect();
        for (to, network) in exits.keys() {
            for from in nodes.iter().filter(|from| *from != to) {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_nonblocking(true).unwrap();
                lanes.push(((*from, *to, *network), socket, exits[&(*to, *network)]));
            }
        }
        let entrance = |(lane, socket, _): &(Lane, UdpSocket, _)| (*lane, socket.local_addr().unwrap());
        let entrances = lanes.iter().map(entrance).collect();
        let (weather, stop) = (Arc::<Mutex<Weather>>::default(), Arc::<AtomicBool>::default());
        let (theirs, stopping) = (Arc::clone(&weather), Arc::clone(&stop));
        let thread = std::thread::spawn(move || carry(&lanes, &theirs, &stopping));
        Self { entrances, weather, stop, thread: Some(thread) }
    }

    /// Changes the weather.
    pub fn weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather.lock().unwrap());
    }

    /// Cuts everything between two nodes, on both networks, in both directions.
    pub fn part(&self, a: u16, b: u16) {
        self.weather(|weather| {
            for network in 0..2 {
                weather.cut.extend([(a, b, network), (b, a, network)]);
            }
        });
    }

    /// Nothing is cut any more.
    pub fn heal(&self) {
        self.weather(|weather| weather.cut.clear());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn carry(lanes: &[(Lane, UdpSocket, SocketAddr)], weather: &Mutex<Weather>, stop: &AtomicBool) {
    let out = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut held: BinaryHeap<std::cmp::Reverse<(Instant, SocketAddr, Vec<u8>)>> = BinaryHeap::new();
    let mut chance = 88_172_645_463_325_252_u64;
    let mut draw = |below: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % below.max(1)
    };
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let today = weather.lock().unwrap().clone();
        for (lane, socket, exit) in lanes {
            while let Ok(len) = socket.recv(&mut buffer) {
                if today.cut.contains(lane) || draw(100) < today.loss_percent {
                    continue;
                }
                let copies = if draw(100) < today.twice_percent { 2 } else { 1 };
                for _ in 0..copies {
                    let micros = draw(u64::try_from(today.delay_max.as_micros()).unwrap());
                    let due = now + Duration::from_micros(micros);
                    held.push(std::cmp::Reverse((due, *exit, buffer[..len].to_vec())));
                }
            }
        }
        while held.peek().is_some_and(|next| next.0.0 <= now) {
            let Some(std::cmp::Reverse((_, exit, bytes))) = held.pop() else { break };
            let _ = out.send_to(&bytes, exit);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
