//! `cargo xtask bench log`: durable appends to the write log, beside fio on the same kind of file with the
//! same durability, in turn (P4; V1).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::workspace::Workspace;
use serde_json::{Value, json};

use super::fio::{self, Figures, number};
use super::{median, released};

/// How fast writes become durable in the write log: 4 KiB one by one, 4 KiB with 32 under way, 128 KiB with 8
/// under way; by both ways to make a batch durable, and by threads; beside fio on a file that was written in
/// full, past the page cache, with O_DSYNC: by io_uring, and by as many threads as are under way. All of them
/// run in a real-time class when this user may.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench log\n  cargo xtask bench log --rounds 7 --json")]
pub struct Log {
    /// How often the contestants take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

struct Load {
    name: &'static str,
    blocks: u32,
    depth: u32,
}

const LOADS: [Load; 3] = [
    Load { name: "4 KiB, depth 1", blocks: 1, depth: 1 },
    Load { name: "4 KiB, depth 32", blocks: 1, depth: 32 },
    Load { name: "128 KiB, depth 8", blocks: 32, depth: 8 },
];
/// The first one is the engine's default.
const CONTESTANTS: [&str; 5] = ["linked", "dsync", "threads", "fio io_uring", "fio threads"];

pub fn figures(workspace: &Workspace, wanted: &Log) -> Result<()> {
    let program = released(workspace, "--example", "log_append")?;
    let mut seen: Vec<Vec<Vec<Figures>>> =
        LOADS.iter().map(|_| CONTESTANTS.iter().map(|_| Vec::new()).collect()).collect();
    Artefacts::of("bench-log", |artefacts| {
        let (log, plain) = (artefacts.path("log"), artefacts.path("plain"));
        step("bench: files", || {
            let [first, ..] = &LOADS;
            appended(&program, &log, first, 0.1, "dsync")?;
            fio::fill(in_real_time(Path::new("fio")), &plain, 256)?;
            Ok(String::new())
        })?;
        for round in 1..=wanted.rounds {
            step(&format!("bench: round {round} of {}", wanted.rounds), || {
                for (load, seen) in LOADS.iter().zip(&mut seen) {
                    for (contestant, seen) in CONTESTANTS.iter().zip(seen) {
                        seen.push(match *contestant {
                            "fio io_uring" => by_fio(&plain, load, wanted.seconds, false)?,
                            "fio threads" => by_fio(&plain, load, wanted.seconds, true)?,
                            way => appended(&program, &log, load, wanted.seconds, way)?,
                        });
                    }
                }
                Ok(String::new())
            })?;
        }
        Ok(())
    })?;
    print(&seen, wanted.json);
    Ok(())
}

fn appended(program: &Path, log: &Path, load: &Load, seconds: f64, way: &str) -> Result<Figures> {
    let mut run = in_real_time(program);
    run.arg(log).args([load.blocks.to_string(), load.depth.to_string(), seconds.to_string(), way.to_owned()]);
    let output = run.output().with_context(|| format!("starting {}", program.display()))?;
    ensure!(output.status.success(), "log_append: {}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let (per_second, p50_us) = (number(&answer, "/per_second")?, number(&answer, "/p50_us")?);
    Ok(Figures { per_second, p50_us, p99_us: number(&answer, "/p99_us")? })
}

/// A command in a real-time class, or in the ordinary one where that is not allowed.
fn in_real_time(program: &Path) -> Command {
    let mut probe = Command::new("chrt");
    let may = probe.args(["--rr", "10", "true"]).output().is_ok_and(|output| output.status.success());
    if !may {
        return Command::new(program);
    }
    let mut command = Command::new("chrt");
    command.args(["--rr", "10"]).arg(program);
    command
}

fn by_fio(file: &Path, load: &Load, seconds: f64, by_threads: bool) -> Result<Figures> {
    let (block, depth) = (format!("--bs={}k", load.blocks * 4), load.depth);
    let (time, jobs, depth) =
        (format!("--runtime={seconds}"), format!("--numjobs={depth}"), format!("--iodepth={depth}"));
    let how = match by_threads {
        // Each in a part of its own.
        true => ["--ioengine=psync", "--thread", &jobs, "--offset_increment=8m", "--size=8m"],
        false => ["--ioengine=io_uring", "--thread", &depth, "--offset_increment=0", "--size=256m"],
    };
    let load = ["--rw=write", "--sync=dsync", "--time_based", "--group_reporting"];
    let mut fio = in_real_time(Path::new("fio"));
    fio.args(["--name=log", "--direct=1"]).arg(format!("--filename={}", file.display()));
    fio.args(load).args(how).args([&block, &time]);
    fio::run(fio, "write")
}

fn print(seen: &[Vec<Vec<Figures>>], as_json: bool) {
    let mut all = Vec::new();
    for (load, seen) in LOADS.iter().zip(seen) {
        let (fio, ours) = (seen.last(), seen.first());
        for (contestant, rounds) in CONTESTANTS.iter().zip(seen) {
            let middle = |figure: fn(&Figures) -> f64| {
                let [_, middle, _] = median(rounds.iter().map(figure));
                middle
            };
            let (rate, p50, p99) =
                (middle(|one| one.per_second), middle(|one| one.p50_us), middle(|one| one.p99_us));
            let against = |other: Option<&Vec<Figures>>| {
                let other = other.into_iter().flatten();
                median(rounds.iter().zip(other).map(|(one, other)| one.per_second / other.per_second))
            };
            let (to_fio, to_ours) = (against(fio), against(ours));
            if as_json {
                all.push(json!({
                    "load": load.name, "contestant": contestant, "per_second": rate, "p50_us": p50,
                    "p99_us": p99, "to_fio": to_fio, "to_linked": to_ours,
                }));
                continue;
            }
            let ([low, middle, high], [_, to_linked, _]) = (to_fio, to_ours);
            println!(
                "{:<17} {contestant:<12} {rate:>8.0} a second, p50 {p50:>6.0} us, p99 {p99:>6.0} us; to \
                 fio's threads {middle:.2} ({low:.2} to {high:.2}), to linked {to_linked:.2}",
                load.name
            );
        }
    }
    if as_json {
        println!("{}", json!({ "loads": all }));
    }
}
