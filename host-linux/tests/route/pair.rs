//! Two nodes with one volume. Its file stands for what both logs say: a test lets a reign end before the
//! next one begins, as the mirror group does.

use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::export::{Answer, Content, Errno, Export, Failed, Geometry, Piece, Reply, Request, Span};
use bulkhead::nbd::file::FileExport;
use bulkhead::nbd::limits::Limits;
use bulkhead::nbd::server::Server;
use bulkhead::nbd::uri::Uri;
use bulkhead::volume::route::{Here, Route, Settings, publish};
use bulkhead_core::id::Epoch;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const SIZE: u64 = 16 << 20;
pub const VOLUME: &str = "vol";

/// Quick enough for tests, with room for a busy machine.
pub const QUICK: Settings = Settings {
    patience: Duration::from_secs(10),
    answer: Duration::from_secs(4),
    retry: Duration::from_millis(20),
    idle: Duration::from_secs(60),
};

/// A node's part of the volume.
pub struct Holder {
    file: FileExport,
    reign: AtomicU64,
    pub primary: Mutex<Option<SocketAddr>>,
    pub size: AtomicU64,
    /// Requests that reached it while it led.
    pub taken: AtomicUsize,
    under_way: AtomicUsize,
    /// Requests are kept, as by a group that waits for something.
    pub stands_still: AtomicBool,
    kept: Mutex<Vec<(Request, Reply)>>,
    /// Its own failure, instead of carrying out.
    pub fails: Mutex<Option<Failed>>,
}

/// The same, as the route sees it.
struct Seen(Arc<Holder>);

impl Here for Seen {
    fn reign(&self) -> Option<Epoch> {
        match self.0.reign.load(Ordering::SeqCst) {
            0 => None,
            reign => Some(Epoch(reign)),
        }
    }

    fn primary(&self) -> Option<SocketAddr> {
        *self.0.primary.lock().unwrap()
    }

    fn geometry(&self) -> Geometry {
        Geometry::new(self.0.size.load(Ordering::SeqCst), 512, 4096).unwrap().multi_conn(true)
    }

    fn submit(&self, request: Request, reply: Reply) {
        // Counted first: whoever ends the reign waits for it.
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        let reign = self.0.reign.load(Ordering::SeqCst);
        let own = Arc::clone(&self.0);
        let reply = Reply::new(move |answer: Answer| {
            own.under_way.fetch_sub(1, Ordering::SeqCst);
            // It was carried out, and the holder may not say so any more.
            match own.reign.load(Ordering::SeqCst) == reign {
                true => reply.finish(answer),
                false => reply.fail(Errno::Shutdown, "its lease is over"),
            }
        });
        if reign == 0 {
            return reply.fail(Errno::Shutdown, "it does not lead");
        }
        self.0.taken.fetch_add(1, Ordering::SeqCst);
        if let Some(failed) = self.0.fails.lock().unwrap().clone() {
            return reply.finish(Err(failed));
        }
        if self.0.stands_still.load(Ordering::SeqCst) {
            self.0.kept.lock().unwrap().push((request, reply));
            return;
        }
        self.0.file.submit(request, reply);
    }
}

impl Holder {
    /// Carries out what it kept, and keeps no more.
    pub fn go_on(&self) {
        self.stands_still.store(false, Ordering::SeqCst);
        for (request, reply) in self.kept.lock().unwrap().drain(..) {
            self.file.submit(request, reply);
        }
    }

    /// Its reign is over: what it kept was never done, what the disk has is waited for.
    pub fn stop(&self) {
        self.reign.store(0, Ordering::SeqCst);
        self.stands_still.store(false, Ordering::SeqCst);
        drop(std::mem::take(&mut *self.kept.lock().unwrap()));
        eventually("its requests end", || self.under_way.load(Ordering::SeqCst) == 0);
    }

    pub fn lead(&self, reign: u64) {
        self.reign.store(reign, Ordering::SeqCst);
    }
}

/// A node.
pub struct Node {
    pub holder: Arc<Holder>,
    /// The server and the route; nothing while it is dead.
    pub alive: Option<(Server, Arc<Route>)>,
    pub unix: PathBuf,
    pub tcp: SocketAddr,
}

/// Both nodes.
pub struct Pair {
    pub nodes: [Node; 2],
    settings: Settings,
    reign: u64,
    _directory: tempfile::TempDir,
}

impl Pair {
    /// Nobody leads.
    pub fn new(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
        let nodes = ["a", "b"].map(|name| Node::new(&path, directory.path(), name, settings));
        Self { nodes, settings, reign: 0, _directory: directory }
    }

    /// The reign of one node ends, and later that of another begins, as everybody hears.
    pub fn lead(&mut self, node: usize) {
        self.reign += 1;
        self.nodes[1 - node].holder.stop();
        self.nodes[node].holder.stop();
        *self.nodes[1 - node].holder.primary.lock().unwrap() = Some(self.nodes[node].tcp);
        *self.nodes[node].holder.primary.lock().unwrap() = None;
        self.nodes[node].holder.lead(self.reign);
        self.tell();
    }

    /// Routes look again.
    pub fn tell(&self) {
        for (_, route) in self.nodes.iter().filter_map(|node| node.alive.as_ref()) {
            route.changed();
        }
    }

    /// The process of a node ends; it leads no more.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = None;
        self.nodes[node].holder.stop();
    }

    pub fn restart(&mut self, node: usize) {
        let Node { holder, unix, tcp, .. } = &self.nodes[node];
        let server = serve(holder, unix, *tcp, self.settings);
        self.nodes[node].alive = Some((server.0, server.2));
    }

    pub fn route(&self, node: usize) -> &Route {
        &self.nodes[node].alive.as_ref().unwrap().1
    }

    pub fn client(&self, node: usize) -> Client {
        connect(&self.nodes[node].unix).unwrap()
    }
}

impl Node {
    fn new(file: &Path, directory: &Path, name: &str, settings: Settings) -> Self {
        let holder = Arc::new(Holder {
            file: FileExport::open(file, false).unwrap(),
            reign: AtomicU64::new(0),
            primary: Mutex::new(None),
            size: AtomicU64::new(SIZE),
            taken: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            stands_still: AtomicBool::new(false),
            kept: Mutex::default(),
            fails: Mutex::new(None),
        });
        let unix = directory.join(name);
        let (server, tcp, route) = serve(&holder, &unix, "127.0.0.1:0".parse().unwrap(), settings);
        Self { holder, alive: Some((server, route)), unix, tcp }
    }
}

fn serve(
    holder: &Arc<Holder>,
    unix: &Path,
    tcp: SocketAddr,
    settings: Settings,
) -> (Server, SocketAddr, Arc<Route>) {
    let limits = Limits { farewell: Duration::from_millis(100), ..Limits::default() };
    let mut server = Server::start(limits).unwrap();
    server.listen_unix(unix).unwrap();
    let tcp = server.listen_tcp(tcp).unwrap();
    let here: Arc<dyn Here> = Arc::new(Seen(Arc::clone(holder)));
    let route = publish(&server, VOLUME, "a volume", here, settings).unwrap();
    (server, tcp, route)
}

/// A client of the volume at a node's Unix socket.
pub fn connect(unix: &Path) -> Option<Client> {
    Client::connect(&Uri::unix(unix, VOLUME), Duration::from_secs(30)).ok()
}

pub fn ask(export: &dyn Export, request: Request) -> Receiver<Answer> {
    let (sender, receiver) = channel();
    // A test that has seen enough has gone.
    let tell = move |answer| drop(sender.send(answer));
    export.submit(request, Reply::new(tell));
    receiver
}

pub fn answer(export: &dyn Export, request: Request) -> Answer {
    ask(export, request).recv_timeout(Duration::from_secs(60)).unwrap()
}

/// A block of 4096 bytes that all say `value`.
pub fn write(block: u64, value: u64) -> Request {
    let data = value.to_le_bytes().repeat(512);
    Request::Write { offset: block * 4096, data, durable: false }
}

/// What a block says; it must be one value.
pub fn read(export: &dyn Export, block: u64) -> Result<u64, Failed> {
    let span = Span { offset: block * 4096, length: 4096 };
    let Content::Data(pieces) = answer(export, Request::Read { span })? else { panic!("no data") };
    let one = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Piece::Zeroes(count) => vec![0; *count as usize],
    };
    let bytes: Vec<u8> = pieces.iter().flat_map(one).collect();
    assert_eq!(bytes.len(), 4096);
    assert!(bytes.chunks(8).all(|chunk| chunk == &bytes[..8]), "block {block} is torn");
    Ok(u64::from_le_bytes(bytes[..8].try_into().unwrap()))
}

pub fn done(export: &dyn Export, request: Request) {
    let answer = answer(export, request);
    assert!(matches!(answer, Ok(Content::Done)), "{answer:?}");
}

pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
