//! What would take the last of something is held (X21): the last copy of what is acknowledged, the last
//! voters that decide, the last instance that could be master. It is said why, with a word that lets it pass
//! once.

use super::request::Answer;
use super::status::Status;
use crate::failover::forecast::{Part, forecast};
use bulkhead_core::time::Instant;
use std::time::Duration;

/// A word counts for so long.
const COUNTS: Duration = Duration::from_secs(300);

/// Why the loss of a node would be more than that of one part, or more than is needed: what would stop, in
/// words. `None`: nothing would, or all of that has stopped already.
#[must_use]
pub fn why(status: &Status, node: &str) -> Option<String> {
    let has_master = status.pairs.iter().any(|pair| pair.master.is_some());
    let stops = status.outlook.iter().find(|part| part.part == node && !part.survives && has_master);
    let is_led = status.storage.as_ref().is_some_and(|storage| storage.primary.is_some());
    let nobody_leads = || forecast(status, &Part::Node(node.to_owned())).ok()?.because.filter(|_| is_led);
    stops.map(|part| part.then.clone()).or_else(nobody_leads).or_else(|| guests(status, node))
}

/// Guests that would begin anew, where they could move as they run.
fn guests(status: &Status, node: &str) -> Option<String> {
    let running = status.guests.iter().filter(|guest| guest.state == "running" && status.node.name == node);
    let names: Vec<&str> = running.map(|guest| guest.name.as_str()).collect();
    let then = forecast(status, &Part::Node(node.to_owned())).ok()?;
    let to = then.leads.first().filter(|_| !names.is_empty())?;
    let names = names.join(", ");
    Some(format!(
        "{names} would begin anew on {to}; `bulkhead vm migrate --all --to {to}` moves them as they run"
    ))
}

/// What is held, and the word that lets it pass.
#[derive(Debug, Default)]
pub struct Holds {
    last: Option<Held>,
}

#[derive(Debug)]
struct Held {
    action: String,
    word: String,
    until: Instant,
}

impl Holds {
    /// Whether this action may be done: `Err` has the answer that holds it. `why` says why it is to be held,
    /// and `word` what the operator says; a word counts once, and for what it was given for.
    ///
    /// # Errors
    ///
    /// It is held.
    pub fn pass(
        &mut self,
        now: Instant,
        action: &str,
        why: Option<String>,
        word: Option<&str>,
    ) -> Result<(), Answer> {
        let Some(why) = why else { return Ok(()) };
        let held = self.last.take();
        let is_meant =
            |held: &Held| held.action == action && Some(held.word.as_str()) == word && now < held.until;
        if held.as_ref().is_some_and(is_meant) {
            return Ok(());
        }
        let what = format!("{action} is held: {why}");
        let mut bytes = [0; 4];
        if getrandom::fill(&mut bytes).is_err() {
            return Err(Answer::refused(
                "failed",
                what,
                "see to that first: no word could be drawn to let it pass",
            ));
        }
        let word: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let next = format!(
            "see to that first; or say `--override {word}` within {} min: it counts once, and for this alone",
            COUNTS.as_secs() / 60
        );
        self.last = Some(Held { action: action.to_owned(), word, until: now.after(COUNTS) });
        Err(Answer::refused("refused", what, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(answer: &Answer) -> String {
        let next = answer.0.pointer("/error/next").unwrap().as_str().unwrap();
        next.split("--override ").nth(1).unwrap()[..8].to_owned()
    }

    /// X21: with the reason and a one-time override.
    #[test]
    fn a_word_counts_once_and_for_what_it_was_given_for() {
        let (mut holds, at) = (Holds::default(), Instant::from_millis);
        let why = || Some("pair 1 stops".to_owned());
        assert_eq!(holds.pass(at(0), "leave", None, None), Ok(()));
        let held = holds.pass(at(0), "leave", why(), None).unwrap_err();
        let what = held.0.pointer("/error/what").unwrap();
        assert_eq!(what, "leave is held: pair 1 stops");
        assert!(holds.pass(at(1), "cut", why(), Some(&word(&held))).is_err(), "it is another action's");
        let held = holds.pass(at(2), "leave", why(), Some(&word(&held))).unwrap_err();
        assert_eq!(holds.pass(at(3), "leave", why(), Some(&word(&held))), Ok(()));
        let held = holds.pass(at(4), "leave", why(), Some(&word(&held))).unwrap_err();
        let late = at(4 + 300_000);
        let held = holds.pass(late, "leave", why(), Some(&word(&held))).unwrap_err();
        assert_eq!(holds.pass(late, "leave", why(), Some(&word(&held))), Ok(()));
    }
}
