//! A site for tests: holders with real logs and stores on this machine, streams in this process, and a
//! register that grants leases as voters would.

use super::handle::Handle;
use super::open::{Inbox, Running, Settings};
use super::view::{State, View};
use super::words::{Order, RegisterNews, RegisterWish, Streams};
use crate::cluster::clock;
use crate::cluster::wake::Wake;
use crate::failure::Failure;
use crate::nbd::export::{Content, Errno, Failed, Reply, Request, Span};
use crate::replication::frame::meta;
use crate::replication::tally::End as Ended;
use crate::replication::words::{Frame, News, Stream};
use crate::site_config::BackedBy;
use crate::storage::buffers::{Piece, Pool};
use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Head and tags of a frame.
const FRAME_LEN: usize = 32;

const LEASE: Duration = Duration::from_millis(400);

/// The streams of the site. What arrives is copied, as from a network, into memory of whom it is for.
#[derive(Default)]
pub struct Wires {
    state: Mutex<Links>,
    /// Bytes that were sent.
    pub bytes: AtomicU64,
}

#[derive(Default)]
struct Links {
    inboxes: BTreeMap<NodeId, Receiving>,
    /// The stream between two nodes, the smaller first.
    streams: BTreeMap<(NodeId, NodeId), u64>,
    next: u64,
}

/// A node's end of all its streams.
struct Receiving {
    tell: Sender<News>,
    gone: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Receiving {
    fn send(&self, news: News) {
        let _ = self.tell.send(news);
    }

    /// What is on its way to a dead node takes nobody's memory, and nothing of the node is held.
    fn end(self) {
        let Self { tell, gone, thread } = self;
        gone.store(true, Ordering::SeqCst);
        drop(tell);
        let _ = thread.join();
    }
}

struct End {
    me: NodeId,
    wires: Arc<Wires>,
}

impl Streams for End {
    fn send(&self, to: Stream, frames: Vec<Frame>) {
        let state = self.wires.state.lock().unwrap();
        let key = pair(self.me, to.peer());
        let is_met = state.streams.get(&key).is_some_and(|number| Stream::of(to.peer(), *number) == to);
        if let Some(inbox) = state.inboxes.get(&to.peer()).filter(|_| is_met) {
            for frame in frames {
                let (head, meta) = meta(&frame).expect("a frame that contradicts itself is not sent");
                let bytes = FRAME_LEN + meta.len() + head.blocks * 4096;
                self.wires.bytes.fetch_add(u64::try_from(bytes).unwrap(), Ordering::SeqCst);
                inbox.send(News::Frame(self.me, frame));
            }
        }
    }

    fn queued(&self, _to: Stream) -> usize {
        0
    }

    fn is_encrypted(&self, _to: Stream) -> Option<bool> {
        Some(false)
    }

    fn end(&self, to: Stream, _why: Ended) {
        let mut state = self.wires.state.lock().unwrap();
        let key = pair(self.me, to.peer());
        if state.streams.get(&key).is_some_and(|number| Stream::of(to.peer(), *number) == to) {
            state.part(self.me, to.peer());
            state.meet(self.me, to.peer());
        }
    }
}

/// As it arrives; `None`: the node is dead.
fn arrived(news: News, pool: &Pool, gone: &AtomicBool) -> Option<News> {
    let copy = |piece: Piece| loop {
        if gone.load(Ordering::SeqCst) {
            break None;
        }
        if let Some(mut buffer) = pool.take(piece.blocks()) {
            buffer.bytes_mut().copy_from_slice(piece.bytes());
            break Some(buffer.keep().piece());
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    Some(match news {
        News::Frame(node, Frame::Write { epoch, made, seq, write, sums, payload: Some(piece) }) => {
            let payload = Some(copy(piece)?);
            News::Frame(node, Frame::Write { epoch, made, seq, write, sums, payload })
        }
        News::Frame(node, Frame::Fill { epoch, write, sums, payload: Some(piece) }) => {
            News::Frame(node, Frame::Fill { epoch, write, sums, payload: Some(copy(piece)?) })
        }
        News::Frame(node, Frame::Mend { epoch, write, sums, payload: Some(piece) }) => {
            News::Frame(node, Frame::Mend { epoch, write, sums, payload: Some(copy(piece)?) })
        }
        other @ (News::Met(..) | News::Gone(_) | News::Frame(..)) => other,
    })
}

fn pair(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}

impl Wires {
    fn join(&self, me: NodeId, pool: Pool, inbox: Inbox) {
        let mut state = self.state.lock().unwrap();
        let (tell, told) = channel();
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = Arc::clone(&gone);
        let thread = std::thread::spawn(move || {
            told.into_iter().map_while(|news| arrived(news, &pool, &is_gone)).for_each(inbox);
        });
        state.inboxes.insert(me, Receiving { tell, gone, thread });
        for other in state.inboxes.keys().copied().filter(|other| *other != me).collect::<Vec<_>>() {
            state.meet(me, other);
        }
    }

    fn leave(&self, me: NodeId) {
        let mut state = self.state.lock().unwrap();
        let left = state.inboxes.remove(&me);
        for other in state.inboxes.keys().copied().collect::<Vec<_>>() {
            state.part(me, other);
        }
        drop(state);
        if let Some(left) = left {
            left.end();
        }
    }

    /// The stream between two nodes breaks, or another one is met.
    pub fn link(&self, one: NodeId, other: NodeId, is_up: bool) {
        let mut state = self.state.lock().unwrap();
        if is_up { state.meet(one, other) } else { state.part(one, other) }
    }
}

impl Links {
    fn meet(&mut self, one: NodeId, other: NodeId) {
        self.part(one, other);
        self.next += 1;
        self.streams.insert(pair(one, other), self.next);
        for (me, peer) in [(one, other), (other, one)] {
            if let Some(inbox) = self.inboxes.get(&me) {
                inbox.send(News::Met(peer, Stream::of(peer, self.next)));
            }
        }
    }

    fn part(&mut self, one: NodeId, other: NodeId) {
        if self.streams.remove(&pair(one, other)).is_some() {
            for (me, peer) in [(one, other), (other, one)] {
                if let Some(inbox) = self.inboxes.get(&me) {
                    inbox.send(News::Gone(peer));
                }
            }
        }
    }
}

/// The group's register, and the loops that speak of it.
#[derive(Default)]
struct Register {
    nodes: BTreeMap<NodeId, Handle>,
    epoch: u64,
    record: Option<Payload>,
    held: Option<(NodeId, Instant)>,
    /// It is not asked whether it takes the register.
    passed_over: Option<NodeId>,
    /// What is wished is heard later.
    is_deaf: bool,
    turn: usize,
}

impl Register {
    fn round(&mut self) {
        let now = clock::now();
        let until = now.after(LEASE);
        self.held = self.held.filter(|(_, until)| now < *until);
        for (node, handle) in self.nodes.clone() {
            if self.is_deaf {
                break;
            }
            for wish in handle.wishes() {
                let holds = self.held.is_some_and(|(holder, _)| holder == node);
                match wish {
                    RegisterWish::Decided(Verdict::Take(payload)) if self.held.is_none() => {
                        self.held = Some((node, until));
                        self.write(&handle, payload, until);
                    }
                    RegisterWish::Rewrite(payload) if holds => {
                        self.held = Some((node, until));
                        self.write(&handle, payload, until);
                    }
                    RegisterWish::Release | RegisterWish::Failed if holds => {
                        handle.told(RegisterNews::Lost);
                        self.held = None;
                    }
                    RegisterWish::Failed => drop(self.nodes.remove(&node)),
                    RegisterWish::Decided(_) | RegisterWish::Rewrite(_) | RegisterWish::Release => {}
                }
            }
        }
        match self.held {
            Some((node, old)) if old.since(now) < LEASE / 2 => {
                if let Some(handle) = self.nodes.get(&node) {
                    handle.told(RegisterNews::Leased { until });
                    self.held = Some((node, until));
                }
            }
            Some(_) => {}
            None => {
                self.turn += 1;
                let others = self.nodes.iter().filter(|(node, _)| Some(**node) != self.passed_over);
                let nodes: Vec<_> = others.map(|(_, handle)| handle).collect();
                if let Some(handle) = nodes.get(self.turn % nodes.len().max(1)) {
                    handle.told(RegisterNews::Decide(self.record.clone()));
                }
            }
        }
    }

    fn write(&mut self, handle: &Handle, payload: Payload, until: Instant) {
        self.epoch += 1;
        self.record = Some(payload.clone());
        handle.told(RegisterNews::Held { epoch: Epoch(self.epoch), payload, until });
    }
}

/// A site.
pub struct Site {
    pub directory: tempfile::TempDir,
    pub wires: Arc<Wires>,
    pub log_bytes: u64,
    /// What the nodes' configurations say of their volumes.
    pub backing: BTreeMap<NodeId, BTreeMap<String, BackedBy>>,
    /// The one store that all reach, below the site's directory, if there is one.
    pub shared: Option<&'static str>,
    running: BTreeMap<NodeId, Running>,
    register: Arc<Mutex<Register>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    pub fn new(log_bytes: u64) -> Self {
        let register = Arc::new(Mutex::new(Register::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (register, stop) = (Arc::clone(&register), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    register.lock().unwrap().round();
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        };
        Self {
            directory: tempfile::tempdir().unwrap(),
            wires: Arc::new(Wires::default()),
            log_bytes,
            backing: BTreeMap::new(),
            shared: None,
            running: BTreeMap::new(),
            register,
            stop,
            thread: Some(thread),
        }
    }

    pub fn start(&mut self, node: u16) {
        let node = NodeId(node);
        let home = self.directory.path().join(node.0.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let wires = Arc::clone(&self.wires);
        let backing = self.backing.get(&node).cloned().unwrap_or_default();
        let mut settings = settings(node, &home, self.log_bytes, backing);
        if let Some(shared) = self.shared {
            settings.is_shared = true;
            settings.volumes = self.directory.path().join(shared);
        }
        let connect = Box::new(move |pool, inbox| {
            wires.join(node, pool, inbox);
            Ok(Arc::new(End { me: node, wires }) as Arc<dyn Streams>)
        });
        let running = Running::start(settings, Wake::new().unwrap(), || {}, connect).unwrap();
        self.register.lock().unwrap().nodes.insert(node, running.handle());
        self.running.insert(node, running);
    }

    /// The node dies: what it had under way is gone.
    pub fn kill(&mut self, node: u16) {
        let node = NodeId(node);
        let mut register = self.register.lock().unwrap();
        register.nodes.remove(&node);
        // Its lease ends by itself: what starts there is another start.
        register.held = register.held.map(|(holder, until)| match holder == node {
            true => (NodeId(0), until),
            false => (holder, until),
        });
        drop(register);
        self.wires.leave(node);
        drop(self.running.remove(&node));
    }

    /// Whether the voters hear nothing that is wished; leases are renewed.
    pub fn deafen(&self, is_deaf: bool) {
        self.register.lock().unwrap().is_deaf = is_deaf;
    }

    /// The node loses the register, goes on, and has another one lead.
    pub fn give_up(&self, node: u16) {
        let mut register = self.register.lock().unwrap();
        register.passed_over = Some(NodeId(node));
        register.held = None;
        self.handle(node).told(RegisterNews::Lost);
    }

    pub fn handle(&self, node: u16) -> Handle {
        self.running[&NodeId(node)].handle()
    }

    /// The node that leads, when one does and it is so.
    pub fn await_leader(&self, mut is: impl FnMut(&View) -> bool) -> u16 {
        for _ in 0..3_000 {
            for (node, running) in &self.running {
                let view = running.handle().view();
                if view.leads && is(&view) {
                    return node.0;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let views: Vec<_> = self.running.values().map(|one| one.handle().view()).collect();
        panic!("nobody leads as awaited: {views:#?}");
    }

    /// Two holders in sync, and a volume of so many blocks: who leads, who follows, and the volume.
    pub fn pair(&mut self, blocks: u64) -> (u16, u16, Volume) {
        self.start(1);
        self.start(2);
        let leads = self.await_synced();
        (leads, 3 - leads, create(&self.handle(leads), "vm1", blocks))
    }

    pub fn await_synced(&self) -> u16 {
        self.await_leader(|view| view.state == State::Synced)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn settings(me: NodeId, home: &Path, log_bytes: u64, backing: BTreeMap<String, BackedBy>) -> Settings {
    Settings {
        site: SiteId([1; 16]),
        group: GroupId([2; 16]),
        me,
        is_founder: me == NodeId(1),
        log: home.join("log"),
        log_bytes: Some(log_bytes),
        volumes: home.join("volumes"),
        is_shared: false,
        backing,
        memory: 16 << 20,
        // Small: whatever a test reads comes, goes and comes again.
        read_cache: 16 << 12,
        late: Duration::from_millis(500),
    }
}

/// Waits until a node is like this. Its view is a moment old.
pub fn until(site: &Site, node: u16, is: impl Fn(&View) -> bool) -> View {
    let begin = std::time::Instant::now();
    loop {
        let view = site.handle(node).view();
        if is(&view) {
            return view;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{view:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks a node to make a volume.
pub fn create(handle: &Handle, name: &str, blocks: u64) -> Volume {
    order(handle, Order::Create { name: name.into(), blocks }).unwrap()
}

/// Asks a node for something.
pub fn order(handle: &Handle, order: Order) -> Result<Volume, Failure> {
    let (tell, told) = channel();
    handle.order(order, move |done| tell.send(done).unwrap());
    told.recv_timeout(Duration::from_secs(30)).unwrap()
}

/// Asks a node to delete a volume.
pub fn delete(handle: &Handle, volume: Volume) {
    order(handle, Order::Delete { volume }).unwrap();
}

/// Begins a request.
pub fn ask(handle: &Handle, volume: Volume, request: Request) -> Receiver<Result<Content, Failed>> {
    let (tell, told) = channel();
    handle.submit(volume, request, Reply::new(move |answer| drop(tell.send(answer))));
    told
}

/// What is in some blocks.
pub fn read(handle: &Handle, volume: Volume, first: u64, blocks: u32) -> Result<Vec<u8>, Errno> {
    let span = Span { offset: first * 4096, length: blocks * 4096 };
    let answer = ask(handle, volume, Request::Read { span });
    match answer.recv_timeout(Duration::from_secs(30)).unwrap() {
        Ok(Content::Data(pieces)) => {
            let mut bytes = Vec::new();
            for piece in pieces {
                match piece {
                    crate::nbd::export::Piece::Bytes(part) => bytes.extend_from_slice((*part).as_ref()),
                    crate::nbd::export::Piece::Zeroes(count) => {
                        bytes.resize(bytes.len() + usize::try_from(count).unwrap(), 0);
                    }
                }
            }
            Ok(bytes)
        }
        Ok(other) => panic!("{other:?}"),
        Err(failed) => Err(failed.errno),
    }
}
