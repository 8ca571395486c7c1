//! `bulkhead volume`: block devices that a pair of compartments keeps (S0-06, S1-27, S3-07, S4-03, S4-11).

use super::cluster::AgentArg;
use super::{volume_attach, volume_cache, volume_group, volume_scrub, volume_text};
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::mirror::view::{Policy, State};
use crate::output::{Report, Voice, size};
use crate::site_config::value::parse_time;
use crate::volume::orders::{Listing, Place};
use crate::volume::size::{BLOCK, blocks};
use bulkhead_core::volume::name::Name;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Create(Create),
    List(List),
    Show(Show),
    Resize(Resize),
    Delete(Delete),
    Mode(Mode),
    Cache(volume_cache::Cache),
    Limit(volume_group::Limit),
    Secondary {
        #[command(subcommand)]
        verb: volume_group::Secondary,
    },
    Recover(volume_group::Recover),
    Scrub(volume_scrub::Scrub),
    Promote(Promote),
    Wait(Wait),
    Attach(volume_attach::Attach),
    Detach(volume_attach::Detach),
}

/// Make a volume
///
/// Makes a block device that every holder of this node's pair keeps. It is there, and durable on
/// all holders in sync, when the command returns, and clients find it under the printed URIs. It
/// reads as zeroes and takes room as it is written. Exit code 3: another node leads; its name is
/// printed.
///
/// Examples:
///   bulkhead volume create vm1 --size 10GiB
///   bulkhead volume create vm1 --size 10GiB --json | jq -r .uris[0].uri
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Create {
    /// Its name: letters, digits, and _ . - within it
    #[arg(value_name = "NAME", value_parser = named)]
    name: String,
    /// Its size: whole blocks of 4 KiB
    #[arg(long, value_name = "SIZE", value_parser = blocks)]
    size: u64,
    #[command(flatten)]
    agent: AgentArg,
}

/// List the volumes of this node's pair
///
/// Lists them with their size and where clients find them, and how their mirror group is.
///
/// Example:
///   bulkhead volume list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct List {
    #[command(flatten)]
    agent: AgentArg,
}

/// Show a volume, who keeps it, and where clients find it
///
/// Shows the volume, the state of its mirror group (synced, degraded, resyncing, stale, waiting,
/// failed), who leads it, what every holder has, what is not yet in the backing store, and the
/// NBD URIs on every node.
///
/// Example:
///   bulkhead volume show vm1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    agent: AgentArg,
}

/// Make a volume larger
///
/// What is new reads as zeroes. Clients see the new size when they connect again. A volume does
/// not become smaller: data would be lost.
///
/// Example:
///   bulkhead volume resize vm1 --size 20GiB
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Resize {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Its new size: whole blocks of 4 KiB
    #[arg(long, value_name = "SIZE", value_parser = blocks)]
    size: u64,
    #[command(flatten)]
    agent: AgentArg,
}

/// Delete a volume and all that is in it
///
/// Deletes it on every holder and disconnects its clients. Nothing brings it back.
///
/// Example:
///   bulkhead volume delete vm1 --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Delete {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Yes, delete it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
}

/// Say when writes are acknowledged
///
/// back: when they are durable in the logs of all holders in sync. through: when they are in the
/// backing store, too. Without a second holder in sync it is always through. What is said of a
/// volume goes for it alone; without one it goes for all that have no mode of their own. It is
/// kept: whoever leads next does the same.
///
/// Examples:
///   bulkhead volume mode through
///   bulkhead volume mode vm1 back
///   bulkhead volume mode vm1 pair
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, allow_missing_positional = true)]
pub(super) struct Mode {
    /// Of this volume alone
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
    /// When
    #[arg(value_enum)]
    mode: Word,
    #[command(flatten)]
    agent: AgentArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// In the backing store, too
    Through,
    /// In the logs of all holders in sync
    Back,
    /// As the volumes of the pair without a mode of their own
    Pair,
}

/// Have another node lead the volumes of the pair
///
/// Hands the lead over to a holder in sync, for maintenance of this one, say. Clients notice a
/// short delay on every node. It must be run on the node that leads now.
///
/// Example:
///   bulkhead volume promote b1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Promote {
    /// The name or `id` of the node
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    agent: AgentArg,
}

/// Wait until the volumes of the pair are as they should be
///
/// in-sync: every holder has every acknowledged write, so that any one may be lost. primary: a node
/// leads, so that clients are served. Exit code 1: not within the time.
///
/// Example:
///   bulkhead volume wait --for in-sync --timeout 60s
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Wait {
    /// For what
    #[arg(long = "for", value_enum)]
    what: What,
    /// For how long at most
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    #[command(flatten)]
    agent: AgentArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Every holder has every acknowledged write
    InSync,
    /// A node leads
    Primary,
}

pub(super) fn run(verb: &Verb, voice: Voice) -> Result<Report, Failure> {
    match verb {
        Verb::Create(args) => create(args),
        Verb::List(args) => {
            let listing = look(&mut args.agent.connect()?)?;
            let all = listing.storage.volumes.iter().map(|volume| volume_text::json(&listing, volume));
            let json = json!({ "ok": true, "volumes": all.collect::<Vec<_>>(), "group": listing });
            Ok(Report::new(volume_text::list(&listing), json))
        }
        Verb::Show(args) => {
            let listing = look(&mut args.agent.connect()?)?;
            let volume = listing.volume(&args.name)?;
            let json = volume_text::json(&listing, volume);
            let json = json!({ "ok": true, "volume": json, "group": listing });
            Ok(Report::new(volume_text::show(&listing, volume), json))
        }
        Verb::Resize(args) => {
            let mut client = args.agent.connect()?;
            let answer = client.ask(&Request::VolumeResize { name: args.name.clone(), blocks: args.size })?;
            let bytes = size(args.size.saturating_mul(BLOCK));
            let text = format!("{} has {bytes}; clients see it when they connect again\n", args.name);
            Ok(Report::new(text, answer))
        }
        Verb::Delete(args) => delete(args),
        Verb::Mode(args) => mode(args),
        Verb::Cache(args) => volume_cache::cache(args),
        Verb::Limit(args) => volume_group::limit(args),
        Verb::Secondary { verb } => volume_group::secondary(verb),
        Verb::Recover(args) => volume_group::recover(args),
        Verb::Scrub(args) => volume_scrub::scrub(args, voice),
        Verb::Promote(args) => promote(args),
        Verb::Wait(args) => wait(args),
        Verb::Attach(args) => volume_attach::attach(args),
        Verb::Detach(args) => volume_attach::detach(args),
    }
}

fn create(args: &Create) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let mut answer = client.ask(&Request::VolumeCreate { name: args.name.clone(), blocks: args.size })?;
    // It was made, whatever becomes of this look.
    let uris = look(&mut client).map(|listing| listing.uris(&args.name)).unwrap_or_default();
    let bytes = args.size.saturating_mul(BLOCK);
    let mut text = format!("{} was made: {}\n", args.name, size(bytes));
    volume_text::uris(&uris, &mut text);
    if let Some(object) = answer.as_object_mut() {
        object.insert("uris".into(), volume_text::uris_json(&uris));
        object.insert("bytes".into(), bytes.into());
    }
    Ok(Report::new(text, answer))
}

fn delete(args: &Delete) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let listing = look(&mut client)?;
    let volume = listing.volume(&args.name)?;
    if !args.yes {
        let what = format!("this deletes {} and the {} in it, everywhere", args.name, size(volume.bytes));
        let failure = Failure::refused(what).left("Nothing was changed.");
        return Err(failure.next("say it again with --yes if you mean it."));
    }
    let answer = client.ask(&Request::VolumeDelete { name: args.name.clone() })?;
    Ok(Report::new(format!("{} is deleted\n", args.name), answer))
}

fn mode(args: &Mode) -> Result<Report, Failure> {
    let (mode, when) = match args.mode {
        Word::Through => (Some(Policy::Through), "when they are in the backing store, too"),
        Word::Back => (Some(Policy::Back), "when they are in the logs of all holders in sync"),
        Word::Pair => (None, "as those of the other volumes of the pair"),
    };
    let whose = args.volume.as_ref().map_or_else(String::new, |volume| format!(" of {volume}"));
    let answer = args.agent.connect()?.ask(&Request::VolumeMode { volume: args.volume.clone(), mode })?;
    Ok(Report::new(format!("writes{whose} are acknowledged {when}\n"), answer))
}

fn promote(args: &Promote) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let listing = look(&mut client)?;
    let place = find(&listing, &args.node)?;
    let answer = client.ask(&Request::VolumePromote { node: place.node })?;
    let text = match answer.pointer("/promoted/already").and_then(Value::as_bool) {
        Some(true) => format!("{} leads already\n", place.name),
        Some(false) | None => format!("{} is asked to lead\n", place.name),
    };
    Ok(Report::new(text, answer))
}

fn wait(args: &Wait) -> Result<Report, Failure> {
    let begun = Instant::now();
    loop {
        let found = args.agent.connect().and_then(|mut client| look(&mut client));
        let view = found.as_ref().ok().map(|listing| &listing.storage);
        let is_so = view.is_some_and(|view| match args.what {
            What::InSync => view.state == State::Synced,
            What::Primary => view.leads || view.primary.is_some(),
        });
        if let (true, Ok(listing)) = (is_so, &found) {
            let json = json!({ "ok": true, "group": listing });
            return Ok(Report::new(format!("{}\n", volume_text::group(listing)), json));
        }
        if args.timeout.is_some_and(|most| most <= begun.elapsed()) {
            let now = found.map_or_else(|failure| failure.what, |listing| volume_text::group(&listing));
            let failure = Failure::failed(format!("not within the time: {now}"));
            return Err(failure.left("").next("`bulkhead volume list` and `bulkhead status` say why."));
        }
        std::thread::sleep(LOOK);
    }
}

/// The node of this name or `id`.
pub(super) fn find<'l>(listing: &'l Listing, node: &str) -> Result<&'l Place, Failure> {
    let found = listing.nodes.iter().find(|one| one.name == node || one.node.to_string() == node);
    found.ok_or_else(|| {
        let names: Vec<_> = listing.nodes.iter().map(|one| one.name.as_str()).collect();
        let what = format!("pair {} has no node `{node}`", listing.pair);
        let failure = Failure::usage(what).left("Nothing was changed.");
        failure.next(format!("name one of {}.", names.join(", ")))
    })
}

/// The volumes, as the agent knows them.
pub(super) fn look(client: &mut Client) -> Result<Listing, Failure> {
    let answer = client.ask(&Request::VolumeList)?;
    let listing = answer.get("volumes").cloned().unwrap_or_default();
    serde_json::from_value(listing).map_err(|error| {
        let failure = Failure::failed(format!("the agent speaks another version: {error}"));
        failure.left("").next("use the `bulkhead` that runs as agent.")
    })
}

fn named(text: &str) -> Result<String, String> {
    Name::new(text).map(|name| name.as_str().to_owned()).map_err(|why| why.to_string())
}
