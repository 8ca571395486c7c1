//! The rules for the infrastructure services of a configuration: names, what runs them, times (S1-15).

use super::check::{Problems, bounded};
use super::file::{ClassWord, OnWord, ResourceTable};
use super::problem::Problem;
use super::value::Time;
use super::{Resource, Runner, RunsOn};
use std::time::Duration;
use toml::Spanned;

/// Infrastructure services of one node.
const RESOURCES_MAX: usize = 64;
/// The default of `ocf.ra@.service` for starts and stops, and Pacemaker's usual interval.
const RESOURCE_TIMEOUT: Duration = Duration::from_secs(30);
const RESOURCE_INTERVAL: Duration = Duration::from_secs(10);

pub(super) fn resources(tables: &[Spanned<ResourceTable>], problems: &mut Problems) -> Vec<Resource> {
    let mut all: Vec<Resource> = Vec::new();
    for spanned in tables {
        let table = spanned.as_ref();
        let name = &table.name.as_ref().0;
        if all.iter().any(|known| known.name == *name) || RESOURCES_MAX <= all.len() {
            let what = format!("`{name}` is there twice, or one of more than {RESOURCES_MAX} resources");
            problems.push(Problem::new(table.name.span(), what, "give each resource a name of its own"));
        }
        let runner = match (table.class, &table.unit, &table.agent) {
            (ClassWord::Systemd, Some(unit), None) if table.options.is_empty() => {
                Runner::Systemd { unit: unit.clone() }
            }
            (ClassWord::Ocf, None, Some(agent)) => {
                Runner::Ocf { agent: agent.clone(), options: table.options.clone() }
            }
            (ClassWord::Systemd | ClassWord::Ocf, ..) => {
                let what = format!("`{name}` does not say what runs it");
                let remedy = "write `unit` for class systemd, `agent` and `options` for class ocf";
                problems.push(Problem::new(spanned.span(), what, remedy));
                continue;
            }
        };
        let mut within =
            |value: &Option<Spanned<Time>>, usual| bounded(value.as_ref(), usual, (1, 3600), problems);
        all.push(Resource {
            name: name.clone(),
            runner,
            on: table.on.into(),
            order: table.order,
            start_timeout: within(&table.start_timeout, RESOURCE_TIMEOUT),
            stop_timeout: within(&table.stop_timeout, RESOURCE_TIMEOUT),
            interval: within(&table.interval, RESOURCE_INTERVAL),
        });
    }
    all
}

impl From<OnWord> for RunsOn {
    fn from(word: OnWord) -> Self {
        match word {
            OnWord::Infrastructure => Self::Infrastructure,
            OnWord::Management => Self::Management,
        }
    }
}
