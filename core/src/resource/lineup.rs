//! All resources of a node: which are wanted, and in which order they start and stop.
//!
//! A resource starts when all that come before it, and are wanted, have settled: they run, or were given up.
//! It stops when all that come after it, and are not wanted, are down. Those with one number go together.

use core::time::Duration;

use heapless::Vec;

use crate::actions::Actions;
use crate::resource::life::{Answer, Life, Mode, Task};
use crate::time::{Instant, earliest};

/// What a resource belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It runs on every node, whatever its boot profile.
    Infrastructure,
    /// It runs where the management system does, and nowhere else.
    Management,
}

/// What the shell says of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When it runs.
    pub kind: Kind,
    /// Lower ones start first and stop last.
    pub order: u16,
    /// From one monitor to the next.
    pub interval: Duration,
    /// How long a stop may take.
    pub stop_timeout: Duration,
}

/// What the shell tells the machine. Resources are named by their places in the list it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Which kinds are to run here now.
    Wanted {
        /// The boot profile was chosen.
        infrastructure: bool,
        /// The boot profile has the management system here, and its role is held and was waited for.
        management: bool,
    },
    /// A task ended.
    Ended {
        /// Of which resource.
        place: u8,
        /// Which.
        task: Task,
        /// How.
        answer: Answer,
    },
    /// An operator says that the causes of its failures are gone.
    CleanUp {
        /// Of which resource.
        place: u8,
    },
    /// [`Lineup::deadline`] has passed.
    Timeout,
}

/// What the machine asks the shell to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Carry out a task, and report [`Event::Ended`].
    Begin {
        /// On which resource.
        place: u8,
        /// What.
        task: Task,
    },
    /// End what is under way, at once and with all it started, and report it as timed out. It may have ended
    /// already.
    Interrupt {
        /// On which resource.
        place: u8,
    },
    /// Tell people: a resource is in another mode.
    Changed {
        /// Which.
        place: u8,
        /// What it was.
        from: Mode,
        /// What it is.
        to: Mode,
    },
}

/// Resources of one node.
pub const RESOURCES_MAX: usize = 64;
/// Most actions of one step: a task, or an interruption, and a change for each, and one more change for the
/// one that ended.
pub const ACTIONS_MAX: usize = 2 * RESOURCES_MAX + 2;

type Todo = Actions<Action, ACTIONS_MAX>;

#[derive(Clone, Copy, Debug)]
struct Entry {
    settings: Settings,
    life: Life,
    /// Since when it is to be down and is not; `None`: it is as it should be.
    leaving: Option<Instant>,
}

/// The resources of a node.
#[derive(Clone, Debug)]
pub struct Lineup {
    entries: Vec<Entry, RESOURCES_MAX>,
    /// `None` before the boot profile was chosen: what an earlier agent left running is left alone.
    infrastructure: Option<bool>,
    management: bool,
}

impl Lineup {
    /// Resources of which nothing is known and none is wanted yet; `None` when there are too many.
    pub fn new(settings: impl IntoIterator<Item = Settings>) -> Option<Self> {
        let mut entries = Vec::new();
        for settings in settings {
            let life = Life::new(settings.interval);
            entries.push(Entry { settings, life, leaving: None }).ok()?;
        }
        Some(Self { entries, infrastructure: None, management: false })
    }

    /// What is known of the resource at `place`, and its failures in a row.
    pub fn look(&self, place: u8) -> Option<(Mode, u8)> {
        let entry = self.entries.get(usize::from(place))?;
        Some((entry.life.mode(), entry.life.failures()))
    }

    /// Whether every resource of the management system is known not to run here.
    pub fn management_is_down(&self) -> bool {
        self.of_management().all(|entry| entry.life.mode().is_down())
    }

    /// How long this node may take to stop the management system after it lost the role: in sequence, the
    /// worst case.
    pub fn stop_max(&self) -> Duration {
        self.of_management()
            .fold(Duration::ZERO, |sum, entry| sum.saturating_add(entry.settings.stop_timeout))
    }

    /// Whether a resource of the management system is still not down although it had that long. Such a node
    /// must be reset: another one is about to start it.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let most = self.stop_max();
        self.of_management().any(|entry| entry.leaving.is_some_and(|since| most < now.since(since)))
    }

    fn of_management(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.settings.kind == Kind::Management)
    }

    /// `None`: nobody has said yet.
    fn wants(&self, kind: Kind) -> Option<bool> {
        match kind {
            Kind::Infrastructure => self.infrastructure,
            Kind::Management => Some(self.management),
        }
    }

    /// When the machine must be woken if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.entries.iter().map(|entry| entry.life.deadline()))
    }

    /// Takes one event.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        match event {
            Event::Wanted { infrastructure, management } => {
                (self.infrastructure, self.management) = (Some(infrastructure), management);
            }
            Event::Ended { place, task, answer } => {
                self.change(place, &mut todo, |life| {
                    life.ended(now, task, answer);
                    None
                });
            }
            Event::CleanUp { place } => self.change(place, &mut todo, |life| {
                life.clean_up();
                None
            }),
            Event::Timeout => {}
        }
        for place in (0..).take(self.entries.len()) {
            let Some((may_start, must_stop)) = self.turn(place) else { continue };
            self.change(place, &mut todo, |life| life.go_on(now, may_start, must_stop));
            if self.entries.get_mut(usize::from(place)).is_some_and(|entry| entry.life.hurry(must_stop)) {
                todo.push(Action::Interrupt { place });
            }
        }
        self.mark_leaving(now);
        todo
    }

    /// Whether the resource at `place` may start, and whether it must stop, now.
    fn turn(&self, place: u8) -> Option<(bool, bool)> {
        let own = self.entries.get(usize::from(place))?.settings;
        let wanted = self.wants(own.kind);
        let before_settled = self.entries.iter().all(|other| {
            let waits = other.settings.order < own.order && self.wants(other.settings.kind) == Some(true);
            !waits || other.life.mode().is_settled()
        });
        let after_down = self.entries.iter().all(|other| {
            let waits = own.order < other.settings.order && self.wants(other.settings.kind) == Some(false);
            !waits || other.life.mode().is_down()
        });
        Some((wanted == Some(true) && before_settled, wanted == Some(false) && after_down))
    }

    /// Does something to one resource, and tells what came of it.
    fn change(&mut self, place: u8, todo: &mut Todo, change: impl FnOnce(&mut Life) -> Option<Task>) {
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return };
        let from = entry.life.mode();
        let task = change(&mut entry.life);
        let to = entry.life.mode();
        if from != to {
            todo.push(Action::Changed { place, from, to });
        }
        if let Some(task) = task {
            todo.push(Action::Begin { place, task });
        }
    }

    fn mark_leaving(&mut self, now: Instant) {
        let (infrastructure, management) = (self.infrastructure, self.management);
        for entry in &mut self.entries {
            let unwanted = match entry.settings.kind {
                Kind::Infrastructure => infrastructure == Some(false),
                Kind::Management => !management,
            };
            entry.leaving = match unwanted && !entry.life.mode().is_down() {
                true => entry.leaving.or(Some(now)),
                false => None,
            };
        }
    }
}

#[cfg(test)]
#[path = "lineup_tests.rs"]
mod tests;
