//! Carries out what the witness of the core decides: datagrams to the network, votes to the card (V10, V13,
//! X23).
//!
//! No answer leaves before its vote is on the card: the core asks for the write, the write is done before
//! anything else is, and only then is the core told so and answers. A card that fails ends the voting for
//! good; the witness goes on to say that it is alive.

use core::time::Duration;

use bulkhead_core::fence::desk::{Done, ORDERS_MAX};
use bulkhead_core::fence::strip::line::Counters;
use bulkhead_core::fence::words::Entry;
use bulkhead_core::id::Path;
use bulkhead_core::link::frame::Frame;
use bulkhead_core::node::health::History;
use bulkhead_core::node::machine::Witness;
use bulkhead_core::node::words::{Action, Event, Note};
use bulkhead_core::provision::Peer;
use bulkhead_core::provision::records::Book;
use bulkhead_core::register::acceptor::Mode;
use bulkhead_core::time::Instant;
use smoltcp::phy::Device;

use crate::card::{Blocks, Trouble};
use crate::hardware::Outlets;
use crate::network::{Arrived, DATAGRAM_MAX, Leased, Network, Taken};
use crate::store::Store;

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// From the core.
    Note(Note),
    /// The card failed: no votes from now on.
    CardFailed(Trouble),
    /// Somebody asked for the power of a node.
    Record(Entry),
    /// DHCP gave an address, or took it back.
    Leased(Leased),
}

/// Frames taken from the network before anything else gets its turn: a flood cannot starve the watchdog.
const FRAMES_MAX: usize = 16;

/// How often the card is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Orders that end in one turn: all that can be under way.
const ENDED_MAX: usize = ORDERS_MAX;

/// A witness with its network and its card.
#[allow(missing_debug_implementations, reason = "smoltcp's interface has none")]
pub struct Shell<'a, D: Device, B, const PEERS: usize, const REGISTERS: usize> {
    network: &'a mut Network<D>,
    store: &'a mut Store<B, REGISTERS>,
    witness: &'a mut Witness<PEERS, REGISTERS>,
    peers: &'a [Peer],
    outlets: &'a mut dyn Outlets,
    book: Book,
    /// Votes written since the start.
    written: u32,
    /// When the card is looked at again.
    look_at: Instant,
    /// How DHCP stood last.
    leased: Leased,
}

impl<'a, D: Device, B: Blocks, const PEERS: usize, const REGISTERS: usize> Shell<'a, D, B, PEERS, REGISTERS> {
    /// All parts together, borrowed: they are large, and a move is a copy.
    pub const fn new(
        network: &'a mut Network<D>,
        store: &'a mut Store<B, REGISTERS>,
        witness: &'a mut Witness<PEERS, REGISTERS>,
        peers: &'a [Peer],
        outlets: &'a mut dyn Outlets,
        book: Book,
    ) -> Self {
        Self {
            network,
            store,
            witness,
            peers,
            outlets,
            book,
            written: 0,
            look_at: Instant::ZERO,
            leased: Leased::NotAsked,
        }
    }

    /// The network.
    pub const fn network(&mut self) -> &mut Network<D> {
        self.network
    }

    /// The witness.
    pub const fn witness(&self) -> &Witness<PEERS, REGISTERS> {
        self.witness
    }

    /// The votes.
    pub const fn store(&mut self) -> &mut Store<B, REGISTERS> {
        self.store
    }

    /// What the power strip said that was no answer.
    pub fn strip(&self) -> Counters {
        self.outlets.counters()
    }

    /// Votes written since the start.
    pub const fn written(&self) -> u32 {
        self.written
    }

    /// Tells the core what the earlier starts came to.
    pub fn remember(&mut self, now: Instant, history: History, news: &mut dyn FnMut(News)) {
        self.step(now, Event::History(history), news);
    }

    /// Does what is due, a bounded part of it. `false` when there is nothing left to do before the next
    /// frame or [`Self::deadline`].
    pub fn turn(&mut self, clock: fn() -> Instant, news: &mut dyn FnMut(News)) -> bool {
        let mut busy = false;
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..FRAMES_MAX {
            match self.network.take_frame(clock(), &mut buffer) {
                Taken::Nothing => break,
                Taken::Frame => {}
                Taken::Datagram(arrived) => self.arrived(clock(), &arrived, &buffer, news),
            }
            busy = true;
        }
        let now = clock();
        if self.witness.deadline().is_some_and(|due| due <= now) {
            self.step(now, Event::Timeout, news);
            busy = true;
        }
        for _ in 0..ENDED_MAX {
            let Some((order, done)) = self.outlets.turn(clock()) else { break };
            self.step(clock(), Event::PowerDone { order, done }, news);
            busy = true;
        }
        self.network.serve(clock());
        let leased = self.network.leased();
        if core::mem::replace(&mut self.leased, leased) != leased {
            news(News::Leased(leased));
        }
        // Copies are made when nobody waits for anything.
        if !busy {
            match self.store.settle() {
                Ok(settled) => busy = settled,
                Err(trouble) => self.fail(clock(), trouble, news),
            }
        }
        if self.look_at <= now {
            self.look_at = now.after(LOOK);
            if let Err(trouble) = self.store.look() {
                self.fail(clock(), trouble, news);
            }
        }
        busy
    }

    /// When [`Self::turn`] has something to do even if no frame comes, and no outlet works.
    pub fn deadline(&self) -> Option<Instant> {
        self.witness.deadline()
    }

    fn arrived(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        buffer: &[u8; DATAGRAM_MAX],
        news: &mut dyn FnMut(News),
    ) {
        let Arrived { path, by, length, .. } = *arrived;
        let Some(bytes) = buffer.get(..length) else { return };
        // Whose it says to be; a network between may have given it another source.
        let claimed = Frame::parse(bytes).ok().map(|frame| frame.header.from);
        let place = self.peers.iter().position(|peer| Some(peer.member.node) == claimed);
        if let Some(place) = place {
            self.network.learn(place, path, by, false);
        }
        let dropped = self.witness.links().drops().all();
        self.step(now, Event::Received { path, bytes }, news);
        // What was not dropped is authentic: its peer is where it came from.
        if let Some(place) = place.filter(|_| dropped == self.witness.links().drops().all()) {
            self.network.learn(place, path, by, true);
        }
    }

    fn fail(&mut self, now: Instant, trouble: Trouble, news: &mut dyn FnMut(News)) {
        if self.witness.voter().is_some_and(|voter| voter.mode() == Mode::Voting) {
            news(News::CardFailed(trouble));
            self.step(now, Event::PersistFailed, news);
        }
    }

    fn step(&mut self, now: Instant, event: Event<'_>, news: &mut dyn FnMut(News)) {
        let Self { network, store, witness, peers, outlets, book, written, .. } = self;
        let (mut durable, mut failed) = (None, None);
        let mut nowhere = None;
        witness.step(now, event, &mut |action| match action {
            Action::Send { to, path, datagram } => {
                let found = peers.iter().enumerate().find(|(_, peer)| peer.member.node == to);
                let Some((place, peer)) = found else { return };
                let [one, two] = peer.paths;
                for (each, to) in [(Path::One, one), (Path::Two, two)] {
                    if path.is_none_or(|path| path == each) {
                        network.send(now, each, (place, to), &datagram);
                    }
                }
            }
            Action::Persist { id, place, bytes } => match store.persist(place, &bytes) {
                Ok(()) => {
                    *written = written.saturating_add(1);
                    durable = Some(id);
                }
                Err(trouble) => failed = Some(trouble),
            },
            Action::Note(note) => news(News::Note(note)),
            // A witness takes no office.
            Action::Fence(_) | Action::PowerOn { .. } | Action::Role { .. } | Action::Storage(_) => {}
            Action::Power { order, node, act } => {
                let peer = peers.iter().find(|peer| peer.member.node == node);
                let outlet = peer.and_then(|peer| peer.outlet);
                match outlet {
                    Some(outlet) => outlets.begin(now, order, outlet, act),
                    None => nowhere = Some(order),
                }
            }
            // Before the power is switched: the core names the record first. A card that fails ends the
            // votes, not the fence.
            Action::Record(entry) => {
                failed = failed.or(note(now, book, *store, entry));
                news(News::Record(entry));
            }
        });
        match (durable, failed) {
            (_, Some(trouble)) => self.fail(now, trouble, news),
            (Some(id), None) => self.step(now, Event::Persisted(id), news),
            (None, None) => {}
        }
        if let Some(order) = nowhere {
            self.step(now, Event::PowerDone { order, done: Done::Failed }, news);
        }
    }
}

/// Puts a fence on record on the card. Apart: the block lies on the stack only while it is written.
#[inline(never)]
fn note<B: Blocks, const REGISTERS: usize>(
    now: Instant,
    book: &mut Book,
    store: &mut Store<B, REGISTERS>,
    entry: Entry,
) -> Option<Trouble> {
    let (at, block) = book.add(now, entry)?;
    store.note(at, &block).err()
}
