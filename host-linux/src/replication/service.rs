//! The streams of one holder: started, used, shown, and stopped as a whole, in bounded time.

use super::door::Door;
use super::hello::{NONCE_LEN, Refusal, Refused};
use super::intake::LOOK;
use super::knock::Knock;
use super::line::{Line, lock};
use super::peer::{Inbox, Peer};
use super::reader::Reader;
use super::seal::Sealer;
use super::tally::{End, NetworkView, View};
use super::words::{Frame, News, Settings, Stream};
use crate::cluster::wake::Wake;
use crate::failure::Failure;
use crate::storage::buffers::Pool;
use bulkhead_core::id::Path;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// Stack of a thread; the group's inbox runs on it.
const STACK: usize = 256 << 10;
/// Streams of one peer that have not come to their end at once: a peer begins the next when one is over.
const STREAMS_MAX: usize = 4;

/// The streams of one holder. Dropped, they end; who drops them must not be the inbox.
pub struct Replication {
    shared: Arc<Shared>,
    door: Option<JoinHandle<()>>,
}

/// What all threads share.
pub struct Shared {
    /// What the streams must know.
    pub settings: Settings,
    /// The other holders.
    pub peers: Vec<Peer>,
    /// Wakes the door.
    pub wake: Wake,
    /// Everything ends.
    pub stop: AtomicBool,
    pool: Pool,
    inbox: Box<Inbox>,
    /// The number of the next stream, from 1.
    next: AtomicU64,
    running: Mutex<Vec<Running>>,
    seen: Mutex<Seen>,
}

/// A stream whose threads may still run.
struct Running {
    line: Arc<Line>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// Why a network is not listened at. Nothing was tried on those that are not here.
    networks: BTreeMap<Path, Option<String>>,
    refused: BTreeMap<Refusal, u64>,
    last_refused: Option<String>,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replication").field("peers", &self.shared.peers).finish_non_exhaustive()
    }
}

impl Replication {
    /// Begins to listen, to dial, and to tell `inbox`, which must not wait: other threads wait for it.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file descriptor for it. A network that cannot be used is no error.
    pub fn start(
        settings: Settings,
        pool: Pool,
        inbox: impl Fn(News) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot start the streams to the other holders: {error}"))
        };
        let peers = settings.peers.iter().filter(|(node, _)| *node != settings.me);
        let peers = peers.map(|(node, addresses)| Peer::new(*node, *addresses)).collect();
        let shared = Arc::new(Shared {
            settings,
            peers,
            wake: Wake::new().map_err(failed)?,
            stop: AtomicBool::new(false),
            pool,
            inbox: Box::new(inbox),
            next: AtomicU64::new(1),
            running: Mutex::default(),
            seen: Mutex::default(),
        });
        let door = Door::new(Arc::clone(&shared));
        let door = spawn("mirror-door", move || door.run()).map_err(failed)?;
        Ok(Self { shared, door: Some(door) })
    }

    /// Sends frames on a stream, in order, and never waits for the peer. What is meant for a stream that is
    /// over goes nowhere.
    pub fn send(&self, stream: Stream, frames: Vec<Frame>) {
        let peer = self.shared.peers.iter().find(|peer| peer.node == stream.peer);
        if let Some(line) = peer.and_then(|peer| peer.line(stream)) {
            line.send(frames);
        }
    }

    /// Ends a stream, for this reason; another one is dialled.
    pub fn end(&self, stream: Stream, why: End) {
        let peer = self.shared.peers.iter().find(|peer| peer.node == stream.peer);
        if let Some(line) = peer.and_then(|peer| peer.line(stream)) {
            line.end(why);
        }
    }

    /// Bytes that were sent on a stream and wait here; none of one that is over.
    #[must_use]
    pub fn queued(&self, stream: Stream) -> usize {
        let peer = self.shared.peers.iter().find(|peer| peer.node == stream.peer);
        peer.and_then(|peer| peer.line(stream)).map_or(0, |line| line.queued())
    }

    /// Whether a stream is encrypted; `None` of one that is over.
    #[must_use]
    pub fn is_encrypted(&self, stream: Stream) -> Option<bool> {
        let peer = self.shared.peers.iter().find(|peer| peer.node == stream.peer);
        peer.and_then(|peer| peer.line(stream)).map(|line| line.wire.is_encrypted())
    }

    /// How the streams are.
    #[must_use]
    pub fn view(&self) -> View {
        let now = Instant::now();
        let peers = self.shared.peers.iter().map(|peer| peer.view(now)).collect();
        let seen = lock(&self.shared.seen);
        let [one, two] = self.shared.settings.listen;
        let network = |(path, error): (&Path, &Option<String>)| NetworkView {
            address: path.pick(one, two),
            error: error.clone(),
        };
        View {
            networks: seen.networks.iter().map(network).collect(),
            peers,
            refused: seen.refused.clone(),
            last_refused: seen.last_refused.clone(),
        }
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.wake();
        // Only the door begins streams.
        let _ = self.door.take().map(JoinHandle::join);
        let running = std::mem::take(&mut *lock(&self.shared.running));
        running.iter().for_each(|one| one.line.end(End::Stopped));
        for thread in running.into_iter().flat_map(|one| one.threads) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A connection whose ends have proved themselves becomes a stream. `answers`: the other end waits to
    /// hear that it began.
    pub fn begin(
        own: &Arc<Self>,
        peer: usize,
        path: Path,
        knock: Knock,
        (sealer, opener): (Sealer, Sealer),
        answers: bool,
    ) {
        let Some(of) = own.peers.get(peer) else { return };
        let mut running = lock(&own.running);
        let is_done = |one: &Running| one.threads.iter().all(JoinHandle::is_finished);
        running.retain(|one| !is_done(one));
        let open = running.iter().filter(|one| one.line.stream.peer == of.node).count();
        if STREAMS_MAX <= open {
            return of.counts.failed("its streams of before have not come to their end yet".into());
        }
        let timing = own.settings.timing;
        let wire = knock.into_wire();
        if let Err(error) = wire.set_waiting(LOOK, timing.stall) {
            return of.counts.failed(error.to_string());
        }
        let stream = Stream { peer: of.node, number: own.next.fetch_add(1, Ordering::Relaxed) };
        let bounds = (timing, own.settings.queue_max);
        let line = Arc::new(Line::new(stream, path, wire, sealer, Arc::clone(&of.counts), bounds));
        of.taken.store(true, Ordering::Release);
        let (shared, incoming) = (Arc::clone(own), Arc::clone(&line));
        let outgoing = Arc::clone(&line);
        let threads = [
            spawn("mirror-in", move || shared.read(peer, &incoming, opener, answers)),
            spawn("mirror-out", move || outgoing.go_on()),
        ];
        let [reads, sends] = threads;
        if let Some(error) = reads.as_ref().err().or(sends.as_ref().err()) {
            of.counts.failed(format!("no thread for a stream: {error}"));
            line.end(End::Failed);
            if reads.is_err() {
                of.taken.store(false, Ordering::Release);
            }
        }
        running.push(Running { line, threads: [reads, sends].into_iter().flatten().collect() });
    }

    /// The thread of a stream.
    fn read(&self, peer: usize, line: &Arc<Line>, opener: Sealer, answers: bool) {
        let Some(peer) = self.peers.get(peer) else { return };
        let (pool, inbox, timing) = (&self.pool, &*self.inbox, self.settings.timing);
        Reader { peer, line, opener, pool, inbox, timing }.run(answers);
        peer.taken.store(false, Ordering::Release);
        self.wake.wake();
    }

    /// Looks after the streams.
    pub fn tick(&self, now: Instant) {
        for line in self.peers.iter().filter_map(Peer::current) {
            line.tick(now);
        }
    }

    /// Whether a network is listened at.
    pub fn listens(&self, path: Path, error: Option<&std::io::Error>) {
        lock(&self.seen).networks.insert(path, error.map(std::io::Error::to_string));
    }

    /// Somebody's connection does not become a stream: that of this peer, as far as is known.
    pub fn refused(&self, from: IpAddr, peer: Option<usize>, refused: &Refused) {
        self.refuses(refused.why);
        let told = format!("{from}: {}", refused.text());
        if let Some(peer) = peer.and_then(|peer| self.peers.get(peer)) {
            peer.counts.refused(told.clone(), refused.why.is_lasting());
        }
        lock(&self.seen).last_refused = Some(told);
    }

    /// A peer was dialled, and there is no stream; `is_lasting`: until somebody changes something.
    pub fn cannot_dial(&self, peer: usize, path: Path, why: &str, is_lasting: bool) {
        let Some(peer) = self.peers.get(peer) else { return };
        let ([one, two], number) = (peer.addresses, path.pick(1, 2));
        peer.counts.refused(format!("network {number}, {}: {why}", path.pick(one, two)), is_lasting);
    }

    /// A connection does not become a stream.
    pub fn refuses(&self, why: Refusal) {
        let mut seen = lock(&self.seen);
        let count = seen.refused.entry(why).or_default();
        *count = count.saturating_add(1);
    }
}

/// A random number for one stream; `None` when the system has none.
#[must_use]
pub fn nonce() -> Option<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).ok().map(|()| nonce)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(work)
}
