//! One register in a voter's memory, as small as it can be: a witness keeps a hundred of them (X03, V10).
//!
//! Layout of `accepted`, little-endian: attempt (round 8, node 2), epoch (8), holder (2; 0: nobody), how many
//! voters (1), voters before (1: three bits how many are not voters now, five bits which of the voters now
//! are), the voters and those of before that are not voters now (node 2, life 4 each), payload (the rest). It
//! never leaves the memory: what is on the disk is laid out by `register::store`.

use core::hash::{Hash, Hasher};

use heapless::Vec;

use super::ballot::Ballot;
use super::record::{PAYLOAD_MAX, Payload, Record};
use super::store::Stored;
use super::voters::{Life, Set, VOTERS_MAX, Voter, Voters};
use crate::bytes::{Long, Reader};
use crate::id::{Epoch, NodeId, RegisterId};

/// Bytes of a record without voters and payload.
const HEAD_LEN: usize = 22;
/// Bytes of a voter.
const VOTER_LEN: usize = 6;
/// Bytes that are room for any record.
pub const ANY_RECORD: usize = HEAD_LEN + 2 * VOTERS_MAX * VOTER_LEN + PAYLOAD_MAX;

/// Bytes that are room for a record with so many voters, those of before included that are no voters now, and
/// so many bytes of payload.
pub const fn room_for(voters: usize, payload: usize) -> usize {
    HEAD_LEN.saturating_add(voters.saturating_mul(VOTER_LEN)).saturating_add(payload)
}

/// Bits of the count of voters before that say how many are no voters now.
const OTHERS_BITS: u8 = 3;

const _: () = assert!(VOTERS_MAX < 1 << OTHERS_BITS, "a count of voters fits its bits");
const _: () = assert!(VOTERS_MAX <= 8 - 3, "each voter has a bit");

/// A register, with room for an accepted record of `ROOM` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept<const ROOM: usize> {
    pub(super) register: RegisterId,
    seq: Long,
    promised: (Long, NodeId),
    /// Nothing accepted: empty.
    accepted: Vec<u8, ROOM, u8>,
}

/// Who has a register, as the newest record accepted says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) attempt: Ballot,
    pub(super) epoch: Epoch,
    pub(super) holder: Option<NodeId>,
}

impl<const ROOM: usize> Kept<ROOM> {
    /// A register of which nothing is known.
    pub(super) fn new(register: RegisterId) -> Self {
        let promised = (Long::default(), Ballot::NONE.by());
        Self { register, seq: Long::default(), promised, accepted: Vec::new() }
    }

    /// What was read from the disk; `None` when its record is longer than there is room for.
    pub(super) fn of(stored: &Stored) -> Option<Self> {
        let mut kept = Self::new(stored.register);
        kept.seq = stored.seq.into();
        kept.promise(stored.promised);
        let fits = stored.accepted.as_ref().is_none_or(|(attempt, record)| kept.accept(*attempt, record));
        fits.then_some(kept)
    }

    /// As it goes to the disk.
    pub(super) fn stored(&self) -> Stored {
        let (register, seq, promised) = (self.register, self.seq.get(), self.promised());
        Stored { register, seq, promised, accepted: self.accepted() }
    }

    /// The newest attempt promised.
    pub(super) const fn promised(&self) -> Ballot {
        Ballot::new(self.promised.0.get(), self.promised.1)
    }

    pub(super) fn promise(&mut self, attempt: Ballot) {
        self.promised = (attempt.round.into(), attempt.by());
    }

    /// One more change.
    pub(super) fn count(&mut self) {
        self.seq = self.seq.get().saturating_add(1).into();
    }

    /// Whether anything is accepted.
    pub(super) fn has_record(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// Accepts a record in place of the one before. `false` when there is no room for it: nothing is changed.
    pub(super) fn accept(&mut self, attempt: Ballot, record: &Record) -> bool {
        match packed(attempt, record) {
            Some(packed) => self.accepted = packed,
            None => return false,
        }
        true
    }

    /// Hashes all but how many changes there were.
    pub(super) fn hash_meaning<H: Hasher>(&self, state: &mut H) {
        (self.register, self.promised, &self.accepted).hash(state);
    }

    /// Who has the register; the default when nothing is accepted.
    pub(super) fn head(&self) -> Head {
        head(&mut Reader::new(&self.accepted)).unwrap_or_default()
    }

    /// The newest record accepted, and by which attempt.
    pub(super) fn accepted(&self) -> Option<(Ballot, Record)> {
        let mut fields = Reader::new(&self.accepted);
        let Head { attempt, epoch, holder } = head(&mut fields)?;
        let [current, before] = fields.array()?;
        let current = set(&mut fields, [], current)?;
        let previous = if before == 0 { None } else { Some(set_before(&mut fields, &current, before)?) };
        let payload = Payload::from_slice(fields.rest()).ok()?;
        Some((attempt, Record { epoch, holder, voters: Voters { current, previous }, payload }))
    }
}

fn head(fields: &mut Reader<'_>) -> Option<Head> {
    let round = fields.u64()?;
    let attempt = Ballot::new(round, NodeId(fields.u16()?));
    let epoch = Epoch(fields.u64()?);
    let holder = Some(NodeId(fields.u16()?)).filter(|node| node.0 != 0);
    Some(Head { attempt, epoch, holder })
}

/// The voters of before: those that are voters now, too, and others.
fn set_before(fields: &mut Reader<'_>, current: &Set, before: u8) -> Option<Set> {
    let shared = before >> OTHERS_BITS;
    let stayed = current.iter().enumerate().filter(|(place, _)| shared >> place & 1 == 1);
    set(fields, stayed.map(|(_, voter)| *voter), before & ((1 << OTHERS_BITS) - 1))
}

/// These voters, and so many more.
fn set(fields: &mut Reader<'_>, some: impl IntoIterator<Item = Voter>, more: u8) -> Option<Set> {
    let mut voters = Vec::<Voter, VOTERS_MAX>::new();
    for voter in some {
        voters.push(voter).ok()?;
    }
    for _ in 0..more {
        voters.push(Voter { node: NodeId(fields.u16()?), life: Life(fields.u32()?) }).ok()?;
    }
    Set::new(voters).ok()
}

fn packed<const ROOM: usize>(attempt: Ballot, record: &Record) -> Option<Vec<u8, ROOM, u8>> {
    let Record { epoch, holder, voters: Voters { current, previous }, payload } = record;
    let mut out = Vec::new();
    let mut put = |field: &[u8]| out.extend_from_slice(field).ok();
    put(&attempt.round.to_le_bytes())?;
    put(&attempt.by().0.to_le_bytes())?;
    put(&epoch.0.to_le_bytes())?;
    put(&holder.map_or(0, |node| node.0).to_le_bytes())?;
    let before = || previous.iter().flat_map(Set::iter);
    let others = || before().filter(|voter| !current.iter().any(|one| one == *voter));
    let stayed = current.iter().enumerate().filter(|(_, voter)| before().any(|one| one == *voter));
    let shared = stayed.fold(0_u8, |bits, (place, _)| bits | 1 << place);
    let count = u8::try_from(others().count()).ok()?;
    put(&[u8::try_from(current.iter().count()).ok()?, shared << OTHERS_BITS | count])?;
    for voter in current.iter().chain(others()) {
        put(&voter.node.0.to_le_bytes())?;
        put(&voter.life.0.to_le_bytes())?;
    }
    put(payload)?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::record::PAYLOAD_SURE;

    fn record(voters: u16, before: u16, payload: usize) -> Record {
        let set =
            |count| Set::new((1..=count).map(|n| Voter { node: NodeId(n), life: Life(u32::MAX - 1) })).ok();
        Record {
            epoch: Epoch(u64::MAX),
            holder: (voters != 1).then_some(NodeId(u16::MAX)),
            voters: Voters { current: set(voters).unwrap(), previous: set(before) },
            payload: Payload::from_slice(&[7; PAYLOAD_MAX][..payload]).unwrap(),
        }
    }

    /// V10: what is answered from memory is what was accepted.
    #[test]
    fn every_record_comes_back() {
        let attempt = Ballot::new(u64::MAX, NodeId(300));
        for (voters, before) in (1..=5).flat_map(|voters| (0..=5).map(move |before| (voters, before))) {
            for payload in [0, 1, PAYLOAD_MAX] {
                let record = record(voters, before, payload);
                let (register, promised) = (RegisterId(9), Ballot::new(u64::MAX, NodeId(301)));
                let stored = Stored { register, seq: 7, promised, accepted: Some((attempt, record.clone())) };
                let kept = Kept::<ANY_RECORD>::of(&stored).unwrap();
                assert_eq!(kept.stored(), stored);
                let head = Head { attempt, epoch: record.epoch, holder: record.holder };
                assert_eq!((kept.head(), kept.has_record()), (head, true));
            }
        }
        // Another life is another voter, and so is another node.
        let voter = |(node, life)| Voter { node: NodeId(node), life: Life(life) };
        let set = |voters: [(u16, u32); 5]| Set::new(voters.map(voter)).unwrap();
        let current = set([(2, 1), (3, 9), (4, 1), (6, 1), (8, 1)]);
        for before in [
            [(2, 1), (3, 1), (4, 1), (6, 1), (8, 1)],
            [(1, 1), (3, 9), (5, 1), (6, 1), (9, 1)],
            [(1, 1), (3, 1), (5, 1), (7, 1), (9, 1)],
        ] {
            let voters = Voters { current: current.clone(), previous: Some(set(before)) };
            let record = Record { voters, ..record(1, 0, PAYLOAD_MAX) };
            let mut kept = Kept::<ANY_RECORD>::new(RegisterId(1));
            assert!(kept.accept(attempt, &record));
            assert_eq!(kept.accepted(), Some((attempt, record)));
        }
        let empty = Stored { register: RegisterId(9), seq: 0, promised: Ballot::NONE, accepted: None };
        let kept = Kept::<ANY_RECORD>::of(&empty).unwrap();
        assert_eq!((kept.stored(), kept.head(), kept.has_record()), (empty, Head::default(), false));
    }

    /// X03: what finds no room is refused whole.
    #[test]
    fn a_record_that_is_too_long_changes_nothing() {
        let mut kept = Kept::<{ room_for(4, 2) }>::new(RegisterId(1));
        let attempt = Ballot::new(1, NodeId(1));
        assert!(kept.accept(attempt, &record(4, 4, 2)), "who votes before and now is kept once");
        let before = kept.clone();
        for longer in [record(5, 0, 0), record(4, 5, 0), record(4, 0, 3), record(5, 5, 64)] {
            assert!(!kept.accept(Ballot::new(2, NodeId(1)), &longer));
            assert_eq!(kept, before);
        }
        // What a witness on a microcontroller has room for.
        let fits = |voters, before, payload| {
            let mut kept = Kept::<{ room_for(4, PAYLOAD_SURE) }>::new(RegisterId(1));
            kept.accept(attempt, &record(voters, before, payload))
        };
        let sure = PAYLOAD_SURE;
        assert!(
            [(4, 4, sure), (1, 4, sure), (3, 3, sure + 6), (1, 3, sure + 6)]
                .iter()
                .all(|one| fits(one.0, one.1, one.2))
        );
        assert!(!fits(4, 4, sure + 1) && !fits(5, 0, sure));
    }
}
