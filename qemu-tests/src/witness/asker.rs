//! A node as far as a witness sees it: a session, and questions to its voter, one at a time (S1-17, V10).
//! What the benchmark asks with.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, Path, SiteId};
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::link::links::{Links, Received, Settings};
use bulkhead_core::link::ring::Pace;
use bulkhead_core::link::suspicion::Limits;
use bulkhead_core::node::message::{Said, decode, encode};
use bulkhead_core::node::roster::Roster;
use bulkhead_core::node::settings::{Digest, infra_register};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::message::{Ask, AskId, Reply, Request};
use bulkhead_core::time::Instant as Moment;

/// A question that is not answered within this time was lost, and is asked again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest datagram of a link, and some.
const DATAGRAM_MAX: usize = 512;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A promise: on the card or the disk before it is given.
    Promise,
    /// What the voter holds: nothing is written.
    Read,
}

/// Who asks whom about what.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The site.
    pub site: SiteId,
    /// Its key.
    pub key: [u8; 32],
    /// Who asks.
    pub node: NodeId,
    /// Who is asked.
    pub witness: NodeId,
    /// The pair of who asks, about whose register.
    pub pair: PairId,
    /// Who votes on it, in the order of their numbers.
    pub infra: Vec<NodeId>,
    /// Who votes on the controller's.
    pub controller: Vec<NodeId>,
    /// Where the witness receives.
    pub to: [SocketAddr; 2],
}

/// A node that asks.
#[derive(Debug)]
pub struct Asker {
    ticket: Ticket,
    links: Links<1>,
    sockets: [UdpSocket; 2],
    begun: Instant,
    ask: u32,
    asked: Option<(Question, Instant)>,
    /// Whether the witness was told who votes: before that, it gives no vote.
    is_told: bool,
}

impl Asker {
    /// A node that receives on `sockets`, which the witness knows as its. `start` is another for each.
    ///
    /// # Errors
    /// When the sockets cannot be used.
    pub fn new(ticket: Ticket, sockets: [UdpSocket; 2], start: u64) -> Result<Self> {
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        let Timers { heartbeat, slow, silence, stable, .. } = Timers::DEFAULT;
        let begun = Instant::now();
        let mut nonce = [0; 16];
        let (low, high) = nonce.split_at_mut(8);
        low.copy_from_slice(&start.to_le_bytes());
        high.copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
        let settings = Settings {
            site: ticket.site,
            me: ticket.node,
            nonce: Nonce(nonce),
            key: SiteKey::new(ticket.key),
            heartbeat,
            limits: Limits { slow, silence, stable },
        };
        let mut links = Links::new(Moment::ZERO, settings);
        links.add(Moment::ZERO, ticket.witness, Pace::Close);
        Ok(Self { ticket, links, sockets, begun, ask: 0, asked: None, is_told: false })
    }

    /// Whether there is a session.
    pub fn is_connected(&self) -> bool {
        self.links.contacted(self.ticket.witness)
    }

    /// Does what is due; how long the answer took, when one came.
    ///
    /// # Errors
    /// When the system refuses to send.
    pub fn turn(&mut self) -> Result<Option<Duration>> {
        let mut took = None;
        let mut buffer = [0; DATAGRAM_MAX];
        for path in Path::ALL {
            while let Ok(length) = self.socket(path).recv(&mut buffer) {
                let now = self.now();
                let bytes = buffer.get(..length).unwrap_or_default();
                if let Received::Message { message, .. } = self.links.receive(now, path, bytes) {
                    took = took.or(self.answered(message));
                }
            }
        }
        while let Some(out) = self.links.next_due(self.now()) {
            for path in Path::ALL.into_iter().filter(|path| out.path.is_none_or(|one| one == *path)) {
                self.send(path, &out.datagram)?;
            }
        }
        let now = self.now();
        self.links.judge(now, |_, _| ());
        if self.asked.is_some_and(|(_, at)| PATIENCE < at.elapsed()) {
            self.asked = None;
            self.is_told = false;
        }
        Ok(took)
    }

    /// Asks, unless an answer is waited for.
    ///
    /// # Errors
    /// When the system refuses to send.
    pub fn ask(&mut self, question: Question) -> Result<()> {
        if self.asked.is_some() {
            return Ok(());
        }
        self.ask = self.ask.wrapping_add(1);
        let body = match question {
            // Higher each time, also than in a run before on the same card.
            Question::Promise => {
                let round = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros();
                let ballot = Ballot::new(u64::try_from(round)?, self.ticket.node);
                Ask::Prepare { ballot, fenced: None }
            }
            Question::Read => Ask::Read,
        };
        if !self.is_told {
            self.is_told = true;
            let Ticket { pair, infra, controller, .. } = &self.ticket;
            let named = |nodes: &[NodeId]| nodes.iter().copied().collect();
            let (infra, controller) = (named(infra), named(controller));
            self.say(&Said::Roster(Roster { digest: Digest::default(), pair: *pair, infra, controller }))?;
        }
        let request = Request { register: infra_register(self.ticket.pair), ask: AskId(self.ask), body };
        self.asked = Some((question, Instant::now()));
        self.say(&Said::Request(request))
    }

    /// As a node does: on both paths at once.
    fn say(&mut self, said: &Said) -> Result<()> {
        let datagram = self.links.seal(self.ticket.witness, &encode(said));
        let datagram = datagram.ok().context("there is no session")?;
        Path::ALL.into_iter().try_for_each(|path| self.send(path, &datagram))
    }

    fn answered(&mut self, message: &[u8]) -> Option<Duration> {
        let Some(Said::Answer(answer)) = decode(message) else { return None };
        let (question, at) = self.asked?;
        let fits = match question {
            Question::Promise => matches!(answer.body, Reply::Promised { .. }),
            Question::Read => matches!(answer.body, Reply::State { .. }),
        };
        (answer.ask == AskId(self.ask) && fits).then(|| {
            self.asked = None;
            at.elapsed()
        })
    }

    fn send(&self, path: Path, bytes: &[u8]) -> Result<()> {
        let [one, two] = self.ticket.to;
        let to = if path == Path::One { one } else { two };
        // A witness that is off refuses it.
        let _ = self.socket(path).send_to(bytes, to);
        Ok(())
    }

    const fn socket(&self, path: Path) -> &UdpSocket {
        let [one, two] = &self.sockets;
        match path {
            Path::One => one,
            Path::Two => two,
        }
    }

    fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
