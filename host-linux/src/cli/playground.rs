//! `bulkhead playground`: two compartments and a witness on one machine, to try, to hurt, and to test
//! against.

use super::{Common, playground_demo};
use crate::failure::Failure;
use crate::nbd::uri::Uri;
use crate::output::{Report, parse_size};
use crate::playground::layout::{Elsewhere, Part, Wanted};
use crate::playground::site::Site;
use crate::site_config::value::parse_time;
use crate::site_config::{Preset, Room};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the parts are asked what they do.
const ASKED_EVERY: Duration = Duration::from_millis(100);
/// How long a cluster may take to agree, on a machine that does ten other things.
pub(super) const AGREE_MAX: Duration = Duration::from_secs(30);
/// Longest delay of a slow part.
const SLOW_MAX: Duration = Duration::from_secs(10);
/// Longest request on the fault socket.
const REQUEST_MAX: u64 = 256;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Run(Run),
    Fault(FaultArgs),
    Demo(playground_demo::Demo),
}

/// Run two compartments and a witness on this machine
///
/// Starts a whole cluster as processes on loopback, with their state below one directory, shows
/// what happens in plain words, and ends it with Ctrl-C. Needs no root, no configuration and no
/// network. With --json the first line says how to reach every part.
///
/// Examples:
///   bulkhead playground run
///   bulkhead playground run --nodes 2 --dir /tmp/pg
///   bulkhead playground run --volumes
///   bulkhead playground run --nodes 2 --volumes=3
///   bulkhead playground run --volumes --shared
///   bulkhead playground run --volumes --pairs 2
///   bulkhead playground run --volumes --room 512MiB,256MiB --placeholder
///   bulkhead playground run --witness 10.0.1.9:7901,10.0.2.9:7901 --here 10.0.1.1,10.0.2.1
///   bulkhead playground fault kill a1 --dir /tmp/pg
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Run {
    /// Nodes in each compartment
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    nodes: u16,
    /// Pairs of compartments, with volumes of their own and one witness: a and b, then c and d
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2),
        conflicts_with_all = ["witness", "shared"])]
    pairs: u16,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "bulkhead-playground")]
    dir: PathBuf,
    /// How fast it is
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Pace::Default)]
    timers: Pace,
    /// Have the first node of each compartment keep volumes: block devices, served by NBD; with 3,
    /// also the second one of the first compartment
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u16).range(2..=3))]
    volumes: Option<u16>,
    /// Have them share one store, as a cluster's file system would be, and only whoever leads write there
    #[arg(long, requires = "volumes")]
    shared: bool,
    /// Have all reach each other without the relay of the playground: links cannot be cut or slow, and
    /// cost no more than they must
    #[arg(long, conflicts_with = "witness")]
    direct: bool,
    /// Count what guests take: each node has so much memory for them; with two sizes, those of the
    /// first and those of the second compartment
    #[arg(long, value_name = "SIZE[,SIZE]", requires = "volumes", value_parser = parse_rooms)]
    room: Option<Rooms>,
    /// Keep as much of that free as the guests would take that may come
    #[arg(long, requires = "room")]
    placeholder: bool,
    #[command(flatten)]
    outside: Outside,
}

/// A witness that runs elsewhere.
#[derive(Clone, Debug, Args)]
pub(super) struct Outside {
    /// Use a witness that runs elsewhere, as on a board: where its two paths are reached
    #[arg(long, value_name = "ADDR,ADDR", value_parser = two::<SocketAddr>)]
    witness: Option<[SocketAddr; 2]>,
    /// This machine as that witness sees it in each network, if it is another machine
    #[arg(long, value_name = "HOST,HOST", value_parser = two::<IpAddr>, requires = "witness")]
    here: Option<[IpAddr; 2]>,
}

impl Outside {
    pub(super) fn elsewhere(&self) -> Option<Elsewhere> {
        Some(Elsewhere { at: self.witness?, here: self.here })
    }
}

fn two<T: FromStr + Copy>(text: &str) -> Result<[T; 2], String> {
    let all: Result<Vec<T>, _> = text.split(',').map(str::parse).collect();
    match all.as_deref() {
        Ok([one, two]) => Ok([*one, *two]),
        Ok(_) | Err(_) => Err("two are wanted, one for each network, with a comma between them".into()),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pace {
    /// Takes over within a second
    Default,
    /// Takes over within 200 ms, on a quiet machine
    Tight,
}

/// Hurt a part of a running playground, or repair it
///
/// kill: its power fails. start: its power returns. pause: it sleeps without knowing it. resume: it
/// wakes. cut: nothing gets from one part to another any more. slow: whatever it sends and receives
/// is held up for a while, which ends by itself. heal: all links carry again, or the one between two
/// parts.
///
/// Examples:
///   bulkhead playground fault kill a1
///   bulkhead playground fault cut a1 b1
///   bulkhead playground fault slow a1 --for 10s --delay 120ms
///   bulkhead playground fault heal
///   bulkhead playground fault heal a1 witness
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct FaultArgs {
    /// What to do
    #[arg(value_enum)]
    what: Fault,
    /// To which parts: a1, b1, ..., witness
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// slow: how long it lasts
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    span: Duration,
    /// slow: how much longer each datagram takes; the usual one makes a part slow, not silent
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "120ms")]
    delay: Duration,
    /// The directory of the playground
    #[arg(long, value_name = "DIR", default_value = "bulkhead-playground")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    Kill,
    Start,
    Pause,
    Resume,
    Cut,
    Slow,
    Heal,
}

pub(super) fn run(verb: Verb, common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Run(args) => run_until_stopped(&args, common),
        Verb::Fault(args) => ask_for_fault(&args),
        Verb::Demo(args) => playground_demo::demo(&args, common.json),
    }
}

/// What the nodes of each compartment have for guests.
#[derive(Clone, Copy, Debug)]
struct Rooms([Room; 2]);

fn parse_rooms(text: &str) -> Result<Rooms, String> {
    let (first, second) = text.split_once(',').unwrap_or((text, text));
    let room = |text: &str| {
        let mib = u32::try_from(parse_size(text)? >> 20).ok().and_then(NonZeroU32::new);
        let memory = mib.ok_or_else(|| format!("{text} is no room for guests; 512MiB is, say"))?;
        Ok::<_, String>(Room { memory: Some(memory), processors: None, placeholder: false })
    };
    Ok(Rooms([room(first)?, room(second)?]))
}

fn run_until_stopped(args: &Run, common: &Common) -> Result<Report, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    }
    let preset = match args.timers {
        Pace::Default => Preset::Default,
        Pace::Tight => Preset::Tight,
    };
    let (elsewhere, holders) = (args.outside.elsewhere(), args.volumes.unwrap_or_default());
    if args.nodes.saturating_mul(2) < holders {
        let failure =
            Failure::usage(format!("{} nodes are no {holders} holders", args.nodes.saturating_mul(2)));
        return Err(failure.left("Nothing was started.").next("add `--nodes 2`."));
    }
    let (is_shared, is_direct) = (args.shared, args.direct);
    let (pairs, per_side) = (args.pairs, args.nodes);
    let placeholder = args.placeholder;
    let rooms =
        args.room.map_or([None; 2], |Rooms(rooms)| rooms.map(|room| Some(Room { placeholder, ..room })));
    let wanted = Wanted { pairs, per_side, preset, elsewhere, holders, is_shared, is_direct, rooms };
    let mut site = Site::start(&args.dir, &wanted)?;
    let listener = listen(&args.dir)?;
    let begun = Instant::now();
    while site.master().is_none() {
        if stop.load(Ordering::Relaxed) {
            return Ok(ended());
        }
        if AGREE_MAX < begun.elapsed() {
            let next = format!("look into the logs in {}", args.dir.display());
            return Err(Failure::failed("no master was agreed on").left("All was stopped.").next(next));
        }
        std::thread::sleep(ASKED_EVERY);
    }
    introduce(&site, &args.dir, common.json);
    let mut roles = vec![String::new(); site.parts.len()];
    while !stop.load(Ordering::Relaxed) {
        if !common.json {
            show_changes(&site, &mut roles);
        }
        while let Ok((stream, _)) = listener.accept() {
            serve(&mut site, stream);
        }
        std::thread::sleep(ASKED_EVERY);
    }
    Ok(ended())
}

fn ended() -> Report {
    Report::new("all parts are stopped\n".into(), json!({ "ok": true }))
}

fn control(dir: &Path) -> PathBuf {
    dir.join("playground.sock")
}

fn listen(dir: &Path) -> Result<UnixListener, Failure> {
    let path = control(dir);
    // Left behind by a playground that was killed; a running one would have its ports.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Failure::failed(format!("cannot listen at {}: {error}", path.display())))
}

/// Says how to reach every part.
fn introduce(site: &Site, dir: &Path, as_json: bool) {
    let part = |(place, part): (usize, &Part)| {
        let nbd = part.nbd.map(|at| json!({ "address": at, "socket": part.nbd_socket() }));
        json!({
            "name": part.name,
            "node": part.node,
            "witness": part.is_witness,
            "here": part.is_here,
            "pid": site.pid(place),
            "socket": part.socket,
            "config": part.config,
            "state": part.state,
            "log": part.log,
            "nbd": nbd,
        })
    };
    let parts: Vec<Value> = site.parts.iter().enumerate().map(part).collect();
    let mut out = std::io::stdout().lock();
    if as_json {
        let all = json!({ "ok": true, "pid": std::process::id(), "directory": dir, "parts": parts });
        let _ = writeln!(out, "{all}").and_then(|()| out.flush());
        return;
    }
    let dir = dir.display();
    let _ = writeln!(
        out,
        "a cluster of {} parts runs below {dir}; Ctrl-C ends it. In another terminal:\n\n  \
         bulkhead status --socket {dir}/a1.sock\n  \
         bulkhead playground fault kill a1 --dir {dir}\n  \
         bulkhead playground fault start a1 --dir {dir}\n  \
         bulkhead playground fault cut a1 b1 --dir {dir}\n  \
         bulkhead playground fault heal --dir {dir}\n",
        site.parts.len()
    );
    introduce_volumes(site, &mut out, &dir);
}

/// Says how to make a volume, and where clients find it.
fn introduce_volumes(site: &Site, out: &mut impl std::io::Write, dir: &impl std::fmt::Display) {
    let nodes: Vec<_> = site.parts.iter().filter_map(|part| Some((part, part.nbd?))).collect();
    let Some((first, _)) = nodes.first() else { return };
    let _ = writeln!(
        out,
        "  bulkhead volume create vm1 --size 1GiB --socket {dir}/{}.sock\n\nand a client of a volume, on any \
         node, whichever leads:\n",
        first.name
    );
    for (part, at) in &nodes {
        let (tcp, unix) = (Uri::tcp(*at, "vm1"), Uri::unix(&part.nbd_socket(), "vm1"));
        let _ = writeln!(out, "  nbdinfo {tcp}\n  nbdinfo '{unix}'");
    }
    let _ = writeln!(out);
}

/// Prints whose role is another than it was.
fn show_changes(site: &Site, roles: &mut [String]) {
    let here = site.parts.iter().zip(roles).enumerate().filter(|(_, (part, _))| part.is_here);
    for (place, (part, known)) in here {
        let now = describe(site, place);
        if now != *known {
            println!("{:<8} {now}", part.name);
            *known = now;
        }
    }
}

/// What a part does, and why, in plain words.
pub(super) fn describe(site: &Site, place: usize) -> String {
    let Some(status) = site.status(place) else { return "does not answer".to_owned() };
    let word = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (word("role"), word("reason")) {
        (role, reason) if reason.is_empty() => format!("is {role}"),
        (role, reason) => format!("is {role}: {reason}"),
    }
}

/// Carries out one request: a line of JSON with `fault` and `parts`.
fn serve(site: &mut Site, stream: UnixStream) {
    let limits = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(1))))
        .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(1))));
    let mut line = String::new();
    let mut reader = BufReader::new(std::io::Read::take(&stream, REQUEST_MAX));
    if limits.is_err() || reader.read_line(&mut line).is_err() {
        return;
    }
    let answer = match apply(site, &line) {
        Ok(()) => json!({ "ok": true }),
        Err(failure) => failure.json(),
    };
    let _ = writeln!(&stream, "{answer}");
}

fn apply(site: &mut Site, line: &str) -> Result<(), Failure> {
    let request: Value = serde_json::from_str(line).unwrap_or_default();
    let word = request.get("fault").and_then(Value::as_str).unwrap_or_default();
    let fault = Fault::from_str(word, true).map_err(|_| Failure::usage(format!("no fault `{word}`")))?;
    let names = request.get("parts").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    match (fault, &names[..]) {
        (Fault::Heal, []) => site.heal(),
        (Fault::Heal, [one, other]) => site.mend(site.place(one)?, site.place(other)?)?,
        (Fault::Cut, [one, other]) => {
            let (one, other) = (site.place(one)?, site.place(other)?);
            site.cut(one, other)?;
        }
        (Fault::Kill, [name]) => {
            let place = site.process(name)?;
            site.kill(place);
        }
        (Fault::Start, [name]) => {
            let place = site.process(name)?;
            site.launch(place)?;
        }
        (Fault::Pause, [name]) => site.pause(site.process(name)?),
        (Fault::Resume, [name]) => site.resume(site.process(name)?),
        (Fault::Slow, [name]) => {
            let millis = |key: &str| request.get(key).and_then(Value::as_u64).unwrap_or_default();
            let [delay, span] = ["delayMs", "forMs"].map(|key| Duration::from_millis(millis(key)));
            let place = site.place(name)?;
            if delay.is_zero() || SLOW_MAX < delay {
                let what = format!("a delay is between 1 ms and {} s", SLOW_MAX.as_secs());
                return Err(Failure::usage(what));
            }
            site.slow(place, delay, span)?;
        }
        (
            Fault::Heal
            | Fault::Cut
            | Fault::Slow
            | Fault::Kill
            | Fault::Start
            | Fault::Pause
            | Fault::Resume,
            _,
        ) => {
            let what = "heal takes no part or two, cut takes two, all others take one";
            return Err(Failure::usage(what));
        }
    }
    Ok(())
}

fn ask_for_fault(args: &FaultArgs) -> Result<Report, Failure> {
    let path = control(&args.dir);
    let lost = |error: std::io::Error| {
        let what = format!("no playground answers at {}: {error}", path.display());
        Failure::failed(what).left("").next("start one with `bulkhead playground run`, or name its --dir")
    };
    let mut stream = UnixStream::connect(&path).map_err(lost)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(lost)?;
    let fault = args.what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (delay, span) = (millis(args.delay), millis(args.span));
    let request = json!({ "fault": fault, "parts": args.parts, "delayMs": delay, "forMs": span });
    writeln!(stream, "{request}").map_err(lost)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(lost)?;
    let answer: Value = serde_json::from_str(&line).unwrap_or_default();
    match answer.get("ok") {
        Some(Value::Bool(true)) => {
            let text = format!("{fault} {}\n", args.parts.join(" ")).replace(" \n", "\n");
            Ok(Report::new(text, json!({ "ok": true })))
        }
        Some(_) | None => {
            let word = |key: &str| answer.pointer(&format!("/error/{key}")).and_then(Value::as_str);
            let failure = Failure::usage(word("what").unwrap_or("the playground ended"));
            Err(failure.left("").next(word("next").unwrap_or_default()))
        }
    }
}
