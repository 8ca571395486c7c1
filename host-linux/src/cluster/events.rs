//! What happened on this node, newest last: a bounded ring that every reader reads at its own pace, and a
//! gap in it is itself on record (S2-07, V16). The same lines go to standard error, for the journal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events kept: hours of a quiet site, and the whole story of a bad minute.
pub const KEPT_MAX: usize = 1024;
/// Events a busy ring holds up; more are lost and counted.
const HELD_UP_MAX: usize = 256;
/// How long an agent that stops waits for its last words to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// +1 an event since the agent started; a gap means that events were lost.
    pub seq: u64,
    /// Milliseconds since 1970, for people; no decision depends on it (V17).
    pub at_ms: u64,
    /// What kind, in one word: documented in docs/status.md.
    pub kind: String,
    /// In plain words: one line.
    pub text: String,
    /// The same for machines.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// An event that has no number yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What kind.
    pub kind: &'static str,
    /// In plain words.
    pub text: String,
    /// For machines.
    pub fields: Map<String, Value>,
}

impl News {
    /// News with an object of fields.
    pub fn new(kind: &'static str, text: impl Into<String>, fields: Value) -> Self {
        let fields = match fields {
            Value::Object(fields) => fields,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Map::new()
            }
        };
        Self { kind, text: text.into(), fields }
    }
}

/// The loop's end of the ring.
#[derive(Debug)]
pub struct Log {
    ring: Reader,
    held_up: Vec<Event>,
    next: u64,
}

/// A reader's end of the ring.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    kept: Mutex<VecDeque<Event>>,
    changed: Condvar,
}

impl Log {
    /// An empty log.
    pub fn new() -> Self {
        Self { ring: Reader(Arc::default()), held_up: Vec::new(), next: 1 }
    }

    /// An end for a reader.
    pub fn reader(&self) -> Reader {
        self.ring.clone()
    }

    /// The number of the newest event.
    pub const fn newest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Adds an event. Never waits: while a reader holds the ring, events queue up here.
    pub fn say(&mut self, news: News) {
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        let News { kind, text, fields } = news;
        let event = Event { seq: self.next, at_ms, kind: kind.to_owned(), text, fields };
        // The number is spent in any case: a reader sees the gap.
        self.next = self.next.saturating_add(1);
        if self.held_up.len() < HELD_UP_MAX {
            self.held_up.push(event);
        }
        self.pass_on();
    }

    /// Hands over what queued up, if the ring is free.
    pub fn pass_on(&mut self) {
        if self.held_up.is_empty() {
            return;
        }
        let ring = &self.ring.0;
        let Ok(mut kept) = ring.kept.try_lock() else { return };
        for event in self.held_up.drain(..) {
            if KEPT_MAX <= kept.len() {
                kept.pop_front();
            }
            kept.push_back(event);
        }
        drop(kept);
        ring.changed.notify_all();
    }
}

/// What writes the events to standard error.
#[derive(Debug)]
pub struct Journal(Arc<AtomicU64>);

impl Journal {
    /// Waits until the event numbered `newest` is written: the last words of an agent that stops. A reader of
    /// standard error that stalls costs a bounded time.
    pub fn finish(&self, newest: u64) {
        let begin = Instant::now();
        while self.0.load(Ordering::Acquire) < newest && begin.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to `max` events after the one numbered `after`; waits up to `wait` for the first.
    pub fn after(&self, after: u64, max: usize, wait: Duration) -> Vec<Event> {
        let mut kept = self.kept();
        if kept.back().is_none_or(|newest| newest.seq <= after) && !wait.is_zero() {
            let has_nothing =
                |kept: &mut VecDeque<Event>| kept.back().is_none_or(|newest| newest.seq <= after);
            let waited = self.0.changed.wait_timeout_while(kept, wait, has_nothing);
            kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        kept.iter().filter(|event| after < event.seq).take(max).cloned().collect()
    }

    /// Writes every event to standard error, from a thread of its own: a reader of the log that stalls
    /// must not stall the loop.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    pub fn journal(&self) -> std::io::Result<Journal> {
        let reader = self.clone();
        let written = Arc::new(AtomicU64::new(0));
        let journal = Journal(Arc::clone(&written));
        let thread = std::thread::Builder::new().name("journal".into()).stack_size(128 << 10);
        thread.spawn(move || {
            let mut after = 0;
            loop {
                for event in reader.after(after, 64, Duration::from_secs(3600)) {
                    let lost = event.seq.saturating_sub(after).saturating_sub(1);
                    let mut err = std::io::stderr().lock();
                    if 0 < lost {
                        let _ = writeln!(err, "bulkhead: {lost} events were lost here");
                    }
                    let _ = writeln!(err, "bulkhead: {}: {}", event.kind, event.text);
                    after = event.seq;
                    written.store(after, Ordering::Release);
                }
            }
        })?;
        Ok(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn say(log: &mut Log, count: usize) {
        for number in 0..count {
            log.say(News::new("role", format!("event {number}"), json!({ "role": "master" })));
        }
    }

    #[test]
    fn a_reader_reads_at_its_own_pace_and_sees_what_it_lost() {
        let mut log = Log::new();
        let reader = log.reader();
        say(&mut log, 3);
        let first = reader.after(0, 2, Duration::ZERO);
        assert_eq!(first.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
        say(&mut log, KEPT_MAX + 5);
        let next = reader.after(2, 10, Duration::ZERO);
        assert_eq!((next[0].seq, next.len()), (9, 10), "events 3 to 8 are lost, and the numbers say so");
        assert_eq!(reader.after(0, usize::MAX, Duration::ZERO).len(), KEPT_MAX);
        assert!(reader.after(log.newest(), 10, Duration::ZERO).is_empty());
    }

    #[test]
    fn a_reader_that_holds_the_ring_does_not_hold_up_the_loop() {
        let mut log = Log::new();
        let reader = log.reader();
        let guard = reader.kept();
        say(&mut log, HELD_UP_MAX + 7);
        drop(guard);
        say(&mut log, 1);
        let seen = reader.after(0, usize::MAX, Duration::ZERO);
        assert_eq!(seen.len(), HELD_UP_MAX);
        assert_eq!(log.newest(), u64::try_from(HELD_UP_MAX).unwrap() + 8);
    }

    #[test]
    fn a_waiting_reader_is_woken() {
        let mut log = Log::new();
        let reader = log.reader();
        let waiting = std::thread::spawn(move || reader.after(0, 1, Duration::from_secs(20)));
        std::thread::sleep(Duration::from_millis(20));
        say(&mut log, 1);
        let event = waiting.join().unwrap().remove(0);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((json["seq"].clone(), json["role"].clone()), (1.into(), "master".into()));
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
