//! `cargo xtask bench vmm --nested`: Linux guests on nested KVM, in a site of emulated nodes (P3; S2-01,
//! S3-06, S4-01, X15).

mod disks;
mod guest;
mod moves;
mod snapshots;
mod starts;

use std::path::PathBuf;

use anyhow::{Context, Result};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::site::guests::recipe;
use qemu_tests::site::{Part, Site};
use qemu_tests::tooling::command::find;
use qemu_tests::tooling::progress::step;

use super::Vmm;
use super::report::{self, Row, Subject};
use guest::Guest;

/// As in the tests: a pause of half a second must not count as a death.
const TIMERS: &str = "rto = \"5s\"\npause = \"500ms\"";
/// How often each is measured, unless it is said.
const ROUNDS: u32 = 5;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Requests to a mirrored volume and to a file of the node.
    Disks,
    /// From `vm start` to Linux init.
    Starts,
    /// To the other node and back, idle and while it writes.
    Moves,
    /// Into a file and into the guest's own volume, and back.
    Snapshots,
}

/// What has been seen.
#[derive(Default)]
struct Seen {
    rows: Vec<Row>,
}

impl Seen {
    /// Keeps a figure, and the one that it is measured beside.
    fn keep(&mut self, what: &str, unit: &'static str, ours: f64, other: Option<(&'static str, f64)>) {
        let (beside, other) = other.map_or(("", None), |(beside, other)| (beside, Some(other)));
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.seen.push((ours, other)),
            None => self.rows.push(Row { what: what.into(), unit, beside, seen: vec![(ours, other)] }),
        }
    }
}

/// A site, the node that leads its volumes, and the other one.
struct Stage {
    site: Site,
    first: Part,
    other: Part,
    rounds: u32,
}

impl Stage {
    fn new(artefacts: &Artefacts, qemu_nbd: PathBuf, rounds: u32) -> Result<Self> {
        let lab = Lab::get()?;
        let recipe = recipe(&["shell", "volumes"]);
        let image =
            lab.image_of(&qemu_tests::tooling::node_image::Recipe { programs: vec![qemu_nbd], ..recipe })?;
        let mut site = Site::with_volumes(artefacts, lab, &image, TIMERS)?;
        site.power_on(&Part::ALL)?;
        let first = site.wait_synced()?;
        let other = first.peer().context("the other node")?;
        site.command(first, "bulkhead volume create vm1 --size 64MiB")?;
        Ok(Self { site, first, other, rounds })
    }

    /// Does this in each round.
    fn each(&self, what: &str, mut does: impl FnMut() -> Result<()>) -> Result<()> {
        for round in 1..=self.rounds {
            step(&format!("bench: {what}, {round} of {}", self.rounds), || does().map(|()| String::new()))?;
        }
        Ok(())
    }
}

pub fn figures(wanted: &Vmm) -> Result<()> {
    let qemu_nbd = find("qemu-nbd").context("qemu-nbd is not installed (Debian's qemu-utils)")?;
    Artefacts::of("bench-vmm-nested", |artefacts| {
        let stage = Stage::new(artefacts, qemu_nbd, wanted.rounds.unwrap_or(ROUNDS))?;
        let mut seen = Seen::default();
        let measured = all(&stage, &wanted.only, &mut seen);
        // What was seen before something failed is worth having: each took minutes.
        report::print(&Subject::nested(), &seen.rows, wanted.json);
        measured
    })
}

fn all(stage: &Stage, only: &[What], seen: &mut Seen) -> Result<()> {
    let is_wanted = |what| only.is_empty() || only.contains(&what);
    if is_wanted(What::Disks) {
        disks::figures(stage, seen)?;
    }
    let mut guest = Guest::made(&stage.site, stage.first)?;
    if is_wanted(What::Starts) {
        starts::figures(stage, &guest, seen)?;
    }
    if is_wanted(What::Moves) {
        moves::figures(stage, &mut guest, seen)?;
    }
    if is_wanted(What::Snapshots) {
        snapshots::figures(stage, &guest, seen)?;
    }
    Ok(())
}
