//! `bulkhead vmm`: one guest in this process.

use super::Common;
use super::cluster::AgentArg;
use super::vm_snapshot::BasesArg;
use crate::failover::sight::note_beside;
use crate::failure::Failure;
use crate::guests::home::RECORD;
use crate::migration::arrival::Arrival;
use crate::output::Report;
use crate::vmm::api::Api;
use crate::vmm::attach::Attach;
use crate::vmm::begins::{Begins, Kept};
use crate::vmm::console::Console;
use crate::vmm::description::Description;
use crate::vmm::guest::{Ended, Event, Guest};
use crate::vmm::in_use::InUse;
use crate::vmm::keys::Keys;
use crate::vmm::log::Log;
use crate::vmm::sandbox::{self, Sandbox};
use crate::vmm::throttle::Pace;
use bulkhead_core::volume::name::Name;
use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

/// Run one guest
///
/// Runs the guest that a file describes, in this process, on KVM. Its serial console is standard
/// input and output; with --json, its output goes to standard error. Ends when the guest is off,
/// and starts it anew when it resets; Ctrl-C ends it at once, as a loss of power would.
///
/// A guest of a site runs under a lease: only while the agent of this node leads its volumes. Else
/// it stands still, and ends when another node leads. Exit code 3: another node leads. With --alone
/// nobody keeps it from running twice: that is for guests whose disks nobody else has.
///
/// The file:
///
///   version = 1
///   name = "web1"
///   processors = 2
///   memory = "1GiB"
///   kernel = "vmlinuz"
///   initrd = "initrd.img"
///   command_line = "console=ttyS0 root=/dev/vda"
///
///   [[disk]]
///   volume = "web1"
///
///   [[network]]
///   tap = "web1-0"
///   bridge = "br0"
///
/// With --restore the guest goes on where it was when its snapshot was taken: its disks must have
/// what they had then, so it must not have run since.
///
/// Examples:
///   bulkhead vmm web1.toml
///   bulkhead vmm web1.toml --alone --once
///   bulkhead vmm --restore web1.snapshot
///   bulkhead vmm --restore web1.3 --base /archive/web1.1 --base /archive/web1.2
///   bulkhead vmm web1.toml --api web1.sock --console web1.console --log web1.log
///   curl --unix-socket web1.sock -X PUT http://localhost/api/v1/vm.pause
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Vmm {
    /// What the guest is; a snapshot says it, too
    #[arg(value_name = "FILE", required_unless_present = "restore", required_if_eq("receive", "true"))]
    description: Option<PathBuf>,
    /// Go on where the guest was when this snapshot was taken
    #[arg(long, value_name = "SNAPSHOT")]
    restore: Option<PathBuf>,
    #[command(flatten)]
    bases: BasesArg,
    /// Go on where the guest was when this snapshot in its own volume was taken
    #[arg(long, value_name = "NAME", value_parser = snapshot_name, requires = "description",
          conflicts_with_all = ["restore", "alone"])]
    from: Option<Name>,
    /// Go on where a guest was that another node hands over by standard input: agents begin this
    #[arg(long, conflicts_with_all = ["restore", "from"], hide_short_help = true)]
    receive: bool,
    /// End when the guest resets, too
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    lease: LeaseArg,
    /// Do not run it until it is resumed by its API
    #[arg(long, requires = "api")]
    paused: bool,
    /// Serve the guest's API at this socket
    #[arg(long, value_name = "SOCKET")]
    api: Option<PathBuf>,
    /// Serve the guest's console at this socket, in place of standard input and output
    #[arg(long, value_name = "SOCKET")]
    console: Option<PathBuf>,
    /// Leave the terminal and the session of who began it
    #[arg(long, requires = "console", hide_short_help = true)]
    background: bool,
    /// Keep what the guest says in this file, 2 MiB of it at most
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// What becomes of this process if it makes a system call that it needs not
    #[arg(long, value_enum, default_value_t = Sandbox::On, hide_short_help = true)]
    sandbox: Sandbox,
}

impl Vmm {
    /// Where the snapshot is that it goes on from.
    fn restored(&self) -> Option<Kept> {
        let file = self.restore.clone().map(Kept::File);
        file.or_else(|| self.from.clone().map(Kept::Own))
    }
}

/// The name of a snapshot.
pub(super) fn snapshot_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|why| why.to_string())
}

/// By whose lease a guest runs.
#[derive(Clone, Debug, Args)]
pub(super) struct LeaseArg {
    /// Run it without a lease, whatever runs elsewhere
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    agent: AgentArg,
}

impl LeaseArg {
    /// The control socket of the agent that is asked; `None`: nobody is.
    pub(super) fn agent(&self) -> Result<Option<PathBuf>, Failure> {
        if self.alone { Ok(None) } else { self.agent.path().map(Some) }
    }
}

/// Bytes that are typed at once.
const TYPED_MAX: usize = 256;

pub(super) fn run(args: &Vmm, common: &Common) -> Result<Report, Failure> {
    let description = args.description.as_deref().map(Description::read).transpose()?;
    let locked = args.description.iter().chain(&args.restore).map(|path| InUse::lock(path));
    let _once = locked.collect::<Result<Vec<_>, _>>()?;
    if args.background {
        // Who leads a session has none to leave: it is no terminal's then, either.
        let _ = rustix::process::setsid();
        be_as_others();
    }
    // A guest without one of its threads would be neither running nor gone.
    let panicked = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        panicked(panic);
        std::process::abort();
    }));
    // Before it has other threads.
    sandbox::prepare()?;
    let (tell, events) = channel();
    stop_on_signals(&tell)?;
    let (console, keys) = (Console::default(), Keys::new(tell.clone()));
    let no_thread = |error| Failure::failed(format!("no thread for a console: {error}"));
    let logged = args.log.as_deref().map(Log::open).transpose()?;
    let _logged = logged.map(|log| console.copy_to(log)).transpose().map_err(no_thread)?;
    let attach = args.console.as_deref();
    let _attach = attach.map(|path| Attach::serve(path, console.clone(), keys.clone())).transpose()?;
    let _here = match (&args.console, common.json) {
        (Some(_), _) => None,
        (None, true) => Some(console.copy_to(std::io::stderr())),
        (None, false) => Some(console.copy_to(std::io::stdout())),
    };
    let _here = _here.transpose().map_err(no_thread)?;
    if args.console.is_none() {
        listen_to_keys(keys.clone());
    }
    let _api = args.api.as_deref().map(|path| Api::serve(path, tell.clone())).transpose()?;
    let record = args.description.as_deref().map(|description| description.with_file_name(RECORD));
    let begins = match args.receive {
        true => {
            let arrival = Box::new(arrival(record.clone())?);
            Begins::Here { arrival, described: description.map(Box::new) }
        }
        false => begins(description, args.restored(), &args.bases)?,
    };
    let is_paused = match &begins {
        Begins::Here { arrival, .. } => arrival.is_paused(),
        Begins::Anew(_) | Begins::Again { .. } => args.paused,
    };
    let agent = args.lease.agent()?;
    let (is_once, sandbox, leaving) = (args.once, Some(args.sandbox), None);
    let console = console.clone();
    let guest = Guest {
        console: console.clone(),
        keys,
        is_once,
        is_paused,
        agent,
        record,
        loan: None,
        leaving,
        capturing: None,
        pace: Pace::default(),
        sandbox,
    };
    let ended = noted(args.description.as_deref(), || guest.run(begins, &events, &tell));
    console.drain();
    ended.map(|ended| Report::new(String::new(), json!({ "ok": true, "ended": ended.name() })))
}

/// How the guest ends that is described there, noted beside that.
fn noted(description: Option<&Path>, run: impl FnOnce() -> Result<Ended, Failure>) -> Result<Ended, Failure> {
    let note = description.map(note_beside);
    // What it came to before says nothing of this time.
    let _ = note.as_ref().map(std::fs::remove_file);
    let ended = run();
    if let (Some(note), Ok(ended)) = (note, &ended) {
        // Without it the guest is begun again where it is to run.
        let _ = std::fs::write(note, ended.name());
    }
    ended
}

/// The process is no part of an agent that began it, which the system spares when memory runs out.
fn be_as_others() {
    const SCORE: &str = "/proc/self/oom_score_adj";
    // Where there is no such file, nobody is spared.
    if std::fs::read_to_string(SCORE).is_ok_and(|score| score.starts_with('-')) {
        let _ = std::fs::write(SCORE, "0");
    }
}

/// The guest that another node hands over.
fn arrival(record: Option<PathBuf>) -> Result<Arrival, Failure> {
    let handed = std::io::stdin().as_fd().try_clone_to_owned();
    let handed = handed.map_err(|error| Failure::failed(format!("no standard input: {error}")))?;
    Arrival::take(handed, record)
}

/// How the guest begins that is described, or in a snapshot, or both: then they are of one guest.
fn begins(
    description: Option<Description>,
    snapshot: Option<Kept>,
    bases: &BasesArg,
) -> Result<Begins, Failure> {
    match (snapshot, description) {
        (Some(snapshot), described) => {
            let (bases, described) = (bases.of(&snapshot)?, described.map(Box::new));
            Ok(Begins::Again { snapshot, bases, described })
        }
        (None, Some(description)) => Ok(Begins::Anew(description)),
        (None, None) => Err(Failure::usage("neither a guest's description nor a snapshot of one is given")),
    }
}

fn stop_on_signals(tell: &Sender<Event>) -> Result<(), Failure> {
    let failed = |error| Failure::failed(format!("cannot listen for signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let tell = tell.clone();
    let work = move || signals.forever().all(|_| tell.send(Event::Stop).is_ok());
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(work).map(drop).map_err(failed)
}

/// Tells what comes in by standard input, until its end. Nobody waits for its thread.
fn listen_to_keys(keys: Keys) {
    let read = move || {
        let mut bytes = [0; TYPED_MAX];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
            if !keys.put(bytes.get(..count).unwrap_or_default()) {
                return;
            }
        }
    };
    // Without it the guest runs all the same.
    let _ = std::thread::Builder::new().name("keys".into()).spawn(read);
}
