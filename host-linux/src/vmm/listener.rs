//! Who listens to a guest's heartbeat, from reset to reset: says when it is lost and when it is back, and
//! what is to follow (S3-03).

use super::description::Lost;
use super::heartbeat::Pulse;
use super::machine::Machine;
use super::permit::before;
use super::reporter::{Change, Reporter};
use crate::cluster::clock;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::Duration;

/// Lines that are said in the life of a guest's process: one that loses its heartbeat on purpose, again and
/// again, fills no disk (I11). What is counted goes on.
const LINES_MAX: u32 = 1000;
/// How often a guest is looked at that is held: whoever lets it go on does not say so here.
const HELD: Duration = Duration::from_millis(500);

/// Who listens to a guest's heartbeat.
#[derive(Debug)]
pub struct Listener {
    guest: String,
    lost: Lost,
    /// For how long it had run when its heartbeat was lost; `None`: it is not.
    since: Option<Duration>,
    /// How often it was lost.
    count: u64,
    lines: u32,
    /// Who says it to the agent; `None`: there is none.
    reporter: Option<Reporter>,
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing is to follow. It is listened to again after this time; `None`: when there is news.
    Again(Option<Duration>),
    /// It is to begin anew.
    Reset,
    /// It is to end.
    Stop,
}

impl Listener {
    /// For the guest of this name; what is to follow when its heartbeat is lost, and who says so to an agent.
    #[must_use]
    pub const fn new(guest: String, lost: Lost, reporter: Option<Reporter>) -> Self {
        Self { guest, lost, since: None, count: 0, lines: 0, reporter }
    }

    /// The guest has begun anew.
    pub fn begin(&mut self) {
        if self.since.take().is_some() {
            self.report(None);
        }
    }

    /// Listens.
    pub fn listen(&mut self, machine: &Machine) -> Heard {
        if machine.has_ended() {
            // How it has ended is on its way.
            return Heard::Again(None);
        }
        let ran = machine.ran();
        let look = machine.heartbeat().look(ran);
        let was_lost = self.since.is_some();
        let pulse = machine.heartbeat().pulse(ran);
        let (line, heard) = self.hear(pulse, ran);
        if was_lost != self.since.is_some() {
            self.report(pulse.lost());
        }
        if let Some(line) = line {
            // Nobody may read it.
            let _ = writeln!(std::io::stderr(), "bulkhead: {line}");
        }
        let look = if machine.is_still() { look.map(|look| look.max(HELD)) } else { look };
        heard.unwrap_or(Heard::Again(look))
    }

    /// What there is to say of a heartbeat that is like this when the guest has run so long, and what is to
    /// follow.
    fn hear(&mut self, pulse: Pulse, ran: Duration) -> (Option<String>, Option<Heard>) {
        let before = self.since;
        self.since = pulse.lost().map(|ago| ran.saturating_sub(ago));
        let after = |since: Duration| ran.saturating_sub(since).as_secs();
        match (before, pulse) {
            (None, Pulse::Lost(_)) => {
                self.count = self.count.saturating_add(1);
                match self.lost {
                    Lost::Report => (self.line("its heartbeat is lost"), None),
                    Lost::Reset => (self.line("its heartbeat is lost; it begins anew"), Some(Heard::Reset)),
                    // Its end says why.
                    Lost::Stop => (None, Some(Heard::Stop)),
                }
            }
            (Some(since), Pulse::Awaited | Pulse::Beats) => {
                (self.line(&format!("its heartbeat is back, after {} s", after(since))), None)
            }
            (Some(since), Pulse::None) => {
                let what = format!("it has ended its heartbeat, {} s after that was lost", after(since));
                (self.line(&what), None)
            }
            (Some(_), Pulse::Lost(_)) | (None, Pulse::None | Pulse::Awaited | Pulse::Beats) => (None, None),
        }
    }

    /// Has the agent told for how long it has been lost; `None`: it is not.
    fn report(&self, lost: Option<Duration>) {
        let change = lost.map_or(Change::Back, |lost| Change::Lost(before(clock::now(), lost)));
        let _ = self.reporter.as_ref().map(|reporter| reporter.say(change));
    }

    /// A line, unless there were too many.
    fn line(&mut self, what: &str) -> Option<String> {
        self.lines = self.lines.saturating_add(1);
        let last = if self.lines == LINES_MAX { "; no more is said of it here" } else { "" };
        (self.lines <= LINES_MAX).then(|| format!("guest {}: {what}{last}", self.guest))
    }

    /// How it is, for machines.
    #[must_use]
    pub fn json(&self, machine: &Machine) -> Value {
        let pulse = machine.heartbeat().pulse(machine.ran());
        let lost_ms = pulse.lost().map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
        json!({ "state": pulse.name(), "lost_ms": lost_ms, "lost_count": self.count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    /// S3-03: a lost heartbeat is said once, with what follows, and so is its coming back.
    #[test]
    fn what_is_lost_is_said_and_what_follows_is_what_was_configured() {
        let rows = [
            (Lost::Report, Some("guest web1: its heartbeat is lost"), None),
            (Lost::Reset, Some("guest web1: its heartbeat is lost; it begins anew"), Some(Heard::Reset)),
            (Lost::Stop, None, Some(Heard::Stop)),
        ];
        for (lost, said, follows) in rows {
            let mut listener = Listener::new("web1".into(), lost, None);
            let mut hear = |pulse, ran| {
                let (line, heard) = listener.hear(pulse, SECOND(ran));
                (line, heard, listener.count)
            };
            for (ran, pulse) in [Pulse::None, Pulse::Awaited, Pulse::Beats].into_iter().enumerate() {
                assert_eq!(hear(pulse, ran as u64), (None, None, 0), "{lost:?}, {pulse:?}");
            }
            let said = said.map(str::to_owned);
            assert_eq!(hear(Pulse::Lost(SECOND(0)), 30), (said, follows, 1), "{lost:?}");
            assert_eq!(hear(Pulse::Lost(SECOND(9)), 39), (None, None, 1), "{lost:?}: once");
            let back = Some("guest web1: its heartbeat is back, after 12 s".to_owned());
            assert_eq!(hear(Pulse::Beats, 42), (back, None, 1), "{lost:?}");
            assert_eq!(hear(Pulse::Lost(SECOND(1)), 50).2, 2, "{lost:?}");
            let ended = "guest web1: it has ended its heartbeat, 3 s after that was lost".to_owned();
            assert_eq!(hear(Pulse::None, 52), (Some(ended), None, 2), "{lost:?}");
            hear(Pulse::Lost(SECOND(0)), 60);
            listener.begin();
            assert_eq!(listener.hear(Pulse::None, SECOND(0)), (None, None), "{lost:?}: another heartbeat");
        }
    }

    /// I11: a guest that loses its heartbeat for ever on purpose fills no disk.
    #[test]
    fn lines_are_bounded() {
        let mut listener = Listener::new("web1".into(), Lost::Report, None);
        let mut lines = Vec::new();
        for round in 0..2000 {
            lines.extend(listener.hear(Pulse::Lost(Duration::ZERO), SECOND(round)).0);
            lines.extend(listener.hear(Pulse::Beats, SECOND(round)).0);
        }
        assert_eq!((lines.len(), listener.count), (1000, 2000));
        assert!(lines.last().unwrap().ends_with("; no more is said of it here"));
    }
}
