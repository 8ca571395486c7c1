//! The card of a witness for a playground whose agents are processes of this machine.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Peer};

use super::card::{Recipe, absent, hex, host, user_paths, write};
use crate::lab::Lab;

/// Writes the card of the witness of the playground in `directory`, which has one node in each compartment.
/// The board sees this machine as 10.0.2.2. It names so many more pairs, of nodes that are not there.
///
/// # Errors
/// When there is no such playground, or the card cannot be written.
pub fn card(lab: &Lab, directory: &Path, image: &Path, more_pairs: u16) -> Result<()> {
    let file = directory.join("witness.toml");
    let checked = lab.tool(["config", "check", "--json"]).arg(&file).succeed()?;
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout)?;
    let word = |name: &str| {
        let word = checked.get(name).and_then(|word| word.as_str());
        word.map(|word| word.replace('-', "")).with_context(|| format!("no {name} in {checked}"))
    };
    let key = std::fs::read_to_string(directory.join("site.key"))?;
    let text = std::fs::read_to_string(&file)?;
    // The file was written by a program, one key a line.
    let lines = text.lines().filter(|line| line.starts_with("addresses = "));
    let addresses: Vec<[Address; 2]> = lines.map(addresses).collect::<Result<_>>()?;
    ensure!(addresses.len() == 3, "{} is not of two nodes and a witness", file.display());
    let peer = |(node, paths): (u16, [Address; 2])| {
        let side = Some(if node == 1 { Side::A } else { Side::B });
        let member = Member { node: NodeId(node), pair: PairId(1), side, votes: true };
        Peer { member, outlet: None, paths }
    };
    let recipe = Recipe {
        site: SiteId(hex(&word("site")?)?),
        key: hex(key.trim())?,
        node: NodeId(3),
        pair: PairId(1),
        digest: Digest(hex(&word("digest")?)?),
        peers: (1..=2).zip(addresses).map(peer).chain(absent(more_pairs)).collect(),
        registers: 129,
        timers: Timers::DEFAULT,
        paths: user_paths(),
        gateway: Some(host(2)),
    };
    write(image, &recipe)
}

fn addresses(line: &str) -> Result<[Address; 2]> {
    let mut parts = line.split('"').skip(1).step_by(2).map(|text| {
        let at: std::net::SocketAddrV4 = text.parse()?;
        Ok::<_, anyhow::Error>(Address { host: host(2), port: at.port() })
    });
    let mut next = || parts.next().with_context(|| format!("no two addresses in `{line}`"))?;
    Ok([next()?, next()?])
}
