//! F43, V44: what a hostile driver writes, and what an honest one gets.

use super::super::testing::{AVAILABLE, DATA, Driver, INDIRECT, MEMORY, SIZE, TABLE, USED, event};
use super::*;
use proptest::prelude::*;
use vm_memory::GuestMemoryBackend as _;

#[test]
fn a_chain_is_read_written_and_given_back() {
    let mut driver = Driver::default();
    let (ring, interrupt) = driver.ring();
    assert!(ring.is_sound() && ring.take().unwrap().is_empty());
    driver.put(DATA, b"hello, ");
    driver.put(DATA + 100, b"world");
    driver.ask(3, &[(DATA, 7, false), (DATA + 100, 5, false), (DATA + 200, 4, true), (DATA + 300, 9, true)]);
    let chains = ring.take().unwrap();
    let chain = &chains[0];
    assert_eq!((chains.len(), chain.lengths()), (1, (12, 13)));
    assert_eq!(ring.read(chain, 0, 12).unwrap(), b"hello, world");
    assert_eq!(ring.read(chain, 5, 4).unwrap(), b", wo");
    assert_eq!(ring.read(chain, 5, 8), None, "there is no more");
    assert!(ring.write(chain, 2, b"abcd"));
    assert_eq!((driver.get(DATA + 200, 4), driver.get(DATA + 300, 3)), (b"\0\0ab".into(), b"cd\0".into()));
    assert!(!ring.write(chain, 10, b"abcd"), "there is no room");
    assert_eq!(interrupt.why(), 0);
    ring.done(chain, 4);
    assert_eq!((driver.used(), interrupt.why()), (vec![(3, 4)], 1));
    interrupt.acknowledge(1);
    assert_eq!(interrupt.why(), 0);
}

/// Nothing is under way between two calls: what is taken is given back, or was never taken.
#[test]
fn bytes_are_put_and_got_at_once() {
    let mut driver = Driver::default();
    let (ring, interrupt) = driver.ring();
    let stamp = |bytes: &mut [u8], chains: u16| bytes[0] = u8::try_from(chains).unwrap();
    let put = |bytes: &[u8], chains_max| ring.put(&mut bytes.to_vec(), chains_max, stamp);
    assert_eq!((ring.is_asked(), put(b"x", 9), ring.get(&mut [0; 8])), (Ok(false), Ok(Put::Later), Ok(None)));
    driver.ask(0, &[(DATA, 3, true), (DATA + 100, 2, true)]);
    driver.ask(4, &[(DATA + 200, 4, true)]);
    assert_eq!((put(b"0123456789", 9), put(b"0123456789", 2)), (Ok(Put::Later), Ok(Put::Never)));
    assert_eq!((ring.is_asked(), driver.used(), interrupt.why()), (Ok(true), vec![], 0));
    assert_eq!(put(b"0123456", 2), Ok(Put::Done));
    assert_eq!((driver.used(), interrupt.why()), (vec![(0, 5), (4, 2)], 1));
    let there = [(DATA, 4), (DATA + 100, 3), (DATA + 200, 3)].map(|(at, count)| driver.get(at, count));
    assert_eq!(there, [b"\x0212\0".to_vec(), b"34\0".to_vec(), b"56\0".to_vec()]);

    driver.put(DATA, b"hello");
    driver.ask(0, &[(DATA, 2, false), (DATA + 2, 3, false)]);
    driver.ask(4, &[(DATA, 9, false)]);
    driver.ask(6, &[(MEMORY - 2, 4, false)]);
    let mut room = [0; 8];
    assert_eq!((ring.get(&mut room), &room[..5]), (Ok(Some(5)), &b"hello"[..]));
    assert_eq!(ring.get(&mut room), Ok(Some(0)), "there is no room for it");
    assert_eq!((ring.get(&mut room), ring.get(&mut room)), (Ok(Some(0)), Ok(None)));
    assert_eq!(driver.used(), [(0, 0), (4, 0), (6, 0)]);
    // More chains than the queue is long never come, and memory that is not there is nonsense.
    (0..SIZE).for_each(|head| driver.ask(head, &[(DATA, 1, true)]));
    assert_eq!(put(&[7; 17], usize::MAX), Ok(Put::Never));
    assert_eq!(put(&[7; 16], usize::MAX), Ok(Put::Done));
    assert_eq!(driver.used().len(), usize::from(SIZE));
    driver.ask(0, &[(MEMORY - 2, 4, true)]);
    assert_eq!(put(b"four", 1), Err(Broken));
}

/// After a reset the guest's memory is the driver's alone, whatever still comes.
#[test]
fn nothing_is_touched_after_a_reset() {
    let mut driver = Driver::default();
    let (ring, interrupt) = driver.ring();
    driver.ask(0, &[(DATA, 8, false), (DATA + 100, 8, true)]);
    let chain = ring.take().unwrap().remove(0).unwrap();
    ring.close();
    assert_eq!(ring.read(&chain, 0, 8), None);
    assert!(!ring.write(&chain, 0, b"x"));
    ring.done(&chain, 1);
    driver.offer(0);
    assert!(ring.take().unwrap().is_empty() && !ring.is_sound());
    assert_eq!((ring.is_asked(), ring.get(&mut [0; 8])), (Ok(false), Ok(None)));
    assert_eq!(ring.put(&mut [1], 1, |_, _| {}), Ok(Put::Later));
    assert_eq!((driver.get(DATA + 100, 1), driver.used(), interrupt.why()), (vec![0], vec![], 0));
}

#[test]
fn a_queue_outside_memory_is_not_begun() {
    let driver = Driver::default();
    for (place, at) in [(0, MEMORY - 16), (1, MEMORY - 2), (2, MEMORY - 4), (0, !0xf), (2, MEMORY)] {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_ready(true);
        let at_of = |number, usual| if number == place { GuestAddress(at) } else { GuestAddress(usual) };
        queue.try_set_desc_table_address(at_of(0, TABLE)).unwrap();
        queue.try_set_avail_ring_address(at_of(1, AVAILABLE)).unwrap();
        queue.try_set_used_ring_address(at_of(2, USED)).unwrap();
        let interrupt = Arc::new(Interrupt::new(event()));
        assert!(!Ring::new(queue, driver.memory.clone(), interrupt, event()).is_sound(), "{place} {at:#x}");
    }
}

/// Each is taken in bounded time, touches nothing outside memory, and what it names is not used.
#[test]
fn a_hostile_chain_is_cut_short_or_refused() {
    let beyond = (MEMORY - 4, 8, 0, 0);
    let cases: [&[(u64, u32, u16, u16)]; 7] = [
        // A loop, a place outside the table, more than there is, at the end of all addresses, outside memory.
        &[(DATA, 8, 1, 0)],
        &[(DATA, 8, 1, 999)],
        &[(DATA, u32::MAX, 0, 0)],
        &[(u64::MAX - 3, 8, 0, 0)],
        &[beyond],
        // A table in a table, and one whose length is no table's.
        &[(DATA, 32, INDIRECT, 0)],
        &[(DATA, 7, INDIRECT, 0)],
    ];
    for case in cases {
        let mut driver = Driver::default();
        let (ring, _) = driver.ring();
        driver.describe_in(DATA, 0, (DATA, 32), INDIRECT, 0);
        for (place, (at, length, flags, next)) in (0..).zip(case) {
            driver.describe(place, (*at, *length), *flags, *next);
        }
        driver.offer(0);
        for chain in ring.take().unwrap() {
            let (given, _) = chain.lengths();
            let read = ring.read(&chain, 0, usize::try_from(given.min(64)).unwrap());
            assert!(read.is_none_or(|bytes| bytes.len() <= 64));
            ring.done(&chain, 0);
        }
        // An honest chain behind it is served.
        driver.put(DATA, b"honest");
        driver.ask(5, &[(DATA, 6, false)]);
        let chains = ring.take().unwrap();
        let served = chains.iter().any(|chain| ring.read(chain, 0, 6).as_deref() == Some(b"honest"));
        assert!(served, "{case:?}");
    }
}

#[test]
fn more_than_the_queue_is_long_was_never_asked() {
    let driver = Driver::default();
    let (ring, _) = driver.ring();
    driver.memory.write_obj(SIZE + 1, GuestAddress(AVAILABLE + 2)).unwrap();
    assert_eq!(ring.take(), Err(Broken));
}

/// V16: a driver that asks again and again for what it was not given back costs no more than its queue.
#[test]
fn what_is_not_given_back_is_not_asked_again() {
    let mut driver = Driver::default();
    let (ring, _) = driver.ring();
    (0..SIZE).for_each(|head| driver.ask(head, &[(DATA, 8, true)]));
    let taken = ring.take().unwrap();
    assert_eq!(taken.len(), usize::from(SIZE));
    driver.offer(0);
    assert_eq!(ring.take(), Err(Broken));
    taken.iter().for_each(|chain| ring.done(chain, 0));
    assert_eq!(ring.take().unwrap().len(), 1);
}

/// Nobody is busy with one queue for ever: it is looked at again later.
#[test]
fn long_chains_are_taken_a_few_at_a_time() {
    let mut driver = Driver::default();
    let (ring, _) = driver.ring();
    let parts: Vec<_> = (0..u64::from(SIZE)).map(|part| (DATA + part * 8, 8, false)).collect();
    driver.ask(0, &parts);
    (1..SIZE).for_each(|_| driver.offer(0));
    let _ = ring.notify.read();
    let mut taken = 0;
    for _ in 0..SIZE {
        let chains = ring.take().unwrap();
        assert_eq!(chains.len(), 1);
        taken += chains.len();
        assert!(ring.notify.read().is_ok(), "it is to look again");
    }
    assert_eq!((taken, ring.take().unwrap().len()), (usize::from(SIZE), 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in the queue's memory: no panic, no end of memory, no endless loop, and no write but into
    /// what the driver named and the used ring.
    #[test]
    fn any_bytes_are_a_queue(
        table in proptest::collection::vec(any::<u8>(), usize::from(SIZE) * 16),
        available in proptest::collection::vec(any::<u8>(), 4 + usize::from(SIZE) * 2),
        asked in 0..=SIZE,
    ) {
        let driver = Driver::default();
        let (ring, _) = driver.ring();
        driver.put(TABLE, &table);
        driver.put(AVAILABLE, &available);
        driver.memory.write_obj(asked, GuestAddress(AVAILABLE + 2)).unwrap();
        for _ in 0..=SIZE {
            let Ok(chains) = ring.take() else { break };
            for chain in chains {
                let (given, room) = chain.lengths();
                let _ = ring.read(&chain, 0, usize::try_from(given.min(4096)).unwrap());
                let _ = ring.write(&chain, 0, &vec![1; usize::try_from(room.min(4096)).unwrap()]);
                ring.done(&chain, room);
            }
        }
        let (ring, _) = driver.ring();
        for _ in 0..=SIZE {
            let _ = ring.put(&mut [1; 4096], usize::from(asked), |_, _| {});
            let _ = ring.get(&mut [0; 4096]);
        }
        prop_assert_eq!(driver.memory.last_addr().0, MEMORY - 1);
    }
}
