//! One resource: probed when the agent starts, started, watched, started again a few times, given up,
//! stopped.
//!
//! The answers are those of the OCF Resource Agent API 1.0, section "Actions"; systemd's are translated by
//! the shell. One task is under way at a time; what is wanted may change meanwhile and is looked at when it
//! ends.

use core::time::Duration;

use crate::time::Instant;

/// What the shell does to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Have it run.
    Start,
    /// Have it not run.
    Stop,
    /// See whether it runs.
    Monitor,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Done, or it runs.
    Ok,
    /// It does not run, and was stopped cleanly: of a monitor only.
    NotRunning,
    /// Anything else; the shell keeps the words.
    Failed,
    /// No answer in time.
    TimedOut,
}

/// What is known of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The agent has just started. Exit: it is probed.
    Unknown,
    /// It does not run. Exit: it is wanted.
    Stopped,
    /// It is being started. Exit: the task ends.
    Starting,
    /// It runs. Exit: it is not wanted; a monitor does not find it well.
    Running,
    /// It is being stopped. Exit: the task ends.
    Stopping,
    /// It failed and was stopped; it is tried again later. Exit: the time has come; it is not wanted.
    Waiting,
    /// It failed too often and was stopped. Exit: an operator cleans it up; it is not wanted.
    GivenUp,
    /// It could not be stopped: nobody knows whether it runs. Exit: another stop succeeds.
    Stuck,
}

impl Mode {
    /// The operator's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::GivenUp => "given-up",
            Self::Stuck => "stuck",
        }
    }

    /// Whether it certainly does not run.
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Stopped | Self::Waiting | Self::GivenUp)
    }

    /// Whether those after it need not wait for it any longer.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Running | Self::GivenUp)
    }
}

/// Failures in a row after which a resource is given up.
pub const TRIES: u8 = 3;
/// From a failure to the next start, and from one stop that failed to the next.
pub const RETRY: Duration = Duration::from_secs(5);
/// Good monitors in a row after which earlier failures are forgotten.
const FORGIVEN_AFTER: u8 = 10;

/// One resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    mode: Mode,
    /// From one monitor to the next while it runs.
    interval: Duration,
    under_way: Option<Task>,
    /// What is under way was interrupted.
    hurried: bool,
    /// When something is to be done without an answer.
    at: Option<Instant>,
    failures: u8,
    good: u8,
}

impl Life {
    /// A resource of which nothing is known yet.
    pub const fn new(interval: Duration) -> Self {
        Self {
            mode: Mode::Unknown,
            interval,
            under_way: None,
            hurried: false,
            at: None,
            failures: 0,
            good: 0,
        }
    }

    /// What is known of it.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u8 {
        self.failures
    }

    /// When [`Self::go_on`] has something to do if nothing else happens.
    pub const fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// An operator says that the cause of its failures is gone.
    pub fn clean_up(&mut self) {
        self.failures = 0;
        match self.mode {
            Mode::GivenUp | Mode::Waiting => self.enter(Mode::Stopped, None),
            Mode::Stuck => self.at = Some(Instant::ZERO),
            Mode::Unknown | Mode::Stopped | Mode::Starting | Mode::Running | Mode::Stopping => {}
        }
    }

    /// A task ended. An answer to a task that is not under way is late, and ignored.
    pub fn ended(&mut self, now: Instant, task: Task, answer: Answer) {
        if self.under_way != Some(task) {
            return;
        }
        (self.under_way, self.hurried) = (None, false);
        let next = now.after(self.interval);
        match (self.mode, task, answer) {
            (Mode::Unknown, _, Answer::Ok) => self.enter(Mode::Running, Some(next)),
            (Mode::Unknown, _, Answer::NotRunning) => self.enter(Mode::Stopped, None),
            // Not well, but perhaps there.
            (Mode::Unknown, _, Answer::Failed | Answer::TimedOut) => self.enter(Mode::Stopping, Some(now)),
            (Mode::Starting, _, Answer::Ok) => self.enter(Mode::Running, Some(next)),
            (Mode::Starting, _, Answer::NotRunning | Answer::Failed | Answer::TimedOut) => {
                self.failures = self.failures.saturating_add(1);
                // It may run in part: it is stopped before anything else.
                self.enter(Mode::Stopping, Some(now));
            }
            (Mode::Running, _, Answer::Ok) => {
                self.good = self.good.saturating_add(1);
                if FORGIVEN_AFTER <= self.good {
                    self.failures = 0;
                }
                self.at = Some(next);
            }
            (Mode::Running, _, Answer::NotRunning | Answer::Failed | Answer::TimedOut) => {
                self.failures = self.failures.saturating_add(1);
                self.enter(Mode::Stopping, Some(now));
            }
            (Mode::Stopping | Mode::Stuck, _, Answer::Ok) => self.after_stop(now),
            (Mode::Stopping | Mode::Stuck, _, Answer::NotRunning | Answer::Failed | Answer::TimedOut) => {
                self.enter(Mode::Stuck, Some(now.after(RETRY)));
            }
            // Nothing is under way in these.
            (Mode::Stopped | Mode::Waiting | Mode::GivenUp, _, _) => {}
        }
    }

    fn after_stop(&mut self, now: Instant) {
        match self.failures {
            0 => self.enter(Mode::Stopped, None),
            1..TRIES => self.enter(Mode::Waiting, Some(now.after(RETRY))),
            TRIES.. => self.enter(Mode::GivenUp, None),
        }
    }

    /// What is to be done now, given whether it may start and whether it must stop; nothing while a task is
    /// under way.
    pub fn go_on(&mut self, now: Instant, may_start: bool, must_stop: bool) -> Option<Task> {
        if self.under_way.is_some() {
            return None;
        }
        let due = self.at.is_some_and(|at| at <= now);
        let task = match self.mode {
            Mode::Unknown => Task::Monitor,
            Mode::Running if must_stop => {
                self.failures = 0;
                self.enter(Mode::Stopping, None);
                Task::Stop
            }
            Mode::Running if due => Task::Monitor,
            Mode::Stopping => Task::Stop,
            Mode::Stuck if due => Task::Stop,
            Mode::Waiting | Mode::GivenUp if must_stop => {
                self.failures = 0;
                self.enter(Mode::Stopped, None);
                return None;
            }
            Mode::Stopped if may_start => Task::Start,
            Mode::Waiting if may_start && due => Task::Start,
            Mode::Stopped | Mode::Running | Mode::Waiting | Mode::GivenUp | Mode::Stuck | Mode::Starting => {
                return None;
            }
        };
        if task == Task::Start {
            self.enter(Mode::Starting, None);
        }
        // An answer wakes it; no other time does.
        self.at = None;
        self.under_way = Some(task);
        Some(task)
    }

    /// Whether what is under way must not be waited for, because it must stop: a start or a monitor may take
    /// longer than others leave it. Said once; the task then ends as [`Answer::TimedOut`].
    pub fn hurry(&mut self, must_stop: bool) -> bool {
        let waits = match (self.mode, self.under_way) {
            (Mode::Starting | Mode::Running, Some(Task::Start | Task::Monitor)) => must_stop && !self.hurried,
            // The probe says whether there is anything to stop; nothing is quicker than a stop.
            (Mode::Unknown | Mode::Stopped | Mode::Stopping | Mode::Waiting, _) => false,
            (Mode::GivenUp | Mode::Stuck, _) => false,
            (Mode::Starting | Mode::Running, Some(Task::Stop) | None) => false,
        };
        self.hurried |= waits;
        waits
    }

    fn enter(&mut self, mode: Mode, at: Option<Instant>) {
        (self.mode, self.at, self.good) = (mode, at, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;

    /// What a resource does when each of its tasks ends with the next of `answers`, a second apart, wanted
    /// all the time but for the seconds in `unwanted`.
    fn story(answers: &[Answer], unwanted: core::ops::Range<u64>) -> String {
        let mut life = Life::new(Duration::from_secs(2));
        let (mut story, mut answers) = (String::new(), answers.iter());
        for second in 0..40 {
            let now = Instant::ZERO.after(Duration::from_secs(second));
            let wanted = !unwanted.contains(&second);
            if let Some(task) = life.go_on(now, wanted, !wanted) {
                let Some(answer) = answers.next() else { break };
                story.push_str(&format!("{second} {task:?} {answer:?}, "));
                life.ended(now, task, *answer);
            }
        }
        story + life.mode().name()
    }

    #[test]
    fn the_stories() {
        use Answer::{Failed, NotRunning, Ok, TimedOut};
        let never = 100..100;
        for (answers, unwanted, expected) in [
            (
                &[NotRunning, Ok, Ok][..],
                never.clone(),
                "0 Monitor NotRunning, 1 Start Ok, 3 Monitor Ok, running",
            ),
            // It ran already when the agent started: it is not started again.
            (&[Ok, Ok], never.clone(), "0 Monitor Ok, 2 Monitor Ok, running"),
            (
                &[NotRunning, Ok, Ok, Ok],
                4..100,
                "0 Monitor NotRunning, 1 Start Ok, 3 Monitor Ok, 4 Stop Ok, stopped",
            ),
            // One failure: stopped, and started again after a pause.
            (
                &[NotRunning, Failed, Ok, Ok],
                never.clone(),
                "0 Monitor NotRunning, 1 Start Failed, 2 Stop Ok, 7 Start Ok, running",
            ),
            // It died: the same.
            (
                &[Ok, NotRunning, Ok, Ok],
                never.clone(),
                "0 Monitor Ok, 2 Monitor NotRunning, 3 Stop Ok, 8 Start Ok, running",
            ),
            (
                &[NotRunning, Failed, Ok, TimedOut, Ok, Failed, Ok, Ok],
                never.clone(),
                "0 Monitor NotRunning, 1 Start Failed, 2 Stop Ok, 7 Start TimedOut, 8 Stop Ok, \
                 13 Start Failed, 14 Stop Ok, given-up",
            ),
            // A stop that fails is tried until it succeeds.
            (
                &[Ok, Failed, TimedOut, Ok],
                1..100,
                "0 Monitor Ok, 1 Stop Failed, 6 Stop TimedOut, 11 Stop Ok, stopped",
            ),
            // A probe that says nothing leaves nothing running.
            (&[Failed, Ok, Ok], never, "0 Monitor Failed, 1 Stop Ok, 2 Start Ok, running"),
        ] {
            assert_eq!(story(answers, unwanted), expected);
        }
    }

    #[test]
    fn late_and_foreign_answers_are_ignored_and_an_operator_cleans_up() {
        let mut life = Life::new(Duration::from_secs(2));
        let now = Instant::ZERO;
        life.ended(now, Task::Start, Answer::Ok);
        assert_eq!(life.mode(), Mode::Unknown);
        assert_eq!(life.go_on(now, true, false), Some(Task::Monitor));
        assert_eq!(life.go_on(now, true, false), None, "one task at a time");
        life.ended(now, Task::Stop, Answer::Ok);
        assert_eq!(life.mode(), Mode::Unknown);
        life.ended(now, Task::Monitor, Answer::NotRunning);
        for _ in 0..TRIES {
            let later = life.deadline().unwrap_or(now);
            assert_eq!(life.go_on(later, true, false), Some(Task::Start));
            life.ended(later, Task::Start, Answer::Failed);
            assert_eq!(life.go_on(later, true, false), Some(Task::Stop));
            life.ended(later, Task::Stop, Answer::Ok);
        }
        assert_eq!((life.mode(), life.deadline()), (Mode::GivenUp, None));
        life.clean_up();
        assert_eq!((life.mode(), life.failures()), (Mode::Stopped, 0));
    }
}
