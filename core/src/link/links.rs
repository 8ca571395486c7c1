//! All peers together: handshakes, heartbeats on both paths, delivery, verdicts (S1-09, S3-01, S3-02, V16,
//! V22).
//!
//! The shell gives every datagram to [`Links::receive`], sends everything [`Links::next_due`] returns, and
//! asks [`Links::judge`] for verdicts that changed. A message goes out by [`Links::seal`], the same bytes on
//! both paths; the copy that comes second is dropped.

use core::time::Duration;

use heapless::Vec;

use super::frame::{self, Datagram, Frame, Header, Kind, NotAFrame};
use super::hello::{Hello, SPOKEN};
use super::key::{Key, Nonce, SiteKey};
use super::path::{HEARTBEAT_LEN, Heartbeat, PathState};
use super::suspicion::{Limits, Suspicion, Verdict};
use super::window::{Arrival, Window};
use crate::id::{NodeId, Path, SiteId};
use crate::time::{Instant, earliest};

/// Bytes of the longest message: one byte of the payload says that it is one.
pub const MESSAGE_MAX: usize = frame::PAYLOAD_MAX - 1;

const HEARTBEAT: u8 = 0;
const MESSAGE: u8 = 1;

/// A message as it travels.
pub type Message = Vec<u8, MESSAGE_MAX>;

/// What the links must know from their configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site.
    pub site: SiteId,
    /// This node.
    pub me: NodeId,
    /// Drawn at random for this start of it.
    pub nonce: Nonce,
    /// The secret of the site.
    pub key: SiteKey,
    /// How often each peer is told on each path that this node is alive.
    pub heartbeat: Duration,
    /// When a peer is slow or silent.
    pub limits: Limits,
}

/// What became of a datagram.
#[expect(clippy::large_enum_variant, reason = "no heap to box into; datagrams are taken one by one")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It carried a message.
    Message {
        /// Of whom.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// It served the links themselves.
    Handled,
    /// It was dropped, and counted.
    Dropped(Drop),
}

/// Why a datagram was dropped. Each has its counter in [`Drops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// It is no frame.
    NotAFrame(NotAFrame),
    /// It is of another site, or not for this node.
    NotForUs,
    /// Its sender is no peer.
    Stranger,
    /// Its tag is wrong, or its session is over.
    NotAuthentic,
    /// Another copy came before: on the other path, as a rule.
    Repeated,
    /// It is older than anybody remembers.
    TooLate,
    /// The peer speaks no version that this node speaks.
    NoCommonVersion,
    /// It is authentic, and makes no sense.
    Malformed,
}

/// How many datagrams were dropped since the start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the reasons of `Drop`")]
pub struct Drops {
    pub not_a_frame: u32,
    pub not_for_us: u32,
    pub stranger: u32,
    pub not_authentic: u32,
    pub repeated: u32,
    pub too_late: u32,
    pub no_common_version: u32,
    pub malformed: u32,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// On which path; `None`: on both.
    pub path: Option<Path>,
    /// What.
    pub datagram: Datagram,
}

/// There is no session with this peer: it is away, or the handshake is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSession;

/// One path to a peer, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// When anything was heard on it.
    pub heard: Option<Instant>,
    /// Smoothed round trip.
    pub round_trip: Option<Duration>,
    /// Heartbeats lost, in thousandths of the last 64.
    pub loss_permille: u32,
}

/// The links of this node to up to `PEERS` others.
#[derive(Clone, Debug)]
pub struct Links<const PEERS: usize> {
    settings: Settings,
    peers: Vec<Peer, PEERS>,
    /// Since when this node has been able to hear: its start, or the end of its last sleep.
    listening: Instant,
    judged: Instant,
    drops: Drops,
}

#[derive(Clone, Debug)]
struct Peer {
    node: NodeId,
    key: Key,
    session: Option<Session>,
    /// The challenge that the peer has not answered yet, and how many there were.
    challenge: Nonce,
    challenges: u64,
    /// The peer is to prove that it is alive: there is no session, or another start of it seems to speak.
    asks: bool,
    /// The peer's challenge to answer with the next hello.
    owed: Option<Nonce>,
    hello_at: Instant,
    beat_at: Instant,
    beat_owed: Option<Path>,
    paths: [PathState; 2],
    suspicion: Suspicion,
}

#[derive(Clone, Debug)]
struct Session {
    theirs: Nonce,
    version: u16,
    send: Key,
    receive: Key,
    counter: u64,
    window: Window,
}

impl<const PEERS: usize> Links<PEERS> {
    /// Links to nobody yet.
    pub fn new(now: Instant, settings: Settings) -> Self {
        let drops = Drops::default();
        Self { settings, peers: Vec::new(), listening: now, judged: now, drops }
    }

    /// Begins to speak with `node`. `false` when there is no room. Adding it again changes nothing.
    pub fn add(&mut self, now: Instant, node: NodeId) -> bool {
        if self.peer(node).is_some() {
            return true;
        }
        let key = self.settings.key.between(self.settings.me, node);
        let challenge = key.challenge(self.settings.me, &self.settings.nonce, 0);
        let peer = Peer {
            node,
            key,
            session: None,
            challenge,
            challenges: 0,
            asks: true,
            owed: None,
            hello_at: now,
            beat_at: now,
            beat_owed: None,
            paths: [PathState::default(), PathState::default()],
            suspicion: Suspicion::default(),
        };
        self.peers.push(peer).is_ok()
    }

    /// Stops speaking with `node`.
    pub fn remove(&mut self, node: NodeId) {
        self.peers.retain(|peer| peer.node != node);
    }

    /// The peers.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().map(|peer| peer.node)
    }

    /// What is thought of `node`.
    pub fn verdict(&self, node: NodeId) -> Verdict {
        self.peer(node).map_or(Verdict::Unknown, |peer| peer.suspicion.verdict())
    }

    /// Whether an authenticated handshake with `node` was completed in this start (S1-09).
    pub fn contacted(&self, node: NodeId) -> bool {
        self.peer(node).is_some_and(|peer| peer.session.is_some())
    }

    /// The nonce of the start of `node` that this node speaks with.
    pub fn nonce_of(&self, node: NodeId) -> Option<Nonce> {
        self.peer(node).and_then(|peer| peer.session.as_ref()).map(|session| session.theirs)
    }

    /// The version spoken with `node`.
    pub fn version_with(&self, node: NodeId) -> Option<u16> {
        self.peer(node).and_then(|peer| peer.session.as_ref()).map(|session| session.version)
    }

    /// One path to `node`.
    pub fn path(&self, node: NodeId, path: Path) -> Option<PathStatus> {
        let [one, two] = &self.peer(node)?.paths;
        let state = match path {
            Path::One => one,
            Path::Two => two,
        };
        let (heard, round_trip) = (state.heard(), state.round_trip());
        Some(PathStatus { heard, round_trip, loss_permille: state.loss_permille() })
    }

    /// How often `node` became silent.
    pub fn silences(&self, node: NodeId) -> u32 {
        self.peer(node).map_or(0, |peer| peer.suspicion.silences())
    }

    /// What was dropped.
    pub const fn drops(&self) -> &Drops {
        &self.drops
    }

    /// When [`Self::next_due`] and [`Self::judge`] have something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let (listening, limits) = (self.listening, self.settings.limits);
        let of = |peer: &Peer| {
            let owes = peer.owed.is_some() || peer.beat_owed.is_some();
            earliest([
                owes.then_some(Instant::ZERO),
                peer.asks.then_some(peer.hello_at),
                peer.session.is_some().then_some(peer.beat_at),
                peer.suspicion.deadline(listening, &limits),
            ])
        };
        earliest(self.peers.iter().map(of))
    }

    /// Judges all peers, and tells whose verdict is another than before. Called at least every heartbeat, so
    /// that a longer gap means that this node itself has slept.
    pub fn judge(&mut self, now: Instant, mut changed: impl FnMut(NodeId, Verdict)) {
        let limits = self.settings.limits;
        if limits.slow < now.since(self.judged) {
            self.listening = now;
        }
        self.judged = now;
        for peer in &mut self.peers {
            let before = peer.suspicion.verdict();
            let best = peer.paths.iter().filter_map(PathState::round_trip).min();
            let after = peer.suspicion.judge(now, self.listening, best, &limits);
            if before != after {
                changed(peer.node, after);
            }
        }
    }

    /// The next datagram that is due, until `None`.
    pub fn next_due(&mut self, now: Instant) -> Option<Outgoing> {
        let settings = &self.settings;
        self.peers.iter_mut().find_map(|peer| peer.next_due(now, settings))
    }

    /// Makes the datagram that carries `message` to `to`. Sent on both paths, and sealed anew for each
    /// repetition.
    ///
    /// # Errors
    ///
    /// [`NoSession`].
    pub fn seal(&mut self, to: NodeId, message: &[u8]) -> Result<Datagram, NoSession> {
        let (site, me) = (self.settings.site, self.settings.me);
        let peer = self.peers.iter_mut().find(|peer| peer.node == to).ok_or(NoSession)?;
        peer.data(site, me, MESSAGE, message).ok_or(NoSession)
    }

    /// Takes a datagram that came on `path`.
    pub fn receive(&mut self, now: Instant, path: Path, bytes: &[u8]) -> Received {
        let received = match self.take(now, path, bytes) {
            Ok(received) => received,
            Err(drop) => Received::Dropped(drop),
        };
        if let Received::Dropped(drop) = received {
            self.drops.count(drop);
        }
        received
    }

    fn take(&mut self, now: Instant, path: Path, bytes: &[u8]) -> Result<Received, Drop> {
        let frame = Frame::parse(bytes).map_err(Drop::NotAFrame)?;
        let settings = &self.settings;
        if frame.header.site != settings.site || frame.header.to != settings.me {
            return Err(Drop::NotForUs);
        }
        let peer = self.peers.iter_mut().find(|peer| peer.node == frame.header.from).ok_or(Drop::Stranger)?;
        match frame.header.kind {
            Kind::Hello => peer.take_hello(now, path, &frame, settings),
            Kind::Data => peer.take_data(now, path, &frame, settings),
        }
    }

    fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.node == node)
    }
}

impl Peer {
    fn next_due(&mut self, now: Instant, settings: &Settings) -> Option<Outgoing> {
        let Settings { site, me, heartbeat, .. } = settings;
        if self.owed.is_some() || (self.asks && self.hello_at <= now) {
            self.hello_at = now.after(heartbeat.saturating_mul(2));
            let challenge = Some(self.challenge).filter(|_| self.asks);
            let (nonce, answer) = (settings.nonce, self.owed.take());
            let hello = Hello { nonce, challenge, answer, versions: SPOKEN };
            let header = Header { kind: Kind::Hello, site: *site, from: *me, to: self.node, counter: 0 };
            let datagram = frame::seal(&header, &hello.encode(), &self.key);
            return Some(Outgoing { to: self.node, path: None, datagram });
        }
        let path = match self.beat_owed.take() {
            Some(path) => path,
            None if self.session.is_some() && self.beat_at <= now => {
                self.beat_at = now.after(*heartbeat);
                self.beat_owed = Some(Path::Two);
                Path::One
            }
            None => return None,
        };
        let beat = self.path(path).beat(now);
        let datagram = self.data(*site, *me, HEARTBEAT, &beat.encode())?;
        Some(Outgoing { to: self.node, path: Some(path), datagram })
    }

    fn data(&mut self, site: SiteId, me: NodeId, what: u8, body: &[u8]) -> Option<Datagram> {
        let session = self.session.as_mut()?;
        session.counter = session.counter.saturating_add(1);
        let header = Header { kind: Kind::Data, site, from: me, to: self.node, counter: session.counter };
        let mut payload = Vec::<u8, { frame::PAYLOAD_MAX }>::new();
        payload.push(what).ok()?;
        payload.extend_from_slice(body).ok()?;
        Some(frame::seal(&header, &payload, &session.send))
    }

    fn take_hello(
        &mut self,
        now: Instant,
        path: Path,
        frame: &Frame<'_>,
        settings: &Settings,
    ) -> Result<Received, Drop> {
        if !frame.is_by(&self.key) {
            return Err(Drop::NotAuthentic);
        }
        let hello = Hello::parse(frame.payload).ok_or(Drop::Malformed)?;
        let version = SPOKEN.common(hello.versions).ok_or(Drop::NoCommonVersion)?;
        if hello.answer == Some(self.challenge) {
            // Alive now: only this start of the peer can have answered.
            self.asks = false;
            self.challenges = self.challenges.saturating_add(1);
            self.challenge = self.key.challenge(settings.me, &settings.nonce, self.challenges);
            self.adopt(now, path, &hello, version, settings);
        }
        if hello.challenge.is_some() {
            self.owed = hello.challenge;
            // An unknown start: the peer has restarted, or this is a recording. The session stays until the
            // new start has answered a challenge.
            self.asks |= self.session.as_ref().is_none_or(|session| session.theirs != hello.nonce);
        }
        Ok(Received::Handled)
    }

    fn adopt(&mut self, now: Instant, path: Path, hello: &Hello, version: u16, settings: &Settings) {
        if self.session.as_ref().is_some_and(|session| session.theirs == hello.nonce) {
            return;
        }
        let (mine, theirs) = ((settings.me, &settings.nonce), (self.node, &hello.nonce));
        let (send, receive) = (self.key.session(mine, theirs), self.key.session(theirs, mine));
        let window = Window::default();
        self.session = Some(Session { theirs: hello.nonce, version, send, receive, counter: 0, window });
        for path in &mut self.paths {
            path.restart();
        }
        self.path(path).hear(now);
        self.suspicion.restart(now);
        self.beat_at = now;
    }

    fn take_data(
        &mut self,
        now: Instant,
        path: Path,
        frame: &Frame<'_>,
        settings: &Settings,
    ) -> Result<Received, Drop> {
        let authentic = self.session.as_ref().is_some_and(|session| frame.is_by(&session.receive));
        let Some(session) = self.session.as_mut().filter(|_| authentic) else {
            // Perhaps the peer has a session with this start, and this end missed the last step of it.
            self.asks = true;
            return Err(Drop::NotAuthentic);
        };
        // Any authentic copy shows that the path works.
        let arrival = session.window.arrive(frame.header.counter);
        self.path(path).hear(now);
        self.suspicion.hear(now, &settings.limits);
        match arrival {
            Arrival::First => {}
            Arrival::Repeated => return Err(Drop::Repeated),
            Arrival::TooLate => return Err(Drop::TooLate),
        }
        match frame.payload.split_first() {
            Some((&HEARTBEAT, body)) if body.len() == HEARTBEAT_LEN => {
                let beat = Heartbeat::parse(body).ok_or(Drop::Malformed)?;
                self.path(path).take(now, &beat);
                Ok(Received::Handled)
            }
            Some((&MESSAGE, body)) => {
                let message = Message::from_slice(body).map_err(|_| Drop::Malformed)?;
                Ok(Received::Message { from: self.node, message })
            }
            Some(_) | None => Err(Drop::Malformed),
        }
    }

    const fn path(&mut self, path: Path) -> &mut PathState {
        let [one, two] = &mut self.paths;
        match path {
            Path::One => one,
            Path::Two => two,
        }
    }
}

impl Drops {
    const fn count(&mut self, drop: Drop) {
        let counter = match drop {
            Drop::NotAFrame(_) => &mut self.not_a_frame,
            Drop::NotForUs => &mut self.not_for_us,
            Drop::Stranger => &mut self.stranger,
            Drop::NotAuthentic => &mut self.not_authentic,
            Drop::Repeated => &mut self.repeated,
            Drop::TooLate => &mut self.too_late,
            Drop::NoCommonVersion => &mut self.no_common_version,
            Drop::Malformed => &mut self.malformed,
        };
        *counter = counter.saturating_add(1);
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
