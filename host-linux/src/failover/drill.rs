//! What followed a loss, beside what was forecast (X09): a pure function of what was seen.

use super::forecast::Forecast;
use crate::cluster::status::Status;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a node that stays has seen since a part was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Who led the volumes last.
    pub leads: Option<String>,
    /// When another node came to lead, in milliseconds from the loss.
    pub leads_ms: Option<u64>,
    /// When each guest that runs was first seen to run.
    pub runs_ms: BTreeMap<String, u64>,
    /// Guests that were begun.
    pub begun: BTreeSet<String>,
    /// Guests that do not run.
    pub down: BTreeSet<String>,
}

impl Seen {
    /// So it is `after` the loss, and these guests were begun since.
    pub fn look(&mut self, after: Duration, status: &Status, begun: impl Iterator<Item = String>) {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let primary = status.storage.as_ref().and_then(|storage| storage.primary);
        let node = primary.and_then(|id| status.find(id));
        if let Some(node) = node.filter(|node| self.leads.as_ref() != Some(&node.name)) {
            self.leads = Some(node.name.clone());
            self.leads_ms = Some(ms);
        }
        self.begun.extend(begun);
        self.down.clear();
        for guest in &status.guests {
            match guest.state.as_str() {
                "running" => {
                    self.runs_ms.entry(guest.name.clone()).or_insert(ms);
                }
                "off" | "adrift" => {}
                _ => {
                    self.down.insert(guest.name.clone());
                }
            }
        }
    }

    /// Whether all that was forecast has come: there is nothing more to wait for.
    #[must_use]
    pub fn is_all(&self, forecast: &Forecast) -> bool {
        let leads = self.leads.as_ref().is_some_and(|leads| forecast.leads.contains(leads));
        let runs = |guest: &String| self.runs_ms.contains_key(guest) && !self.down.contains(guest);
        leads && forecast.begins.iter().all(|begins| runs(&begins.guest)) && forecast.goes_on.iter().all(runs)
    }
}

/// What came otherwise than it was forecast, a sentence each; none: all came so.
#[must_use]
pub fn differences(forecast: &Forecast, seen: &Seen) -> Vec<String> {
    let mut all = Vec::new();
    let expected = forecast.leads.join(" or ");
    match &seen.leads {
        Some(leads) if forecast.leads.contains(leads) => {}
        Some(leads) => all.push(format!("{leads} leads the volumes, and not {expected}")),
        None => all.push(format!("nobody leads the volumes, and {expected} was to")),
    }
    if let Some(ms) = seen.leads_ms.filter(|ms| forecast.moves && forecast.within_ms < *ms) {
        all.push(format!("it took {ms} ms until then, and at most {} were forecast", forecast.within_ms));
    }
    let runs = |guest: &str| seen.runs_ms.contains_key(guest) && !seen.down.contains(guest);
    for begins in forecast.begins.iter().filter(|begins| !runs(&begins.guest)) {
        all.push(format!("guest {} was to begin, and does not run", begins.guest));
    }
    for guest in &forecast.goes_on {
        match (runs(guest), seen.begun.contains(guest)) {
            (true, false) => {}
            (true, true) => all.push(format!("guest {guest} was to go on, and began anew")),
            (false, _) => all.push(format!("guest {guest} was to go on, and does not run")),
        }
    }
    for down in forecast.down.iter().filter(|down| runs(&down.guest)) {
        all.push(format!("guest {} was to be down, and runs", down.guest));
    }
    let is_forecast = |guest: &String| {
        let begins = forecast.begins.iter().any(|begins| begins.guest == *guest);
        begins || forecast.goes_on.contains(guest) || forecast.down.iter().any(|down| down.guest == *guest)
    };
    all.extend(
        seen.begun
            .iter()
            .filter(|guest| !is_forecast(guest))
            .map(|guest| format!("guest {guest} was begun, and nothing was forecast of it")),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::super::forecast::{Begins, Down};
    use super::super::wanted::Policy;
    use super::*;

    fn forecast() -> Forecast {
        Forecast {
            lost: "a1".into(),
            nodes: vec!["a1".into()],
            leads: vec!["b1".into()],
            moves: true,
            within_ms: 1600,
            because: None,
            begins: vec![Begins { guest: "db".into(), policy: Policy::Restart, priority: 200 }],
            goes_on: vec!["web".into()],
            down: vec![Down { guest: "test".into(), why: "its policy is `stay`".into() }],
            only_there_bytes: 0,
        }
    }

    fn seen() -> Seen {
        Seen {
            leads: Some("b1".into()),
            leads_ms: Some(400),
            runs_ms: [("db".into(), 450), ("web".into(), 0)].into(),
            begun: ["db".into()].into(),
            down: ["test".into()].into(),
        }
    }

    #[test]
    fn what_comes_as_forecast_has_no_differences() {
        assert_eq!(differences(&forecast(), &seen()), Vec::<String>::new());
        assert!(seen().is_all(&forecast()));
    }

    #[test]
    fn each_difference_is_said() {
        type Change = fn(&mut Seen);
        let cases: &[(Change, &str, bool)] = &[
            (|seen| seen.leads = Some("b2".into()), "b2 leads the volumes, and not b1", false),
            (|seen| seen.leads = None, "nobody leads the volumes", false),
            (|seen| seen.leads_ms = Some(1601), "it took 1601 ms", true),
            (|seen| seen.runs_ms.retain(|guest, _| guest != "db"), "guest db was to begin", false),
            (|seen| seen.down.extend(["db".into()]), "guest db was to begin", false),
            (|seen| seen.begun.extend(["web".into()]), "guest web was to go on, and began anew", true),
            (
                |seen| seen.runs_ms.retain(|guest, _| guest != "web"),
                "guest web was to go on, and does",
                false,
            ),
            (
                |seen| {
                    seen.down.clear();
                    seen.runs_ms.extend([("test".into(), 9)]);
                },
                "guest test was to be down",
                true,
            ),
            (|seen| seen.begun.extend(["old".into()]), "guest old was begun", true),
        ];
        for (change, what, is_all) in cases {
            let mut seen = seen();
            change(&mut seen);
            let found = differences(&forecast(), &seen);
            assert!(matches!(found.as_slice(), [one] if one.starts_with(what)), "{what}: {found:?}");
            assert_eq!(seen.is_all(&forecast()), *is_all, "{what}");
        }
    }
}
