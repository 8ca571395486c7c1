//! A site of several pairs with one witness for all of them (`pair = "every"`, S1-21): its configuration
//! files on this machine, and the card of a board, provisioned as an operator does it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Peer};

use super::card::{PORTS, Recipe, hex, host, user_paths, write};
use crate::lab::Lab;

/// The site.
pub const SITE: &str = "2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11";
/// The witness's number: behind those of all nodes.
pub const WITNESS: NodeId = NodeId(1_000);

/// Where the parts of a site are.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
    /// The two ports of each node, from node 1 on.
    ports: Vec<[u16; 2]>,
    preset: &'static str,
}

impl Layout {
    /// A site of so many pairs with these timers (`preset` of `[timers]`), and the two sockets of each node:
    /// of pair 1 nodes 1 and 2, and so on.
    ///
    /// # Errors
    /// When the directory or the key cannot be written, or there are no sockets.
    pub fn new(
        lab: &Lab,
        directory: PathBuf,
        pairs: u16,
        preset: &'static str,
    ) -> Result<(Self, Vec<[UdpSocket; 2]>)> {
        fs::create_dir_all(&directory)?;
        lab.tool(["config", "keygen"]).arg(directory.join("site.key")).succeed()?;
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let both = |_| Ok::<_, std::io::Error>([bind()?, bind()?]);
        // All are bound at once, so that no port is given twice.
        let sockets: Vec<[UdpSocket; 2]> = (0..pairs * 2).map(both).collect::<Result<_, _>>()?;
        let port = |socket: &UdpSocket| socket.local_addr().map(|at| at.port());
        let of = |[one, two]: &[UdpSocket; 2]| Ok::<_, std::io::Error>([port(one)?, port(two)?]);
        let ports = sockets.iter().map(of).collect::<Result<_, _>>()?;
        Ok((Self { directory, ports, preset }, sockets))
    }

    /// The file with the key of the site.
    pub fn key(&self) -> PathBuf {
        self.directory.join("site.key")
    }

    /// The control socket of a part.
    pub fn socket(&self, part: NodeId) -> PathBuf {
        self.directory.join(format!("{}.sock", part.0))
    }

    /// All nodes and the witness.
    pub fn members(&self) -> Vec<Member> {
        let node = |NodeId(node)| {
            let side = if node % 2 == 1 { Side::A } else { Side::B };
            Member { node: NodeId(node), pair: PairId(node.div_ceil(2)), side: Some(side), votes: true }
        };
        let witness = Member { node: WITNESS, pair: PairId::EVERY, side: None, votes: true };
        self.nodes().map(node).chain([witness]).collect()
    }

    /// Writes the file of a part that runs on this machine, where the witness is reached at these ports.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, part: NodeId, witness: [u16; 2]) -> Result<PathBuf> {
        let file = self.directory.join(format!("{}.toml", part.0));
        fs::write(&file, self.text(part, witness))?;
        Ok(file)
    }

    /// Writes the card of a board in QEMU's user network for the witness. It sees this machine as 10.0.2.2 on
    /// both paths, which no operator could configure: the board answers where a node's datagrams come from.
    ///
    /// # Errors
    /// When the configuration is no good, or the card cannot be written.
    pub fn provision(&self, lab: &Lab, image: &Path) -> Result<()> {
        let file = self.file(WITNESS, PORTS)?;
        let checked = lab.tool(["config", "check", "--json"]).arg(file).succeed()?;
        let checked: serde_json::Value = serde_json::from_slice(&checked.stdout)?;
        let digest = checked.get("digest").and_then(|digest| digest.as_str()).context("no digest")?;
        let peers = self.members().into_iter().zip(&self.ports).map(|(member, ports)| {
            let paths = ports.map(|port| Address { host: host(2), port });
            Peer { member, outlet: None, paths }
        });
        let recipe = Recipe {
            site: SiteId(hex(&SITE.replace('-', ""))?),
            key: hex(fs::read_to_string(self.key())?.trim())?,
            node: WITNESS,
            pair: PairId::EVERY,
            digest: Digest(hex(&digest.replace('-', ""))?),
            peers: peers.collect(),
            registers: 129,
            timers: self.timers()?,
            paths: user_paths(),
            gateway: Some(host(2)),
        };
        write(image, &recipe)
    }

    /// The timers of its preset.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn timers(&self) -> Result<Timers> {
        let presets = [("tight", Timers::TIGHT), ("default", Timers::DEFAULT), ("wide", Timers::WIDE)];
        let found = presets.into_iter().find(|(name, _)| *name == self.preset);
        found.map(|(_, timers)| timers).with_context(|| format!("{} is no preset", self.preset))
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ports.iter().zip(1..).map(|(_, node)| NodeId(node))
    }

    fn text(&self, part: NodeId, witness: [u16; 2]) -> String {
        let (key, state) = (self.key(), self.directory.join(part.0.to_string()));
        let mut text = format!(
            "[site]\nid = \"{SITE}\"\nname = \"pairs\"\n[timers]\npreset = \"{}\"\n[local]\nnode = {}\n\
             key_file = {key:?}\nstate = {state:?}\nsocket = {:?}\n",
            self.preset,
            part.0,
            self.socket(part)
        );
        for (NodeId(node), ports) in self.nodes().zip(&self.ports) {
            let (pair, side) = (node.div_ceil(2), if node % 2 == 1 { "a" } else { "b" });
            let place = format!("name = \"{side}{pair}\"\npair = {pair}\nside = \"{side}\"");
            text.push_str(&table(node, &place, *ports));
        }
        let place = "name = \"witness\"\nwitness = true\npair = \"every\"";
        text.push_str(&table(WITNESS.0, place, witness));
        text
    }
}

fn table(id: u16, place: &str, [one, two]: [u16; 2]) -> String {
    let at = format!("[\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"]");
    format!("[[node]]\nid = {id}\n{place}\nvoter = true\naddresses = {at}\n")
}
