//! `cargo xtask bench site`: how long guests are away whose node loses its power, and where that time goes.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead::cluster::status::Status;
use bulkhead::vmm::machine::kvm;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::losses::fault::{Fault, Kind, Lost, Node};
use qemu_tests::losses::plant::{Plant, leads};
use qemu_tests::tooling::bare_guest::bare_guest;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::workspace::Workspace;
use serde_json::json;

use super::{median, released};

/// The guest that begins anew, and the one that goes on from its memory.
const COLD: &str = "anew";
const RESUMED: &str = "last";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// All of it is over within this time.
const OVER: Duration = Duration::from_secs(60);

/// From the loss of the power of the node that leads to the first write that a guest there is told to be
/// durable: detection, decision, storage, guest. Two agents with the default timers and a witness on this
/// machine, with two bare-metal guests on its own KVM: one begins anew, one goes on from a snapshot.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench site\n  cargo xtask bench site --rounds 21 --json\n\n\
    What keepalived or pacemaker takes until one acts: `cargo xtask bench failover`. What was\n\
    seen so far, and what it means: docs/benchmarks.md."
)]
pub struct Site {
    /// How often the node that leads is lost.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was seen, each since the power was lost.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The other node takes the lost one for silent.
    detected: Option<Duration>,
    /// It leads the volumes.
    decided: Option<Duration>,
    /// It knows all that was acknowledged, and looks after guests.
    served: Option<Duration>,
    /// Both guests keep more than before, the cold and the resumed one.
    cold: Option<Duration>,
    resumed: Option<Duration>,
}

impl Seen {
    const NAMES: [&'static str; 5] = [
        "the node is taken for lost",
        "the other one leads",
        "its volumes are served",
        "a guest that begins anew was told that a write is durable",
        "one that goes on from its memory was",
    ];

    fn all(&self) -> [Option<Duration>; 5] {
        [self.detected, self.decided, self.served, self.cold, self.resumed]
    }
}

pub fn figures(workspace: &Workspace, wanted: &Site) -> Result<()> {
    if let Err(why) = kvm() {
        bail!("this machine runs no guests: {}", why.what);
    }
    let bulkhead = released(workspace, "--bin", "bulkhead")?;
    let kernel = bare_guest(workspace)?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Artefacts::of("bench-site", |artefacts| {
        let plant = Plant::start(&bulkhead, &kernel, &artefacts.path("plant"))?;
        let mut all = Vec::new();
        for round in 1..=wanted.rounds {
            step(&format!("bench: a node is lost, {round} of {}", wanted.rounds), || {
                let seen = lose(&plant)?;
                all.push(seen);
                Ok(seen.cold.map(|cold| format!("{} ms", cold.as_millis())).unwrap_or_default())
            })?;
        }
        print(wanted, &all, load.trim());
        Ok(())
    })
}

/// The power of the node that leads is lost, and comes back.
fn lose(plant: &Plant) -> Result<Seen> {
    let lost = plant.leads()?;
    let there = lost.other();
    let cold = Kept::of(plant, there, COLD);
    let resumed = Kept::of(plant, there, RESUMED);
    // Its disk holds what it held then, as long as it stands still.
    plant.tool(lost, &["vm", "pause", RESUMED]).succeed()?;
    plant.tool(lost, &["vm", "snapshot", RESUMED]).succeed()?;
    let fault = Fault { kind: Kind::Power, node: lost };
    let began = Instant::now();
    plant.strike(fault)?;
    let mut seen = Seen::default();
    while seen.all().contains(&None) {
        ensure!(began.elapsed() < OVER, "{} did not go on with all: {seen:?}", there.name());
        let status = plant.status(there);
        let now = began.elapsed();
        let note = |at: &mut Option<Duration>, is_so: bool| {
            *at = at.or(is_so.then_some(now));
        };
        if let Some(status) = &status {
            note(&mut seen.detected, is_silent(status, lost));
            note(&mut seen.decided, leads(status));
            note(&mut seen.served, !status.guests.is_empty());
        }
        note(&mut seen.cold, cold.is_more()?);
        note(&mut seen.resumed, resumed.is_more()?);
        std::thread::sleep(LOOK);
    }
    plant.repair(fault, &Lost::default())?;
    Ok(seen)
}

fn is_silent(status: &Status, node: Node) -> bool {
    status.nodes.iter().any(|one| one.name == node.name() && one.verdict == "silent")
}

/// What a guest says on a node that it is to come to.
struct Kept {
    log: PathBuf,
    from: u64,
}

impl Kept {
    fn of(plant: &Plant, node: Node, name: &str) -> Self {
        let log = plant.guest(node, name).join("console.log");
        let from = fs::metadata(&log).map_or(0, |file| file.len());
        Self { log, from }
    }

    /// Whether it said since that a write is durable.
    fn is_more(&self) -> Result<bool> {
        let said = match fs::read(&self.log) {
            Ok(said) => said,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).context("a guest's console cannot be read"),
        };
        let from = usize::try_from(self.from).unwrap_or(usize::MAX);
        let new = String::from_utf8_lossy(said.get(from..).unwrap_or_default()).into_owned();
        Ok(new.contains("bare: kept "))
    }
}

fn print(wanted: &Site, all: &[Seen], load: &str) {
    let row = |at: usize| {
        let times = all.iter().filter_map(|seen| Some(seen.all().get(at).copied()??.as_secs_f64() * 1e3));
        median(times)
    };
    let rows: Vec<_> = (0..).zip(Seen::NAMES).map(|(at, name)| (name, row(at))).collect();
    if wanted.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, [least, middle, most])| {
                json!({ "what": name, "medianMs": middle, "leastMs": least, "mostMs": most })
            })
            .collect();
        println!("{}", json!({ "rounds": all.len(), "load": load, "sinceTheLoss": rows }));
        return;
    }
    println!(
        "\nsince the node lost its power, ms; median (least to most) of {}; load before: {load}\n",
        all.len()
    );
    for (name, [least, middle, most]) in rows {
        println!("  {name:<60} {middle:8.0} ({least:.0} to {most:.0})");
    }
}
