//! `cargo xtask bench mirror`: a mirrored volume beside what mirrors, and what does not, in turn (P4; S4-07).

mod contestants;
mod report;

use anyhow::{Context, Result};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::workspace::Workspace;

use super::fio::Figures;
use super::released;
use contestants::Contestant;

/// How fast a mirrored volume is: 4 KiB writes and reads at random, 128 KiB writes in order, by fio over NBD
/// on a Unix socket, with every write durable before it is answered. Beside it qemu-nbd alone, which mirrors
/// nothing, QEMU's quorum driver over two of them, which does, and fio without a network on one file and on
/// two at once: the limit of the disk. All logs and files share this machine's one disk and its processors.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench mirror\n  cargo xtask bench mirror --rounds 5 --json")]
pub struct Mirror {
    /// How often the contestants take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

struct Load {
    name: &'static str,
    way: &'static str,
    kib: u32,
    depth: u32,
}

impl Load {
    fn kind(&self) -> &'static str {
        if self.way == "randread" { "read" } else { "write" }
    }
}

const LOADS: [Load; 5] = [
    Load { name: "4 KiB random write, depth 1", way: "randwrite", kib: 4, depth: 1 },
    Load { name: "4 KiB random write, depth 32", way: "randwrite", kib: 4, depth: 32 },
    Load { name: "128 KiB write in order, depth 8", way: "write", kib: 128, depth: 8 },
    Load { name: "4 KiB random read, depth 1", way: "randread", kib: 4, depth: 1 },
    Load { name: "4 KiB random read, depth 32", way: "randread", kib: 4, depth: 32 },
];

/// One turn of a contestant.
struct Turn {
    figures: Figures,
    /// Processor time of its servers for one operation, in microseconds; `None`: it has no servers.
    processor_us: Option<f64>,
}

/// For each load, what each contestant did in each round.
type Seen = Vec<Vec<Vec<Turn>>>;

pub fn figures(workspace: &Workspace, wanted: &Mirror) -> Result<()> {
    let bulkhead = released(workspace, "--bin", "bulkhead")?;
    let mut names = Vec::new();
    let mut seen: Seen = Vec::new();
    Artefacts::of("bench-mirror", |artefacts| {
        let contestants = Contestant::all(artefacts, &bulkhead)?;
        names = contestants.iter().map(|contestant| contestant.name).collect();
        seen = LOADS.iter().map(|_| names.iter().map(|_| Vec::new()).collect()).collect();
        for round in 0..=wanted.rounds {
            let name = if round == 0 { "to warm up".into() } else { format!("{round} of {}", wanted.rounds) };
            step(&format!("bench: round {name}"), || {
                for (load, seen) in LOADS.iter().zip(&mut seen) {
                    for (contestant, seen) in contestants.iter().zip(seen) {
                        let turn = turn(contestant, load, wanted.seconds);
                        let turn = turn.with_context(|| format!("{}: {}", contestant.name, load.name))?;
                        if round != 0 {
                            seen.push(turn);
                        }
                    }
                }
                Ok(String::new())
            })?;
        }
        Ok(())
    })?;
    report::print(&names, &seen, wanted.json);
    Ok(())
}

fn turn(contestant: &Contestant, load: &Load, seconds: u32) -> Result<Turn> {
    let before = contestant.processor_time();
    let figures = contestant.measure(load, seconds)?;
    let after = contestant.processor_time();
    let took = before.zip(after).map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6);
    let operations = figures.per_second * f64::from(seconds);
    Ok(Turn { figures, processor_us: took.map(|took| took / operations) })
}
