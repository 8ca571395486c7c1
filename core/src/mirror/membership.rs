//! The in-sync set of a group, as its register keeps it, and who may lead (I3, I7, V7; S4-10, X14; F14, F18).
//!
//! The payload of the register, little-endian: version 1 (1); mode (1: 1 write-through, 2 write-back);
//! holders in sync (1, 1..=3); reserved, zero (1); each holder, in the order of their nodes: node (2), life
//! of its log (4).

use heapless::Vec;
use thiserror::Error;

use crate::bug::{Bug, is_planted};
use crate::bytes::{Reader, Writer};
use crate::id::NodeId;
use crate::log::Life;
use crate::register::kept::room_for;
use crate::register::record::{PAYLOAD_SURE, Payload};

/// Holders of one group at most.
pub const HOLDERS_MAX: usize = 3;

const VERSION: u8 = 1;
const HOLDER_LEN: usize = 6;
const LEN_MAX: usize = 4 + HOLDERS_MAX * HOLDER_LEN;

/// A copy of the group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Where it is.
    pub node: NodeId,
    /// Which log of that node: one that was made anew is no member (F14).
    pub life: Life,
}

/// When a write is acknowledged, once every member has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// When it is in the backing store, too.
    Through,
    /// At once.
    Back,
}

/// Who holds every acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    policy: Policy,
    /// Invariant: not empty, nodes strictly rise.
    holders: Vec<Holder, HOLDERS_MAX>,
}

/// Why a payload is no in-sync set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unknown {
    /// Its version is not known here (V41).
    #[error("the in-sync set has format version {0}, this Bulkhead reads {VERSION}")]
    Version(u8),
    /// It is no in-sync set of any version.
    #[error("the register's record holds no in-sync set")]
    Malformed,
}

/// Why a holder may not lead. Each says what would change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotInSync {
    /// Others acknowledged writes without it. Exit: one of the set leads, and this holder is resynchronised.
    #[error("it missed writes that were acknowledged; a member of the in-sync set must lead")]
    Stale,
    /// Its node is a member, with another log. Exit: as for a stale one.
    #[error("its log was made anew since it was in sync; a member of the in-sync set must lead")]
    OtherLog,
    /// Its log lacks writes that were durable in it. Exit: as for a stale one.
    #[error("its log is damaged; another member of the in-sync set must lead")]
    Damaged,
}

impl Membership {
    /// This holder alone, in write-through (S4-08).
    pub fn alone(holder: Holder) -> Self {
        let holders = [holder].into_iter().collect();
        Self { policy: Policy::Through, holders }
    }

    /// The members, in the order of their nodes.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// When writes are acknowledged.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether this holder is a member.
    pub fn has(&self, holder: Holder) -> bool {
        self.holders.contains(&holder)
    }

    /// The set with another member; the same when there is no room, or its node is a member already.
    #[must_use]
    pub fn with(&self, holder: Holder) -> Self {
        let mut next = self.clone();
        let at = next.holders.partition_point(|one| one.node < holder.node);
        let is_there = next.holders.get(at).is_some_and(|one| one.node == holder.node);
        if !is_there {
            let _ = next.holders.insert(at, holder);
        }
        next
    }

    /// The set without a node. The last member stays: somebody has the writes.
    #[must_use]
    pub fn without(&self, node: NodeId) -> Self {
        let mut next = self.clone();
        if 1 < next.holders.len() {
            next.holders.retain(|one| one.node != node);
        }
        next
    }

    /// The set with another policy. A single holder is always in write-through (S4-08).
    #[must_use]
    pub fn under(&self, policy: Policy) -> Self {
        let policy = if self.holders.len() < 2 { Policy::Through } else { policy };
        Self { policy, holders: self.holders.clone() }
    }

    /// Whether `holder` has every acknowledged write. `is_whole`: nothing that was durable in its log is
    /// lost.
    ///
    /// # Errors
    ///
    /// [`NotInSync`].
    pub fn may_lead(&self, holder: Holder, is_whole: bool) -> Result<(), NotInSync> {
        match self.holders.iter().find(|one| one.node == holder.node) {
            None if is_planted(Bug::StaleLeads) => Ok(()),
            None => Err(NotInSync::Stale),
            Some(one) if one.life != holder.life => Err(NotInSync::OtherLog),
            Some(_) if !is_whole => Err(NotInSync::Damaged),
            Some(_) => Ok(()),
        }
    }

    /// As the register keeps it.
    pub fn encode(&self) -> Payload {
        let mut out = Writer::<LEN_MAX>::default();
        out.u8(VERSION);
        out.u8(match self.policy {
            Policy::Through => 1,
            Policy::Back => 2,
        });
        // At most 3.
        out.u8(u8::try_from(self.holders.len()).unwrap_or(u8::MAX));
        out.u8(0);
        for holder in &self.holders {
            out.u16(holder.node.0);
            out.u32(holder.life.0);
        }
        // Shorter than a payload: asserted below.
        Payload::from_slice(out.written()).unwrap_or_default()
    }

    /// Reads what the register keeps.
    ///
    /// # Errors
    ///
    /// [`Unknown`].
    pub fn parse(payload: &[u8]) -> Result<Self, Unknown> {
        let mut fields = Reader::new(payload);
        match fields.u8() {
            Some(VERSION) => {}
            Some(other) => return Err(Unknown::Version(other)),
            None => return Err(Unknown::Malformed),
        }
        let found = read(&mut fields).ok_or(Unknown::Malformed)?;
        // One set, one form.
        (found.encode().as_slice() == payload).then_some(found).ok_or(Unknown::Malformed)
    }
}

const _: () = assert!(LEN_MAX <= crate::register::record::PAYLOAD_MAX, "a set fits a record");
const _: () = assert!(LEN_MAX - HOLDER_LEN <= PAYLOAD_SURE, "two holders fit the smallest voter in any case");
const _: () = assert!(LEN_MAX <= room_for(1, PAYLOAD_SURE) - room_for(0, 0), "three fit while three vote");

fn read(fields: &mut Reader<'_>) -> Option<Membership> {
    let policy = match fields.u8()? {
        1 => Policy::Through,
        2 => Policy::Back,
        0 | 3.. => return None,
    };
    let [count, 0] = fields.array()? else { return None };
    let mut holders = Vec::<Holder, HOLDERS_MAX>::new();
    for _ in 0..count {
        let holder = Holder { node: NodeId(fields.u16()?), life: Life(fields.u32()?) };
        holders.last().is_none_or(|last| last.node < holder.node).then_some(())?;
        holders.push(holder).ok()?;
    }
    (!holders.is_empty()).then_some(Membership { policy, holders })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(node: u16) -> Holder {
        Holder { node: NodeId(node), life: Life(u32::from(node) + 10) }
    }

    #[test]
    fn format_1_never_changes() {
        let set = Membership::alone(holder(3)).with(holder(1)).under(Policy::Back);
        let bytes = [1, 2, 2, 0, 1, 0, 11, 0, 0, 0, 3, 0, 13, 0, 0, 0];
        assert_eq!(set.encode().as_slice(), bytes);
        assert_eq!(Membership::parse(&bytes), Ok(set));
        assert_eq!(Membership::parse(&[2, 0]), Err(Unknown::Version(2)));
        for (at, byte) in [(1, 0), (1, 3), (2, 0), (2, 1), (2, 3), (3, 1), (4, 3), (4, 4)] {
            let mut bad = bytes;
            bad[at] = byte;
            assert_eq!(Membership::parse(&bad), Err(Unknown::Malformed), "byte {at} is {byte}");
        }
        assert_eq!(Membership::parse(&bytes[..15]), Err(Unknown::Malformed));
        assert_eq!(Membership::parse(&[]), Err(Unknown::Malformed));
    }

    #[test]
    fn members_come_and_go_and_the_last_one_stays() {
        let set = Membership::alone(holder(2));
        assert_eq!(set.without(NodeId(2)), set);
        let full = set.with(holder(1)).with(holder(3)).with(holder(4));
        assert_eq!(full.holders(), [holder(1), holder(2), holder(3)], "no room for a fourth");
        assert_eq!(full.with(Holder { life: Life(99), ..holder(1) }), full, "a node is a member once");
        assert_eq!(full.without(NodeId(1)).holders(), [holder(2), holder(3)]);
        assert_eq!(set.under(Policy::Back).policy(), Policy::Through, "S4-08");
        assert_eq!(full.under(Policy::Back).policy(), Policy::Back);
    }

    /// I3, F14, F18: who missed a write, or has another log than the one that has it, does not lead.
    #[test]
    fn only_a_member_leads_and_only_with_the_log_that_is_one() {
        let set = Membership::alone(holder(1)).with(holder(2));
        assert_eq!(set.may_lead(holder(1), true), Ok(()));
        assert_eq!(set.may_lead(holder(1), false), Err(NotInSync::Damaged));
        assert_eq!(set.may_lead(holder(3), true), Err(NotInSync::Stale));
        let anew = Holder { life: Life(99), ..holder(2) };
        assert_eq!(set.may_lead(anew, true), Err(NotInSync::OtherLog));
    }
}
