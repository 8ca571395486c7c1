//! `cargo xtask soak`: the simulator for as long as told, on all cores. What CI runs in five minutes, for a
//! night. And the models within wider bounds, to their end.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bulkhead::site_config::value::parse_time;
use bulkhead_sim::plan::PROFILES;
use bulkhead_sim::run::{Options, Outcome, run};
use qemu_tests::losses::script::{Act, parse_act};
use qemu_tests::tooling::setup;
use qemu_tests::tooling::toolchain::own_cargo;
use qemu_tests::tooling::workspace::Workspace;

/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(10);

/// Run simulated sites for as long as told, on all cores, and stop at the first violation.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask soak                       ten minutes\n  \
    cargo xtask soak --minutes 480         a night\n  \
    cargo xtask soak --seed 20000          begin after the seeds that CI runs\n  \
    cargo xtask soak --models              every order of events, a few minutes\n  \
    cargo xtask soak --witness             the firmware witness: 400 power cuts, a flood of 1 million\n  \
    cargo xtask soak --losses --for 2h     guests, and every pair of losses; then by chance\n  \
    cargo xtask soak --losses --seed 7 --json > report.json\n  \
    cargo xtask soak --losses --only power-leads,witness --for 1min")]
pub struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The first seed, 20000 unless said; a new one each day finds more than the same one every day. With
    /// `--losses` another one each time, which is shown.
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes in each compartment.
    #[arg(long, default_value_t = 1)]
    nodes: u16,
    /// Instead: visit every order of events within wider bounds than CI does (core/model), to the end.
    #[arg(long, conflicts_with_all = ["minutes", "seed", "nodes"])]
    models: bool,
    /// Instead: the tests of the firmware witness in QEMU, with more power cuts and a longer flood than in
    /// CI.
    #[arg(long, conflicts_with_all = ["minutes", "seed", "nodes", "models"])]
    witness: bool,
    /// Instead: guests on a pair of nodes on this machine (`/dev/kvm`), which loses links, nodes, agents,
    /// stores and its witness: each, all pairs in both orders, then by chance.
    #[arg(long, conflicts_with_all = ["minutes", "nodes", "models", "witness"])]
    losses: bool,
    /// With `--losses`: how long, such as 90s, 10min or 2h.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, default_value = "10min",
        requires = "losses")]
    pub span: Duration,
    /// With `--losses`: these alone, in this order, again and again; several of these, in turn.
    #[arg(long, value_name = "LOSS,LOSS", value_parser = parse_act, requires = "losses")]
    pub only: Vec<Act>,
    /// With `--losses`: this `bulkhead`, in place of one that is built as it is shipped.
    #[arg(long, value_name = "PATH", requires = "losses")]
    pub program: Option<PathBuf>,
    /// With `--losses`: the report as JSON on standard output; progress is on standard error.
    #[arg(long, requires = "losses")]
    pub json: bool,
}

impl Arguments {
    /// The seed that was said.
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }
}

/// The first seed behind those that CI runs.
const SEED: u64 = 20_000;

#[derive(Default)]
struct Sum {
    seeds: u64,
    simulated: u64,
    failed: Option<(Options, Outcome)>,
    shown: Duration,
}

impl Sum {
    fn line(&self, took: Duration) -> String {
        let hours = self.simulated as f64 / 3.6e9;
        let rate = hours / took.as_secs_f64().max(0.001);
        format!("{} seeds, {hours:.1} simulated hours, {rate:.2} simulated hours per second", self.seeds)
    }
}

pub fn soak(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.models {
        return models(workspace);
    }
    if arguments.witness {
        return witness(workspace);
    }
    if arguments.losses {
        return super::losses::losses(workspace, arguments);
    }
    let (begun, end) = (Instant::now(), Duration::from_secs(arguments.minutes.saturating_mul(60)));
    let (sum, next) = (Mutex::new(Sum::default()), AtomicU64::new(arguments.seed.unwrap_or(SEED)));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| while begun.elapsed() < end && one(arguments, &sum, &next, begun) {});
        }
    });
    let Ok(sum) = sum.into_inner() else { bail!("a simulated site panicked; its message is above") };
    println!("{}", sum.line(begun.elapsed()));
    let Some((options, outcome)) = sum.failed else { return Ok(()) };
    outcome.trace.iter().for_each(|line| println!("{line}"));
    let (profile, nodes) = (options.profile.name(), options.per_side);
    let stores = if options.stores { " --stores" } else { "" };
    let what = outcome.violation.map(|violation| violation.text).unwrap_or_default();
    bail!(
        "seed {}: {what}\nreplay: bulkhead sim --seed {} --profile {profile} --nodes {nodes}{stores} --trace",
        options.seed,
        options.seed
    );
}

/// One model after the other: each line says how much of what was visited.
fn models(workspace: &Workspace) -> Result<()> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-model", "--test", "models", "--", "--nocapture"]);
    let status = cargo.args(["--test-threads", "1"]).env("BULKHEAD_MODEL", "wide").status()?;
    ensure!(status.success(), "a model found a violation; the steps that lead to it are above");
    Ok(())
}

fn witness(workspace: &Workspace) -> Result<()> {
    setup::everything(workspace)?;
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "qemu-tests", "--test", "e2e", "--", "witness::", "witness_hostile::"]);
    let status = cargo.args(["--nocapture", "--test-threads", "1"]).env("BULKHEAD_SOAK", "1").status()?;
    ensure!(status.success(), "the firmware witness failed; what it did is above");
    Ok(())
}

/// Runs the next seed; `false` when nobody should go on.
fn one(arguments: &Arguments, sum: &Mutex<Sum>, next: &AtomicU64, begun: Instant) -> bool {
    let seed = next.fetch_add(1, Ordering::Relaxed);
    let place = usize::try_from(seed % PROFILES.len() as u64).unwrap_or(0);
    let profile = PROFILES.into_iter().cycle().nth(place).unwrap_or(PROFILES[0]);
    // A quarter of them, of every profile, with a mirror group.
    let (per_side, stores) = (arguments.nodes, seed / 8 % 4 == 3);
    let options = Options { seed, profile, per_side, stores, whole_trace: false };
    let outcome = run(&options);
    let Ok(mut sum) = sum.lock() else { return false };
    sum.seeds += 1;
    sum.simulated += outcome.simulated;
    let took = begun.elapsed();
    if sum.shown + SHOWN_EVERY <= took {
        sum.shown = took;
        println!("{}", sum.line(took));
    }
    if outcome.violation.is_some() && sum.failed.is_none() {
        sum.failed = Some((options, outcome));
    }
    sum.failed.is_none()
}
