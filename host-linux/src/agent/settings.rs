//! What the agent was told, and who the node is.

use super::beats::Beats;
use crate::disk::open::{Access, Disk};
use crate::disk::state::NodeDisk;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::node_config::record::Kind;
use crate::node_config::schema::{Health, NodeConfig};
use crate::node_config::store;
use crate::node_site::network::Cards;
use std::path::{Path, PathBuf};

/// What the agent was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The machine.
    pub machine: Machine,
    /// The disk; default: the one the machine booted from.
    pub disk: Option<PathBuf>,
    /// A node configuration in a file instead of the one on the infra partition.
    pub config: Option<PathBuf>,
    /// The one directory the agent writes to.
    pub state_dir: PathBuf,
    /// Executables that check the node's health.
    pub health_dir: PathBuf,
    /// The watchdog device; `None`: none is fed.
    pub watchdog: Option<PathBuf>,
    /// Seconds after which a candidate is given up; default: the node configuration's.
    pub timeout_s: Option<u32>,
    /// Whether the agent restarts the machine when it gives a slot up.
    pub reboot: bool,
    /// Where progress is left when the checks run beside the cluster's loop, which then speaks to the service
    /// manager; `None`: they run alone.
    pub beats: Option<Beats>,
    /// Why the node cannot run its part of the site, though it has one: it is not healthy then.
    pub site_fault: Option<String>,
    /// Its network cards, when it runs its part of the site: with none of them it is not healthy either.
    pub cards: Option<Cards>,
}

/// Who the node is, as far as its disk tells.
#[derive(Clone, Debug)]
pub enum Identity {
    /// It has a configuration.
    Known(Box<NodeConfig>),
    /// None was ever given to it: a new disk.
    Fresh,
    /// It has one that cannot be used: never healthy.
    Broken(String),
}

impl Identity {
    /// Reads the node configuration.
    pub fn read(settings: &Settings, disk: &Path) -> Self {
        let text = match &settings.config {
            Some(path) => {
                std::fs::read_to_string(path).map(Some).map_err(|error| Failure::io("read", path, &error))
            }
            None => from_disk(disk),
        };
        match text.and_then(|text| text.map(|text| NodeConfig::parse(&text)).transpose()) {
            Ok(Some(config)) => Self::Known(Box::new(config)),
            Ok(None) => Self::Fresh,
            Err(failure) => Self::Broken(failure.what),
        }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(config) => &config.node.name,
            Self::Fresh | Self::Broken(_) => "unnamed",
        }
    }

    /// When the node is healthy.
    pub fn health(&self) -> Health {
        match self {
            Self::Known(config) => config.health.clone(),
            Self::Fresh | Self::Broken(_) => Health::default(),
        }
    }
}

fn from_disk(path: &Path) -> Result<Option<String>, Failure> {
    let disk = Disk::open(path, Access::Read)?;
    let node = NodeDisk::read(&disk)?;
    store::text(&disk, &node.layout, Kind::Node)
}
