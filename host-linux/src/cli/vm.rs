//! `bulkhead vm`: the guests of this node (S2-01, S2-05, S3-06).

use super::cluster::AgentArg;
use super::vm_console;
use super::vm_home;
use super::vm_log;
use super::vm_migrate;
use super::vm_own::{self, Described};
use super::vm_share;
use super::vm_snapshot::{self, BasesArg, ExtentArgs, Watcher};
use super::vm_stop;
use super::vm_wanted;
use super::vmm::{LeaseArg, snapshot_name};
use crate::failure::Failure;
use crate::guests::home::{GUESTS, Home, Homes};
use crate::guests::own_volume::pair::Pair;
use crate::guests::process::{self, Start};
use crate::guests::record::{Record, Way};
use crate::output::{Report, Voice, size};
use crate::vmm::begins::Kept;
use crate::vmm::description::Description;
use crate::vmm::in_use::is_in_use;
use crate::vmm::pages::Pages;
use crate::vmm::snapshot::file;
use crate::vmm::snapshot::task::Settings;
use bulkhead_core::volume::name::Name;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Create(vm_own::Create),
    Update(vm_own::Update),
    List(List),
    Show(Show),
    Start(StartArgs),
    Stop(vm_stop::Stop),
    Pause(Pause),
    Resume(Resume),
    Snapshot(Snapshot),
    Restore(Restore),
    Snapshots(vm_own::Snapshots),
    Migrate(vm_migrate::Migrate),
    Home(vm_home::Home),
    Share(vm_share::Share),
    Console(vm_console::Console),
    Log(vm_log::Log),
    Delete(vm_own::Delete),
}

/// Where the guests of this node are.
#[derive(Clone, Debug, Args)]
pub(super) struct GuestsArg {
    /// The directory with the guests of this node
    #[arg(long, value_name = "DIR", env = "BULKHEAD_GUESTS", default_value = GUESTS)]
    guests: PathBuf,
}

impl GuestsArg {
    pub(super) fn homes(&self) -> Homes {
        Homes::at(&self.guests)
    }
}

/// A guest of this node.
#[derive(Clone, Debug, Args)]
pub(super) struct GuestArg {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(super) name: String,
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

/// List the guests of this node
///
/// Lists them with what each of them does, Running, Paused, Restoring or Off, and the volume that
/// it is described in; also those of the pair of which nothing is on this node yet.
///
/// Example:
///   bulkhead vm list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct List {
    #[command(flatten)]
    guests: GuestsArg,
    #[command(flatten)]
    agent: AgentArg,
}

/// Show a guest
///
/// Shows what it does, what it is, where that is described, and where its sockets and its log are.
/// With --json under `config` what the guest's API says.
///
/// Example:
///   bulkhead vm show web1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    #[command(flatten)]
    guest: GuestArg,
    #[command(flatten)]
    agent: AgentArg,
}

/// Start a guest
///
/// Starts the guest in a process of its own, which goes on when this command and its terminal are
/// gone; returns when the guest runs. It runs under a lease of this node's agent, as `bulkhead vmm
/// --help` says, and as it is described in its own volume; without one, or with --alone, as this
/// node has it. Exit code 3: it runs already, another node leads its volumes, or there is no room
/// for it, here or where it would begin if this node were lost; what would help is said.
///
/// From then on a guest with an own volume is to run: whichever node comes to lead begins it, and
/// the one that leads begins it again when its process is gone, as its [failover] says, until it
/// switches itself off or `bulkhead vm stop` does.
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
    /// Also if it was moved to another node, or comes from one: it does not run there
    #[arg(long)]
    here: bool,
    /// Also if it, or another guest, would then find no room after the loss of this node
    #[arg(long)]
    beyond_room: bool,
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
        snapshot: Option<&Kept>,
        bases: &[PathBuf],
        watch: &mut process::Watch<'_>,
    ) -> Result<(), Failure> {
        let agent = self.lease.agent()?;
        let Self { paused: is_paused, here: is_here, .. } = *self;
        let agent = agent.as_deref();
        if !is_here {
            vm_wanted::may_begin(home, agent)?;
        }
        vm_wanted::has_room(home, agent, self.beyond_room)?;
        process::start(home, Start { is_paused, agent, snapshot, bases, is_here }, watch)?;
        vm_wanted::is_to_run(home, agent)
    }

    /// What it does then.
    const fn state<'a>(&self, runs: &'a str) -> &'a str {
        if self.paused { "stands ready" } else { runs }
    }
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

/// Write a guest into its own volume, or into a file
///
/// Writes all of it but what its disks hold: memory, processors, devices, clock. It stands still
/// meanwhile, and goes on when all is durable; with --stop it ends there, which is what a guest
/// needs that goes on from this snapshot: it must not run in between.
///
/// With --track it is kept from then on what the guest writes, which costs it some time; the next
/// snapshot with --since has only that, and goes on where this one is: a shorter stop and a smaller
/// file. It needs the older ones when it is restored, 15 at most. One without either ends that, and
/// so do a reset and the end of the guest. Exit code 3: it is not known what was written since.
///
/// Examples:
///   bulkhead vm snapshot web1 --stop
///   bulkhead vm snapshot web1 --as before-update
///   bulkhead vm snapshot web1 /srv/web1.snapshot --stop
///   bulkhead vm snapshot web1 /srv/web1.0 --track
///   bulkhead vm snapshot web1 /srv/web1.1 --since /srv/web1.0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Snapshot {
    #[command(flatten)]
    guest: GuestArg,
    /// Where to, if not into its own volume; what is there is replaced
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is called in its own volume; one of that name is replaced [default: last]
    #[arg(long = "as", value_name = "SNAPSHOT", value_parser = snapshot_name, conflicts_with = "file")]
    snapshot: Option<Name>,
    #[command(flatten)]
    extent: ExtentArgs,
    /// The guest ends when all is durable
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    agent: AgentArg,
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
///   bulkhead vm restore web1
///   bulkhead vm restore web1 --from before-update
///   bulkhead vm restore web1 /srv/web1.snapshot
///   bulkhead vm restore web1 /srv/web1.1 --base /archive/web1.0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Restore {
    #[command(flatten)]
    guest: GuestArg,
    /// The snapshot, if it is not in its own volume
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which one in its own volume [default: last]
    #[arg(long, value_name = "SNAPSHOT", value_parser = snapshot_name, conflicts_with = "file")]
    from: Option<Name>,
    #[command(flatten)]
    bases: BasesArg,
    #[command(flatten)]
    begin: BeginArgs,
}

pub(super) fn run(verb: &Verb, is_quiet: bool, voice: Voice) -> Result<Report, Failure> {
    match verb {
        Verb::Create(args) => vm_own::create(args, voice),
        Verb::Update(args) => vm_own::update(args, voice),
        Verb::List(args) => list(args),
        Verb::Show(args) => show(args),
        Verb::Start(args) => {
            let home = vm_own::bring(&args.guest, args.begin.lease.agent()?.as_deref(), voice)?;
            args.begin.begin(&home)?;
            Ok(done(&home, args.begin.state("runs")))
        }
        Verb::Stop(args) => vm_stop::run(args),
        Verb::Pause(args) => told(&args.guest, |home| process::tell(home, "vm.pause"), "stands still"),
        Verb::Resume(args) => told(&args.guest, |home| process::tell(home, "vm.resume"), "goes on"),
        Verb::Snapshot(args) => snapshot(args, is_quiet),
        Verb::Restore(args) => restore(args, is_quiet, voice),
        Verb::Snapshots(args) => vm_own::snapshots(args),
        Verb::Migrate(args) => vm_migrate::run(args, is_quiet),
        Verb::Home(args) => vm_home::run(args, is_quiet),
        Verb::Share(args) => vm_share::run(args),
        Verb::Console(args) => vm_console::run(args),
        Verb::Log(args) => vm_log::run(args),
        Verb::Delete(args) => vm_own::delete(args),
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

pub(super) fn done(home: &Home, what: &str) -> Report {
    Report::new(format!("Guest {} {what}.\n", home.name), json!({ "ok": true, "name": home.name }))
}

fn snapshot(args: &Snapshot, is_quiet: bool) -> Result<Report, Failure> {
    let home = args.guest.home()?;
    let to = vm_own::kept(args.file.as_deref(), args.snapshot.as_ref())?;
    let settings = Settings { to, extent: args.extent.extent(), is_end: args.stop };
    settings.check()?;
    let mut watcher = Watcher::new("writing", is_quiet)?;
    if args.stop {
        vm_wanted::is_to_be_off(&home, &args.agent)?;
    }
    let taken = process::snapshot(&home, &settings, &mut |view| watcher.watch(view));
    taken.map_err(|why| if args.stop { vm_wanted::goes_on(&home, &args.agent, why) } else { why })?;
    if args.stop {
        process::wait_until_off(&home, process::ENDS)?;
    }
    let rest = if args.stop { "it is off" } else { "it goes on" };
    let bytes = args.file.as_ref().map(|file| std::fs::metadata(file).map_or(0, |file| file.len()));
    let long = bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
    let to = settings.to;
    let text = format!("Guest {} is in {to}{long}; {rest}.\n", home.name);
    let json =
        json!({ "ok": true, "name": home.name, "file": args.file, "bytes": bytes, "snapshot": to.own() });
    Ok(Report::new(text, json))
}

fn restore(args: &Restore, is_quiet: bool, voice: Voice) -> Result<Report, Failure> {
    let (name, agent) = (&args.guest.name, args.begin.lease.agent()?);
    let from = vm_own::kept(args.file.as_deref(), args.from.as_ref())?;
    let (bases, is_new) = (args.bases.of(&from)?, args.guest.home().is_err());
    let home = match (&from, &agent) {
        (Kept::File(file), _) => {
            let described = file::description(file)?;
            if described.name != *name {
                let what = format!("{from} is a snapshot of guest {}, not of {name}", described.name);
                return Err(Failure::refused(what));
            }
            vm_own::bring_or_make(&args.guest, &described, agent.as_deref(), voice)?
        }
        (Kept::Own(_), Some(_)) => vm_own::bring(&args.guest, agent.as_deref(), voice)?,
        (Kept::Own(_), None) => {
            let what = "a guest's own volume is its agent's, and --alone asks none";
            return Err(Failure::usage(what).next("name a FILE, or leave --alone out."));
        }
    };
    let mut watcher = Watcher::new("restoring", is_quiet)?;
    let begun = args.begin.begin_from(&home, Some(&from), &bases, &mut |view| watcher.watch(view));
    begun.inspect_err(|_| {
        if is_new && watcher.is_cancelled() && !is_in_use(&home.description()) {
            // As if nobody had asked.
            let _ = home.delete();
        }
    })?;
    Ok(done(&home, args.begin.state("goes on")))
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
    let (mut text, mut guests) = (String::new(), Vec::new());
    let (pair, homes) = (vm_own::of_pair(&args.agent), args.guests.homes().all()?);
    for home in &homes {
        // One that does not answer is not to hide the others.
        let state = process::info(home).map_or_else(
            |failure| format!("Unknown ({})", failure.what),
            |info| state(info.as_ref()).to_owned(),
        );
        let moved = moved(home, &state);
        let described = Described::of(home, pair.as_ref());
        let moved_to = moved.as_ref().map(|moved| &*moved.node);
        let where_to = moved_to.map(|node| format!(", moved to {node}")).unwrap_or_default();
        text.push_str(&format!("{:<24} {state}{where_to}; of {}\n", home.name, described.text));
        guests.push(listed(&home.name, &state, moved_to, &described));
    }
    let is_elsewhere = |name: &&str| homes.iter().all(|home| home.name != *name);
    for name in pair.iter().flat_map(Pair::guests).filter(is_elsewhere) {
        let described = Described::in_volume(name, pair.as_ref());
        text.push_str(&format!("{name:<24} Off; of {}, and nothing of it is on this node\n", described.text));
        guests.push(listed(name, "Off", None, &described));
    }
    if guests.is_empty() {
        text.push_str("There are no guests. `bulkhead vm create FILE` makes one.\n");
    }
    Ok(Report::new(text, json!({ "ok": true, "guests": guests })))
}

/// A guest in the list.
fn listed(name: &str, state: &str, moved_to: Option<&str>, described: &Described) -> Value {
    let mut json = json!({ "name": name, "state": state, "ownVolume": described.volume,
                           "movedTo": moved_to.or_else(|| described.other(Way::To)) });
    if let (Some(from), Some(json)) = (described.other(Way::From), json.as_object_mut()) {
        json.insert("comesFrom".into(), from.into());
    }
    json
}

fn show(args: &Show) -> Result<Report, Failure> {
    let (pair, home) = (vm_own::of_pair(&args.agent), args.guest.home());
    let is_elsewhere = |pair: &&Pair| home.is_err() && pair.volume(&args.guest.name).is_some();
    if let Some(pair) = pair.as_ref().filter(is_elsewhere) {
        return vm_own::show(pair, &args.guest.name);
    }
    let home = &home?;
    let described_in = Described::of(home, pair.as_ref());
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
    text.push_str(&format!("  of           {}\n", described_in.text));
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
                       "config": described.json(), "ownVolume": described_in.volume,
                       "moving": described_in.moving, "paths": paths });
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
