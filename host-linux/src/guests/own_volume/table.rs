//! What an own volume holds and where: found, placed into free room, replaced, removed. No I/O, no clock.

use bulkhead_core::volume::name::Name;
use std::ops::Range;

/// Bytes of a block, which is what is written at once.
pub const BLOCK: usize = 4096;
/// The blocks with the two copies of the table.
pub const TABLES: u64 = 2;
/// What one table can hold: it is one block.
pub const ENTRIES_MAX: usize = 31;

/// What a part of the volume is. Each is there once at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The guest's description, in which its kernel is called `kernel` and its first files `initrd`.
    Description,
    /// Its kernel.
    Kernel,
    /// Its first files.
    Initrd,
    /// All of it at one moment.
    Snapshot(Name),
    /// To which pair it moves, or from which (`moving.rs`).
    Move,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Description => f.write_str("the description"),
            Self::Kernel => f.write_str("the kernel"),
            Self::Initrd => f.write_str("the initrd"),
            Self::Snapshot(name) => write!(f, "the snapshot {name}"),
            Self::Move => f.write_str("the note of its move"),
        }
    }
}

/// A part of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub what: What,
    /// Its first block.
    pub first: u64,
    /// Its bytes; the rest of its last block is zero.
    pub length: u64,
    /// BLAKE3 of these bytes.
    pub digest: [u8; 32],
    /// Seconds since 1970 by the clock of the node that wrote it: for people.
    pub at: u64,
}

impl Entry {
    /// Its blocks. No byte has none.
    #[must_use]
    pub const fn extent(&self) -> Range<u64> {
        self.first..self.first.saturating_add(blocks(self.length))
    }
}

/// Blocks for so many bytes.
#[must_use]
pub const fn blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK as u64)
}

/// The table of contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// How often it was changed. The one with the higher number is the newer one; 0: never written.
    pub generation: u64,
    entries: Vec<Entry>,
}

/// Why a table is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// It has more than [`ENTRIES_MAX`].
    #[error("it has {0} entries; {ENTRIES_MAX} are possible")]
    Entries(usize),
    /// Something is in it twice.
    #[error("{0} is in it twice")]
    Twice(What),
    /// Something lies where nothing can.
    #[error("{0} does not lie within the volume")]
    Beyond(What),
    /// Two parts have a block in common.
    #[error("{} and {} overlap", .0.0, .0.1)]
    Overlap(Box<(What, What)>),
}

impl Table {
    /// A table of these.
    ///
    /// # Errors
    ///
    /// They cannot be on a volume of so many blocks together.
    pub fn new(generation: u64, entries: Vec<Entry>, blocks: u64) -> Result<Self, Nonsense> {
        if ENTRIES_MAX < entries.len() {
            return Err(Nonsense::Entries(entries.len()));
        }
        for (number, entry) in entries.iter().enumerate() {
            let Range { start, end } = entry.extent();
            if start < TABLES || blocks < end || entry.length.checked_next_multiple_of(4096).is_none() {
                return Err(Nonsense::Beyond(entry.what.clone()));
            }
            for other in entries.iter().take(number) {
                if other.what == entry.what {
                    return Err(Nonsense::Twice(entry.what.clone()));
                }
                let have_common = start.max(other.extent().start) < end.min(other.extent().end);
                if have_common {
                    let both = (other.what.clone(), entry.what.clone());
                    return Err(Nonsense::Overlap(Box::new(both)));
                }
            }
        }
        Ok(Self { generation, entries })
    }

    /// All that is there.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The part that is this.
    #[must_use]
    pub fn find(&self, what: &What) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.what == *what)
    }

    /// Puts it there, in place of what was the same. `false`: the table is full.
    #[must_use]
    pub fn put(&mut self, entry: Entry) -> bool {
        self.remove(&entry.what);
        let has_room = self.entries.len() < ENTRIES_MAX;
        if has_room {
            self.entries.push(entry);
        }
        has_room
    }

    /// Takes it out; what it was.
    pub fn remove(&mut self, what: &What) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.what == *what)?;
        Some(self.entries.remove(at))
    }

    /// The free blocks of a volume of so many, without those that are `taken`: runs of them, first one first.
    #[must_use]
    pub fn gaps(&self, blocks: u64, taken: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut used: Vec<_> = self.entries.iter().map(Entry::extent).chain(taken.iter().cloned()).collect();
        used.sort_by_key(|extent| extent.start);
        let end = blocks..blocks;
        let mut from = TABLES;
        let mut gaps = Vec::new();
        for extent in used.into_iter().chain([end]) {
            if from < extent.start {
                gaps.push(from..extent.start);
            }
            from = from.max(extent.end);
        }
        gaps
    }
}

/// Where so many bytes go: the smallest gap that has room, so that the large ones stay.
#[must_use]
pub fn smallest(gaps: &[Range<u64>], length: u64) -> Option<Range<u64>> {
    let need = blocks(length);
    let fits = gaps.iter().filter(|gap| need <= room(gap));
    let gap = fits.min_by_key(|gap| room(gap))?;
    Some(gap.start..gap.start.saturating_add(need))
}

/// Where goes what nobody knows the length of.
#[must_use]
pub fn largest(gaps: &[Range<u64>]) -> Option<Range<u64>> {
    gaps.iter().max_by_key(|gap| room(gap)).cloned()
}

/// Blocks of a run.
#[must_use]
pub const fn room(gap: &Range<u64>) -> u64 {
    gap.end.saturating_sub(gap.start)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn snapshot(name: &str) -> What {
        What::Snapshot(Name::new(name).unwrap())
    }

    pub(crate) fn entry(what: What, first: u64, length: u64) -> Entry {
        Entry { what, first, length, digest: [7; 32], at: 9 }
    }

    #[test]
    fn what_lies_free_is_found() {
        let entries = vec![
            entry(What::Kernel, 5, 3 * 4096),
            entry(What::Description, 2, 1),
            entry(snapshot("a"), 12, 4097),
        ];
        let table = Table::new(1, entries, 20).unwrap();
        assert_eq!(table.gaps(20, &[]), [3..5, 8..12, 14..20]);
        assert_eq!(table.gaps(20, &[8..10, 14..20]), [3..5, 10..12]);
        let gaps = table.gaps(20, &[]);
        assert_eq!((smallest(&gaps, 4096), smallest(&gaps, 4097)), (Some(3..4), Some(3..5)));
        assert_eq!((smallest(&gaps, 8193), smallest(&gaps, 4 * 4096 + 1)), (Some(8..11), Some(14..19)));
        assert_eq!((smallest(&gaps, 6 * 4096 + 1), largest(&gaps)), (None, Some(14..20)));
        assert_eq!((Table::default().gaps(2, &[]), largest(&[])), (vec![], None));
        assert_eq!(Table::default().gaps(0, &[]), []);
    }

    #[test]
    fn what_is_put_takes_the_place_of_its_like() {
        let mut table = Table::default();
        assert!(table.put(entry(What::Kernel, 2, 1)) && table.put(entry(What::Kernel, 3, 1)));
        assert_eq!((table.entries().len(), table.find(&What::Kernel).unwrap().first), (1, 3));
        for number in 1..ENTRIES_MAX {
            assert!(table.put(entry(snapshot(&number.to_string()), 3, 0)));
        }
        assert!(!table.put(entry(snapshot("more"), 3, 0)));
        // Whoever replaces needs no room.
        assert!(table.put(entry(snapshot("7"), 4, 0)));
        assert_eq!(table.remove(&What::Initrd), None);
        assert_eq!(table.remove(&What::Kernel).map(|entry| entry.first), Some(3));
        assert!(table.put(entry(snapshot("more"), 3, 0)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let of = |entries| Table::new(1, entries, 10).unwrap_err();
        let kernel = || entry(What::Kernel, 4, 8192);
        assert_eq!(of(vec![entry(What::Initrd, 1, 1)]), Nonsense::Beyond(What::Initrd));
        assert_eq!(of(vec![entry(What::Initrd, 9, 4097)]), Nonsense::Beyond(What::Initrd));
        assert_eq!(of(vec![entry(What::Initrd, u64::MAX, u64::MAX)]), Nonsense::Beyond(What::Initrd));
        assert_eq!(of(vec![entry(What::Initrd, 2, u64::MAX)]), Nonsense::Beyond(What::Initrd));
        assert_eq!(of(vec![kernel(), kernel()]), Nonsense::Twice(What::Kernel));
        let overlap = Nonsense::Overlap(Box::new((What::Kernel, What::Initrd)));
        assert_eq!(overlap.to_string(), "the kernel and the initrd overlap");
        assert_eq!(of(vec![kernel(), entry(What::Initrd, 5, 1)]), overlap);
        assert_eq!(of(vec![kernel(), entry(What::Initrd, 3, 4097)]), overlap);
        let many = (0..32).map(|number| entry(snapshot(&number.to_string()), 2, 0)).collect();
        assert_eq!(of(many), Nonsense::Entries(32));
        assert!(Table::new(1, vec![kernel(), entry(What::Initrd, 6, 4 * 4096)], 10).is_ok());
    }
}
