//! The products of this build, node disks made of them, and nodes that can be commanded: what end-to-end
//! tests, the demonstration and the benchmarks start from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::artefacts::Artefacts;
use crate::console::Pattern;
use crate::disk::Image;
use crate::machine::{Drive, Machine, Watchdog};
use crate::node::{BootLine, Node};
use crate::process::{Output, Run};
use crate::shell::Shell;
use crate::switch::Address;
use crate::tooling::node_image::{Recipe, Variant};
use crate::tooling::signed::{self, Keys};
use crate::tooling::workspace::Workspace;
use crate::tooling::{kernel, programs};
use anyhow::{Result, anyhow, ensure};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;

/// Longest time to a line of a node under emulation on a busy machine; an idle one takes a fifth.
pub const LONG: Duration = Duration::from_secs(150);
/// A hung candidate is reset after twice these seconds (iTCO bites at its second expiry).
const WATCHDOG_SECONDS: u32 = 5;
/// After that many seconds a candidate that is not healthy is given up.
const HEALTH_SECONDS: u32 = 4;

/// What was built, once per test program.
#[derive(Debug)]
pub struct Lab {
    /// Where it was built.
    pub workspace: Workspace,
    /// The program an operator has, and the node too.
    pub bulkhead: PathBuf,
    /// The keys that sign and are trusted.
    pub keys: Keys,
    /// The boot application that trusts `keys`.
    pub app: PathBuf,
    images: Mutex<BTreeMap<String, PathBuf>>,
}

impl Lab {
    /// Builds what is not built yet.
    pub fn get() -> Result<&'static Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        let lab = LAB.get_or_init(|| Self::build().map_err(|error| format!("{error:#}")));
        lab.as_ref().map_err(|error| anyhow!("building what the tests boot: {error}"))
    }

    fn build() -> Result<Self> {
        let workspace = Workspace::locate();
        kernel::fetch(&workspace, false)?;
        let bulkhead = programs::bulkhead(&workspace)?;
        let plain = programs::boot_app(&workspace)?;
        let keys = signed::keys(&workspace, "tests")?;
        let app = workspace.out().join("images/BOOTX64.tests.EFI");
        std::fs::create_dir_all(workspace.out().join("images"))?;
        signed::trusting(&workspace, &plain, &keys.public, &app)?;
        Ok(Self { workspace, bulkhead, keys, app, images: Mutex::new(BTreeMap::new()) })
    }

    /// The recipe of a test image: with a shell, and quick to give up.
    pub fn recipe(variant: Variant, version: u64) -> Recipe {
        let overlays = vec!["shell".to_owned()];
        // The last `panic=` counts: restart a second after a panic.
        let extra = "panic=1".to_owned();
        Recipe { watchdog_seconds: WATCHDOG_SECONDS, overlays, extra, ..Recipe::new(variant, version) }
    }

    /// A signed image.
    pub fn image(&self, variant: Variant, version: u64) -> Result<PathBuf> {
        self.image_of(&Self::recipe(variant, version))
    }

    /// A signed image of this recipe.
    pub fn image_of(&self, recipe: &Recipe) -> Result<PathBuf> {
        // Held while building: two tests that want the same image must not write the same files.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(&recipe.name()) {
            return Ok(image.clone());
        }
        let image = signed::image(&self.workspace, recipe, &self.keys.secret)?;
        images.insert(recipe.name(), image.clone());
        Ok(image)
    }

    /// The operator's program, on this machine.
    pub fn tool<A: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        Run::new(&self.bulkhead).args(arguments)
    }

    /// What `bulkhead ARGUMENTS --json` answers; it must succeed.
    pub fn ask(&self, arguments: &[&str], disk: &Image) -> Result<serde_json::Value> {
        let output: Output = self.tool(arguments).arg(disk.path()).arg("--json").succeed()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// How a node disk is made.
#[derive(Clone, Debug)]
pub struct NodeDisk<'a> {
    /// The products it is made of.
    pub lab: &'a Lab,
    /// The node's name; its identity follows from it.
    pub name: &'a str,
    /// The boot application on its ESP.
    pub app: &'a Path,
    /// The image in slot A.
    pub image: PathBuf,
    /// A second, confirmed image for slot B.
    pub image_b: Option<PathBuf>,
    /// Its network cards: Ethernet address, and IP address with the length of the prefix.
    pub cards: Vec<(Address, String)>,
    /// The configuration of the site it runs its part of.
    pub site: Option<PathBuf>,
    /// The seed of what a power cut takes away of writes that were not flushed.
    pub volatile: Option<u64>,
}

impl<'a> NodeDisk<'a> {
    /// A disk with the good version 1 in slot A and nothing in slot B.
    pub fn new(lab: &'a Lab, name: &'a str) -> Result<Self> {
        let image = lab.image(Variant::Good, 1)?;
        Ok(Self {
            lab,
            name,
            app: &lab.app,
            image,
            image_b: None,
            cards: Vec::new(),
            site: None,
            volatile: None,
        })
    }

    /// Makes it.
    pub fn make(&self, artefacts: &Artefacts) -> Result<PathBuf> {
        let config = artefacts.path(&format!("{}.toml", self.name));
        // The name in hexadecimal digits ends the identity: another name, another node.
        let digits: String = self.name.bytes().map(|byte| format!("{byte:02x}")).collect();
        let digits: String = format!("{digits:0<12}").chars().rev().take(12).collect();
        let node = format!("name = \"{}\"\nid = \"00000000-0000-4000-8000-{digits}\"", self.name);
        let cards = self.cards.iter().fold(String::new(), |all, (card, address)| {
            format!("{all}[[network]]\ncard = \"{card}\"\naddress = \"{address}\"\n")
        });
        let health = format!("{cards}[health]\ntimeout_s = {HEALTH_SECONDS}\ninterval_s = 1\n");
        std::fs::write(&config, format!("[node]\n{node}\ncompartment = \"a\"\nzone = \"dmz\"\n{health}"))?;
        let disk = artefacts.path(&format!("{}.disk", self.name));
        // Room for an update that is a little larger.
        let image_mib = std::fs::metadata(&self.image)?.len() >> 20;
        let slot_mib = (image_mib + 2).next_multiple_of(16).max(32);
        let (size, slot_size) = (format!("{}M", 160 + 2 * slot_mib), format!("{slot_mib}M"));
        let sizes =
            ["--size", &size, "--slot-size", &slot_size, "--infra-size", "16M", "--guest-size", "16M"];
        let mut run = self.lab.tool(["image", "disk", "--seed", self.name, "--out"]).arg(&disk).args(sizes);
        run = run.arg("--boot-app").arg(self.app).arg("--image").arg(&self.image);
        run = run.arg("--node-config").arg(&config);
        if let Some(image) = &self.image_b {
            run = run.arg("--image-b").arg(image);
        }
        if let Some(site) = &self.site {
            run = run.arg("--site").arg(site);
        }
        run.succeed()?;
        Ok(disk)
    }

    /// Makes it and puts it into a node, which is off.
    pub fn node(&self, artefacts: &Artefacts) -> Result<Rig> {
        self.node_with(artefacts, |machine| machine)
    }

    /// As [`NodeDisk::node`], with more in the machine.
    pub fn node_with(&self, artefacts: &Artefacts, more: impl FnOnce(Machine) -> Machine) -> Result<Rig> {
        let disk = self.make(artefacts)?;
        let mut second = Ok(());
        let machine = |machine: Machine| {
            let machine = machine.watchdog(Watchdog::Ich9).memory_mib(640);
            // The console of the shell; a failure to make its files is told below.
            let plain = machine.clone();
            more(machine.second_console().unwrap_or_else(|error| {
                second = Err(error);
                plain
            }))
        };
        let drive = |drive: Drive| match self.volatile {
            Some(seed) => drive.volatile(seed),
            None => drive,
        };
        let node = Node::with(artefacts, self.name, &disk, machine, drive)?;
        second?;
        std::fs::remove_file(&disk)?;
        let shell = Shell::of(node.machine())?;
        Ok(Rig { node, shell })
    }
}

/// A node and the shell in it.
#[derive(Debug)]
pub struct Rig {
    /// The node.
    pub node: Node,
    /// A root shell in it, on its second serial port.
    pub shell: Shell,
}

impl Rig {
    /// Waits for the next boot, which must be this one.
    pub fn boots(&self, slot: SlotId, version: u64, reason: Reason) -> Result<()> {
        let wanted = BootLine { slot: Some(slot), version, reason };
        let boot = self.node.wait_boot(LONG)?;
        ensure!(boot == wanted, "the node said `{boot}`, expected `{wanted}`");
        Ok(())
    }

    /// Waits until the agent finds the node healthy.
    pub fn healthy(&self) -> Result<()> {
        self.node.wait_for("HEALTH ok", LONG).map(drop)
    }

    /// Waits until the agent has confirmed the slot it runs from (X19).
    pub fn confirmed(&self, slot: SlotId, version: u64) -> Result<()> {
        self.node.wait_for(format!("CONFIRMED slot={slot} version={version}"), LONG).map(drop)
    }

    /// Cuts the power; the next waits begin with the next power-on.
    pub fn cut_and_forget(&mut self) -> Result<()> {
        self.node.power_cut()?;
        self.forget()
    }

    /// The next waits begin with what comes now.
    pub fn forget(&self) -> Result<()> {
        self.node.console().skip_to_end(LONG)?;
        self.node.machine().second().map_or(Ok(()), |console| console.skip_to_end(LONG))
    }

    /// What `bulkhead boot status` says of a slot, while the node is off: its state's name.
    pub fn state(&self, lab: &Lab, slot: SlotId) -> Result<String> {
        let status = lab.ask(&["boot", "status"], self.node.disk())?;
        let state = status.pointer(&format!("/slots/{slot}/state")).and_then(|state| state.as_str());
        Ok(state.ok_or_else(|| anyhow!("no state of slot {slot} in {status}"))?.to_owned())
    }

    /// Prints what happened when, for the reader of the test's output.
    pub fn timeline(&self, what: &str) {
        let telling = [
            "bulkhead-boot: ",
            "BOOT slot=",
            "init: node image",
            "init: watchdog",
            "HEALTH ",
            "CONFIRMED ",
            "GAVE-UP ",
            "Kernel panic",
            "rescue> ",
        ];
        println!("--- {what}");
        for line in self.node.console().lines() {
            if telling.iter().any(|word| line.text.contains(word)) {
                println!("{:8.2} s  {}", line.at.as_secs_f64(), line.text);
            }
        }
    }
}

/// A disk with the bytes of `image` and room behind it: how an update reaches a node in these tests.
pub fn parcel(artefacts: &Artefacts, name: &str, image: &Path) -> Result<Drive> {
    let disk = Image::copy_of(image, artefacts.path(name))?;
    let file = std::fs::OpenOptions::new().write(true).open(disk.path())?;
    file.set_len(disk.size()?.next_multiple_of(1024 * 1024))?;
    Ok(Drive::new(disk.path()).read_only())
}

/// The prompt of the rescue console.
pub fn rescue() -> Pattern {
    Pattern::prompt("rescue> ")
}
