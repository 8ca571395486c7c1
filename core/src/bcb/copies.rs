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
    use crate::bcb::state::{BootId, TRIES_DEFAULT};
    use crate::plan::Step;
    use std::vec::Vec;

    const PLACES: [DiskOffset; 2] = [DiskOffset(0), DiskOffset(0x1_0000)];

    /// A block that names its copy by the number of its boot.
    fn stored(seq: u64, boot: u64) -> [u8; SECTOR] {
        Stored { seq, bcb: Bcb { boot: BootId(boot), ..Bcb::new(TRIES_DEFAULT) } }.encode()
    }

    fn copies(first: Option<u64>, second: Option<u64>) -> Copies {
        let [first, second] = [first.map(|seq| stored(seq, 1)), second.map(|seq| stored(seq, 2))];
        Copies::parse([first.as_ref(), second.as_ref()])
    }

    #[test]
    fn the_valid_copy_with_the_higher_number_counts() {
        let cases = [
            (Some(5), Some(6), Some(2)),
            (Some(6), Some(5), Some(1)),
            (Some(5), Some(5), Some(1)),
            (Some(u64::MAX), Some(1), Some(1)),
            (None, Some(1), Some(2)),
            (Some(1), None, Some(1)),
            (None, None, None),
        ];
        for (first, second, counts) in cases {
            let newest = copies(first, second).newest().map(|stored| stored.bcb.boot.0);
            assert_eq!(newest, counts, "{first:?} {second:?}");
        }
    }

    #[test]
    fn the_copy_that_counts_is_written_last_and_never_together_with_the_other() {
        let next = Bcb { boot: BootId(9), ..Bcb::new(TRIES_DEFAULT) };
        let cases = [
            (Some(5), Some(6), [0, 1], 7),
            (Some(6), Some(5), [1, 0], 7),
            (None, Some(6), [0, 1], 7),
            (Some(6), None, [1, 0], 7),
            (None, None, [1, 0], 1),
        ];
        for (first, second, order, seq) in cases {
            let plan = copies(first, second).write(PLACES, &next);
            let write = |index: usize, seq| Step::Write {
                at: PLACES[index],
                data: Data::Sector(Stored { seq, bcb: next }.encode()),
            };
            let steps: Vec<Step> = plan.steps().to_vec();
            let expected = [write(order[0], seq), Step::Flush, write(order[1], seq + 1), Step::Flush];
            assert_eq!(steps, expected, "{first:?} {second:?}");
        }
    }

    /// At the end of all numbers each write still counts when it is complete.
    #[test]
    fn numbers_that_cannot_rise_still_make_the_last_write_count() {
        for (first, second) in [(u64::MAX, u64::MAX), (u64::MAX, 1), (1, u64::MAX)] {
            let next = Bcb { boot: BootId(9), ..Bcb::new(TRIES_DEFAULT) };
            let mut sectors = [stored(first, 1), stored(second, 2)];
            for step in copies(Some(first), Some(second)).write(PLACES, &next).steps() {
                if let Step::Write { at, data: Data::Sector(bytes) } = step {
                    sectors[usize::from(*at == PLACES[1])] = *bytes;
                }
                let newest = Copies::parse([Some(&sectors[0]), Some(&sectors[1])]).newest().unwrap().bcb;
                assert!(newest == next || newest.boot.0 < 3);
            }
            assert_eq!(Copies::parse([Some(&sectors[0]), Some(&sectors[1])]).newest().unwrap().bcb, next);
        }
    }

    #[test]
    fn numbers_go_on_after_those_of_the_marks() {
        let image = crate::container::image::ImageId {
            version: Default::default(),
            security: Default::default(),
            digest: crate::container::image::Digest([0; 32]),
        };
        let mark = Mark { image, floor: Default::default(), seq: 40, tries_max: 3 };
        let marks = PerSlot { a: None, b: Some(mark) };
        assert_eq!(copies(None, None).resume_after(&marks).next_seq(), 41);
        assert_eq!(copies(Some(50), None).resume_after(&marks).next_seq(), 51);
    }

    /// F30, V41.
    #[test]
    fn a_newer_format_is_noticed_in_either_copy() {
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
        }
    }
}
