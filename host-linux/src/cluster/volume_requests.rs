//! What the control socket is asked about volumes: looked at here, carried out by the mirror group (S4-03,
//! S4-10, S4-11, S0-06).

use super::clock;
use super::control::Question;
use super::request::{Answer, Request};
use super::run::Agent;
use super::view::{in_force, in_force_on};
use super::volumes::Volumes;
use crate::failure::Failure;
use crate::mirror::handle::Handle;
use crate::mirror::view::{PlaceholderView, View};
use crate::site_config::Member;
use crate::volume::orders::{Listing, Place, no_storage};
use crate::volume::serve::NBD_SOCKET;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership::Membership;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::words::{Command, Event};
use serde_json::json;

impl Agent {
    /// Answers a request about volumes; an order is answered by the group, when it is durable.
    pub(super) fn volume_request(&mut self, question: Question) {
        let Some((group, listing)) = self.listing() else {
            let me = self.hands.config.name_of(self.hands.config.local.node);
            return question.answer(Answer::failure(&no_storage(&me)));
        };
        if let Request::VolumePromote { node } = question.request {
            let answer = self.promote(&listing, node);
            return question.answer(answer.unwrap_or_else(|failure| Answer::failure(&failure)));
        }
        if let Request::VolumeRecover { even_part_filled } = question.request {
            let answer = self.recover(&group, &listing, even_part_filled);
            return question.answer(answer.unwrap_or_else(|failure| Answer::failure(&failure)));
        }
        if question.request == Request::VolumeScrub {
            group.scrub();
            return question.answer(Answer::done("scrub", json!({ "node": listing.me })));
        }
        match listing.order(&question.request) {
            Ok(Some(order)) => group.order(order, move |done| answer_order(question, done)),
            Ok(None) => {
                question.answer(Answer::done("volumes", serde_json::to_value(listing).unwrap_or_default()));
            }
            Err(failure) => question.answer(Answer::failure(&failure)),
        }
    }

    /// The group of this node's pair, and how it is.
    pub(super) fn listing(&self) -> Option<(Handle, Listing)> {
        let config = &self.hands.config;
        let (me, volumes) = (config.me()?, self.volumes.as_ref()?);
        let pair = me.duty.pair();
        let of_pair = |member: &&Member| !member.duty.is_witness() && member.duty.pair() == pair;
        let place = |member: &Member| {
            let name = member.name.clone();
            Place { node: member.id.0, name, nbd: member.nbd }
        };
        let listing = Listing {
            me: me.id.0,
            pair: pair.0,
            nodes: config.members.iter().filter(of_pair).map(place).collect(),
            socket: Some(config.local.state.join(NBD_SOCKET)),
            tls: volumes.tls_is_required(),
            storage: self.storage_view()?,
        };
        Some((volumes.group(), listing))
    }

    /// How the group is; where nobody leads, also what the voters say about that.
    pub(super) fn storage_view(&self) -> Option<View> {
        let view = self.volumes.as_ref()?.group().view();
        let waits = match (view.primary, &view.waits) {
            (None, None) => self.why_nobody_may_lead(),
            (_, waits) => waits.clone(),
        };
        let record = self.node.post(Office::Storage).and_then(|post| post.seat().known());
        let (voters, uncounted) = record.map(|record| in_force_on(&self.node, record)).unwrap_or_default();
        let kept = self.volumes.as_ref().and_then(Volumes::kept);
        let bytes = |mib: u64| mib.saturating_mul(1 << 20);
        let placeholder = PlaceholderView {
            guests_bytes: kept.as_ref().map(|kept| bytes(kept.wanted)),
            guests_held_bytes: kept.map(|kept| bytes(kept.held)),
            ..view.placeholder
        };
        Some(View { waits, voters, uncounted, placeholder, ..view })
    }

    /// Why nobody who is here can have the register, if it is so (X04).
    fn why_nobody_may_lead(&self) -> Option<String> {
        let config = &self.hands.config;
        let seat = self.node.post(Office::Storage)?.seat();
        // An operator has said that those who are away are lost.
        let record = seat.known().filter(|_| !seat.decides_alone())?;
        let voters = in_force(&record.voters);
        let is_here = |node: NodeId| node == config.local.node || self.node.links().verdict(node).is_alive();
        let away: Vec<_> = voters.iter().map(|voter| voter.node).filter(|node| !is_here(*node)).collect();
        let names = away.iter().map(|node| config.name_of(*node)).collect::<Vec<_>>().join(", ");
        match (voters.iter().count(), away.len()) {
            (1, 1) => Some(format!(
                "{names} was agreed on as the one who goes on alone, and is away; nobody else may lead until \
                 it is back; if it is lost for good: `bulkhead node force-quorum`"
            )),
            (all, gone) if all <= gone.saturating_mul(2) => {
                Some(format!("too few voters are heard to decide who leads; away: {names}"))
            }
            (_, _) => None,
        }
    }

    /// Whose lease of the volumes runs still.
    fn who_leads_still(&self) -> Option<String> {
        let config = &self.hands.config;
        let lease = self.node.post(Office::Storage)?.seat().told(clock::now())?;
        let is_other = lease.holder != config.local.node;
        is_other.then(|| format!("{} may still lead: its lease runs", config.name_of(lease.holder)))
    }

    /// Has this holder lead with what it has, unless somebody who has all can.
    fn recover(&self, group: &Handle, listing: &Listing, part_filled: bool) -> Result<Answer, Failure> {
        let set = self.node.post(Office::Storage).and_then(|post| post.seat().known());
        let set = set.and_then(|record| Membership::parse(&record.payload).ok());
        let in_sync = set.as_ref().map_or(&[][..], Membership::holders).iter().map(|holder| holder.node);
        let me = self.hands.config.local.node;
        let is_heard = |node: &NodeId| *node != me && self.node.links().verdict(*node).is_alive();
        let heard: Vec<_> = in_sync.clone().filter(is_heard).map(|node| node.0).collect();
        let away: Vec<_> = in_sync.filter(|node| *node != me).map(|node| node.0).collect();
        listing.recovery(
            &heard,
            self.why_nobody_may_lead().or_else(|| self.who_leads_still()),
            part_filled,
        )?;
        group.recover();
        Ok(Answer::done("recovering", json!({ "node": me.0, "without": away })))
    }

    fn promote(&mut self, listing: &Listing, node: u16) -> Result<Answer, Failure> {
        let next = listing.promotion(node)?;
        if let Some(to) = next {
            self.step(Event::Command(Command::Move { office: Office::Storage, to }));
        }
        Ok(Answer::done("promoted", json!({ "node": node, "already": next.is_none() })))
    }
}

fn answer_order(question: Question, done: Result<Volume, Failure>) {
    let answer = match (&question.request, done) {
        (_, Err(failure)) => Answer::failure(&failure),
        (Request::VolumeMode { mode, .. }, Ok(_)) => {
            Answer::done("mode", serde_json::to_value(mode).unwrap_or_default())
        }
        (Request::VolumeCache { algorithm, .. }, Ok(_)) => {
            Answer::done("algorithm", serde_json::to_value(algorithm).unwrap_or_default())
        }
        (Request::VolumeLimit { bytes }, Ok(_)) => Answer::done("atRiskMax", json!(bytes)),
        (Request::VolumeSecondaryRemove { node, .. } | Request::VolumeSecondaryAdd { node }, Ok(_)) => {
            Answer::done("node", (*node).into())
        }
        (_, Ok(volume)) => Answer::done("volume", volume.0.into()),
    };
    question.answer(answer);
}
