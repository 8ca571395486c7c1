//! V1, V13, X14, F5, F11, F12, F31: a server that dies with what it was not asked to flush, refuses, is not
//! there, or is the wrong one.

use super::*;
use crate::nbd::export::{Export, Geometry};
use crate::nbd::limits::Limits;
use crate::nbd::server::Server;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BLOCKS: u64 = 256;

/// A disk with a cache that only a flush empties.
#[derive(Default)]
struct Disk {
    durable: Mutex<BTreeMap<u64, u8>>,
    cached: Mutex<BTreeMap<u64, u8>>,
    writes: AtomicU64,
    /// What it answers to writes and flushes.
    refuses: AtomicBool,
    /// The next flush fails, and loses what was cached, as that of a kernel does.
    loses: AtomicBool,
}

struct Served(Arc<Disk>, Geometry);

impl Served {
    fn put(&self, offset: u64, bytes: impl Iterator<Item = u8>) {
        let mut cached = lock(&self.0.cached);
        (offset / BLOCK..).zip(bytes).for_each(|(block, byte)| {
            cached.insert(block, byte);
        });
    }
}

impl Export for Served {
    fn geometry(&self) -> Geometry {
        self.1
    }

    fn submit(&self, request: Request, reply: Reply) {
        let disk = &self.0;
        let is_write = !matches!(request, Request::Read { .. } | Request::Status { .. });
        if is_write && disk.refuses.load(Ordering::SeqCst) {
            return reply.fail(Errno::NoSpace, "it is full");
        }
        match request {
            Request::Read { span } => {
                let (durable, cached) = (lock(&disk.durable), lock(&disk.cached));
                let of = |block: u64| *cached.get(&block).or(durable.get(&block)).unwrap_or(&0xee);
                let blocks = span.offset / BLOCK..span.end() / BLOCK;
                reply.data(blocks.flat_map(|block| vec![of(block); SECTOR]).collect());
            }
            Request::Write { offset, data, .. } => {
                disk.writes.fetch_add(1, Ordering::SeqCst);
                self.put(offset, data.chunks(SECTOR).map(|block| block[0]));
                reply.done();
            }
            Request::WriteZeroes { span, .. } => {
                self.put(span.offset, (0..u64::from(span.length) / BLOCK).map(|_| 0));
                reply.done();
            }
            Request::Flush if disk.loses.swap(false, Ordering::SeqCst) => {
                lock(&disk.cached).clear();
                reply.fail(Errno::Io, "some of it is lost");
            }
            Request::Flush => {
                lock(&disk.durable).append(&mut lock(&disk.cached));
                reply.done();
            }
            Request::Trim { .. } | Request::Cache { .. } | Request::Status { .. } => reply.done(),
        }
    }
}

/// A server on a Unix socket that can be killed, and comes back.
struct Site {
    directory: tempfile::TempDir,
    disk: Arc<Disk>,
    server: Option<Server>,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut site = Self { directory, disk: Arc::default(), server: None };
        site.start(Geometry::new(BLOCKS * BLOCK, 512, 4096).unwrap());
        site
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    fn start(&mut self, geometry: Geometry) {
        let mut server = Server::start(Limits::default()).unwrap();
        server.listen_unix(&self.socket()).unwrap();
        server.publish("disk", "", Arc::new(Served(Arc::clone(&self.disk), geometry))).unwrap();
        self.server = Some(server);
    }

    /// What it was not asked to flush is lost.
    fn kill(&mut self) {
        drop(self.server.take());
        lock(&self.disk.cached).clear();
    }

    fn again(&mut self) {
        self.start(Geometry::new(BLOCKS * BLOCK, 512, 4096).unwrap());
    }

    fn remote(&self) -> Remote {
        Remote::new(Uri::unix(&self.socket(), "disk"), BLOCKS).unwrap()
    }

    fn durable(&self, block: u64) -> Option<u8> {
        lock(&self.disk.durable).get(&block).copied()
    }
}

fn read(remote: &Remote, block: u64) -> Result<u8, Error> {
    let mut bytes = [1; SECTOR];
    remote.read(block, &mut bytes, How::Waiting)?;
    Ok(bytes[SECTOR - 1])
}

fn awaits(what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// V1: what was written on a connection that is lost with its server is written again before a flush on the
/// next one counts.
#[test]
fn what_a_server_lost_is_written_again() {
    let mut site = Site::new();
    let remote = site.remote();
    remote.write(3, &[7; SECTOR]).unwrap();
    remote.sync().unwrap();
    assert_eq!(site.durable(3), Some(7));
    for round in 0..5_u8 {
        remote.write(3, &[10 + round; SECTOR]).unwrap();
        remote.write(5, &[20 + round; 2 * SECTOR]).unwrap();
        remote.zero(6, 1).unwrap();
        remote.discard(32, 32);
        assert_eq!(read(&remote, 3).unwrap(), 10 + round, "what was written is read");
        site.kill();
        site.again();
        remote.sync().unwrap();
        assert_eq!([3, 5, 6].map(|block| site.durable(block)), [Some(10 + round), Some(20 + round), Some(0)]);
        assert_eq!(read(&remote, 6).unwrap(), 0);
    }
    assert_eq!(remote.trouble(), None);
}

/// V1: the same, killed again and again while it is written to.
#[test]
fn everything_that_was_flushed_survives_a_server_that_dies_all_the_time() {
    let mut site = Site::new();
    let remote = Arc::new(site.remote());
    let (is_over, flushed) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stamp = 0_u8;
            while !is_over.load(Ordering::SeqCst) {
                stamp = stamp % 200 + 1;
                let round: Vec<_> =
                    (0..8).map(|number| (u64::from(stamp) * 7 + number * 31) % BLOCKS).collect();
                round.iter().for_each(|block| remote.write(*block, &[stamp; SECTOR]).unwrap());
                remote.sync().unwrap();
                lock(&flushed).extend(round.into_iter().map(|block| (block, stamp)));
            }
        });
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(100));
            site.kill();
            site.again();
        }
        awaits("it is connected again", || remote.trouble().is_none());
        // On a machine that is busy with other things, few were, so far.
        awaits("many blocks are flushed", || 100 < lock(&flushed).len());
        is_over.store(true, Ordering::SeqCst);
    });
    site.kill();
    site.again();
    let flushed = lock(&flushed);
    for (block, stamp) in flushed.iter() {
        assert_eq!(read(&remote, *block).unwrap(), *stamp, "block {block}");
    }
}

/// V13, F5: a flush that failed is not asked for again before all of it was written again.
#[test]
fn a_flush_that_failed_is_no_flush_and_neither_is_the_next_one_alone() {
    let site = Site::new();
    let remote = site.remote();
    remote.write(3, &[7; SECTOR]).unwrap();
    let writes = site.disk.writes.load(Ordering::SeqCst);
    site.disk.loses.store(true, Ordering::SeqCst);
    remote.sync().unwrap();
    assert_eq!((site.durable(3), site.disk.writes.load(Ordering::SeqCst)), (Some(7), writes + 1));
}

/// F12, X14: a server without room is asked again, and takes what it is given when there is room.
#[test]
fn what_is_refused_waits_and_says_why() {
    let site = Site::new();
    let remote = site.remote();
    remote.write(3, &[7; SECTOR]).unwrap();
    site.disk.refuses.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| remote.sync());
        awaits("it says why", || remote.trouble().is_some_and(|why| why.contains("it is full")));
        assert!(!sync.is_finished());
        site.disk.refuses.store(false, Ordering::SeqCst);
        sync.join().unwrap().unwrap();
    });
    assert_eq!(site.durable(3), Some(7));
}

/// F11: one that refuses for too long has failed, for the other holder may have a store that works.
#[test]
fn what_is_refused_for_too_long_has_failed() {
    let site = Site::new();
    let remote = site.remote();
    remote.write(3, &[7; SECTOR]).unwrap();
    site.disk.refuses.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let failed = remote.sync().unwrap_err();
    assert!(failed.to_string().contains("has refused to be written for "), "{failed}");
    assert!(failed.to_string().contains("it is full"), "{failed}");
    assert!(GIVE_UP <= begun.elapsed() && begun.elapsed() < GIVE_UP * 3);
    assert_eq!(site.durable(3), None);
    assert_eq!(read(&remote, 200).unwrap_err().kind(), ErrorKind::TimedOut);
}

/// X14: nobody waits longer than was said; a write until the agent stops.
#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let mut site = Site::new();
    let remote = site.remote();
    assert_eq!(read(&remote, 3).unwrap(), 0xee);
    let mut bytes = [0; SECTOR];
    let at_once = remote.read(3, &mut bytes, How::AtOnce).unwrap_err();
    assert_eq!(at_once.kind(), ErrorKind::WouldBlock, "never waits for a network");
    site.kill();
    let begun = Instant::now();
    let late = read(&remote, 3).unwrap_err();
    assert!(late.to_string().contains("is away: "), "{late}");
    assert!(PATIENCE / 2 < begun.elapsed() && begun.elapsed() < PATIENCE * 2);
    let begun = Instant::now();
    read(&remote, 3).unwrap_err();
    assert!(begun.elapsed() < PATIENCE / 2, "it is known to be away");
    std::thread::scope(|scope| {
        let write = scope.spawn(|| remote.write(3, &[7; SECTOR]));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!write.is_finished());
        remote.stop();
        assert_eq!(write.join().unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    });
}

/// F15, V40: an export of another shape is not used, and says so.
#[test]
fn an_export_that_cannot_be_used_is_told() {
    let mut site = Site::new();
    let remote = site.remote();
    remote.sync().unwrap();
    for (geometry, told) in [
        (Geometry::new((BLOCKS - 1) * BLOCK, 512, 4096).unwrap(), "it has 1044480 bytes, 1048576 are needed"),
        (Geometry::new(BLOCKS * BLOCK, 512, 4096).unwrap().read_only(true), "it must not be written"),
        (Geometry::new(BLOCKS * BLOCK, 8192, 8192).unwrap(), "it does not take blocks of 4096 bytes"),
    ] {
        site.kill();
        site.start(geometry);
        // Whoever asks finds out that the connection is lost.
        std::thread::scope(|scope| {
            let sync = scope.spawn(|| remote.sync());
            awaits(told, || remote.trouble().is_some_and(|why| why.contains(told)));
            site.kill();
            site.again();
            sync.join().unwrap().unwrap();
        });
    }
    // A volume that grows needs another size, which only another connection tells.
    remote.needs(BLOCKS + 1);
    awaits("it is too small", || remote.trouble().is_some_and(|why| why.contains("make it larger")));
    site.kill();
    site.start(Geometry::new((BLOCKS + 1) * BLOCK, 512, 4096).unwrap());
    awaits("it is large enough", || remote.trouble().is_none());
}
