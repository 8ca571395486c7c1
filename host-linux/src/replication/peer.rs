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
        // It may have much to tell still: it is not waited for.
        if let Some(old) = self.current().filter(|old| old.stream.number < line.stream.number) {
            old.end(End::Replaced);
        }
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
            encrypted: Some(line.wire.is_encrypted()),
            up_millis: Some(u64::try_from(up).unwrap_or(u64::MAX)),
            queued: line.queued(),
            lack: None,
            ..view
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::{Direction, Sealer};
    use super::super::wire::Wire;
    use super::super::words::Timing;
    use super::*;
    use crate::site_config::key::SiteKey;
    use bulkhead_core::holder::words::Word;
    use bulkhead_core::id::{Epoch, Path};
    use bulkhead_core::log::Seq;
    use std::net::{TcpListener, TcpStream};

    fn line(number: u64) -> Arc<Line> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sealer = Sealer::new(&SiteKey([1; 32]), b"hello", b"welcome", Direction::Out);
        let (stream, bounds) = (Stream { peer: NodeId(2), number }, (Timing::default(), 1 << 20));
        Arc::new(Line::new(stream, Path::One, Wire::Clear(socket), sealer, Arc::default(), bounds))
    }

    fn frame() -> Frame {
        Frame::Word(Box::new(Word::Have { epoch: Epoch(1), durable: Seq(1) }))
    }

    /// Whatever an old stream still has to tell, and whenever its threads come to it, is told to nobody.
    #[test]
    fn nothing_of_an_old_stream_is_told_after_a_new_one_is_met() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let inbox: &Inbox = &move |news: News| {
            lock(&heard).push(match news {
                News::Met(..) => "met",
                News::Gone(_) => "gone",
                News::Frame(..) => "frame",
            });
        };
        let peer = Peer::new(NodeId(2), [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()]);
        let (late, old, new) = (line(1), line(2), line(3));
        assert!(peer.enter(&old, false, inbox) && peer.deliver(old.stream, frame(), inbox));
        assert!(peer.enter(&new, false, inbox));
        assert!(!peer.deliver(old.stream, frame(), inbox));
        peer.leave(old.stream, inbox);
        assert!(!peer.enter(&late, false, inbox), "its handshake was the first, its thread the last");
        assert!(old.ended() == Some(End::Replaced) && late.ended() == Some(End::Replaced));
        assert!(peer.line(old.stream).is_none() && peer.line(new.stream).is_some());
        assert!(peer.deliver(new.stream, frame(), inbox));
        peer.leave(new.stream, inbox);
        peer.leave(new.stream, inbox);
        assert_eq!(*lock(&told), ["met", "frame", "gone", "met", "frame", "gone"]);
    }
}
