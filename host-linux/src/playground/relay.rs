//! Two networks that can be cut, in each direction of each link, and be slow to and from a node (X07): a
//! relay through which all datagrams of a playground go. Nodes know each other by the relay's addresses.

use super::streams::Streams;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From which node to which, on which network (0 or 1).
pub type Lane = (u16, u16, usize);

/// How long the relay rests when nothing is under way; far below any timer of a site.
const REST: Duration = Duration::from_micros(500);
/// Longer than any datagram of ours.
const DATAGRAM_MAX: usize = 2048;
/// Datagrams held up at once. Full means: the relay loses them, as a router does.
const HELD_MAX: usize = 16_384;
/// Ports that are tried until one is free for datagrams and streams.
const PORTS_TRIED: u32 = 32;

/// What the networks do to datagrams and streams.
#[derive(Debug, Default)]
pub(super) struct Weather {
    pub(super) cut: BTreeSet<Lane>,
    slow: BTreeMap<u16, Slow>,
}

/// Each datagram from or to a node is held up.
#[derive(Clone, Copy, Debug)]
struct Slow {
    delay: Duration,
    until: Instant,
}

/// A datagram that is held up: when it goes on, its place in the order of those, to where, what.
type Held = Reverse<(Instant, u64, SocketAddr, Vec<u8>)>;

/// The relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where to send to for each lane.
    pub entrances: BTreeMap<Lane, SocketAddr>,
    weather: Arc<Mutex<Weather>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to the `exits`: each node's real address on each network. Only the datagrams of the node
    /// `outside`, if there is one, may come from other machines. Between the nodes of `holders` TCP streams
    /// pass, too.
    ///
    /// # Errors
    ///
    /// The system gives no more sockets or threads.
    pub fn start(
        exits: &BTreeMap<(u16, usize), SocketAddr>,
        outside: Option<u16>,
        holders: &BTreeSet<u16>,
    ) -> io::Result<Self> {
        let (mut lanes, mut entrances, mut doors) = (Vec::new(), BTreeMap::new(), Vec::new());
        let nodes: BTreeSet<u16> = exits.keys().map(|(node, _)| *node).collect();
        for ((to, network), exit) in exits {
            for from in nodes.iter().filter(|from| *from != to) {
                let host = if outside == Some(*from) { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
                let socket = if holders.contains(from) && holders.contains(to) {
                    let (socket, door) = both(host)?;
                    doors.push(((*from, *to, *network), door, *exit));
                    socket
                } else {
                    UdpSocket::bind((host, 0))?
                };
                socket.set_nonblocking(true)?;
                entrances.insert((*from, *to, *network), socket.local_addr()?);
                lanes.push(((*from, *to, *network), socket, *exit));
            }
        }
        let host = if outside.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let out = UdpSocket::bind((host, 0))?;
        let (weather, stop) = (Arc::<Mutex<Weather>>::default(), Arc::<AtomicBool>::default());
        let streams = Streams { weather: Arc::clone(&weather), stop: Arc::clone(&stop) };
        for (lane, door, exit) in doors {
            streams.open(lane, door, exit)?;
        }
        let (theirs, stopping) = (Arc::clone(&weather), Arc::clone(&stop));
        let mut carrier = Carrier { lanes, out, held: BinaryHeap::new(), order: 0, chance: SEED };
        let work = move || {
            while !stopping.load(Ordering::Relaxed) {
                if !carrier.carry(&theirs) {
                    std::thread::sleep(REST);
                }
            }
        };
        let thread = std::thread::Builder::new().name("relay".into());
        let thread = if entrances.is_empty() { None } else { Some(thread.spawn(work)?) };
        Ok(Self { entrances, weather, stop, thread })
    }

    /// Whether anything goes through it.
    pub fn carries(&self) -> bool {
        self.thread.is_some()
    }

    /// Cuts everything between two nodes, on both networks, in both directions.
    pub fn part(&self, a: u16, b: u16) {
        let lanes = (0..2).flat_map(|network| [(a, b, network), (b, a, network)]);
        lock(&self.weather).cut.extend(lanes);
    }

    /// Everything between two nodes gets through again; other links stay as they are.
    pub fn mend(&self, a: u16, b: u16) {
        let is_theirs = |lane: &Lane| (lane.0, lane.1) == (a, b) || (lane.0, lane.1) == (b, a);
        lock(&self.weather).cut.retain(|lane| !is_theirs(lane));
    }

    /// Until `span` is over, each datagram from or to `node` is held up for `delay`, and up to a quarter of
    /// it longer by chance.
    pub fn slow(&self, node: u16, delay: Duration, span: Duration) {
        let now = Instant::now();
        let until = now.checked_add(span).unwrap_or(now);
        lock(&self.weather).slow.insert(node, Slow { delay, until });
    }

    /// Nothing is cut, and nothing is slow any more.
    pub fn heal(&self) {
        *lock(&self.weather) = Weather::default();
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

/// A UDP and a TCP socket of one port. The system gives a port for one of them: it may be in use for the
/// other one, rarely.
fn both(host: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let socket = UdpSocket::bind((host, 0))?;
        match TcpListener::bind(socket.local_addr()?) {
            Ok(listener) => return Ok((socket, listener)),
            Err(error) if PORTS_TRIED < tries => return Err(error),
            Err(_) => tries = tries.saturating_add(1),
        }
    }
}

const SEED: u64 = 88_172_645_463_325_252;

fn lock(weather: &Mutex<Weather>) -> MutexGuard<'_, Weather> {
    weather.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the relay's thread works with.
struct Carrier {
    lanes: Vec<(Lane, UdpSocket, SocketAddr)>,
    out: UdpSocket,
    held: BinaryHeap<Held>,
    order: u64,
    chance: u64,
}

impl Carrier {
    /// Carries what waits and what was held up for long enough; `false` when nothing was there.
    fn carry(&mut self, weather: &Mutex<Weather>) -> bool {
        let mut buffer = [0; DATAGRAM_MAX];
        let mut carried = false;
        for (lane, socket, exit) in &self.lanes {
            while let Ok(len) = socket.recv(&mut buffer) {
                carried = true;
                let Some(bytes) = buffer.get(..len) else { continue };
                let Some(due) = due(lane, weather, &mut self.chance) else { continue };
                match due {
                    // A network may lose what it likes: a node that is down refuses its datagrams.
                    None => drop(self.out.send_to(bytes, exit)),
                    Some(at) if self.held.len() < HELD_MAX => {
                        self.order = self.order.wrapping_add(1);
                        self.held.push(Reverse((at, self.order, *exit, bytes.to_vec())));
                    }
                    Some(_) => {}
                }
            }
        }
        let now = Instant::now();
        while self.held.peek().is_some_and(|Reverse(next)| next.0 <= now) {
            let Some(Reverse((_, _, exit, bytes))) = self.held.pop() else { break };
            carried = true;
            let _ = self.out.send_to(&bytes, exit);
        }
        carried
    }
}

/// When something on `lane` goes on: never (`None`), at once, or later.
#[expect(clippy::option_option, reason = "lost, at once, later: three answers of one question")]
pub(super) fn held_until(lane: &Lane, weather: &Mutex<Weather>) -> Option<Option<Instant>> {
    due(lane, weather, &mut { SEED })
}

/// When a datagram on `lane` goes on: never (`None`), at once, or later.
#[expect(clippy::option_option, reason = "lost, at once, later: three answers of one question")]
fn due(lane: &Lane, weather: &Mutex<Weather>, chance: &mut u64) -> Option<Option<Instant>> {
    let weather = lock(weather);
    if weather.cut.contains(lane) {
        return None;
    }
    let (from, to, _) = lane;
    let now = Instant::now();
    let delays = [from, to].into_iter().filter_map(|node| weather.slow.get(node));
    let delay: Duration = delays.filter(|slow| now < slow.until).map(|slow| slow.delay).sum();
    if delay.is_zero() {
        return Some(None);
    }
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    let quarter = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX) / 4;
    let jitter = chance.checked_rem(quarter.max(1)).unwrap_or(0);
    Some(now.checked_add(delay.saturating_add(Duration::from_micros(jitter))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_link_is_mended_and_the_others_stay_cut() {
        let exit = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let exits = (1..=3).flat_map(|node| (0..2).map(move |network| ((node, network), exit(1))));
        let relay = Relay::start(&exits.collect(), None, &BTreeSet::new()).unwrap();
        let carries = |one, other| {
            let lanes = (0..2).flat_map(|network| [(one, other, network), (other, one, network)]);
            let mut carried = lanes.map(|lane| held_until(&lane, &relay.weather).is_some());
            let first = carried.next();
            assert!(carried.all(|next| Some(next) == first), "both networks, in both directions");
            first == Some(true)
        };
        relay.part(1, 2);
        relay.part(1, 3);
        relay.mend(2, 1);
        assert!(carries(1, 2) && !carries(1, 3) && carries(2, 3));
        relay.heal();
        assert!(carries(1, 3));
    }
}
