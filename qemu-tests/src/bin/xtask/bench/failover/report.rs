//! What the run showed, as a table or as JSON.

use std::fs;

use serde_json::{Value, json};

use super::super::median;
use super::Failover;
use super::contestant::Contestant;

/// What one contestant showed.
#[derive(Debug, Default)]
pub struct Figures {
    /// Of each round.
    pub takeovers_ms: Vec<f64>,
    /// What each host costs while nothing goes on.
    pub costs: Vec<Cost>,
    /// Takeovers under load.
    pub false_takeovers: Option<usize>,
    /// Why it is not waited for any more.
    pub lost: Option<String>,
}

/// What a host costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time, of a thousand.
    pub processor_permille: f64,
    /// What it sends on each network.
    pub bytes_per_second: [f64; 2],
    /// Whether it is the one that acts.
    pub is_master: bool,
}

/// Whose takeovers are compared: places in the list of contestants.
const PAIRS: [(usize, usize); 4] = [(0, 2), (0, 4), (1, 3), (1, 5)];

/// The load average, for whoever reads the figures later.
pub fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

pub fn print(wanted: &Failover, all: &[(Contestant, Figures)], load_before: &str) {
    let rows: Vec<_> = all.iter().map(|(one, figures)| (one.name.as_str(), figures)).collect();
    if wanted.json {
        println!("{}", as_json(wanted, &rows, load_before));
    } else {
        print_table(wanted, &rows, load_before);
    }
}

fn as_json(wanted: &Failover, rows: &[(&str, &Figures)], load_before: &str) -> Value {
    let contestants: Vec<_> = rows
        .iter()
        .map(|(name, figures)| {
            let hosts = figures.costs.iter().map(|cost| {
                json!({
                    "processor_permille": cost.processor_permille,
                    "sent_bytes_per_second": cost.bytes_per_second,
                    "master": cost.is_master,
                })
            });
            json!({
                "name": name,
                "takeover_ms": figures.takeovers_ms,
                "takeover_ms_min_median_max": median(figures.takeovers_ms.iter().copied()),
                "hosts": hosts.collect::<Vec<_>>(),
                "takeovers_under_load": figures.false_takeovers,
                "takeovers_under_load_per_hour": per_hour(figures, wanted.load_seconds),
                "given_up": figures.lost,
            })
        })
        .collect();
    let ratios: Vec<_> = ratios(rows)
        .into_iter()
        .map(|(of, to, values)| json!({ "of": of, "to": to, "min_median_max": values }))
        .collect();
    json!({
        "contestants": contestants,
        "ratios": ratios,
        "idle_seconds": wanted.idle_seconds,
        "load_seconds": wanted.load_seconds,
        "load_average": [load_before, load_average()],
    })
}

fn print_table(wanted: &Failover, rows: &[(&str, &Figures)], load_before: &str) {
    println!("\n{:24} {:^26} {:^31}   takeovers in", "", "takeover, ms", "the master's host, idle");
    println!(
        "{:24} {:>8} {:>8} {:>8} {:>9} {:>10} {:>10}   {} s of load",
        "", "min", "median", "max", "cpu/1000", "net 1 B/s", "net 2 B/s", wanted.load_seconds
    );
    for (name, figures) in rows {
        let [least, middle, most] = median(figures.takeovers_ms.iter().copied());
        let master = figures.costs.iter().find(|cost| cost.is_master);
        let cost = master.map_or_else(
            || format!("{:>9} {:>10} {:>10}", "-", "-", "-"),
            |cost| {
                let [one, two] = cost.bytes_per_second;
                format!("{:9.1} {one:10.0} {two:10.0}", cost.processor_permille)
            },
        );
        let load = figures.false_takeovers.zip(per_hour(figures, wanted.load_seconds));
        let load =
            load.map_or_else(|| "-".to_owned(), |(count, hourly)| format!("{count} ({hourly:.0} an hour)"));
        println!("{name:24} {least:8.0} {middle:8.0} {most:8.0} {cost}   {load}");
    }
    println!("\nratios of takeovers within a round (min median max)");
    for (of, to, [least, middle, most]) in ratios(rows) {
        println!("{:48} {least:6.3} {middle:6.3} {most:6.3}", format!("{of} / {to}"));
    }
    for (name, why) in rows.iter().filter_map(|(name, figures)| Some((name, figures.lost.as_ref()?))) {
        println!("\n{name} was given up: {why}");
    }
    println!("\nload average before: {load_before}; after: {}", load_average());
}

fn per_hour(figures: &Figures, seconds: u64) -> Option<f64> {
    let count = u32::try_from(figures.false_takeovers?).ok()?;
    (seconds > 0).then(|| f64::from(count) * 3600.0 / f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)))
}

/// The same round of two contestants, one over the other.
fn ratios<'a>(rows: &[(&'a str, &Figures)]) -> Vec<(&'a str, &'a str, [f64; 3])> {
    let ratio = |&(of, to): &(usize, usize)| {
        let ((of, ours), (to, theirs)) = (rows.get(of)?, rows.get(to)?);
        let pairs = ours.takeovers_ms.iter().zip(&theirs.takeovers_ms);
        Some((*of, *to, median(pairs.map(|(ours, theirs)| ours / theirs))))
    };
    PAIRS.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(takeovers_ms: &[f64]) -> Figures {
        Figures { takeovers_ms: takeovers_ms.to_vec(), ..Figures::default() }
    }

    #[test]
    fn a_ratio_is_of_one_round_and_ends_where_one_was_given_up() {
        let (ours, tight, vrrp) = (took(&[2.0, 4.0, 9.0]), took(&[1.0]), took(&[4.0, 4.0]));
        let rows = [("ours", &ours), ("tight", &tight), ("vrrp", &vrrp)];
        assert_eq!(ratios(&rows), [("ours", "vrrp", [0.5, 1.0, 1.0])]);
    }

    #[test]
    fn an_hour_is_counted_from_what_was_seen_and_nothing_from_nothing() {
        let mut figures = took(&[]);
        assert_eq!(per_hour(&figures, 60), None);
        figures.false_takeovers = Some(2);
        assert_eq!(per_hour(&figures, 60), Some(120.0));
        assert_eq!(per_hour(&figures, 0), None);
    }
}
