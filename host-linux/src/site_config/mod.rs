//! The one configuration file of a node's agent: which site, which node, who else is there, over which
//! networks, how fast, and how a node is fenced (F54, V40, X06).
//!
//! The file is the same on all nodes but for its table `[local]`. docs/configuration.md explains every key;
//! `bulkhead config example` prints one to start from; `bulkhead config check` says all that is wrong with
//! one. Programs that need a configuration build a [`SiteConfig`] and write [`SiteConfig::to_toml`].
//!
//! Reading order: the types here, [`value`] and `file` for how they are written, [`check`] for the rules
//! between keys, [`render`] for the way back, [`key`] for the site key, [`problem`] for what errors look
//! like.

pub mod check;
mod file;
pub mod key;
pub mod problem;
pub mod render;
mod resources;
mod storage;
pub mod value;

use crate::failure::Failure;
use crate::nbd::uri::Uri;
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use problem::Problem;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A commented configuration that passes every check.
pub const EXAMPLE: &str = include_str!("example.toml");
/// The largest file that is read: a full roster with every key is far smaller.
const FILE_MAX: u64 = 1 << 20;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// The site.
    pub site: SiteId,
    /// Its name, for people.
    pub site_name: String,
    /// What differs from node to node.
    pub local: Local,
    /// The addresses this node receives on: one in each control network.
    pub listen: [SocketAddr; 2],
    /// All nodes and witnesses, this one too. Invariant: ids, names and addresses are different.
    pub members: Vec<Member>,
    /// How fast the site must be, and how good its networks, disks and clocks are.
    pub timers: Timing,
    /// How nodes are fenced; those not named: by the expiry of their lease only.
    pub fencing: Vec<Fencing>,
    /// The watchdog that makes a node fence itself.
    pub watchdog: Option<WatchdogDevice>,
    /// Infrastructure services.
    pub resources: Vec<Resource>,
}

/// What differs from node to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Which of the members this is.
    pub node: NodeId,
    /// The file with the site key.
    pub key_file: PathBuf,
    /// The one directory this node writes to.
    pub state: PathBuf,
    /// Keeps the votes on this partition instead of in a file in `state`: from its second mebibyte on.
    pub device: Option<PathBuf>,
    /// The control socket.
    pub socket: PathBuf,
    /// The directory with this node's guests.
    pub guests: PathBuf,
    /// Its copy of the mirror group of its pair; `None`: it keeps none.
    pub storage: Option<Storage>,
}

/// A node's copy of the mirror group of its pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The log: a file or a block device.
    pub log: PathBuf,
    /// Bytes of a log that is to be made; `None`: there is one, or it is a block device.
    pub log_size: Option<u64>,
    /// The directory of what the volumes hold.
    pub volumes: PathBuf,
    /// Whether all holders reach that directory, and only the one that leads writes there (S4-03).
    pub is_shared: bool,
    /// Bytes of memory for writes that are under way.
    pub memory: u64,
    /// Bytes of memory for what is read; 0: none but the page cache of the system.
    pub read_cache: u64,
    /// What the volumes of these names have their content on, if not in a file. Invariant: no two the same.
    pub backing: BTreeMap<String, BackedBy>,
    /// What is encrypted, and how; `None`: nothing.
    pub tls: Option<Tls>,
}

/// What has the content of a volume on this node (S1-24, S1-26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackedBy {
    /// A block device of this node, below `/dev`.
    Device(PathBuf),
    /// An export of an NBD server, which has it for this node alone.
    Nbd(Uri),
}

impl std::fmt::Display for BackedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Nbd(uri) => write!(f, "{uri}"),
        }
    }
}

/// How NBD over TCP is encrypted, and the streams between the holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// No volume goes to a client in the clear.
    pub is_required: bool,
    /// How the streams to the other holders go.
    pub streams: Secrecy,
    /// The certificate of this node, and those between it and an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Those whose word is taken for clients and other nodes.
    pub authorities: PathBuf,
}

/// How streams to the other holders of the mirror group go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// In the clear.
    Clear,
    /// Encrypted, where the other holder can.
    Allowed,
    /// Encrypted, or there is none.
    Required,
}

/// A node or a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity: never 0.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// What it is there for.
    pub duty: Duty,
    /// Its addresses: one in each control network.
    pub addresses: [SocketAddr; 2],
    /// Whether it has a vote in the registers.
    pub voter: bool,
    /// Addresses outside the control networks at which it answers while it lives (S1-07).
    pub external: Vec<IpAddr>,
    /// A witness on a microcontroller: what its card must say besides.
    pub board: Option<Board>,
    /// Where it serves volumes to clients and to its peers (TCP).
    pub nbd: Option<SocketAddr>,
    /// Where it takes in guests that are moved to it (TCP).
    pub guests: Option<SocketAddr>,
    /// What it has for guests; `None`: nobody counts.
    pub room: Option<Room>,
}

/// What a node has for guests (S1-38, S3-15). Invariant: something of one kind at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// MiB of memory; `None`: as much as they want.
    pub memory: Option<NonZeroU32>,
    /// Processors of guests; `None`: as many as they want.
    pub processors: Option<NonZeroU16>,
    /// Memory is kept for guests that would begin there (S4-04).
    pub placeholder: bool,
}

/// The board of a witness on a microcontroller. Only `bulkhead witness provision` looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// It asks a DHCP server in the first network, which must give it the first address of its member.
    pub dhcp: bool,
    /// How many bits of its addresses are their networks'.
    pub bits: Option<[u8; 2]>,
    /// The way to nodes in other networks.
    pub gateway: Option<Ipv4Addr>,
    /// The address of its Ethernet MAC.
    pub hardware: Option<[u8; 6]>,
}

/// What a member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It only votes.
    Witness {
        /// For which pair of compartments, or [`PairId::EVERY`].
        pair: PairId,
    },
    /// It stands in a compartment.
    Compartment {
        /// The pair of compartments.
        pair: PairId,
        /// Which of the two.
        side: Side,
        /// For the management system: the highest one that is there runs it; 0 never does (S1-06).
        priority: u8,
    },
}

/// How fast the site must be, and how good its parts are. What is not said is the preset's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// What is asked for.
    pub goal: Goal,
    /// The longest round trip on either network.
    pub round_trip: Option<Duration>,
    /// The longest time the agent may not be scheduled for.
    pub pause: Option<Duration>,
    /// The longest time a vote may take to become durable.
    pub persist: Option<Duration>,
    /// How many heartbeats in a row may be lost on both networks at once without suspicion.
    pub loss_permille: Option<u16>,
    /// How far any clock may be off, in parts per million.
    pub drift_ppm: Option<u32>,
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The longest time from the death of a master to the next one acting.
    Recovery(Duration),
    /// A named set.
    Preset(Preset),
}

/// A named set of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// For a switched network on the site.
    Default,
    /// For a dedicated link between the compartments.
    Tight,
    /// For shared or wireless links.
    Wide,
}

/// How one node is fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fencing {
    /// The node that is fenced.
    pub node: NodeId,
    /// How.
    pub method: Method,
    /// How long it may take until it counts as failed.
    pub timeout: Duration,
}

/// A way to make certain that a node can no longer act (V19, V20).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A program of the fence-agents packages: options as `key=value` lines on its standard input.
    FenceAgent {
        /// Its name or path, such as `fence_ipmilan`.
        agent: String,
        /// What it is told besides the action.
        options: BTreeMap<String, String>,
    },
    /// A relay or an outlet in the node's power feed, switched by a witness.
    Relay {
        /// The witness.
        witness: NodeId,
        /// Which of its relays, or of the outlets of its power strip.
        outlet: Outlet,
        /// The fence-agent by which a witness on Linux switches a relay; a microcontroller has relays and a
        /// power strip of its own, and takes none.
        agent: Option<String>,
        /// What that agent is told besides the action and, as `plug`, the relay.
        options: BTreeMap<String, String>,
    },
    /// Nobody can reach it; its lease and its watchdog must have run out.
    Expiry,
}

/// A hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogDevice {
    /// Its device.
    pub device: PathBuf,
    /// Without food for this long it resets the node.
    pub timeout: Duration,
}

/// An infrastructure service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name: different in the site.
    pub name: String,
    /// What runs it.
    pub runner: Runner,
    /// When it runs.
    pub on: RunsOn,
    /// Lower numbers start first and stop last.
    pub order: u16,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// How long a stop may take.
    pub stop_timeout: Duration,
    /// From one look at it to the next.
    pub interval: Duration,
}

/// What runs a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// A systemd unit.
    Systemd {
        /// Its name, such as `dnsmasq.service`.
        unit: String,
    },
    /// An OCF resource agent.
    Ocf {
        /// `provider:type`, such as `heartbeat:dhcpd`, or a path.
        agent: String,
        /// Its parameters, without `OCF_RESKEY_`.
        options: BTreeMap<String, String>,
    },
}

/// When a resource runs (S1-05, S1-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    /// On every node, whatever boot profile it chose.
    Infrastructure,
    /// Where the management system runs.
    Management,
}

impl SiteConfig {
    /// Reads and checks the file at `path`. Paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, each with file, line, column, key and remedy.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let long = std::fs::metadata(path).is_ok_and(|found| FILE_MAX < found.len());
        if long {
            let what = format!("{} is longer than {FILE_MAX} bytes", path.display());
            return Err(Failure::failed(what).next("name a configuration file."));
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::io("read", path, &error).next("`bulkhead config example` prints one to start from.")
        })?;
        Self::parse(path, &text)
    }

    /// Checks `text`, which is or will be in the file `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let file: file::File = toml::from_str(text)
            .map_err(|error| problem::failure(path, text, &[Problem::of_toml(&error)]))?;
        let beside = path.parent().unwrap_or(Path::new(""));
        check::check(file, beside).map_err(|problems| problem::failure(path, text, &problems))
    }

    /// The member with this identity.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == node)
    }

    /// This node. It is one of the members: the checks saw to it.
    pub fn me(&self) -> Option<&Member> {
        self.member(self.local.node)
    }

    /// What to call a node in a message to people.
    pub fn name_of(&self, node: NodeId) -> String {
        self.member(node).map_or_else(|| format!("node {}", node.0), |member| member.name.clone())
    }

    /// Those with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.voter)
    }
}

impl Duty {
    /// Whether it only votes.
    pub const fn is_witness(self) -> bool {
        matches!(self, Self::Witness { .. })
    }

    /// Whether it belongs to `pair`, or votes for it.
    pub fn serves(&self, pair: PairId) -> bool {
        let own = self.pair();
        own == pair || own == PairId::EVERY
    }

    /// The pair it belongs to, or votes for.
    pub const fn pair(&self) -> PairId {
        match self {
            Self::Witness { pair } | Self::Compartment { pair, .. } => *pair,
        }
    }
}
