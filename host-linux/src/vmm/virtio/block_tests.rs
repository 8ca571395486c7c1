//! A disk between a driver written by hand and a real NBD server, which may die and come back.

use super::super::VERSION_1;
use super::super::saved::{Parts, Saved};
use super::super::testing::{DATA, Driver, event, initialise, set};
use super::super::transport::Transport;
use super::*;
use crate::nbd::export::{Export, Geometry};
use crate::nbd::file::FileExport;
use crate::nbd::limits::Limits;
use crate::nbd::server::Server as NbdServer;
use crate::nbd::uri::Uri;
use crate::vmm::description::{self, Content};
use proptest::prelude::*;
use std::path::PathBuf;

const DISK: u64 = 1 << 20;
const STATUS: u64 = DATA + 0x8_0000;

/// A server of a file, on a Unix socket.
struct Served {
    directory: tempfile::TempDir,
    server: Option<NbdServer>,
}

impl Served {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("disk"), vec![7; usize::try_from(DISK).unwrap()]).unwrap();
        let mut served = Self { directory, server: None };
        served.start();
        served
    }

    fn start(&mut self) {
        let mut server = NbdServer::start(Limits::default()).unwrap();
        server.listen_unix(&self.socket()).unwrap();
        let file = FileExport::open(&self.directory.path().join("disk"), false).unwrap();
        server.publish("disk", "", Arc::new(file)).unwrap();
        self.server = Some(server);
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    fn block(&self, is_read_only: bool) -> Block {
        let described =
            description::Disk { content: Content::Served(Uri::unix(&self.socket(), "disk")), is_read_only };
        Block::new(Disk::open(&described, None).unwrap(), "disk0")
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("disk")).unwrap()
    }
}

/// A driver with a disk.
struct Guest {
    driver: Driver,
    transport: Transport,
}

impl Guest {
    fn new(block: Block) -> Self {
        let driver = Driver::default();
        let device = Box::new(block);
        let mut transport = Transport::new(device, driver.memory.clone(), event(), vec![event()]).unwrap();
        assert_eq!(initialise(&mut transport, VERSION_1 | feature::FLUSH), 15);
        Self { driver, transport }
    }

    /// Offers a request at place `first` of the table, with this much data.
    fn offer(&mut self, first: u16, kind: u32, sector: u64, data: &[(u64, u32, bool)]) {
        let header = DATA + 0x9_0000 + u64::from(first) * 16;
        let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.driver.put(header, &bytes);
        let status = STATUS + u64::from(first);
        self.driver.put(status, &[0xee]);
        let parts = [&[(header, 16, false)], data, &[(status, 1, true)]].concat();
        self.driver.ask(first, &parts);
        set(&mut self.transport, 0x50, 0);
    }

    /// Asks, and waits for the end: its status.
    fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> u8 {
        self.offer(0, kind, sector, data);
        assert_eq!(self.driver.wait(1)[0].0, 0);
        self.driver.get(STATUS, 1)[0]
    }
}

#[test]
fn a_guest_reads_writes_flushes_and_discards() {
    let served = Served::new();
    let mut guest = Guest::new(served.block(false));
    let mut size = [0; 8];
    guest.transport.read(0x100, &mut size);
    assert_eq!(u64::from_le_bytes(size), DISK / 512);

    assert_eq!(guest.ask(ask::READ, 8, &[(DATA, 1024, true), (DATA + 4096, 1024, true)]), status::DONE);
    assert_eq!((guest.driver.get(DATA, 1024), guest.driver.get(DATA + 5119, 2)), (vec![7; 1024], vec![7, 0]));
    guest.driver.put(DATA, &[9; 2048]);
    assert_eq!(guest.ask(ask::WRITE, 16, &[(DATA, 512, false), (DATA + 512, 1536, false)]), status::DONE);
    assert_eq!(guest.ask(ask::FLUSH, 0, &[]), status::DONE);
    let content = served.content();
    assert_eq!((&content[8191..8194], &content[10239..10241]), (&[7, 9, 9][..], &[9, 7][..]));

    let range = [&20_u64.to_le_bytes()[..], &2_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    guest.driver.put(DATA, &range);
    assert_eq!(guest.ask(ask::WRITE_ZEROES, 0, &[(DATA, 16, false)]), status::DONE);
    assert_eq!(&served.content()[10239..10242], &[9, 0, 0]);
    assert_eq!(guest.ask(ask::DISCARD, 0, &[(DATA, 16, false)]), status::DONE);
    assert_eq!(guest.ask(ask::NAME, 0, &[(DATA, 20, true)]), status::DONE);
    assert_eq!(&guest.driver.get(DATA, 6), b"disk0\0");
}

/// S0-23: what was read and written is counted when it is done, once, over the resets of the guest.
#[test]
fn what_is_done_is_counted_once() {
    let mut served = Served::new();
    let disk = served.block(false).shared.disk.clone();
    for round in 1..4 {
        let mut guest = Guest::new(Block::new(disk.clone(), "disk0"));
        assert_eq!(guest.ask(ask::READ, 0, &[(DATA, 512, true), (DATA + 512, 1024, true)]), status::DONE);
        // It fails, it carries nothing, and it is asked again.
        assert_eq!(guest.ask(ask::READ, u64::MAX, &[(DATA, 512, true)]), status::FAILED);
        assert_eq!(guest.ask(ask::FLUSH, 0, &[]), status::DONE);
        served.server = None;
        guest.offer(0, ask::WRITE, 0, &[(DATA, 512, false)]);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(disk.traffic().all(), ((round, round * 1536), (round - 1, (round - 1) * 512)));
        served.start();
        guest.driver.wait(1);
        assert_eq!(disk.traffic().all(), ((round, round * 1536), (round, round * 512)));
    }
}

/// F43: what is no request of the standard, or of this disk, is refused, and the next one is served.
#[test]
fn what_makes_no_sense_is_refused() {
    let served = Served::new();
    let mut guest = Guest::new(served.block(false));
    let last = DISK / 512 - 1;
    type Parts<'a> = &'a [(u64, u32, bool)];
    let cases: [(u32, u64, Parts<'_>, u8); 9] = [
        (ask::READ, last, &[(DATA, 1024, true)], status::FAILED),
        (ask::READ, u64::MAX, &[(DATA, 512, true)], status::FAILED),
        (ask::READ, 0, &[(DATA, 100, true)], status::FAILED),
        (ask::READ, 0, &[], status::FAILED),
        (ask::WRITE, last + 1, &[(DATA, 512, false)], status::FAILED),
        (ask::WRITE, 0, &[(u64::MAX - 600, 512, false)], status::FAILED),
        (ask::WRITE, 0, &[(DATA, 512, false), (DATA, 0x8000_0000, false)], status::FAILED),
        (ask::DISCARD, 0, &[(DATA, 3, false)], status::FAILED),
        (77, 0, &[], status::UNKNOWN),
    ];
    for (kind, sector, data, expected) in cases {
        assert_eq!(guest.ask(kind, sector, data), expected, "{kind} {sector} {data:?}");
    }
    // A read into what is not there: the server has answered, and nothing of it arrives.
    assert_eq!(guest.ask(ask::READ, 0, &[(1 << 40, 512, true)]), status::FAILED);
    // No header, and no room for a status.
    guest.driver.ask(0, &[(DATA, 3, false), (STATUS, 1, true)]);
    guest.driver.ask(4, &[(DATA, 16, false)]);
    set(&mut guest.transport, 0x50, 0);
    assert_eq!(guest.driver.wait(2).len(), 2);
    assert_eq!(guest.ask(ask::READ, last, &[(DATA, 512, true)]), status::DONE);
    assert_eq!(served.content(), vec![7; usize::try_from(DISK).unwrap()], "nothing was written");
}

#[test]
fn a_disk_that_is_only_read_is_not_written() {
    let served = Served::new();
    let mut guest = Guest::new(served.block(true));
    assert_eq!(guest.ask(ask::WRITE, 0, &[(DATA, 512, false)]), status::FAILED);
    assert_eq!(guest.ask(ask::READ, 0, &[(DATA, 512, true)]), status::DONE);
    assert_eq!(guest.driver.get(DATA, 1), [7]);
}

/// S1-27, F31: a guest whose server goes away waits, and what it asked is done once the server is back.
#[test]
fn a_server_that_dies_is_waited_for() {
    let mut served = Served::new();
    let mut guest = Guest::new(served.block(false));
    for round in 1..4_u8 {
        served.server = None;
        guest.driver.put(DATA, &[round; 512]);
        guest.offer(0, ask::WRITE, round.into(), &[(DATA, 512, false)]);
        guest.offer(4, ask::READ, 100, &[(DATA + 4096, 512, true)]);
        std::thread::sleep(Duration::from_millis(50));
        assert!(guest.driver.used().is_empty(), "nobody has answered");
        served.start();
        let mut heads: Vec<_> = guest.driver.wait(2).into_iter().map(|(head, _)| head).collect();
        heads.sort_unstable();
        assert_eq!(heads, [0, 4]);
        assert_eq!((guest.driver.get(STATUS, 1), guest.driver.get(STATUS + 4, 1)), (vec![0], vec![0]));
        assert_eq!(served.content()[usize::from(round) * 512], round);
    }
}

/// F43, I11: a connection that ends while it is being asked is asked nothing more, and what waits is asked of
/// the next one.
#[test]
fn a_connection_that_ends_as_it_is_asked_is_left() {
    /// So many that the disk's thread is found in the midst of them.
    const MANY: usize = 100_000;
    let mut served = Served::new();
    let disk = served.block(false).shared.disk.clone();
    let (mut driver, shared) = (Driver::default(), Arc::new(Shared { disk, state: Mutex::default() }));
    // One that is no request, and a read.
    for (first, kind) in [(0_u16, 77_u32), (4, ask::READ)] {
        let at = DATA + u64::from(first) * 4096;
        driver.put(at, &[&kind.to_le_bytes()[..], &[0; 12]].concat());
        driver.put(STATUS + u64::from(first), &[0xee]);
        driver.ask(first, &[(at, 16, false), (at + 512, 512, true), (STATUS + u64::from(first), 1, true)]);
    }
    let ring = Arc::new(driver.ring().0);
    let chains = ring.take().unwrap();
    let server = Arc::new(shared.disk.connect().unwrap());
    shared.lock().server = Some(Arc::clone(&server));
    let own = Session { shared: Arc::clone(&shared), ring, name: "disk0".into(), is_durable: true };
    let ring = Arc::clone(&own.ring);
    let worker = Worker::start("vmm-disk", Arc::clone(&ring), move || own.look()).unwrap();
    // A thread that does not end must not hold up the end of a test that has failed.
    let worker = std::mem::ManuallyDrop::new(worker);

    let begun = std::time::Instant::now();
    let mut state = loop {
        let mut state = shared.lock();
        match state.waiting.len() {
            0 => {
                state.waiting = vec![chains[0].clone(); MANY].into();
                ring.notify.write(1).unwrap();
            }
            MANY => {}
            _ => break state,
        }
        drop(state);
        assert!(begun.elapsed() < Duration::from_secs(30));
    };
    // It has found the server there, and asks on when it is let.
    served.server = None;
    until(|| server.is_over());
    state.waiting = vec![chains[1].clone()].into();
    drop(state);
    served.start();
    until(|| driver.get(STATUS + 4, 1) == [status::DONE]);
    assert_eq!(driver.get(DATA + 4 * 4096 + 512, 512), [7; 512]);
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(std::mem::ManuallyDrop::into_inner(worker));
        tell.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(30)).expect("the disk's thread ends");
}

/// A server that takes a connection and says nothing holds nobody up who ends the disk.
#[test]
fn a_silent_server_does_not_hold_up_the_end() {
    let mut served = Served::new();
    let mut guest = Guest::new(served.block(false));
    served.server = None;
    let _silent = std::os::unix::net::UnixListener::bind(served.socket()).unwrap();
    guest.offer(0, ask::READ, 0, &[(DATA, 512, true)]);
    std::thread::sleep(Duration::from_millis(300));
    let begun = std::time::Instant::now();
    set(&mut guest.transport, 0x70, 0);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// A driver that resets with much under way, and begins again, gets only what it asks then.
#[test]
fn a_reset_ends_what_is_under_way() {
    let served = Served::new();
    let mut guest = Guest::new(served.block(false));
    for _ in 0..20 {
        for first in [0, 3, 6, 9] {
            guest.offer(first, ask::READ, 0, &[(DATA + u64::from(first) * 4096, 4096, true)]);
        }
        set(&mut guest.transport, 0x70, 0);
        guest.driver.restart();
        guest.driver.put(DATA, &[1; 4096]);
        assert_eq!(initialise(&mut guest.transport, VERSION_1 | feature::FLUSH), 15);
        assert_eq!(guest.driver.get(DATA, 4096), [1; 4096], "nothing came late");
        assert_eq!(guest.ask(ask::READ, 0, &[(DATA, 512, true)]), status::DONE);
    }
}

/// A server that answers when it is told to.
struct Late {
    file: FileExport,
    held: Mutex<Vec<(Request, Reply)>>,
}

impl Export for Late {
    fn geometry(&self) -> Geometry {
        self.file.geometry()
    }

    fn submit(&self, request: Request, reply: Reply) {
        self.held.lock().unwrap().push((request, reply));
    }
}

impl Late {
    /// Waits until it has been asked so much, and does it.
    fn answer(&self, count: usize) {
        until(|| self.held.lock().unwrap().len() == count);
        for (request, reply) in self.held.lock().unwrap().drain(..) {
            self.file.submit(request, reply);
        }
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// S3-06: a disk that is paused takes nothing, what its server has still arrives, and then it goes on.
#[test]
fn a_disk_is_paused_and_goes_on() {
    let mut served = Served::new();
    let file = FileExport::open(&served.directory.path().join("disk"), false).unwrap();
    let late = Arc::new(Late { file, held: Mutex::default() });
    let server = served.server.as_mut().unwrap();
    server.publish("late", "", late.clone()).unwrap();
    let described = description::Disk {
        content: Content::Served(Uri::unix(&served.socket(), "late")),
        is_read_only: false,
    };
    let mut guest = Guest::new(Block::new(Disk::open(&described, None).unwrap(), "disk0"));
    for _ in 0..3 {
        guest.offer(0, ask::READ, 100, &[(DATA, 512, true)]);
        until(|| late.held.lock().unwrap().len() == 1);
        guest.transport.pause();
        guest.offer(4, ask::READ, 100, &[(DATA, 512, true)]);
        let whom = guest.transport.waits_for().unwrap();
        assert!(whom.starts_with("1 requests to the disk nbd+unix:///late?socket="), "{whom}");
        late.answer(1);
        until(|| guest.transport.waits_for().is_none());
        assert_eq!(guest.driver.used().len(), 1, "what was under way arrives before nobody is waited for");
        std::thread::sleep(Duration::from_millis(20));
        assert!(guest.driver.used().is_empty() && late.held.lock().unwrap().is_empty());
        guest.transport.resume();
        late.answer(1);
        assert_eq!(guest.driver.wait(1)[0].0, 4);
        assert_eq!(guest.driver.get(STATUS + 4, 1), [status::DONE]);
    }
}

/// S3-06: what waits for a server when a guest is saved is asked once, by its copy.
#[test]
fn what_waits_is_asked_by_the_copy() {
    let mut served = Served::new();
    let disk = served.block(false).shared.disk.clone();
    let mut guest = Guest::new(Block::new(disk.clone(), "disk0"));
    assert_eq!(guest.ask(ask::READ, 0, &[(DATA, 512, true)]), status::DONE);
    served.server = None;
    for round in 1..4_u8 {
        guest.driver.put(DATA, &[round; 512]);
        guest.offer(0, ask::WRITE, round.into(), &[(DATA, 512, false)]);
        guest.offer(4, ask::READ, 100, &[(DATA + 4096, 512, true)]);
        let ring_has = |guest: &Guest| guest.transport.saved().queues[0].taken.len();
        until(|| ring_has(&guest) == 2);
        guest.transport.pause();
        until(|| guest.transport.waits_for().is_none());
        // Asked while it was paused: nobody has taken it.
        guest.offer(8, ask::READ, 100, &[(DATA + 8192, 512, true)]);
        let bytes = postcard::to_extend(&guest.transport.saved(), Vec::new()).unwrap();
        let saved: Saved = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((saved.queues[0].taken.len(), saved.has_begun), (2, true));
        guest.transport.end();

        let device = Box::new(Block::new(disk.clone(), "disk0"));
        let memory = guest.driver.memory.clone();
        guest.transport = Transport::new(device, memory, event(), vec![event()]).unwrap();
        guest.transport.restore(&saved).unwrap();
        served.start();
        let mut heads: Vec<_> = guest.driver.wait(3).into_iter().map(|(head, _)| head).collect();
        heads.sort_unstable();
        assert_eq!(heads, [0, 4, 8]);
        let statuses = [0, 4, 8].map(|place| guest.driver.get(STATUS + place, 1)[0]);
        assert_eq!(statuses, [status::DONE; 3]);
        assert_eq!(served.content()[usize::from(round) * 512], round);
        assert_eq!(guest.ask(ask::READ, round.into(), &[(DATA, 512, true)]), status::DONE);
        assert_eq!(guest.driver.get(DATA, 512), [round; 512]);
        assert!(guest.driver.used().is_empty(), "each was answered once");
        served.server = None;
    }
}

/// I11: what a snapshot says of a device is not believed.
#[test]
fn a_copy_of_another_device_is_refused() {
    let served = Served::new();
    let mut guest = Guest::new(served.block(false));
    guest.transport.pause();
    let saved = guest.transport.saved();
    let chain = Parts { head: 9, readable: vec![(u64::MAX - 3, u32::MAX)], writable: vec![(1 << 40, 1)] };
    type Change<'a> = &'a dyn Fn(&mut Saved);
    let wrong: [Change<'_>; 9] = [
        &|saved| saved.kind = 4,
        &|saved| saved.config[0] ^= 1,
        &|saved| saved.taken |= 1 << 40,
        &|saved| saved.queues.clear(),
        &|saved| saved.queues[0].size_max = 64,
        &|saved| saved.queues[0].size = 3,
        &|saved| saved.queues[0].descriptors = 1 << 40,
        &|saved| saved.queues[0].is_ready = false,
        &|saved| saved.queues[0].taken = vec![chain.clone(); 17],
    ];
    let copy = |saved: &Saved| {
        let device = Box::new(served.block(false));
        let memory = guest.driver.memory.clone();
        let mut copy = Transport::new(device, memory, event(), vec![event()]).unwrap();
        let restored = copy.restore(saved);
        (copy, restored)
    };
    for (number, change) in wrong.iter().enumerate() {
        let mut changed = saved.clone();
        change(&mut changed);
        assert_eq!(copy(&changed).1, None, "{number}");
    }
    // What lies nowhere in memory is asked, refused, and given back.
    let mut changed = saved;
    changed.queues[0].taken = vec![chain; 16];
    let (mut hostile, restored) = copy(&changed);
    restored.unwrap();
    assert_eq!(guest.driver.wait(16), [(9, 1); 16]);
    hostile.end();
}

/// Where a hostile driver says that something is, how long it is, and whether the device may write it.
fn any_part() -> impl Strategy<Value = (u64, u32, bool)> {
    let at = prop_oneof![
        4 => DATA..DATA + 0x1_0000,
        1 => Just(super::super::testing::MEMORY - 8),
        1 => any::<u64>(),
    ];
    let length = prop_oneof![4 => 0_u32..9000, 2 => Just(512), 2 => Just(16), 1 => any::<u32>()];
    (at, length, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// F43: whatever is asked, in whatever pieces, wherever they lie: it is given back, and the next one is
    /// served.
    #[test]
    fn any_request_is_answered(requests in proptest::collection::vec(
        (0_u32..16, any::<u16>(), proptest::collection::vec(any_part(), 1..8)), 1..8,
    )) {
        let served = Served::new();
        let mut guest = Guest::new(served.block(false));
        for (kind, sector, parts) in requests {
            let header = [&kind.to_le_bytes()[..], &[0; 4], &u64::from(sector).to_le_bytes()].concat();
            let (at, _, _) = parts[0];
            if (DATA..DATA + 0x1_0000).contains(&at) {
                guest.driver.put(at, &header);
            }
            guest.driver.ask(0, &parts);
            set(&mut guest.transport, 0x50, 0);
            prop_assert_eq!(guest.driver.wait(1)[0].0, 0);
        }
        prop_assert_eq!(guest.ask(ask::READ, 0, &[(DATA, 512, true)]), status::DONE);
    }
}
