//! A node as far as a witness sees it: a session with heartbeats, what it tells and asks now and then, and
//! questions to its voter, one at a time (S1-17, V10). What the benchmark asks with.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{Epoch, NodeId, PairId, Path, SiteId};
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::link::links::{Links, Received, Settings};
use bulkhead_core::link::ring::Pace;
use bulkhead_core::link::suspicion::Limits;
use bulkhead_core::node::message::{Said, decode, encode};
use bulkhead_core::node::roster::Roster;
use bulkhead_core::node::settings::{CONTROLLER, Digest, infra_register};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::message::{Ask, AskId, Lending, Millis, Reply, Request, Start};
use bulkhead_core::register::record::{Payload, Record};
use bulkhead_core::register::voters::{Set, Voters};
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
    /// To accept this node as the holder, after a promise: durable, too.
    Hold,
    /// A lease for the holder: nothing is written.
    Lease,
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
    /// The timers of the site.
    pub timers: Timers,
    /// How closely the two watch each other.
    pub pace: Pace,
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
    /// The attempt that was promised last, and the epoch that was accepted before it.
    promised: (Ballot, Epoch),
    /// Whether this node was accepted as the holder.
    holds: bool,
    /// Questions that got no answer.
    lost: u32,
    /// When the witness is told again who votes: before the first time, it gives no vote.
    tell_at: Moment,
    /// When it is asked again who holds what this node does not.
    watch_at: Moment,
}

impl Asker {
    /// A node that receives on `sockets`, which the witness knows as its. `start` is another for each.
    ///
    /// # Errors
    /// When the sockets cannot be used.
    pub fn new(ticket: Ticket, sockets: [UdpSocket; 2], start: u64) -> Result<Self> {
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        let Timers { heartbeat, slow, silence, stable, .. } = ticket.timers;
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
        links.add(Moment::ZERO, ticket.witness, ticket.pace);
        Ok(Self {
            ticket,
            links,
            sockets,
            begun,
            ask: 0,
            asked: None,
            promised: (Ballot::NONE, Epoch(0)),
            holds: false,
            lost: 0,
            tell_at: Moment::ZERO,
            watch_at: Moment::ZERO,
        })
    }

    /// Whether there is a session.
    pub fn is_connected(&self) -> bool {
        self.links.contacted(self.ticket.witness)
    }

    /// Whether an answer is waited for.
    pub const fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// How many questions got no answer, or not for half a second.
    pub const fn lost(&self) -> u32 {
        self.lost
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
            self.lost = self.lost.wrapping_add(1);
        }
        if self.is_connected() {
            self.tell(now)?;
        }
        Ok(took)
    }

    /// As a node does it: who votes; and who holds the registers that this node does not.
    fn tell(&mut self, now: Moment) -> Result<()> {
        if self.tell_at <= now {
            self.tell_at = now.after(self.ticket.timers.listen);
            let Ticket { pair, infra, controller, .. } = &self.ticket;
            let named = |nodes: &[NodeId]| nodes.iter().copied().collect();
            let (infra, controller) = (named(infra), named(controller));
            self.say(&Said::Roster(Roster { digest: Digest::default(), pair: *pair, infra, controller }))?;
        }
        if self.watch_at <= now {
            self.watch_at = now.after(self.ticket.timers.watch);
            let (mine, holds) = (infra_register(self.ticket.pair), self.holds);
            for register in [CONTROLLER, mine].into_iter().filter(|one| !holds || *one != mine) {
                // No question of this node has the number 0: nobody waits for the answer.
                self.say(&Said::Request(Request { register, ask: AskId(0), body: Ask::Read }))?;
            }
        }
        Ok(())
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
        let body = self.body(question)?;
        let request = Request { register: infra_register(self.ticket.pair), ask: AskId(self.ask), body };
        self.asked = Some((question, Instant::now()));
        self.say(&Said::Request(request))
    }

    fn body(&mut self, question: Question) -> Result<Ask> {
        let lending = Lending {
            length: Millis::ceil(self.ticket.timers.lease),
            start: Start(self.ticket.node.0.into()),
        };
        Ok(match question {
            // Higher each time, also than in a run before on the same card.
            Question::Promise => {
                let round = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros();
                self.promised.0 = Ballot::new(u64::try_from(round)?, self.ticket.node);
                Ask::Prepare { ballot: self.promised.0, fenced: None }
            }
            Question::Hold => {
                let (ballot, Epoch(before)) = self.promised;
                let voters = Voters::settled(Set::on(self.ticket.infra.iter().copied())?);
                let (epoch, holder) = (Epoch(before.saturating_add(1)), Some(self.ticket.node));
                let record = Record { epoch, holder, voters, payload: Payload::new() };
                Ask::Accept { ballot, record, lease: Some(lending), fenced: None }
            }
            Question::Lease => Ask::Renew(lending),
            Question::Read => Ask::Read,
        })
    }

    /// As a node does: on both paths at once.
    fn say(&mut self, said: &Said) -> Result<()> {
        let datagram = self.links.seal(self.ticket.witness, &encode(said));
        let datagram = datagram.ok().context("there is no session")?;
        Path::ALL.into_iter().try_for_each(|path| self.send(path, &datagram))
    }

    fn answered(&mut self, message: &[u8]) -> Option<Duration> {
        let Some(Said::Answer(answer)) = decode(message) else { return None };
        let (question, at) = self.asked.filter(|_| answer.ask == AskId(self.ask))?;
        self.asked = None;
        match (question, answer.body) {
            (Question::Promise, Reply::Promised { accepted }) => {
                self.promised.1 = accepted.map(|(_, record)| record.epoch).unwrap_or_default();
            }
            (Question::Hold, Reply::Accepted) => self.holds = true,
            (Question::Lease, Reply::Granted { .. }) | (Question::Read, Reply::State { .. }) => {}
            (Question::Promise | Question::Hold | Question::Lease | Question::Read, _) => return None,
        }
        Some(at.elapsed())
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
