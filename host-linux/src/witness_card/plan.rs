//! What the card of a witness is to hold: all that its firmware must know, out of the site's configuration
//! (F54, V40, V41). What is lacking there is said, never guessed.

use crate::cluster::node_settings::{drift, members, timers};
use crate::failure::Failure;
use crate::site_config::value::site_text;
use crate::site_config::{Board, Member, Method, SiteConfig, key};
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::NodeId;
use bulkhead_core::node::settings::Digest;
use bulkhead_core::provision::{Address, Local, PEERS_MAX, Peer};
use bulkhead_core::time::Drift;
use sha2::{Digest as _, Sha256};
use std::net::{Ipv4Addr, SocketAddr};

/// Bits of a network of which nothing is said: the usual one.
const BITS: u8 = 24;

/// What a card is to hold, but for what is drawn at random and what the card itself counts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The witness.
    pub witness: Member,
    /// The secret of the site.
    pub key: key::SiteKey,
    /// Everything else that stands in the head.
    pub hardware: [u8; 6],
    /// Where it receives.
    pub paths: [Local; 2],
    /// The way to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// The timers of the site.
    pub timers: bulkhead_core::budget::timers::Timers,
    /// The bound on drift.
    pub drift: Drift,
    /// Of what all nodes of the site must agree on.
    pub digest: Digest,
    /// The nodes it speaks with, most wanted first.
    pub peers: Vec<Peer>,
}

/// The witness that is meant by a name or an id.
///
/// # Errors
///
/// There is none, or it is no witness.
pub fn witness<'a>(config: &'a SiteConfig, wanted: &str) -> Result<&'a Member, Failure> {
    let id = wanted.parse().ok().map(NodeId);
    let found = config.members.iter().find(|member| member.name == wanted || Some(member.id) == id);
    let all = || {
        let witnesses = config.members.iter().filter(|member| member.duty.is_witness());
        let names: Vec<String> =
            witnesses.map(|member| format!("{} ({})", member.name, member.id.0)).collect();
        match names.is_empty() {
            true => "add a [[node]] with `witness = true` and `voter = true`.".to_owned(),
            false => format!("its witnesses are {}.", names.join(", ")),
        }
    };
    match found {
        Some(member) if member.duty.is_witness() => Ok(member),
        Some(member) => Err(Failure::usage(format!("{} is no witness", member.name)).next(all())),
        None => Err(Failure::usage(format!("the site has no node {wanted}")).next(all())),
    }
}

/// What the card of `witness` is to hold. What `board` says goes before what the file says.
///
/// # Errors
///
/// What is lacking or contradicts itself.
pub fn plan(
    config: &SiteConfig,
    witness: &Member,
    board: &Board,
    key: key::SiteKey,
) -> Result<Plan, Failure> {
    let file = witness.board.unwrap_or_default();
    let dhcp = board.dhcp || file.dhcp;
    let bits = board.bits.or(file.bits).unwrap_or([BITS; 2]);
    let gateway = board.gateway.or(file.gateway);
    let own = hosts(witness)?;
    let [one, two] = own;
    let [bits_one, bits_two] = bits;
    // One server, one address: of the first network.
    let first = (!dhcp).then_some((one.host, bits_one));
    let peers = peers(config, witness)?;
    if !dhcp {
        check_reach(config, witness, (own, bits), gateway, &peers)?;
    }
    Ok(Plan {
        witness: witness.clone(),
        key,
        hardware: board.hardware.or(file.hardware).unwrap_or_else(|| drawn(config, witness)),
        paths: [
            Local { host: first, port: one.port },
            Local { host: Some((two.host, bits_two)), port: two.port },
        ],
        gateway,
        timers: timers(&config.timers)?,
        drift: drift(&config.timers),
        digest: Digest(config.digest()),
        peers,
    })
}

/// An address that no maker of hardware gave: the same at each provisioning, another in another site.
fn drawn(config: &SiteConfig, witness: &Member) -> [u8; 6] {
    let text = format!("{} {}", site_text(config.site), witness.id.0);
    let [a, b, c, d, e, ..]: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    // Locally administered, of one machine.
    [2, a, b, c, d, e]
}

fn peers(config: &SiteConfig, witness: &Member) -> Result<Vec<Peer>, Failure> {
    let mut peers = Vec::new();
    for member in members(config).iter().filter(|member| member.node != witness.id) {
        let Some(named) = config.member(member.node) else { continue };
        peers.push(Peer { member: *member, outlet: outlet(config, witness, named)?, paths: hosts(named)? });
    }
    match (1..=PEERS_MAX).contains(&peers.len()) {
        true => Ok(peers),
        false => {
            let what = format!(
                "{} would speak with {} nodes, a card has room for 1 to {PEERS_MAX}",
                witness.name,
                peers.len()
            );
            Err(Failure::failed(what))
        }
    }
}

/// What the witness cuts the power of `node` with.
fn outlet(config: &SiteConfig, witness: &Member, node: &Member) -> Result<Option<Outlet>, Failure> {
    let Some(fencing) = config.fencing.iter().find(|fencing| fencing.node == node.id) else {
        return Ok(None);
    };
    match &fencing.method {
        Method::Relay { witness: by, outlet, agent, .. } if *by == witness.id => match agent {
            None => Ok(Some(*outlet)),
            Some(agent) => {
                let what =
                    format!("{} would cut the power of {} by the program {agent}", witness.name, node.name);
                let next = "a board has relays and a power strip, and runs no programs: take `agent` out.";
                Err(Failure::failed(what).next(next))
            }
        },
        Method::Relay { .. } | Method::FenceAgent { .. } | Method::Expiry => Ok(None),
    }
}

/// Where a member receives: the firmware speaks IPv4.
fn hosts(member: &Member) -> Result<[Address; 2], Failure> {
    let of = |address: SocketAddr| match address {
        SocketAddr::V4(address) => Ok(Address { host: address.ip().octets(), port: address.port() }),
        SocketAddr::V6(address) => {
            let what = format!("{} is at {address}: a witness on a microcontroller speaks IPv4", member.name);
            let next = "give all nodes that it votes for IPv4 addresses, or run the witness on Linux.";
            Err(Failure::failed(what).next(next))
        }
    };
    let [one, two] = member.addresses;
    Ok([of(one)?, of(two)?])
}

/// Whether the witness can send to everybody: a node in no network of its own needs a gateway that is in one.
fn check_reach(
    config: &SiteConfig,
    witness: &Member,
    (own, bits): ([Address; 2], [u8; 2]),
    gateway: Option<Ipv4Addr>,
    peers: &[Peer],
) -> Result<(), Failure> {
    let is_near = |host: Ipv4Addr| {
        let mut networks = own.iter().zip(bits);
        networks.any(|(own, bits)| network(own.host.into(), bits) == network(host, bits))
    };
    let name = &witness.name;
    if let Some(own) = own.iter().find(|own| Ipv4Addr::from(own.host).is_loopback()) {
        let what = format!("{name} is at {}, which no other machine reaches", Ipv4Addr::from(own.host));
        return Err(Failure::failed(what).next("correct its `addresses`."));
    }
    match gateway {
        Some(gateway) if is_near(gateway) => Ok(()),
        Some(gateway) => {
            let what = format!("the gateway {gateway} is in neither network of {name}");
            Err(Failure::failed(what).next("correct `gateway`, or `bits`."))
        }
        None => {
            let far = peers.iter().find(|peer| peer.paths.iter().any(|path| !is_near(path.host.into())));
            let Some(far) = far else { return Ok(()) };
            let what = format!("{} is in neither network of {name}", config.name_of(far.member.node));
            Err(Failure::failed(what).next("give `--gateway`, or `bits` and `gateway` in its `board`."))
        }
    }
}

/// The network that a host is in.
fn network(host: Ipv4Addr, bits: u8) -> u32 {
    host.to_bits().checked_shr(32_u32.saturating_sub(bits.into())).unwrap_or_default()
}
