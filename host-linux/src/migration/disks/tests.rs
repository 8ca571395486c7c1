//! Disks of real NBD servers go from one to another, by records as a move has them.

use super::partial::{Partial, beside};
use super::source::Sources;
use super::target::Targets;
use crate::failure::{Exit, Failure};
use crate::nbd::export::{Content, Errno, Export, Extent, Geometry, Reply, Request, Span};
use crate::nbd::file::FileExport;
use crate::nbd::limits::Limits;
use crate::nbd::server::Server;
use crate::nbd::uri::Uri;
use crate::vmm::description::Description;
use crate::vmm::disk::Disk;
use crate::vmm::snapshot::format::{Kind, Reader, Writer};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SIZE: u64 = 16 << 20;
const HERE: &str = "here";
const THERE: &str = "there";

/// Two servers, each with a disk of the same name, and a guest's description for each.
struct Site {
    directory: tempfile::TempDir,
    servers: Vec<Server>,
}

/// A disk that can say that it has everything, and that it cannot be written.
struct Odd {
    file: FileExport,
    says_nothing: AtomicBool,
    fails: AtomicBool,
}

impl Export for Odd {
    fn geometry(&self) -> Geometry {
        Geometry::new(SIZE, 4096, 4096).unwrap()
    }

    fn submit(&self, request: Request, reply: Reply) {
        match &request {
            // As large as it likes, and not in whole blocks.
            Request::Status { span, .. } if self.says_nothing.load(Ordering::SeqCst) => {
                let extent = |length, zero| Extent { length, hole: zero, zero, dirty: false };
                let rest = span.length - 1000 - 6000;
                let all = vec![extent(1000, span.offset == 0), extent(6000, true), extent(rest, false)];
                reply.finish(Ok(Content::Extents(all)));
            }
            Request::Write { .. } if self.fails.load(Ordering::SeqCst) => reply.fail(Errno::NoSpace, "full"),
            Request::Read { .. }
            | Request::Write { .. }
            | Request::Flush
            | Request::Trim { .. }
            | Request::WriteZeroes { .. }
            | Request::Cache { .. }
            | Request::Status { .. } => self.file.submit(request, reply),
        }
    }
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in [HERE, THERE] {
            std::fs::File::create(directory.path().join(name)).unwrap().set_len(SIZE).unwrap();
        }
        let mut site = Self { directory, servers: Vec::new() };
        site.servers = [HERE, THERE].map(|name| site.serve(name, Arc::new(site.file(name)))).into();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str) -> FileExport {
        FileExport::open(&self.path(name), false).unwrap()
    }

    fn serve(&self, name: &str, export: Arc<dyn Export>) -> Server {
        let mut server = Server::start(Limits::default()).unwrap();
        server.listen_unix(&self.path(&format!("{name}.sock"))).unwrap();
        server.publish("disk", "", export).unwrap();
        server
    }

    /// The disk of one of them is this from now on.
    fn replace(&mut self, name: &str, export: Arc<dyn Export>) {
        let place = usize::from(name == THERE);
        drop(self.servers.remove(place));
        self.servers.insert(place, self.serve(name, export));
    }

    fn odd(&self, name: &str) -> Arc<Odd> {
        Arc::new(Odd { file: self.file(name), says_nothing: false.into(), fails: false.into() })
    }

    fn described(&self, name: &str) -> Description {
        let uri = Uri::unix(&self.path(&format!("{name}.sock")), "disk");
        let text = format!(
            "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"4M\"\nkernel = \"kernel\"\n\
             [[disk]]\nuri = \"{uri}\"\n[[disk]]\nuri = \"{uri}\"\nread_only = true\n"
        );
        Description::parse(&text, self.directory.path()).unwrap()
    }

    fn disks(&self) -> Vec<Disk> {
        self.described(HERE).disks.iter().map(|disk| Disk::open(disk, None).unwrap()).collect()
    }

    fn noted(&self) -> PathBuf {
        beside(&self.path("guest.toml"))
    }

    fn targets(&self) -> Result<Targets, Failure> {
        let noted = self.noted();
        Targets::open(&self.described(THERE), &[Some(SIZE), None], None, (Some(&noted), "a1"))
    }

    fn write(&self, name: &str, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        std::fs::File::options().write(true).open(self.path(name)).unwrap().write_all_at(bytes, at).unwrap();
    }

    fn is_same(&self) -> bool {
        std::fs::read(self.path(HERE)).unwrap() == std::fs::read(self.path(THERE)).unwrap()
    }
}

/// Parts of disks, as records.
fn copy(send: impl FnOnce(&mut Writer<&mut Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = Writer::bring(&mut bytes).unwrap();
    send(&mut writer);
    writer.end().unwrap();
    let (mut reader, mut pieces) = (Reader::begin(&bytes[..]).unwrap(), Vec::new());
    while let Some((kind, content)) = reader.record().unwrap() {
        assert_eq!(kind, Kind::Disk);
        pieces.push(content.to_vec());
    }
    pieces
}

fn whole(sources: &mut Sources) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let pieces = copy(|writer| {
        let mut progress = |progress| {
            seen.push(progress);
            Ok(())
        };
        sources.write(writer, &mut progress).unwrap();
    });
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    assert_eq!(seen.last().map(|last| (last.done, last.total)), Some((SIZE, SIZE)));
    pieces
}

fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// All of it is there, without its holes; what is written meanwhile is, when it has been sent again.
#[test]
fn a_disk_is_copied_block_for_block() {
    let site = Site::new();
    let places = [0, 5 << 20, (5 << 20) + 100, SIZE - 3];
    places.iter().for_each(|at| site.write(HERE, *at, b"abc"));
    site.write(HERE, 9 << 20, &vec![7; 3 << 20]);
    // What is zero, and no hole.
    site.write(HERE, 13 << 20, &[0; 1 << 20]);
    let disks = site.disks();
    let mut sources = Sources::begin(&disks);
    let mut targets = site.targets().unwrap();
    let pieces = whole(&mut sources);
    let sent: usize = pieces.iter().map(Vec::len).sum();
    assert!(sent < 4 << 20, "{sent}");
    pieces.iter().for_each(|piece| targets.put(piece).unwrap());
    assert!(site.is_same());

    // A guest writes, discards, and is told of it: nobody else is asked what changed.
    site.write(HERE, 1 << 20, b"new");
    site.write(HERE, 9 << 20, &vec![0; 1 << 20]);
    disks[0].changes().mark(1 << 20, 3);
    disks[0].changes().mark(9 << 20, 1 << 20);
    disks[1].changes().mark(0, SIZE);
    let blocks = sources.take();
    assert_eq!((blocks.bytes(), sources.take().bytes()), ((1 << 20) + (64 << 10), 0));
    let again = copy(|writer| sources.write_again(&blocks, writer, &mut |_| Ok(())).unwrap());
    again.iter().for_each(|piece| targets.put(piece).unwrap());
    targets.finish().unwrap();
    assert!(site.is_same());
    assert!(allocated(&site.path(THERE)) < 3 << 20, "{}", allocated(&site.path(THERE)));
    assert!(Partial::load(&site.noted()).unwrap().unwrap().whole);
    drop(sources);
    disks[0].changes().mark(0, 1);
    assert_eq!(Sources::begin(&disks).take().bytes(), 0, "nobody looked");
}

/// What is on a disk there is not written over, but for what an attempt of this guest left; all of that is.
#[test]
fn what_is_there_is_not_written_over() {
    let site = Site::new();
    site.write(HERE, 3 << 20, b"abc");
    let mut sources = Sources::begin(&site.disks());
    site.write(THERE, 7 << 20, b"somebody's");
    let before = std::fs::read(site.path(THERE)).unwrap();
    let why = site.targets().unwrap_err();
    assert_eq!((why.exit, why.what.contains("has something on it")), (Exit::Refused, true), "{why:?}");
    assert!(std::fs::read(site.path(THERE)).unwrap() == before && !site.noted().exists());

    for (disks, is_ours) in [(vec!["nbd://x".into()], false), (vec![String::new()], true)] {
        let uri = site.described(THERE).disks[0].content.to_string();
        let disks = if is_ours { vec![uri] } else { disks };
        Partial::begin("a1", disks).save(&site.noted()).unwrap();
        assert_eq!(site.targets().is_ok(), is_ours);
    }
    let mut targets = site.targets().unwrap();
    whole(&mut sources).iter().for_each(|piece| targets.put(piece).unwrap());
    targets.finish().unwrap();
    assert!(site.is_same());
    targets.abandon();
    assert!(!Partial::load(&site.noted()).unwrap().unwrap().whole);
}

/// A server that knows little of its holes, and in other blocks, costs bytes and nothing else.
#[test]
fn a_server_that_says_little_is_copied_all_the_same() {
    let mut site = Site::new();
    site.write(HERE, 9000, b"abc");
    site.write(HERE, 12 << 20, &vec![7; 1 << 20]);
    let odd = site.odd(HERE);
    odd.says_nothing.store(true, Ordering::SeqCst);
    site.replace(HERE, odd);
    let mut targets = site.targets().unwrap();
    whole(&mut Sources::begin(&site.disks())).iter().for_each(|piece| targets.put(piece).unwrap());
    assert!(site.is_same());
    let odd = site.odd(THERE);
    odd.says_nothing.store(true, Ordering::SeqCst);
    std::fs::remove_file(site.noted()).unwrap();
    site.replace(THERE, odd);
    assert!(site.targets().unwrap_err().what.contains("has something on it"), "nobody knows");
}

/// I11: what comes is a part of a disk that comes, within it; and a disk that fails says so.
#[test]
fn what_cannot_be_written_is_said() {
    let mut site = Site::new();
    let piece = |disk, offset, content| {
        let piece = super::piece::Piece { disk, offset, content };
        let data = if let super::piece::Content::Data(data) = content { data } else { &[] };
        [&piece.head()[..], data].concat()
    };
    let (data, zeroes) = (super::piece::Content::Data(b"abcd"), super::piece::Content::Zeroes(8192));
    let mut targets = site.targets().unwrap();
    for (disk, offset, content) in [
        (1, 0, data),
        (2, 0, data),
        (u32::MAX, 0, data),
        (0, SIZE - 3, data),
        (0, u64::MAX, data),
        (0, SIZE - 4096, zeroes),
        (0, 0, super::piece::Content::Zeroes(u64::MAX)),
    ] {
        assert!(targets.put(&piece(disk, offset, content)).is_err(), "{disk} {offset}");
    }
    assert!(targets.put(b"x").is_err());
    drop(targets);
    let odd = site.odd(THERE);
    odd.fails.store(true, Ordering::SeqCst);
    site.replace(THERE, odd);
    let mut targets = site.targets().unwrap();
    targets.put(&piece(0, 0, super::piece::Content::Data(&[7; 4096]))).unwrap_err();
    let why = targets.failed().unwrap();
    assert!(why.what.contains("cannot be written there: ") && why.what.contains("full"), "{why:?}");
    assert!(!Partial::load(&site.noted()).unwrap().unwrap().whole);

    let sizes: [&[Option<u64>]; 4] = [&[], &[Some(SIZE)], &[Some(4096), None], &[Some(SIZE), Some(SIZE)]];
    for sizes in sizes {
        assert!(Targets::open(&site.described(THERE), sizes, None, (None, "a1")).is_err(), "{sizes:?}");
    }
}

/// A server that goes away is waited for; one that fails ends the copy, by its name.
#[test]
fn a_disk_that_cannot_be_read_is_named() {
    let mut site = Site::new();
    site.write(HERE, 3 << 20, b"abc");
    let mut sources = Sources::begin(&site.disks());
    let file = site.path(HERE);
    drop(site.servers.remove(0));
    let mut looks = 0;
    let mut bytes = Vec::new();
    let mut writer = Writer::bring(&mut bytes).unwrap();
    // Who asks for it no more ends it.
    let ended = sources.write(&mut writer, &mut |_| {
        looks += 1;
        if looks < 3 { Ok(()) } else { Err(std::io::Error::other("no more")) }
    });
    assert!(format!("{ended:?}").contains("no more") && looks == 3, "{ended:?}");
    let server = site.serve(HERE, Arc::new(FileExport::open(&file, false).unwrap()));
    site.servers.insert(0, server);
    let mut targets = site.targets().unwrap();
    whole(&mut sources).iter().for_each(|piece| targets.put(piece).unwrap());
    assert!(site.is_same());
    struct Broken;
    impl Export for Broken {
        fn geometry(&self) -> Geometry {
            Geometry::new(SIZE, 512, 4096).unwrap()
        }

        fn submit(&self, request: Request, reply: Reply) {
            let Request::Read { span: Span { .. } } = request else {
                let all =
                    Extent { length: u32::try_from(SIZE).unwrap(), hole: false, zero: false, dirty: false };
                return reply.finish(Ok(Content::Extents(vec![all])));
            };
            reply.fail(Errno::Io, "a bad sector");
        }
    }
    site.replace(HERE, Arc::new(Broken));
    let mut sources = Sources::begin(&site.disks());
    let mut bytes = Vec::new();
    let ended = sources.write(&mut Writer::bring(&mut bytes).unwrap(), &mut |_| Ok(()));
    assert!(
        format!("{ended:?}").contains("cannot be read: ") && format!("{ended:?}").contains("bad sector"),
        "{ended:?}"
    );
}
