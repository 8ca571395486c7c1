//! QEMU's control socket: commands with answers, and events that a test can wait for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

/// QEMU answers at once, or is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Events kept until somebody waits for them; the oldest go first.
const EVENTS_MAX: usize = 1_000;
/// Longest message we read. QEMU's longest (its own schema) has about 200 KiB.
const MESSAGE_MAX: u64 = 4 * 1024 * 1024;

/// Something that happened in QEMU: `RESET`, `SHUTDOWN`, `WATCHDOG`, `GUEST_PANICKED`, …
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What QEMU says about it.
    pub data: Value,
    /// When it arrived, from the connection on.
    pub at: Duration,
}

/// A connection to a running QEMU.
#[derive(Clone, Debug)]
pub struct Qmp {
    shared: Arc<Shared>,
    writer: Arc<Mutex<UnixStream>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Number of the last command sent; its answer carries it.
    command: u64,
    answer: Option<Value>,
    events: VecDeque<Event>,
    lost: u64,
    closed: bool,
}

impl Qmp {
    /// Takes over the connection and leaves the greeting behind.
    pub(crate) fn connect(stream: UnixStream) -> Result<Self> {
        let shared =
            Arc::new(Shared { started: Instant::now(), inbox: Mutex::default(), changed: Condvar::new() });
        let reader = stream.try_clone()?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let background = Arc::clone(&shared);
        thread::spawn(move || background.read(reader));
        let qmp = Self { shared, writer: Arc::new(Mutex::new(stream)) };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and gives its answer.
    ///
    /// # Errors
    /// When QEMU refuses it, is gone, or does not answer.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        // Held until the answer: one command at a time.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let id = {
            let mut inbox = self.shared.lock();
            inbox.command += 1;
            inbox.answer = None;
            inbox.command
        };
        let message = json!({ "execute": command, "arguments": arguments, "id": id });
        writeln!(writer, "{message}").with_context(|| format!("sending `{command}` to QEMU"))?;
        let answer = self.shared.wait(ANSWER_MAX, |inbox| inbox.answer.take());
        let answer = answer.with_context(|| format!("QEMU did not answer `{command}`"))?;
        if let Some(error) = answer.get("error") {
            bail!("QEMU refused `{command}`: {}", error.get("desc").unwrap_or(error));
        }
        Ok(answer.get("return").cloned().unwrap_or_default())
    }

    /// The state in QEMU's words: `running`, `paused`, `shutdown`, …
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn status(&self) -> Result<String> {
        let answer = self.execute("query-status", json!({}))?;
        let status = answer.get("status").and_then(Value::as_str);
        Ok(status.with_context(|| format!("QEMU's status is {answer}"))?.to_owned())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn reset(&self) -> Result<()> {
        self.execute("system_reset", json!({})).map(drop)
    }

    /// Stops all processors.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn stop(&self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets the processors go on.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn resume(&self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Waits for an event called `name` that nobody has waited for yet, and takes it.
    ///
    /// # Errors
    /// When it does not come in time, or QEMU ends without it.
    pub fn wait_event(&self, name: &str, timeout: Duration) -> Result<Event> {
        let event = self.shared.wait(timeout, |inbox| {
            let index = inbox.events.iter().position(|event| event.name == name)?;
            inbox.events.remove(index)
        });
        event.with_context(|| {
            let inbox = self.shared.lock();
            let others: Vec<_> = inbox.events.iter().map(|event| event.name.as_str()).collect();
            format!(
                "waiting for QEMU's event {name}; there were {others:?} and {} forgotten ones",
                inbox.lost
            )
        })
    }

    /// The events that nobody took.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.iter().cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<T>(&self, timeout: Duration, mut take: impl FnMut(&mut Inbox) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut inbox = self.lock();
        loop {
            if let Some(found) = take(&mut inbox) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if inbox.closed {
                return Err(anyhow!("QEMU is gone"));
            }
            if left.is_zero() {
                return Err(anyhow!("nothing within {:.1} s", timeout.as_secs_f64()));
            }
            inbox = self.changed.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read(&self, stream: UnixStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let count = reader.by_ref().take(MESSAGE_MAX).read_until(b'\n', &mut line).unwrap_or(0);
            let message = serde_json::from_slice::<Value>(&line);
            let mut inbox = self.lock();
            match message {
                Ok(message) if count > 0 => inbox.accept(message, self.started.elapsed()),
                // The end, or something that is not QMP: either way there is nothing to wait for.
                Ok(_) | Err(_) => inbox.closed = true,
            }
            let closed = inbox.closed;
            drop(inbox);
            self.changed.notify_all();
            if closed {
                return;
            }
        }
    }
}

impl Inbox {
    fn accept(&mut self, message: Value, at: Duration) {
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or_default();
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
                self.lost += 1;
            }
            self.events.push_back(Event { name: name.to_owned(), data, at });
        } else if message.get("id").and_then(Value::as_u64) == Some(self.command) {
            self.answer = Some(message);
        }
        // The rest is the greeting, or a late answer to a command that was given up.
    }
}
