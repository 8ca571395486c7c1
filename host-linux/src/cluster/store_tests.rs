//! Cuts the power at every write and flush of a voter's life, also while it recovers; fails one flush;
//! hands it the disks of others (F1, F2, F5, F14, F15, F16, V10, V12, V13).

use super::*;
use bulkhead_core::id::RegisterId;
use bulkhead_core::register::ballot::Ballot;
use std::cell::RefCell;
use std::rc::Rc;

const SITE: SiteId = SiteId([7; 16]);
const PLACES: u16 = 2;

fn owner(life: u32) -> Owner {
    Owner { site: SITE, node: NodeId(1), life: Life(life) }
}

/// A disk that loses its power: of what was not flushed, any part is there afterwards.
#[derive(Debug)]
struct Disk {
    durable: Vec<u8>,
    /// Written, not flushed.
    volatile: Vec<(u64, Vec<u8>)>,
    /// Writes and flushes until the power fails.
    left: u32,
    done: u32,
    flush_fails: bool,
}

type Shared = Rc<RefCell<Disk>>;

impl Disk {
    fn blank() -> Self {
        let durable = vec![0; usize::try_from(space(PLACES)).unwrap()];
        Self { durable, volatile: Vec::new(), left: u32::MAX, done: 0, flush_fails: false }
    }

    fn spend(&mut self) -> std::io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(std::io::ErrorKind::Other)?;
        self.done += 1;
        Ok(())
    }

    fn put(durable: &mut [u8], at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        durable[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The disk after the cut; `chance` says which unflushed writes arrived, and how far the torn one.
    fn after_cut(&self, mut chance: u64) -> Self {
        let mut next = Self::blank();
        next.durable.clone_from(&self.durable);
        for (at, bytes) in &self.volatile {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let len = match chance >> 62 {
                0 => 0,
                1 => bytes.len(),
                _ => usize::try_from(chance >> 33).unwrap() % bytes.len(),
            };
            Self::put(&mut next.durable, *at, &bytes[..len]);
        }
        next
    }
}

impl Medium for Shared {
    fn read(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let disk = self.borrow();
        let mut seen = disk.durable.clone();
        disk.volatile.iter().for_each(|(at, bytes)| Disk::put(&mut seen, *at, bytes));
        let at = usize::try_from(at).unwrap();
        buffer.copy_from_slice(&seen[at..at + buffer.len()]);
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut disk = self.borrow_mut();
        disk.volatile.push((at, bytes.to_vec()));
        disk.spend()
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut disk = self.borrow_mut();
        disk.spend()?;
        if disk.flush_fails {
            return Err(std::io::ErrorKind::Other.into());
        }
        for (at, bytes) in std::mem::take(&mut disk.volatile) {
            Disk::put(&mut disk.durable, at, &bytes);
        }
        Ok(())
    }
}

fn stored(place: u16, seq: u64) -> Stored {
    let promised = Ballot::new(seq, NodeId(1));
    Stored { register: RegisterId(place + 10), seq, promised, accepted: None }
}

fn change(place: u16, seq: u64) -> BTreeMap<u16, Bytes> {
    BTreeMap::from([(place, stored(place, seq).encode(&owner(1)))])
}

/// A voter's life: it opens its state and changes its registers; what was called durable is in `promised`.
fn live(disk: &Shared, promised: &mut [u64; 2]) -> Option<()> {
    let mut opened = open_on(Rc::clone(disk), owner(1), PLACES).ok()?;
    for round in 1..=4 {
        for (place, promised) in (0..PLACES).zip(promised.iter_mut()) {
            opened.store.persist(&change(place, *promised + 1)).ok()?;
            *promised += 1;
        }
        if round % 2 == 0 {
            opened.store.settle().ok()?;
        }
    }
    Some(())
}

fn reopen(disk: Disk, promised: [u64; 2], what: &str) -> Shared {
    let disk = Rc::new(RefCell::new(disk));
    let opened = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap_or_else(|why| panic!("{what}: {why:?}"));
    for (place, promised) in (0..PLACES).zip(promised) {
        let seq = opened.registers.iter().find(|(at, _)| *at == place).map_or(0, |(_, stored)| stored.seq);
        assert!(
            (promised..=promised + 1).contains(&seq),
            "{what}: place {place}: {seq}, promised {promised}"
        );
    }
    disk
}

#[test]
fn nothing_that_was_promised_is_lost_at_any_cut_also_while_recovering() {
    let whole = Rc::new(RefCell::new(Disk::blank()));
    live(&whole, &mut [0; 2]).unwrap();
    let steps = whole.borrow().done;
    assert!(40 < steps, "{steps}");
    for cut in 0..steps {
        for chance in 0..24_u64 {
            let what = format!("cut {cut} chance {chance}");
            let disk = Rc::new(RefCell::new(Disk { left: cut, ..Disk::blank() }));
            let mut promised = [0; 2];
            assert_eq!(live(&disk, &mut promised), None, "{what}");
            // It recovers; and it is cut once more while it does.
            let first = disk.borrow().after_cut(chance);
            let again = Rc::new(RefCell::new(Disk { left: u32::try_from(chance).unwrap(), ..first }));
            let _ = open_on(Rc::clone(&again), owner(1), PLACES);
            let second = again.borrow().after_cut(chance + 99);
            let recovered = reopen(second, promised, &what);
            let twice = recovered.borrow().after_cut(0);
            reopen(twice, promised, &what);
        }
    }
}

/// V13, F5: a later flush that succeeds does not make good what an earlier one may have lost.
#[test]
fn a_flush_that_failed_is_final() {
    let disk = Rc::new(RefCell::new(Disk::blank()));
    let mut opened = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    opened.store.persist(&change(0, 1)).unwrap();
    disk.borrow_mut().flush_fails = true;
    assert_eq!(opened.store.persist(&change(0, 2)), Err(Failed));
    disk.borrow_mut().flush_fails = false;
    assert_eq!(opened.store.persist(&change(1, 1)), Err(Failed));
    assert_eq!(opened.store.settle(), Err(Failed));
}

#[test]
fn a_voter_keeps_its_life_and_a_blank_disk_gives_it_a_new_one() {
    let disk = Rc::new(RefCell::new(Disk::blank()));
    let first = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    assert!(first.is_new && first.registers.is_empty());
    let second = open_on(Rc::clone(&disk), owner(2), PLACES).unwrap();
    assert!(!second.is_new);
    assert_eq!(second.owner, owner(1));
}

/// F14, V40.
#[test]
fn the_disk_of_another_is_refused() {
    let disk = Rc::new(RefCell::new(Disk::blank()));
    open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    let others = [Owner { node: NodeId(2), ..owner(1) }, Owner { site: SiteId([8; 16]), ..owner(1) }];
    for other in others {
        let refused = open_on(Rc::clone(&disk), other, PLACES).unwrap_err();
        assert!(matches!(refused, Trouble::Foreign(found) if found == owner(1)));
        assert!(refused.failure(Path::new("votes")).what.contains("the votes of node 1 of site 07070707-"));
    }
}

#[test]
fn both_copies_rotten_is_refused_and_one_is_mended() {
    let disk = Rc::new(RefCell::new(Disk::blank()));
    let mut opened = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    opened.store.persist(&change(0, 1)).unwrap();
    opened.store.settle().unwrap();
    let rot = |copy| {
        let at = usize::try_from(offset(0, copy)).unwrap() + 40;
        disk.borrow_mut().durable[at] ^= 1;
    };
    rot(0);
    let mended = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    assert_eq!(mended.registers, [(0, stored(0, 1))]);
    rot(0);
    rot(1);
    let lost = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap_err();
    assert!(matches!(lost, Trouble::Fault(Some(0), Fault::Damaged)), "{lost:?}");
}

#[test]
fn a_file_of_another_length_or_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || super::open(directory.path(), None, SITE, NodeId(1), PLACES);
    let first = open().unwrap();
    assert!(first.is_new);
    assert!(open().unwrap_err().what.contains("another agent uses"));
    drop(first);
    assert!(!open().unwrap().is_new);
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("votes")).unwrap();
    for (length, word) in [(space(PLACES) - 1, "truncated"), (space(PLACES) + 1, "grown"), (0, "truncated")] {
        file.set_len(length).unwrap();
        let refused = open().unwrap_err();
        assert!(refused.exit.code() == 3 && refused.what.contains(word), "{refused:?}");
    }
}

#[test]
fn a_partition_keeps_what_lies_before_the_votes() {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("infra");
    std::fs::write(&device, vec![0xaa; 1 << 20]).unwrap();
    let open = || super::open(directory.path(), Some(&device), SITE, NodeId(1), PLACES);
    assert!(open().unwrap_err().what.contains("the votes need"));
    let file = std::fs::OpenOptions::new().write(true).open(&device).unwrap();
    file.set_len(2 << 20).unwrap();
    let mut opened = open().unwrap();
    let change = BTreeMap::from([(0, stored(0, 1).encode(&opened.owner))]);
    opened.store.persist(&change).unwrap();
    drop(opened);
    assert_eq!(open().unwrap().registers, [(0, stored(0, 1))]);
    assert!(std::fs::read(&device).unwrap()[..1 << 20].iter().all(|byte| *byte == 0xaa));
}

/// V10: two registers are written for the first time together, and only the second reaches the disk. At the
/// next start both places are free: what lay there must not be taken for the register that comes there next.
#[test]
fn what_was_cut_behind_the_end_is_nobodys() {
    let disk = Rc::new(RefCell::new(Disk::blank()));
    let mut opened = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    let stale = stored(1, 9);
    let both = BTreeMap::from([(0, stored(0, 1).encode(&owner(1))), (1, stale.encode(&owner(1)))]);
    disk.borrow_mut().left = 2;
    assert_eq!(opened.store.persist(&both), Err(Failed), "the power fails before the flush");
    let mut cut = Disk::blank();
    cut.durable.clone_from(&disk.borrow().durable);
    Disk::put(&mut cut.durable, offset(1, 0), &stale.encode(&owner(1)));

    let disk = Rc::new(RefCell::new(cut));
    let mut opened = open_on(Rc::clone(&disk), owner(1), PLACES).unwrap();
    assert_eq!(opened.registers, []);
    for place in [1, 0] {
        // The second register comes first this time.
        let bytes = stored(place, 1).encode(&owner(1));
        opened.store.persist(&BTreeMap::from([(1 - place, bytes)])).unwrap();
    }
    drop(opened);
    let opened = open_on(disk, owner(1), PLACES).unwrap();
    assert_eq!(opened.registers, [(0, stored(1, 1)), (1, stored(0, 1))]);
}

/// V39: a place that is empty before one that was settled was lost, and the voter must not forget it.
#[test]
fn a_place_that_was_emptied_is_damage() {
    let disk = Rc::new(RefCell::new(Disk::blank()));
    live(&disk, &mut [0; 2]).unwrap();
    for copy in [0, 1] {
        Disk::put(&mut disk.borrow_mut().durable, offset(0, copy), &[0; STORED_LEN]);
    }
    let refused = open_on(disk, owner(1), PLACES).map(|_| ());
    assert!(matches!(refused, Err(Trouble::Fault(Some(0), Fault::Damaged))), "{refused:?}");
}
