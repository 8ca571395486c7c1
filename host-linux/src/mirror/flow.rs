//! How writes flow through a group's thread: what other holders say goes to the machine, what may be read is
//! shown, what others lack is sent (S4-03, S4-07, X07).

use super::group::{Group, Offered, end};
use super::handle::lock;
use super::tape::Found;
use super::tenant;
use super::window::{Entry, Unknown};
use crate::cluster::clock;
use crate::replication::words::Frame;
use crate::storage::buffers::{Payload, Piece};
use crate::storage::job::Fault;
use crate::storage::space::ReadId;
use crate::volume::catalogue::{Catalogue, Change};
use bulkhead_core::holder::words::Event;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::{Volume, Write};
use bulkhead_core::log::{BLOCK_LEN, Seq};
use bulkhead_core::mirror::secondary::Following;
use bulkhead_core::volume::CATALOGUE;

/// Extents of what is dirty that memory has room for, some 100 bytes each: zeroes are nothing but that.
pub(super) const EXTENTS_MAX: usize = 1 << 18;

impl Group {
    /// A frame came, and waits for its turn. What was told of commit points is told by the last one.
    pub(super) fn arrived(&mut self, node: NodeId, frame: Frame) {
        let peer = self.peers.entry(node).or_default();
        if !peer.hears(frame) {
            self.babbles(node);
        }
    }

    /// Takes what the other holders said, each in its order, as far as the log has room for it.
    pub(super) fn hear(&mut self) {
        for node in self.peers.keys().copied().collect::<Vec<_>>() {
            while let Some(frame) = self.peers.get_mut(&node).and_then(super::peer::Peer::next_heard) {
                if let Some(frame) = self.heard(node, frame) {
                    if let Some(peer) = self.peers.get_mut(&node) {
                        peer.unhear(frame);
                    }
                    break;
                }
            }
        }
    }

    /// Takes one frame; gives it back when there is no room for it now.
    fn heard(&mut self, from: NodeId, frame: Frame) -> Option<Frame> {
        match frame {
            Frame::Word(word) if self.looks_first(from, &word) => return Some(Frame::Word(word)),
            Frame::Word(word) => self.step(Event::Heard { from, word: &word }),
            Frame::Write { epoch, made, seq, write, sums, payload } => {
                let entry = Entry { seq, made, write, sums, piece: payload, at: None, done: None };
                match self.offer(Some((from, epoch)), entry) {
                    Offered::Taken | Offered::Refused(_) => {}
                    Offered::Busy(Entry { sums, piece: payload, .. }) => {
                        return Some(Frame::Write { epoch, made, seq, write, sums, payload });
                    }
                }
            }
            Frame::Fill { epoch, write, payload, .. } => {
                self.fill_with(Following { primary: from, epoch }, &write, payload);
            }
            Frame::Filled { epoch, .. } if self.holder.primary().is_some() => self.is_filled(from, epoch),
            Frame::Filled { epoch, upto } => self.fill_ended(Following { primary: from, epoch }, upto),
            Frame::Compare { epoch, blocks, digests } => {
                self.compare_with(Following { primary: from, epoch }, blocks, digests);
            }
            Frame::Differs { epoch, .. } | Frame::Compared { epoch, .. } => self.answered(from, epoch, frame),
            Frame::Wants { epoch, upto, blocks } => self.is_asked(from, epoch, upto, blocks),
            Frame::Mend { write, payload, .. } => self.is_mended(from, &write, payload.as_ref()),
            Frame::Lacks { blocks, .. } => self.is_lacked(from, blocks),
            Frame::Member { epoch, is_in } => {
                let peer = self.peers.entry(from).or_default();
                peer.counts_us = is_in.then_some(epoch);
            }
        }
        None
    }

    /// Sends the other holders what they lack.
    pub(super) fn send(&mut self) {
        let mut anew = Vec::new();
        for (node, peer) in &mut self.peers {
            let Some(missing) = peer.send(&self.window, &*self.streams) else { continue };
            let Some(log) = self.holder.log() else { continue };
            self.next_read = self.next_read.wrapping_add(1);
            if let Ok(false) = peer.tape.ask(ReadId(self.next_read), missing, log, &mut self.space) {
                // The log was trimmed while the write waited to be sent.
                anew.push(*node);
            }
        }
        // Offered to be fed again, it says what it lacks, and is filled if the log has that no more.
        for node in anew {
            self.meet(node);
        }
    }

    /// Tells each other holder whether the register has it in the in-sync set: only who leads knows.
    pub(super) fn tell_members(&mut self) {
        let Some(primary) = self.holder.primary() else { return };
        let (epoch, chosen) = (primary.epoch(), primary.chosen().holders());
        for (node, peer) in &mut self.peers {
            let is_in = chosen.iter().any(|one| one.node == *node);
            if peer.counted != Some((epoch, is_in))
                && let Some(stream) = peer.stream
            {
                peer.counted = Some((epoch, is_in));
                self.streams.send(stream, vec![Frame::Member { epoch, is_in }]);
            }
        }
    }

    /// Makes readable what may be read, as far as memory has room for what it takes.
    pub(super) fn show(&mut self) {
        while let Some(next) = self.apply.next() {
            if EXTENTS_MAX <= lock(&self.shared.dirty).extents() {
                return;
            }
            let Some(entry) = self.window.get(next) else { return self.read_log(next) };
            let is_shown = self.is_shown(entry.write.volume());
            if is_shown {
                lock(&self.shared.dirty).insert(entry);
            }
            let (write, piece) = (entry.write, entry.piece.clone());
            self.shown(&write, piece.as_ref());
        }
    }

    /// What was written into a volume while it was deleted goes nowhere; and nothing does by a holder that
    /// has no store.
    fn is_shown(&self, volume: Volume) -> bool {
        let is_there = || volume == CATALOGUE || lock(&self.shared.catalogue).get(volume).is_some();
        self.has_store() && is_there()
    }

    /// As [`Self::show`], of a write that was read from the log, and is read there again.
    fn show_logged(&mut self, entry: &Entry) {
        if self.is_shown(entry.write.volume()) && !lock(&self.shared.dirty).insert_logged(entry) {
            self.failed = Some("the index of the log has no room for all of it".into());
        }
        self.shown(&entry.write, entry.piece.as_ref());
    }

    fn shown(&mut self, write: &Write, piece: Option<&Piece>) {
        self.apply.shown(clock::now());
        if write.volume() == CATALOGUE {
            self.catalogue_written(write, piece);
        }
        self.fillers_see(write);
    }

    fn read_log(&mut self, next: Seq) {
        let id = self.read_id();
        let Some(log) = self.holder.log() else { return };
        if let Ok(false) = self.apply.tape.ask(id, next, log, &mut self.space) {
            self.failed = Some(format!("write {} is safe, and not in this holder's log", next.0));
        }
    }

    /// The catalogue says something else now.
    fn catalogue_written(&mut self, write: &Write, piece: Option<&Piece>) {
        let bytes = piece.map(|piece| piece.bytes()).unwrap_or_default();
        for (number, block) in (write.first().0..).zip(bytes.chunks(BLOCK_LEN)) {
            self.damaged.remove(&number);
            let taken = lock(&self.shared.catalogue).take(number, block);
            match taken {
                Ok(Change::Same | Change::Resized { .. }) => {}
                // What the number had before is void.
                Ok(Change::Made(record) | Change::Deleted(record)) => {
                    lock(&self.shared.dirty).forget(record.volume);
                    self.fillers.values().for_each(|filler| filler.renewed(record.volume));
                    lock(&self.shared.risk).remove(record.volume);
                    if self.has_store() {
                        self.applier.ask(super::applier::Job::Remove(record.volume));
                    }
                }
                Err(failure) => self.last_error = Some(failure.what),
            }
        }
        self.catalogue_changed();
    }

    /// A piece of the log was read, for this store or for another holder.
    pub(super) fn have_read(&mut self, id: ReadId, result: Result<Payload, Fault>) {
        let kept = self.holder.kept();
        let mut result = Some(result);
        if let Some(read) = result.take_if(|_| self.apply.tape.awaits(id)) {
            match self.apply.tape.have(id, read, kept) {
                Found::Other | Found::Nothing => {}
                Found::Writes(entries) => {
                    for entry in &entries {
                        if self.apply.next() == Some(entry.seq) {
                            self.show_logged(entry);
                        }
                    }
                }
                Found::Lost(seq) => {
                    self.failed = Some(format!("write {} is safe, and cannot be read in the log", seq.0));
                }
            }
            return;
        }
        let mut unreadable = None;
        for (node, peer) in &mut self.peers {
            let Some(read) = result.take_if(|_| peer.tape.awaits(id)) else { continue };
            match peer.tape.have(id, read, kept) {
                Found::Other | Found::Nothing => {}
                Found::Writes(entries) => peer.send_read(&entries, &*self.streams),
                Found::Lost(seq) => unreadable = Some((*node, seq)),
            }
        }
        if let Some((node, seq)) = unreadable {
            let (write, lacks) = (seq.0, node.0);
            let text =
                format!("write {write} cannot be read in the log; node {lacks}, which lacks it, is filled");
            self.last_error = Some(text);
            self.step(Event::Unreadable(seq));
            self.meet(node);
        }
    }

    /// The log holds nothing any more.
    pub(super) fn remade(&mut self) {
        end(self.acks.forsake(), Err(Unknown));
        end(self.window.cut(Seq(0)), Err(Unknown));
        lock(&self.shared.dirty).clear();
        let applied = self.holder.applied();
        self.apply.restart(applied, applied);
        self.tell_filled();
        match tenant::catalogue(&self.shared.store) {
            Ok(catalogue) => {
                if self.tenant.is_none() {
                    self.remove_others(&catalogue);
                }
                *lock(&self.shared.catalogue) = catalogue;
                self.damaged.clear();
            }
            Err(failure) => self.last_error = Some(failure.what),
        }
        self.catalogue_changed();
    }

    /// Of volumes that the store has, and the list of them not, nothing is left.
    fn remove_others(&self, catalogue: &Catalogue) {
        for volume in self.shared.store.volumes() {
            if volume != CATALOGUE && catalogue.get(volume).is_none() {
                self.applier.ask(super::applier::Job::Remove(volume));
            }
        }
    }
}
