//! The process of a guest: begun so that it outlives who began it, and ended.

use super::client::{self, NoAnswer};
use super::home::Home;
use super::record::{Record, Way};
use crate::failure::{Exit, Failure};
use crate::migration::disks::partial;
use crate::vmm::begins::Kept;
use crate::vmm::in_use::is_in_use;
use crate::vmm::snapshot::restoring::STATE;
use crate::vmm::snapshot::task::Settings;
use crate::vmm::snapshot::tracked::Extent;
use hyper::Method;
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A guest that is begun answers within this time; memory is set apart and its kernel read before.
const BEGINS: Duration = Duration::from_secs(30);
/// It answers what it is asked within this time.
const ANSWERS: Duration = Duration::from_secs(10);
/// All of it is written, or read, within this time: 64 GiB on a disk that does 50 MiB a second.
const WRITES: Duration = Duration::from_secs(1800);
const READS: Duration = WRITES;
/// It moves with all others, one behind the other, within this time.
const TOGETHER: Duration = Duration::from_secs(24 * 3600);
/// It is gone within this time once it was told to end.
pub const ENDS: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);
/// How often it is looked how far a move or a snapshot is.
const SHOW: Duration = Duration::from_millis(100);
/// How it is asked to move.
const MOVE: &str = "vm.send-migration";
/// Of what a process has said that could not begin.
const SAID_MAX: usize = 4096;

/// How a guest is begun.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// It stands still until it is told to go on.
    pub is_paused: bool,
    /// The agent by whose lease it runs; `None`: it runs alone.
    pub agent: Option<&'a Path>,
    /// The snapshot from which it goes on; `None`: it begins with its kernel.
    pub snapshot: Option<&'a Kept>,
    /// What that builds on, where it is not beside it.
    pub bases: &'a [PathBuf],
    /// Also if it was moved to another node.
    pub is_here: bool,
}

/// Who hears how far a snapshot is that is written or read. `true`: it is not to be any more.
pub type Watch<'a> = dyn FnMut(&Value) -> bool + 'a;

/// Begins the process of a guest; returns it when it answers. It outlives who began it; who does not end is
/// to wait for it.
///
/// # Errors
///
/// It runs already, or could not begin: what it said.
pub fn start(home: &Home, start: Start<'_>, watch: &mut Watch<'_>) -> Result<Child, Failure> {
    let messages = home.messages();
    if info(home)?.is_some() {
        return Err(Failure::refused(format!("guest {} runs already", home.name)));
    }
    let record = Record::load(&home.record())?;
    partial::check(&home.name, &home.description(), record.as_ref(), start.is_here)?;
    // Where it runs by a lease, that says where; but not of one that has other disks now.
    let moved = record.filter(|record| record.way == Way::To);
    let is_held = |record: &Record| (start.agent.is_none() || record.with_disks) && !start.is_here;
    if let Some(moved) = moved.filter(is_held) {
        let what = format!("guest {} was moved to {}, and may run there", home.name, moved.node);
        let next = "say --here once you know that it does not.";
        return Err(Failure::refused(what).left("It was not started.").next(next));
    }
    let mut command = command(home, start.agent)?;
    command.args(start.is_paused.then_some("--paused"));
    match start.snapshot {
        Some(Kept::File(path)) => drop(command.arg("--restore").arg(path)),
        Some(Kept::Own(snapshot)) => drop(command.arg("--from").arg(snapshot.as_str())),
        None => {}
    }
    command.args(start.bases.iter().flat_map(|base| [Path::new("--base"), base.as_path()]));
    let failed = |error: std::io::Error| Failure::io("begin the process of", &home.description(), &error);
    let mut child = command.spawn().map_err(failed)?;
    let begun = Instant::now();
    let most = if start.snapshot.is_some() { READS } else { BEGINS };
    while begun.elapsed() < most {
        // One that has not begun to be read says nothing yet.
        let info = info(home).ok().flatten();
        let read = info.as_ref().filter(|info| info.get("state").is_some_and(|state| state == STATE));
        if info.is_some() && read.is_none() {
            // It is here again: where it went before says nothing any more.
            let _ = std::fs::remove_file(home.record());
            let _ = std::fs::remove_file(partial::beside(&home.description()));
            return Ok(child);
        }
        if watch(read.and_then(|read| read.get("snapshot")).unwrap_or(&Value::Null)) {
            end(home, &mut child);
            let what = format!("the restore of guest {} was cancelled", home.name);
            return Err(Failure::failed(what).left("It is off."));
        }
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Err(said(home, status));
        }
        std::thread::sleep(LOOK);
    }
    let what = format!("guest {} does not answer {} s after its begin", home.name, most.as_secs());
    let next = format!("look at {}; `bulkhead vm stop {} --now` ends it.", messages.display(), home.name);
    Err(Failure::failed(what).left("Its process runs.").next(next))
}

/// Ends the process of a guest that may not have come so far as to be told.
fn end(home: &Home, child: &mut Child) {
    let begun = Instant::now();
    while begun.elapsed() < ENDS {
        // One that answers nothing yet is asked again.
        let _ = client::ask(&home.api(), Method::PUT, "vm.shutdown", LOOK.saturating_mul(10));
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        std::thread::sleep(LOOK);
    }
    let _ = child.kill().and_then(|()| child.wait());
}

/// What begins the process of a guest.
fn command(home: &Home, agent: Option<&Path>) -> Result<Command, Failure> {
    let messages = home.messages();
    let failed = |error: std::io::Error| Failure::io("begin the process of", &home.description(), &error);
    let out = File::create(&messages).map_err(|error| Failure::io("write", &messages, &error))?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("vmm").arg(home.description());
    command.arg("--api").arg(home.api()).arg("--console").arg(home.console()).arg("--log").arg(home.log());
    command.arg("--background");
    match agent {
        Some(agent) => command.arg("--socket").arg(agent),
        None => command.arg("--alone"),
    };
    let same = out.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(out).stderr(same);
    Ok(command)
}

/// Begins the process of a guest that comes from another node, by what is handed to it over `from`.
///
/// # Errors
///
/// The system does not.
pub fn receive(home: &Home, agent: Option<&Path>, from: UnixStream) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| Failure::io("begin the process of", &home.description(), &error);
    let mut command = command(home, agent)?;
    command.arg("--receive").stdin(OwnedFd::from(from)).spawn().map_err(failed)
}

/// Why a process that has ended already could not begin.
fn said(home: &Home, status: ExitStatus) -> Failure {
    let code = status.code();
    if status.signal() == Some(libc::SIGSYS) {
        let what = format!("guest {} did what its process is kept from", home.name);
        let next =
            "`journalctl -k -g type=1326` names the system call; `bulkhead vmm --sandbox log` only logs it.";
        return Failure::failed(what).left("It was ended.").next(next);
    }
    let said = std::fs::read(home.messages()).unwrap_or_default();
    let skip = said.len().saturating_sub(SAID_MAX);
    let said = String::from_utf8_lossy(said.get(skip..).unwrap_or_default()).trim().to_owned();
    if code == Some(0) {
        let next = format!("`bulkhead vm log {}` shows what it said.", home.name);
        return Failure::failed(format!("guest {} was off again at once", home.name)).left("").next(next);
    }
    let (said, next) = parted(&said);
    let what = format!("guest {} did not begin: {said}", home.name);
    let is_refused = code == Some(i32::from(Exit::Refused.code()));
    if is_refused { Failure::refused(what) } else { Failure::failed(what) }.left("").next(next)
}

/// The text of a failure, as part of another one's: what happened and what it left, and what to do next.
fn parted(said: &str) -> (&str, &str) {
    let said = said.strip_prefix("bulkhead: ").unwrap_or(said);
    let (said, next) = said.split_once("\n  Next: ").unwrap_or((said, ""));
    let said = said.trim_end();
    (said.strip_suffix('.').unwrap_or(said), next.trim_end())
}

/// What it says of itself; `None`: it does not run.
///
/// # Errors
///
/// It does not answer.
pub fn info(home: &Home) -> Result<Option<Value>, Failure> {
    match client::ask(&home.api(), Method::GET, "vm.info", ANSWERS) {
        Ok(info) => Ok(Some(info)),
        Err(NoAnswer::Off) => Ok(None),
        Err(NoAnswer::Failed(failure)) => Err(failure),
    }
}

/// Has it written there, so much of it; it ends there, or goes on.
///
/// # Errors
///
/// As [`tell`]; what was there before is there still.
pub fn snapshot(home: &Home, settings: &Settings, watch: &mut Watch<'_>) -> Result<(), Failure> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| Failure::io("find", path, &error));
    let url = match &settings.to {
        Kept::File(path) => format!("file://{}", absolute(path)?.display()),
        Kept::Own(snapshot) => format!("own:{snapshot}"),
    };
    let (is_tracked, since) = match &settings.extent {
        Extent::All => (false, None),
        Extent::Tracked => (true, None),
        Extent::Since(older) => (true, Some(absolute(older)?)),
    };
    let body =
        json!({ "destination_url": url, "stop": settings.is_end, "track": is_tracked, "since": since });
    told(
        home,
        watched(home, "vm.snapshot", &body, "snapshot", &mut |view| {
            if watch(view) {
                // Who asked for it hears what came of that.
                let _ = client::ask(&home.api(), Method::PUT, "vm.cancel-snapshot", ANSWERS);
            }
        }),
    )
}

/// Asks for what takes long; `progress` hears what its `vm.info` says of that under `key`.
fn watched(
    home: &Home,
    what: &str,
    body: &Value,
    key: &str,
    progress: &mut dyn FnMut(&Value),
) -> Result<Value, NoAnswer> {
    let api = home.api();
    std::thread::scope(|scope| {
        let asks = || client::ask_with(&api, Method::PUT, what, body, WRITES);
        let asked = scope.spawn(asks);
        while !asked.is_finished() {
            std::thread::sleep(SHOW);
            // It may be gone by now.
            let info = info(home).ok().flatten();
            let view = info.as_ref().and_then(|info| info.get(key)).filter(|view| !view.is_null());
            view.map(&mut *progress);
        }
        asked.join().unwrap_or(Err(NoAnswer::Off))
    })
}

/// Where a guest is to go.
#[derive(Clone, Copy, Debug)]
pub struct Leave<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The control socket of this node's agent.
    pub agent: &'a Path,
    /// For how long it may stand still.
    pub downtime: Duration,
    /// Bytes a second; `None`: as many as can.
    pub bandwidth: Option<u64>,
    /// It stands still from the beginning.
    pub is_quick: bool,
    /// What is on its disks goes with it.
    pub with_disks: bool,
    /// Whoever moves others with it is called so; `None`: it moves by itself.
    pub together: Option<&'a str>,
}

/// Has it move to another node; `progress` hears how far that is. What it says of that when it is there.
///
/// # Errors
///
/// As [`tell`]: it is here still, or, as the failure says then, given away and not heard of.
pub fn migrate(home: &Home, leave: Leave<'_>, progress: &mut dyn FnMut(&Value)) -> Result<Value, Failure> {
    let ask = |body: &Value| watched(home, MOVE, body, "migration", progress);
    moved(home, leave, ask).map_err(|why| match why {
        NoAnswer::Off => is_off(home),
        NoAnswer::Failed(failure) => failure,
    })
}

/// Has it move with others, as `vm.advance-migration` says.
///
/// # Errors
///
/// As [`migrate`].
pub(super) fn leave(home: &Home, leave: Leave<'_>) -> Result<Value, Failure> {
    let ask = |body: &Value| client::ask_with(&home.api(), Method::PUT, MOVE, body, TOGETHER);
    moved(home, leave, ask).map_err(|why| match why {
        NoAnswer::Off => {
            let what = format!("the process of guest {} ended while it was moved", home.name);
            let next = format!("see {}, and then move the others again.", home.messages().display());
            Failure::failed(what).left("").next(next)
        }
        NoAnswer::Failed(failure) => failure,
    })
}

fn moved(
    home: &Home,
    leave: Leave<'_>,
    ask: impl FnOnce(&Value) -> Result<Value, NoAnswer>,
) -> Result<Value, NoAnswer> {
    let Leave { node, agent, downtime, bandwidth, is_quick, with_disks, together } = leave;
    let downtime = u64::try_from(downtime.as_millis()).unwrap_or(u64::MAX);
    let body = json!({ "node": node, "agent": agent, "downtime_ms": downtime, "bandwidth": bandwidth,
                       "quick": is_quick, "copy_disks": with_disks, "together": together });
    let begun = Record::now(Way::To, node, false).at;
    let record = || Record::load(&home.record()).ok().flatten().filter(|record| begun <= record.at);
    match ask(&body) {
        // Its process may end before its answer is out; what it wrote before that tells.
        Err(NoAnswer::Off) => match record().and_then(|record| record.moved) {
            Some(moved) => Ok(serde_json::to_value(moved).unwrap_or_default()),
            None => Err(NoAnswer::Off),
        },
        answer => answer,
    }
}

/// Has it run for so many hundredths of the time.
///
/// # Errors
///
/// As [`tell`].
pub fn share(home: &Home, percent: u8) -> Result<(), Failure> {
    let body = json!({ "percent": percent });
    told(home, client::ask_with(&home.api(), Method::PUT, "vm.share", &body, ANSWERS))
}

/// Tells it, such as `vm.pause`.
///
/// # Errors
///
/// It does not run, does not answer, or did not do it.
pub fn tell(home: &Home, what: &str) -> Result<(), Failure> {
    told(home, client::ask(&home.api(), Method::PUT, what, ANSWERS))
}

fn told(home: &Home, answer: Result<Value, NoAnswer>) -> Result<(), Failure> {
    match answer {
        Ok(_) => Ok(()),
        Err(NoAnswer::Off) => Err(is_off(home)),
        Err(NoAnswer::Failed(failure)) => Err(failure),
    }
}

/// It does not run, where it is to.
pub fn is_off(home: &Home) -> Failure {
    let next = format!("`bulkhead vm start {}` begins it.", home.name);
    Failure::refused(format!("guest {} does not run", home.name)).left("").next(next)
}

/// Ends it: by its power button, and it has so long to end itself; or at once, as a loss of power does. One
/// that does not run is ended already.
///
/// # Errors
///
/// It does not end.
pub fn stop(home: &Home, timeout: Option<Duration>) -> Result<(), Failure> {
    let what = if timeout.is_some() { "vm.power-button" } else { "vm.shutdown" };
    match client::ask(&home.api(), Method::PUT, what, ANSWERS) {
        Ok(_) | Err(NoAnswer::Off) => wait_until_off(home, timeout.unwrap_or(ENDS)),
        Err(NoAnswer::Failed(failure)) => Err(failure),
    }
}

/// Waits until its process is gone, so long at most.
///
/// # Errors
///
/// It is still there.
pub fn wait_until_off(home: &Home, most: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    // Its end of the socket closes before its process is gone; its lock tells.
    while is_in_use(&home.description()) {
        if most < begun.elapsed() {
            let what = format!("guest {} still runs after {} s", home.name, most.as_secs());
            let next = format!("`bulkhead vm stop {} --now` ends it as a loss of power does.", home.name);
            return Err(Failure::failed(what).left("").next(next));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::home::Homes;
    use super::*;

    /// What a process said is said again in one sentence, with one thing to do next.
    #[test]
    fn a_failure_is_told_as_part_of_another() {
        let failed = Failure::failed("b1 leads");
        let cases = [
            (failed.clone().left("").text(), "b1 leads", ""),
            (failed.clone().left("It is off.").text(), "b1 leads. It is off", ""),
            (failed.clone().left("").next("wait.").text(), "b1 leads", "wait."),
            (failed.left("It is off.").next("wait.").text(), "b1 leads. It is off", "wait."),
            ("thread 'x' panicked".into(), "thread 'x' panicked", ""),
            (String::new(), "", ""),
        ];
        for (text, what, next) in cases {
            assert_eq!(parted(&text), (what, next), "{text}");
            assert_eq!(parted(text.trim()), (what, next), "{text}");
        }
    }

    /// Whoever begins a guest hears how its process ended, and where to look further.
    #[test]
    fn a_process_that_could_not_begin_is_explained_by_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let description = directory.path().join("web1/guest.toml");
        std::fs::create_dir(description.parent().unwrap()).unwrap();
        std::fs::write(description, "").unwrap();
        let home = Homes::at(directory.path()).find("web1").unwrap();
        std::fs::write(home.messages(), "bulkhead: no kernel\n").unwrap();
        let of = |status| said(&home, ExitStatus::from_raw(status));
        assert!(of(1 << 8).what.contains("did not begin: no kernel"));
        assert_eq!((of(1 << 8).exit, of(3 << 8).exit), (Exit::Failed, Exit::Refused));
        assert!(of(0).what.contains("off again at once"));
        let killed = of(libc::SIGSYS);
        assert!(killed.what.contains("kept from") && killed.next.contains("type=1326"), "{killed:?}");
    }
}
