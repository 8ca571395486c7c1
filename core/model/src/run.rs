//! Runs one model to its end, and says how much there was and what was found.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What was reached in any state. Not part of a state: it would multiply them.
#[derive(Debug, Default)]
pub struct Reached(AtomicU32);

impl Reached {
    /// Notes `mark`, below 32.
    pub fn mark(&self, mark: u32) {
        self.0.fetch_or(1_u32 << mark, Ordering::Relaxed);
    }

    /// Whether `mark` was noted.
    pub fn has(&self, mark: u32) -> bool {
        self.0.load(Ordering::Relaxed) & 1_u32 << mark != 0
    }
}

/// What a run of a model showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which model.
    pub name: &'static str,
    /// Within which bounds.
    pub bounds: String,
    /// Different states visited.
    pub states: usize,
    /// Steps tried from them.
    pub steps: usize,
    /// The longest path.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The property that failed, and every step that leads there.
    pub violation: Option<(&'static str, Vec<String>)>,
    /// What should have happened in some state, and did in none.
    pub never: Vec<&'static str>,
}

impl Report {
    /// # Panics
    ///
    /// When a property failed, or the model is emptier than it claims.
    pub fn expect_sound(&self) {
        if let Some((property, steps)) = &self.violation {
            panic!("{}: not so: {property}\n  {}", self.name, steps.join("\n  "));
        }
        assert!(self.never.is_empty(), "{}: never reached: {:?}", self.name, self.never);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bounds, states, steps, depth, took, .. } = self;
        let seconds = took.as_secs();
        write!(f, "model {name}: {states} states, {steps} steps, depth {depth}, {seconds} s; {bounds}")
    }
}

/// Visits every state of `model`, or all up to the first violation.
pub fn run<M>(name: &'static str, bounds: String, model: M) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + std::hash::Hash + Send + Sync + 'static,
    M::Action: Clone + PartialEq + fmt::Debug + Send + Sync,
{
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let builder = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = builder.spawn_dfs().join();
    let found = checker.discoveries();
    let properties = checker.model().properties();
    let of = |expectation: Expectation| properties.iter().filter(move |one| one.expectation == expectation);
    let violation = of(Expectation::Always).find_map(|property| {
        let path = found.get(property.name)?.clone();
        Some((property.name, path.into_actions().iter().map(|action| format!("{action:?}")).collect()))
    });
    let sometimes = of(Expectation::Sometimes).map(|property| property.name);
    Report {
        name,
        bounds,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: start.elapsed(),
        violation,
        never: sometimes.filter(|name| !found.contains_key(name)).collect(),
    }
}
