//! A site of several pairs with one witness for all of them (`pair = "every"`, S1-21): its configuration
//! files on this machine, and the card of a board, provisioned as an operator does it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Result;
use bulkhead_core::id::{NodeId, PairId, Side};
use bulkhead_core::node::settings::Member;

use super::card::{HOSTS, PORTS, host};
use crate::lab::Lab;

/// The site.
pub const SITE: &str = "2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11";
/// The witness's number: behind those of all nodes.
pub const WITNESS: NodeId = NodeId(1_000);
/// This machine, as its own programs see it.
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

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
        fs::write(&file, self.text(part, [LOOPBACK; 2], witness))?;
        Ok(file)
    }

    /// Provisions a card for the witness in QEMU's user network, which hands on what the witness sends to the
    /// nodes' own addresses, those of this machine.
    ///
    /// # Errors
    /// When the configuration is no good, or the card cannot be written.
    pub fn provision(&self, lab: &Lab, image: &Path) -> Result<()> {
        let file = self.directory.join("board.toml");
        fs::write(&file, self.text(WITNESS, HOSTS.map(host), PORTS))?;
        let tool = lab.tool(["witness", "provision", "--node", "witness", "--config"]).arg(file);
        tool.arg("--out").arg(image).succeed().map(drop)
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ports.iter().zip(1..).map(|(_, node)| NodeId(node))
    }

    /// The file of a part, where the witness has these addresses.
    fn text(&self, part: NodeId, hosts: [[u8; 4]; 2], ports: [u16; 2]) -> String {
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
            text.push_str(&table(node, &place, [LOOPBACK; 2], *ports));
        }
        let place = "name = \"witness\"\nwitness = true\npair = \"every\"";
        text.push_str(&table(WITNESS.0, place, hosts, ports));
        text.push_str("board = { bits = [24, 24], gateway = \"10.0.2.2\" }\n");
        text
    }
}

fn table(id: u16, place: &str, hosts: [[u8; 4]; 2], ports: [u16; 2]) -> String {
    let at = hosts.into_iter().zip(ports).map(|([a, b, c, d], port)| format!("\"{a}.{b}.{c}.{d}:{port}\""));
    let at: Vec<_> = at.collect();
    format!("[[node]]\nid = {id}\n{place}\nvoter = true\naddresses = [{}]\n", at.join(", "))
}
