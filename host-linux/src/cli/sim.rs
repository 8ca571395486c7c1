//! `bulkhead sim`: the simulator that tests Bulkhead itself, for those who want to see it torn apart before
//! they trust it (X22, BLACKBOX 5).

use super::Common;
use crate::failure::Failure;
use crate::output::Report;
use bulkhead_sim::plan::{PROFILES, Profile};
use bulkhead_sim::run::{Options, Outcome, run};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Run a simulated site through everything that can go wrong
///
/// Runs two compartments and a witness, with the code of the real agent, on simulated clocks,
/// networks and disks. The seed determines everything, also whether the site has the default timers
/// or the tight ones: the same seed gives the same hash on every machine. Faults come first, and
/// two masters at one instant, a lost promise or an epoch held twice end the run; with a mirror
/// group also a lost write, and a read that shows anything else than was acknowledged; then all is
/// repaired, and one master and its slaves must be there in time.
/// Exit code 0: nothing was violated; 1: something was, and the trace says how it came.
///
/// Profiles: calm, lossy, partitions, crashes, pauses, witness, disks, everything.
///
/// Examples:
///   bulkhead sim --seed 7
///   bulkhead sim --seed 1 --seeds 1000 --profile partitions
///   bulkhead sim --seed 7 --trace
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Sim {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    seeds: u64,
    /// Which faults are allowed
    #[arg(long, value_name = "PROFILE", default_value = "everything", value_parser = profile)]
    profile: Profile,
    /// Nodes in each compartment
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=8))]
    nodes: u16,
    /// The nodes hold a mirror group, and guests write into it
    #[arg(long)]
    stores: bool,
    /// Plant a bug of the catalogue, or `list` them; needs a build with the feature `bugs`
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Print everything that happened
    #[arg(long)]
    trace: bool,
}

fn profile(text: &str) -> Result<Profile, String> {
    let names = || PROFILES.map(Profile::name).join(", ");
    let found = PROFILES.into_iter().find(|profile| profile.name() == text);
    found.ok_or_else(|| format!("there is no profile `{text}`; there are {}", names()))
}

pub(super) fn sim(args: &Sim, _common: &Common) -> Result<Report, Failure> {
    match args.bug.as_deref() {
        Some("list") => return Ok(bugs()),
        Some(name) => plant(name)?,
        None => {}
    }
    let last = args.seed.saturating_add(args.seeds);
    let (mut text, mut simulated, mut hash) = (String::new(), 0_u64, 0_u64);
    for seed in args.seed..last {
        let outcome = run(&options(args, seed));
        simulated = simulated.saturating_add(outcome.simulated);
        // One number for all seeds: each turns the hash of those before it.
        hash = hash.rotate_left(1) ^ outcome.hash;
        if outcome.violation.is_some() || args.trace {
            for line in &outcome.trace {
                text.push_str(line);
                text.push('\n');
            }
        }
        if outcome.violation.is_some() {
            return Ok(violated(args, seed, &outcome, text));
        }
    }
    let seconds = simulated / 1_000_000;
    let (first, count, profile) = (args.seed, args.seeds, args.profile.name());
    let seeds = if count == 1 {
        format!("seed {first}")
    } else {
        format!("seeds {first} to {}", last.saturating_sub(1))
    };
    let _ = writeln!(text, "{seeds}, profile {profile}: nothing violated in {seconds} simulated seconds");
    let _ = writeln!(text, "hash {hash:016x}");
    let json = json!({
        "ok": true,
        "seed": first,
        "seeds": count,
        "profile": profile,
        "simulatedSeconds": seconds,
        "hash": format!("{hash:016x}"),
        "violation": Value::Null,
    });
    Ok(Report::new(text, json))
}

fn options(args: &Sim, seed: u64) -> Options {
    let (per_side, stores) = (args.nodes, args.stores);
    Options { seed, profile: args.profile, per_side, stores, whole_trace: args.trace }
}

fn violated(args: &Sim, seed: u64, outcome: &Outcome, mut text: String) -> Report {
    let what = outcome.violation.as_ref().map(|violation| violation.text.as_str()).unwrap_or_default();
    let at = outcome.violation.as_ref().map_or(0, |violation| violation.at);
    let bug = args.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    let (profile, nodes) = (args.profile.name(), args.nodes);
    let stores = if args.stores { " --stores" } else { "" };
    let replay =
        format!("bulkhead sim --seed {seed} --profile {profile} --nodes {nodes}{stores}{bug} --trace");
    let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
    let _ = writeln!(text, "seed {seed}, profile {profile}: at {seconds}.{micros:06} s: {what}");
    let _ = writeln!(text, "hash {:016x}", outcome.hash);
    let _ = writeln!(text, "replay: {replay}");
    let json = json!({
        "ok": false,
        "seed": seed,
        "profile": profile,
        "hash": format!("{:016x}", outcome.hash),
        "violation": { "atMicroseconds": at, "what": what },
        "replay": replay,
    });
    Report { code: 1, ..Report::new(text, json) }
}

#[cfg(feature = "bugs")]
fn bugs() -> Report {
    use bulkhead_core::bug::{BUGS, Layer};
    let line = |name: &str, layer| match layer {
        Layer::Site => format!("{name}\n"),
        Layer::Group => format!("{name}  (with --stores)\n"),
        Layer::Guests => format!("{name}  (a site with guests finds it: core/sim/tests/bugs.rs)\n"),
        Layer::Register => format!("{name}  (rare in a site; the walk of the register finds it)\n"),
    };
    let text = BUGS.iter().map(|planted| line(planted.name, planted.layer)).collect();
    let names: Vec<_> = BUGS.iter().map(|planted| planted.name).collect();
    Report::new(text, json!({ "ok": true, "bugs": names }))
}

#[cfg(feature = "bugs")]
fn plant(name: &str) -> Result<(), Failure> {
    use bulkhead_core::bug::{BUGS, plant};
    let planted = BUGS.iter().find(|planted| planted.name == name);
    let Some(planted) = planted else {
        let failure = Failure::usage(format!("there is no planted bug `{name}`"));
        return Err(failure.next("`bulkhead sim --bug list` names them"));
    };
    plant(Some(planted.bug));
    Ok(())
}

#[cfg(not(feature = "bugs"))]
fn bugs() -> Report {
    let text = "this build has no planted bugs; `cargo run -p bulkhead --features bugs -- sim --bug list`\n";
    Report::new(text.to_owned(), json!({ "ok": true, "bugs": [] }))
}

#[cfg(not(feature = "bugs"))]
fn plant(name: &str) -> Result<(), Failure> {
    let failure = Failure::usage(format!("this build has no planted bugs, so not `{name}` either"));
    Err(failure.next("`cargo run -p bulkhead --features bugs -- sim --bug NAME` builds one that has"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(seeds: u64) -> Sim {
        Sim { seed: 3, seeds, profile: Profile::Crashes, nodes: 1, stores: false, bug: None, trace: false }
    }

    fn common() -> Common {
        Common { json: false, root: "/".into() }
    }

    /// BLACKBOX 5: exit 0, the seed and a hash; the same seed twice gives the same hash.
    #[test]
    fn a_seed_gives_one_answer() {
        let once = sim(&args(2), &common()).unwrap();
        assert_eq!(once.code, 0);
        assert!(once.text.contains("seeds 3 to 4") && once.text.contains("hash "), "{}", once.text);
        assert_eq!(once, sim(&args(2), &common()).unwrap());
        assert_ne!(once.json["hash"], sim(&args(1), &common()).unwrap().json["hash"]);
    }

    #[test]
    fn a_bug_that_is_not_there_cannot_be_planted() {
        let failure = sim(&Sim { bug: Some("no-such-bug".into()), ..args(1) }, &common()).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        assert!(profile("no-such-profile").unwrap_err().contains("partitions"));
    }
}
