//! `bulkhead witness show`: what the card of a witness holds. Keys are never printed.

use crate::cluster::words;
use crate::disk::open::{Access, Disk, Uncached};
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::site_config::SiteConfig;
use crate::site_config::check::letter;
use crate::site_config::value::{hardware_text, site_text, time};
use crate::witness_card::read::{Card, Settings};
use bulkhead_core::fence::words::{Entry, Outcome, Outlet};
use bulkhead_core::id::{NodeId, PairId};
use bulkhead_core::node::machine::REGISTERS;
use bulkhead_core::node::settings::{CONTROLLER, infra_register, storage_register};
use bulkhead_core::plan::DiskOffset;
use bulkhead_core::provision::records::Record;
use bulkhead_core::provision::{Address, Local, Peer};
use bulkhead_core::register::store::Stored;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Show what the card of a witness holds
///
/// Shows whose card it is, its networks, its nodes, how often its witness started, its votes, whose
/// power it was asked to switch, and what is damaged. Keys are never shown. Exit code 1: no witness
/// would start with it.
///
/// Examples:
///   bulkhead witness show /dev/sdX
///   bulkhead witness show card.img --config site.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    /// A block device or the image of a card
    #[arg(value_name = "CARD")]
    card: PathBuf,
    /// A configuration of the site, for the names of its nodes
    #[arg(long, value_name = "FILE", env = "BULKHEAD_CONFIG")]
    config: Option<PathBuf>,
}

/// Registers that a card has room for.
#[expect(clippy::cast_possible_truncation, reason = "129: two for each of 64 pairs, and one")]
pub(super) const PLACES: u16 = REGISTERS as u16;

pub(super) fn run(args: &Show) -> Result<Report, Failure> {
    let config = args.config.as_deref().map(SiteConfig::read).transpose()?;
    let card = read_card(&Disk::open(&args.card, Access::Read)?)?;
    let path = args.card.display();
    if card.is_blank {
        let what = format!("{path} is no card of a witness: nothing was ever written to it");
        return Err(Failure::failed(what).left("").next("`bulkhead witness provision` makes one."));
    }
    let usable = card.is_usable();
    let head = if usable { "is a card of a witness" } else { "starts no witness" };
    let text = format!("{path} {head}.\n{}", describe(&card, config.as_ref()));
    let code = if usable { 0 } else { Exit::Failed.code() };
    Ok(Report { text, json: in_json(&card), code })
}

/// Reads a card past the cache: what a board would see.
pub(super) fn read_card(disk: &Disk) -> Result<Card, Failure> {
    let mut medium = disk.uncached();
    let mut chunk = Chunk { at: None, bytes: vec![0; CHUNK] };
    let read = Card::read(PLACES, &mut |at| chunk.block(&mut medium, at));
    read.map_err(|error| Failure::io("read", &disk.path, &error))
}

/// Read at once: votes lie 4 KiB apart, and each request to a card takes a while.
const CHUNK: usize = 64 << 10;

struct Chunk {
    at: Option<u64>,
    bytes: Vec<u8>,
}

impl Chunk {
    fn block(&mut self, medium: &mut Uncached<'_>, at: u64) -> std::io::Result<[u8; 512]> {
        let len = u64::try_from(CHUNK).unwrap_or(u64::MAX);
        let start = at.checked_rem(len).map_or(at, |inside| at.saturating_sub(inside));
        if self.at != Some(start) {
            self.at = None;
            // A card ends where it ends.
            match medium.read(DiskOffset(start), &mut self.bytes) {
                Ok(()) => self.at = Some(start),
                Err(_) => {
                    let mut block = [0; 512];
                    medium.read(DiskOffset(at), &mut block)?;
                    return Ok(block);
                }
            }
        }
        let inside = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        let block = self.bytes.get(inside..).and_then(|rest| rest.first_chunk::<512>());
        block.copied().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
    }
}

/// What a card holds, in words.
pub(super) fn describe(card: &Card, config: Option<&SiteConfig>) -> String {
    let name = |node: NodeId| {
        let member = config.and_then(|config| config.member(node));
        member.map_or_else(|| format!("node {}", node.0), |member| format!("{} ({})", member.name, node.0))
    };
    let mut out = String::new();
    // Writing into a string does not fail.
    if let Some(settings) = card.settings() {
        describe_settings(settings, &name, &mut out);
    }
    let starts = card.started().map_or_else(|| "lost".to_owned(), |count| count.to_string());
    let _ = writeln!(out, "  starts    {starts}");
    match card.owner() {
        Some(owner) => {
            let _ = writeln!(
                out,
                "  votes     of {}, life {:08x}, {} registers of {PLACES}",
                name(owner.node),
                owner.life.0,
                card.registers.len()
            );
        }
        None => out.push_str("  votes     nobody's\n"),
    }
    for stored in &card.registers {
        let _ = writeln!(out, "            {}", describe_register(stored, &name));
    }
    let hidden = card.records.len().saturating_sub(RECORDS_SHOWN);
    if 0 < hidden {
        let _ = writeln!(out, "  records   {hidden} older ones: `--json` has them");
    }
    for record in card.records.iter().skip(hidden) {
        let _ = writeln!(out, "  record    {}", describe_record(record, &name));
    }
    for damage in &card.damage {
        let _ = writeln!(out, "! damaged   {damage}");
    }
    out
}

/// The newest records, of up to 160.
const RECORDS_SHOWN: usize = 8;

/// How an order ended, as its last record says.
fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::UnderWay => "cut short: nobody knows what became of it",
        Outcome::Off | Outcome::On | Outcome::Failed | Outcome::Refused(_) => words::outcome(Some(outcome)),
    }
}

fn describe_record(record: &Record, name: &dyn Fn(NodeId) -> String) -> String {
    let Entry { at, asker, plea, ground, outcome, .. } = record.entry;
    let (asker, node, want) = (name(asker), name(plea.node), words::want(plea.want));
    let (seconds, ended) = (at.as_micros() / 1_000_000, ended(outcome));
    let ground = ground.map_or_else(String::new, |ground| format!(" ({})", words::ground(Some(ground))));
    format!("start {}, {seconds} s: {asker} wanted {node} {want}{ground}: {ended}", record.start)
}

fn describe_settings(settings: &Settings, name: &dyn Fn(NodeId) -> String, out: &mut String) {
    let head = &settings.head;
    let (me, site) = (name(head.owner.node), site_text(head.owner.site));
    let pair = match head.pair {
        PairId::EVERY => "every pair".to_owned(),
        PairId(number) => format!("pair {number}"),
    };
    let _ = writeln!(out, "  witness   {me} of site {site}, {pair}");
    let _ = writeln!(out, "  settings  written {} times", head.seq);
    let [one, two] = head.paths.map(|path| local(&path));
    let gateway = head.gateway.map_or_else(String::new, |host| format!(", gateway {}", Ipv4Addr::from(host)));
    let _ = writeln!(out, "  network   {one}; {two}{gateway}; MAC {}", hardware_text(&head.hardware));
    let timers = &head.timers;
    let wait = match head.old_leases() {
        wait if wait.is_zero() => String::new(),
        wait => format!("; each start waits {} ms for old leases", wait.as_millis()),
    };
    let (heartbeat, silence, lease) = (time(timers.heartbeat), time(timers.silence), time(timers.lease));
    let _ = writeln!(out, "  timers    heartbeat {heartbeat}, silence {silence}, lease {lease}{wait}");
    for peer in &settings.peers {
        let [one, two] = peer.paths.map(address);
        let side = peer.member.side.map_or_else(String::new, |side| format!(" {}", letter(side)));
        let votes = if peer.member.votes { ", votes" } else { "" };
        let outlet = peer.outlet.map_or_else(String::new, |outlet| format!(", {}", outlet_text(outlet)));
        let who = name(peer.member.node);
        let _ = writeln!(
            out,
            "  node      {who}: pair {}{side}{votes}{outlet}, at {one} and {two}",
            peer.member.pair.0
        );
    }
}

fn outlet_text(outlet: Outlet) -> String {
    match outlet {
        Outlet::Relay(number) => format!("relay {number}"),
        Outlet::Strip(number) => format!("outlet {number} of the power strip"),
    }
}

fn address(address: Address) -> String {
    format!("{}:{}", Ipv4Addr::from(address.host), address.port)
}

fn local(local: &Local) -> String {
    match local.host {
        Some((host, bits)) => format!("{}/{bits} port {}", Ipv4Addr::from(host), local.port),
        None => format!("by DHCP, port {}", local.port),
    }
}

/// What a register is about.
fn about(stored: &Stored) -> String {
    let pair = PairId(stored.register.0.wrapping_sub(1) / 2);
    match stored.register {
        CONTROLLER => "controller".into(),
        register if register == infra_register(pair) => format!("pair {}", pair.0),
        register if register == storage_register(pair) => format!("storage of pair {}", pair.0),
        register => format!("register {}", register.0),
    }
}

fn describe_register(stored: &Stored, name: &dyn Fn(NodeId) -> String) -> String {
    let about = about(stored);
    match &stored.accepted {
        None => format!("{about}: nothing accepted, round {} promised", stored.promised.round),
        Some((_, record)) => {
            let holder = record.holder.map_or_else(|| "nobody".to_owned(), name);
            let voters: Vec<String> = record.voters.current.iter().map(|voter| name(voter.node)).collect();
            format!("{about}: epoch {}, held by {holder}, decided by {}", record.epoch.0, voters.join(", "))
        }
    }
}

fn in_json(card: &Card) -> Value {
    let settings = card.settings().map(|settings| {
        let head = &settings.head;
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        json!({
            "site": site_text(head.owner.site),
            "node": head.owner.node.0,
            "pair": head.pair.0,
            "seq": head.seq,
            "hardware": hardware_text(&head.hardware),
            "dhcp": head.paths.iter().any(|path| path.host.is_none()),
            "networks": head.paths.iter().map(|path| json!({
                "host": path.host.map(|(host, _)| Ipv4Addr::from(host).to_string()),
                "bits": path.host.map(|(_, bits)| bits),
                "port": path.port,
            })).collect::<Vec<_>>(),
            "gateway": head.gateway.map(|host| Ipv4Addr::from(host).to_string()),
            "leaseMs": millis(head.timers.lease),
            "waitsMs": millis(head.old_leases()),
            "digest": head.digest.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "peers": settings.peers.iter().map(peer_json).collect::<Vec<_>>(),
        })
    });
    json!({
        "ok": card.is_usable(),
        "settings": settings,
        "starts": card.started(),
        "life": card.owner().map(|owner| owner.life.0),
        "registers": card.registers.iter().map(|stored| json!({
            "register": stored.register.0,
            "about": about(stored),
            "promised": stored.promised.round,
            "epoch": stored.accepted.as_ref().map(|(_, record)| record.epoch.0),
            "holder": stored.accepted.as_ref().and_then(|(_, record)| record.holder).map(|node| node.0),
        })).collect::<Vec<_>>(),
        "records": card.records.iter().map(|record| json!({
            "start": record.start,
            "atMs": record.entry.at.as_micros() / 1000,
            "by": record.entry.asker.0,
            "node": record.entry.plea.node.0,
            "want": words::want(record.entry.plea.want),
            "ground": record.entry.ground.map(|ground| words::ground(Some(ground))),
            "ended": ended(record.entry.outcome),
            "lostBefore": record.lost,
        })).collect::<Vec<_>>(),
        "damage": card.damage,
    })
}

fn peer_json(peer: &Peer) -> Value {
    let (relay, strip) = match peer.outlet {
        Some(Outlet::Relay(number)) => (Some(number.get()), None),
        Some(Outlet::Strip(number)) => (None, Some(number.get())),
        None => (None, None),
    };
    json!({
        "node": peer.member.node.0,
        "pair": peer.member.pair.0,
        "side": peer.member.side.map(letter),
        "voter": peer.member.votes,
        "relay": relay,
        "strip": strip,
        "addresses": peer.paths.map(address),
    })
}
