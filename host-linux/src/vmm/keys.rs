//! What is typed on a guest's console, until the guest takes it: bounded, and a guest that reads nothing
//! holds nobody up for long.

use super::guest::Event;
use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that wait for the guest.
const WAITING_MAX: usize = 4096;
/// Who types waits this long for room; what he types then is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is typed. Clones are the same.
#[derive(Clone, Debug)]
pub struct Keys {
    shared: Arc<Shared>,
    tell: Sender<Event>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<VecDeque<u8>>,
    taken: Condvar,
}

impl Keys {
    /// None yet. `tell` hears when there are some.
    #[must_use]
    pub fn new(tell: Sender<Event>) -> Self {
        Self { shared: Arc::default(), tell }
    }

    /// Somebody types. Waits for room, for a while. Whether the guest is still there.
    pub fn put(&self, bytes: &[u8]) -> bool {
        for byte in bytes {
            let is_full = |waiting: &mut VecDeque<u8>| WAITING_MAX <= waiting.len();
            let waited = self.shared.taken.wait_timeout_while(self.lock(), PATIENCE, is_full);
            let (mut waiting, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return true;
            }
            waiting.push_back(*byte);
            // The guest is told once of what it has not looked at.
            if waiting.len() == 1 && self.tell.send(Event::Typed).is_err() {
                return false;
            }
        }
        true
    }

    /// Offers what waits to `take`, which answers how much of it it took. Whether more waits.
    pub fn offer(&self, take: impl FnOnce(&[u8]) -> usize) -> bool {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return false;
        }
        let bytes = waiting.make_contiguous();
        let count = take(bytes).min(bytes.len());
        waiting.drain(..count);
        let is_left = !waiting.is_empty();
        drop(waiting);
        self.shared.taken.notify_all();
        is_left
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn keys_wait_in_order_and_the_guest_is_told_once() {
        let (tell, events) = channel();
        let keys = Keys::new(tell);
        assert!(keys.put(b"he") && keys.put(b"llo"));
        assert_eq!(events.try_iter().count(), 1);
        assert!(keys.offer(|bytes| bytes.len().min(2)), "more waits");
        assert!(!keys.offer(|bytes| {
            assert_eq!(bytes, b"llo");
            9
        }));
        assert!(!keys.offer(|_| unreachable!("nothing waits")));
        assert!(keys.put(b"x"));
        assert_eq!(events.try_iter().count(), 1);
        drop(events);
        keys.offer(<[u8]>::len);
        assert!(!keys.put(b"x"), "nobody is there");
    }

    /// V16: a guest that reads nothing costs a bounded amount.
    #[test]
    fn what_a_guest_does_not_take_is_bounded() {
        let (tell, _events) = channel();
        let keys = Keys::new(tell);
        assert!(keys.put(&[b'x'; WAITING_MAX + 1]));
        assert_eq!(keys.lock().len(), WAITING_MAX);
    }
}
