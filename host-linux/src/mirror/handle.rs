//! What others hold of a group: the agent's loop, the NBD server and the commands speak to its thread by this
//! (I5, I11, I12, V3).
//!
//! Whatever is asked is answered once: a request that never comes to its end is answered as not known.

use super::dirty::Dirty;
use super::extents::Content;
use super::logged::LogFile;
use super::mailbox::Mailbox;
use super::mends::Mends;
use super::reader::{Read, Readers, Wanted};
use super::risk::Risk;
use super::scrub::Scrub;
use super::store::Store;
use super::view::{CacheView, View, VolumeView, in_a_file};
use super::window::{Done, Unknown};
use super::words::{Order, RegisterNews, RegisterWish};
use crate::cluster::clock;
use crate::cluster::wake::Wake;
use crate::failure::Failure;
use crate::nbd::export::{Errno, Reply, Request, Span};
use crate::replication::words::News;
use crate::storage::buffers::{Piece, Pool};
use crate::storage::space::sums;
use crate::volume::catalogue::{Catalogue, bytes};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::{BlockIndex, Kind, Sum, Volume, Write};
use bulkhead_core::time::Instant;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Blocks of one write of the log at most; a longer one of a guest is several.
const WRITE_BLOCKS: usize = 256;

/// Bytes of a block.
const BLOCK: u64 = 4096;

const _: () = assert!(BLOCK_LEN == 4096, "one size of block");

/// Takes a group's answer to an order.
pub type Ordered = Box<dyn FnOnce(Result<Volume, Failure>) + Send>;

/// What a group's thread is told.
pub enum Told {
    /// By the agent's loop.
    Register(RegisterNews),
    /// By another holder.
    News(News),
    /// By the applier.
    Applier(super::applier::Done),
    /// Guests' writes.
    Write(Pending),
    /// A read that came when nothing could be read yet.
    Read(Read),
    /// By an operator.
    Order(Order, Ordered),
    /// What is safe cannot be read from the log, or written into the store.
    Damaged(String),
    /// Somebody waits for what is damaged in the store.
    Mend,
    /// This block of the catalogue was damaged in the store, and is there again.
    Mended(u64),
    /// By the filler of this number, which fills a holder's store.
    Filler(NodeId, u64, super::filler::Said),
    /// An operator has it lead with what it has, whoever has more.
    Recover,
    /// End.
    Stop,
}

/// A guest's write on its way into the log.
pub struct Pending {
    /// Which blocks.
    pub write: Write,
    /// What; of data.
    pub payload: Option<Payload>,
    /// Who waits for it.
    pub done: Option<Done>,
}

/// The payload of a write.
pub enum Payload {
    /// In memory that disks and networks take it from.
    Ready(Piece, Vec<Sum>),
    /// As it came: there was no such memory.
    Raw(Arc<Vec<u8>>, std::ops::Range<usize>),
}

/// Until when, and under which epoch, reads may be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reign {
    /// This holder leads.
    pub epoch: Option<Epoch>,
    /// The end of the lease.
    pub until: Instant,
    /// Everything that may have been acknowledged can be read.
    pub is_readable: bool,
}

/// Who reigns, said by the thread, and taken back by whoever knows better.
#[derive(Debug, Default)]
pub(super) struct Throne {
    reign: Reign,
    /// How often the register was lost, of which the thread does not know yet.
    losses: u32,
}

impl Throne {
    /// What the thread says; it counts when the thread knows of every loss.
    pub(super) const fn set(&mut self, reign: Reign) {
        if self.losses == 0 {
            self.reign = reign;
        }
    }

    /// The register is lost, whatever the thread says until it knows.
    fn lose(&mut self) {
        self.losses = self.losses.saturating_add(1);
        self.reign = Reign::default();
    }

    /// The thread knows of a loss.
    pub(super) const fn know_loss(&mut self) {
        self.losses = self.losses.saturating_sub(1);
    }

    pub(super) const fn reign(&self) -> Reign {
        self.reign
    }
}

/// What the thread of a group and others share.
pub struct Shared {
    pub(super) mailbox: Mailbox,
    /// Of the thread, once it waits for its log's ring.
    pub(super) wake: OnceLock<Wake>,
    pub(super) dirty: Arc<Mutex<Dirty>>,
    pub(super) store: Arc<Store>,
    /// The log, for whoever reads what is dirty, while the thread has it open: another start may open it as
    /// soon as that has ended, whoever still has this.
    pub(super) log: Mutex<Option<Arc<LogFile>>>,
    pub(super) pool: Pool,
    /// What the pool has when all of it is free.
    pub(super) pool_blocks: usize,
    pub(super) throne: Mutex<Throne>,
    pub(super) wishes: Mutex<Vec<RegisterWish>>,
    pub(super) loop_wake: Wake,
    pub(super) view: Mutex<View>,
    pub(super) catalogue: Mutex<Catalogue>,
    pub(super) risk: Mutex<Risk>,
    /// Of writes.
    pub(super) latencies: Latencies,
    pub(super) reads: Latencies,
    pub(super) readers: Readers,
    pub(super) mends: Mends,
    pub(super) scrub: Scrub,
    /// Told when the volumes or who leads may have changed.
    pub(super) changed: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

/// How long the last writes took, or the last reads, in microseconds.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<VecDeque<u64>>);

/// Of so many each the times are remembered.
const TIMED: usize = 1024;

impl Latencies {
    pub(super) fn note(&self, began: Instant) {
        let took = u64::try_from(clock::now().since(began).as_micros()).unwrap_or(u64::MAX);
        let mut all = lock(&self.0);
        if TIMED <= all.len() {
            all.pop_front();
        }
        all.push_back(took);
    }

    /// The time that so many of a hundred did not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Option<u64> {
        let mut all: Vec<_> = lock(&self.0).iter().copied().collect();
        all.sort_unstable();
        let place = all.len().saturating_mul(percent) / 100;
        all.get(place.min(all.len().saturating_sub(1))).copied()
    }
}

/// Speaks to a group. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) Arc<Shared>);

/// Locks; a thread that panicked has said so.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Tells the thread.
    pub(super) fn tell(&self, told: Told) {
        self.tell_all([told]);
    }

    /// Tells the thread things that follow each other, with nothing of others in between.
    fn tell_all(&self, told: impl IntoIterator<Item = Told>) {
        if self.mailbox.put(told)
            && let Some(wake) = self.wake.get()
        {
            wake.wake();
        }
    }

    /// The reign, while its lease holds at this instant.
    pub(super) fn reigns(&self) -> Option<Reign> {
        let reign = lock(&self.throne).reign();
        (reign.epoch.is_some() && clock::now() < reign.until).then_some(reign)
    }
}

impl Handle {
    /// News of the group's register. Once it is lost, nothing is answered any more when this returns.
    pub fn told(&self, news: RegisterNews) {
        if news == RegisterNews::Lost {
            lock(&self.0.throne).lose();
        }
        self.0.tell(Told::Register(news));
    }

    /// What it asks of the agent's loop, whose wake was woken.
    pub fn wishes(&self) -> Vec<RegisterWish> {
        std::mem::take(&mut *lock(&self.0.wishes))
    }

    /// Asks for something. `done` is called from the group's thread, or with an error at the end of it.
    pub fn order(&self, order: Order, done: impl FnOnce(Result<Volume, Failure>) + Send + 'static) {
        self.0.tell(Told::Order(order, Box::new(done)));
    }

    /// Has it lead with what it has, whoever has more, when the voters let it. The operator was told what
    /// that may lose (X14).
    pub fn recover(&self) {
        self.0.tell(Told::Recover);
    }

    /// Has its store searched for damage now, from the first block on, without a pause (V14).
    pub fn scrub(&self) {
        self.0.scrub.hurry();
    }

    /// How it is, with the catalogue of this instant: what was ordered is seen when it is answered.
    pub fn view(&self) -> View {
        let mut view = lock(&self.0.view).clone();
        view.leads = self.0.reigns().is_some();
        let catalogue = lock(&self.0.catalogue);
        let (wanted, now) = (catalogue.group().policy.into(), view.policy);
        view.volumes = catalogue.list().map(|record| VolumeView::of(record, wanted, now)).collect();
        for volume in &mut view.volumes {
            let place = self.0.store.claims().place_of(&volume.name);
            let file = if self.0.store.is_shared() { "shared".into() } else { in_a_file() };
            volume.backing = place.unwrap_or(file);
        }
        (view.wanted, view.policy) = (wanted, now.but(wanted));
        let algorithm = catalogue.group().cache.into();
        view.cache = CacheView { algorithm, ..self.0.store.cache.view() };
        view.at_risk_max = catalogue.group().at_risk_max.map(NonZeroU64::get);
        if view.leads {
            let risk = lock(&self.0.risk);
            for volume in &mut view.volumes {
                volume.at_risk_bytes = Some(risk.of(Volume(volume.number), volume.bytes));
            }
            view.at_risk_bytes = Some(view.volumes.iter().filter_map(|volume| volume.at_risk_bytes).sum());
        }
        view
    }

    /// The epoch under which this node leads, while its lease holds.
    pub fn reign(&self) -> Option<Epoch> {
        self.0.reigns().and_then(|reign| reign.epoch)
    }

    /// The epoch under which this node leads, and the volumes, once all that was acknowledged is known.
    pub fn settled(&self) -> Option<(Epoch, Catalogue)> {
        let reign = self.0.reigns().filter(|reign| reign.is_readable)?;
        Some((reign.epoch?, self.catalogue()))
    }

    /// The volumes.
    pub fn catalogue(&self) -> Catalogue {
        lock(&self.0.catalogue).clone()
    }

    /// Begins a guest's request, which lies on whole blocks. [`Errno::Shutdown`]: this node does not lead, or
    /// stopped before it could say what became of it.
    pub fn submit(&self, volume: Volume, request: Request, reply: Reply) {
        let Some(reign) = self.0.reigns() else { return not_here(reply) };
        let end = match &request {
            Request::Read { span } | Request::Cache { span } | Request::Status { span, .. } => span.end(),
            Request::Trim { span, .. } | Request::WriteZeroes { span, .. } => span.end(),
            Request::Write { offset, data, .. } => {
                offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX))
            }
            Request::Flush => 0,
        };
        let size = lock(&self.0.catalogue).get(volume).map(|record| bytes(record.blocks));
        match size {
            Some(size) if end <= size => {}
            // What was made of it last may not be read from the log yet.
            Some(_) | None if !reign.is_readable => return not_here(reply),
            Some(_) => return reply.fail(Errno::Invalid, "it reaches behind the end of the volume"),
            None => return reply.fail(Errno::Invalid, "the volume was deleted"),
        }
        match request {
            Request::Read { span } => self.read(volume, span, Wanted::Content, reign, reply),
            Request::Write { offset, data, .. } => self.write(volume, offset, data, reply),
            // Every write that was answered is durable on all holders in sync.
            Request::Flush => reply.done(),
            Request::Trim { span, .. } => self.clear(volume, span, Kind::Trimmed, reply),
            Request::WriteZeroes { span, .. } => self.clear(volume, span, Kind::Zeroes, reply),
            Request::Cache { span } => self.read(volume, span, Wanted::Nearness, reign, reply),
            Request::Status { span, extents_max } => {
                self.read(volume, span, Wanted::Status(extents_max), reign, reply);
            }
        }
    }

    fn read(&self, volume: Volume, span: Span, wanted: Wanted, reign: Reign, reply: Reply) {
        let (first, blocks) = range(span.offset, span.length);
        let read = Read { volume, first, blocks, wanted, began: clock::now(), reply };
        match reign.epoch.filter(|_| reign.is_readable) {
            Some(epoch) => self.0.readers.begin(&self.0, epoch, read),
            None => self.0.tell(Told::Read(read)),
        }
    }

    fn write(&self, volume: Volume, offset: u64, data: Vec<u8>, reply: Reply) {
        let (first, _) = range(offset, 0);
        let data = Arc::new(data);
        let mut pieces = Vec::new();
        let (mut at, mut block) = (0, first);
        while at < data.len() {
            let end = at.saturating_add(WRITE_BLOCKS * BLOCK_LEN).min(data.len());
            let blocks = u32::try_from(end.saturating_sub(at) / BLOCK_LEN).unwrap_or(u32::MAX);
            let Some(write) = Write::new(volume, BlockIndex(block), blocks, Kind::Data) else {
                return reply.fail(Errno::Invalid, "no volume has such blocks");
            };
            pieces.push((write, Payload::new(&self.0.pool, &data, at..end)));
            (at, block) = (end, block.saturating_add(u64::from(blocks)));
        }
        // Its pieces are taken in in this order: who has the last has all.
        let mut done = Some(done(&self.0, reply));
        let count = pieces.len();
        self.0.tell_all((1..).zip(pieces).map(|(number, (write, payload))| {
            // Each stays in memory until it is safe: what is at risk of it counts then.
            let none: Done = Box::new(|_| ());
            let done = if number == count { done.take() } else { Some(none) };
            Told::Write(Pending { write, payload: Some(payload), done })
        }));
    }

    fn clear(&self, volume: Volume, span: Span, kind: Kind, reply: Reply) {
        let (first, blocks) = range(span.offset, span.length);
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        match Write::new(volume, BlockIndex(first), blocks, kind) {
            Some(write) => {
                let done = Some(done(&self.0, reply));
                self.0.tell(Told::Write(Pending { write, payload: None, done }));
            }
            None => reply.fail(Errno::Invalid, "no volume has such blocks"),
        }
    }
}

impl Payload {
    /// Copies it to where disks take it from, if there is room.
    pub(super) fn new(pool: &Pool, data: &Arc<Vec<u8>>, range: std::ops::Range<usize>) -> Self {
        let bytes = data.get(range.clone()).unwrap_or_default();
        match pool.take(bytes.len() / BLOCK_LEN) {
            Some(mut buffer) => {
                buffer.bytes_mut().copy_from_slice(bytes);
                let sums = sums(buffer.bytes()).collect();
                Self::Ready(buffer.keep().piece(), sums)
            }
            None => Self::Raw(Arc::clone(data), range),
        }
    }

    /// Again, if it had no room.
    pub(super) fn ready(self, pool: &Pool) -> Self {
        match self {
            Self::Ready(piece, sums) => Self::Ready(piece, sums),
            Self::Raw(data, range) => Self::new(pool, &data, range),
        }
    }
}

/// Bytes as a storage has them, for whoever sends them.
pub(super) struct Bytes(pub(super) Piece);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// What a part of a volume has to say, if it is in memory.
pub(super) fn said(content: Content, blocks: u64) -> crate::nbd::export::Piece {
    match content {
        Content::Data(piece) => crate::nbd::export::Piece::Bytes(Box::new(Bytes(piece))),
        Content::Zeroes => crate::nbd::export::Piece::Zeroes(length(blocks)),
    }
}

/// Bytes of so many blocks of one request.
pub(super) fn length(blocks: u64) -> u32 {
    u32::try_from(blocks.saturating_mul(BLOCK)).unwrap_or(u32::MAX)
}

/// Refuses: another node leads, or none does.
pub(super) fn not_here(reply: Reply) {
    reply.fail(Errno::Shutdown, "this node does not lead the volume's group");
}

fn done(shared: &Arc<Shared>, reply: Reply) -> Done {
    let (shared, began) = (Arc::clone(shared), clock::now());
    Box::new(move |end| match end {
        Ok(()) => {
            reply.done();
            shared.latencies.note(began);
        }
        Err(Unknown) => reply.fail(Errno::Shutdown, "this node lost the volume's group meanwhile"),
    })
}

/// The blocks of a span.
fn range(offset: u64, length: u32) -> (u64, u64) {
    (offset / BLOCK, u64::from(length) / BLOCK)
}
