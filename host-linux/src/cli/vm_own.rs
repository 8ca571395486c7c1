//! `bulkhead vm`, where a guest has a volume of its own: made, brought up to date, described anew, its
//! snapshots, and its end (S3-06, S3-07, S3-11).

use super::cluster::AgentArg;
use super::vm::{GuestArg, GuestsArg};
use super::vm_template;
use super::vmm::snapshot_name;
use crate::failure::Failure;
use crate::guests::home::{Home, Homes};
use crate::guests::own_volume::keeping::{self, Before};
use crate::guests::own_volume::moving::{self, Moving};
use crate::guests::own_volume::pair::{Pair, has_none};
use crate::guests::own_volume::served::Access;
use crate::guests::own_volume::table::{Entry, What};
use crate::guests::own_volume::{SUFFIX, state::LAST};
use crate::guests::record::Way;
use crate::guests::template::{self, Instance};
use crate::output::{Report, Voice, size};
use crate::vmm::begins::Kept;
use crate::vmm::description::Description;
use crate::vmm::in_use::{InUse, is_in_use};
use crate::volume::size::blocks;
use bulkhead_core::volume::name::Name;
use clap::Args;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Make a guest of a description, or of a template
///
/// Checks the file: `bulkhead vmm --help` says what stands in it. Where this node's agent leads
/// the volumes of its pair, the guest gets a volume of its own, NAME.guest, with the description,
/// the kernel and the initrd: whichever node of the pair leads can start it. Without an agent, or
/// with --local, a copy of the description is kept on this node, and the kernel stays where it is.
/// The guest does not run yet, and its disks are not touched. Exit code 3: another node leads.
///
/// A template is a description without a name; {name} in it is the guest's. Of its disks those with
/// `size` are volumes that are made for the guest, in the `mode` that they say. FILE's own keys
/// count where both have them; with --name none is needed. The guest keeps no ties to it.
///
/// Examples:
///   bulkhead vm create web1.toml
///   bulkhead vm create --template /etc/bulkhead/plc.toml --name plc7
///   bulkhead vm create web1.toml --own-volume 20GiB
///   bulkhead vm create test1.toml --local --json | jq -r .name
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Create {
    /// What the guest is
    #[arg(value_name = "FILE", required_unless_present = "name")]
    description: Option<PathBuf>,
    /// What it has in common with others
    #[arg(long, value_name = "FILE", env = "BULKHEAD_TEMPLATE")]
    template: Option<PathBuf>,
    /// What the guest is called, if no FILE says so
    #[arg(long, value_name = "NAME", requires = "template", conflicts_with = "description")]
    name: Option<String>,
    /// How large its own volume is; what is not used takes no room [default: twice its files and
    /// its memory, and 64 MiB]
    #[arg(long, value_name = "SIZE", value_parser = blocks, conflicts_with = "local")]
    own_volume: Option<u64>,
    /// Keep it on this node alone
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    guests: GuestsArg,
    #[command(flatten)]
    agent: AgentArg,
}

/// Describe a guest anew
///
/// Puts the description, and the kernel and the initrd that it names, in place of those before;
/// snapshots stay. The guest is so from its next start on: one that runs goes on as it is.
///
/// Example:
///   bulkhead vm update web1 web1.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Update {
    #[command(flatten)]
    guest: GuestArg,
    /// What the guest is
    #[arg(value_name = "FILE")]
    description: PathBuf,
    #[command(flatten)]
    agent: AgentArg,
}

/// List the snapshots of a guest
///
/// Lists those in its own volume: their names, sizes, and ages. With --delete, deletes one, on the
/// node that leads.
///
/// Examples:
///   bulkhead vm snapshots web1
///   bulkhead vm snapshots web1 --delete before-update
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Snapshots {
    #[command(flatten)]
    guest: GuestArg,
    /// Delete this one
    #[arg(long, value_name = "SNAPSHOT", value_parser = snapshot_name)]
    delete: Option<Name>,
    #[command(flatten)]
    agent: AgentArg,
}

/// Forget a guest
///
/// Deletes its description and its log, and its own volume with its snapshots, on the node that
/// leads. Its disks stay. Exit code 3: it runs, or another node leads.
///
/// Examples:
///   bulkhead vm delete web1 --yes
///   bulkhead vm delete web1 --local --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Delete {
    #[command(flatten)]
    guest: GuestArg,
    /// Delete what is on this node only
    #[arg(long)]
    local: bool,
    /// Yes, delete it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
}

const NOT_STARTED: &str = "The guest was not started.";

/// The volumes of this node's pair; `None`: there are none here, or nobody was named and nobody is there.
fn pair(agent: &AgentArg) -> Result<Option<Pair>, Failure> {
    let path = agent.path()?;
    if !agent.is_named() && UnixStream::connect(&path).is_err() {
        return Ok(None);
    }
    Pair::ask(&path)
}

pub(super) fn create(args: &Create, voice: Voice) -> Result<Report, Failure> {
    let Some(template) = &args.template else {
        // One of the two is required.
        let file = args.description.as_deref().unwrap_or(Path::new(""));
        return create_of(args, &Description::read(file)?, voice);
    };
    let Instance { described, volumes } =
        template::instance(template, args.description.as_deref(), args.name.as_deref())?;
    let mut made = vm_template::make(&args.agent, &described.name, &volumes)?;
    match create_of(args, &described, voice) {
        Ok(report) => Ok(made.beside(report)),
        Err(why) => Err(made.undo(why)),
    }
}

fn create_of(args: &Create, described: &Description, voice: Voice) -> Result<Report, Failure> {
    let homes = args.guests.homes();
    let name = &described.name;
    let is_new = homes.find(name).is_err();
    let pair = if args.local || !is_new { None } else { pair(&args.agent)? };
    let Some(pair) = pair else {
        if is_new && args.own_volume.is_some() {
            let what = format!("no agent is here that has volumes, so guest {name} gets none of its own");
            return Err(Failure::refused(what).next("name the agent, or leave --own-volume out."));
        }
        let home = homes.create(described)?;
        let what = format!("is described in {}", home.description().display());
        return Ok(created(&home, &what, None));
    };
    let (home, blocks) = keep(pair, described, &homes, args.own_volume, voice)?;
    let volume = format!("{name}{SUFFIX}");
    let what = format!("is in volume {volume}, of {}", size(blocks.saturating_mul(4096)));
    Ok(created(&home, &what, Some(&volume)))
}

fn created(home: &Home, what: &str, volume: Option<&str>) -> Report {
    let name = &home.name;
    let text = format!("Guest {name} {what}.\n  Next: bulkhead vm start {name}\n");
    let json = json!({ "ok": true, "name": name, "description": home.description(), "ownVolume": volume });
    Report::new(text, json)
}

/// Makes its own volume, and puts it there.
fn keep(
    mut pair: Pair,
    described: &Description,
    homes: &Homes,
    blocks: Option<u64>,
    voice: Voice,
) -> Result<(Home, u64), Failure> {
    let name = &described.name;
    let files = keeping::files(described)?;
    let blocks = blocks.map_or_else(|| keeping::room(described), Ok)?;
    let is_made = pair.volume(name).is_none();
    let contents = pair.make(name, blocks)?;
    let blocks = contents.blocks();
    let bar = voice.bar("guest", files);
    let contents = match keeping::put(contents, described, &|bytes| bar.inc(bytes)) {
        Ok(contents) => contents,
        Err(why) if is_made && pair.delete(name).is_ok() => return Err(why.left("Nothing was made.")),
        Err(why) => return Err(why.left("Its own volume is there, and empty.")),
    };
    bar.finish_and_clear();
    let home = keeping::bring(&contents, homes, name, Before::Copy, &|_| ())?;
    Ok((home, blocks))
}

/// The guest as it is to begin: what is on this node is brought up to date from its own volume, if it has
/// one. Without an agent, what is on this node.
pub(super) fn bring(guest: &GuestArg, agent: Option<&Path>, voice: Voice) -> Result<Home, Failure> {
    let (homes, known) = (guest.homes(), guest.home());
    let Some(agent) = agent else { return known };
    let asked = Pair::ask(agent);
    if let Ok(Some(pair)) = &asked
        && let Some(home) = bring_of(pair, &guest.name, &homes, voice)?
    {
        return Ok(home);
    }
    let home = known?;
    match (keeping::origin(&home)?, asked) {
        (None, _) => Ok(home),
        // A copy may be older than what it is a copy of.
        (Some(_), Err(why)) => Err(why.left(NOT_STARTED)),
        (Some(volume), Ok(_)) => Err(gone(&home, &volume).left(NOT_STARTED)),
    }
}

/// The guest as it is in its own volume; `None`: it has none.
pub(super) fn bring_of(
    pair: &Pair,
    name: &str,
    homes: &Homes,
    voice: Voice,
) -> Result<Option<Home>, Failure> {
    let not_started = |failure: Failure| failure.left(NOT_STARTED);
    if pair.volume(name).is_none() {
        return Ok(None);
    }
    pair.leads().map_err(not_started)?;
    let contents = pair.open(name, Access::Read).map_err(not_started)?;
    let bar = voice.bar("guest", keeping::copied(contents.table()));
    let home = keeping::bring(&contents, homes, name, Before::Copy, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    home.map(Some)
}

/// The guest to restore from a file: as it is in its own volume, on this node, or described in the file.
pub(super) fn bring_or_make(
    guest: &GuestArg,
    described: &Description,
    agent: Option<&Path>,
    voice: Voice,
) -> Result<Home, Failure> {
    let (homes, known) = (guest.homes(), guest.home());
    let pair = match agent.map(Pair::ask).transpose() {
        Ok(pair) => pair.flatten(),
        // Whether it has a volume of its own cannot be known.
        Err(why) => return known.map_err(|_| why.left(NOT_STARTED)),
    };
    let kept = pair.map(|pair| bring_of(&pair, &guest.name, &homes, voice)).transpose()?.flatten();
    kept.or(known.ok()).map_or_else(|| homes.create(described), Ok)
}

fn gone(home: &Home, volume: &Name) -> Failure {
    let name = &home.name;
    let what = format!("guest {name} is not there any more: what is on this node is a copy of {volume}");
    let next = format!("`bulkhead vm delete {name} --yes` deletes the copy, too.");
    Failure::refused(what).left("Nothing was changed.").next(next)
}

/// Where a snapshot is, or is to be: in this file, or under this name in the guest's own volume.
pub(super) fn kept(file: Option<&Path>, name: Option<&Name>) -> Result<Kept, Failure> {
    if let Some(file) = file {
        let file = std::path::absolute(file).map_err(|error| Failure::io("find", file, &error))?;
        return Ok(Kept::File(file));
    }
    let last = || Name::new(LAST).map_err(|why| Failure::failed(why.to_string()));
    name.map_or_else(last, |name| Ok(name.clone())).map(Kept::Own)
}

pub(super) fn update(args: &Update, voice: Voice) -> Result<Report, Failure> {
    let (described, name) = (Description::read(&args.description)?, &args.guest.name);
    if described.name != *name {
        let what = format!("{} describes guest {}, not {name}", args.description.display(), described.name);
        return Err(Failure::usage(what).left("Nothing was changed."));
    }
    let pair = pair(&args.agent)?;
    if let Some(pair) = pair.filter(|pair| pair.volume(name).is_some()) {
        let bar = voice.bar("guest", keeping::files(&described)?);
        keeping::put(pair.open(name, Access::Change)?, &described, &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
    } else {
        let home = args.guest.home()?;
        if let Some(volume) = keeping::origin(&home)? {
            let next = "run it on the node that leads its volumes, where the agent answers.";
            return Err(gone(&home, &volume).next(next));
        }
        let _lock = InUse::lock(&home.description())?;
        home.describe(&described)?;
    }
    let text = format!("Guest {name} is so from its next start on.\n");
    Ok(Report::new(text, json!({ "ok": true, "name": name, "config": described.json() })))
}

pub(super) fn snapshots(args: &Snapshots) -> Result<Report, Failure> {
    let name = &args.guest.name;
    let pair = Pair::ask(&args.agent.path()?)?.ok_or_else(|| has_none(name))?;
    let Some(snapshot) = &args.delete else {
        return Ok(list(name, pair.open(name, Access::Look)?.table().entries()));
    };
    let mut change = pair.open(name, Access::Change)?.change();
    if !change.remove(&What::Snapshot(snapshot.clone())) {
        let next = format!("`bulkhead vm snapshots {name}` lists those that are there.");
        return Err(Failure::failed(format!("guest {name} has no snapshot {snapshot}")).next(next));
    }
    change.commit().map_err(|error| Failure::failed(format!("cannot delete it: {error}")).left(""))?;
    let text = format!("Snapshot {snapshot} of guest {name} is deleted.\n");
    Ok(Report::new(text, json!({ "ok": true, "name": name, "deleted": snapshot.as_str() })))
}

fn list(guest: &str, entries: &[Entry]) -> Report {
    let (mut text, mut all, now) = (String::new(), Vec::<Value>::new(), keeping::now());
    for entry in entries {
        let What::Snapshot(snapshot) = &entry.what else { continue };
        let age = age(now.saturating_sub(entry.at));
        text.push_str(&format!("{snapshot:<24} {:>20}  {age} ago\n", size(entry.length)));
        all.push(json!({ "name": snapshot.as_str(), "bytes": entry.length, "at": entry.at }));
    }
    if all.is_empty() {
        text = format!("There are none. `bulkhead vm snapshot {guest}` takes one.\n");
    }
    Report::new(text, json!({ "ok": true, "name": guest, "snapshots": all }))
}

/// So many seconds, for people.
fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(unit, _)| *unit <= seconds);
    let told = unit.and_then(|(unit, name)| Some(format!("{} {name}", seconds.checked_div(unit)?)));
    told.unwrap_or_else(|| format!("{seconds} s"))
}

pub(super) fn delete(args: &Delete) -> Result<Report, Failure> {
    let (name, known) = (&args.guest.name, args.guest.home());
    let pair = if args.local { None } else { pair(&args.agent)? };
    let pair = pair.filter(|pair| pair.volume(name).is_some());
    let copy_of = known.as_ref().ok().map(keeping::origin).transpose()?.flatten();
    match (&pair, &known, &copy_of) {
        (Some(_), Ok(_), None) => {
            let what = format!("there are two guests called {name}: one of this node, and one of the pair");
            return Err(Failure::refused(what).next("say --local to delete the one of this node first."));
        }
        (None, Ok(_), Some(volume)) if !args.local && self::pair(&args.agent)?.is_none() => {
            let what = format!("no agent answers that could delete {volume}");
            let next = "name the agent, or say --local to delete what is on this node only.";
            return Err(Failure::refused(what).next(next));
        }
        (None, Err(why), _) => return Err(why.clone()),
        (_, _, _) => {}
    }
    if !args.yes {
        let own = if pair.is_some() { ", its own volume with its snapshots" } else { "" };
        let what = format!("guest {name} and its log{own} would be deleted");
        return Err(Failure::refused(what).next("say --yes if that is meant."));
    }
    let _lock = known.as_ref().ok().map(|home| InUse::lock(&home.description())).transpose()?;
    let is_own = pair.is_some();
    if let Some(mut pair) = pair {
        pair.leads()?;
        pair.delete(name)?;
    }
    known.map_or(Ok(()), |home| home.delete())?;
    let rest = if is_own { ", with its own volume; its disks are" } else { "; its volumes are" };
    let text = format!("Guest {name} is forgotten{rest} as they were.\n");
    Ok(Report::new(text, json!({ "ok": true, "name": name, "ownVolume": is_own })))
}

/// The guests of the pair, where the agent says; else none.
pub(super) fn of_pair(agent: &AgentArg) -> Option<Pair> {
    pair(agent).ok().flatten()
}

/// Where a guest is described.
#[derive(Default)]
pub(super) struct Described {
    /// In words.
    pub(super) text: String,
    /// Its own volume.
    pub(super) volume: Option<String>,
    /// Where it moves, if nobody of this pair wants it to run, and it does not.
    pub(super) moving: Option<Moving>,
}

impl Described {
    /// A guest of this node.
    pub(super) fn of(home: &Home, pair: Option<&Pair>) -> Self {
        match keeping::origin(home) {
            Ok(None) => Self { text: "this node".into(), ..Self::default() },
            Ok(Some(_)) if pair.is_some_and(|pair| pair.volume(&home.name).is_none()) => {
                let volume = format!("{}{SUFFIX}", home.name);
                let text = format!("volume {volume}, which is not there any more");
                Self { text, volume: Some(volume), moving: None }
            }
            Ok(Some(_)) if is_in_use(&home.description()) => Self::in_volume(&home.name, None),
            Ok(Some(_)) => Self::in_volume(&home.name, pair),
            Err(why) => Self { text: why.what, ..Self::default() },
        }
    }

    /// One that is in a volume of its own, which is asked where it moves.
    pub(super) fn in_volume(guest: &str, pair: Option<&Pair>) -> Self {
        let volume = format!("{guest}{SUFFIX}");
        let moving = pair.and_then(|pair| moving::in_force(pair, guest).ok().flatten());
        let moves = moving.as_ref().map(|moving| format!(", {}", moving.text())).unwrap_or_default();
        Self { text: format!("volume {volume}{moves}"), volume: Some(volume), moving }
    }

    /// The other node, if that is the way.
    pub(super) fn other(&self, way: Way) -> Option<&str> {
        self.moving.as_ref().filter(|moving| moving.way == way).map(|moving| &*moving.node)
    }
}

/// A guest of which nothing is on this node.
pub(super) fn show(pair: &Pair, name: &str) -> Result<Report, Failure> {
    let described = keeping::description(name, &pair.open(name, Access::Look)?)?;
    let in_volume = Described::in_volume(name, Some(pair));
    let mut text = format!("{name}: Off\n  of           {}; nothing of it is on this node\n", in_volume.text);
    text.push_str(&format!(
        "  processors   {}\n  memory       {}\n",
        described.processors,
        size(described.memory)
    ));
    let json = json!({ "ok": true, "name": name, "state": "Off", "ownVolume": in_volume.volume,
                       "moving": in_volume.moving, "config": described.json() });
    Ok(Report::new(text, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_one_unit() {
        let told = [0, 59, 60, 7_199, 86_400, 864_001].map(age);
        assert_eq!(told, ["0 s", "59 s", "1 min", "1 h", "1 d", "10 d"]);
    }
}
