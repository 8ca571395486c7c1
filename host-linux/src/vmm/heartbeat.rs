//! The heartbeat of a guest (S3-03): the watchdog of an old PC board, the IB700, whose driver every Linux has
//! (`ib700wdt`). Whoever feeds `/dev/watchdog` in the guest beats, systemd or another: no agent of ours is
//! needed there. Of a guest that has not begun nothing is expected, unless its description says so.
//!
//! Owns no clock: time is for how long the guest has run, so that none passes while it is held.

use super::guest::Event;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Seconds for the value 0; each more is two seconds less, in the four low bits.
const LONGEST: u8 = 30;
/// Seconds at least. The board's last value is none at all, which nobody could feed.
const SHORTEST: u8 = 2;
/// Whoever looks so much later than it was due stood still itself: nobody knows whether the guest did.
const LATE: Duration = Duration::from_secs(1);

/// A heartbeat, of a guest that has begun once: a reset makes another one.
#[derive(Debug)]
pub struct Heartbeat {
    state: Mutex<State>,
    /// Who looks at it.
    tell: OnceLock<Sender<Event>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    heart: Heart,
    /// When it is looked at again without anything that happens; `None`: it is not.
    look: Option<Duration>,
}

/// Instants are for how long the guest had run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heart {
    /// It has not begun, or has ended properly.
    None,
    /// A beat is due at `due`, and after it within `within`.
    Expected {
        due: Duration,
        within: Duration,
        /// None has come yet.
        is_first: bool,
    },
    /// A beat was missed. The next one makes it good.
    Lost { since: Duration },
}

/// How a heartbeat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing is expected.
    None,
    /// The first beat is.
    Awaited,
    /// The next one is.
    Beats,
    /// A beat was missed, so long ago, and none has come since.
    Lost(Duration),
}

impl Pulse {
    /// For how long it has been lost; `None`: it is not.
    #[must_use]
    pub const fn lost(self) -> Option<Duration> {
        match self {
            Self::Lost(ago) => Some(ago),
            Self::None | Self::Awaited | Self::Beats => None,
        }
    }

    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Awaited => "awaited",
            Self::Beats => "beats",
            Self::Lost(_) => "lost",
        }
    }
}

/// How long after it the next beat comes, as the guest's driver says it.
fn within(value: u8) -> Duration {
    let seconds = LONGEST.saturating_sub((value & 0xf) << 1).max(SHORTEST);
    Duration::from_secs(seconds.into())
}

impl Heartbeat {
    /// None yet; the first beat is expected within this time, if at all.
    #[must_use]
    pub fn new(first: Option<Duration>) -> Self {
        let expected = |within| Heart::Expected { due: within, within, is_first: true };
        let heart = first.map_or(Heart::None, expected);
        Self { state: Mutex::new(State { heart, look: None }), tell: OnceLock::new() }
    }

    /// `tell` hears when it is to be looked at earlier than was said before.
    pub fn wake(&self, tell: Sender<Event>) {
        // One listens.
        let _ = self.tell.set(tell);
    }

    /// It beats: the guest has written this value when it had run so long.
    pub fn beat(&self, value: u8, ran: Duration) {
        let within = within(value);
        let due = ran.saturating_add(within);
        let mut state = self.lock();
        state.heart = Heart::Expected { due, within, is_first: false };
        // Told once of what is not looked at: however often a guest begins and ends, nothing piles up.
        let is_news = state.look.is_none_or(|look| due < look);
        if is_news {
            state.look = Some(due);
        }
        drop(state);
        if let Some(tell) = self.tell.get().filter(|_| is_news) {
            // The guest ends: nobody waits for its heart.
            let _ = tell.send(Event::Beats);
        }
    }

    /// It ends properly: nothing is expected any more.
    pub fn end(&self) {
        self.lock().heart = Heart::None;
    }

    /// How it is when the guest has run so long.
    pub fn pulse(&self, ran: Duration) -> Pulse {
        match self.lock().heart {
            Heart::None => Pulse::None,
            Heart::Expected { is_first: true, .. } => Pulse::Awaited,
            Heart::Expected { is_first: false, .. } => Pulse::Beats,
            Heart::Lost { since } => Pulse::Lost(ran.saturating_sub(since)),
        }
    }

    /// Looks whether a beat is missed, and after how long to look again; `None`: when told.
    pub fn look(&self, ran: Duration) -> Option<Duration> {
        let mut state = self.lock();
        if let Heart::Expected { due, within, is_first } = state.heart
            && due <= ran
        {
            let is_late = state.look.is_none_or(|look| look.saturating_add(LATE) < ran);
            state.heart = match is_late {
                true => Heart::Expected { due: ran.saturating_add(within), within, is_first },
                false => Heart::Lost { since: due },
            };
        }
        state.look = match state.heart {
            Heart::Expected { due, .. } => Some(due),
            Heart::None | Heart::Lost { .. } => None,
        };
        state.look.map(|look| look.saturating_sub(ran))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// What happens to a heartbeat.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Beat(u8),
        End,
        Look,
    }
    use Step::{Beat, End, Look};

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    /// Does these things at these seconds, and says how it is then, when it is looked at again, and whether
    /// somebody was told.
    fn check(name: &str, first: Option<u64>, story: &[(u64, Step, &str)]) {
        let (tell, events) = channel();
        let heart = Heartbeat::new(first.map(SECOND));
        heart.wake(tell);
        for (at, step, expected) in story {
            let ran = SECOND(*at);
            let look = match step {
                Beat(value) => {
                    heart.beat(*value, ran);
                    None
                }
                End => {
                    heart.end();
                    None
                }
                Look => heart.look(ran),
            };
            let mut found = match heart.pulse(ran) {
                Pulse::Lost(since) => format!("lost {}", since.as_secs()),
                Pulse::None | Pulse::Awaited | Pulse::Beats => heart.pulse(ran).name().to_owned(),
            };
            if let Some(look) = look {
                found.push_str(&format!(", look in {}", look.as_secs()));
            }
            for event in events.try_iter() {
                assert!(matches!(event, Event::Beats));
                found.push_str(", told");
            }
            assert_eq!(found, *expected, "{name}, {step:?} at {at} s");
        }
    }

    /// S3-03: what never began is not missed, a missed beat is, and the next one makes it good.
    #[test]
    fn a_beat_that_does_not_come_is_missed() {
        let story = [
            (1000, Look, "none"),
            (1000, Beat(0), "beats, told"),
            (1001, Look, "beats, look in 29"),
            // The driver asks for 20 s from now on: earlier than it is looked at.
            (1002, Beat(5), "beats, told"),
            (1003, Look, "beats, look in 19"),
            (1010, Beat(5), "beats"),
            (1022, Look, "beats, look in 8"),
            (1029, Look, "beats, look in 1"),
            (1030, Look, "lost 0"),
            (1042, Look, "lost 12"),
            (1043, Beat(5), "beats, told"),
            (1044, Look, "beats, look in 19"),
            (1050, End, "none"),
            (1063, Look, "none"),
            (2000, Look, "none"),
        ];
        check("begun by the guest", None, &story);
        let story = [
            (0, Look, "awaited, look in 60"),
            (59, Look, "awaited, look in 1"),
            (60, Look, "lost 0"),
            (90, Beat(0), "beats, told"),
            (91, Look, "beats, look in 29"),
        ];
        check("expected from the start", Some(60), &story);
    }

    /// I11: a guest that begins and ends again and again tells nobody twice of what was not looked at.
    #[test]
    fn somebody_is_told_once() {
        let story = [
            (0, Beat(0), "beats, told"),
            (1, Beat(0), "beats"),
            (2, End, "none"),
            (3, Beat(0), "beats"),
            (4, Beat(14), "beats, told"),
            (4, Beat(0), "beats"),
            (4, Beat(14), "beats"),
            (6, Look, "lost 0"),
            (6, Beat(14), "beats, told"),
            (6, End, "none"),
            (6, Beat(14), "beats"),
        ];
        check("twice", None, &story);
    }

    /// Whoever looks too late stood still, and the guest with it, as far as anybody knows: it is given its
    /// time again.
    #[test]
    fn who_stood_still_accuses_nobody() {
        let story = [
            (0, Beat(10), "beats, told"),
            (0, Look, "beats, look in 10"),
            (12, Look, "beats, look in 10"),
            (22, Look, "lost 0"),
        ];
        check("stood still", None, &story);
        let story = [(0, Look, "awaited, look in 60"), (3600, Look, "awaited, look in 60")];
        check("stood still at the start", Some(60), &story);
    }

    /// I11: whatever a guest writes is a beat that can be followed by another one in time.
    #[test]
    fn any_value_is_a_beat_of_a_known_length() {
        for value in 0..=u8::MAX {
            let heart = Heartbeat::new(None);
            heart.beat(value, Duration::MAX);
            assert_eq!(heart.pulse(Duration::MAX), Pulse::Beats);
            let seconds = [30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 2];
            assert_eq!(within(value), SECOND(seconds[usize::from(value & 0xf)]), "{value}");
        }
    }
}
