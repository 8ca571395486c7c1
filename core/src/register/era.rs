//! Eras: how often an operator decided for voters that were lost (X14, F56).
//!
//! Attempts and epochs count up from 1 in their low half. The high half is the era: 0 as long as the voters
//! decided all by themselves. Who decides for voters that are lost for good cannot know what they still
//! chose; so it begins an era of its own, above everything they can have said in theirs. Its number has the
//! node's in it, so that two nodes never begin the same one, and whoever meets a later era gives way to it.
//!
//! | bits     | what                                     |
//! |----------|------------------------------------------|
//! | 48 to 63 | how many eras were begun before this one |
//! | 32 to 47 | the node that began it                   |
//! |  0 to 31 | attempts, or epochs, in it               |

use crate::id::NodeId;

const BY_AT: u32 = 32;
const COUNT_AT: u32 = 48;

/// The era of an attempt or an epoch. Later eras are higher.
pub const fn of(number: u64) -> u64 {
    number >> BY_AT
}

/// The first number of the era that `by` begins after `number`. Saturates: 65,535 eras do not happen.
pub const fn after(number: u64, by: NodeId) -> u64 {
    let count = (number >> COUNT_AT).saturating_add(1);
    if (u16::MAX as u64) < count {
        return u64::MAX;
    }
    count << COUNT_AT | (by.0 as u64) << BY_AT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_is_above_all_of_those_before() {
        for (number, by, first) in [
            (0, 1, 0x0001_0001_0000_0000),
            (u64::from(u32::MAX), 2, 0x0001_0002_0000_0000),
            (0x0001_ffff_0000_0007, 1, 0x0002_0001_0000_0000),
            (u64::MAX, 1, u64::MAX),
        ] {
            let begun = after(number, NodeId(by));
            assert_eq!(begun, first, "{number:x}");
            assert!(number <= begun && of(number) <= of(begun));
        }
        assert_eq!(of(u64::from(u32::MAX)), 0, "what voters decide by themselves is in the first era");
        assert_ne!(of(after(7, NodeId(1))), of(after(7, NodeId(2))), "two nodes never begin the same one");
    }
}
