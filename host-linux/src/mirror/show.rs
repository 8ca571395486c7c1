//! How a group is, put together for the commands and the status (S4-10, X14).

use super::group::Group;
use super::handle::{Latencies, lock};
use super::store::Damaged;
use super::view::{BlockView, CacheView, HolderView, Latency, LogView, MemoryView, Mode, Policy};
use super::view::{ScrubView, State, View};
use crate::cluster::clock;
use crate::volume::catalogue::bytes;
use bulkhead_core::holder::machine;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::Seq;
use bulkhead_core::mirror::membership;
use bulkhead_core::mirror::secondary;
use std::time::Duration;

/// The view is made anew so often at most, unless something has changed that decides who serves or how
/// many copies there are: who was told that a write is durable must not read here that it is in more
/// places than it is.
const EVERY: Duration = Duration::from_millis(100);

/// Damaged blocks that are shown; of the others the number.
const DAMAGED_SHOWN: usize = 16;

impl Group {
    /// Has others see how it is.
    pub(super) fn publish(&mut self) {
        let now = clock::now();
        let mode = mode(self.holder.mode());
        let primary = self.primary_node();
        if primary.is_some() {
            // What it once waited for is over.
            self.waits = None;
        }
        let old = lock(&self.shared.view);
        let is_other = (old.mode, old.primary) != (mode, primary.map(|node| node.0));
        let is_kept_otherwise = old.state != self.state(mode);
        drop(old);
        if !is_other && !is_kept_otherwise && self.shown_at.is_some_and(|at| now.since(at) < EVERY) {
            return;
        }
        self.shown_at = Some(now);
        if let Some(trouble) = self.shared.store.claims().trouble() {
            self.last_error = Some(trouble);
        }
        *lock(&self.shared.view) = self.show_all(mode, primary);
        if is_other {
            (self.shared.changed)();
        }
    }

    fn show_all(&mut self, mode: Mode, primary: Option<NodeId>) -> View {
        let dirty_bytes = bytes(lock(&self.shared.dirty).data_blocks());
        let free = u64::try_from(self.shared.pool.free()).unwrap_or(0);
        let all = u64::try_from(self.shared.pool_blocks).unwrap_or(0);
        let latency = |of: &Latencies| Latency { p50_us: of.percentile(50), p99_us: of.percentile(99) };
        let leads = self.holder.primary();
        let acts = leads.map(|primary| primary.chosen().policy()).unwrap_or(membership::Policy::Through);
        View {
            mode,
            state: self.state(mode),
            epoch: self.epoch(),
            leads: false,
            primary: primary.map(|node| node.0),
            waits: self.why_not().filter(|_| primary.is_none()),
            // The handle adds what the catalogue wants.
            wanted: Policy::default(),
            policy: acts.into(),
            holders: self.holders(),
            // The agent adds who votes.
            voters: Vec::new(),
            uncounted: Vec::new(),
            log: self.log_view(),
            dirty_bytes,
            part_filled: self.shared.store.is_part_filled(),
            full: self.full.clone(),
            scrub: self.scrub_view(),
            // The handle adds what is at this instant.
            at_risk_bytes: None,
            at_risk_max: None,
            held_writes: u64::try_from(self.acks.held()).unwrap_or(u64::MAX),
            memory: MemoryView { bytes: bytes(all), free_bytes: bytes(free) },
            placeholder: self.placeholder.view(&self.shared, self.holder.kept().ring.blocks(), clock::now()),
            // The handle adds how it is at this instant.
            cache: CacheView::default(),
            writes: latency(&self.shared.latencies),
            reads: latency(&self.shared.reads),
            // The handle adds those of the instant at which it is asked.
            volumes: Vec::new(),
            last_error: self.last_error.clone(),
        }
    }

    /// Why it does not lead.
    fn why_not(&self) -> Option<String> {
        if self.holder.recovers() {
            let what = "an operator has it lead with what it has; it waits for the voters";
            return Some(what.to_owned());
        }
        if let Some((node, epoch)) = self.holder.contradicted() {
            return Some(format!(
                "its log has writes that were acknowledged and that of node {}, which leads under epoch {}, \
                 has not: one of the two must be given up (docs/volumes.md, \"When nobody may lead\")",
                node.0, epoch.0
            ));
        }
        self.waits.clone()
    }

    fn primary_node(&self) -> Option<NodeId> {
        if self.holder.primary().is_some() {
            return Some(self.holder.me().node);
        }
        self.followed().map(|following| following.primary)
    }

    fn followed(&self) -> Option<secondary::Following> {
        let one = match self.holder.secondary()?.mode() {
            secondary::Mode::Following(one)
            | secondary::Mode::Behind(one)
            | secondary::Mode::Adopting(one) => one,
            secondary::Mode::Idle | secondary::Mode::Failed => return None,
        };
        // Whoever is gone may lead, and feeds nobody here.
        let stream = self.peers.get(&one.primary).and_then(|peer| peer.stream.as_ref());
        stream.filter(|_| !self.is_left_by(&one)).map(|_| one)
    }

    fn epoch(&self) -> u64 {
        let leads = self.holder.primary().map(|primary| primary.epoch());
        leads.or(self.followed().map(|one| one.epoch)).unwrap_or_default().0
    }

    fn state(&self, mode: Mode) -> State {
        if mode == Mode::Failed {
            return State::Failed;
        }
        if let Some(primary) = self.holder.primary() {
            let in_sync = primary.chosen().holders();
            let is_missing =
                |node: NodeId| !self.wanted.is_removed(node) && in_sync.iter().all(|one| one.node != node);
            let missing = || self.peers.iter().filter(|(node, _)| is_missing(**node));
            return match missing().next() {
                None if 1 < in_sync.len() => State::Synced,
                Some(_) if missing().any(|(_, peer)| peer.stream.is_some()) => State::Resyncing,
                Some(_) | None => State::Degraded,
            };
        }
        if self.wanted.is_removed(self.holder.me().node) || self.holder.contradicted().is_some() {
            return State::Stale;
        }
        let counts_us = |one: &secondary::Following| {
            self.peers.get(&one.primary).is_some_and(|peer| peer.counts_us == Some(one.epoch))
        };
        match self.holder.secondary().map(|one| one.mode()).filter(|_| self.followed().is_some()) {
            Some(secondary::Mode::Following(one)) if counts_us(&one) => State::Synced,
            Some(
                secondary::Mode::Following(_) | secondary::Mode::Behind(_) | secondary::Mode::Adopting(_),
            ) => State::Resyncing,
            Some(secondary::Mode::Idle | secondary::Mode::Failed) | None if self.waits.is_some() => {
                State::Stale
            }
            Some(secondary::Mode::Idle | secondary::Mode::Failed) | None => State::Waiting,
        }
    }

    fn holders(&self) -> Vec<HolderView> {
        let me = self.holder.me();
        let own = self.holder.log().map(|log| log.durable().0);
        let Some(primary) = self.holder.primary() else {
            return vec![HolderView {
                node: me.node.0,
                in_sync: false,
                connected: true,
                encrypted: None,
                has: own,
                lag: None,
                removed: self.wanted.is_removed(me.node),
                fill: None,
            }];
        };
        let newest = primary.newest();
        let chosen = primary.chosen();
        let in_sync = |node: NodeId| chosen.holders().iter().any(|one| one.node == node);
        let lag = |has: Seq| newest.0.saturating_sub(has.0);
        let mut holders = vec![HolderView {
            node: me.node.0,
            in_sync: true,
            connected: true,
            encrypted: None,
            has: own,
            lag: own.map(|has| lag(Seq(has))),
            removed: self.wanted.is_removed(me.node),
            fill: None,
        }];
        for (node, peer) in &self.peers {
            let has = primary.fed().find(|(holder, _)| holder.node == *node).map(|(_, has)| has);
            holders.push(HolderView {
                node: node.0,
                in_sync: in_sync(*node),
                connected: peer.stream.is_some(),
                encrypted: peer.stream.and_then(|stream| self.streams.is_encrypted(stream)),
                has: has.map(|has| has.0),
                lag: has.map(lag),
                removed: self.wanted.is_removed(*node),
                fill: self.fill_view(*node),
            });
        }
        holders.sort_by_key(|one| one.node);
        holders
    }

    fn scrub_view(&self) -> ScrubView {
        let (progress, tally) = (self.shared.scrub.progress(), self.shared.mends.tally());
        let block = |damaged: &Damaged| BlockView { volume: damaged.volume.0, block: damaged.block };
        ScrubView {
            passes: progress.passes,
            bytes: progress.bytes,
            checked_bytes: progress.checked,
            hurried: progress.is_hurried,
            mended_blocks: tally.mended,
            damaged_blocks: u64::try_from(tally.damaged.len()).unwrap_or(u64::MAX),
            damaged: tally.damaged.iter().take(DAMAGED_SHOWN).map(block).collect(),
        }
    }

    fn log_view(&self) -> LogView {
        let ring = bytes(self.holder.kept().ring.blocks());
        let applied = self.holder.applied().0;
        let Some(log) = self.holder.log() else {
            return LogView { bytes: ring, applied, ..LogView::default() };
        };
        let commit = match (self.holder.primary(), self.holder.secondary()) {
            (Some(primary), _) => primary.commit(),
            (None, Some(secondary)) => secondary.commit(),
            (None, None) => Seq(0),
        };
        LogView {
            bytes: ring,
            free_bytes: bytes(log.free()),
            newest: log.next().before().0,
            durable: log.durable().0,
            commit: commit.0,
            applied,
        }
    }
}

fn mode(mode: machine::Mode) -> Mode {
    match mode {
        machine::Mode::Opening => Mode::Opening,
        machine::Mode::Damaged => Mode::Damaged,
        machine::Mode::Remaking => Mode::Remaking,
        machine::Mode::Following => Mode::Following,
        machine::Mode::Taking => Mode::Taking,
        machine::Mode::Leading => Mode::Leading,
        machine::Mode::Failed => Mode::Failed,
    }
}
