//! `bulkhead compartment`: how the two compartments of a pair keep what is written (S0-04, S0-05, S0-20).

use super::cluster::AgentArg;
use super::volume::look;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::guests::own_volume as own;
use crate::mirror::view::{Policy, VolumeView};
use crate::output::Report;
use crate::volume::orders::Listing;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Mode(Mode),
}

/// Show or say how what is written is kept: configuration or resilient
///
/// resilient, for a plant in operation: a write is answered when it is on the disk behind the log as
/// well; least is only in memory or in logs. configuration, for a plant that is being set up: a write
/// is answered when it is durable in the logs of both compartments, which is faster. Neither loses
/// what was answered with one node. It goes for all volumes of the pair that have no mode of their
/// own; those that have one are listed, and are an alert while the pair is resilient. Without a mode:
/// shows it. It is the same as `bulkhead volume mode through` and `back`.
///
/// Examples:
///   bulkhead compartment mode
///   bulkhead compartment mode resilient
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Mode {
    /// How
    #[arg(value_enum)]
    mode: Option<Word>,
    #[command(flatten)]
    agent: AgentArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    /// In the logs of both compartments
    Configuration,
    /// On the disk behind the log as well
    Resilient,
}

impl Word {
    const fn policy(self) -> Policy {
        match self {
            Self::Configuration => Policy::Back,
            Self::Resilient => Policy::Through,
        }
    }

    const fn of(policy: Policy) -> Self {
        match policy {
            Policy::Back => Self::Configuration,
            Policy::Through => Self::Resilient,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Resilient => "resilient",
        }
    }
}

pub(super) fn run(verb: &Verb) -> Result<Report, Failure> {
    let Verb::Mode(args) = verb;
    let mut client = args.agent.connect()?;
    if let Some(mode) = args.mode {
        client.ask(&Request::VolumeMode { volume: None, mode: Some(mode.policy()) })?;
    }
    Ok(report(&look(&mut client)?))
}

/// How the pair is, and which volumes are otherwise.
fn report(listing: &Listing) -> Report {
    let storage = &listing.storage;
    let mode = Word::of(storage.wanted);
    // A guest's own volume is written by commands, not by the guest.
    let is_data = |volume: &&VolumeView| own::guest(&volume.name).is_none();
    let volumes: Vec<&VolumeView> = storage.volumes.iter().filter(is_data).collect();
    let is_other = |volume: &&&VolumeView| volume.wanted.is_some_and(|policy| policy != storage.wanted);
    let others: Vec<&str> = volumes.iter().filter(is_other).map(|volume| volume.name.as_str()).collect();
    let other = Word::of(match storage.wanted {
        Policy::Back => Policy::Through,
        Policy::Through => Policy::Back,
    });
    let so = volumes.len().saturating_sub(others.len());
    let mut text =
        format!("pair {}: {}; so are {so} of its {} volumes\n", listing.pair, mode.name(), volumes.len());
    if !others.is_empty() {
        let names = others.join(", ");
        text.push_str(&format!("  {}, by a mode of their own: {names}\n", other.name()));
    }
    let forced = storage.leads && storage.wanted == Policy::Back && storage.policy == Policy::Through;
    if forced {
        text.push_str("  now as if it were resilient, for no second holder is in sync\n");
    }
    let (pair, count) = (listing.pair, volumes.len());
    let json =
        json!({ "ok": true, "pair": pair, "mode": mode.name(), "volumes": count, "otherwise": others });
    Report::new(text, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::view::View;

    #[test]
    fn what_is_otherwise_is_counted_and_named() {
        let volume = |(name, wanted): (&str, Option<Policy>)| VolumeView {
            name: name.into(),
            wanted,
            ..VolumeView::default()
        };
        let all = [
            ("vm1", None),
            ("vm2", Some(Policy::Back)),
            ("vm3", Some(Policy::Through)),
            ("vm1.guest", Some(Policy::Back)),
        ];
        let volumes = all.map(volume).to_vec();
        let storage = View { wanted: Policy::Through, leads: true, volumes, ..View::default() };
        let mut listing = Listing { me: 1, pair: 1, nodes: Vec::new(), socket: None, tls: false, storage };
        let told = report(&listing);
        assert_eq!(
            told.text,
            "pair 1: resilient; so are 2 of its 3 volumes\n  configuration, by a mode of their own: vm2\n"
        );
        assert_eq!((&told.json["mode"], &told.json["otherwise"]), (&json!("resilient"), &json!(["vm2"])));
        (listing.storage.wanted, listing.storage.policy) = (Policy::Back, Policy::Through);
        let told = report(&listing);
        assert!(told.text.starts_with("pair 1: configuration; so are 2 of its 3"), "{}", told.text);
        assert!(told.text.ends_with("no second holder is in sync\n"), "{}", told.text);
    }
}
