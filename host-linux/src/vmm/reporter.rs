//! Says to the agent what becomes of a guest's heartbeat (S3-03). It waits for the agent, and the guest does
//! not wait for it.

use super::description::Lost;
use crate::cluster::client::Client;
use crate::cluster::clock;
use crate::cluster::request::Request;
use crate::failover::hearts::AGAIN;
use bulkhead_core::time::Instant;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Changes that are not said yet; of more, the oldest never are.
const UNSAID_MAX: usize = 8;
/// An agent that does not answer is asked no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A guest that ends leaves so much time for saying why.
const LAST_WORDS: Duration = Duration::from_millis(200);
const STACK: usize = 256 << 10;

/// How a heartbeat is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is lost, since then.
    Lost(Instant),
    /// It is not lost any more.
    Back,
}

/// Who says it. Dropped, it says what is not said yet, if that takes no time.
#[derive(Debug)]
pub struct Reporter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    unsaid: VecDeque<Change>,
    is_over: bool,
}

impl Reporter {
    /// For the guest of this name, to the agent at this socket; what follows when its heartbeat is lost.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(guest: &str, agent: &Path, follows: Lost) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let says = Says { guest: guest.to_owned(), agent: agent.to_owned(), follows, lost: None };
        let own = Arc::clone(&shared);
        // Nobody waits for its end: it may wait for an agent.
        let thread = std::thread::Builder::new().name("heartbeat".into()).stack_size(STACK);
        thread.spawn(move || says.run(&own))?;
        Ok(Self(shared))
    }

    /// Has this said.
    pub fn say(&self, change: Change) {
        let mut state = self.0.lock();
        if UNSAID_MAX <= state.unsaid.len() {
            state.unsaid.pop_front();
        }
        state.unsaid.push_back(change);
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        self.0.changed.notify_all();
        let is_unsaid = |state: &mut State| !state.unsaid.is_empty();
        drop(self.0.changed.wait_timeout_while(state, LAST_WORDS, is_unsaid));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next change, so long at most; `Err`: there is none any more.
    fn next(&self, most: Option<Duration>) -> Result<Option<Change>, ()> {
        let waits = |state: &mut State| state.unsaid.is_empty() && !state.is_over;
        let state = self.lock();
        let state = match most {
            Some(most) => self.changed.wait_timeout_while(state, most, waits).map(|(state, _)| state).ok(),
            None => self.changed.wait_while(state, waits).ok(),
        };
        let state = state.unwrap_or_else(|| self.lock());
        match state.unsaid.front() {
            Some(change) => Ok(Some(*change)),
            None if state.is_over => Err(()),
            None => Ok(None),
        }
    }

    /// The first of them is said, or never will be.
    fn is_said(&self) {
        self.lock().unsaid.pop_front();
        self.changed.notify_all();
    }
}

/// What its thread has.
struct Says {
    guest: String,
    agent: PathBuf,
    follows: Lost,
    /// It is lost since then.
    lost: Option<Instant>,
}

impl Says {
    fn run(mut self, shared: &Shared) {
        while let Ok(change) = shared.next(self.lost.map(|_| AGAIN)) {
            self.lost = match change {
                Some(Change::Lost(since)) => Some(since),
                Some(Change::Back) => None,
                None => self.lost,
            };
            // An agent that was not reached is told again while it is lost, and forgets what it knew if not.
            let _ = self.say();
            if change.is_some() {
                shared.is_said();
            }
        }
    }

    fn say(&self) -> Result<(), crate::failure::Failure> {
        let lost = self.lost.map(|since| clock::now().since(since));
        let request = Request::GuestHeartbeat {
            guest: self.guest.clone(),
            lost_ms: lost.map(|lost| u64::try_from(lost.as_millis()).unwrap_or(u64::MAX)),
            follows: self.follows,
        };
        Client::connect_for(&self.agent, PATIENCE)?.ask(&request).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::{Receiver, channel};

    const LONG: Duration = Duration::from_secs(20);

    /// An agent at this socket: what it is asked.
    fn agent(socket: &Path) -> Receiver<Value> {
        let listener = UnixListener::bind(socket).unwrap();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                stream.get_mut().write_all(b"{\"ok\":true}\n").unwrap();
                if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        asked
    }

    /// S3-03: what happens is said in its order, what lasts is said again, also to an agent that came later.
    #[test]
    fn what_lasts_is_said_until_it_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let reporter = Reporter::start("web1", &socket, Lost::Reset).unwrap();
        let now = clock::now();
        reporter.say(Change::Lost(now));
        std::thread::sleep(Duration::from_millis(50));
        let asked = agent(&socket);
        let first = asked.recv_timeout(LONG).unwrap();
        assert_eq!((first["guest"].as_str(), first["follows"].as_str()), (Some("web1"), Some("reset")));
        let again = asked.recv_timeout(LONG).unwrap();
        let lost = |said: &Value| said["lostMs"].as_u64();
        assert!(lost(&first).unwrap() + 1000 < lost(&again).unwrap(), "{first}, {again}");
        for change in [Change::Back, Change::Lost(now), Change::Back] {
            reporter.say(change);
        }
        let said: Vec<_> = (0..3).map(|_| lost(&asked.recv_timeout(LONG).unwrap()).is_some()).collect();
        assert_eq!(said, [false, true, false]);
        reporter.say(Change::Lost(now));
        drop(reporter);
        assert!(lost(&asked.recv_timeout(LONG).unwrap()).is_some(), "its last words");
        assert!(asked.recv_timeout(Duration::from_millis(100)).is_err(), "nobody says it any more");
    }
}
