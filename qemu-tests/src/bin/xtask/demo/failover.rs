//! The last part of the demo: a compartment is lost under a Linux guest, which goes on in the other one, and
//! comes home (S0-07 to S0-09). What the guest has said that it keeps is noted here, outside the site.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::site::guests::{GUEST, recipe};
use qemu_tests::site::{Part, Site};
use qemu_tests::witness::site::Pace;
use serde_json::Value;

use super::Story;

/// Emulated machines share two processors: a pause of half a second must not count as a death.
const PACE: Pace = Pace { rto: Duration::from_secs(5), pause: Duration::from_millis(500) };
/// Writes before a compartment is lost.
const WRITES: u64 = 20;

/// What came of it, for the end of the story.
pub(super) struct Figures {
    /// The last write that the guest had said to be durable when the power was cut, and the one it found.
    kept: u64,
    found: u64,
    /// From the cut to its first durable write in the other compartment.
    lost: Duration,
    /// How long it stood still on its way home.
    downtime: u64,
}

impl Figures {
    /// In a sentence or two.
    pub(super) fn text(&self) -> String {
        let Self { kept, found, lost, downtime } = self;
        format!(
            "A guest that had kept {kept} writes when its\n\
             compartment was lost found {found} of them in the other one, where it went on {:.1} s later.\n\
             On its way home it stood still for {downtime} ms.",
            lost.as_secs_f64()
        )
    }
}

pub(super) fn run(story: &Story, lab: &Lab, artefacts: &Artefacts, elf: &Path) -> Result<Figures> {
    let image = lab.image_of(&recipe(&["shell", "volumes"]))?;
    let mut site = Site::with_volumes_and_board(artefacts, lab, &image, elf, PACE)?;
    story.tell("operator", "switches on a node in each compartment, and the witness on its board");
    site.power_on(&Part::ALL)?;
    let home = site.wait_synced()?;
    let other = home.peer().context("the other node")?;
    let [here, there] = [home, other].map(Part::name);
    story.tell("boot", "both nodes have started from their boot partitions");
    story.tell("agent", &format!("{here} leads the volumes; what is written is in both compartments"));

    site.command(home, "bulkhead volume create vm1 --size 64MiB")?;
    site.start_guest(home, "keeps", "vm1")?;
    story.tell("operator", &format!("starts a Linux guest on a mirrored volume, on {here}"));
    site.kept(home, WRITES)?;
    let kept = site.kept(home, 0)?;
    story.tell("guest", &format!("keeps write {kept}: it is durable, and noted outside the site"));

    site.power_cut(home)?;
    let cut = Instant::now();
    story.tell("power", &format!("{here} is off: its compartment is lost"));
    let next = site.kept(other, kept)?;
    let lost = cut.elapsed();
    let begun = site.command(other, "bulkhead events | grep guest-begun | tail -n 1")?;
    let begun = begun.split_once("guest keeps: ").map_or("", |(_, text)| text.trim()).to_owned();
    story.tell("agent", &format!("{there} leads, and had begun the guest from the volumes: {begun}"));
    let log = site.command(other, "bulkhead vm log keeps")?;
    let found = log.lines().find_map(|line| line.split_once("guest: found ")).context(log.clone())?.1;
    let found = found.trim().parse()?;
    ensure!(kept <= found && !log.contains("wrong:"), "write {kept} was kept, and {found} found: {log}");
    story.tell("guest", &format!("found every write up to {found}, and goes on: keeps write {next}"));

    site.power_on(&[home])?;
    site.wait_synced()?;
    story.tell("agent", &format!("{here} is back, and has what it missed"));
    let migrate = format!("bulkhead vm migrate keeps --to {here} --json");
    let moved = site.rig(other)?.shell.exit(0, &migrate, GUEST)?.replace('\n', "");
    let moved: Value = serde_json::from_str(&moved).with_context(|| moved.clone())?;
    let downtime =
        moved.pointer("/moved/downtimeMs").and_then(Value::as_u64).with_context(|| moved.to_string())?;
    let last = site.kept(home, next)?;
    story.tell("guest", &format!("is at home on {here}, where it was: it stood still for {downtime} ms"));
    let log = site.command(home, "bulkhead vm stop keeps --now; bulkhead vm log keeps")?;
    ensure!(!log.contains("wrong:"), "{log}");
    story.tell("operator", &format!("stops it after write {last}; none was lost, none came twice"));
    Ok(Figures { kept, found, lost, downtime })
}
