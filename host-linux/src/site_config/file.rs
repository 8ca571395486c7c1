//! The file as it is written: every table and key there is. docs/configuration.md explains each; a key that
//! is not named here is refused, so that a misspelt one cannot pass for its default.

use super::value::{Address, GuestsAddress, Hardware, Name, NbdAddress, Pair, Site, Size, Time};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub site: SiteTable,
    pub local: LocalTable,
    pub network: Option<NetworkTable>,
    #[serde(default)]
    pub node: Vec<Spanned<NodeTable>>,
    #[serde(default)]
    pub timers: TimersTable,
    #[serde(default)]
    pub fencing: Vec<Spanned<FencingTable>>,
    pub watchdog: Option<WatchdogTable>,
    #[serde(default)]
    pub resource: Vec<Spanned<ResourceTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteTable {
    pub id: Site,
    pub name: Name,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalTable {
    pub node: Spanned<u16>,
    pub key_file: PathBuf,
    pub state: PathBuf,
    pub device: Option<PathBuf>,
    pub socket: Option<Spanned<PathBuf>>,
    pub guests: Option<PathBuf>,
    pub storage: Option<Spanned<StorageTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StorageTable {
    pub log: PathBuf,
    pub log_size: Option<Spanned<Size>>,
    pub volumes: Option<PathBuf>,
    #[serde(default)]
    pub shared: bool,
    pub memory: Option<Spanned<Size>>,
    pub read_cache: Option<Spanned<Size>>,
    #[serde(default)]
    pub backing: BTreeMap<String, Spanned<String>>,
    pub tls: Option<TlsTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    pub mode: Option<TlsWord>,
    pub streams: Option<StreamsWord>,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authorities: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TlsWord {
    Allow,
    Require,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StreamsWord {
    Clear,
    Allow,
    Require,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkTable {
    pub listen: Spanned<[Address; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeTable {
    pub id: Spanned<u16>,
    pub name: Spanned<Name>,
    pub pair: Option<Pair>,
    pub side: Option<SideWord>,
    pub addresses: Spanned<[Address; 2]>,
    #[serde(default)]
    pub voter: bool,
    #[serde(default)]
    pub witness: bool,
    pub priority: Option<Spanned<u8>>,
    #[serde(default)]
    pub external: Vec<std::net::IpAddr>,
    pub board: Option<Spanned<BoardTable>>,
    pub nbd: Option<Spanned<NbdAddress>>,
    pub guests: Option<Spanned<GuestsAddress>>,
    pub room: Option<Spanned<RoomTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomTable {
    pub memory: Option<Size>,
    pub processors: Option<u16>,
    #[serde(default)]
    pub placeholder: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BoardTable {
    #[serde(default)]
    pub dhcp: bool,
    pub bits: Option<[u8; 2]>,
    pub gateway: Option<Ipv4Addr>,
    pub hardware: Option<Hardware>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SideWord {
    A,
    B,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimersTable {
    pub rto: Option<Spanned<Time>>,
    pub preset: Option<Spanned<PresetWord>>,
    pub round_trip: Option<Spanned<Time>>,
    pub pause: Option<Spanned<Time>>,
    pub persist: Option<Spanned<Time>>,
    pub loss_permille: Option<Spanned<u16>>,
    pub drift_ppm: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PresetWord {
    Default,
    Tight,
    Wide,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FencingTable {
    pub node: Spanned<u16>,
    pub method: Spanned<MethodWord>,
    pub agent: Option<String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    pub witness: Option<u16>,
    pub relay: Option<NonZeroU8>,
    pub strip: Option<NonZeroU8>,
    pub timeout: Option<Spanned<Time>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MethodWord {
    FenceAgent,
    Relay,
    Expiry,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchdogTable {
    pub device: PathBuf,
    pub timeout: Option<Spanned<Time>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceTable {
    pub name: Spanned<Name>,
    pub class: ClassWord,
    pub unit: Option<String>,
    pub agent: Option<String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub on: OnWord,
    #[serde(default)]
    pub order: u16,
    pub start_timeout: Option<Spanned<Time>>,
    pub stop_timeout: Option<Spanned<Time>>,
    pub interval: Option<Spanned<Time>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClassWord {
    Systemd,
    Ocf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnWord {
    #[default]
    Infrastructure,
    Management,
}
