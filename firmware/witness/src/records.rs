//! The records of fences on the card (V20, F29). Their format, their places and how many there may be are
//! those of `core::provision::records`.

use bulkhead_core::provision::records::{Book, Record, Ring};
use bulkhead_core::register::store::Owner;
use bulkhead_core::time::Instant;

use crate::card::{BLOCK, Blocks, Trouble, block_at};

/// A book that goes on behind what is on the card. A record that cannot be read is none: it was torn, or is
/// of another owner.
///
/// # Errors
///
/// [`Trouble`].
pub fn open(blocks: &mut impl Blocks, now: Instant, owner: &Owner, start: u64) -> Result<Book, Trouble> {
    let mut last = [0; 2];
    for (ring, last) in Ring::ALL.into_iter().zip(&mut last) {
        for at in ring.places() {
            let mut bytes = [0; BLOCK];
            blocks.read(block_at(at), &mut bytes)?;
            *last = Record::parse(&bytes, owner).map_or(0, |record| record.seq).max(*last);
        }
    }
    Ok(Book::new(now, *owner, start, last))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bulkhead_core::fence::words::{Entry, FenceId, Ground, Outcome, Plea, Refusal, Want};
    use bulkhead_core::id::{Epoch, NodeId, RegisterId, SiteId};
    use bulkhead_core::register::voters::Life;

    use super::*;

    #[derive(Default)]
    struct Card(BTreeMap<u32, [u8; BLOCK]>);

    impl Blocks for Card {
        fn read(&mut self, at: u32, bytes: &mut [u8; BLOCK]) -> Result<(), Trouble> {
            *bytes = self.0.get(&at).copied().unwrap_or([0; BLOCK]);
            Ok(())
        }

        fn write(&mut self, at: u32, bytes: &[u8; BLOCK]) -> Result<(), Trouble> {
            self.0.insert(at, *bytes);
            Ok(())
        }
    }

    /// Each start goes on where the one before ended, in both rings, and nothing else on the card is touched.
    #[test]
    fn a_start_goes_on_behind_the_records_of_the_one_before() {
        let owner = Owner { site: SiteId([9; 16]), node: NodeId(3), life: Life(77) };
        let (id, register, epoch) = (FenceId(1), RegisterId(3), Epoch(5));
        let plea = Plea { id, node: NodeId(1), start: None, register, epoch, want: Want::Off };
        let entry = |ground: Option<Ground>, outcome| {
            let (number, at, asker) = (1, Instant::ZERO, NodeId(2));
            Entry { number, at, asker, plea, ground, outcome }
        };
        let mut card = Card::default();
        for start in 1..=3 {
            let mut book = open(&mut card, Instant::ZERO, &owner, start).unwrap();
            for one in [
                entry(Some(Ground::Holder), Outcome::UnderWay),
                entry(Some(Ground::Holder), Outcome::Off),
                entry(None, Outcome::Refused(Refusal::Heard)),
            ] {
                let (at, block) = book.add(Instant::ZERO, one).unwrap();
                card.write(block_at(at), &block).unwrap();
            }
        }
        let found: Vec<_> = card.0.values().map(|block| Record::parse(block, &owner).unwrap()).collect();
        let seqs: Vec<_> =
            found.iter().map(|record| (Ring::of(&record.entry), record.seq, record.start)).collect();
        let orders = (1..=6_u64).map(|seq| (Ring::Orders, seq, seq.div_ceil(2)));
        let refusals = (1..=3).map(|seq| (Ring::Refusals, seq, seq));
        assert_eq!(seqs, orders.chain(refusals).collect::<Vec<_>>());
    }
}
