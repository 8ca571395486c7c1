//! What a site stands on before its nodes are there: networks, keys, configuration files, disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::{DEAD_CARD, Part, Site, Third};
use crate::artefacts::Artefacts;
use crate::disk::Image;
use crate::lab::{Lab, NodeDisk, Rig};
use crate::limit::Permit;
use crate::machine::{Drive, Machine};
use crate::process::Run;
use crate::switch::{Port, Switch};

/// What a site stands on before its nodes are there.
pub(super) struct Ground {
    pub(super) permit: Arc<Permit>,
    networks: [Switch; 2],
    pub(super) ports: [[Port; 2]; 3],
    pub(super) key: PathBuf,
    /// The tables that all nodes have behind their names.
    tables: String,
    /// Whether the two nodes of the pair keep volumes.
    pub(super) volumes: bool,
}

impl Ground {
    pub(super) fn new(artefacts: &Artefacts, lab: &Lab, timers: &str) -> Result<Self> {
        let permit = Arc::new(Permit::take(Part::ALL.len())?);
        let networks = [Switch::new(artefacts, "net1", 1)?, Switch::new(artefacts, "net2", 2)?];
        let [one, two] = &networks;
        let plug = || Ok::<_, anyhow::Error>([one.port()?, two.port()?]);
        let ports = [plug()?, plug()?, plug()?];
        let key = artefacts.path("site.key");
        lab.tool(["config", "keygen"]).arg(&key).succeed()?;
        let tables = format!("[timers]\n{timers}\n");
        Ok(Self { permit, networks, ports, key, tables, volumes: false })
    }

    /// The configuration file of a part.
    pub(super) fn written(&self, artefacts: &Artefacts, part: Part) -> Result<PathBuf> {
        let site = artefacts.path(&format!("{}.site.toml", part.name()));
        std::fs::write(&site, self.configuration(part))?;
        Ok(site)
    }

    pub(super) fn rigs(&self, artefacts: &Artefacts, lab: &Lab, image: &Path) -> Result<[Rig; 2]> {
        let rig = |part| self.rig(artefacts, lab, image, part);
        Ok([rig(Part::A)?, rig(Part::B)?])
    }

    pub(super) fn rig(&self, artefacts: &Artefacts, lab: &Lab, image: &Path, part: Part) -> Result<Rig> {
        let ports = of(&self.ports, part);
        let disk = NodeDisk { image: image.into(), ..NodeDisk::new(lab, part.name())? };
        let cards = [1, 2].map(|network| format!("10.71.{network}.{}/24", part.id()));
        // A third one is dead: whatever a node does, it does without.
        let dead = (DEAD_CARD, format!("10.71.3.{}/24", part.id()));
        let cards = ports.iter().map(Port::address).zip(cards).chain([dead]).collect();
        let site = Some(self.written(artefacts, part)?);
        let volatile = self.keeps(part).then_some(u64::from(part.id()));
        let disk = NodeDisk { site, cards, volatile, ..disk };
        let drives = if self.keeps(part) { disks(artefacts, part)? } else { Vec::new() };
        disk.node_with(artefacts, |machine| {
            let machine = drives.into_iter().fold(machine, Machine::drive);
            ports.iter().cloned().fold(machine.permit(&self.permit), |machine, port| machine.port(port))
        })
    }

    fn keeps(&self, part: Part) -> bool {
        self.volumes && part.peer().is_some()
    }

    fn configuration(&self, part: Part) -> String {
        let nodes = Part::ALL.map(|part| {
            let place = match part {
                Part::A => "pair = 1\nside = \"a\"\npriority = 200",
                Part::B => "pair = 1\nside = \"b\"\npriority = 100",
                Part::Witness => "witness = true",
            };
            let (id, name) = (part.id(), part.name());
            let addresses = format!("[\"10.71.1.{id}\", \"10.71.2.{id}\"]");
            let serves = format!("nbd = \"10.71.1.{id}\"\nguests = \"10.71.1.{id}\"\n");
            let serves = if self.keeps(part) { serves } else { String::new() };
            format!(
                "[[node]]\nid = {id}\nname = \"{name}\"\n{place}\naddresses = {addresses}\n{serves}\
                 voter = true\n"
            )
        });
        let (id, key) = (part.id(), &self.key);
        let local = format!("[local]\nnode = {id}\nkey_file = {key:?}\nstate = \"state\"\n");
        let storage = if self.keeps(part) { STORAGE } else { "" };
        let site = "[site]\nid = \"2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11\"\nname = \"qemu\"\n";
        format!("{site}{local}{storage}{}{}", nodes.concat(), self.tables)
    }

    pub(super) fn site(self, rigs: [Rig; 2], third: Third) -> Site {
        Site { rigs, third, power: None, networks: self.networks, ports: self.ports }
    }
}

/// Where a node keeps volumes: its second disk is the log, whole; the overlay `volumes` mounts the third one.
const STORAGE: &str = "[local.storage]\nlog = \"/dev/vdb\"\nvolumes = \"/volumes\"\n";
/// Bytes of a node's log, and of the file system of what its volumes hold.
const LOG: u64 = 64 << 20;
const CONTENT: u64 = 192 << 20;

/// The two disks of a node that keeps volumes.
fn disks(artefacts: &Artefacts, part: Part) -> Result<Vec<Drive>> {
    let name = part.name();
    let log = Image::create(artefacts.path(&format!("{name}.log.img")), LOG)?;
    let content = Image::create(artefacts.path(&format!("{name}.volumes.img")), CONTENT)?;
    Run::new("mkfs.ext4").args(["-q", "-F"]).arg(content.path()).succeed()?;
    let seed = u64::from(part.id());
    Ok([log, content].iter().map(|image| Drive::new(image.path()).volatile(seed)).collect())
}

/// The cards of a part.
pub(super) fn of(ports: &[[Port; 2]; 3], part: Part) -> &[Port; 2] {
    let [a, b, witness] = ports;
    match part {
        Part::A => a,
        Part::B => b,
        Part::Witness => witness,
    }
}
