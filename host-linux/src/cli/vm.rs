//! `bulkhead vm`: the guests of this node (S2-01, S2-05, S3-06).

use super::vm_console;
use super::vm_log;
use super::vm_migrate;
use super::vm_share;
use super::vm_snapshot::{self, BasesArg, ExtentArgs, Watcher};
use super::vmm::LeaseArg;
use crate::failure::Failure;
use crate::guests::home::{GUESTS, Home, Homes};
use crate::guests::process::{self, Start};
use crate::guests::record::{Record, Way};
use crate::output::{Report, size};
use crate::site_config::value::parse_time;
use crate::vmm::description::Description;
use crate::vmm::pages::Pages;
use crate::vmm::snapshot::file;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Create(Create),
    List(List),
    Show(Show),
    Start(StartArgs),
    Stop(Stop),
    Pause(Pause),
    Resume(Resume),
    Snapshot(Snapshot),
    Restore(Restore),
    Migrate(vm_migrate::Migrate),
    Share(vm_share::Share),
    Console(vm_console::Console),
    Log(vm_log::Log),
    Delete(Delete),
}

/// Where the guests of this node are.
#[derive(Clone, Debug, Args)]
pub(super) struct GuestsArg {
    /// The directory with the guests of this node
    #[arg(long, value_name = "DIR", env = "BULKHEAD_GUESTS", default_value = GUESTS)]
    guests: PathBuf,
}

impl GuestsArg {
    fn homes(&self) -> Homes {
        Homes::at(&self.guests)
    }
}

/// A guest of this node.
#[derive(Clone, Debug, Args)]
pub(super) struct GuestArg {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    guests: GuestsArg,
}

impl GuestArg {
    pub(super) fn home(&self) -> Result<Home, Failure> {
        self.homes().find(&self.name)
    }

    pub(super) fn homes(&self) -> Homes {
        self.guests.homes()
    }
}

/// Make a guest of a description
///
/// Checks the file and keeps a copy of it: `bulkhead vmm --help` says what stands in it. The guest
/// does not run yet, and its disks are not touched.
///
/// Examples:
///   bulkhead vm create web1.toml
///   bulkhead vm create web1.toml --json | jq -r .name
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Create {
    /// What the guest is
    #[arg(value_name = "FILE")]
    description: PathBuf,
    #[command(flatten)]
    guests: GuestsArg,
}

/// List the guests of this node
///
/// Lists them with what each of them does: Running, Paused, Restoring or Off.
///
/// Example:
///   bulkhead vm list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct List {
    #[command(flatten)]
    guests: GuestsArg,
}

/// Show a guest
///
/// Shows what it does, what it is, and where its sockets and its log are. With --json under
/// `config` what the guest's API says.
///
/// Example:
///   bulkhead vm show web1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    #[command(flatten)]
    guest: GuestArg,
}

/// Start a guest
///
/// Starts the guest in a process of its own, which goes on when this command and its terminal are
/// gone; returns when the guest runs. It runs under a lease of this node's agent, as `bulkhead vmm
/// --help` says. Exit code 3: it runs already, or another node leads its volumes.
///
/// Examples:
///   bulkhead vm start web1
///   bulkhead vm start test1 --alone
///   bulkhead vm start web1 --paused
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct StartArgs {
    #[command(flatten)]
    guest: GuestArg,
    #[command(flatten)]
    begin: BeginArgs,
}

/// How a guest begins.
#[derive(Debug, Args)]
pub(super) struct BeginArgs {
    /// Do not let it run before `bulkhead vm resume`
    #[arg(long)]
    paused: bool,
    /// Also if it was moved to another node: it does not run there
    #[arg(long, requires = "alone")]
    here: bool,
    #[command(flatten)]
    lease: LeaseArg,
}

impl BeginArgs {
    /// Begins it.
    fn begin(&self, home: &Home) -> Result<(), Failure> {
        self.begin_from(home, None, &[], &mut |_| false)
    }

    fn begin_from(
        &self,
        home: &Home,
        snapshot: Option<&Path>,
        bases: &[PathBuf],
        watch: &mut process::Watch<'_>,
    ) -> Result<(), Failure> {
        let agent = self.lease.agent()?;
        let Self { paused: is_paused, here: is_here, .. } = *self;
        process::start(home, Start { is_paused, agent: agent.as_deref(), snapshot, bases, is_here }, watch)
    }

    /// What it does then.
    const fn state<'a>(&self, runs: &'a str) -> &'a str {
        if self.paused { "stands ready" } else { runs }
    }
}

/// Stop a guest
///
/// Presses its power button and waits until it has ended itself; with --now, ends it as a loss of
/// power does: what it was told to be durable is. A guest that is off already is no error. Exit
/// code 1: it still runs.
///
/// Examples:
///   bulkhead vm stop web1
///   bulkhead vm stop web1 --timeout 5min
///   bulkhead vm stop web1 --now
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Stop {
    #[command(flatten)]
    guest: GuestArg,
    /// End it at once
    #[arg(long, conflicts_with = "timeout")]
    now: bool,
    /// How long it may take to end itself
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    timeout: Duration,
}

/// Have a guest stand still
///
/// None of its instructions is carried out any more when the command returns.
///
/// Example:
///   bulkhead vm pause web1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Pause {
    #[command(flatten)]
    guest: GuestArg,
}

/// Have a paused guest go on
///
/// It goes on where it was.
///
/// Example:
///   bulkhead vm resume web1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Resume {
    #[command(flatten)]
    guest: GuestArg,
}

/// Write a guest into a file
///
/// Writes all of it but what its disks hold: memory, processors, devices, clock. It stands still
/// meanwhile, and goes on when the file is on disk; with --stop it ends there, which is what a
/// guest needs that goes on from this file: it must not run in between.
///
/// With --track it is kept from then on what the guest writes, which costs it some time; the next
/// snapshot with --since has only that, and goes on where this one is: a shorter stop and a smaller
/// file. It needs the older ones when it is restored, 15 at most. One without either ends that, and
/// so do a reset and the end of the guest. Exit code 3: it is not known what was written since.
///
/// Examples:
///   bulkhead vm snapshot web1 /srv/web1.snapshot --stop
///   bulkhead vm restore web1 /srv/web1.snapshot
///   bulkhead vm snapshot web1 /srv/web1.0 --track
///   bulkhead vm snapshot web1 /srv/web1.1 --since /srv/web1.0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Snapshot {
    #[command(flatten)]
    guest: GuestArg,
    /// Where to; what is there is replaced
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    extent: ExtentArgs,
    /// The guest ends when the file is on disk
    #[arg(long)]
    stop: bool,
}

/// Have a guest go on where a snapshot was taken
///
/// The guest is off, or this node does not know it yet. Its disks must hold what they held when
/// the snapshot was taken. It runs under a lease, as with `bulkhead vm start`. Exit code 3: it
/// runs, another node leads its volumes, or this node's processors cannot what it was told.
///
/// A snapshot that was taken with --since builds on others. They are looked for beside it, by the
/// names that they had, and where --base says; nothing of the guest runs before all are whole.
///
/// Examples:
///   bulkhead vm restore web1 /srv/web1.snapshot
///   bulkhead vm restore web1 /srv/web1.1 --base /archive/web1.0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Restore {
    #[command(flatten)]
    guest: GuestArg,
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    bases: BasesArg,
    #[command(flatten)]
    begin: BeginArgs,
}

/// Forget a guest
///
/// Deletes its description and its log. Its volumes stay. Exit code 3: it runs.
///
/// Example:
///   bulkhead vm delete web1 --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Delete {
    #[command(flatten)]
    guest: GuestArg,
    /// Yes, delete it
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(verb: &Verb, is_quiet: bool) -> Result<Report, Failure> {
    match verb {
        Verb::Create(args) => create(args),
        Verb::List(args) => list(args),
        Verb::Show(args) => show(&args.guest.home()?),
        Verb::Start(args) => {
            let home = args.guest.home()?;
            args.begin.begin(&home)?;
            Ok(done(&home, args.begin.state("runs")))
        }
        Verb::Stop(args) => {
            let timeout = (!args.now).then_some(args.timeout);
            told(&args.guest, |home| process::stop(home, timeout), "is off")
        }
        Verb::Pause(args) => told(&args.guest, |home| process::tell(home, "vm.pause"), "stands still"),
        Verb::Resume(args) => told(&args.guest, |home| process::tell(home, "vm.resume"), "goes on"),
        Verb::Snapshot(args) => snapshot(args, is_quiet),
        Verb::Restore(args) => restore(args, is_quiet),
        Verb::Migrate(args) => vm_migrate::run(args, is_quiet),
        Verb::Share(args) => vm_share::run(args),
        Verb::Console(args) => vm_console::run(args),
        Verb::Log(args) => vm_log::run(args),
        Verb::Delete(args) => delete(args),
    }
}

fn told(
    guest: &GuestArg,
    tell: impl FnOnce(&Home) -> Result<(), Failure>,
    what: &str,
) -> Result<Report, Failure> {
    let home = guest.home()?;
    tell(&home)?;
    Ok(done(&home, what))
}

fn done(home: &Home, what: &str) -> Report {
    Report::new(format!("Guest {} {what}.\n", home.name), json!({ "ok": true, "name": home.name }))
}

fn snapshot(args: &Snapshot, is_quiet: bool) -> Result<Report, Failure> {
    let home = args.guest.home()?;
    let (mut watcher, extent) = (Watcher::new("writing", is_quiet)?, args.extent.extent());
    process::snapshot(&home, &args.file, &extent, args.stop, &mut |view| watcher.watch(view))?;
    if args.stop {
        process::wait_until_off(&home, process::ENDS)?;
    }
    let bytes = std::fs::metadata(&args.file).map_or(0, |file| file.len());
    let rest = if args.stop { "it is off" } else { "it goes on" };
    let text = format!("Guest {} is in {}, {}; {rest}.\n", home.name, args.file.display(), size(bytes));
    Ok(Report::new(text, json!({ "ok": true, "name": home.name, "file": args.file, "bytes": bytes })))
}

fn restore(args: &Restore, is_quiet: bool) -> Result<Report, Failure> {
    let file = std::path::absolute(&args.file).map_err(|error| Failure::io("find", &args.file, &error))?;
    let described = file::description(&file)?;
    let GuestArg { name, guests } = &args.guest;
    if described.name != *name {
        let what = format!("{} is a snapshot of guest {}, not of {name}", file.display(), described.name);
        return Err(Failure::refused(what));
    }
    let known = guests.homes().find(name).ok();
    let is_new = known.is_none();
    let home = known.map_or_else(|| guests.homes().create(&described), Ok)?;
    let mut watcher = Watcher::new("restoring", is_quiet)?;
    let bases = args.bases.absolute()?;
    let begun = args.begin.begin_from(&home, Some(&file), &bases, &mut |view| watcher.watch(view));
    begun.inspect_err(|_| {
        if is_new && watcher.is_cancelled() {
            // As if nobody had asked.
            let _ = home.delete();
        }
    })?;
    Ok(done(&home, args.begin.state("goes on")))
}

fn create(args: &Create) -> Result<Report, Failure> {
    let home = args.guests.homes().create(&Description::read(&args.description)?)?;
    let text = format!(
        "Guest {} is described in {}.\n  Next: bulkhead vm start {}\n",
        home.name,
        home.description().display(),
        home.name
    );
    let json = json!({ "ok": true, "name": home.name, "description": home.description() });
    Ok(Report::new(text, json))
}

/// What a guest does, in a word.
fn state(info: Option<&Value>) -> &str {
    info.map_or("Off", |info| info.get("state").and_then(Value::as_str).unwrap_or("Unknown"))
}

/// Where a guest went that is off.
fn moved(home: &Home, state: &str) -> Option<Record> {
    let record = Record::load(&home.record()).ok().flatten().filter(|_| state == "Off");
    record.filter(|record| record.way == Way::To)
}

fn list(args: &List) -> Result<Report, Failure> {
    let mut text = String::new();
    let mut guests = Vec::new();
    for home in args.guests.homes().all()? {
        // One that does not answer is not to hide the others.
        let state = process::info(&home).map_or_else(
            |failure| format!("Unknown ({})", failure.what),
            |info| state(info.as_ref()).to_owned(),
        );
        let moved = moved(&home, &state);
        let where_to = moved.as_ref().map(|moved| format!(", moved to {}", moved.node)).unwrap_or_default();
        text.push_str(&format!("{:<24} {state}{where_to}\n", home.name));
        guests.push(json!({ "name": home.name, "state": state, "movedTo": moved.map(|moved| moved.node) }));
    }
    if guests.is_empty() {
        text.push_str("There are no guests. `bulkhead vm create FILE` makes one.\n");
    }
    Ok(Report::new(text, json!({ "ok": true, "guests": guests })))
}

fn show(home: &Home) -> Result<Report, Failure> {
    let info = process::info(home)?;
    let described = Description::read(&home.description())?;
    let mut text = format!("{}: {}\n", home.name, state(info.as_ref()));
    let held = info.as_ref().and_then(|info| info.get("held")).and_then(Value::as_array);
    for why in held.into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("  held         {why}\n"));
    }
    let moved = moved(home, state(info.as_ref()));
    if let Some(moved) = &moved {
        text.push_str(&format!("  moved        to {}\n", moved.node));
    }
    let share = info.as_ref().and_then(|info| info.get("share"));
    text.extend(share.and_then(vm_share::told).map(|told| format!("  share        {told}\n")));
    let snapshot = info.as_ref().and_then(|info| info.get("snapshot"));
    text.extend(snapshot.and_then(vm_snapshot::told).map(|told| format!("  snapshot     {told}\n")));
    let heartbeat = info.as_ref().and_then(|info| info.get("heartbeat"));
    text.extend(heartbeat.map(|heart| format!("  heartbeat    {}\n", heartbeat_text(heart))));
    text.push_str(&format!("  processors   {}\n", described.processors));
    let pages = Some(described.pages).filter(|pages| Pages::HUGE.contains(pages));
    let pages = pages.map(|pages| format!(", in pages of {}", size(pages.bytes()))).unwrap_or_default();
    text.push_str(&format!("  memory       {}{pages}\n", size(described.memory)));
    for disk in &described.disks {
        let only = if disk.is_read_only { ", read only" } else { "" };
        text.push_str(&format!("  disk         {}{only}\n", disk.content));
    }
    let places = [
        ("description", home.description()),
        ("api", home.api()),
        ("console", home.console()),
        ("log", home.log()),
    ];
    for (what, path) in &places {
        text.push_str(&format!("  {what:<12} {}\n", path.display()));
    }
    let paths: serde_json::Map<String, Value> =
        places.iter().map(|(what, path)| ((*what).to_owned(), json!(path))).collect();
    let json = json!({ "ok": true, "name": home.name, "state": state(info.as_ref()),
                       "moved": moved, "share": share, "snapshot": snapshot, "heartbeat": heartbeat,
                       "config": described.json(), "paths": paths });
    Ok(Report::new(text, json))
}

/// How a guest's heartbeat is, in words.
fn heartbeat_text(heartbeat: &Value) -> String {
    let number = |key: &str| heartbeat.get(key).and_then(Value::as_u64);
    let mut text = heartbeat.get("state").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    if let Some(lost) = number("lost_ms") {
        text.push_str(&format!(" for {} s", lost / 1000));
    }
    if let Some(count @ 1..) = number("lost_count") {
        text.push_str(&format!("; lost so far: {count}"));
    }
    text
}

fn delete(args: &Delete) -> Result<Report, Failure> {
    let home = args.guest.home()?;
    if !args.yes {
        let what = format!("guest {} and its log would be deleted", home.name);
        return Err(Failure::refused(what).next("say --yes if that is meant."));
    }
    let _lock = crate::vmm::in_use::InUse::lock(&home.description())?;
    home.delete()?;
    Ok(done(&home, "is forgotten; its volumes are as they were"))
}
