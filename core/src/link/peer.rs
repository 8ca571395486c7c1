//! One peer: the handshake with it, its session, its heartbeats (S1-09, V22, F39).
//!
//! Nothing here changes by a datagram that is not authentic (V22), and nothing that was heard before counts
//! as heard now (F39). A session that the peer has not used yet, or not for long, may be one that the peer
//! does not know of: then this end goes on asking.

use core::time::Duration;

use heapless::Vec;

use super::frame::{self, Datagram, Frame, Header, Kind};
use super::hello::{Hello, SPOKEN, Versions};
use super::key::{Key, Nonce};
use super::path::{HEARTBEAT_LEN, Heartbeat, PathState};
use super::ring::Pace;
use super::suspicion::{Limits, Suspicion, Verdict};
use super::window::{Arrival, Window};
use super::words::{Drop, Message, Outgoing, Received, Settings};
use crate::id::{NodeId, Path};
use crate::time::{Instant, earliest};

const HEARTBEAT: u8 = 0;
const MESSAGE: u8 = 1;

/// How often the wait between two unanswered hellos is doubled, from twice the heartbeat on: a peer that is
/// off for a week is asked every eight heartbeats. One that comes back asks by itself.
const DOUBLINGS_MAX: u8 = 2;

/// Everything about one peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pace: Pace,
    /// How many peers this node had forgotten when it began to speak with this one, so that a session that it
    /// forgot with it never comes back.
    forgotten: u32,
    pub(super) session: Option<Session>,
    /// The start before the one of the session. It is over: whoever shows it again is a recording, or another
    /// node that has the same name (F54).
    before: Option<Nonce>,
    pub(super) restarts: u32,
    /// The challenge that the peer has not answered yet, and how many there were.
    challenge: Nonce,
    challenges: u64,
    /// Another start of the peer seems to speak: it is to prove that it is alive.
    is_doubted: bool,
    /// When the challenge may go out again at the earliest.
    ask_from: Instant,
    /// The peer's challenge to answer with the next hello.
    owed: Option<Nonce>,
    /// The one answered last, and when. Its copies, on the other path as a rule, need no other answer.
    answered: Option<(Nonce, Instant)>,
    hello_at: Instant,
    /// Hellos since the last answer.
    unanswered: u8,
    beat_at: Instant,
    beat_owed: Option<Path>,
    pub(super) paths: [PathState; 2],
    pub(super) suspicion: Suspicion,
    /// What the peer speaks, when it is nothing that this node speaks.
    pub(super) refused: Option<Versions>,
}

/// What two starts of two nodes share.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The start of the peer.
    pub(super) theirs: Nonce,
    /// How many peers it had forgotten.
    forgotten: u32,
    pub(super) version: u16,
    send: Key,
    receive: Key,
    counter: u64,
    window: Window,
    /// Whether the peer was heard in it.
    is_used: bool,
}

// A microcontroller with 64 KiB keeps 32 of them in 16 KiB, and one datagram at a time.
const _: () = assert!(size_of::<Peer>() <= 512);

impl Session {
    /// Whether `hello` comes from the other end of it.
    fn is_of(&self, hello: &Hello) -> bool {
        (self.theirs, self.forgotten) == (hello.nonce, hello.forgotten)
    }
}

impl Peer {
    /// A peer that was not heard of. `forgotten` is raised with each peer that is removed.
    pub(super) fn new(now: Instant, node: NodeId, pace: Pace, forgotten: u32, settings: &Settings) -> Self {
        let challenges = u64::from(forgotten) << 32;
        let key = settings.key.between(settings.me, node);
        let challenge = key.challenge(settings.me, &settings.nonce, challenges);
        Self {
            node,
            pace,
            forgotten,
            session: None,
            before: None,
            restarts: 0,
            challenge,
            challenges,
            is_doubted: false,
            ask_from: now,
            owed: None,
            answered: None,
            hello_at: now,
            unanswered: 0,
            beat_at: now,
            beat_owed: None,
            paths: [PathState::default(), PathState::default()],
            suspicion: Suspicion::default(),
            refused: None,
        }
    }

    /// The next heartbeat comes within the new pace.
    pub(super) fn set_pace(&mut self, now: Instant, pace: Pace, settings: &Settings) {
        self.pace = pace;
        self.beat_at = self.beat_at.min(now.after(self.heartbeat(settings)));
    }

    /// From one heartbeat to it to the next.
    fn heartbeat(&self, settings: &Settings) -> Duration {
        settings.heartbeat.saturating_mul(self.pace.times())
    }

    /// When it is slow or silent.
    fn limits(&self, settings: &Settings) -> Limits {
        let Limits { slow, silence, stable } = settings.limits;
        let [slow, silence, stable] =
            [slow, silence, stable].map(|time| time.saturating_mul(self.pace.times()));
        Limits { slow, silence, stable }
    }

    /// When [`Self::next_due`] or [`Self::judge`] has something to say.
    pub(super) fn deadline(&self, listening: Instant, settings: &Settings) -> Option<Instant> {
        let owes = self.owed.is_some() || self.beat_owed.is_some();
        earliest([
            owes.then_some(Instant::ZERO),
            self.asks().then_some(self.hello_at),
            self.session.is_some().then_some(self.beat_at),
            self.suspicion.deadline(listening, &self.limits(settings)),
        ])
    }

    /// What is thought of it now.
    pub(super) fn judge(&mut self, now: Instant, listening: Instant, settings: &Settings) -> Verdict {
        let limits = self.limits(settings);
        // What a path that is gone once measured says nothing about the other.
        let works = |path: &&PathState| path.heard().is_some_and(|heard| now.since(heard) <= limits.silence);
        let best = self.paths.iter().filter(works).filter_map(PathState::round_trip).min();
        self.suspicion.judge(now, listening, best, &limits)
    }

    /// The next datagram for it that is due.
    pub(super) fn next_due(&mut self, now: Instant, settings: &Settings) -> Option<Outgoing> {
        let to = self.node;
        if self.owed.is_some() || (self.asks() && self.hello_at <= now) {
            return Some(Outgoing { to, path: None, datagram: self.hello(now, settings) });
        }
        let path = match self.beat_owed.take() {
            Some(path) => path,
            None if self.session.is_some() && self.beat_at <= now => {
                self.beat_at = now.after(self.heartbeat(settings));
                self.beat_owed = Some(Path::Two);
                Path::One
            }
            None => return None,
        };
        let beat = self.path(path).beat(now);
        let datagram = self.data(settings, HEARTBEAT, &beat.encode())?;
        Some(Outgoing { to, path: Some(path), datagram })
    }

    /// The datagram with a message for it; `None` without a session.
    pub(super) fn message(&mut self, settings: &Settings, message: &[u8]) -> Option<Datagram> {
        self.data(settings, MESSAGE, message)
    }

    /// Takes a frame that says to come from it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        listening: Instant,
        path: Path,
        frame: &Frame<'_>,
        settings: &Settings,
    ) -> Result<Received, Drop> {
        match frame.header.kind {
            Kind::Hello => self.take_hello(now, path, frame, settings),
            Kind::Data => {
                self.deliver(now, path, frame, settings)?;
                self.read(now, listening, path, frame.payload)
            }
        }
    }

    /// Whether it is to prove that it is alive, and knows of the session. Who is silent is asked too:
    /// whatever came between the two ends, they do not stay apart for ever.
    fn asks(&self) -> bool {
        let is_used = self.session.as_ref().is_some_and(|session| session.is_used);
        self.is_doubted || !is_used || self.suspicion.verdict() == Verdict::Silent
    }

    /// The key shared with it. Derived when it is needed, which is seldom: a record is small.
    fn key(&self, settings: &Settings) -> Key {
        settings.key.between(settings.me, self.node)
    }

    fn hello(&mut self, now: Instant, settings: &Settings) -> Datagram {
        let wait = settings.heartbeat.saturating_mul(2 << self.unanswered.min(DOUBLINGS_MAX));
        self.hello_at = now.after(wait);
        self.unanswered = self.unanswered.saturating_add(1);
        // Two ends that both ask would answer each other's questions with questions, as fast as the network
        // carries them: a question waits for the one before.
        let challenge = Some(self.challenge).filter(|_| self.ask_from <= now && self.asks());
        self.ask_from = challenge.map_or(self.ask_from, |_| now.after(settings.heartbeat));
        let (forgotten, answer) = (self.forgotten, self.owed.take());
        self.answered = answer.map(|answer| (answer, now)).or(self.answered);
        let Settings { site, me, nonce, .. } = *settings;
        let hello = Hello { nonce, forgotten, challenge, answer, versions: SPOKEN };
        let header = Header { kind: Kind::Hello, site, from: me, to: self.node, counter: 0 };
        frame::seal(&header, &hello.encode(), &self.key(settings))
    }

    fn data(&mut self, settings: &Settings, what: u8, body: &[u8]) -> Option<Datagram> {
        let session = self.session.as_mut()?;
        let mut payload = Vec::<u8, { frame::PAYLOAD_MAX }>::new();
        let fits = payload.push(what).is_ok() && payload.extend_from_slice(body).is_ok();
        assert!(fits, "a message is no longer than MESSAGE_MAX");
        session.counter = session.counter.saturating_add(1);
        let Settings { site, me, .. } = *settings;
        let header = Header { kind: Kind::Data, site, from: me, to: self.node, counter: session.counter };
        Some(frame::seal(&header, &payload, &session.send))
    }

    fn take_hello(
        &mut self,
        now: Instant,
        path: Path,
        frame: &Frame<'_>,
        settings: &Settings,
    ) -> Result<Received, Drop> {
        let key = self.key(settings);
        if !frame.is_by(&key) {
            return Err(Drop::NotAuthentic);
        }
        let hello = Hello::parse(frame.payload).ok_or(Drop::Malformed)?;
        let Some(version) = SPOKEN.common(hello.versions) else {
            self.refused = Some(hello.versions);
            return Err(Drop::NoCommonVersion);
        };
        if self.before == Some(hello.nonce) {
            return Err(Drop::EarlierStart);
        }
        if hello.answer == Some(self.challenge) {
            // Alive now: only this start of the peer can have answered.
            self.is_doubted = false;
            self.unanswered = 0;
            self.challenges = self.challenges.saturating_add(1);
            self.challenge = key.challenge(settings.me, &settings.nonce, self.challenges);
            self.adopt(now, path, &hello, version, settings);
        }
        if let Some(challenge) = hello.challenge {
            let is_old =
                |(old, at): &(Nonce, Instant)| *old == challenge && now.since(*at) < settings.heartbeat;
            if !self.answered.as_ref().is_some_and(is_old) {
                self.owed = Some(challenge);
            }
            // An unknown start: the peer has restarted, or this is a recording. The session stays until the
            // new start has answered a challenge.
            self.is_doubted |= self.session.as_ref().is_some_and(|session| !session.is_of(&hello));
        }
        Ok(Received::Handled)
    }

    fn adopt(&mut self, now: Instant, path: Path, hello: &Hello, version: u16, settings: &Settings) {
        if self.session.as_ref().is_some_and(|session| session.is_of(hello)) {
            return;
        }
        let old = self.session.as_ref().map(|session| session.theirs);
        if old.is_some_and(|old| old != hello.nonce) {
            self.before = old;
            self.restarts = self.restarts.saturating_add(1);
        }
        self.refused = None;
        let key = self.key(settings);
        let mine = (settings.me, &settings.nonce, self.forgotten);
        let theirs = (self.node, &hello.nonce, hello.forgotten);
        self.session = Some(Session {
            theirs: hello.nonce,
            forgotten: hello.forgotten,
            version,
            send: key.session(mine, theirs),
            receive: key.session(theirs, mine),
            counter: 0,
            window: Window::default(),
            is_used: false,
        });
        for path in &mut self.paths {
            path.restart();
        }
        self.path(path).hear(now);
        self.suspicion.restart(now);
        self.beat_at = now;
        // Its first heartbeat comes sooner, as a rule, and makes this hello needless.
        self.hello_at = now.after(settings.heartbeat);
    }

    /// Lets a frame in that is of the session, and comes for the first time.
    fn deliver(
        &mut self,
        now: Instant,
        path: Path,
        frame: &Frame<'_>,
        settings: &Settings,
    ) -> Result<(), Drop> {
        let of_it = |session: &&mut Session| frame.is_by(&session.receive);
        let session = self.session.as_mut().filter(of_it).ok_or(Drop::NotAuthentic)?;
        match session.window.arrive(frame.header.counter) {
            Arrival::First => {}
            // Whoever recorded it can send it for ever: a copy does not show that anybody is alive.
            Arrival::Repeated => return Err(Drop::Repeated),
            Arrival::TooLate => return Err(Drop::TooLate),
        }
        session.is_used = true;
        self.path(path).hear(now);
        let limits = self.limits(settings);
        self.suspicion.hear(now, &limits);
        Ok(())
    }

    fn read(
        &mut self,
        now: Instant,
        listening: Instant,
        path: Path,
        payload: &[u8],
    ) -> Result<Received, Drop> {
        match payload.split_first() {
            Some((&HEARTBEAT, body)) if body.len() == HEARTBEAT_LEN => {
                let beat = Heartbeat::parse(body).ok_or(Drop::Malformed)?;
                self.path(path).take(now, listening, &beat);
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
