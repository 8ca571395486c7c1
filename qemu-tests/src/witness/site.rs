//! The card of a witness for a site of QEMU nodes on the harness's switches.

use std::num::NonZeroU8;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_core::budget::compile::compile;
use bulkhead_core::budget::demand::Demand;
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Local, Peer};

use super::card::{Recipe, hex, write};
use crate::lab::Lab;

/// The port of every node and witness.
const PORT: u16 = 7901;

/// How fast a site is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The recovery time.
    pub rto: Duration,
    /// How long a node may stand still.
    pub pause: Duration,
}

impl Pace {
    /// As keys of the table `[timers]`.
    pub fn toml(self) -> String {
        format!("rto = \"{}ms\"\npause = \"{}ms\"\n", self.rto.as_millis(), self.pause.as_millis())
    }
}

/// Writes the card of the witness, node 3, of the site whose configuration is in `file` and whose key is in
/// `key`: nodes 1 and 2 are in the two compartments, on outlets 1 and 2 when there are `outlets`.
///
/// # Errors
/// When the file is no good, or the card cannot be written.
pub fn card(lab: &Lab, file: &Path, key: &Path, pace: Pace, outlets: bool, image: &Path) -> Result<()> {
    let checked = lab.tool(["config", "check", "--json"]).arg(file).succeed()?;
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout)?;
    let word =
        |name: &str| checked.get(name).and_then(|word| word.as_str()).context("no such key").map(hex_of);
    let demand = Demand { recovery_time: pace.rto, pause: pace.pause, ..Demand::LAN };
    let paths = |node: u8| [1, 2].map(|network| [10, 71, network, node]);
    let peers = [(1, Side::A), (2, Side::B)].map(|(node, side)| Peer {
        member: Member { node: NodeId(node.into()), pair: PairId(1), side: Some(side), votes: true },
        outlet: NonZeroU8::new(node).filter(|_| outlets).map(Outlet::Strip),
        paths: paths(node).map(|host| Address { host, port: PORT }),
    });
    let recipe = Recipe {
        site: SiteId(hex(&word("site")?)?),
        key: hex(std::fs::read_to_string(key)?.trim())?,
        node: NodeId(3),
        pair: PairId(1),
        digest: Digest(hex(&word("digest")?)?),
        peers: peers.into(),
        registers: 129,
        timers: compile(&demand).ok().context("no timers for this pace")?,
        paths: paths(3).map(|host| Local { host: Some((host, 24)), port: PORT }),
        gateway: None,
    };
    write(image, &recipe)
}

/// The digits of a text that may be grouped by dashes.
fn hex_of(text: &str) -> String {
    text.replace('-', "")
}
