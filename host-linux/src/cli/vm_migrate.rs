//! `bulkhead vm migrate`: a guest moves to another node while it runs (X15, S0-11).

use super::cluster::AgentArg;
use super::vm::GuestsArg;
use super::vm_migrate_all;
use crate::failure::{Exit, Failure};
use crate::guests::home::{Home, Homes};
use crate::guests::own_volume::{SUFFIX, keeping};
use crate::guests::process::{self, Leave};
use crate::guests::together::leased;
use crate::migration::own;
use crate::output::{Report, parse_size, size};
use crate::site_config::value::parse_time;
use crate::vmm::api::BANDWIDTH_MIN;
use crate::vmm::description::Description;
use crate::vmm::in_use::InUse;
use clap::Args;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Move a guest to another node while it runs
///
/// Copies its memory while it runs, again what it wrote meanwhile, and at last stops it for the
/// rest and has it go on there: it notices a pause, and no more. A guest that writes faster than
/// it can be copied is slowed down. Its disks are not copied: the other node takes the lead of the
/// volumes. So other guests that run by the lease of this node end then; the command says which,
/// and does it with --yes only. With --all they move together: each is copied while it runs, all
/// stand still when all are ready, and are given away when all are there; if one of them fails
/// before, all stay. A guest with --alone moves by itself, with what its disks name. With
/// --copy-disks what is on them goes over, too, to a node that has nothing of it, and so does the
/// guest's own volume, but for its snapshots: from then on the other pair begins it.
///
/// The other node's agent takes it in where its `guests` in the configuration says. Until the
/// guest was given away it is here, whatever happens, and goes on; from then on it is there.
/// Exit code 1: it was not moved; 3: it cannot be.
///
/// Examples:
///   bulkhead vm migrate web1 --to b1
///   bulkhead vm migrate web1 --to b1 --bandwidth 100MiB --downtime 100ms
///   bulkhead vm migrate web1 --to b1 --quick
///   bulkhead vm migrate web1 --to c1 --copy-disks --bandwidth 100MiB
///   bulkhead vm migrate --all --to b1
///   bulkhead vm migrate --all --cancel
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Migrate {
    /// Its name
    #[arg(value_name = "NAME", required_unless_present = "all")]
    name: Option<String>,
    #[command(flatten)]
    guests: GuestsArg,
    /// All guests that run by the lease of this node, together
    #[arg(long, conflicts_with_all = ["name", "yes"])]
    all: bool,
    /// The node that it goes to, by its name
    #[arg(long, value_name = "NODE", required_unless_present = "cancel")]
    to: Option<String>,
    /// For how long it may stand still, as far as can be known before
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = parse_time)]
    downtime: Duration,
    /// Bytes a second at most while it runs, at least 1MiB; with --all, of all together
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth)]
    bandwidth: Option<u64>,
    /// Stop it first and copy it once: sooner done, and longer away
    #[arg(long, conflicts_with_all = ["downtime", "bandwidth"])]
    quick: bool,
    /// Also what is on its disks, to a node that does not have it
    ///
    /// What the guest writes meanwhile goes after it. The other node's lead does not change, and the
    /// disks here stay as they are: delete them when the guest is not to come back. One with a volume
    /// of its own has it made there, and is to run in that pair from then on. Where the other node
    /// knows a guest of this name (`vm create --local` there), its disks are where that is described.
    #[arg(long, conflicts_with = "all")]
    copy_disks: bool,
    /// Do not move it any more: it stays here
    #[arg(long, conflicts_with_all = ["copy_disks", "to", "downtime", "bandwidth", "quick", "yes"])]
    cancel: bool,
    /// Also if other guests end
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let bandwidth = parse_size(text)?;
    match bandwidth < BANDWIDTH_MIN {
        true => Err(format!("at least {} a second, or it never ends", size(BANDWIDTH_MIN))),
        false => Ok(bandwidth),
    }
}

pub(super) fn run(args: &Migrate, is_quiet: bool) -> Result<Report, Failure> {
    let homes = args.guests.homes();
    let Migrate { downtime, bandwidth, quick: is_quick, .. } = *args;
    let Some(name) = args.name.as_deref().filter(|_| !args.all) else {
        let Some(node) = args.to.as_deref().filter(|_| !args.cancel) else {
            return vm_migrate_all::cancel(&homes);
        };
        let agent = args.agent.path()?;
        let leave =
            Leave { node, agent: &agent, downtime, bandwidth, is_quick, with_disks: false, together: None };
        return vm_migrate_all::run(&homes, leave, is_quiet);
    };
    let home = homes.find(name)?;
    let Some(node) = args.to.as_deref().filter(|_| !args.cancel) else {
        process::tell(&home, "vm.cancel-migration")?;
        let text = format!("Guest {} is not moved any more.\n", home.name);
        return Ok(Report::new(text, json!({ "ok": true, "name": home.name })));
    };
    if !args.yes && !args.copy_disks {
        alone_under_its_lease(&home, &homes, node)?;
    }
    let agent = args.agent.path()?;
    let with_disks = args.copy_disks;
    let left = with_disks.then(|| left(&home)).transpose()?;
    let is_own = with_disks && keeping::origin(&home)?.is_some();
    // Two at once would each undo what the other one notes.
    let _lock = is_own.then(|| lock(&home)).transpose()?;
    let snapshots = if is_own { send_ahead(&home, &agent, node, is_quiet)? } else { Vec::new() };
    let leave = Leave { node, agent: &agent, downtime, bandwidth, is_quick, with_disks, together: None };
    let mut shown = None;
    let moved = process::migrate(&home, leave, &mut |view| {
        let (phase, round) = (view.get("phase").cloned(), view.get("round").cloned());
        if !is_quiet && shown.as_ref() != Some(&(phase.clone(), round.clone())) {
            eprint!("{}", line(view));
            shown = Some((phase, round));
        }
    });
    let moved = moved.inspect_err(|_| {
        if is_own {
            own::stays(&agent, &home.name);
        }
    })?;
    if is_own {
        own::runs_there(&agent, &home.name, node);
    }
    let number = |key: &str| moved.get(key).and_then(Value::as_u64).unwrap_or(0);
    let text = format!(
        "Guest {} runs on {node}: it stood still for {} ms; {} in {} rounds took {} ms.\n",
        home.name,
        number("downtimeMs"),
        size(number("bytes")),
        number("rounds"),
        number("totalMs"),
    );
    let kept = left.as_ref().filter(|left| !left.is_empty()).map_or_else(String::new, |left| {
        let copied = size(number("diskBytes"));
        format!(
            "What was on its disks went with it, {copied} of them. Left here, to be deleted:\n  {}\n",
            left.join("\n  ")
        )
    });
    let stays = match snapshots.as_slice() {
        [] => String::new(),
        names => format!("Its snapshots stayed here, in {}{SUFFIX}: {}\n", home.name, names.join(", ")),
    };
    let json = json!({ "ok": true, "name": home.name, "node": node, "moved": moved, "left": left,
                       "snapshotsLeft": snapshots });
    Ok(Report::new(text + &kept + &stays, json))
}

fn is_moved(home: &Home) -> Failure {
    Failure::refused(format!("guest {} is being moved already", home.name)).left("")
}

/// No other command moves the guest while this lives.
fn lock(home: &Home) -> Result<InUse, Failure> {
    let path = home.move_lock();
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    drop(file.map_err(|error| Failure::io("write", &path, &error))?);
    InUse::lock(&path).map_err(|why| if why.exit == Exit::Refused { is_moved(home) } else { why })
}

/// Its own volume goes before it; the names of its snapshots, which stay.
fn send_ahead(home: &Home, agent: &Path, node: &str, is_quiet: bool) -> Result<Vec<String>, Failure> {
    let info = process::info(home)?.ok_or_else(|| process::is_off(home))?;
    if info.get("migration").is_some_and(|view| !view.is_null()) {
        return Err(is_moved(home));
    }
    if !is_quiet {
        eprintln!("its own volume");
    }
    own::ahead(agent, &home.name, node).map_err(|why| {
        let what = format!("guest {} was not moved: {}", home.name, why.what);
        Failure { what, ..why }.left("It stays on this node.")
    })
}

/// The disks whose content goes with a guest, and stays here; and its own volume.
fn left(home: &Home) -> Result<Vec<String>, Failure> {
    let described = Description::read(&home.description())?;
    let written = described.disks.iter().filter(|disk| !disk.is_read_only);
    let own = keeping::origin(home)?.map(|volume| format!("volume {volume}"));
    Ok(written.map(|disk| disk.content.to_string()).chain(own).collect())
}

/// Refuses what would end other guests.
fn alone_under_its_lease(home: &Home, homes: &Homes, node: &str) -> Result<(), Failure> {
    let all = leased(homes)?;
    let others: Vec<_> = all.iter().filter(|other| *other != home).map(|other| &*other.name).collect();
    if others.is_empty() || others.len() == all.len() {
        return Ok(());
    }
    let what = format!(
        "{node} would lead the volumes of all guests here, and these would end: {}",
        others.join(", ")
    );
    let next = format!(
        "say `--all` in place of {} to move all of them together, or --yes if they may end.",
        home.name
    );
    Err(Failure::refused(what).left("Nothing was moved.").next(next))
}

/// How far it is, for people.
pub(super) fn line(view: &Value) -> String {
    let word = |key: &str| view.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| view.get(key).and_then(Value::as_u64).unwrap_or(0);
    match word("phase") {
        "copying" => {
            let slow = match number("throttled") {
                0 => String::new(),
                held => format!(", slowed down by {held} %"),
            };
            format!("round {}: {}{slow}\n", number("round"), size(number("total")))
        }
        "disks" => format!("round {}: {} of its disks\n", number("round"), size(number("total"))),
        "rest" => format!("it stands still for the rest: {}\n", size(number("total"))),
        "ready" => "it runs on, and waits for the others\n".into(),
        "whole" => "all of it is there, and it waits for the others\n".into(),
        "returned" => "it stands still, and its lease is given back\n".into(),
        "given" => format!("it was given to {}\n", word("to")),
        phase => format!("{phase}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_words() {
        let cases = [
            (json!({ "phase": "connecting", "to": "b1" }), "connecting\n"),
            (json!({ "phase": "copying", "round": 2, "total": 3 << 20, "throttled": 0 }), "round 2: 3 MiB\n"),
            (
                json!({ "phase": "copying", "round": 4, "total": 3 << 20, "throttled": 35 }),
                "round 4: 3 MiB, slowed down by 35 %\n",
            ),
            (json!({ "phase": "rest", "total": 4096 }), "it stands still for the rest: 4 KiB\n"),
            (json!({ "phase": "ready", "round": 9 }), "it runs on, and waits for the others\n"),
            (json!({ "phase": "given", "to": "b1" }), "it was given to b1\n"),
        ];
        for (view, text) in cases {
            assert_eq!(line(&view), text);
        }
        assert!(parse_bandwidth("1MiB").is_ok() && parse_bandwidth("1023KiB").is_err());
    }
}
