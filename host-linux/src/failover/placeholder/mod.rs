//! Memory of this node that is kept for guests which would begin here (S4-04): nobody else on the node gets
//! it meanwhile, and they have it when their turn comes. A process of its own holds it, locked; it ends when
//! the agent does.
//!
//! ```text
//! agent ── "512\n": hold so many MiB ──▶ holder
//!       ◀── "held 512", "short 128 WHY" ──
//! ```

pub mod holder;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the program is told to hold memory.
pub const VERB: &str = "placeholder";
/// Whoever holds nothing any more is begun again after this time.
const AGAIN: Duration = Duration::from_secs(1);
const STACK: usize = 128 << 10;

/// The memory. Dropped, it is given back.
#[derive(Debug, Default)]
pub struct Placeholder(Arc<Shared>);

/// How much it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// MiB that are to be kept.
    pub wanted: u64,
    /// MiB that are.
    pub held: u64,
    /// Why that is less, if it stays so.
    pub lack: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_kept: bool,
    /// There is somebody who sees to it that it is.
    is_begun: bool,
    seen: Seen,
    orders: Option<ChildStdin>,
    is_over: bool,
}

impl Placeholder {
    /// Whether anything is to be kept at all. A process is begun for the first of it.
    pub fn keep(&self, is_kept: bool) {
        self.0.lock().is_kept = is_kept;
        if !is_kept {
            self.want(0);
        }
    }

    /// So many MiB are to be kept from now on, if anything is.
    pub fn want(&self, mib: u64) {
        let mut state = self.0.lock();
        let mib = if state.is_kept { mib } else { 0 };
        if state.seen.wanted == mib {
            return;
        }
        state.seen.wanted = mib;
        state.order();
        if !state.is_begun {
            let own = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name(VERB.into()).stack_size(STACK);
            match thread.spawn(move || own.run()) {
                Ok(_) => state.is_begun = true,
                // It is tried again when something else is wanted.
                Err(error) => state.seen.lack = Some(format!("there is no thread for it: {error}")),
            }
        }
    }

    /// Waits until no more is held than is to be, so long at most: then guests may take what was let go.
    pub fn wait(&self, most: Duration) {
        let is_held = |state: &mut State| state.seen.wanted < state.seen.held;
        drop(self.0.changed.wait_timeout_while(self.0.lock(), most, is_held));
    }

    /// How much it is now; `None`: nothing is to be kept.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let state = self.0.lock();
        state.is_kept.then(|| state.seen.clone())
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        // The holder ends when nobody can tell it anything any more.
        state.orders = None;
        drop(state);
        self.0.changed.notify_all();
    }
}

impl State {
    /// Says how much is to be held. A holder that has ended is found by who reads what it says.
    fn order(&mut self) {
        if let Some(orders) = &mut self.orders {
            let _ = writeln!(orders, "{}", self.seen.wanted);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins who holds the memory, again and again, and hears what he says.
    fn run(&self) {
        let begin = || {
            let program = std::env::current_exe()?;
            Command::new(program).arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        };
        loop {
            let why = match begin() {
                Ok(mut holder) => {
                    self.attend(&mut holder);
                    "the process that holds it has ended".to_owned()
                }
                Err(error) => error.to_string(),
            };
            let mut state = self.lock();
            (state.seen.held, state.seen.lack, state.orders) = (0, Some(why), None);
            self.changed.notify_all();
            let goes_on = |state: &mut State| !state.is_over;
            let waited = self.changed.wait_timeout_while(state, AGAIN, goes_on);
            if waited.map_or(true, |(state, _)| state.is_over) {
                return;
            }
        }
    }

    /// Hears this one until it ends.
    fn attend(&self, holder: &mut Child) {
        if let (Some(orders), Some(says)) = (holder.stdin.take(), holder.stdout.take()) {
            let mut state = self.lock();
            if !state.is_over {
                state.orders = Some(orders);
                state.order();
            }
            drop(state);
            self.hear(says);
        }
        // It has closed what it says, and so it ends.
        let _ = holder.wait();
    }

    fn hear(&self, says: ChildStdout) {
        for line in BufReader::new(says).lines().map_while(Result::ok) {
            let Some(said) = holder::Said::parse(&line) else { continue };
            let mut state = self.lock();
            (state.seen.held, state.seen.lack) = (said.held, said.short);
            drop(state);
            self.changed.notify_all();
        }
    }
}
