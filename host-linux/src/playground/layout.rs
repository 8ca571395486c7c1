//! The configuration files of a playground: two compartments and a witness, everything below one directory.

use super::ports::Ports;
use super::relay::Relay;
use crate::failure::Failure;
use crate::site_config::{Duty, EXAMPLE, Goal, Member, Preset, Room, SiteConfig, Storage, key};
use crate::volume::serve::NBD_SOCKET;
use bulkhead_core::id::{NodeId, PairId, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Bytes of a holder's log, which is written in full when it is made.
const LOG_BYTES: u64 = 64 << 20;
/// Bytes of a holder's memory for writes on their way.
const MEMORY_BYTES: u64 = 32 << 20;
/// Bytes of its memory for what is read.
const READ_CACHE_BYTES: u64 = 16 << 20;

/// What the compartments of each pair are called.
const LETTERS: [[char; 2]; 2] = [['a', 'b'], ['c', 'd']];

/// One process of a playground.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its number in the site.
    pub node: u16,
    /// Its name.
    pub name: String,
    /// Whether it is the witness.
    pub is_witness: bool,
    /// Whether it runs here, as a process of the playground.
    pub is_here: bool,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its control socket.
    pub socket: PathBuf,
    /// Where it keeps its state.
    pub state: PathBuf,
    /// What it prints.
    pub log: PathBuf,
    /// Where clients find its volumes; `None`: it has none.
    pub nbd: Option<SocketAddr>,
}

/// What a playground is to have.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Pairs of compartments, with one witness.
    pub pairs: u16,
    /// Nodes in each compartment.
    pub per_side: u16,
    /// How fast it is.
    pub preset: Preset,
    /// A witness that is no process of it.
    pub elsewhere: Option<Elsewhere>,
    /// How many nodes of a pair keep volumes: of the two compartments in turn, the first nodes first.
    pub holders: u16,
    /// Whether they share one store.
    pub is_shared: bool,
    /// Whether all reach each other without the relay in between: nothing can be cut, and nothing is slower.
    pub is_direct: bool,
    /// What each node has for guests, of the first and of the second compartment of a pair.
    pub rooms: [Option<Room>; 2],
}

/// A witness that is no process of the playground: a board, say.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// Where this machine reaches its two paths.
    pub at: [SocketAddr; 2],
    /// This machine as the witness sees it, in each network; `None`: the witness runs on it.
    pub here: Option<[IpAddr; 2]>,
}

/// Writes the configuration of a site below `directory`.
///
/// # Errors
///
/// A file cannot be written, or no sockets are left.
pub fn write(directory: &Path, wanted: &Wanted) -> Result<(Vec<Part>, Relay, Ports), Failure> {
    let mut config = site(directory, wanted)?;
    let own = Ports::take(config.members.len().saturating_mul(4));
    let own = own.map_err(|error| failed("no socket on loopback", &error))?;
    let mut ports = own.all.iter().copied();
    let nbd: BTreeMap<u16, SocketAddr> = keeping(&config, wanted).into_iter().zip(&mut ports).collect();
    let holders: BTreeSet<u16> = nbd.keys().copied().collect();
    for member in &mut config.members {
        member.nbd = nbd.get(&member.id.0).copied();
        member.guests = member.nbd.and_then(|_| ports.next());
    }
    let mut exits = BTreeMap::new();
    for member in &config.members {
        exits.extend((0..2).zip(&mut ports).map(|(network, port)| ((member.id.0, network), port)));
    }
    let outside = wanted.elsewhere.and_then(|one| witness(&config).map(|witness| (witness, one)));
    if let Some((witness, one)) = outside {
        exits.extend((0..2).zip(one.at).map(|(network, at)| ((witness, network), at)));
    }
    let far = outside.filter(|(_, one)| one.here.is_some()).map(|(witness, _)| witness);
    let carried = if wanted.is_direct { BTreeMap::new() } else { exits.clone() };
    let relay =
        Relay::start(&carried, far, &holders).map_err(|error| failed("cannot start the relay", &error))?;

    let mut parts = Vec::new();
    for member in config.members.clone() {
        let its = outside.filter(|(witness, _)| *witness == member.id.0).map(|(_, one)| one);
        let part = Part { nbd: nbd.get(&member.id.0).copied(), ..part(directory, &member, its.is_none()) };
        config.local.node = member.id;
        config.local.state.clone_from(&part.state);
        config.local.socket.clone_from(&part.socket);
        config.local.guests = part.state.join("guests");
        config.local.storage = part.nbd.map(|_| Storage {
            log: part.state.join("mirror.log"),
            log_size: Some(LOG_BYTES),
            volumes: if wanted.is_shared { directory } else { part.state.as_path() }.join("volumes"),
            is_shared: wanted.is_shared,
            memory: MEMORY_BYTES,
            read_cache: READ_CACHE_BYTES,
            backing: Default::default(),
            tls: None,
        });
        for peer in &mut config.members {
            let at = |network: usize| {
                let lane = relay.entrances.get(&(member.id.0, peer.id.0, network));
                let at = lane.or_else(|| exits.get(&(peer.id.0, network))).copied()?;
                let seen = its.filter(|_| lane.is_some()).and_then(|one| one.here?.get(network).copied());
                Some(SocketAddr::new(seen.unwrap_or(at.ip()), at.port()))
            };
            if let (Some(one), Some(two)) = (at(0), at(1)) {
                peer.addresses = [one, two];
                if peer.id == member.id {
                    config.listen = [one, two];
                }
            }
        }
        std::fs::write(&part.config, config.to_toml())
            .map_err(|error| failed(&format!("cannot write {}", part.config.display()), &error))?;
        parts.push(part);
    }
    Ok((parts, relay, own))
}

/// The nodes that keep volumes.
fn keeping(config: &SiteConfig, wanted: &Wanted) -> Vec<u16> {
    let of_pair = |pair| {
        let nodes = config.members.iter().filter(|member| !member.duty.is_witness());
        let nodes = nodes.filter(move |member| member.duty.pair() == PairId(pair));
        nodes.map(|member| member.id.0).take(usize::from(wanted.holders))
    };
    (1..=wanted.pairs).flat_map(of_pair).collect()
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("{what}: {error}"))
}

/// The site, its key made if there is none, without addresses.
fn site(directory: &Path, wanted: &Wanted) -> Result<SiteConfig, Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| failed(&format!("cannot make {}", directory.display()), &error))?;
    let key_file = directory.join("site.key");
    if !key_file.exists() {
        key::generate(&key_file)?;
    }
    let mut config = SiteConfig::parse(Path::new("site.toml"), EXAMPLE)?;
    config.members = members(&config, wanted);
    config.fencing.clear();
    config.resources.clear();
    config.watchdog = None;
    config.timers.goal = Goal::Preset(wanted.preset);
    config.local.key_file = key_file;
    Ok(config)
}

fn witness(config: &SiteConfig) -> Option<u16> {
    config.members.iter().find(|member| member.duty.is_witness()).map(|member| member.id.0)
}

fn part(directory: &Path, member: &Member, is_here: bool) -> Part {
    let file = |ending: &str| directory.join(format!("{}.{ending}", member.name));
    Part {
        node: member.id.0,
        name: member.name.clone(),
        is_witness: member.duty.is_witness(),
        is_here,
        config: file("toml"),
        socket: file("sock"),
        state: directory.join(&member.name),
        log: file("log"),
        nbd: None,
    }
}

impl Part {
    /// Where clients on this machine find its volumes.
    pub fn nbd_socket(&self) -> PathBuf {
        self.state.join(NBD_SOCKET)
    }
}

/// a1, b1, a2, b2 ..., of the next pair c1, d1 ..., and the witness; the first of each compartment and the
/// witness vote.
fn members(config: &SiteConfig, wanted: &Wanted) -> Vec<Member> {
    let Some(template) = config.members.first() else { return Vec::new() };
    let mut members = Vec::new();
    let member = |id: usize, name: String, duty, voter| Member {
        id: NodeId(u16::try_from(id).unwrap_or(u16::MAX)),
        name,
        duty,
        voter,
        external: Vec::new(),
        board: None,
        room: None,
        ..template.clone()
    };
    for (pair, letters) in (1..=wanted.pairs).zip(LETTERS) {
        for place in 1..=wanted.per_side {
            for ((side, letter), room) in [Side::A, Side::B].into_iter().zip(letters).zip(wanted.rooms) {
                let duty = Duty::Compartment { pair: PairId(pair), side, priority: 100 };
                let id = members.len().saturating_add(1);
                let name = format!("{letter}{place}");
                members.push(Member { room, ..member(id, name, duty, place == 1) });
            }
        }
    }
    let pair = if wanted.pairs == 1 { PairId(1) } else { PairId::EVERY };
    let id = members.len().saturating_add(1);
    members.push(member(id, "witness".into(), Duty::Witness { pair }, true));
    members
}
