//! What a guest is: one file, of which every key is known, so that a mistake is said and not passed over
//! (S3-06).

use super::layout::VIRTIO_MAX;
use super::mac::Mac;
use super::pages::Pages;
use super::tap_ioctl::NAME_MAX;
use crate::failover::wanted::Failover;
use crate::failure::Failure;
use crate::guests::own_volume;
use crate::nbd::uri::Uri;
use crate::output::parse_size;
use crate::site_config::value::{parse_time, time};
use bulkhead_core::volume::name::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the file that this program writes and reads (V41).
pub const VERSION: u32 = 1;
/// Processors that a guest can have.
pub const PROCESSORS_MAX: u8 = 32;
/// Below this no kernel starts.
pub const MEMORY_MIN: u64 = 4 << 20;
/// More than any node has.
pub const MEMORY_MAX: u64 = 16 << 40;
/// Disks that a guest can have: other devices need interrupts, too.
pub const DISKS_MAX: usize = 16;
/// How long a guest may have for its first beat.
const BEGINS_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// Networks that a guest can have.
pub const NETWORKS_MAX: usize = 2;
const PAGE: u64 = 4096;

const _: () = assert!(DISKS_MAX + NETWORKS_MAX + 1 == VIRTIO_MAX as usize, "the last one is chance");

/// Where a guest finds what is typed on its console. What it says there is heard in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Typing {
    /// At a serial port.
    #[default]
    Serial,
    /// At a console over memory, which only a guest with this has.
    Virtio,
}

/// What a guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What people call it.
    pub name: String,
    /// 1 to [`PROCESSORS_MAX`].
    pub processors: u8,
    /// Bytes of memory: whole pages, [`MEMORY_MIN`] to [`MEMORY_MAX`].
    pub memory: u64,
    /// What that is made of: so many of these.
    pub pages: Pages,
    /// Its kernel, on this node: an ELF file or a `bzImage`.
    pub kernel: PathBuf,
    /// What the kernel finds its first files in.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told.
    pub command_line: String,
    /// Where it finds what is typed.
    pub console: Typing,
    /// Its disks, in the order in which it finds them; at most [`DISKS_MAX`].
    pub disks: Vec<Disk>,
    /// Its networks, in the order in which it finds them; at most [`NETWORKS_MAX`].
    pub networks: Vec<Network>,
    /// What is expected of its heartbeat.
    pub heartbeat: Heartbeat,
    /// What follows when it is to run and does not.
    pub failover: Failover,
    /// The file that says so, with names of files that mean the same everywhere on this node.
    pub text: String,
}

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What is on it.
    pub content: Content,
    /// The guest cannot write.
    pub is_read_only: bool,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A volume of the node's pair, wherever its agent serves that: the same on each node.
    Volume(Name),
    /// An export of an NBD server.
    Served(Uri),
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "volume {name}"),
            Self::Served(uri) => write!(f, "{uri}"),
        }
    }
}

/// A network of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The interface of the node that its frames go to and come from.
    pub tap: String,
    /// The bridge of the node that the interface is put into.
    pub bridge: Option<String>,
    /// The guest's address.
    pub mac: Mac,
}

/// What is expected of a guest's heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// What follows when it is lost.
    pub lost: Lost,
    /// The first beat comes within this time; `None`: nothing is expected before that.
    pub begins_within: Option<Duration>,
}

/// What follows when a guest's heartbeat is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lost {
    /// It is said, and no more.
    #[default]
    Report,
    /// The guest begins anew.
    Reset,
    /// The guest ends.
    Stop,
}

impl Lost {
    const ALL: [Self; 3] = [Self::Report, Self::Reset, Self::Stop];

    /// As the file says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Reset => "reset",
            Self::Stop => "stop",
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    name: String,
    processors: u8,
    memory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<String>,
    kernel: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<PathBuf>,
    #[serde(default)]
    command_line: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<Typing>,
    #[serde(default)]
    disk: Vec<FileDisk>,
    #[serde(default)]
    network: Vec<FileNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<FileHeartbeat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failover: Option<Failover>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileHeartbeat {
    lost: Option<String>,
    begins_within: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileDisk {
    volume: Option<String>,
    uri: Option<String>,
    #[serde(default)]
    read_only: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileNetwork {
    tap: String,
    bridge: Option<String>,
    mac: Option<String>,
}

impl Description {
    /// Reads the file at `path`. Names of files in it are relative to it.
    ///
    /// # Errors
    ///
    /// It cannot be read, or says what makes no sense: which key, and what would.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
        let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let path = std::path::absolute(path).map_err(|error| Failure::io("find", path, &error))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("/"))).map_err(wrong)
    }

    /// All of it, for machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let disk = |disk: &Disk| match &disk.content {
            Content::Volume(name) => json!({ "volume": name.to_string(), "read_only": disk.is_read_only }),
            Content::Served(uri) => json!({ "uri": uri.to_string(), "read_only": disk.is_read_only }),
        };
        let network = |network: &Network| {
            let Network { tap, bridge, mac } = network;
            json!({ "tap": tap, "bridge": bridge, "mac": mac.to_string() })
        };
        json!({
            "name": self.name,
            "cpus": { "boot_vcpus": self.processors, "max_vcpus": self.processors },
            "memory": self.pages.json(self.memory),
            "payload": { "kernel": self.kernel, "initramfs": self.initrd, "cmdline": self.command_line },
            "disks": self.disks.iter().map(disk).collect::<Vec<_>>(),
            "net": self.networks.iter().map(network).collect::<Vec<_>>(),
            "heartbeat": {
                "lost": self.heartbeat.lost.name(),
                "begins_within": self.heartbeat.begins_within.map(time),
            },
            "console": self.console,
            "failover": self.failover,
        })
    }

    /// The same guest, whose kernel and first files are there. It has first files as it had.
    ///
    /// # Errors
    ///
    /// A name of a file is no text.
    pub fn loading(&self, kernel: &Path, initrd: &Path) -> Result<Self, String> {
        let mut file: File = toml::from_str(&self.text).map_err(|error| error.to_string())?;
        file.kernel = kernel.to_owned();
        file.initrd = file.initrd.map(|_| initrd.to_owned());
        Self::parse(&toml::to_string(&file).map_err(|error| error.to_string())?, Path::new(""))
    }

    /// The same guest, whose disks have their content where those of `here` have it.
    ///
    /// # Errors
    ///
    /// These are not as many, or not as writable.
    pub fn with_disks_of(&self, here: &Self) -> Result<Self, String> {
        let kinds =
            |described: &Self| described.disks.iter().map(|disk| disk.is_read_only).collect::<Vec<_>>();
        if kinds(self) != kinds(here) {
            let (count, found) = (self.disks.len(), here.disks.len());
            return Err(format!(
                "the guest has {count} disks, and is described here with {found}, or with others that are \
                 `read_only`"
            ));
        }
        let parsed = |text: &str| toml::from_str::<File>(text).map_err(|error| error.to_string());
        let file = File { disk: parsed(&here.text)?.disk, ..parsed(&self.text)? };
        Self::parse(&toml::to_string(&file).map_err(|error| error.to_string())?, Path::new(""))
    }

    /// Reads a file's text, in which names of files are relative to `beside`.
    ///
    /// # Errors
    ///
    /// It says what makes no sense: which key, and what would.
    pub fn parse(text: &str, beside: &Path) -> Result<Self, String> {
        let mut file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if file.version != VERSION {
            return Err(format!("`version` is {}; this program knows {VERSION}", file.version));
        }
        if !is_name(&file.name) {
            return Err("`name` has 1 to 64 letters, digits, `-`, `_` or `.`, and no `.` first".into());
        }
        if !(1..=PROCESSORS_MAX).contains(&file.processors) {
            return Err(format!("`processors` is 1 to {PROCESSORS_MAX}"));
        }
        let memory = parse_size(&file.memory).map_err(|why| format!("`memory`: {why}"))?;
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&memory) || !memory.is_multiple_of(PAGE) {
            return Err("`memory` is whole pages of 4 KiB, 4 MiB to 16 TiB".into());
        }
        let pages = Pages::named(file.pages.as_deref(), memory)?;
        if file.command_line.contains('\0') {
            return Err("`command_line` has a zero byte in it".into());
        }
        if DISKS_MAX < file.disk.len() {
            return Err(format!("there are {} `[[disk]]`; a guest has {DISKS_MAX} at most", file.disk.len()));
        }
        file.kernel = beside.join(&file.kernel);
        file.initrd = file.initrd.map(|initrd| beside.join(initrd));
        let text = toml::to_string(&file).map_err(|error| error.to_string())?;
        let disks: Vec<_> = file.disk.into_iter().map(disk).collect::<Result<_, String>>()?;
        let networks = networks(&file.name, file.network)?;
        let heartbeat = file.heartbeat.map(heartbeat).transpose()?.unwrap_or_default();
        let (failover, console) = (file.failover.unwrap_or_default(), file.console.unwrap_or_default());
        let devices: usize = [disks.len(), networks.len(), 1].iter().sum();
        if console == Typing::Virtio && VIRTIO_MAX as usize <= devices {
            return Err(TOO_MANY.into());
        }
        let File { name, processors, kernel, initrd, command_line, .. } = file;
        Ok(Self {
            name,
            processors,
            memory,
            pages,
            kernel,
            initrd,
            command_line,
            console,
            disks,
            networks,
            heartbeat,
            failover,
            text,
        })
    }
}

const TOO_MANY: &str = "a guest has 19 devices at most: with 16 `[[disk]]` and 2 `[[network]]` there is no \
                        room for `console = \"virtio\"`";

/// What is expected of a guest's heartbeat.
fn heartbeat(described: FileHeartbeat) -> Result<Heartbeat, String> {
    let FileHeartbeat { lost, begins_within } = described;
    let lost = match lost {
        None => Lost::default(),
        Some(name) => {
            let known = Lost::ALL.into_iter().find(|lost| lost.name() == name);
            let wrong = || format!("`lost` of [heartbeat], `{name}`, is not `report`, `reset` or `stop`");
            known.ok_or_else(wrong)?
        }
    };
    let wrong = |why: &str| format!("`begins_within` of [heartbeat]: {why}");
    let begins_within = begins_within.map(|text| parse_time(&text)).transpose().map_err(|why| wrong(&why))?;
    match begins_within.filter(|within| !BEGINS_WITHIN.contains(within)) {
        None => Ok(Heartbeat { lost, begins_within }),
        Some(_) => Err(wrong("it is 1s to 24h")),
    }
}

/// Whether a guest may be called so. It is no path, either.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_known = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_known)
}

fn disk(described: FileDisk) -> Result<Disk, String> {
    let FileDisk { volume, uri, read_only } = described;
    let content = match (volume, uri) {
        (Some(name), None) => {
            Content::Volume(Name::new(&name).map_err(|why| format!("`volume` of [[disk]], `{name}`: {why}"))?)
        }
        (None, Some(uri)) => {
            Content::Served(uri.parse().map_err(|why| format!("`uri` of [[disk]], `{uri}`: {why}"))?)
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err("a [[disk]] has either `volume` or `uri`: what is on it".into());
        }
    };
    // What is in it is hidden from guests (S3-10): their state, and who they are.
    let export = match &content {
        Content::Volume(name) => name.as_str(),
        Content::Served(uri) => own_volume::of_export(&uri.export),
    };
    if own_volume::is_own(export) {
        return Err(format!("a [[disk]] cannot be `{export}`: that is a guest's own volume, and no disk"));
    }
    Ok(Disk { content, is_read_only: read_only })
}

/// The networks of the guest with this name.
fn networks(guest: &str, described: Vec<FileNetwork>) -> Result<Vec<Network>, String> {
    if NETWORKS_MAX < described.len() {
        let count = described.len();
        return Err(format!("there are {count} `[[network]]`; a guest has {NETWORKS_MAX} at most"));
    }
    let mut networks: Vec<Network> = Vec::new();
    for (number, network) in described.into_iter().enumerate() {
        let FileNetwork { tap, bridge, mac } = network;
        for (key, name) in [("tap", Some(&tap)), ("bridge", bridge.as_ref())] {
            if let Some(name) = name.filter(|name| !is_interface(name)) {
                return Err(format!(
                    "`{key}` of [[network]], `{name}`, is no interface's name: 1 to {NAME_MAX} letters, \
                     digits, `-`, `_` or `.`"
                ));
            }
        }
        if networks.iter().any(|other| other.tap == tap) {
            return Err(format!("`tap` of two [[network]] is `{tap}`; each has its own"));
        }
        let mac = match mac {
            Some(text) => text.parse().map_err(|why| format!("`mac` of [[network]], `{text}`: {why}"))?,
            None => Mac::derived(guest, number),
        };
        networks.push(Network { tap, bridge, mac });
    }
    Ok(networks)
}

/// Whether an interface can have this name, and it is one, not a pattern of names.
fn is_interface(name: &str) -> bool {
    let is_named = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(is_named) && name != "." && name != ".."
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod tests;
