//! The rules for a node's copy of the mirror group: where its log is, where its volumes end, how much memory
//! it takes, how clients reach it (S4-07, S4-15).

use super::check::Problems;
use super::file::{File, NodeTable, RoomTable, StorageTable, StreamsWord, TlsTable, TlsWord};
use super::problem::Problem;
use super::value::{Size, size_text};
use super::{BackedBy, Member, Room, Secrecy, Storage, Tls};
use crate::nbd::uri::{Place as UriPlace, Secured, Uri};
use bulkhead_core::volume::name::Name;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use toml::Spanned;

/// The smallest log: a few of the largest writes fit, and its superblocks.
const LOG_MIN: u64 = 8 << 20;
/// The largest log: what takes longer to recover than anybody waits.
const LOG_MAX: u64 = 16 << 40;
/// Of write memory, unless said otherwise.
const MEMORY: u64 = 64 << 20;
/// The least, and the most that the agent locks.
const MEMORY_RANGE: (u64, u64) = (8 << 20, 1 << 30);

/// Of memory for what is read: less is not worth it, and more is a slip of the pen.
const READ_CACHE_RANGE: (u64, u64) = (1 << 20, 64 << 30);

/// `[local.storage]`, and what must be right of this node for it. `state` is the node's own directory.
pub(super) fn storage(
    file: &File,
    members: &[Member],
    beside: &Path,
    problems: &mut Problems,
) -> Option<Storage> {
    let table = file.local.storage.as_ref()?;
    let StorageTable { log, log_size, volumes, shared, memory, read_cache, backing, tls } = table.as_ref();
    let me = members.iter().find(|member| member.id.0 == *file.local.node.as_ref());
    if let Some(me) = me.filter(|me| me.duty.is_witness()) {
        let what = format!("{} is a witness and would hold volumes", me.name);
        problems.push(Problem::new(table.span(), what, "take [local.storage] out: a witness only votes"));
    } else if let Some(me) = me.filter(|me| me.nbd.is_none()) {
        let what = format!("{} has a log, and nobody knows where it serves its volumes", me.name);
        let remedy = "write such as `nbd = \"10.0.1.1:10809\"` in its [[node]], the same in all files";
        problems.push(Problem::new(table.span(), what, remedy));
    }
    let log_size = log_size.as_ref().map(|size| within(size, (LOG_MIN, LOG_MAX), problems));
    let memory = memory.as_ref().map_or(MEMORY, |size| within(size, MEMORY_RANGE, problems));
    let read_cache = read_cache.as_ref().map_or(0, |size| within(size, READ_CACHE_RANGE, problems));
    if *shared && volumes.is_none() {
        let what = "`shared = true`, and nobody knows where the store is that all reach".to_owned();
        let remedy =
            "write such as `volumes = \"/srv/shared/volumes\"`, a directory of a file system for that";
        problems.push(Problem::new(table.span(), what, remedy));
    }
    if *shared && let Some((name, place)) = backing.iter().next() {
        let what = format!("{name} is to be on {}, and all other content in a shared store", place.as_ref());
        let remedy = "take it out: in a shared store volumes are files, which its file system locks";
        problems.push(Problem::new(place.span(), what, remedy));
    }
    let state = beside.join(&file.local.state);
    let volumes = volumes.as_ref().map_or_else(|| state.join("volumes"), |volumes| beside.join(volumes));
    let backing = backed_by(backing, problems);
    let tls = tls.as_ref().map(|table| encryption(table, beside));
    let (log, is_shared) = (beside.join(log), *shared);
    Some(Storage { log, log_size, volumes, is_shared, memory, read_cache, backing, tls })
}

/// What is not kept in a file: of volumes that can be, each on a place of its own.
fn backed_by(
    table: &BTreeMap<String, Spanned<String>>,
    problems: &mut Problems,
) -> BTreeMap<String, BackedBy> {
    let mut found = BTreeMap::new();
    for (name, place) in table {
        let mut wrong = |what: String, remedy: &str| problems.push(Problem::new(place.span(), what, remedy));
        if let Err(why) = Name::new(name) {
            wrong(format!("no volume can be called {name:?}: {why}"), "write the name of a volume");
        }
        match of_text(place.as_ref()) {
            Ok(place) => match found.iter().find(|(_, other)| **other == place) {
                Some((other, _)) => wrong(
                    format!("{name} is to be on {place}, as {other} is"),
                    "give each volume a device of its own",
                ),
                None => drop(found.insert(name.clone(), place)),
            },
            Err((what, remedy)) => wrong(what, remedy),
        }
    }
    found
}

/// What and where, or why not and what to do.
fn of_text(text: &str) -> Result<BackedBy, (String, &'static str)> {
    let plain = Path::new(text).components().all(|part| part != std::path::Component::ParentDir);
    if text.starts_with("/dev/") && plain {
        return Ok(BackedBy::Device(text.into()));
    }
    if !text.contains("://") {
        let what = format!("`{text}` is no block device and no NBD URI");
        return Err((
            what,
            "write such as \"/dev/disk/by-id/...\"; what has no entry is in a file in `volumes`",
        ));
    }
    let uri: Uri = text
        .parse()
        .map_err(|why| (format!("`{text}` is no NBD URI: {why}"), "write such as \"nbd://10.0.5.1/vm1\""))?;
    match (&uri.tls, &uri.place) {
        (Some(Secured { certificates: None, .. }), _) => {
            let what = format!("`{text}` does not say by which certificates it is encrypted");
            Err((what, "write `?tls-certificates=/DIRECTORY` behind it"))
        }
        (_, UriPlace::Unix(path)) if !path.is_absolute() => {
            Err((format!("`{text}` names a socket by a relative path"), "write all of its path"))
        }
        (Some(_) | None, UriPlace::Unix(_) | UriPlace::Tcp { .. }) => Ok(BackedBy::Nbd(uri)),
    }
}

/// Streams go as NBD does, unless said otherwise.
fn encryption(table: &TlsTable, beside: &Path) -> Tls {
    let TlsTable { mode, streams, certificate, key, authorities } = table;
    let mode = mode.unwrap_or(TlsWord::Require);
    Tls {
        is_required: mode == TlsWord::Require,
        streams: match (streams, mode) {
            (Some(StreamsWord::Clear), _) => Secrecy::Clear,
            (Some(StreamsWord::Allow), _) | (None, TlsWord::Allow) => Secrecy::Allowed,
            (Some(StreamsWord::Require), _) | (None, TlsWord::Require) => Secrecy::Required,
        },
        certificate: beside.join(certificate),
        key: beside.join(key),
        authorities: beside.join(authorities),
    }
}

/// A size between two others.
fn within(size: &Spanned<Size>, range: (u64, u64), problems: &mut Problems) -> u64 {
    let Size(found) = *size.as_ref();
    let (least, most) = range;
    if !(least..=most).contains(&found) {
        let what = format!("{} is out of range", size_text(found));
        let remedy = format!("write {} to {}", size_text(least), size_text(most));
        problems.push(Problem::new(size.span(), what, remedy));
    }
    found
}

/// Where a node serves NBD; a witness does not.
pub(super) fn nbd(table: &NodeTable, problems: &mut Problems) -> Option<SocketAddr> {
    let nbd = table.nbd.as_ref()?;
    if table.witness {
        let what = format!("{} is a witness and would serve volumes", table.name.as_ref().0);
        problems.push(Problem::new(nbd.span(), what, "take `nbd` out: a witness only votes"));
    }
    Some(nbd.as_ref().0)
}

/// Where a node takes in guests.
pub(super) fn guests(table: &NodeTable, problems: &mut Problems) -> Option<SocketAddr> {
    let guests = table.guests.as_ref()?;
    let name = &table.name.as_ref().0;
    if table.witness {
        let what = format!("{name} is a witness and would take in guests");
        problems.push(Problem::new(guests.span(), what, "take `guests` out: a witness only votes"));
    }
    if table.nbd.as_ref().is_some_and(|nbd| nbd.as_ref().0 == guests.as_ref().0) {
        let what = format!("{name} would take in guests at {}, where it serves volumes", guests.as_ref().0);
        problems.push(Problem::new(guests.span(), what, "give `guests` a port of its own"));
    }
    Some(guests.as_ref().0)
}

/// What a node has for guests.
pub(super) fn room(table: &NodeTable, problems: &mut Problems) -> Option<Room> {
    let room = table.room.as_ref()?;
    let name = &table.name.as_ref().0;
    let mut wrong = |what: String, remedy| problems.push(Problem::new(room.span(), what, remedy));
    let RoomTable { memory, processors, placeholder } = room.as_ref();
    let mib = memory.as_ref().map(|memory| u32::try_from(memory.0 >> 20).map(NonZeroU32::new));
    let (memory, processors) = match (mib, processors.map(NonZeroU16::new)) {
        _ if table.witness => {
            let what = format!("{name} is a witness with room for guests");
            wrong(what, "take `room` out: a witness only votes");
            return None;
        }
        (None, None) => {
            let remedy = "write `memory`, `processors` or both, or take `room` out";
            wrong(format!("the room of {name} says nothing"), remedy);
            return None;
        }
        (Some(Ok(None) | Err(_)), _) => {
            let what = format!("{name} has less than 1MiB of memory for guests, or more than there is");
            wrong(what, "write a size, as `memory = \"48GiB\"`");
            return None;
        }
        (_, Some(None)) => {
            let remedy = "write a number from 1 on, or take `processors` out";
            wrong(format!("{name} has no processors for guests"), remedy);
            return None;
        }
        (memory, processors) => (memory.and_then(|mib| mib.ok().flatten()), processors.flatten()),
    };
    Some(Room { memory, processors, placeholder: *placeholder })
}

/// Two nodes serve at two places.
pub(super) fn different(this: &NodeTable, other: &NodeTable, problems: &mut Problems) {
    if let (Some(mine), Some(theirs)) = (&this.guests, &other.guests)
        && mine.as_ref() == theirs.as_ref()
    {
        let (name, known) = (&this.name.as_ref().0, &other.name.as_ref().0);
        let what = format!("{name} takes in guests at {}, as {known} does", mine.as_ref().0);
        problems.push(Problem::new(mine.span(), what, "give each node a place of its own"));
    }
    if let (Some(mine), Some(theirs)) = (&this.nbd, &other.nbd)
        && mine.as_ref() == theirs.as_ref()
    {
        let (name, known) = (&this.name.as_ref().0, &other.name.as_ref().0);
        let what = format!("{name} serves volumes at {}, as {known} does", mine.as_ref().0);
        problems.push(Problem::new(mine.span(), what, "give each node a place of its own"));
    }
}
