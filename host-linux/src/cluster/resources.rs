//! The infrastructure resources of this node: what `bulkhead_core::resource` decides is carried out here,
//! each task in a thread of its own; the loop never waits (S1-05, S1-06, S1-15).

use super::events::{Log, News};
use super::management;
use super::pressure::Lack;
use super::request;
use super::resource_agent;
use super::status::Resource as Shown;
use super::wake::Wake;
use crate::site_config::{Resource, RunsOn, SiteConfig};
use bulkhead_core::resource::life::{Answer, Mode, Task};
use bulkhead_core::resource::lineup::{Action, Event, Kind, Lineup, Settings};
use bulkhead_core::time::Instant;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A task that ended: of which resource, what, how, in which words.
type Ended = (u8, Task, Answer, String);

/// The resources of this node.
#[derive(Debug)]
pub struct Resources {
    config: Arc<SiteConfig>,
    lineup: Lineup,
    /// The last failure of each, in words.
    why: Vec<String>,
    wanted: Option<(bool, bool)>,
    /// Ends what is under way, of each.
    interrupts: Vec<Arc<AtomicBool>>,
    sender: Sender<Ended>,
    receiver: Receiver<Ended>,
    wake: Wake,
}

impl Resources {
    /// The resources of a configuration, which has no more than the core takes: its checks saw to it.
    pub fn new(config: Arc<SiteConfig>, wake: Wake) -> Self {
        let settings = config.resources.iter().map(|resource| Settings {
            kind: match resource.on {
                RunsOn::Infrastructure => Kind::Infrastructure,
                RunsOn::Management => Kind::Management,
            },
            order: resource.order,
            interval: resource.interval,
            stop_timeout: resource.stop_timeout,
        });
        let lineup = Lineup::new(settings).or_else(|| Lineup::new([]));
        // Nothing at all always fits.
        let lineup = lineup.unwrap_or_else(|| unreachable!("an empty list of resources fits"));
        let why = vec![String::new(); config.resources.len()];
        let interrupts = config.resources.iter().map(|_| Arc::default()).collect();
        let (sender, receiver) = channel();
        Self { config, lineup, why, wanted: None, interrupts, sender, receiver, wake }
    }

    /// Whether none of the management system runs here, for certain.
    pub fn management_is_down(&self) -> bool {
        self.lineup.management_is_down()
    }

    /// Whether this node must be reset: it could not stop the management system in time.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.lineup.is_overdue(now)
    }

    /// Within this time a node that has lost the role has stopped the management system, or was reset.
    pub fn grace(&self) -> Duration {
        let watchdog = self.config.watchdog.as_ref().map_or(Duration::ZERO, |watchdog| watchdog.timeout);
        management::grace(self.lineup.stop_max(), watchdog)
    }

    /// What this node cannot promise, without a watchdog.
    pub fn lack(&self) -> Option<Lack> {
        let without = self.config.watchdog.is_none() && !self.lineup.stop_max().is_zero();
        without.then(|| Lack {
            what: "watchdog",
            why: "the management system may run on after this agent died, and start elsewhere: name a \
                  [watchdog]"
                .into(),
        })
    }

    /// One round: takes in what ended, says what is wanted, does what is due.
    pub fn round(&mut self, now: Instant, infrastructure: bool, management: bool, log: &mut Log) {
        while let Ok((place, task, answer, words)) = self.receiver.try_recv() {
            if let Some(why) = self.why.get_mut(usize::from(place)) {
                if answer != Answer::Ok && answer != Answer::NotRunning {
                    *why = words;
                } else if task == Task::Monitor && answer == Answer::NotRunning {
                    *why = "it is not running".into();
                }
            }
            self.step(now, Event::Ended { place, task, answer }, log);
        }
        // Until the boot profile is chosen nothing is said, so that what runs goes on.
        let wanted = (infrastructure, management);
        if self.wanted != Some(wanted) && (infrastructure || self.wanted.is_some()) {
            self.wanted = Some(wanted);
            self.step(now, Event::Wanted { infrastructure, management }, log);
        } else if self.wanted.is_none() || self.lineup.deadline().is_some_and(|at| at <= now) {
            self.step(now, Event::Timeout, log);
        }
    }

    /// An operator says that the cause of a resource's failures is gone.
    pub fn clean_up(&mut self, now: Instant, name: &str, log: &mut Log) -> request::Answer {
        let place = self.config.resources.iter().position(|resource| resource.name == name);
        let Some(place) = place.and_then(|place| u8::try_from(place).ok()) else {
            let next = "`bulkhead resource list` shows their names";
            return request::Answer::refused("usage", format!("there is no resource {name}"), next);
        };
        if let Some(why) = self.why.get_mut(usize::from(place)) {
            why.clear();
        }
        self.step(now, Event::CleanUp { place }, log);
        request::Answer::done("resource", json!({ "name": name }))
    }

    /// All of them, for the status.
    pub fn show(&self) -> Vec<Shown> {
        let all = (0..).zip(&self.config.resources).zip(&self.why);
        let shown = all.filter_map(|((place, resource), why)| {
            let (mode, failures) = self.lineup.look(place)?;
            Some(Shown {
                name: resource.name.clone(),
                on: on(resource).into(),
                state: mode.name().into(),
                failures,
                why: why.clone(),
            })
        });
        shown.collect()
    }

    fn step(&mut self, now: Instant, event: Event, log: &mut Log) {
        for action in self.lineup.step(now, event) {
            match action {
                Action::Begin { place, task } => self.begin(place, task),
                Action::Interrupt { place } => {
                    if let Some(interrupt) = self.interrupts.get(usize::from(place)) {
                        interrupt.store(true, Ordering::Relaxed);
                    }
                }
                Action::Changed { place, from: _, to } => self.tell(place, to, log),
            }
        }
    }

    fn begin(&mut self, place: u8, task: Task) {
        let Some(resource) = self.config.resources.get(usize::from(place)).cloned() else { return };
        let Some(interrupt) = self.interrupts.get_mut(usize::from(place)) else { return };
        // One of its own: what interrupted the last task does not touch this one.
        *interrupt = Arc::default();
        let interrupt = Arc::clone(interrupt);
        let (sender, wake) = (self.sender.clone(), self.wake.clone());
        let end = move |answer, words| {
            // The loop may have ended.
            let _ = sender.send((place, task, answer, words));
            wake.wake();
        };
        let again = end.clone();
        let thread = std::thread::Builder::new().name("resource".into()).stack_size(256 << 10);
        let spawned = thread.spawn(move || {
            let (answer, words) = resource_agent::run(&resource, task, &interrupt);
            end(answer, words);
        });
        if spawned.is_err() {
            again(Answer::Failed, "no thread could be started".into());
        }
    }

    fn tell(&self, place: u8, to: Mode, log: &mut Log) {
        let Some(resource) = self.config.resources.get(usize::from(place)) else { return };
        let why = self.why.get(usize::from(place)).map_or("", String::as_str);
        let because = if why.is_empty() { String::new() } else { format!(": {why}") };
        let text = match to {
            Mode::Starting => "is being started".to_owned(),
            Mode::Running => "runs".to_owned(),
            Mode::Stopping => format!("is being stopped{because}"),
            Mode::Stopped => "is stopped".to_owned(),
            Mode::Waiting => format!("failed and is tried again{because}"),
            Mode::GivenUp => {
                format!(
                    "failed too often and is given up{because}; `bulkhead resource cleanup {}`",
                    resource.name
                )
            }
            Mode::Stuck => format!("could not be stopped, it may still run{because}"),
            Mode::Unknown => "is not known".to_owned(),
        };
        let fields = json!({ "resource": resource.name, "state": to.name(), "on": on(resource) });
        log.say(News::new("resource", format!("{} {text}", resource.name), fields));
    }
}

/// When a resource runs, in the word of the configuration.
fn on(resource: &Resource) -> &'static str {
    match resource.on {
        RunsOn::Infrastructure => "infrastructure",
        RunsOn::Management => "management",
    }
}
