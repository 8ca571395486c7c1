//! One peer: at most one stream that counts, and what of it reaches the group.
//!
//! All news of a peer pass one gate, and only the newest stream has its key: nothing of an old stream is told
//! after a newer one was met (`bulkhead_core::holder`).

use super::line::{Line, lock};
use super::tally::{Counts, End, PeerView};
use super::words::{Frame, News, Stream};
use bulkhead_core::id::NodeId;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Where all news go.
pub type Inbox = dyn Fn(News) + Send + Sync;

/// One peer.
#[derive(Debug)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// Where it listens.
    pub addresses: [SocketAddr; 2],
    /// What its streams saw.
    pub counts: Arc<Counts>,
    /// The newest stream that was met; held while the group is told something of this peer.
    gate: Mutex<u64>,
    /// Its line, until it is gone. Locked after the gate, and by who does not hold it.
    current: Mutex<Option<Arc<Line>>>,
    /// Some stream is being met or is there: nobody needs to dial.
    pub taken: AtomicBool,
}

impl Peer {
    /// A peer that was not met yet.
    #[must_use]
    pub fn new(node: NodeId, addresses: [SocketAddr; 2]) -> Self {
        let (gate, current, taken) = (Mutex::default(), Mutex::default(), AtomicBool::default());
        Self { node, addresses, counts: Arc::default(), gate, current, taken }
    }

    /// A new stream takes the place of an old one. `answers`: the other end waits to hear that it began.
    /// Whether it is the newest.
    pub fn enter(&self, line: &Arc<Line>, answers: bool, inbox: &Inbox) -> bool {
        let mut newest = lock(&self.gate);
        if line.stream.number <= *newest {
            line.end(End::Replaced);
            return false;
        }
        *newest = line.stream.number;
        if let Some(old) = lock(&self.current).take() {
            old.end(End::Replaced);
            inbox(News::Gone(self.node));
        }
        if answers {
            line.begin();
        }
        *lock(&self.current) = Some(Arc::clone(line));
        self.counts.met();
        inbox(News::Met(self.node, line.stream));
        true
    }

    /// A frame came on a stream. Whether that is still the newest.
    pub fn deliver(&self, stream: Stream, frame: Frame, inbox: &Inbox) -> bool {
        let newest = lock(&self.gate);
        let counts = *newest == stream.number;
        if counts {
            self.counts.frame();
            inbox(News::Frame(self.node, frame));
        }
        counts
    }

    /// A stream ended, and nothing more comes of it.
    pub fn leave(&self, stream: Stream, inbox: &Inbox) {
        let newest = lock(&self.gate);
        // Otherwise who took its place has told it.
        if *newest == stream.number && lock(&self.current).take().is_some() {
            inbox(News::Gone(self.node));
        }
    }

    /// The line of a stream, while it is the one that counts.
    #[must_use]
    pub fn line(&self, stream: Stream) -> Option<Arc<Line>> {
        self.current().filter(|line| line.stream == stream)
    }

    /// The line of the stream that counts.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Line>> {
        lock(&self.current).clone()
    }

    /// Whether somebody must dial.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.taken.load(Ordering::Acquire)
    }

    /// As the status shows it.
    #[must_use]
    pub fn view(&self, now: Instant) -> PeerView {
        let view = self.counts.view(self.node);
        let Some(line) = self.current().filter(|line| !line.is_over()) else { return view };
        let up = now.saturating_duration_since(line.since).as_millis();
        PeerView {
            network: Some(line.path.pick(1, 2)),
            up_millis: Some(u64::try_from(up).unwrap_or(u64::MAX)),
            queued: line.queued(),
            ..view
        }
    }
}
