//! Has a stream to a peer with a higher id: dials the first network, a moment later the second, and takes the
//! one by which the peer answers first (S1-31). It proves itself on one connection at a time, so that of two
//! streams begun at once none replaces the other; who answers there and proves nothing comes second the next
//! time, so that it cannot keep this end from the other network.

use super::hello::{HELLO_LEN, Hello, Refusal, Refused};
use super::knock::{Got, Knock, dial};
use super::part::{BARE_LEN, begun, is_begun};
use super::seal::Sealer;
use super::service::{Shared, nonce};
use super::veil::{self, Said, Veiled};
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
    /// The proof is sent, after which TLS comes: to nobody who does not prove the key, too.
    Proving {
        said: Said,
        opener: Sealer,
    },
    /// TLS is under way.
    Shaking {
        said: Said,
    },
    /// The first frame is sent.
    Beginning {
        sealer: Sealer,
        opener: Sealer,
    },
}

enum Progress {
    Waits(Attempt),
    Failed(String),
    Refused(Refused),
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
                    Step::Greeting | Step::Proving { .. } | Step::Shaking { .. } | Step::Beginning { .. } => {
                        attempt.knock.wire().awaited()
                    }
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
                if attempt.step.proves() {
                    self.proved = Some(path);
                    *rival = Call::Over;
                }
                *call = Call::Open(Box::new(attempt));
            }
            Progress::Failed(why) => shared.cannot_dial(peer, path, &why, false),
            Progress::Refused(refused) => {
                shared.refuses(refused.why);
                shared.cannot_dial(peer, path, &refused.text(), refused.why.is_lasting());
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
    let hello = hello.speaking(settings.speaks());
    let ([from_one, from_two], [to_one, to_two]) = (settings.listen, peer.addresses);
    match dial(path.pick(from_one, from_two), path.pick(to_one, to_two)) {
        Ok(knock) => Progress::Waits(Attempt { knock, hello, step: Step::Connecting }),
        Err(error) => Progress::Failed(error.to_string()),
    }
}

impl Step {
    /// Whether the key is proved there, or was.
    const fn proves(&self) -> bool {
        match self {
            Self::Connecting | Self::Greeting => false,
            Self::Proving { .. } | Self::Shaking { .. } | Self::Beginning { .. } => true,
        }
    }
}

impl Attempt {
    fn step(mut self, shared: &Shared) -> Progress {
        let step = std::mem::replace(&mut self.step, Step::Connecting);
        match step {
            Step::Connecting => match self.knock.is_connected() {
                Ok(false) => Progress::Waits(self),
                Ok(true) if self.knock.send(&self.hello.encode()) => self.waits(Step::Greeting),
                Ok(true) => unfinished(),
                Err(error) => Progress::Failed(error.to_string()),
            },
            Step::Greeting => match self.knock.receive(HELLO_LEN) {
                Got::Waits => self.waits(Step::Greeting),
                Got::Over => unfinished(),
                Got::All(bytes) => self.prove(shared, &bytes),
            },
            Step::Proving { said, mut opener } => match self.knock.receive(BARE_LEN) {
                Got::Waits => self.waits(Step::Proving { said, opener }),
                Got::Over => unfinished(),
                Got::All(bytes) if is_first(&mut opener, &bytes) => self.encrypt(shared, said),
                Got::All(_) => Progress::Refused(Refusal::Key.into()),
            },
            Step::Shaking { said } => match said.shake(&shared.settings.key, &self.knock) {
                Veiled::Waits => self.waits(Step::Shaking { said }),
                Veiled::Refused(refused) => refuses(refused),
                Veiled::Done((sealer, opener)) => self.begin(sealer, opener).again(shared),
            },
            Step::Beginning { sealer, mut opener } => match self.knock.receive(BARE_LEN) {
                Got::Waits => self.waits(Step::Beginning { sealer, opener }),
                // The other end may have found only now that it does not believe this one's certificate.
                Got::Over => refuses(veil::over(&self.knock)),
                Got::All(bytes) if is_first(&mut opener, &bytes) => Progress::Met(self, sealer, opener),
                Got::All(_) => Progress::Refused(Refusal::Key.into()),
            },
        }
    }

    /// Proves the key to who answered the hello.
    fn prove(self, shared: &Shared, bytes: &[u8; HELLO_LEN]) -> Progress {
        let answer = Hello::parse(bytes).ok_or(Refusal::Nonsense);
        let answer = answer.and_then(|answer| self.hello.may_go_on(&answer).map(|()| answer));
        let said = Said { hello: self.hello.encode(), welcome: *bytes };
        let (mut sealer, opener) = said.sealers(&shared.settings.key);
        match answer {
            Ok(answer) if answer.encrypts() => {
                if !self.knock.send(begun(&mut sealer).front()) {
                    return unfinished();
                }
                self.waits(Step::Proving { said, opener })
            }
            Ok(_) => self.begin(sealer, opener),
            Err(why) => Progress::Refused(why.into()),
        }
    }

    /// The other end knows the key, too: begins TLS with it.
    fn encrypt(mut self, shared: &Shared, said: Said) -> Progress {
        let connection = match veil::begin(&shared.settings, self.hello.to, true) {
            Ok(connection) => connection,
            Err(refused) => return Progress::Refused(refused),
        };
        if let Err(error) = self.knock.secure(connection) {
            return Progress::Failed(error.to_string());
        }
        self.step = Step::Shaking { said };
        self.step(shared)
    }

    /// Sends the first frame.
    fn begin(self, mut sealer: Sealer, opener: Sealer) -> Progress {
        if !self.knock.send(begun(&mut sealer).front()) {
            return refuses(veil::over(&self.knock));
        }
        self.waits(Step::Beginning { sealer, opener })
    }

    fn waits(self, step: Step) -> Progress {
        Progress::Waits(Self { step, ..self })
    }
}

impl Progress {
    /// Goes on at once: what is next may have come with what was decrypted already.
    fn again(self, shared: &Shared) -> Self {
        match self {
            Self::Waits(attempt) => attempt.step(shared),
            over @ (Self::Failed(_) | Self::Refused(_) | Self::Met(..)) => over,
        }
    }
}

/// Whether these bytes are the first frame of the other end.
fn is_first(opener: &mut Sealer, bytes: &[u8; HELLO_LEN]) -> bool {
    is_begun(opener, bytes.get(..BARE_LEN).unwrap_or_default())
}

fn unfinished() -> Progress {
    Progress::Failed(Refusal::Unfinished.text().into())
}

/// Nothing is counted where the other end was only gone.
fn refuses(refused: Refused) -> Progress {
    if refused.why == Refusal::Unfinished { unfinished() } else { Progress::Refused(refused) }
}
