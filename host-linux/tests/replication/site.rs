//! Holders on loopback addresses of their own, and what each was told.

use bulkhead::replication::service::Replication;
use bulkhead::replication::words::{Frame, News, QUEUE_MAX, Settings, Stream, Timing};
use bulkhead::site_config::key::SiteKey;
use bulkhead::storage::buffers::Pool;
use bulkhead_core::id::{GroupId, NodeId, SiteId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Long enough for anything that must happen, on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(30);
const PORT: u16 = 7901;

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Addresses that no other test uses: 127.x.y.*, by process and test.
#[derive(Clone, Copy, Debug)]
pub struct Place(u8, u8);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_mul(37) + NEXT.fetch_add(1, Ordering::Relaxed);
        let [low, high, ..] = number.to_le_bytes();
        Self(10 + high % 240, low)
    }

    /// Where `node` is on both networks.
    pub fn of(self, node: u8) -> [SocketAddr; 2] {
        [node, 100 + node].map(|last| self.at(last))
    }

    pub fn at(self, last: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, self.0, self.1, last)), PORT)
    }

    pub fn settings(self, me: u8, nodes: u8) -> Settings {
        let peers = (1..=nodes).filter(|node| *node != me);
        Settings {
            site: SiteId([1; 16]),
            group: GroupId([2; 16]),
            me: NodeId(me.into()),
            listen: self.of(me),
            peers: peers.map(|node| (NodeId(node.into()), self.of(node))).collect(),
            key: SiteKey([3; 32]),
            tls: None,
            queue_max: QUEUE_MAX,
            // A busy machine must not look like a silent peer.
            timing: Timing { silence: millis(8000), ..Timing::default() },
        }
    }
}

/// One holder.
pub struct Node {
    pub streams: Replication,
    /// For what comes.
    pub pool: Pool,
    /// For what it sends.
    pub made: Pool,
    news: Mutex<Receiver<News>>,
}

impl Node {
    pub fn start(settings: Settings) -> Self {
        Self::with_pool(settings, Pool::new(32 << 20).unwrap())
    }

    pub fn with_pool(settings: Settings, pool: Pool) -> Self {
        let (sender, news) = channel();
        let streams = Replication::start(settings, pool.clone(), told(sender)).unwrap();
        Self { streams, pool, made: Pool::new(32 << 20).unwrap(), news: Mutex::new(news) }
    }

    /// What is told next, if anything is so soon.
    pub fn within(&self, time: Duration) -> Option<News> {
        self.news.lock().unwrap().recv_timeout(time).ok()
    }

    pub fn next(&self) -> News {
        self.within(SOON).expect("news in time")
    }

    /// Nothing is told for so long.
    pub fn quiet(&self, time: Duration) {
        let told = self.within(time);
        assert!(told.is_none(), "nothing should be told, but {told:?}");
    }

    pub fn met(&self) -> Stream {
        match self.next() {
            News::Met(node, stream) if node == stream.peer() => stream,
            other @ (News::Met(..) | News::Gone(_) | News::Frame(..)) => {
                panic!("a stream should be met, but {other:?}")
            }
        }
    }

    pub fn gone(&self) -> NodeId {
        match self.next() {
            News::Gone(node) => node,
            other @ (News::Met(..) | News::Frame(..)) => panic!("a stream should be gone, but {other:?}"),
        }
    }

    pub fn frame(&self) -> Frame {
        match self.next() {
            News::Frame(_, frame) => frame,
            other @ (News::Met(..) | News::Gone(_)) => panic!("a frame should come, but {other:?}"),
        }
    }

    /// How the stream to its first peer is.
    pub fn peer(&self) -> bulkhead::replication::tally::PeerView {
        self.streams.view().peers[0].clone()
    }
}

/// Both meet.
pub fn meet(one: &Node, other: &Node) -> (Stream, Stream) {
    (one.met(), other.met())
}

/// Their stream is over for both.
pub fn part(one: &Node, other: &Node) {
    one.gone();
    other.gone();
}

fn told(sender: Sender<News>) -> impl Fn(News) + Send + Sync {
    let sender = Mutex::new(sender);
    // Nobody listens any more when a test ends.
    move |news| drop(sender.lock().unwrap().send(news))
}

/// Waits until `holds`, or fails.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}: not in time");
        std::thread::sleep(millis(5));
    }
}
