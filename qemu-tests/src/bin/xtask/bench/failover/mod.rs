//! `cargo xtask bench failover`: how long nobody acts after the master was killed, what the watching costs,
//! and how often load alone makes somebody take over; beside keepalived and pacemaker, in the same run.

mod arena;
mod contestant;
mod kinds;
mod report;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use arena::TICKS_PER_SECOND;
use contestant::Contestant;
use kinds::Kind;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;
use qemu_tests::tooling::command::find;
use qemu_tests::tooling::packages::Need;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{programs, setup};
use report::{Cost, Figures};

/// From the `kill -9` of everything on the master's host to the other one acting; processor time and bytes
/// of the watching; takeovers that load alone causes. Bulkhead, keepalived (VRRP) and corosync with
/// pacemaker run in namespaces, each with its own two networks, at their defaults and at tight settings.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench failover\n  \
    cargo xtask bench failover --rounds 15 --load-seconds 300 --json\n\n\
    Needs root. `Acts` is when the role's own notification comes out: the event of our agent, the line in\n\
    keepalived's notify_fifo, the start of the resource by pacemaker. Compare within a run. What was seen\n\
    so far, and what it means: docs/benchmarks.md.")]
pub struct Failover {
    /// Rounds; in each, every contestant loses its master once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for which all are watched with nothing else going on.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    idle_seconds: u64,
    /// Seconds of full load on all processors and much of the memory; 0 leaves the load out.
    #[arg(long, default_value_t = 60)]
    load_seconds: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn figures(workspace: &Workspace, wanted: &Failover) -> Result<()> {
    setup::packages(workspace, Need::Everything)?;
    setup::packages(workspace, Need::Bench)?;
    for tool in ["unshare", "nsenter", "setpriv", "ip", "keepalived", "corosync", "pacemakerd", "stress-ng"] {
        if find(tool).is_none() {
            bail!("{tool} is not here. Nothing was started");
        }
    }
    let program = programs::bulkhead(workspace)?;
    Artefacts::of("bench-failover", |artefacts| {
        let load_before = report::load_average();
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
            let directory = artefacts.directory().join(format!("contestant-{number}"));
            all.push((Contestant::start(name, kind, &directory)?, Figures::default()));
        }
        for round in 1..=wanted.rounds {
            for (contestant, figures) in &mut all {
                let took = attempt(contestant, figures, |contestant| {
                    contestant.settle()?;
                    contestant.fail_over()
                })?;
                figures.takeovers_ms.extend(took.map(|took| took.as_secs_f64() * 1e3));
            }
            eprintln!("  round {round} of {}", wanted.rounds);
        }
        cost(&mut all, Duration::from_secs(wanted.idle_seconds))?;
        if wanted.load_seconds > 0 {
            load(&mut all, wanted.load_seconds)?;
        }
        report::print(wanted, &all, &load_before);
        Ok(())
    })
}

/// Carries out `what`, unless the contestant was given up. A failure of ours ends the run; another contestant
/// is given up, with the reason.
fn attempt<T>(
    contestant: &mut Contestant,
    figures: &mut Figures,
    what: impl FnOnce(&mut Contestant) -> Result<T>,
) -> Result<Option<T>> {
    if figures.lost.is_some() {
        return Ok(None);
    }
    match what(contestant) {
        Ok(done) => Ok(Some(done)),
        Err(error) if contestant.is_ours() => Err(error),
        Err(error) => {
            eprintln!("  {error:#}; it is given up");
            figures.lost = Some(format!("{error:#}"));
            Ok(None)
        }
    }
}

/// Processor time and bytes of everybody at once, with nothing going on.
fn cost(all: &mut [(Contestant, Figures)], time: Duration) -> Result<()> {
    for (contestant, figures) in all.iter_mut() {
        attempt(contestant, figures, Contestant::settle)?;
    }
    let look = |contestant: &Contestant| {
        let hosts = 0..contestant.hosts();
        let one = |host| Ok((Instant::now(), contestant.arena.ticks(host)?, contestant.arena.sent(host)?));
        hosts.map(one).collect::<Result<Vec<_>>>()
    };
    let mut before = Vec::new();
    for (contestant, figures) in all.iter_mut() {
        before.push(attempt(contestant, figures, |contestant| look(contestant))?.unwrap_or_default());
    }
    eprintln!("  nothing goes on for {} s", time.as_secs());
    thread::sleep(time);
    for ((contestant, figures), before) in all.iter_mut().zip(before) {
        let now = attempt(contestant, figures, |contestant| look(contestant))?.unwrap_or_default();
        for (host, ((began, old_ticks, old), (ended, ticks, sent))) in before.iter().zip(&now).enumerate() {
            let seconds = ended.duration_since(*began).as_secs_f64();
            let per_second = |old: u64, new: u64| {
                f64::from(u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX)) / seconds
            };
            let ([old_one, old_two], [one, two]) = (*old, *sent);
            figures.costs.push(Cost {
                processor_permille: per_second(*old_ticks, *ticks) / TICKS_PER_SECOND * 1e3,
                bytes_per_second: [per_second(old_one, one), per_second(old_two, two)],
                is_master: host == contestant.master,
            });
        }
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
    let begin = Instant::now();
    let mut stress = Owned::start(&stress, [Stdio::null(), Stdio::null(), Stdio::null()])?;
    let ended = stress.wait(Duration::from_secs(seconds + 60))?;
    ensure!(ended.is_some_and(|status| status.success()), "stress-ng failed");
    // What load began may end a moment after it.
    thread::sleep(Duration::from_secs(2));
    for (contestant, figures) in all.iter_mut().filter(|(_, figures)| figures.lost.is_none()) {
        let mut was = contestant.master;
        let takeovers = contestant.takeovers();
        for act in &takeovers {
            let (after, who) =
                (act.at.duration_since(begin), if act.host == was { "again" } else { "the other" });
            eprintln!("  {}, {:.1} s: {who}: {}", contestant.name, after.as_secs_f64(), act.line);
            was = act.host;
        }
        figures.false_takeovers = Some(takeovers.len());
    }
    Ok(())
}
