//! The control socket: `<state>/control.sock`, for its owner only. A thread for each of a few connections
//! reads one request a line; the loop answers what only it knows. Hostile clients cost a slot, never the
//! loop: lines, connections and times are bounded (V16, V43, F38).

use super::events::Reader;
use super::request::{Answer, Request};
use super::wake::Wake;
use crate::failure::Failure;
use crate::own_socket;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Connections at once. More are told so and closed.
pub const CONNECTIONS_MAX: usize = 32;
/// The longest request.
pub const REQUEST_MAX: usize = 4096;
/// A request must be complete, and an answer must be taken, within this time.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to the loop under way at once.
const QUESTIONS_MAX: usize = 8;
/// A connection that only listens is looked after this often.
const FOLLOW: Duration = Duration::from_secs(2);
/// Events in one go: bounds what a reader holds the ring for.
const EVENTS_AT_ONCE: usize = 64;

/// A request that the loop must answer.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    answer: SyncSender<Answer>,
}

impl Question {
    /// Answers it. Whoever asked may be gone.
    pub fn answer(self, answer: Answer) {
        let _ = self.answer.try_send(answer);
    }
}

/// The socket; it is gone when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    /// What the loop is asked.
    pub questions: Receiver<Question>,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What every connection shares.
#[derive(Clone)]
struct Shared {
    questions: SyncSender<Question>,
    events: Reader,
    wake: Wake,
    /// One clone a connection: their number is the number of connections.
    slots: Arc<()>,
}

impl Control {
    /// Opens the socket at `path` and serves it. `wake` wakes the loop when there is a question.
    ///
    /// # Errors
    ///
    /// The path cannot be used, or another agent serves it.
    pub fn open(path: &Path, events: Reader, wake: Wake) -> Result<Self, Failure> {
        let io = |error: std::io::Error| {
            let failure = Failure::io("open the control socket", path, &error);
            failure
                .next("set `local.socket` to a path below 100 bytes in a directory this user can write to.")
        };
        let listener = own_socket::listen(path).map_err(io)?.ok_or_else(|| {
            let what = format!("another agent serves {}", path.display());
            Failure::refused(what).next("stop it first, or set `local.socket` to another path.")
        })?;
        let (sender, questions) = sync_channel(QUESTIONS_MAX);
        let shared = Shared { questions: sender, events, wake, slots: Arc::new(()) };
        let thread = std::thread::Builder::new().name("control".into()).stack_size(128 << 10);
        thread.spawn(move || accept(&listener, &shared)).map_err(io)?;
        Ok(Self { path: path.into(), questions })
    }
}

fn accept(listener: &UnixListener, shared: &Shared) {
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else {
            // No file descriptors, most likely: do not spin.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        // The accepting thread holds one clone itself.
        if CONNECTIONS_MAX < Arc::strong_count(&shared.slots) {
            let _ = connection.set_write_timeout(Some(Duration::from_millis(1)));
            let full = Answer::refused("failed", "the agent has all its connections in use", "try again");
            let _ = writeln!(connection, "{}", full.0);
            continue;
        }
        let shared = shared.clone();
        let thread = std::thread::Builder::new().name("client".into()).stack_size(256 << 10);
        // Without a thread the connection closes, which is an answer too.
        let _ = thread.spawn(move || serve(connection, &shared));
    }
}

/// Serves a connection until it ends, errs, or takes too long.
fn serve(mut connection: UnixStream, shared: &Shared) {
    let mut pending = Vec::new();
    while let Some(line) = read_line(&mut connection, &mut pending) {
        let done = match serde_json::from_slice(&line) {
            Ok(Request::Events { after, follow }) => send_events(&mut connection, shared, after, follow),
            Ok(request) => send(&mut connection, &ask(shared, request).0),
            Err(error) => {
                let what = format!("this is no request: {error}");
                send(&mut connection, &Answer::refused("usage", what, "see docs/status.md").0)
            }
        };
        if done.is_err() {
            return;
        }
    }
}

/// The next line, within [`PATIENCE`] as a whole: a client cannot stay by sending a byte now and then.
fn read_line(connection: &mut UnixStream, pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let begin = Instant::now();
    loop {
        if let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let rest = pending.split_off(end.saturating_add(1));
            return Some(std::mem::replace(pending, rest));
        }
        let left = PATIENCE.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())?;
        connection.set_read_timeout(Some(left)).ok()?;
        let mut buffer = [0; 512];
        let len = connection.read(&mut buffer).ok().filter(|len| 0 < *len)?;
        pending.extend_from_slice(buffer.get(..len)?);
        if REQUEST_MAX < pending.len() {
            let what = format!("a request has at most {REQUEST_MAX} bytes");
            let _ = send(connection, &Answer::refused("usage", what, "see docs/status.md").0);
            return None;
        }
    }
}

/// Asks the loop.
fn ask(shared: &Shared, request: Request) -> Answer {
    let (answer, answers) = sync_channel(1);
    let silent = silent(&request);
    match shared.questions.try_send(Question { request, answer }) {
        Ok(()) => shared.wake.wake(),
        Err(TrySendError::Full(_)) => return Answer::refused("failed", "the agent is busy", "try again"),
        Err(TrySendError::Disconnected(_)) => return Answer::refused("failed", "the agent stops", ""),
    }
    answers.recv_timeout(PATIENCE).unwrap_or(silent)
}

/// What is said where no answer came in time.
fn silent(request: &Request) -> Answer {
    if request.changes_volumes() {
        let what = format!("it was not carried out within {} s", PATIENCE.as_secs());
        let failure = Failure::failed(what).left("It may still be carried out.");
        return Answer::failure(&failure.next("`bulkhead volume list` shows what became of it."));
    }
    Answer::refused("failed", "the agent does not answer", "look at its log")
}

fn send(connection: &mut UnixStream, value: &Value) -> std::io::Result<()> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    let begin = Instant::now();
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        let left = PATIENCE.checked_sub(begin.elapsed()).filter(|left| !left.is_zero());
        connection.set_write_timeout(Some(left.ok_or(ErrorKind::TimedOut)?))?;
        let len = connection.write(rest)?;
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(())
}

/// Events as one answer; or, to a follower, one a line for as long as it listens.
fn send_events(
    connection: &mut UnixStream,
    shared: &Shared,
    after: u64,
    follow: bool,
) -> std::io::Result<()> {
    if !follow {
        let events = shared.events.after(after, usize::MAX, Duration::ZERO);
        return send(connection, &json!({ "ok": true, "events": events }));
    }
    let mut after = after;
    loop {
        for event in shared.events.after(after, EVENTS_AT_ONCE, FOLLOW) {
            after = event.seq;
            send(connection, &serde_json::to_value(event)?)?;
        }
        // A follower that hung up is noticed although nothing happens: it has nothing more to say.
        connection.set_read_timeout(Some(Duration::from_millis(1)))?;
        match connection.read(&mut [0; 1]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}
