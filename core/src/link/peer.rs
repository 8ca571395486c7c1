//! One peer: the handshake with it, its session, its heartbeats (S1-09, V22, F39).
//!
//! Nothing here changes by a datagram that is not authentic (V22), and nothing that was heard before counts
//! as heard now (F39). A session that the peer has not used yet, or not for long, may be one that the peer
//! does not know of: then this end goes on asking.

use core::time::Duration;

use super::frame::{self, Datagram, Frame, Header, Kind};
use super::hello::{Hello, SPOKEN};
use super::key::{Key, Mark, Nonce, SessionKey};
use super::path::{HEARTBEAT_LEN, Heartbeat, PathState};
use super::ring::Pace;
use super::suspicion::{Limits, Suspicion, Verdict};
use super::tally::{Account, Tally};
use super::window::{Arrival, Window};
use super::words::{Drop, Outgoing, Received, Settings};
use crate::bytes::Long;
use crate::id::{NodeId, Path};
use crate::time::{Instant, Stamp, earliest, micros};

/// Common moments for seldom heartbeats within the time of one heartbeat of the site.
const MOMENTS: u64 = 2;

const HEARTBEAT: u8 = 0;
const MESSAGE: u8 = 1;

/// How often the wait between two unanswered hellos is doubled, from twice the heartbeat on: a peer that is
/// off for a week is asked every eight heartbeats. One that comes back asks by itself.
const DOUBLINGS_MAX: u8 = 2;

/// Everything about one peer that decides anything.
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
    before: Option<Mark>,
    /// How many challenges the peer has answered. Nothing else is needed to know the next one.
    challenges: u32,
    /// Another start of the peer seems to speak: it is to prove that it is alive.
    is_doubted: bool,
    /// When the challenge may go out again at the earliest.
    ask_from: Stamp,
    /// The challenge of the peer that was answered last, and when. Its copies, on the other path as a rule,
    /// need no other answer.
    answered: Option<(Mark, Stamp)>,
    hello_at: Stamp,
    /// Hellos since the last answer.
    unanswered: u8,
    beat_at: Stamp,
    beat_owed: Option<Path>,
    /// Of the last heartbeat sent, on both paths.
    pub(super) beats: u32,
    pub(super) paths: [PathState; 2],
    pub(super) suspicion: Suspicion,
}

/// What two starts of two nodes share.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The start of the peer.
    pub(super) theirs: Mark,
    /// How many peers it had forgotten.
    forgotten: u32,
    pub(super) version: u16,
    key: SessionKey,
    /// Of the last frame sent.
    counter: Long,
    window: Window,
    /// Whether the peer was heard in it.
    is_used: bool,
}

// A microcontroller with 64 KiB keeps 128 of them.
const _: () = assert!(size_of::<Peer>() <= PEER_MAX);
/// Bytes of the record of a peer.
const PEER_MAX: usize = 256;

/// When a peer is slow or silent, by its pace: a microcontroller multiplies times slowly.
#[derive(Clone, Debug)]
pub(super) struct Paces([Limits; Pace::ALL.len()]);

impl Paces {
    pub(super) fn new(settings: &Settings) -> Self {
        Self(Pace::ALL.map(|pace| {
            let Limits { slow, silence, stable } = settings.limits;
            let [slow, silence, stable] =
                [slow, silence, stable].map(|time| time.saturating_mul(pace.times()));
            Limits { slow, silence, stable }
        }))
    }

    const fn limits(&self, pace: Pace) -> &Limits {
        let Self([close, calm, far]) = self;
        match pace {
            Pace::Close => close,
            Pace::Calm => calm,
            Pace::Far => far,
        }
    }
}

/// What became of a frame of a peer.
pub(super) enum Taken<'a> {
    /// As the shell is told.
    Received(Received<'a>),
    /// It asks this, and the next hello is to answer.
    Asked(Nonce),
}

impl Session {
    /// Whether `hello` comes from the other end of it.
    fn is_of(&self, hello: &Hello) -> bool {
        (self.theirs, self.forgotten) == (hello.nonce.mark(), hello.forgotten)
    }
}

impl Peer {
    /// A peer that was not heard of. `forgotten` is raised with each peer that is removed.
    pub(super) fn new(now: Instant, node: NodeId, pace: Pace, forgotten: u32) -> Self {
        let now = now.into();
        Self {
            node,
            pace,
            forgotten,
            session: None,
            before: None,
            challenges: 0,
            is_doubted: false,
            ask_from: now,
            answered: None,
            hello_at: now,
            unanswered: 0,
            beat_at: now,
            beat_owed: None,
            beats: 0,
            paths: Default::default(),
            suspicion: Suspicion::default(),
        }
    }

    /// The next heartbeat comes within the new pace.
    pub(super) fn set_pace(&mut self, now: Instant, pace: Pace, settings: &Settings) {
        self.pace = pace;
        self.beat_at = self.beat_at.min(now.after(self.heartbeat(settings)).into());
    }

    /// When anything authenticated came on any path.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.paths.iter().filter_map(PathState::heard).max()
    }

    /// From one heartbeat to it to the next.
    fn heartbeat(&self, settings: &Settings) -> Duration {
        settings.heartbeat.saturating_mul(self.pace.times())
    }

    /// When the next heartbeat goes out. Those that are seldom meet at common moments, a little early: so a
    /// hundred peers are looked at a few dozen times a second, and not after each heartbeat.
    fn next_beat(&self, now: Instant, settings: &Settings) -> Instant {
        let at = now.after(self.heartbeat(settings));
        let step = match self.pace {
            Pace::Close => 1,
            Pace::Calm | Pace::Far => micros(settings.heartbeat) / MOMENTS,
        };
        let over = at.as_micros().checked_rem(step).unwrap_or_default();
        Instant::from_micros(at.as_micros().saturating_sub(over))
    }

    /// When [`Self::next_due`] or [`Self::judge`] has something to say.
    pub(super) fn deadline(&self, listening: Instant, paces: &Paces) -> Option<Instant> {
        earliest([
            self.beat_owed.is_some().then_some(Instant::ZERO),
            self.asks().then_some(self.hello_at.instant()),
            self.session.is_some().then_some(self.beat_at.instant()),
            self.suspicion.deadline(listening, self.heard(), paces.limits(self.pace)),
        ])
    }

    /// What is thought of it now.
    pub(super) fn judge(&mut self, now: Instant, listening: Instant, paces: &Paces) -> Verdict {
        let limits = paces.limits(self.pace);
        // What a path that is gone once measured says nothing about the other.
        let works = |path: &&PathState| path.heard().is_some_and(|heard| now.since(heard) <= limits.silence);
        let best = self.paths.iter().filter(works).filter_map(PathState::round_trip).min();
        self.suspicion.judge(now, listening, self.heard(), best, limits)
    }

    /// The next datagram for it that is due.
    pub(super) fn next_due(&mut self, now: Instant, settings: &Settings) -> Option<Outgoing> {
        let to = self.node;
        if self.asks() && self.hello_at.instant() <= now {
            return Some(self.hello(now, None, settings));
        }
        let path = match self.beat_owed.take() {
            Some(path) => path,
            None if self.session.is_some() && self.beat_at.instant() <= now => {
                self.beat_at = self.next_beat(now, settings).into();
                self.beats = self.beats.wrapping_add(1);
                self.beat_owed = Some(Path::Two);
                Path::One
            }
            None => return None,
        };
        let beats = self.beats;
        let beat = self.path(path).beat(now, beats);
        let datagram = self.data(settings, HEARTBEAT, &beat.encode())?;
        Some(Outgoing { to, path: Some(path), datagram })
    }

    /// The datagram with a message for it; `None` without a session.
    pub(super) fn message(&mut self, settings: &Settings, message: &[u8]) -> Option<Datagram> {
        self.data(settings, MESSAGE, message)
    }

    /// Takes a frame that says to come from it.
    pub(super) fn take<'a>(
        &mut self,
        now: Instant,
        listening: Instant,
        path: Path,
        frame: &Frame<'a>,
        shown: Option<&mut Account>,
        (settings, paces): (&Settings, &Paces),
    ) -> Result<Taken<'a>, Drop> {
        match frame.header.kind {
            Kind::Hello => self.take_hello(now, path, frame, shown, settings),
            Kind::Data => {
                self.deliver(now, path, frame, paces)?;
                let tally = shown.map(|shown| shown.path(path));
                self.read(now, listening, path, frame.payload, tally).map(Taken::Received)
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

    /// The challenge that the peer has not answered yet. Derived when it is needed, as the key is.
    fn challenge(&self, key: &Key, settings: &Settings) -> Nonce {
        let count = u64::from(self.forgotten) << 32 | u64::from(self.challenges);
        key.challenge(settings.me, &settings.nonce, count)
    }

    /// The next hello, which answers `owed`.
    pub(super) fn hello(&mut self, now: Instant, owed: Option<Nonce>, settings: &Settings) -> Outgoing {
        let wait = settings.heartbeat.saturating_mul(2 << self.unanswered.min(DOUBLINGS_MAX));
        let key = self.key(settings);
        self.hello_at = now.after(wait).into();
        self.unanswered = self.unanswered.saturating_add(1);
        // Two ends that both ask would answer each other's questions with questions, as fast as the network
        // carries them: a question waits for the one before.
        let may_ask = self.ask_from.instant() <= now && self.asks();
        let challenge = may_ask.then(|| self.challenge(&key, settings));
        self.ask_from = challenge.map_or(self.ask_from, |_| now.after(settings.heartbeat).into());
        let (forgotten, answer) = (self.forgotten, owed);
        self.answered = answer.map(|answer| (answer.mark(), now.into())).or(self.answered);
        let Settings { site, me, nonce, .. } = *settings;
        let hello = Hello { nonce, forgotten, challenge, answer, versions: SPOKEN };
        let header = Header { kind: Kind::Hello, site, from: me, to: self.node, counter: 0 };
        Outgoing { to: self.node, path: None, datagram: frame::seal(&header, &[&hello.encode()], &key) }
    }

    fn data(&mut self, settings: &Settings, what: u8, body: &[u8]) -> Option<Datagram> {
        let session = self.session.as_mut()?;
        let counter = session.counter.get().saturating_add(1);
        session.counter = counter.into();
        let Settings { site, me, .. } = *settings;
        let header = Header { kind: Kind::Data, site, from: me, to: self.node, counter };
        Some(frame::seal(&header, &[&[what], body], &session.key.key()))
    }

    fn take_hello(
        &mut self,
        now: Instant,
        path: Path,
        frame: &Frame<'_>,
        mut shown: Option<&mut Account>,
        settings: &Settings,
    ) -> Result<Taken<'static>, Drop> {
        let key = self.key(settings);
        if !frame.is_by(&key) {
            return Err(Drop::NotAuthentic);
        }
        let hello = Hello::parse(frame.payload).ok_or(Drop::Malformed)?;
        let Some(version) = SPOKEN.common(hello.versions) else {
            if let Some(shown) = &mut shown {
                shown.refused = Some(hello.versions);
            }
            return Err(Drop::NoCommonVersion);
        };
        if self.before == Some(hello.nonce.mark()) {
            return Err(Drop::EarlierStart);
        }
        if hello.answer.is_some_and(|answer| answer == self.challenge(&key, settings)) {
            // Alive now: only this start of the peer can have answered.
            self.is_doubted = false;
            self.unanswered = 0;
            self.challenges = self.challenges.saturating_add(1);
            self.adopt(now, path, &hello, version, shown, settings);
        }
        if let Some(challenge) = hello.challenge {
            // An unknown start: the peer has restarted, or this is a recording. The session stays until the
            // new start has answered a challenge.
            self.is_doubted |= self.session.as_ref().is_some_and(|session| !session.is_of(&hello));
            let is_old = |(old, at): &(Mark, Stamp)| {
                *old == challenge.mark() && now.since(at.instant()) < settings.heartbeat
            };
            if !self.answered.as_ref().is_some_and(is_old) {
                return Ok(Taken::Asked(challenge));
            }
        }
        Ok(Taken::Received(Received::Handled))
    }

    fn adopt(
        &mut self,
        now: Instant,
        path: Path,
        hello: &Hello,
        version: u16,
        shown: Option<&mut Account>,
        settings: &Settings,
    ) {
        if self.session.as_ref().is_some_and(|session| session.is_of(hello)) {
            return;
        }
        let old = self.session.as_ref().map(|session| session.theirs);
        let is_another = old.is_some_and(|old| old != hello.nonce.mark());
        if is_another {
            self.before = old;
        }
        if let Some(shown) = shown {
            shown.begin(is_another);
        }
        let key = self.key(settings);
        let mine = (settings.me, &settings.nonce, self.forgotten);
        let theirs = (self.node, &hello.nonce, hello.forgotten);
        self.session = Some(Session {
            theirs: hello.nonce.mark(),
            forgotten: hello.forgotten,
            version,
            key: key.session(mine, theirs),
            counter: Long::default(),
            window: Window::default(),
            is_used: false,
        });
        for path in &mut self.paths {
            path.restart();
        }
        self.path(path).hear(now);
        self.suspicion.restart();
        self.beat_at = now.into();
        // Its first heartbeat comes sooner, as a rule, and makes this hello needless.
        self.hello_at = now.after(settings.heartbeat).into();
    }

    /// Lets a frame in that is of the session, and comes for the first time.
    fn deliver(&mut self, now: Instant, path: Path, frame: &Frame<'_>, paces: &Paces) -> Result<(), Drop> {
        let counter = frame.header.counter;
        let session = self.session.as_mut().ok_or(Drop::NotAuthentic)?;
        match session.window.look(counter) {
            // A tag is dear on a microcontroller, and each message comes twice: copies are not looked at.
            Arrival::First if frame.is_by(&session.key.key()) => session.window.arrive(counter),
            Arrival::First => return Err(Drop::NotAuthentic),
            // Whoever recorded it can send it for ever: a copy does not show that anybody is alive.
            Arrival::Repeated => return Err(Drop::Repeated),
            Arrival::TooLate => return Err(Drop::TooLate),
        };
        session.is_used = true;
        let before = self.heard();
        self.path(path).hear(now);
        self.suspicion.hear(now, before, paces.limits(self.pace));
        Ok(())
    }

    fn read<'a>(
        &mut self,
        now: Instant,
        listening: Instant,
        path: Path,
        payload: &'a [u8],
        tally: Option<&mut Tally>,
    ) -> Result<Received<'a>, Drop> {
        match payload.split_first() {
            Some((&HEARTBEAT, body)) if body.len() == HEARTBEAT_LEN => {
                let beat = Heartbeat::parse(body).ok_or(Drop::Malformed)?;
                let shown = self.path(path).take(now, listening, &beat);
                if let Some(tally) = tally {
                    tally.take(shown);
                }
                Ok(Received::Handled)
            }
            Some((&MESSAGE, message)) => Ok(Received::Message { from: self.node, message }),
            Some(_) | None => Err(Drop::Malformed),
        }
    }

    fn path(&mut self, path: Path) -> &mut PathState {
        let [one, two] = &mut self.paths;
        path.pick(one, two)
    }
}
