//! All peers together: handshakes, heartbeats on both paths, delivery, verdicts (S1-09, S3-01, S3-02, V16,
//! V22).
//!
//! The shell gives every datagram to [`Links::receive`], asks [`Links::judge`] for verdicts that changed, and
//! then sends everything [`Links::next_due`] returns: after that, [`Links::deadline`] is ahead. A message
//! goes out by [`Links::seal`], the same bytes on both paths; the copy that comes second is dropped.

use core::time::Duration;

use heapless::Vec;

use super::agenda::{Agenda, Judged};
use super::frame::{Datagram, Frame};
use super::hello::Versions;
use super::key::{Mark, Nonce};
use super::peer::{Paces, Peer, Taken};
use super::ring::Pace;
use super::suspicion::Verdict;
use super::tally::Account;
use crate::id::{NodeId, Path};
use crate::time::Instant;

pub use super::words::{
    Drop, Drops, MESSAGE_MAX, Message, NoSession, Outgoing, PathStatus, Received, Settings,
};

/// The links of this node to up to `PEERS` others. What nothing hangs on is kept of the first `SHOWN`: a full
/// node shows all of them to its operator, a witness on a microcontroller none.
#[derive(Clone, Debug)]
pub struct Links<const PEERS: usize, const SHOWN: usize = PEERS> {
    settings: Settings,
    paces: Paces,
    peers: Vec<Peer, PEERS>,
    /// What is shown of the first `SHOWN` peers, in the order of the peers.
    shown: Vec<Account, SHOWN>,
    /// The challenge to answer with the next hello. A peer whose challenge is forgotten asks again.
    owed: Option<(NodeId, Nonce)>,
    /// Since when this node has been able to hear: its start, or the end of its last sleep.
    listening: Instant,
    /// When anything was asked of this machine last.
    noticed: Instant,
    agenda: Agenda,
    /// How many peers were removed in this start.
    forgotten: u32,
    drops: Drops,
}

impl<const PEERS: usize, const SHOWN: usize> Links<PEERS, SHOWN> {
    /// Links to nobody yet.
    ///
    /// # Panics
    ///
    /// If the times contradict each other: they are derived and checked before they come here.
    // Made where it stays: with a hundred peers, a microcontroller has no room for it twice.
    #[inline(always)]
    pub fn new(now: Instant, settings: Settings) -> Self {
        let Settings { heartbeat, limits, .. } = &settings;
        assert!(!heartbeat.is_zero(), "a heartbeat without a pause never ends");
        assert!(*heartbeat < limits.slow, "a peer would be slow between any two heartbeats");
        assert!(limits.slow < limits.silence, "slow is not silent");
        let drops = Drops::default();
        let (peers, shown) = (Vec::new(), Vec::new());
        let (owed, agenda, forgotten) = (None, Agenda::default(), 0);
        let (paces, listening, noticed) = (Paces::new(&settings), now, now);
        Self { settings, paces, peers, shown, owed, listening, noticed, agenda, forgotten, drops }
    }

    /// Begins to speak with `node`, at a pace that is the same at its end. `false` when there is no room.
    /// Adding it again changes nothing.
    pub fn add(&mut self, now: Instant, node: NodeId, pace: Pace) -> bool {
        if self.peer(node).is_some() {
            return true;
        }
        let added = self.peers.push(Peer::new(now, node, pace, self.forgotten)).is_ok();
        if added {
            // Without room there is nothing to show of it.
            let _ = self.shown.push(Account::default());
            self.agenda.renew();
        }
        added
    }

    /// Speaks with `node` at another pace from now on. Until its end does so, too, one of the two is heard
    /// less often than it is expected.
    pub fn set_pace(&mut self, now: Instant, node: NodeId, pace: Pace) {
        let settings = &self.settings;
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) {
            peer.set_pace(now, pace, settings);
            self.agenda.renew();
        }
    }

    /// Stops speaking with `node`. It may be added again: nothing of the old session counts in the new one.
    pub fn remove(&mut self, node: NodeId) {
        let Some(place) = self.peers.iter().position(|peer| peer.node == node) else { return };
        self.peers.remove(place);
        if place < self.shown.len() {
            self.shown.remove(place);
        }
        self.forgotten = self.forgotten.saturating_add(1);
        self.agenda.renew();
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

    /// The start of `node` that this node speaks with.
    pub fn start_of(&self, node: NodeId) -> Option<Mark> {
        self.peer(node).and_then(|peer| peer.session.as_ref()).map(|session| session.theirs)
    }

    /// The version spoken with `node`.
    pub fn version_with(&self, node: NodeId) -> Option<u16> {
        self.peer(node).and_then(|peer| peer.session.as_ref()).map(|session| session.version)
    }

    /// One path to `node`, if it is shown.
    pub fn path(&self, node: NodeId, path: Path) -> Option<PathStatus> {
        let place = self.peers.iter().position(|peer| peer.node == node)?;
        let (peer, mut shown) = (self.peers.get(place)?, self.shown.get(place)?.clone());
        let [one, two] = &peer.paths;
        let (state, tally) = (path.pick(one, two), shown.path(path));
        Some(PathStatus {
            heard: state.heard(),
            round_trip: state.round_trip(),
            round_trips: tally.round_trips(),
            loss_permille: tally.loss_permille(),
            beats: (peer.beats, tally.received()),
        })
    }

    /// How often a new start of `node` took the place of an old one.
    pub fn restarts(&self, node: NodeId) -> u32 {
        self.shown(node).map_or(0, |shown| shown.restarts)
    }

    /// What `node` speaks, when it is no version that this node speaks (V41).
    pub fn refused(&self, node: NodeId) -> Option<Versions> {
        self.shown(node).and_then(|shown| shown.refused)
    }

    /// How often `node` became silent.
    pub fn silences(&self, node: NodeId) -> u32 {
        self.shown(node).map_or(0, |shown| shown.silences)
    }

    /// What was dropped.
    pub const fn drops(&self) -> &Drops {
        &self.drops
    }

    /// For how long nothing was heard of `node` on any path while this node could hear; `None` before it was.
    pub fn unheard(&self, now: Instant, node: NodeId) -> Option<Duration> {
        let heard = self.peer(node)?.heard()?;
        Some(now.since(heard.max(self.listening)))
    }

    /// When [`Self::next_due`] and [`Self::judge`] have something to say; sooner, now and then, never later.
    pub fn deadline(&self) -> Option<Instant> {
        if self.owed.is_some() {
            return Some(Instant::ZERO);
        }
        // Whoever is called more seldom takes itself for asleep.
        self.agenda.due().map(|due| due.min(self.noticed.after(self.settings.heartbeat)))
    }

    /// Judges all peers of whom there may be news, and tells whose verdict is another than before. Called at
    /// least every heartbeat, so that a longer gap means that this node itself has slept.
    pub fn judge(&mut self, now: Instant, mut changed: impl FnMut(NodeId, Verdict)) {
        self.notice(now);
        match self.agenda.judged(now) {
            Judged::Nobody => {}
            Judged::One(place) => self.judge_one(now, place, &mut changed),
            Judged::All => (0..self.peers.len()).for_each(|place| self.judge_one(now, place, &mut changed)),
        }
    }

    fn judge_one(&mut self, now: Instant, place: usize, changed: &mut dyn FnMut(NodeId, Verdict)) {
        let Some(peer) = self.peers.get_mut(place) else { return };
        let before = peer.suspicion.verdict();
        let after = peer.judge(now, self.listening, &self.paces);
        if before == after {
            return;
        }
        if let (Verdict::Silent, Some(shown)) = (after, self.shown.get_mut(place)) {
            shown.silences = shown.silences.saturating_add(1);
        }
        self.agenda.expect(peer.deadline(self.listening, &self.paces));
        changed(peer.node, after);
    }

    /// Whoever was not called for so long did not hear either: it must listen before it judges (F19).
    fn notice(&mut self, now: Instant) {
        if self.settings.limits.slow < now.since(self.noticed) {
            self.listening = now;
        }
        self.noticed = now;
    }

    /// The next datagram that is due, until `None`.
    pub fn next_due(&mut self, now: Instant) -> Option<Outgoing> {
        let settings = &self.settings;
        if let Some((node, owed)) = self.owed.take()
            && let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node)
        {
            return Some(peer.hello(now, Some(owed), settings));
        }
        while let Some(place) = self.agenda.turn(now) {
            let Some(peer) = self.peers.get_mut(place) else {
                // Whoever is due to be judged still is.
                self.agenda.end();
                break;
            };
            if let Some(due) = peer.next_due(now, settings) {
                return Some(due);
            }
            self.agenda.pass(peer.deadline(self.listening, &self.paces));
        }
        None
    }

    /// Makes the datagram that carries `message` to `to`. Sent on both paths, and sealed anew for each
    /// repetition.
    ///
    /// # Errors
    ///
    /// [`NoSession`].
    ///
    /// # Panics
    ///
    /// If `message` is longer than [`MESSAGE_MAX`]: a defect of the caller.
    pub fn seal(&mut self, to: NodeId, message: &[u8]) -> Result<Datagram, NoSession> {
        let peer = self.peers.iter_mut().find(|peer| peer.node == to).ok_or(NoSession)?;
        peer.message(&self.settings, message).ok_or(NoSession)
    }

    /// Takes a datagram that came on `path`.
    #[inline(never)]
    pub fn receive<'a>(&mut self, now: Instant, path: Path, bytes: &'a [u8]) -> Received<'a> {
        self.notice(now);
        let received = match self.take(now, path, bytes) {
            Ok(received) => received,
            Err(drop) => Received::Dropped(drop),
        };
        if let Received::Dropped(drop) = received {
            self.drops.count(drop);
        }
        received
    }

    fn take<'a>(&mut self, now: Instant, path: Path, bytes: &'a [u8]) -> Result<Received<'a>, Drop> {
        let frame = Frame::parse(bytes).map_err(Drop::NotAFrame)?;
        let settings = &self.settings;
        if frame.header.site != settings.site || frame.header.to != settings.me {
            return Err(Drop::NotForUs);
        }
        let from = frame.header.from;
        let place = self.peers.iter().position(|peer| peer.node == from).ok_or(Drop::Stranger)?;
        let (peer, shown) = (self.peers.get_mut(place).ok_or(Drop::Stranger)?, self.shown.get_mut(place));
        let taken = peer.take(now, self.listening, path, &frame, shown, (settings, &self.paces));
        // What is not authentic changes nothing (V22).
        if matches!(taken, Ok(_) | Err(Drop::Malformed)) {
            self.agenda.touch(place, peer.deadline(self.listening, &self.paces));
        }
        match taken? {
            Taken::Received(received) => Ok(received),
            Taken::Asked(challenge) => {
                self.owed = Some((from, challenge));
                Ok(Received::Handled)
            }
        }
    }

    fn shown(&self, node: NodeId) -> Option<&Account> {
        self.shown.get(self.peers.iter().position(|peer| peer.node == node)?)
    }

    fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.node == node)
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "walk_tests.rs"]
mod walk;

#[cfg(test)]
#[path = "agenda_tests.rs"]
mod agenda_tests;
