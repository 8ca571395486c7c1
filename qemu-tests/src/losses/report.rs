//! What a run of losses came to: how often each, how long guests stood still, what was asked, what failed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// Times of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort_unstable();
    }

    /// The shortest, the middle one, the longest, in milliseconds; `None`: there are none.
    #[must_use]
    pub fn millis(&self) -> Option<[u64; 3]> {
        let all = &self.0;
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some([all.first()?, all.get(all.len() / 2)?, all.last()?].map(millis))
    }
}

/// Of one loss.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// How often.
    pub times: u64,
    /// How often no guest could run behind it, which was said and why.
    pub stopped: u64,
    /// How long a guest kept nothing, where all ran on.
    pub pauses: Times,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By which it repeats.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// Losses with their repairs, singly or several at once.
    pub acts: u64,
    /// Planned pairs that were carried out, and all of them.
    pub pairs: [usize; 2],
    /// By the name of the loss.
    pub losses: BTreeMap<String, Row>,
    /// From a repair to the first moment at which all guests had kept more, where none could run before.
    pub back: Times,
    /// From the last repair to all as it was: in sync, no alert, every guest once.
    pub whole: Times,
    /// How often each question was asked.
    pub asked: BTreeMap<&'static str, u64>,
    /// The newest number that each guest has kept, and how often they began.
    pub kept: Vec<u32>,
    /// How often guests began with their kernels.
    pub lives: usize,
    /// What was done, in order, in the act that failed; and what failed.
    pub failed: Option<Failed>,
}

/// What failed.
#[derive(Clone, Debug, Default)]
pub struct Failed {
    /// The losses of the act.
    pub act: String,
    /// What was done in it.
    pub steps: Vec<String>,
    /// What was not so.
    pub what: String,
}

impl Report {
    /// It was asked so.
    pub fn ask(&mut self, what: &'static str) {
        *self.asked.entry(what).or_default() += 1;
    }

    /// The row of a loss.
    pub fn row(&mut self, loss: &str) -> &mut Row {
        self.losses.entry(loss.to_owned()).or_default()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let times = |times: &Times| {
            times.millis().map(|[min, median, max]| json!({ "min": min, "median": median, "max": max }))
        };
        let row = |(name, row): (&String, &Row)| {
            let pauses = times(&row.pauses);
            let value = json!({ "times": row.times, "stopped": row.stopped, "pauseMs": pauses });
            (name.clone(), value)
        };
        let losses: serde_json::Map<_, _> = self.losses.iter().map(row).collect();
        let failed = self.failed.as_ref();
        json!({
            "ok": failed.is_none(),
            "seed": self.seed,
            "seconds": self.took.as_secs(),
            "acts": self.acts,
            "pairs": { "done": self.pairs[0], "of": self.pairs[1] },
            "losses": losses,
            "backMs": times(&self.back),
            "wholeMs": times(&self.whole),
            "asked": self.asked,
            "kept": self.kept,
            "lives": self.lives,
            "failed": failed.map(|one| json!({ "act": one.act, "steps": one.steps, "what": one.what })),
        })
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let times = |times: &Times| {
            let seconds = |millis: u64| format!("{}.{:03}", millis / 1000, millis % 1000);
            let none = || ["-", "-", "-"].map(str::to_owned);
            let [min, median, max] = times.millis().map_or_else(none, |all| all.map(seconds));
            format!("{min:>8} {median:>8} {max:>8}")
        };
        let heads = ["times", "stopped", "min s", "median s", "max s"];
        let [count, stopped, min, median, max] = heads;
        let mut text = format!("{:<22} {count:>5} {stopped:>7} {min:>8} {median:>8} {max:>8}\n", "");
        for (name, row) in &self.losses {
            let pauses = times(&row.pauses);
            text += &format!("{name:<22} {:>5} {:>7} {pauses}\n", row.times, row.stopped);
        }
        text += &format!("{:<22} {:>5} {:>7} {}\n", "guests are back", "", "", times(&self.back));
        text += &format!("{:<22} {:>5} {:>7} {}\n", "all is as it was", "", "", times(&self.whole));
        let [done, of] = self.pairs;
        let kept: u64 = self.kept.iter().map(|kept| u64::from(*kept)).sum();
        let (acts, took, lives) = (self.acts, self.took.as_secs(), self.lives);
        text += &format!("\n{acts} acts in {took} s, {done} of {of} ordered pairs; ");
        text += &format!("guests began {lives} times and kept {kept} numbers\n");
        for (what, count) in &self.asked {
            text += &format!("{count:>8} times: {what}\n");
        }
        if let Some(failed) = &self.failed {
            text += &format!("\nFAILED in {}: {}\n", failed.act, failed.what);
            failed.steps.iter().for_each(|step| text += &format!("  {step}\n"));
        }
        text + &format!("seed {}\n", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_often_how_long_and_what_failed() {
        let mut report = Report { seed: 7, pairs: [2, 198], ..Report::default() };
        for millis in [30, 10, 1200] {
            report.row("link").times += 1;
            report.row("link").pauses.add(Duration::from_millis(millis));
        }
        report.ask("each guest once");
        assert_eq!(report.json()["ok"], true);
        assert_eq!(report.json()["losses"]["link"]["pauseMs"], json!({"min": 10, "median": 30, "max": 1200}));
        assert!(report.text().contains("2 of 198 ordered pairs"), "{}", report.text());
        let failed =
            Failed { act: "link,witness".into(), steps: vec!["the witness dies".into()], what: "x".into() };
        report.failed = Some(failed);
        assert!(report.json()["ok"] == false && report.text().contains("FAILED in link,witness: x"));
        assert!(report.text().ends_with("seed 7\n"), "{}", report.text());
    }
}
