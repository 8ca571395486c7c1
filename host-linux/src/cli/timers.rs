//! `bulkhead timers`: from the recovery time that is wanted to every timer, or the reason why not (X06).

use crate::cluster::node_settings::impossible;
use crate::failure::Failure;
use crate::output::Report;
use crate::site_config::value::{parse_time, time};
use bulkhead_core::budget::compile::compile;
use bulkhead_core::budget::demand::Demand;
use bulkhead_core::budget::rules::{Broken, RULES};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::time::{Drift, micros};
use clap::{Args, ValueEnum};
use serde_json::{Map, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Show every timer that follows from a recovery time
///
/// Derives every timer of a site from the recovery time that is wanted and from what the network,
/// the disks and the processors can do, or shows a named set; and says how much room each
/// inequality leaves. What is not said is taken as on a LAN (5ms, 2%, 20ms, 50ms, 10000), with a
/// named set as what the set is made for. When no timers can keep the recovery time, or the named
/// set does not fit, it says which inequality fails, by how much, and exits with 3.
///
/// Examples:
///   bulkhead timers --rto 5s
///   bulkhead timers --rto 800ms --round-trip 2ms --persist 10ms --pause 20ms
///   bulkhead timers --preset tight
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct TimersArgs {
    /// From the death of a master to the next one acting, at the longest
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "preset")]
    rto: Option<Duration>,
    /// A named set instead
    #[arg(long, value_name = "NAME", value_enum)]
    preset: Option<Named>,
    /// Longest round trip between two nodes
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    round_trip: Option<Duration>,
    /// Heartbeats that a network may lose, in per cent, up to 30
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss: Option<u32>,
    /// Longest time until a voter's write is durable
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    persist: Option<Duration>,
    /// Longest time an agent waits for a processor
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pause: Option<Duration>,
    /// How far any clock may be off, in parts per million
    #[arg(long, value_name = "PPM", value_parser = ppm)]
    drift: Option<Drift>,
    /// Longest time a fencing device takes
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    fence: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Named {
    /// One rack: takeover within 200 ms
    Tight,
    /// A LAN: takeover within a second
    Default,
    /// Compartments a city apart
    Wide,
}

/// Per mille from per cent.
fn percent(text: &str) -> Result<u32, String> {
    let number: Option<u32> = text.trim_end_matches('%').parse().ok();
    let permille = number.and_then(|percent| percent.checked_mul(10)).filter(|permille| *permille <= 300);
    permille.ok_or_else(|| format!("`{text}` is not a loss; write whole per cent up to 30, such as 10%"))
}

fn ppm(text: &str) -> Result<Drift, String> {
    let drift = text.parse().ok().and_then(Drift::from_ppm);
    drift
        .ok_or_else(|| format!("`{text}` is no drift; write parts per million up to {}", Drift::MAX.as_ppm()))
}

pub(super) fn timers(args: &TimersArgs) -> Result<Report, Failure> {
    let Some(named) = args.preset else {
        let demand = Demand { fence: None, ..Demand::LAN };
        let demand = said(args, demand);
        let timers = compile(&demand).map_err(|broken| impossible(&demand, &broken))?;
        return Ok(report(&timers, &demand));
    };
    let (name, timers, made_for) = match named {
        Named::Tight => ("tight", Timers::TIGHT, Demand::RACK),
        Named::Default => ("default", Timers::DEFAULT, Demand::LAN),
        Named::Wide => ("wide", Timers::WIDE, Demand::METRO),
    };
    let demand = said(args, made_for);
    timers.check(&demand).map_err(|broken| unfit(name, &broken))?;
    Ok(report(&timers, &demand))
}

/// What the operator said, over what is taken otherwise.
fn said(args: &TimersArgs, otherwise: Demand) -> Demand {
    Demand {
        recovery_time: args.rto.unwrap_or(otherwise.recovery_time),
        drift: args.drift.unwrap_or(otherwise.drift),
        round_trip: args.round_trip.unwrap_or(otherwise.round_trip),
        loss_permille: args.loss.unwrap_or(otherwise.loss_permille),
        persist: args.persist.unwrap_or(otherwise.persist),
        pause: args.pause.unwrap_or(otherwise.pause),
        fence: args.fence.or(otherwise.fence),
    }
}

/// Why a named set is not for this site, and what is.
fn unfit(name: &str, broken: &Broken) -> Failure {
    let Broken { rule, why, found, needed } = broken;
    let short = time(needed.saturating_sub(*found));
    let (found, needed) = (time(*found), time(*needed));
    let what = format!(
        "the set `{name}` does not fit this site: `{rule}` is {found} >= {needed}, {short} short; else {why}"
    );
    Failure::refused(what)
        .next("take a wider set, or let `bulkhead timers --rto TIME` derive one with the same options")
}

fn report(timers: &Timers, demand: &Demand) -> Report {
    let mut text = String::new();
    let takeover = timers.takeover(demand);
    let _ =
        writeln!(text, "takeover   {:>9}  from the death of a master to the next one acting", time(takeover));
    let mut all = Map::new();
    for (name, value, what) in lines(timers) {
        let _ = writeln!(text, "{name:<10} {:>9}  {what}", time(value));
        all.insert(name.to_owned(), json!(micros(value)));
    }
    let _ = writeln!(text, "\nroom  inequality");
    let mut rules = Vec::new();
    for rule in RULES {
        let (found, needed) = ((rule.at_least)(timers, demand), (rule.needed)(timers, demand));
        let holds = needed <= found;
        let room = if holds { time(found.saturating_sub(needed)) } else { "NONE".to_owned() };
        let _ = writeln!(
            text,
            "{room:>8}  {}: {} >= {}; else {}",
            rule.name,
            time(found),
            time(needed),
            rule.why
        );
        rules.push(json!({
            "rule": rule.name,
            "holds": holds,
            "foundMicroseconds": micros(found),
            "neededMicroseconds": micros(needed),
            "protects": rule.why,
        }));
    }
    let json = json!({
        "ok": true,
        "takeoverMicroseconds": micros(takeover),
        "timersMicroseconds": all,
        "rules": rules,
    });
    Report::new(text, json)
}

const fn lines(timers: &Timers) -> [(&'static str, Duration, &'static str); 13] {
    [
        ("heartbeat", timers.heartbeat, "each peer is told on each network that a node is alive"),
        ("slow", timers.slow, "a peer not heard for longer, or with a longer round trip, is slow"),
        ("silence", timers.silence, "a peer not heard for longer is silent"),
        ("stable", timers.stable, "a silent peer heard for this long without a gap is up again"),
        ("lease", timers.lease, "how long a master may act without being heard by the voters"),
        ("renew", timers.renew, "how often it asks them for more"),
        ("answer", timers.answer_max, "how long a voter's answer is waited for"),
        ("backoff", timers.backoff, "least pause before another attempt at a register"),
        ("watch", timers.watch, "how often those who follow ask who holds a register"),
        ("listen", timers.listen, "how long a node that starts listens for a master"),
        ("turn", timers.stagger, "how much later each next candidate asks"),
        ("activate", timers.activate, "how often a lone master asks for its missing peer"),
        ("fence", timers.fence, "how long a fencing device may take"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TimersArgs,
    }

    fn run(line: &[&str]) -> Result<Report, Failure> {
        timers(&Line::try_parse_from([&["timers"], line].concat()).unwrap().args)
    }

    #[test]
    fn a_recovery_time_gives_timers_that_keep_it() {
        let report = run(&["--rto", "5s", "--loss", "10%"]).unwrap();
        assert!(report.json["takeoverMicroseconds"].as_u64().unwrap() <= 5_000_000, "{}", report.text);
        assert!(report.json["rules"].as_array().unwrap().iter().all(|rule| rule["holds"] == true));
        assert!(!report.text.contains("NONE"), "{}", report.text);
    }

    /// X06: the failing inequality, by how much, and what would help; exit code 3.
    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        let failure = run(&["--rto", "200ms"]).unwrap_err();
        assert_eq!(failure.exit.code(), 3);
        assert!(failure.what.contains(">="), "{}", failure.what);
        assert!(failure.next.contains("longer recovery time"), "{}", failure.next);
    }

    #[test]
    fn the_named_sets_are_shown() {
        assert!(run(&["--preset", "default"]).unwrap().text.contains("600ms"));
        for (preset, within) in [("tight", 200_000), ("default", 1_000_000), ("wide", 10_000_000)] {
            let report = run(&["--preset", preset]).unwrap();
            assert!(report.json["takeoverMicroseconds"].as_u64().unwrap() < within, "{}", report.text);
            assert!(report.json["rules"].as_array().unwrap().iter().all(|rule| rule["holds"] == true));
        }
        assert!(Line::try_parse_from(["timers", "--loss", "31%"]).is_err());
        assert!(Line::try_parse_from(["timers", "--drift", "200000"]).is_err());
    }

    /// X06: a named set is no exception: where it breaks an inequality it is refused, not shown.
    #[test]
    fn a_named_set_that_does_not_fit_is_refused() {
        for line in [["--preset", "tight", "--pause", "50ms"], ["--preset", "default", "--persist", "200ms"]]
        {
            let failure = run(&line).unwrap_err();
            assert_eq!(failure.exit.code(), 3, "{line:?}");
            assert!(failure.what.contains("short"), "{}", failure.what);
        }
    }
}
