//! `cargo xtask bench vmm`: our virtual machine monitor beside QEMU's microvm, in turn (P3; S2-01, S3-06).

mod code;
mod disk_code;
mod disks;
mod guest;
mod nested;
mod report;
mod snapshots;

use anyhow::Result;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::workspace::Workspace;

use super::released;
use guest::{Monitor, Qemu};
use report::{Row, Subject};

/// What a guest costs: the time from the start of its process to its first instruction, which is a byte on
/// its serial line; a way out of the guest and back; what its process has in memory beside the guest's; and
/// the time to write it into a file and to have it go on from there; and its requests to a disk, one at a
/// time: a mirrored volume of a playground, and a file by qemu-nbd. The guests are a few instructions each,
/// on this machine's KVM. Beside it QEMU's microvm with the same kernel, by PVH; beside a snapshot, which
/// that has not, a copy of the same file.
///
/// With --nested, Linux guests on nested KVM in a site of two emulated nodes and a witness: the time from
/// `vm start` to their init, requests to a mirrored volume beside those to a file of the node, moves to the
/// other node and back, idle and under load, and snapshots. All are under emulation of emulation: ratios and
/// times beside each other tell something, the times alone do not.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench vmm\n  cargo xtask bench vmm --rounds 21 --json\n  \
    cargo xtask bench vmm --nested\n  cargo xtask bench vmm --nested --only moves --rounds 2")]
pub struct Vmm {
    /// Linux guests in emulated nodes, in place of small ones on this machine's KVM.
    #[arg(long, conflicts_with_all = ["snapshots", "mib"])]
    nested: bool,
    /// With --nested, only these.
    #[arg(long, value_delimiter = ',', requires = "nested")]
    only: Vec<nested::What>,
    /// How often the contestants take turns [default: 11, and 5 with --nested].
    #[arg(long)]
    rounds: Option<u32>,
    /// How often a guest is written and read back, and how often one writes to disks.
    #[arg(long, default_value_t = 3)]
    snapshots: u32,
    /// MiB of memory that such a guest has written.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=2048))]
    mib: u32,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

/// One guest, from its start to its end.
#[derive(Clone, Copy)]
struct Turn {
    first_ms: f64,
    exit_us: f64,
    own_mib: f64,
    resident_mib: f64,
}

/// A figure, and its unit.
type Figure = (&'static str, fn(&Turn) -> f64, &'static str);

const FIGURES: [Figure; 4] = [
    ("from its start to its first instruction", |turn| turn.first_ms, "ms"),
    ("out of the guest and back (an I/O port)", |turn| turn.exit_us, "us"),
    ("memory beside the guest's: its own", |turn| turn.own_mib, "MiB"),
    ("the same, with programs that guests share", |turn| turn.resident_mib, "MiB"),
];

/// How often the contestants take turns on this machine's KVM, unless it is said.
const ROUNDS: u32 = 11;

pub fn figures(workspace: &Workspace, wanted: &Vmm) -> Result<()> {
    if wanted.nested {
        return nested::figures(wanted);
    }
    let rounds = wanted.rounds.unwrap_or(ROUNDS);
    let bulkhead = released(workspace, "--bin", "bulkhead")?;
    Artefacts::of("bench-vmm", |artefacts| {
        let ours = Monitor::Bulkhead(bulkhead.clone());
        let qemu = Qemu::find(artefacts)?;
        let theirs = qemu.as_ref().ok().map(|qemu| Monitor::Qemu(qemu.clone()));
        let mut rows = Vec::new();
        let mut turns = Vec::new();
        for round in 0..=rounds {
            let name = if round == 0 { "to warm up".into() } else { format!("{round} of {rounds}") };
            step(&format!("bench: round {name}"), || {
                let other = || theirs.as_ref().map(|theirs| guest::turn(artefacts, theirs)).transpose();
                // Whoever comes second meets what is left to do for the first one's end.
                let early = if round % 2 == 0 { other()? } else { None };
                let one = guest::turn(artefacts, &ours)?;
                let other = if early.is_some() { early } else { other()? };
                if round != 0 {
                    turns.push((one, other));
                }
                Ok(String::new())
            })?;
        }
        for (what, figure, unit) in FIGURES {
            let seen = turns.iter().map(|(one, other)| (figure(one), other.as_ref().map(figure)));
            rows.push(Row { what: what.into(), unit, beside: "qemu microvm", seen: seen.collect() });
        }
        for round in 0..wanted.snapshots {
            step(&format!("bench: snapshot {} of {}", round + 1, wanted.snapshots), || {
                snapshots::turn(artefacts, &bulkhead, wanted.mib, &mut rows)?;
                Ok(String::new())
            })?;
        }
        disks::figures(artefacts, &bulkhead, theirs.as_ref(), wanted.snapshots, &mut rows)?;
        report::print(&Subject::here(&qemu), &rows, wanted.json);
        Ok(())
    })
}
