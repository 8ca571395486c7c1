//! Two copies of the boot control block, written one at a time with a flush between (V36).
//!
//! A change writes the older copy, flushes, writes the other, flushes. At every cut the newest
//! valid copy says either what was so before or what is so after; and once the change is
//! complete both copies say the same, so that losing either takes nothing back: a try that was
//! recorded stays recorded (V30).

use super::format::{Damage, Stored};
use super::state::Bcb;
use crate::container::mark::Mark;
use crate::plan::{Data, DiskOffset, Plan, SECTOR};
use crate::slot::PerSlot;

/// Both copies as read from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    copies: [Result<Stored, Damage>; 2],
    /// Sequence numbers up to this one were used before the copies were lost.
    seq_used: u64,
}

impl Copies {
    /// The copies in `blocks`; `None` for a block that the disk did not return.
    pub fn parse(blocks: [Option<&[u8; SECTOR]>; 2]) -> Self {
        let copies = blocks.map(|block| block.ok_or(Damage::Unreadable).and_then(Stored::parse));
        Self { copies, seq_used: 0 }
    }

    /// Learns from the confirmation marks which sequence numbers were used before both copies
    /// were lost.
    #[must_use]
    pub fn resume_after(mut self, marks: &PerSlot<Option<Mark>>) -> Self {
        let seqs = [marks.a, marks.b].map(|mark| mark.map_or(0, |mark| mark.seq));
        self.seq_used = seqs.into_iter().fold(self.seq_used, u64::max);
        self
    }

    /// The copies, first and second.
    pub const fn each(&self) -> &[Result<Stored, Damage>; 2] {
        &self.copies
    }

    /// Whether a copy has a format newer than we know: it says something that we cannot read, and
    /// must not be written over (V41).
    pub fn newer_format(&self) -> bool {
        self.copies.iter().any(|copy| matches!(copy, Err(Damage::Version { .. })))
    }

    /// The copy that counts: the valid one with the higher sequence number, the first when they
    /// are equal. `None` when both are lost.
    pub fn newest(&self) -> Option<Stored> {
        let [first, second] = self.copies;
        match (first.ok(), second.ok()) {
            (Some(first), Some(second)) if first.seq < second.seq => Some(second),
            (Some(first), _) => Some(first),
            (None, second) => second,
        }
    }

    /// Sequence number the next write gets.
    pub fn next_seq(&self) -> u64 {
        self.newest().map_or(self.seq_used, |stored| stored.seq).saturating_add(1)
    }

    /// The plan that makes `next` the boot control block, with the copies at `places`.
    ///
    /// A cut anywhere leaves the block as it was or as it will be; when the plan is complete,
    /// both copies say `next`.
    pub fn write(&self, places: [DiskOffset; 2], next: &Bcb) -> Plan {
        let [first, second] = places;
        let [first_copy, second_copy] = self.copies.map(|copy| copy.map_or(0, |stored| stored.seq));
        // The copy that counts is written last: until the other is durable it must stay whole.
        let order = if first_copy < second_copy { [first, second] } else { [second, first] };
        let mut plan = Plan::new();
        let mut seq = self.next_seq();
        for place in order {
            plan.write(place, Data::Sector(Stored { seq, bcb: *next }.encode()));
            plan.flush();
            seq = seq.saturating_add(1);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcb::state::TRIES_DEFAULT;
    use crate::boot::choice::Evidence;

    /// F30, V41: a block of a newer Bulkhead is neither guessed at nor written over.
    #[test]
    fn a_newer_format_is_not_written_over() {
        let known = Stored { seq: 1, bcb: Bcb::new(TRIES_DEFAULT) }.encode();
        let mut newer = known;
        newer[8] = 2;
        for (blocks, may_record) in [
            ([Some(&known), Some(&known)], true),
            ([Some(&known), None], true),
            ([Some(&known), Some(&newer)], false),
            ([Some(&newer), Some(&newer)], false),
        ] {
            let copies = Copies::parse(blocks);
            assert_eq!(copies.newer_format(), !may_record);
            assert_eq!(Evidence::new(copies, PerSlot::default()).can_record, may_record);
        }
    }
}
