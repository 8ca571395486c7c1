//! Streams between holders: what is sent arrives in order, and once, or the stream breaks. Nothing of one
//! that broke arrives later (`bulkhead_core::holder`; F35, F36, F38 to F41).

use std::collections::{BTreeMap, VecDeque};

use bulkhead_core::holder::words::Word;
use bulkhead_core::id::{Epoch, NodeId, Path};
use bulkhead_core::log::Seq;

use super::Told;
use super::drive::Cell;
use super::ledger::Entry;
use crate::world::{Due, World};

/// How often the streams are looked at, microseconds.
const LOOK: u64 = 25_000;

/// What holders send each other.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Word(Box<Word>),
    Write { epoch: Epoch, seq: Seq, entry: Entry },
    Fill { epoch: Epoch, first: u64, cells: Vec<Cell> },
    Filled { epoch: Epoch, upto: Seq },
}

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
    wires: BTreeMap<(NodeId, NodeId), Wire>,
}

#[derive(Debug, Default)]
struct Pair {
    /// Counts the streams.
    stream: u64,
    is_up: bool,
    /// One does not hear the other since.
    silent_since: Option<u64>,
    /// They do not meet again before then.
    meets_at: u64,
}

#[derive(Debug, Default)]
struct Wire {
    queue: VecDeque<(u64, Message)>,
    newest_at: u64,
}

fn both(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}

impl World {
    /// The delay from one to the other; `None`: both networks are cut.
    fn delay(&mut self, from: NodeId, to: NodeId) -> Option<u64> {
        let paths = Path::ALL.into_iter().map(|path| self.network.quality(from, to, path));
        let quality = paths.into_iter().find(|quality| !quality.is_cut)?;
        // What is lost or bent is sent again.
        let again = if self.chance.happens(quality.loss + quality.bent) { 30_000 } else { 0 };
        Some(quality.delay + self.chance.below(quality.jitter + 1) + again)
    }

    /// Sends, if the stream is still there.
    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, stream: u64, message: Message) {
        let is_there = |pair: &Pair| pair.is_up && pair.stream == stream;
        if !self.whole(from).streams.pairs.get(&both(from, to)).is_some_and(is_there) {
            return;
        }
        let wait = self.delay(from, to).unwrap_or(LOOK);
        let now = self.now;
        let wire = self.whole_mut(from).streams.wires.entry((from, to)).or_default();
        wire.newest_at = (wire.newest_at + 1).max(now + wait);
        let (at, is_first) = (wire.newest_at, wire.queue.is_empty());
        wire.queue.push_back((at, message));
        if is_first {
            self.schedule(at, Due::Carried { from, to, stream });
        }
    }

    /// The first of what is on its way arrives, and what came with it.
    pub(crate) fn carried(&mut self, from: NodeId, to: NodeId, stream: u64) {
        if self.whole(from).streams.pairs.get(&both(from, to)).is_none_or(|pair| pair.stream != stream) {
            return;
        }
        if self.delay(from, to).is_none() {
            // It is sent again until the stream is given up.
            return self.schedule(self.now + LOOK, Due::Carried { from, to, stream });
        }
        let now = self.now;
        let Some(wire) = self.whole_mut(from).streams.wires.get_mut(&(from, to)) else { return };
        let count = wire.queue.iter().take_while(|(at, _)| *at <= now).count();
        let arrived: Vec<_> = wire.queue.drain(..count).map(|(_, message)| message).collect();
        if let Some((at, _)) = wire.queue.front() {
            let at = *at;
            self.schedule(at, Due::Carried { from, to, stream });
        }
        let start = self.machines[&to].starts;
        self.is_told(to, start, Told::Frames(from, stream, arrived));
    }

    /// Streams break and are met.
    pub(crate) fn look_at_streams(&mut self) {
        for pair in 0..self.groups.len() {
            let holders = self.holders(pair);
            for (place, one) in holders.iter().enumerate() {
                for other in &holders[place + 1..] {
                    self.look_at(*one, *other);
                }
            }
        }
        self.schedule(self.now + LOOK, Due::Streams);
    }

    fn look_at(&mut self, one: NodeId, other: NodeId) {
        let is_open = |node: NodeId| self.machines[&node].group.shell.is_some();
        let is_awake = |node: NodeId| !self.machines[&node].sleeps;
        let (run, hear) = (is_open(one) && is_open(other), is_awake(one) && is_awake(other));
        let hear = hear && self.delay(one, other).is_some() && self.delay(other, one).is_some();
        let patience = self.chance.between(100_000, 600_000);
        let breaks = !self.is_healed && self.chance.happens(2);
        let now = self.now;
        let pair = self.whole_mut(one).streams.pairs.entry((one, other)).or_default();
        match (pair.is_up, hear) {
            (true, true) if breaks => self.break_stream(one, other),
            (true, true) => pair.silent_since = None,
            (true, false) => {
                if *pair.silent_since.get_or_insert(now) + patience < now {
                    self.break_stream(one, other);
                }
            }
            (false, true) if run && pair.meets_at <= now => self.meet(one, other),
            (false, _) => {}
        }
    }

    fn meet(&mut self, one: NodeId, other: NodeId) {
        let Some(pair) = self.whole_mut(one).streams.pairs.get_mut(&(one, other)) else { return };
        pair.stream += 1;
        pair.is_up = true;
        pair.silent_since = None;
        let stream = pair.stream;
        for (me, peer) in [(one, other), (other, one)] {
            let at = self.now + self.chance.between(10, 5_000);
            // What is sent on it arrives when it is met there, too.
            let wire = Wire { queue: VecDeque::new(), newest_at: at };
            self.whole_mut(one).streams.wires.insert((peer, me), wire);
            self.tell(me, at, Told::Met(peer, stream));
        }
    }

    /// Whatever is on its way is lost.
    fn break_stream(&mut self, one: NodeId, other: NodeId) {
        let at = self.pair_of(one);
        let streams = &mut self.groups[at].streams;
        let Some(pair) = streams.pairs.get_mut(&both(one, other)) else { return };
        if !std::mem::take(&mut pair.is_up) {
            return;
        }
        pair.stream += 1;
        pair.meets_at = self.now + self.chance.between(25_000, 300_000);
        streams.wires.remove(&(one, other));
        streams.wires.remove(&(other, one));
        for (me, peer) in [(one, other), (other, one)] {
            let at = self.now + self.chance.between(10, 20_000);
            self.tell(me, at, Told::Gone(peer));
        }
    }

    /// A holder is gone, and all its streams with it.
    pub(crate) fn break_streams(&mut self, node: NodeId) {
        for other in self.holders(self.pair_of(node)) {
            self.break_stream(node, other);
        }
    }
}
