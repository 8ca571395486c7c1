//! `cargo xtask bench failover`: how long nobody acts after the master was killed, what the watching costs,
//! and how often load alone makes somebody take over; beside keepalived and pacemaker, in the same run.

mod arena;
mod contestant;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use arena::TICKS_PER_SECOND;
use contestant::{Contestant, Kind, check_tools};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;
use qemu_tests::tooling::packages::Need;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{programs, setup};
use serde_json::json;

use super::median;

/// From the `kill -9` of everything on the master's host to the other one acting; processor time and bytes
/// of the watching; takeovers that load alone causes. Bulkhead, keepalived (VRRP) and corosync with
/// pacemaker run in network namespaces, each with its own two networks, at their defaults and at tight
/// settings.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench failover\n  \
    cargo xtask bench failover --rounds 15 --load-seconds 300 --json\n\n\
    Needs root. `Acts` is when the role's own notification comes out: the event of our agent, the line in\n\
    keepalived's notify_fifo, the start of the resource by pacemaker. Compare within a run.")]
pub struct Failover {
    /// Rounds; in each, every contestant loses its master once.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Seconds for which all are watched with nothing else going on.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Seconds of full load on all processors and most of the memory.
    #[arg(long, default_value_t = 60)]
    load_seconds: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What one contestant showed.
#[derive(Debug, Default)]
struct Figures {
    takeovers_ms: Vec<f64>,
    /// Processor time of one node, of a thousand.
    processor_permille: f64,
    /// That one node sends, on both networks.
    bytes_per_second: f64,
    /// Takeovers under load.
    false_takeovers: usize,
    /// It stayed away after a round: it is not waited for any more.
    lost: bool,
}

pub fn figures(workspace: &Workspace, wanted: &Failover) -> Result<()> {
    setup::packages(workspace, Need::Everything)?;
    setup::packages(workspace, Need::Bench)?;
    check_tools()?;
    let program = programs::bulkhead(workspace)?;
    Artefacts::of("bench-failover", |artefacts| {
        let bulkhead = |preset| Kind::Bulkhead { program: program.clone(), preset };
        let kinds = [
            ("bulkhead, default", bulkhead("default")),
            ("bulkhead, tight", bulkhead("tight")),
            ("keepalived, 1 s", Kind::Keepalived { interval_ms: 1000 }),
            ("keepalived, 50 ms", Kind::Keepalived { interval_ms: 50 }),
            ("pacemaker, token 3 s", Kind::Pacemaker { token_ms: None }),
            ("pacemaker, token 300 ms", Kind::Pacemaker { token_ms: Some(300) }),
        ];
        let mut all = Vec::new();
        for (number, (name, kind)) in kinds.into_iter().enumerate() {
            all.push((Contestant::start(name, kind, artefacts.directory(), number)?, Figures::default()));
        }
        for round in 1..=wanted.rounds {
            for (contestant, figures) in all.iter_mut().filter(|(_, figures)| !figures.lost) {
                match contestant.settle().and_then(|()| contestant.fail_over()) {
                    Ok(took) => figures.takeovers_ms.push(took.as_secs_f64() * 1e3),
                    Err(error) if contestant.is_ours() => return Err(error),
                    Err(error) => {
                        eprintln!("  {error:#}; it is left out from round {round} on");
                        figures.lost = true;
                    }
                }
            }
            eprintln!("  round {round} of {}", wanted.rounds);
        }
        cost(&mut all, Duration::from_secs(wanted.idle_seconds))?;
        load(&mut all, wanted.load_seconds)?;
        report(wanted, &all);
        Ok(())
    })
}

/// Processor time and bytes of everybody at once, with nothing going on.
fn cost(all: &mut [(Contestant, Figures)], time: Duration) -> Result<()> {
    for (contestant, _) in all.iter_mut().filter(|(_, figures)| !figures.lost) {
        contestant.settle()?;
    }
    let look = |contestant: &Contestant| {
        let arena = &contestant.arena;
        Ok::<_, anyhow::Error>((arena.ticks(contestant.master)?, arena.bytes(contestant.master)?))
    };
    let begin = Instant::now();
    let before = all.iter().map(|(contestant, _)| look(contestant)).collect::<Result<Vec<_>>>()?;
    eprintln!("  nothing goes on for {} s", time.as_secs());
    thread::sleep(time);
    for ((contestant, figures), (ticks, bytes)) in all.iter_mut().zip(before) {
        let (now_ticks, now_bytes) = look(contestant)?;
        let seconds = begin.elapsed().as_secs_f64();
        let per_second = |more: u64| f64::from(u32::try_from(more).unwrap_or(u32::MAX)) / seconds;
        figures.processor_permille = per_second(now_ticks.saturating_sub(ticks)) / TICKS_PER_SECOND * 1e3;
        figures.bytes_per_second = per_second(now_bytes.saturating_sub(bytes));
    }
    Ok(())
}

/// Full load, with everybody's master alive: who takes over now does so for nothing.
fn load(all: &mut [(Contestant, Figures)], seconds: u64) -> Result<()> {
    for (contestant, _) in all.iter_mut() {
        let _ = contestant.takeovers();
    }
    eprintln!("  full load for {seconds} s");
    let mut stress = Command::new("stress-ng");
    let processors = thread::available_parallelism().map_or(2, usize::from) * 2;
    stress.args(["--cpu", &processors.to_string(), "--vm", "2", "--vm-bytes", "40%", "--quiet"]);
    stress.args(["--timeout", &format!("{seconds}s")]);
    let mut stress = Owned::start(&stress, [Stdio::null(), Stdio::null(), Stdio::null()])?;
    let ended = stress.wait(Duration::from_secs(seconds + 60))?;
    ensure!(ended.is_some_and(|status| status.success()), "stress-ng failed");
    // What load began may end a moment after it.
    thread::sleep(Duration::from_secs(2));
    for (contestant, figures) in all {
        figures.false_takeovers = contestant.takeovers();
    }
    Ok(())
}

fn report(wanted: &Failover, all: &[(Contestant, Figures)]) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if wanted.json {
        let rows: Vec<_> = all
            .iter()
            .map(|(contestant, figures)| {
                json!({
                    "name": contestant.name,
                    "takeover_ms": figures.takeovers_ms,
                    "processor_permille": figures.processor_permille,
                    "bytes_per_second": figures.bytes_per_second,
                    "takeovers_under_load": figures.false_takeovers,
                    "stayed_away": figures.lost,
                })
            })
            .collect();
        let json =
            json!({ "contestants": rows, "load_seconds": wanted.load_seconds, "loadavg": load.trim() });
        println!("{json}");
        return;
    }
    println!(
        "\n{:<24} {:^26} {:>12} {:>10}   takeovers in {} s",
        "", "takeover, ms", "processor", "sends", wanted.load_seconds
    );
    println!(
        "{:<24} {:>8} {:>8} {:>8} {:>12} {:>10}   of full load",
        "", "min", "median", "max", "of 1000", "bytes/s"
    );
    for (contestant, figures) in all {
        let [least, middle, most] = median(figures.takeovers_ms.iter().copied());
        println!(
            "{:<24} {least:8.0} {middle:8.0} {most:8.0} {:12.1} {:10.0}   {}{}",
            contestant.name,
            figures.processor_permille,
            figures.bytes_per_second,
            figures.false_takeovers,
            if figures.lost { ", stayed away after a restart" } else { "" }
        );
    }
    if let [(_, ours), (_, tight), (_, vrrp), (_, vrrp_tight), (_, pacemaker), (_, pacemaker_tight)] = all {
        let ratio = |ours: &Figures, theirs: &Figures| {
            median(ours.takeovers_ms.iter().zip(&theirs.takeovers_ms).map(|(ours, theirs)| ours / theirs))
        };
        println!("\nratios within a round (min median max)");
        for (name, [least, middle, most]) in [
            ("default / keepalived, 1 s", ratio(ours, vrrp)),
            ("default / pacemaker, token 3 s", ratio(ours, pacemaker)),
            ("tight / keepalived, 50 ms", ratio(tight, vrrp_tight)),
            ("tight / pacemaker, token 300 ms", ratio(tight, pacemaker_tight)),
        ] {
            println!("{name:<32} {least:6.3} {middle:6.3} {most:6.3}");
        }
    }
    println!("\nload average at the end: {}", load.trim());
}
