//! From a configuration file to a running loop: everything that can fail fails here, before the node says a
//! word, and leaves nothing behind.

use super::apply::Reader;
use super::clock;
use super::control::Control;
use super::events::{Log, News};
use super::fence_history::History;
use super::fencer::{Fencer, Perform};
use super::hands::Hands;
use super::holds::Holds;
use super::management;
use super::marks::Marks;
use super::medium::Place;
use super::node_settings::{demand, drift, settings};
use super::pressure::{Lack, Thread, protect_process, protect_thread};
use super::profile::Chooser;
use super::record::{self, Recorder};
use super::resources::Resources;
use super::run::{Agent, Vital};
use super::storage::Group;
use super::store::{self, Opened};
use super::switchboard::Switchboard;
use super::transport::Network;
use super::volumes::Volumes;
use super::wake::Wake;
use super::witnesses::Witnesses;
use super::writer::Writer;
use crate::agent::beats::Beats;
use crate::agent::notify::Notify;
use crate::agent::watchdog::Watchdog;
use crate::alerts::raised::Alerts;
use crate::failure::Failure;
use crate::migration::{reception, relay};
use crate::node_site::network::Cards;
use crate::site_config::{SiteConfig, key};
use bulkhead_core::id::Path;
use bulkhead_core::node::machine::{Node, REGISTERS};
use bulkhead_core::node::settings::{Settings, Unsound};
use bulkhead_core::register::store::Stored;
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::{Drift, Instant};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Whether the node must be a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `bulkhead agent`.
    Agent,
    /// `bulkhead witness`.
    Witness,
}

/// What [`start`] is told besides the configuration.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// What this node must be.
    pub kind: Kind,
    /// Where `/proc` is.
    pub root: &'a std::path::Path,
    /// Carries out fencing orders.
    pub perform: Perform,
    /// The file that the configuration was read from, if it was one.
    pub file: Option<&'a std::path::Path>,
    /// The beats of the node's health checks, when they run beside the loop: without them nothing is fed.
    pub health: Option<Beats>,
    /// The node's network cards, when the agent brings them up.
    pub cards: Option<Cards>,
}

/// Prepares a node.
///
/// # Errors
///
/// It cannot run here, or must not.
pub fn start(config: SiteConfig, plan: &Plan<'_>) -> Result<Agent, Failure> {
    let agent = prepare(config, plan, Volumes::start)?;
    reception::open(&agent.hands.config)?;
    relay::open(&agent.hands.config)?;
    Ok(agent)
}

/// What starts a node's copy of its mirror group.
type StartVolumes = fn(&SiteConfig, &key::SiteKey, &Wake) -> Result<Option<Volumes>, Failure>;

/// As [`start`], with another copy of the mirror group, or none.
pub(super) fn prepare(config: SiteConfig, plan: &Plan<'_>, volumes: StartVolumes) -> Result<Agent, Failure> {
    check_kind(&config, plan.kind)?;
    let (key, lock) = (key::read(&config.local.key_file)?, lock(&config)?);
    let (mut lacks, votes) = (protect_process(plan.root), config.me().is_some_and(|me| me.voter));
    let wake = Wake::new().map_err(|error| failed("the loop cannot be woken", &error))?;
    let opened = if votes { Some(open_store(&config)?) } else { None };
    let life = opened.as_ref().map_or(Life::UNSEEN, |opened| opened.owner.life);
    let (mut log, networks) = (Log::new(), networks(&config)?);
    let control = Control::open(&config.local.socket, log.reader(), wake.clone())?;
    let journal = log.reader().journal().map_err(|error| failed("the journal cannot be written", &error))?;
    tell_new_voter(opened.as_ref(), &mut log);
    let settings = settings(&config, &key, life)?;
    let (timers, drift) = (settings.timers, drift(&config.timers));
    let (takeover, marks) = (timers.takeover(&demand(&config.timers)), Marks::of(&config.local));
    if votes || config.local.storage.is_some() {
        wait_for_old_leases(&marks, drift, timers.lease, &mut log)?;
    }
    let (now, (stored, writer)) = (clock::now(), voter(opened, &wake)?);
    let record = record(&config, now, &settings, &key, &stored)?;
    let node = Node::new(now, settings, stored).map_err(|error| no_node(&error))?;
    let (watchdog, reader) = (watchdog(&config, &mut lacks), Reader::new(plan.file, wake.clone())?);
    let (volumes, config) = (volumes(&config, &key, &wake)?, Arc::new(config));
    let resources = Resources::new(Arc::clone(&config), wake.clone());
    lacks.extend(protect_thread(Thread::Loop).into_iter().chain(resources.lack()));
    // A node that starts listens that long for a master, too.
    let (tenure, chooser) =
        (management::tenure(&config, resources.grace()), Chooser::new(now.after(timers.listen)));
    let switchboard = Switchboard::new(Arc::clone(&config), timers.fence, wake.clone());
    let (history, cuts) = (history(&config, &mut lacks), Vec::new());
    tell_lacks(lacks.iter().chain(&switchboard.lack()), &mut log);
    let hands = Hands {
        fencer: Fencer::new(Arc::clone(&config), wake.clone(), plan.perform),
        marks,
        config,
        networks,
        writer,
        log,
        journal,
        switchboard,
        history,
        cuts,
        witnesses: Witnesses::default(),
        group: volumes.as_ref().map(|volumes| Box::new(volumes.group()) as Box<dyn Group>),
        last_error: None,
    };
    Ok(Agent {
        node,
        record,
        hands,
        volumes,
        control,
        wake,
        signals: signals()?,
        vital: Vital { watchdog, notify: Notify::from_env(), health: plan.health.clone() },
        lacks,
        alerts: Alerts::default(),
        holds: Holds::default(),
        cards: plan.cards.clone(),
        started: now,
        takeover,
        stopping: None,
        given_back: false,
        resources,
        chooser,
        tenure,
        reader,
        boot: boot(plan.root),
        lock,
    })
}

/// Names the time since this machine came up.
fn boot(root: &std::path::Path) -> String {
    let id = std::fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let id: String = id.chars().filter(|c| c.is_ascii_hexdigit()).take(32).collect();
    if id.is_empty() { "unknown".into() } else { id }
}

fn no_node(error: &Unsound) -> Failure {
    Failure::failed(format!("this configuration makes no node: {error}"))
}

/// The record of a witness, if one is asked for.
fn record(
    config: &SiteConfig,
    now: Instant,
    settings: &Settings,
    key: &key::SiteKey,
    stored: &[Stored],
) -> Result<Option<Recorder>, Failure> {
    let is_witness = config.me().is_some_and(|me| me.duty.is_witness());
    let path = std::env::var_os(record::VARIABLE).filter(|_| is_witness);
    path.map(|path| Recorder::begin(path.as_ref(), now, settings, key.0, stored)).transpose()
}

/// What was fenced in earlier starts; a file that cannot be read is a lack.
fn history(config: &SiteConfig, lacks: &mut Vec<Lack>) -> History {
    let (history, wrong) = History::open(&config.local.state);
    lacks.extend(wrong.map(|wrong| Lack { what: "fences", why: format!("the fencing history: {wrong}") }));
    history
}

fn tell_lacks<'a>(lacks: impl Iterator<Item = &'a Lack>, log: &mut Log) {
    for lack in lacks {
        log.say(News::new("lacking", format!("{}: {}", lack.what, lack.why), json!({ "what": lack.what })));
    }
}

fn tell_new_voter(opened: Option<&Opened<Place>>, log: &mut Log) {
    if let Some(opened) = opened.filter(|opened| opened.is_new) {
        let text = "this node votes for the first time, or its disk was replaced: its votes count once the \
                    others know";
        log.say(News::new("new-voter", text, json!({ "life": opened.owner.life.0 })));
    }
}

/// What the node's voter starts with, and who writes for it.
fn voter(opened: Option<Opened<Place>>, wake: &Wake) -> Result<(Vec<Stored>, Option<Writer>), Failure> {
    let Some(opened) = opened else { return Ok((Vec::new(), None)) };
    let stored = opened.registers.into_iter().map(|(_, stored)| stored).collect();
    let writer = Writer::start(opened.store, wake.clone());
    Ok((stored, Some(writer.map_err(|error| failed("the votes' writer cannot start", &error))?)))
}

/// A voter that grants shorter leases than before waits until the longer ones have ended: the core takes all
/// leases of earlier starts for as long as the present ones (V11). So does a node that keeps volumes:
/// guests may still run by one (I5).
fn wait_for_old_leases(marks: &Marks, drift: Drift, lease: Duration, log: &mut Log) -> Result<(), Failure> {
    if let Some(old) = marks.lease()?.filter(|old| lease < *old) {
        let wait = drift.at_least(old);
        let text = format!("leases are shorter than before: waiting {} ms for old ones", wait.as_millis());
        log.say(News::new("waiting", text, json!({})));
        std::thread::sleep(wait);
    }
    marks.set_lease(lease)
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{what}: {error}")).left("Nothing was started.")
}

fn check_kind(config: &SiteConfig, kind: Kind) -> Result<(), Failure> {
    let is_witness = config.me().is_some_and(|me| me.duty.is_witness());
    let name = config.name_of(config.local.node);
    match (kind, is_witness) {
        (Kind::Agent, false) | (Kind::Witness, true) => Ok(()),
        (Kind::Agent, true) => {
            let what = format!("{name} is a witness");
            Err(Failure::usage(what).left("Nothing was started.").next("start it with `bulkhead witness`."))
        }
        (Kind::Witness, false) => {
            let what = format!("{name} is no witness");
            Err(Failure::usage(what).left("Nothing was started.").next("start it with `bulkhead agent`."))
        }
    }
}

/// One agent for one state directory, whether it votes or not.
fn lock(config: &SiteConfig) -> Result<File, Failure> {
    let state = &config.local.state;
    std::fs::create_dir_all(state).map_err(|error| Failure::io("create", state, &error))?;
    let path = state.join("lock");
    let file = File::create(&path).map_err(|error| Failure::io("create", &path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::refused(format!("another agent uses {}", state.display()))
            .left("Nothing was started.")
            .next("stop it first, or set `local.state` to another directory.")
    })?;
    Ok(file)
}

fn open_store(config: &SiteConfig) -> Result<Opened<Place>, Failure> {
    let places = u16::try_from(REGISTERS).unwrap_or(u16::MAX);
    let local = &config.local;
    store::open(&local.state, local.device.as_deref(), config.site, local.node, places)
}

fn networks(config: &SiteConfig) -> Result<[Network; 2], Failure> {
    let [one, two] = config.listen;
    let bind = |path, listen: std::net::SocketAddr| {
        Network::bind(path, listen).map_err(|error| {
            Failure::failed(format!("cannot receive at {listen}: {error}"))
                .left("Nothing was started.")
                .next("end what uses this address, or correct `addresses` of this node.")
        })
    };
    Ok([bind(Path::One, one)?, bind(Path::Two, two)?])
}

fn watchdog(config: &SiteConfig, lacks: &mut Vec<Lack>) -> Option<Watchdog> {
    let wanted = config.watchdog.as_ref()?;
    match Watchdog::open_for(&wanted.device, wanted.timeout) {
        Ok(watchdog) => Some(watchdog),
        Err(error) => {
            let why = format!(
                "{} cannot be used ({error}): a node that hangs is not reset by it",
                wanted.device.display()
            );
            lacks.push(Lack { what: "watchdog", why });
            None
        }
    }
}

/// A socket with a byte in it for each request to stop.
fn signals() -> Result<UnixStream, Failure> {
    let listen = || {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
        }
        Ok(ours)
    };
    listen().map_err(|error: std::io::Error| failed("cannot listen for signals", &error))
}
