//! For how long a guest may run, as far as is known: what the agent says becomes what to do, and silence
//! does, too (I5, I4, X02). Owns no clock, no thread and no socket.

use crate::failure::Failure;
use bulkhead_core::time::Instant;
use std::time::Duration;

/// So long before the end of its lease a guest is told to stand still. Two processors on two of the machine
/// did so within 0.2 ms in each of 200 attempts, within 15 ms beside four busy threads, and half of the times
/// within 24 ms beside sixteen.
pub const STOP: Duration = Duration::from_millis(50);
/// So long before that end the kernel ends the process, if the guest does not stand still by then. The last
/// act of a process was at most 8 us behind its instant in 300 attempts, whatever else ran: a thread that
/// waits for a processor then never gets it again.
pub const KILL: Duration = Duration::from_millis(10);
/// Whoever did not get an answer asks again after this time.
const AGAIN: Duration = Duration::from_millis(50);

const _: () = assert!(KILL.as_millis() < STOP.as_millis(), "else it is killed before it is told to stop");

/// What the agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Guests may run until then.
    Granted {
        /// Under which epoch its node leads.
        epoch: u64,
        /// Counted from before it was asked.
        until: Instant,
    },
    /// Another node may run them.
    Refused(Failure),
    /// Nothing that decides anything: why.
    Silent(Failure),
}

/// What is to be done about the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It may run until then, and is to stand still by then.
    Run(Instant),
    /// It is to stand still now.
    Hold,
    /// It is to stand still now, and to end: another one may run elsewhere.
    End(Failure),
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    epoch: u64,
    /// `None`: it stands still.
    until: Option<Instant>,
}

impl Permit {
    /// A guest that stands still, and may run under this epoch alone.
    #[must_use]
    pub const fn new(epoch: u64) -> Self {
        Self { epoch, until: None }
    }

    /// When [`Self::late`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.until.map(|until| before(until, STOP))
    }

    /// It stands still, and its lease was given back.
    pub const fn gives_back(&mut self) {
        self.until = None;
    }

    /// The agent has said something.
    pub fn hears(&mut self, now: Instant, said: Said) -> Option<Act> {
        match said {
            Said::Granted { epoch, .. } if epoch != self.epoch => {
                let before = self.epoch;
                let what =
                    format!("the volumes of the guest were led anew: under epoch {epoch}, after {before}");
                let next = "start it again, unless it runs on another node by now.";
                self.until = None;
                Some(Act::End(Failure::refused(what).left("The guest was ended.").next(next)))
            }
            Said::Granted { until, .. } if now < before(until, STOP) => {
                // An answer that comes late takes nothing back.
                let until = self.until.map_or(until, |known| known.max(until));
                self.until = Some(until);
                Some(Act::Run(until))
            }
            Said::Refused(failure) => {
                self.until = None;
                Some(Act::End(failure.left("The guest was ended.")))
            }
            Said::Granted { .. } | Said::Silent(_) => self.late(now),
        }
    }

    /// The time has come, or not yet.
    pub fn late(&mut self, now: Instant) -> Option<Act> {
        let is_over = self.due().is_some_and(|due| due <= now);
        is_over.then(|| {
            self.until = None;
            Act::Hold
        })
    }
}

/// After which pause the agent is asked again: a third of what is left, so that two answers may be lost.
#[must_use]
pub fn pause(now: Instant, said: &Said) -> Duration {
    match said {
        Said::Granted { until, .. } => {
            let left = before(*until, STOP).since(now);
            left.checked_div(3).unwrap_or_default().max(Duration::from_millis(1))
        }
        Said::Refused(_) | Said::Silent(_) => AGAIN,
    }
}

/// So long before an instant.
#[must_use]
pub fn before(instant: Instant, time: Duration) -> Instant {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Instant::from_micros(instant.as_micros().saturating_sub(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn granted(epoch: u64, until: u64) -> Option<Said> {
        Some(Said::Granted { epoch, until: at(until) })
    }

    fn silent() -> Option<Said> {
        Some(Said::Silent(Failure::failed("no agent answers")))
    }

    fn refused() -> Option<Said> {
        Some(Said::Refused(Failure::refused("b1 leads")))
    }

    /// Tells a guest's permit these things at these times, `None` that time has passed, and looks what it
    /// does.
    fn check(name: &str, story: impl IntoIterator<Item = (u64, Option<Said>, &'static str)>) {
        let mut permit = Permit::new(7);
        for (now, said, expected) in story {
            let act = match said {
                Some(said) => permit.hears(at(now), said),
                None => permit.late(at(now)),
            };
            let found = match act {
                None => String::new(),
                Some(Act::Run(until)) => format!("run {}", until.as_micros() / 1000),
                Some(Act::Hold) => "hold".into(),
                Some(Act::End(why)) => format!("end: {}", why.what),
            };
            assert_eq!(found, expected, "{name}, at {now} ms");
            assert_eq!(permit.due().is_some(), permit.until.is_some(), "{name}, at {now} ms");
        }
    }

    /// I5, I4: a guest stands still before its lease ends, whatever is said or not, and goes on under the
    /// epoch that it had.
    #[test]
    fn it_stands_still_in_time_and_goes_on_under_its_epoch() {
        let first = (0, granted(7, 600), "run 600");
        let renewed = (200, granted(7, 800), "run 800");
        check("renewed", [first.clone(), renewed, (550, None, ""), (749, None, ""), (750, None, "hold")]);
        let story = [
            first.clone(),
            (300, silent(), ""),
            (550, silent(), "hold"),
            (560, silent(), ""),
            (600, None, ""),
            (900, granted(7, 1500), "run 1500"),
        ];
        check("silent, and the same again", story);
        let story = [
            first.clone(),
            (100, granted(7, 500), "run 600"),
            (700, granted(7, 750), "hold"),
            (800, granted(7, 850), ""),
            (800, granted(7, 851), "run 851"),
        ];
        check("answers that came late", story);
    }

    /// I5, X02: it ends when another node leads, or has led, whether it runs or stands still.
    #[test]
    fn it_ends_when_another_may_run() {
        let first = (0, granted(7, 600), "run 600");
        let anew = "end: the volumes of the guest were led anew: under epoch 8, after 7";
        check("another epoch", [first.clone(), (100, granted(8, 700), anew)]);
        check("another node", [first.clone(), (100, refused(), "end: b1 leads"), (600, None, "")]);
        check("another epoch, later", [first.clone(), (600, None, "hold"), (900, granted(8, 1500), anew)]);
        check("another node, later", [first, (600, None, "hold"), (900, refused(), "end: b1 leads")]);
    }

    /// It is asked so early that two answers may be lost.
    #[test]
    fn it_is_asked_in_time() {
        let granted = Said::Granted { epoch: 7, until: at(650) };
        assert_eq!(pause(at(0), &granted), Duration::from_millis(200));
        assert_eq!(pause(at(700), &granted), Duration::from_millis(1), "never without a pause");
        assert_eq!(pause(at(0), &silent().unwrap()), AGAIN);
    }
}
