//! How a holder starts: its log is made or read, its store opened, and its thread begins (V12, F3, F7, F14,
//! F15).
//!
//! All of that happens on the group's own thread: a log of many gibibytes takes a while to read, and the node
//! has other things to do meanwhile. What is told to the group waits for it.

use super::acks::Acks;
use super::act::Act;
use super::applier::Applier;
use super::apply::Apply;
use super::dirty::{Dirty, RUN, TooLarge};
use super::group::Group;
use super::handle::{Handle, Latencies, Shared, Told, lock};
use super::logged::{LogFile, Reader};
use super::mailbox::Mailbox;
use super::mends::Mends;
use super::missing;
use super::placeholder::Placeholder;
use super::read_cache::TooLarge as NoMemory;
use super::reader::Readers;
use super::reader::THREADS;
use super::risk::Risk;
use super::scrub::{Scrub, Scrubber};
use super::settings::Asked;
use super::store::Store;
use super::tenancy::Tenancy;
use super::tenant::{self, Tenant};
use super::view::{self, View};
use super::window::Window;
use super::words::{RegisterWish, Streams};
use crate::cluster::wake::Wake;
use crate::failure::Failure;
use crate::replication::words::News;
use crate::site_config::BackedBy;
use crate::storage::buffers::Pool;
use crate::storage::device::{Device, Part};
use crate::storage::engine::{Engine, Means};
use crate::storage::job::{Durably, Fault};
use crate::storage::recovery::{format, front, recover};
use crate::storage::space::Space;
use bulkhead_core::holder::machine::Holder;
use bulkhead_core::holder::recovery::Recovered;
use bulkhead_core::holder::words::{Backing, Settings as Machine};
use bulkhead_core::id::{GroupId, NodeId, SiteId};
use bulkhead_core::log::ring::{RING_AT, Ring};
use bulkhead_core::log::scan::Outcome;
use bulkhead_core::log::superblock::{Fault as Unusable, Identity};
use bulkhead_core::log::{Life, Seq};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Least memory for writes: a log is read by some of it.
pub const MEMORY_MIN: usize = 16 << 20;

/// What a holder must know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site.
    pub site: SiteId,
    /// Its group.
    pub group: GroupId,
    /// This node.
    pub me: NodeId,
    /// Whether it may make the group's first record: one holder may.
    pub is_founder: bool,
    /// Its log: a file or a block device.
    pub log: PathBuf,
    /// Bytes of the log, should the file not be there.
    pub log_bytes: Option<u64>,
    /// The directory of its store.
    pub volumes: PathBuf,
    /// Whether the other holders reach that very directory, and only the one that leads writes there.
    pub is_shared: bool,
    /// What these volumes have their content on, if not in files there.
    pub backing: BTreeMap<String, BackedBy>,
    /// Bytes of memory for writes.
    pub memory: usize,
    /// Bytes of memory for what is read.
    pub read_cache: u64,
    /// How long another holder may owe a write.
    pub late: Duration,
}

/// A group that runs, until this is dropped.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Takes what the streams say.
pub type Inbox = Box<dyn Fn(News) + Send + Sync>;

/// Makes the streams to the other holders.
pub type Connect = Box<dyn FnOnce(Pool, Inbox) -> Result<Arc<dyn Streams>, Failure> + Send>;

impl Running {
    /// Begins. `loop_wake` is woken when there are wishes; `changed` is called when the volumes, or who
    /// leads, may be others.
    ///
    /// # Errors
    ///
    /// The store cannot be used, or there is no memory or no thread.
    pub fn start(
        settings: Settings,
        loop_wake: Wake,
        changed: impl Fn() + Send + Sync + 'static,
        connect: Connect,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("a mirror group cannot start: {error}"));
        let bytes = settings.memory.max(MEMORY_MIN);
        let pool = Pool::new(bytes).ok_or_else(|| {
            Failure::failed(format!("there are no {bytes} bytes of memory for writes"))
                .left("Nothing was started.")
                .next("give `memory` in [local.storage] a smaller value.")
        })?;
        let store = Arc::new(store(&settings)?);
        let catalogue = tenant::catalogue(&store)?;
        let shared = Arc::new(Shared {
            mailbox: Mailbox::default(),
            wake: OnceLock::new(),
            dirty: Arc::new(Mutex::new(Dirty::default())),
            store,
            log: Mutex::default(),
            pool_blocks: pool.free(),
            pool,
            throne: Mutex::default(),
            wishes: Mutex::default(),
            loop_wake,
            view: Mutex::new(View::default()),
            catalogue: Mutex::new(catalogue),
            risk: Mutex::new(Risk::new()),
            latencies: Latencies::default(),
            reads: Latencies::default(),
            readers: Readers::start().map_err(failed)?,
            mends: Mends::default(),
            scrub: Scrub::default(),
            changed: Box::new(changed),
        });
        let handle = Handle(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("mirror".into());
        let thread = thread.spawn(move || run(settings, shared, connect)).map_err(failed)?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// To speak to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.0.tell(Told::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn store(settings: &Settings) -> Result<Store, Failure> {
    let Settings { site, group, me, volumes, .. } = settings;
    let store = Store::open(volumes)?;
    match settings.is_shared {
        true => Ok(store.shared(Tenancy::open(volumes, *site, *group, *me)?)),
        false => store.backed_by(settings.backing.clone()),
    }
}

fn run(settings: Settings, shared: Arc<Shared>, connect: Connect) {
    let begun = begin(&settings, &shared, connect).and_then(|group| {
        let scrubber = Scrubber::start(&shared);
        let failed = |error| Failure::failed(format!("a mirror group cannot start: {error}"));
        Ok((group, scrubber.map_err(failed)?))
    });
    match begun {
        Ok((group, scrubber)) => {
            group.run();
            shared.mends.end();
            drop(scrubber);
        }
        Err(failure) => {
            let mut view = lock(&shared.view);
            view.mode = view::Mode::Failed;
            view.state = view::State::Failed;
            view.last_error = Some(failure.what.clone());
            drop(view);
            lock(&shared.wishes).push(RegisterWish::Failed);
            shared.loop_wake.wake();
        }
    }
    *lock(&shared.log) = None;
}

fn begin(settings: &Settings, shared: &Arc<Shared>, connect: Connect) -> Result<Group, Failure> {
    let (engine, recovered) = open(settings, &shared.pool)?;
    let (device, ring) = (engine.device().clone(), recovered.ring());
    let (Outcome::Whole(end) | Outcome::Damaged(end)) = recovered.outcome();
    let found = end.next.before();
    read_back(shared, &device, ring)?;
    remember(shared, settings.read_cache)?;
    let trouble =
        |fault: Fault| Failure::failed(format!("the log {} fails: {fault}", settings.log.display()));
    let space = Space::new(engine, ring, Durably::default()).map_err(trouble)?;
    // There is one thread, and it comes here once.
    let _ = shared.wake.set(space.waker());
    let tell = Arc::clone(shared);
    let told = move |done| tell.tell(Told::Applier(done));
    let applier =
        Applier::start(Arc::clone(&shared.store), Arc::clone(&shared.dirty), Reader::new(device, ring), told);
    let applier =
        applier.map_err(|error| Failure::failed(format!("a mirror group cannot start: {error}")))?;
    let inbox = Arc::clone(shared);
    let streams = connect(shared.pool.clone(), Box::new(move |news| inbox.tell(Told::News(news))))?;
    let machine = Machine {
        backing: if settings.is_shared { Backing::Shared } else { Backing::Local },
        late: settings.late,
        policy: lock(&shared.catalogue).least_policy(),
        is_founder: settings.is_founder,
        seed: random()?,
    };
    let mut acts = Vec::new();
    let holder = Holder::new(machine, recovered, &mut |action| acts.extend(Act::of(action)));
    let applied = holder.applied();
    let damaged = look(settings, shared, applied)?;
    let mut group = Group {
        holder,
        space,
        shared: Arc::clone(shared),
        streams,
        window: Window::default(),
        peers: BTreeMap::new(),
        applier,
        apply: Apply::found(applied, found),
        waiting: VecDeque::new(),
        reads: Vec::new(),
        lease: None,
        led_from: None,
        filled: None,
        followed_from: None,
        wanted_by_others: Vec::new(),
        fillers: BTreeMap::new(),
        fills: 0,
        orders: Default::default(),
        logged: None,
        acks: Acks::default(),
        policy: machine.policy,
        wanted: Asked::by(&lock(&shared.catalogue)),
        moved: Vec::new(),
        decided_on: None,
        next_read: 0,
        waits: None,
        shown_at: None,
        last_error: unserved(&damaged, &shared.store).or_else(|| shared.store.claims().note()),
        damaged,
        placeholder: Placeholder::default(),
        tenant: settings.is_shared.then(Tenant::default),
        full: None,
        failed: None,
        is_over: false,
    };
    group.carry_out(acts);
    Ok(group)
}

/// What is damaged of the list of volumes; it is mended as soon as somebody has it. A store that others reach
/// is looked at when it is taken.
fn look(settings: &Settings, shared: &Shared, applied: Seq) -> Result<BTreeSet<u64>, Failure> {
    if settings.is_shared {
        return Ok(BTreeSet::new());
    }
    missing::check(&shared.store, &lock(&shared.catalogue), applied)?;
    let damaged = missing::damaged(&shared.store)?;
    if !damaged.is_empty() {
        shared.scrub.hurry();
    }
    Ok(damaged)
}

/// What is said while volumes may be missing.
fn unserved(damaged: &BTreeSet<u64>, store: &Store) -> Option<String> {
    let (count, place) = (damaged.len(), store.directory().display());
    (count != 0).then(|| {
        format!(
            "the list of volumes in {place} has damaged blocks ({count}): should this node lead, it serves \
             nothing before its log or another holder has given it what was there"
        )
    })
}

/// What is dirty may lie in the log from now on, for guests and for the store.
fn read_back(shared: &Shared, device: &Device, ring: Ring) -> Result<(), Failure> {
    let bytes = ring.blocks().saturating_mul(4096);
    let dirty = Dirty::over(ring).map_err(|TooLarge| {
        let what = format!("there is no memory for the index of a log of {bytes} bytes");
        Failure::failed(what)
            .left("Nothing was started.")
            .next("take a smaller log: it needs one part in 230 of it as memory, and has 16 TiB at most.")
    })?;
    let log = LogFile::new(device.clone(), ring, THREADS, RUN);
    let log = log.ok_or_else(|| Failure::failed("there is no memory to read the log"))?;
    *lock(&shared.dirty) = dirty;
    *lock(&shared.log) = Some(Arc::new(log));
    Ok(())
}

/// What is read may stay in memory from now on. Nobody reads or writes the store yet.
fn remember(shared: &Shared, bytes: u64) -> Result<(), Failure> {
    shared.store.cache.take(bytes).map_err(|NoMemory| {
        Failure::failed(format!("there are no {bytes} bytes of memory for what is read"))
            .left("Nothing was started.")
            .next("give `read_cache` in [local.storage] a smaller value.")
    })?;
    shared.store.cache.follow(&lock(&shared.catalogue));
    Ok(())
}

/// The log as it is; made, when there is none.
fn open(settings: &Settings, pool: &Pool) -> Result<(Engine, Recovered), Failure> {
    let path = &settings.log;
    let named = |what: String| Failure::failed(format!("the log {}: {what}", path.display()));
    let device = match (path.exists(), settings.log_bytes) {
        (true, _) => Device::open(path, Part::ALL)?,
        (false, Some(bytes)) => Device::create(path, bytes / 4096)?,
        (false, None) => {
            let next = "give its size as `log_size` in [local.storage], and it is made.";
            return Err(named("there is none".into()).left("Nothing was started.").next(next));
        }
    };
    let blocks = device.blocks();
    let mut engine = Engine::new(device, pool.clone(), Means::Best)
        .map_err(|error| named(format!("it cannot be used: {error}")))?;
    let Settings { site, group, me: node, .. } = *settings;
    let superblock = match front(&mut engine).map_err(|fault| named(fault.to_string()))? {
        Ok(superblock) => superblock,
        Err(Unusable::Blank) => {
            let ring = Ring::new(blocks.saturating_sub(RING_AT))
                .ok_or_else(|| named("it is too small: a log has 5 MiB at least".into()))?;
            let life = Life(u32::try_from(random()? >> 32).unwrap_or(1).max(1));
            let identity = Identity { site, group, node, life };
            format(&mut engine, identity, ring, Seq(1), &mut |_| {})
                .map_err(|fault| named(fault.to_string()))?
        }
        Err(why @ (Unusable::Damaged | Unusable::NewerFormat { .. })) => {
            let next = "if its content is not needed, fill its first 8 KiB with zeroes, and it is made anew.";
            return Err(named(why.to_string()).left("It was not changed.").next(next));
        }
    };
    let found = superblock.identity;
    if (found.site, found.group, found.node) != (site, group, node) {
        let what = format!("the log {} is that of node {} of another group", path.display(), found.node.0);
        let next = "give this node its own log, or fill the first 8 KiB of this one with zeroes.";
        return Err(Failure::refused(what).left("It was not changed.").next(next));
    }
    let recovered = recover(&mut engine, &superblock).map_err(|fault| named(fault.to_string()))?;
    Ok((engine, recovered))
}

/// Not 0.
fn random() -> Result<u64, Failure> {
    let number = getrandom::u64();
    number
        .map(|number| number.max(1))
        .map_err(|error| Failure::failed(format!("no randomness can be had: {error}")))
}
