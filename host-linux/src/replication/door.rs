//! One thread for all that is not a stream yet: it listens, lets in who proves the site key, and watches the
//! streams. Newcomers have no thread, little time, and a place that others can take (V43, F36, F39).

use super::dial::Dial;
use super::hello::{HELLO_LEN, Hello, Kind, Refusal, Refused};
use super::knock::{Got, Knock, listen};
use super::part::{BARE_LEN, begun, is_begun};
use super::seal::Sealer;
use super::service::{Shared, nonce};
use super::veil::{self, Said, Veiled};
use bulkhead_core::id::Path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Newcomers from one peer's address.
const NEWCOMERS_OF_PEER: usize = 8;
/// Newcomers from all other addresses together.
const NEWCOMERS_OF_OTHERS: usize = 16;
/// Connections accepted in one turn.
const ACCEPTS: usize = 32;
/// How often streams are looked after, and what is due.
const TICK: Duration = Duration::from_millis(50);
/// How often an address that could not be used is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The thread.
pub struct Door {
    shared: Arc<Shared>,
    gates: Vec<Gate>,
    newcomers: Vec<Newcomer>,
    dials: Vec<Dial>,
}

/// Where it listens on one network.
struct Gate {
    path: Path,
    listener: Option<TcpListener>,
    again: Instant,
}

struct Newcomer {
    knock: Knock,
    path: Path,
    from: IpAddr,
    /// The peer that has this address on this network.
    like: Option<usize>,
    since: Instant,
    step: Step,
}

/// How far a newcomer is.
enum Step {
    /// It has said nothing.
    Silent,
    /// Its hello was answered: it proves the key with the first sealed frame.
    Greeted(Proof),
    /// It has proved the key, and encrypts.
    Shaking(Proof),
    /// It has encrypted, and begins the stream with the first sealed frame inside.
    Beginning(Proof),
}

struct Proof {
    peer: usize,
    said: Said,
    welcome: Hello,
    opener: Sealer,
    sealer: Sealer,
}

/// What becomes of a newcomer.
enum Fate {
    Waits,
    Refused(Refused),
    /// It has proved that it knows the key.
    Begins(Box<Proof>),
}

impl Door {
    /// Nobody is there yet. Nobody dials the node with the lowest id: it does not listen.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let me = shared.settings.me;
        let is_dialled = shared.peers.iter().any(|peer| peer.node < me);
        let paths = Path::ALL.into_iter().filter(|_| is_dialled);
        let gates = paths.map(|path| Gate { path, listener: None, again: now }).collect();
        let dialled = shared.peers.iter().enumerate().filter(|(_, peer)| me < peer.node);
        let dials = dialled.map(|(peer, _)| Dial::new(peer, now)).collect();
        Self { shared, gates, newcomers: Vec::new(), dials }
    }

    /// Until the streams stop.
    pub fn run(mut self) {
        let mut due = Instant::now();
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            if due <= now {
                due = now.checked_add(TICK).unwrap_or(now);
                self.listen(now);
                self.shared.tick(now);
                self.expire(now);
            }
            for dial in &mut self.dials {
                dial.step(&self.shared, now);
            }
            self.wait(due.saturating_duration_since(now));
            self.accept();
            self.hear();
        }
    }

    /// Waits until something comes, or is due.
    fn wait(&self, time: Duration) {
        let mut fds = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        let listeners = self.gates.iter().filter_map(|gate| gate.listener.as_ref());
        fds.extend(listeners.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let knocks = self.newcomers.iter().map(|one| (one.knock.as_fd(), one.knock.wire().awaited()));
        fds.extend(knocks.map(|(fd, what): (BorrowedFd<'_>, _)| PollFd::from_borrowed_fd(fd, what)));
        let dials = self.dials.iter().flat_map(Dial::awaited);
        fds.extend(dials.map(|(fd, what)| PollFd::from_borrowed_fd(fd, what)));
        // A millisecond more, so that what is due is due.
        let time = time.checked_add(Duration::from_millis(1)).and_then(|time| Timespec::try_from(time).ok());
        let _ = poll(&mut fds, time.as_ref());
        self.shared.wake.clear();
    }

    /// Opens what is not open. One network does without the other.
    fn listen(&mut self, now: Instant) {
        for gate in self.gates.iter_mut().filter(|gate| gate.listener.is_none() && gate.again <= now) {
            let [one, two] = self.shared.settings.listen;
            let opened = listen(gate.path.pick(one, two));
            gate.again = now.checked_add(LISTEN_AGAIN).unwrap_or(now);
            self.shared.listens(gate.path, opened.as_ref().err());
            gate.listener = opened.ok();
        }
    }

    fn accept(&mut self) {
        for at in 0..self.gates.len() {
            for _ in 0..ACCEPTS {
                let Some(gate) = self.gates.get_mut(at) else { break };
                match gate.listener.as_ref().map(TcpListener::accept) {
                    Some(Ok((socket, from))) => {
                        let path = gate.path;
                        if socket.set_nonblocking(true).is_ok() {
                            self.admit(Knock::new(socket), path, from.ip());
                        }
                    }
                    Some(Err(error)) if is_passing(error.kind()) => break,
                    Some(Err(error)) => {
                        // As without file descriptors: it would be asked again and again.
                        gate.listener = None;
                        self.shared.listens(gate.path, Some(&error));
                        break;
                    }
                    None => break,
                }
            }
        }
    }

    /// Who waits longest leaves when too many of its kind wait. Peers have places that nobody else can take.
    fn admit(&mut self, knock: Knock, path: Path, from: IpAddr) {
        let at = |[one, two]: [SocketAddr; 2]| path.pick(one, two).ip();
        let like = self.shared.peers.iter().position(|peer| at(peer.addresses) == from);
        self.newcomers.push(Newcomer { knock, path, from, like, since: Instant::now(), step: Step::Silent });
        let most = if like.is_some() { NEWCOMERS_OF_PEER } else { NEWCOMERS_OF_OTHERS };
        let is_like = |one: &Newcomer| one.like == like && (like.is_none() || one.path == path);
        if most < self.newcomers.iter().filter(|one| is_like(one)).count()
            && let Some(oldest) = self.newcomers.iter().position(is_like)
        {
            let oldest = self.newcomers.remove(oldest);
            self.shared.refused(oldest.from, None, &Refusal::Crowded.into());
        }
    }

    /// Who has proved nothing in time leaves.
    fn expire(&mut self, now: Instant) {
        let patience = self.shared.settings.timing.handshake;
        let (late, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.newcomers)
            .into_iter()
            .partition(|one| patience <= now.saturating_duration_since(one.since));
        self.newcomers = rest;
        late.iter().for_each(|one| self.shared.refused(one.from, None, &Refusal::Unfinished.into()));
    }

    /// What newcomers have to say.
    fn hear(&mut self) {
        for mut newcomer in std::mem::take(&mut self.newcomers) {
            match self.judge(&mut newcomer) {
                Fate::Waits => self.newcomers.push(newcomer),
                Fate::Refused(why) => self.shared.refused(newcomer.from, newcomer.like, &why),
                Fate::Begins(proof) => {
                    let Proof { peer, opener, sealer, .. } = *proof;
                    let Newcomer { knock, path, .. } = newcomer;
                    Shared::begin(&self.shared, peer, path, knock, (sealer, opener), true);
                }
            }
        }
    }

    /// Goes on as far as a newcomer has said something.
    fn judge(&self, newcomer: &mut Newcomer) -> Fate {
        let step = std::mem::replace(&mut newcomer.step, Step::Silent);
        match step {
            Step::Silent => match newcomer.knock.receive(HELLO_LEN) {
                Got::Waits => Fate::Waits,
                Got::Over => Fate::Refused(Refusal::Unfinished.into()),
                Got::All(bytes) => self.greet(newcomer, &bytes),
            },
            Step::Greeted(mut proof) => match newcomer.proves(&mut proof) {
                Ok(true) if proof.welcome.encrypts() => self.encrypt(newcomer, proof),
                Ok(true) => Fate::Begins(Box::new(proof)),
                Ok(false) => newcomer.waits(Step::Greeted(proof)),
                Err(refused) => Fate::Refused(refused),
            },
            Step::Shaking(proof) => match proof.said.shake(&self.shared.settings.key, &newcomer.knock) {
                Veiled::Waits => newcomer.waits(Step::Shaking(proof)),
                Veiled::Refused(refused) => Fate::Refused(refused),
                Veiled::Done((opener, sealer)) => {
                    newcomer.step = Step::Beginning(Proof { opener, sealer, ..proof });
                    // What it says next may have come with what was decrypted already.
                    self.judge(newcomer)
                }
            },
            Step::Beginning(mut proof) => match newcomer.proves(&mut proof) {
                Ok(true) => Fate::Begins(Box::new(proof)),
                Ok(false) => newcomer.waits(Step::Beginning(proof)),
                Err(refused) => Fate::Refused(refused),
            },
        }
    }

    fn greet(&self, newcomer: &mut Newcomer, bytes: &[u8; HELLO_LEN]) -> Fate {
        let refuses = |why: Refusal| Fate::Refused(why.into());
        let hello = Hello::parse(bytes).filter(|hello| hello.kind == Kind::Hello);
        let Some(hello) = hello else { return refuses(Refusal::Nonsense) };
        let Some(nonce) = nonce() else { return refuses(Refusal::Unfinished) };
        let settings = &self.shared.settings;
        let here = (settings.me, settings.speaks());
        let peer = self.shared.peers.iter().position(|peer| peer.node == hello.from);
        let answer = hello.answer(settings.site, settings.group, here, |_| peer.is_some(), nonce);
        let said = Said { hello: *bytes, welcome: answer.encode() };
        let is_sent = newcomer.knock.send(&said.welcome);
        match (answer.kind, peer) {
            (Kind::Refused(why), _) => refuses(why),
            (Kind::Hello | Kind::Welcome, Some(peer)) if is_sent => {
                let (opener, sealer) = said.sealers(&settings.key);
                newcomer.waits(Step::Greeted(Proof { peer, said, welcome: answer, opener, sealer }))
            }
            (Kind::Hello | Kind::Welcome, _) => refuses(Refusal::Unfinished),
        }
    }

    /// It knows the key: this end proves that it does, and TLS begins.
    fn encrypt(&self, newcomer: &mut Newcomer, mut proof: Proof) -> Fate {
        let Some(peer) = self.shared.peers.get(proof.peer) else { return Fate::Waits };
        let connection = match veil::begin(&self.shared.settings, peer.node, false) {
            Ok(connection) => connection,
            Err(refused) => return Fate::Refused(refused),
        };
        let is_sent = newcomer.knock.send(begun(&mut proof.sealer).front());
        if !is_sent || newcomer.knock.secure(connection).is_err() {
            return Fate::Refused(Refusal::Unfinished.into());
        }
        newcomer.waits(Step::Shaking(proof))
    }
}

impl Newcomer {
    fn waits(&mut self, step: Step) -> Fate {
        self.step = step;
        Fate::Waits
    }

    /// Whether its first sealed frame came.
    fn proves(&mut self, proof: &mut Proof) -> Result<bool, Refused> {
        match self.knock.receive(BARE_LEN) {
            Got::Waits => Ok(false),
            Got::Over => Err(veil::over(&self.knock)),
            Got::All(bytes) if is_begun(&mut proof.opener, bytes.get(..BARE_LEN).unwrap_or_default()) => {
                Ok(true)
            }
            Got::All(_) => {
                self.knock.send(&Hello { kind: Kind::Refused(Refusal::Key), ..proof.welcome }.encode());
                Err(Refusal::Key.into())
            }
        }
    }
}

/// Nobody is there, or who was has left.
const fn is_passing(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}
