//! S4-02; I6, I12: whatever is read, changed, removed and switched, in whatever order and at once, what is in
//! the cache is what the store has.

use super::super::backing::How;
use super::super::extents::Content;
use super::super::store::{Damaged, Store};
use super::*;
use crate::storage::buffers::Pool;
use bulkhead_core::volume::name::Name;
use bulkhead_core::volume::record::{Record, State, Uuid};
use proptest::prelude::*;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const V: Volume = Volume(3);
/// Blocks of the volume in these tests; the cache has room for fewer.
const BLOCKS: u64 = 24;
const CELLS: u64 = 10;

fn cache() -> ReadCache {
    let cache = ReadCache::default();
    cache.take(CELLS * 4096).unwrap();
    cache
}

fn stamp(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// A read by which the cache is all there is: what it does not have must not be asked for.
fn resident(cache: &ReadCache, block: u64) -> Option<u64> {
    let inner = lock(cache.0.get().unwrap());
    let cell = inner.residents.peek(Key::new(V, BlockIndex(block)).unwrap())?;
    Some(stamp(&inner.page(cell).unwrap().0))
}

/// A catalogue that wants this of the cache.
fn catalogue(algorithm: Option<Algorithm>, is_cached: bool) -> Catalogue {
    let mut catalogue = Catalogue::new();
    let (state, name, uuid) = (State::Present, Name::new("vm1").unwrap(), Uuid([1; 16]));
    let record = Record {
        volume: V,
        state,
        name,
        uuid,
        blocks: BLOCKS,
        change: 1,
        policy: None,
        is_cached,
        seal: None,
        guest: None,
    };
    catalogue.take(V.0.into(), &record.encode()).unwrap();
    let group = catalogue.cache_of_all(algorithm);
    catalogue.take(0, &group.encode()).unwrap();
    catalogue
}

#[derive(Clone, Debug)]
enum Op {
    Look { reader: usize, first: u64, blocks: u64 },
    Fetch { reader: usize },
    Keep { reader: usize },
    GiveUp { reader: usize },
    Change { writer: usize, first: u64, blocks: u64 },
    Changed { writer: usize },
    Follow { algorithm: Option<Algorithm>, is_cached: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (reader, writer) = (0..4_usize, 0..2_usize);
    let span = (0..BLOCKS, 1..8_u64).prop_map(|(first, blocks)| (first, blocks.min(BLOCKS - first)));
    let algorithm = prop::sample::select(vec![
        Some(Algorithm::Lru),
        Some(Algorithm::Clock),
        Some(Algorithm::Arc),
        Some(Algorithm::Arc),
        None,
    ]);
    let follow = (algorithm, prop::bool::weighted(0.7));
    let one = prop_oneof![
        12 => (reader.clone(), span.clone())
            .prop_map(|(reader, (first, blocks))| Op::Look { reader, first, blocks }),
        12 => reader.clone().prop_map(|reader| Op::Fetch { reader }),
        12 => reader.clone().prop_map(|reader| Op::Keep { reader }),
        1 => reader.prop_map(|reader| Op::GiveUp { reader }),
        4 => (writer.clone(), span)
            .prop_map(|(writer, (first, blocks))| Op::Change { writer, first, blocks }),
        6 => writer.prop_map(|writer| Op::Changed { writer }),
        1 => follow.prop_map(|(algorithm, is_cached)| Op::Follow { algorithm, is_cached }),
    ];
    prop::collection::vec(one, 1..300)
}

/// A read between its beginning and its end.
struct Looked<'c> {
    underway: Underway<'c>,
    span: Span,
    missing: Range<usize>,
    bytes: Vec<u8>,
    is_fetched: bool,
}

/// While a block is being changed, nobody knows what the store has there.
const TORN: u64 = u64::MAX;

fn fetch(looked: &mut Looked<'_>, store: &[u64]) {
    for number in looked.missing.clone() {
        let block = usize::try_from(looked.span.first).unwrap() + number;
        looked.bytes[number * 4096..][..8].copy_from_slice(&store[block].to_le_bytes());
    }
    looked.is_fetched = true;
}

/// Begins a read; what is here already must be what the store has.
fn look<'c>(cache: &'c ReadCache, store: &[u64], span: Span) -> Option<Looked<'c>> {
    let inner = cache.0.get().unwrap();
    let mut bytes = vec![0; usize::try_from(span.blocks).unwrap() * 4096];
    let (ticket, missing) = match lock(inner).begin(span, &mut bytes) {
        Begun::Past => return None,
        Begun::All => (None, 0..0),
        Begun::Fill(ticket, missing) => (Some(ticket), missing),
    };
    for (number, block) in (span.first..span.end()).enumerate() {
        if !missing.contains(&number) {
            assert_eq!(stamp(&bytes[number * 4096..]), store[usize::try_from(block).unwrap()]);
        }
    }
    let underway = Underway { inner, ticket: ticket? };
    Some(Looked { underway, span, missing, bytes, is_fetched: false })
}

proptest! {
    /// Four readers, two writers and an operator, step by step, in any order.
    #[test]
    fn in_any_order_it_has_what_the_store_has(ops in ops()) {
        let cache = cache();
        let (mut store, mut written) = (vec![0; usize::try_from(BLOCKS).unwrap()], 0);
        let mut readers = [const { None::<Looked<'_>> }; 4];
        let mut writers = [const { None::<(Option<Underway<'_>>, u64, u64)> }; 2];
        for op in ops {
            match op {
                Op::Look { reader, first, blocks } => {
                    readers[reader] = None;
                    readers[reader] = look(&cache, &store, Span { volume: V, first, blocks });
                }
                Op::Fetch { reader } => {
                    if let Some(looked) = &mut readers[reader] {
                        fetch(looked, &store);
                    }
                }
                Op::Keep { reader } => {
                    if let Some(looked) = readers[reader].take_if(|looked| looked.is_fetched) {
                        let Underway { inner, ticket } = &looked.underway;
                        lock(inner).keep(*ticket, &looked.bytes);
                    }
                }
                Op::GiveUp { reader } => readers[reader] = None,
                Op::Change { writer, first, blocks } => {
                    // Two never write the same block at once: nobody would know what is there.
                    let is_free = |one: &Option<(_, u64, u64)>| {
                        one.as_ref().is_none_or(|(_, from, end)| *end <= first || first + blocks <= *from)
                    };
                    if writers[writer].is_none() && writers.iter().all(is_free) {
                        writers[writer] = Some((cache.change(V, first, blocks), first, first + blocks));
                        (first..first + blocks).for_each(|at| store[usize::try_from(at).unwrap()] = TORN);
                    }
                }
                Op::Changed { writer } => {
                    if let Some((underway, first, end)) = writers[writer].take() {
                        written += 1;
                        (first..end).for_each(|at| store[usize::try_from(at).unwrap()] = written);
                        drop(underway);
                    }
                }
                Op::Follow { algorithm, is_cached } => cache.follow(&catalogue(algorithm, is_cached)),
            }
            for (block, content) in (0..).zip(&store) {
                if let Some(found) = resident(&cache, block) {
                    prop_assert_eq!(found, *content, "block {}", block);
                    prop_assert_ne!(found, TORN);
                }
            }
        }
        drop((readers, writers));
        let inner = lock(cache.0.get().unwrap());
        prop_assert!(inner.fills.is_empty() && inner.changes.is_empty());
    }
}

/// A store in a directory of its own, with a cache.
fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    store.cache = cache();
    (directory, store)
}

fn write(store: &Store, first: u64, blocks: u64, number: u64) {
    let mut buffer = Pool::new(1 << 20).unwrap().take(usize::try_from(blocks).unwrap()).unwrap();
    for block in buffer.bytes_mut().chunks_exact_mut(4096) {
        block[..8].copy_from_slice(&number.to_le_bytes());
    }
    store.write(V, first, blocks, &Content::Data(buffer.keep().piece())).unwrap();
}

/// As a guest reads; `meanwhile` happens after the store was read.
fn read(store: &Store, block: u64, meanwhile: impl FnOnce()) -> u64 {
    let mut bytes = vec![0; 4096];
    let by = |first, bytes: &mut [u8]| {
        store.read(V, first, bytes, How::Waiting)?;
        meanwhile();
        Ok(())
    };
    store.cache.read((V, block), &mut bytes, by).unwrap();
    stamp(&bytes)
}

fn nothing() {}

/// The applier writes between a read of the store and its end: what was read is of before.
#[test]
fn what_was_written_meanwhile_is_read_next() {
    let (_directory, store) = store();
    write(&store, 0, 4, 1);
    assert_eq!(read(&store, 2, || write(&store, 0, 4, 2)), 1, "the write came later than this read");
    assert_eq!(read(&store, 2, nothing), 2);
    assert_eq!(read(&store, 2, || panic!("it is in memory")), 2);
    // Of other blocks it may keep what it read.
    read(&store, 3, || write(&store, 0, 1, 3));
    assert_eq!(read(&store, 3, || panic!("it is in memory")), 2);
    for blocks in [3 * PIECE, 1 << 40] {
        let last = 3 * PIECE - 1;
        write(&store, 2, 1, 4);
        write(&store, last, 1, 5);
        assert_eq!((read(&store, 2, nothing), read(&store, last, nothing)), (4, 5));
        store.write(V, 1, blocks - 1, &Content::Zeroes).unwrap();
        assert_eq!((resident(&store.cache, 2), resident(&store.cache, last)), (None, None));
        assert_eq!((read(&store, 2, nothing), read(&store, last, nothing)), (0, 0), "trimmed");
    }
}

/// A volume is deleted, and its number is another one's, while a reader still has its file open.
#[test]
fn nothing_of_a_volume_that_was_removed_is_in_the_next_one() {
    let (_directory, store) = store();
    write(&store, 0, 4, 1);
    assert_eq!((read(&store, 0, nothing), resident(&store.cache, 0)), (1, Some(1)));
    assert_eq!(read(&store, 1, || store.remove(V).unwrap()), 1);
    assert_eq!((resident(&store.cache, 0), resident(&store.cache, 1)), (None, None));
    write(&store, 1, 1, 2);
    assert_eq!((read(&store, 0, nothing), read(&store, 1, nothing)), (0, 2));
}

/// The disk stands still while the applier writes: what is read meanwhile is not kept, whichever it is.
#[test]
fn what_is_read_while_it_is_written_is_not_kept() {
    let (_directory, store) = store();
    write(&store, 0, 4, 1);
    read(&store, 0, nothing);
    let gate = store.gate.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| write(&store, 0, 2, 2));
        let is_begun = || !lock(store.cache.0.get().unwrap()).changes.is_empty();
        let begins = (0..3_000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_begun()
        });
        assert!(begins, "a write is a change");
        assert_eq!((resident(&store.cache, 0), read(&store, 0, nothing)), (None, 1));
        assert_eq!(resident(&store.cache, 0), None);
        read(&store, 2, nothing);
        assert_eq!(resident(&store.cache, 2), Some(1), "nobody writes there");
        drop(gate);
    });
    assert_eq!((read(&store, 0, nothing), read(&store, 2, nothing)), (2, 1));
}

/// V5, F7: a block rots on the disk, and another holder says what is there: something newer, as it may be.
#[test]
fn what_is_mended_is_read_next() {
    let (_directory, store) = store();
    write(&store, 0, 4, 1);
    read(&store, 1, nothing);
    let file = std::fs::OpenOptions::new().write(true).open(store.path(V)).unwrap();
    file.write_all_at(&[0x55; 8192], 4096).unwrap();
    assert_eq!(read(&store, 1, nothing), 1, "it is in memory, and was what was written");
    let mut content = vec![0; 4096];
    content[..8].copy_from_slice(&2_u64.to_le_bytes());
    store.mend(Damaged { volume: V, block: 1 }, &content).unwrap();
    assert_eq!(read(&store, 1, nothing), 2);
    let damaged = store.cache.read((V, 2), &mut content, |first, to| store.read(V, first, to, How::Waiting));
    assert!(Damaged::of(&damaged.unwrap_err()).is_some());
    assert_eq!(resident(&store.cache, 2), None);
}

/// V5, F7: what could not be read, or was not what was written, is not kept.
#[test]
fn what_fails_is_not_kept() {
    let cache = cache();
    let mut bytes = vec![0; 4096];
    for kind in [ErrorKind::InvalidData, ErrorKind::WouldBlock] {
        let error = cache.read((V, 1), &mut bytes, |_, bytes| {
            bytes.fill(9);
            Err(kind.into())
        });
        assert_eq!((error.unwrap_err().kind(), resident(&cache, 1)), (kind, None));
    }
    let inner = lock(cache.0.get().unwrap());
    assert!(inner.fills.is_empty() && inner.residents.tally().resident == 0);
}

/// Of what is partly here only the rest is asked for, in one piece.
#[test]
fn the_store_is_asked_for_what_is_missing() {
    let cache = cache();
    let asked = |first: u64, blocks: usize| {
        let (mut bytes, mut asked) = (vec![0; blocks * 4096], None);
        cache
            .read((V, first), &mut bytes, |first, bytes| {
                asked = Some((first, bytes.len() / 4096));
                for (number, block) in (first..).zip(bytes.chunks_exact_mut(4096)) {
                    block[..8].copy_from_slice(&number.to_le_bytes());
                }
                Ok(())
            })
            .unwrap();
        let said: Vec<_> = bytes.chunks_exact(4096).map(stamp).collect();
        assert_eq!(said, (first..).take(blocks).collect::<Vec<_>>());
        asked
    };
    assert_eq!((asked(4, 2), asked(4, 2)), (Some((4, 2)), None));
    assert_eq!((asked(2, 4), asked(2, 4)), (Some((2, 2)), None));
    assert_eq!((asked(1, 6), asked(1, 6)), (Some((1, 6)), None), "from the first to the last");
    let CacheView { bytes, used_bytes, hits, misses, .. } = cache.view();
    assert_eq!((bytes, used_bytes, hits, misses), (CELLS * 4096, 6 * 4096, 18, 6));
    // Longer ones go past it.
    assert_eq!((asked(0, 257), asked(0, 257)), (Some((0, 257)), Some((0, 257))));
    assert_eq!(cache.view().misses, 6);
}

/// S4-02: an operator chooses, at run time; without memory there is nothing to choose.
#[test]
fn what_is_not_wanted_does_not_stay() {
    let (_directory, mut store) = store();
    write(&store, 0, 4, 1);
    let stays = |store: &Store, wanted: &Catalogue| {
        store.cache.follow(wanted);
        assert_eq!(read(store, 0, nothing), 1);
        resident(&store.cache, 0).is_some()
    };
    assert!(stays(&store, &Catalogue::new()));
    assert!(!stays(&store, &catalogue(None, true)));
    assert!(stays(&store, &catalogue(Some(Algorithm::Lru), true)));
    assert!(!stays(&store, &catalogue(Some(Algorithm::Lru), false)));
    assert!(stays(&store, &catalogue(Some(Algorithm::Clock), true)));
    // Switched off while the store is read.
    store.cache.follow(&catalogue(Some(Algorithm::Arc), true));
    read(&store, 3, || store.cache.follow(&catalogue(None, true)));
    assert_eq!((resident(&store.cache, 0), resident(&store.cache, 3)), (None, None));
    store.cache.follow(&catalogue(Some(Algorithm::Arc), true));
    read(&store, 3, || store.cache.follow(&catalogue(Some(Algorithm::Arc), false)));
    assert_eq!(resident(&store.cache, 3), None);
    store.cache = ReadCache::default();
    store.cache.take(4095).unwrap();
    store.cache.follow(&Catalogue::new());
    assert_eq!((read(&store, 0, nothing), store.cache.view()), (1, CacheView::default()));
    assert!(store.cache.change(V, 0, 1).is_none());
    assert_eq!(store.cache.take(1 << 60), Err(TooLarge));
}

/// Volume 0 is read by this node alone, when it starts.
#[test]
fn the_catalogue_does_not_stay() {
    let cache = cache();
    for _ in 0..2 {
        let (mut bytes, mut is_asked) = (vec![0; 4096], false);
        let by = |_, _: &mut [u8]| {
            is_asked = true;
            Ok(())
        };
        cache.read((CATALOGUE, 0), &mut bytes, by).unwrap();
        assert!(is_asked);
    }
}

/// Threads that read and one that writes and trims, as fast as they can: nobody reads less than what was
/// there when it began, nor what never was there.
#[test]
fn who_reads_while_others_write_never_reads_less() {
    const ROUNDS: u64 = 2_000;
    let (_directory, store) = store();
    write(&store, 0, BLOCKS, 1);
    let newest: Vec<_> = (0..BLOCKS).map(|_| AtomicU64::new(1)).collect();
    let is_over = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let (store, newest, is_over) = (&store, &newest, &is_over);
            scope.spawn(move || {
                let mut step = reader;
                while is_over.load(Ordering::SeqCst) == 0 {
                    step =
                        step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let block = (step >> 33) % BLOCKS;
                    let known = newest[usize::try_from(block).unwrap()].load(Ordering::SeqCst);
                    let found = read(store, block, nothing);
                    assert!(known <= found && found <= ROUNDS + 1, "block {block}: {found} after {known}");
                }
            });
        }
        for round in 2..=ROUNDS {
            let (first, blocks) = (round * 7 % BLOCKS, 1 + round % 3);
            let blocks = blocks.min(BLOCKS - first);
            write(&store, first, blocks, round);
            for block in first..first + blocks {
                newest[usize::try_from(block).unwrap()].store(round, Ordering::SeqCst);
            }
        }
        is_over.store(1, Ordering::SeqCst);
    });
    assert!(0 < store.cache.view().hits);
    for block in 0..BLOCKS {
        let expected = newest[usize::try_from(block).unwrap()].load(Ordering::SeqCst);
        assert_eq!((read(&store, block, nothing), read(&store, block, nothing)), (expected, expected));
    }
}
