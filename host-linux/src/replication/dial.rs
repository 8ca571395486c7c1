//! Has a stream to a peer with a higher id: dials the first network, a moment later the second, and takes the
//! one by which the peer answers first (S1-31). It proves itself on one connection at a time, so that of two
//! streams begun at once none replaces the other; who answers there and proves nothing comes second the next
//! time, so that it cannot keep this end from the other network.

use super::hello::{HELLO_LEN, Hello, Refusal};
use super::knock::{Got, Knock, dial};
use super::part::{BARE_LEN, begun, is_begun};
use super::seal::{Direction, Sealer};
use super::service::{Shared, nonce};
use bulkhead_core::id::Path;
use rustix::event::PollFlags;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stream that lasted so long was a good one: the next attempt need not wait longer than the first.
const LASTED: Duration = Duration::from_secs(5);

/// The attempts to reach one peer.
pub struct Dial {
    peer: usize,
    /// Nothing before that.
    again: Instant,
    /// From the next failure to the next attempt.
    pause: Duration,
    /// There is a stream, since then.
    up: Option<Instant>,
    /// The network that is dialled first.
    first: Path,
    round: Option<Round>,
}

/// One attempt by both networks.
struct Round {
    since: Instant,
    first: Path,
    /// The one of the first network that is dialled, and that of the second.
    calls: [Call; 2],
    /// Where the key was proved.
    proved: Option<Path>,
}

/// One network of a round.
enum Call {
    /// Not dialled yet.
    Before,
    /// On its way.
    Open(Box<Attempt>),
    /// It failed, or the other one was faster.
    Over,
}

struct Attempt {
    knock: Knock,
    hello: Hello,
    step: Step,
}

enum Step {
    Connecting,
    /// The hello is sent.
    Greeting,
    /// The proof is sent.
    Proving {
        sealer: Sealer,
        opener: Sealer,
    },
}

enum Progress {
    Waits(Attempt),
    Failed(String),
    Met(Attempt, Sealer, Sealer),
}

impl Dial {
    /// Dials at once.
    #[must_use]
    pub const fn new(peer: usize, now: Instant) -> Self {
        Self { peer, again: now, pause: Duration::ZERO, up: None, first: Path::One, round: None }
    }

    /// What it waits for.
    pub fn awaited(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.round.iter().flat_map(|round| &round.calls).filter_map(|call| match call {
            Call::Open(attempt) => Some((
                attempt.knock.as_fd(),
                match attempt.step {
                    Step::Connecting => PollFlags::OUT,
                    Step::Greeting | Step::Proving { .. } => PollFlags::IN,
                },
            )),
            Call::Before | Call::Over => None,
        })
    }

    /// Goes on with what came, or is due.
    pub fn step(&mut self, shared: &Arc<Shared>, now: Instant) {
        let Some(peer) = shared.peers.get(self.peer) else { return };
        if !peer.is_free() {
            return;
        }
        if let Some(since) = self.up.take() {
            if LASTED <= now.saturating_duration_since(since) {
                self.pause = Duration::ZERO;
            }
            self.rest(shared, now);
        }
        if self.round.is_none() && self.again <= now {
            let calls = [Call::Before, Call::Before];
            self.round = Some(Round { since: now, first: self.first, calls, proved: None });
        }
        let Some(mut round) = self.round.take() else { return };
        for is_first in [true, false] {
            round.go_on(shared, self.peer, is_first, now);
        }
        let is_over = round.calls.iter().all(|call| matches!(call, Call::Over));
        let is_late = shared.settings.timing.handshake <= now.saturating_duration_since(round.since);
        if !peer.is_free() {
            self.up = Some(now);
            self.first = Path::One;
        } else if is_over || is_late {
            if is_late {
                peer.counts.failed(Refusal::Unfinished.text().into());
            }
            self.first = round.proved.map_or(Path::One, other);
            self.rest(shared, now);
        } else {
            self.round = Some(round);
        }
    }

    /// The next attempt comes later than the last one did.
    fn rest(&mut self, shared: &Shared, now: Instant) {
        let (least, most) = shared.settings.timing.again;
        self.pause = self.pause.saturating_mul(2).clamp(least, most.max(least));
        self.again = now.checked_add(self.pause).unwrap_or(now);
    }
}

const fn other(path: Path) -> Path {
    match path {
        Path::One => Path::Two,
        Path::Two => Path::One,
    }
}

impl Round {
    /// Goes on by one network.
    fn go_on(&mut self, shared: &Arc<Shared>, peer: usize, is_first: bool, now: Instant) {
        let waits = shared.settings.timing.second;
        let is_due = is_first
            || waits <= now.saturating_duration_since(self.since)
            || matches!(self.calls, [Call::Over, _]);
        let [one, two] = &mut self.calls;
        let (call, rival) = if is_first { (one, two) } else { (two, one) };
        let path = if is_first { self.first } else { other(self.first) };
        let progress = match std::mem::replace(call, Call::Over) {
            Call::Before if is_due => open(shared, peer, path),
            Call::Before => {
                *call = Call::Before;
                return;
            }
            Call::Open(attempt) => attempt.step(shared),
            Call::Over => return,
        };
        match progress {
            Progress::Waits(attempt) => {
                // Who answered first has the stream, or nobody in this round.
                if matches!(attempt.step, Step::Proving { .. }) {
                    self.proved = Some(path);
                    *rival = Call::Over;
                }
                *call = Call::Open(Box::new(attempt));
            }
            Progress::Failed(why) => {
                let number = path.pick(1, 2);
                if let Some(peer) = shared.peers.get(peer) {
                    let [one, two] = peer.addresses;
                    peer.counts.failed(format!("network {number}, {}: {why}", path.pick(one, two)));
                }
            }
            Progress::Met(attempt, sealer, opener) => {
                *rival = Call::Over;
                Shared::begin(shared, peer, path, attempt.knock, (sealer, opener), false);
            }
        }
    }
}

/// Begins to connect.
fn open(shared: &Shared, peer: usize, path: Path) -> Progress {
    let Some(peer) = shared.peers.get(peer) else { return Progress::Failed("no such peer".into()) };
    let Some(nonce) = nonce() else { return Progress::Failed("the system has no random numbers".into()) };
    let settings = &shared.settings;
    let hello = Hello::new(settings.site, settings.group, settings.me, peer.node, nonce);
    let ([from_one, from_two], [to_one, to_two]) = (settings.listen, peer.addresses);
    match dial(path.pick(from_one, from_two), path.pick(to_one, to_two)) {
        Ok(knock) => Progress::Waits(Attempt { knock, hello, step: Step::Connecting }),
        Err(error) => Progress::Failed(error.to_string()),
    }
}

impl Attempt {
    fn step(mut self, shared: &Shared) -> Progress {
        match self.step {
            Step::Connecting => match self.knock.is_connected() {
                Ok(false) => Progress::Waits(self),
                Ok(true) if self.knock.send(&self.hello.encode()) => {
                    self.step = Step::Greeting;
                    Progress::Waits(self)
                }
                Ok(true) => Progress::Failed(Refusal::Unfinished.text().into()),
                Err(error) => Progress::Failed(error.to_string()),
            },
            Step::Greeting => match self.knock.receive(HELLO_LEN) {
                Got::Waits => Progress::Waits(self),
                Got::Over => Progress::Failed(Refusal::Unfinished.text().into()),
                Got::All(bytes) => self.prove(shared, &bytes),
            },
            Step::Proving { sealer, mut opener } => match self.knock.receive(BARE_LEN) {
                Got::Waits => {
                    self.step = Step::Proving { sealer, opener };
                    Progress::Waits(self)
                }
                Got::Over => Progress::Failed(Refusal::Unfinished.text().into()),
                Got::All(bytes) => {
                    let bytes = bytes.get(..BARE_LEN).unwrap_or_default();
                    if is_begun(&mut opener, bytes) {
                        self.step = Step::Greeting;
                        return Progress::Met(self, sealer, opener);
                    }
                    shared.refuses(Refusal::Key);
                    Progress::Failed(Refusal::Key.text().into())
                }
            },
        }
    }

    /// Proves the key to who answered the hello.
    fn prove(mut self, shared: &Shared, bytes: &[u8; HELLO_LEN]) -> Progress {
        let answer = Hello::parse(bytes).ok_or(Refusal::Nonsense);
        match answer.and_then(|answer| self.hello.may_go_on(&answer)) {
            Ok(()) => {
                let hello = self.hello.encode();
                let sealer = |way| Sealer::new(&shared.settings.key, &hello, bytes, way);
                let (mut sealer, opener) = (sealer(Direction::Out), sealer(Direction::Back));
                if !self.knock.send(begun(&mut sealer).front()) {
                    return Progress::Failed(Refusal::Unfinished.text().into());
                }
                self.step = Step::Proving { sealer, opener };
                Progress::Waits(self)
            }
            Err(why) => {
                shared.refuses(why);
                Progress::Failed(why.text().into())
            }
        }
    }
}
