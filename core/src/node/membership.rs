//! Members that come and go while a node runs: those without a vote, and pairs as a whole (S2-07, S2-08).
//!
//! Who votes for a pair stays as it is: while there is no record, majorities of two sets need not meet (F54),
//! and a running node cannot tell whether all others have one. So does what a member is, for it acts on it.
//! Both change with a restart, one node at a time. A node that has a role gives it back before it goes.
//!
//! In a site of more than nine nodes the neighbours in the ring change, too: until all nodes were told, those
//! whose pace differs at its two ends may look slow to each other. Voters are always close (S3-01).

use heapless::Vec;
use thiserror::Error;

use super::machine::Node;
use super::message::Office;
use super::settings::{Digest, MEMBERS_MAX, Member, Relay, Settings, Unsound, first_pair};
use crate::id::{NodeId, PairId};
use crate::time::Instant;

/// Why a running node cannot take other members. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fixed {
    /// They make no site.
    #[error("{0}")]
    Unsound(Unsound),
    /// This member would be in another place, or vote, or not vote any more.
    #[error("node {0:?} would change its place or its vote")]
    Member(NodeId),
    /// Others would vote for this pair.
    #[error("others would vote for pair {0:?}")]
    Voters(PairId),
    /// The voters of another pair would decide who is controller.
    #[error("the voters of another pair would decide who is controller")]
    Controller,
    /// A member goes that has a role.
    #[error("node {node:?} has a role")]
    Acts {
        /// Which node.
        node: NodeId,
        /// Which role.
        office: Office,
    },
}

impl<
    const PEERS: usize,
    const PLACES: usize,
    const ANSWERS: usize,
    const POSTS: usize,
    const WORK: usize,
    const ROOM: usize,
    const SHOWN: usize,
> Node<PEERS, PLACES, ANSWERS, POSTS, WORK, ROOM, SHOWN>
{
    /// Has this node know other members, and relays of theirs, from now on. [`Node::step`] is due at once.
    ///
    /// # Errors
    ///
    /// [`Fixed`]. Nothing was changed.
    pub fn change_members(
        &mut self,
        now: Instant,
        members: Vec<Member, MEMBERS_MAX>,
        relays: Vec<Relay, MEMBERS_MAX>,
        digest: Digest,
    ) -> Result<(), Fixed> {
        let next = Settings { members, relays, digest, ..self.settings.clone() };
        next.check().map_err(Fixed::Unsound)?;
        self.settings.may_become(&next)?;
        self.nobody_acts_who_goes(&next)?;
        self.rosters.change(now, &next).map_err(Fixed::Unsound)?;
        let before = core::mem::replace(&mut self.settings, next);
        self.power.change(&self.settings);
        for gone in before.members.iter().filter(|one| self.settings.find(one.node).is_none()) {
            self.links.remove(gone.node);
        }
        self.link_all(now);
        let me = *self.member();
        for post in &mut self.posts {
            post.pair.set_candidates(match post.office {
                Office::Infra | Office::Storage => self.settings.candidates(me.pair),
                Office::Controller => self.settings.everybody(),
            });
        }
        self.speech.is_news(now);
        Ok(())
    }

    fn nobody_acts_who_goes(&self, next: &Settings) -> Result<(), Fixed> {
        for post in &self.posts {
            if let Some(node) = post.pair.master().filter(|node| next.find(*node).is_none()) {
                return Err(Fixed::Acts { node, office: post.office });
            }
        }
        Ok(())
    }
}

impl Settings {
    fn find(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    fn may_become(&self, next: &Self) -> Result<(), Fixed> {
        if first_pair(&self.members) != first_pair(&next.members) {
            return Err(Fixed::Controller);
        }
        let changed = |one: &&Member| next.find(one.node).is_some_and(|other| other != *one);
        if let Some(member) = self.members.iter().find(changed) {
            return Err(Fixed::Member(member.node));
        }
        for Member { pair, .. } in &self.members {
            // A pair that goes as a whole has no voters any more.
            let stays = next.members.iter().any(|other| other.pair == *pair);
            if stays && self.founders(*pair) != next.founders(*pair) {
                return Err(Fixed::Voters(*pair));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
