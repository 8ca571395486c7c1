//! The requests of a route: which wait, which are under way, until when. No clock, no thread, no socket.

use super::outcome::Outcome;
use crate::nbd::export::{Answer, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A request's number, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// One attempt to carry a request out. An answer to an earlier one is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which request.
    pub ticket: Ticket,
    /// Which attempt, from 1.
    number: u32,
}

/// A request that is not answered.
#[derive(Debug)]
pub struct Entry {
    /// What is asked.
    pub request: Request,
    /// Who asked; an entry without one does not exist, so nobody is answered twice.
    pub reply: Reply,
    /// A connection was opened anew because the request lies beyond what the one before knew.
    pub renewed: bool,
    /// When it was taken out: nobody had it then.
    pub waited: bool,
    until: Instant,
    attempts: u32,
}

impl Entry {
    /// Whether it was never given to anybody, so that it certainly did nothing.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.attempts == 0
    }
}

/// The requests of a route.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<Ticket, Entry>,
    /// Invariant: each is in `entries`.
    waiting: BTreeSet<Ticket>,
    next: u64,
}

impl Queue {
    /// Takes a request, to be answered by `until`. It waits. Deadlines come in the order of requests.
    pub fn push(&mut self, request: Request, reply: Reply, until: Instant) -> Ticket {
        let ticket = Ticket(self.next);
        self.next = self.next.wrapping_add(1);
        self.entries
            .insert(ticket, Entry { request, reply, renewed: false, waited: true, until, attempts: 0 });
        self.waiting.insert(ticket);
        ticket
    }

    /// Who has waited longest.
    #[must_use]
    pub fn first_waiting(&self) -> Option<Ticket> {
        self.waiting.first().copied()
    }

    /// The request with this number, if it is not answered.
    pub fn get(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(&ticket)
    }

    /// It waits no more: it is tried.
    pub fn begin(&mut self, ticket: Ticket) -> Option<(Attempt, Request)> {
        if !self.waiting.remove(&ticket) {
            return None;
        }
        let entry = self.entries.get_mut(&ticket)?;
        entry.attempts = entry.attempts.saturating_add(1);
        Some((Attempt { ticket, number: entry.attempts }, entry.request.clone()))
    }

    /// An attempt came to an end. What is final is for whoever asked; the rest waits again, in its old
    /// place.
    pub fn end(&mut self, attempt: Attempt, outcome: Outcome) -> Option<(Reply, Answer)> {
        let entry = self.entries.get(&attempt.ticket)?;
        if entry.attempts != attempt.number || self.waiting.contains(&attempt.ticket) {
            return None;
        }
        match outcome {
            Outcome::Final(answer) => Some((self.take(attempt.ticket)?.reply, answer)),
            Outcome::Again(_) => {
                self.waiting.insert(attempt.ticket);
                None
            }
        }
    }

    /// Takes a request out; it is the caller's to answer.
    pub fn take(&mut self, ticket: Ticket) -> Option<Entry> {
        let waited = self.waiting.remove(&ticket);
        self.entries.remove(&ticket).map(|entry| Entry { waited, ..entry })
    }

    /// Takes out what should have been answered by now.
    pub fn take_late(&mut self, now: Instant) -> Vec<Entry> {
        let late = self.entries.iter().take_while(|(_, entry)| entry.until <= now);
        let late: Vec<_> = late.map(|(ticket, _)| *ticket).collect();
        late.into_iter().filter_map(|ticket| self.take(ticket)).collect()
    }

    /// Takes out what waits for somebody who has left.
    pub fn take_left(&mut self) -> Vec<Entry> {
        let left = |ticket: &&Ticket| self.entries.get(ticket).is_some_and(|entry| !entry.reply.is_awaited());
        let left: Vec<_> = self.waiting.iter().filter(left).copied().collect();
        left.into_iter().filter_map(|ticket| self.take(ticket)).collect()
    }

    /// Takes everything out.
    pub fn take_all(&mut self) -> Vec<Entry> {
        self.waiting.clear();
        std::mem::take(&mut self.entries).into_values().collect()
    }

    /// When the first must be answered.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(_, entry)| entry.until)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many have come, ever.
    #[must_use]
    pub const fn come(&self) -> u64 {
        self.next
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::export::{Asker, Content, Errno, Failed};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    /// Counts its answers.
    #[derive(Clone, Default)]
    struct Client {
        answers: Arc<AtomicU32>,
        left: Arc<AtomicBool>,
    }

    impl Asker for Client {
        fn hear(self: Box<Self>, _: Answer) {
            self.answers.fetch_add(1, Ordering::SeqCst);
        }

        fn listens(&self) -> bool {
            !self.left.load(Ordering::SeqCst)
        }
    }

    fn again() -> Outcome {
        Outcome::here(Err(Failed::new(Errno::Shutdown, "it does not lead")))
    }

    fn queue(clients: &[&Client], until: Instant) -> (Queue, Vec<Ticket>) {
        let mut queue = Queue::default();
        let push = |client: &&Client| queue.push(Request::Flush, Reply::to((*client).clone()), until);
        let tickets = clients.iter().map(push).collect();
        (queue, tickets)
    }

    #[test]
    fn what_waits_again_stands_before_what_came_later() {
        let client = Client::default();
        let (mut queue, tickets) = queue(&[&client, &client, &client], Instant::now());
        let (second, _) = queue.begin(tickets[1]).unwrap();
        let (first, _) = queue.begin(tickets[0]).unwrap();
        assert_eq!(queue.first_waiting(), Some(tickets[2]));
        assert!(queue.end(second, again()).is_none() && queue.end(first, again()).is_none());
        assert_eq!(queue.first_waiting(), Some(tickets[0]));
        assert!(queue.take(tickets[2]).unwrap().is_untouched());
        assert!(!queue.take(tickets[1]).unwrap().is_untouched());
    }

    #[test]
    fn only_the_last_attempt_answers_and_only_once() {
        let client = Client::default();
        let (mut queue, tickets) = queue(&[&client], Instant::now());
        let (old, _) = queue.begin(tickets[0]).unwrap();
        assert!(queue.begin(tickets[0]).is_none(), "it is under way");
        assert!(queue.end(old, again()).is_none());
        assert!(queue.end(old, Outcome::Final(Ok(Content::Done))).is_none(), "it waits again");
        let (new, _) = queue.begin(tickets[0]).unwrap();
        assert!(queue.end(old, Outcome::Final(Ok(Content::Done))).is_none());
        let (reply, answer) = queue.end(new, Outcome::Final(Ok(Content::Done))).unwrap();
        reply.finish(answer);
        assert!(queue.end(new, again()).is_none() && queue.is_empty());
        assert_eq!(client.answers.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_late_and_those_who_left_are_taken_out_and_no_others() {
        let (stays, leaves) = (Client::default(), Client::default());
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let (mut queue, tickets) = queue(&[&stays, &leaves, &leaves], later);
        queue.begin(tickets[2]).unwrap();
        leaves.left.store(true, Ordering::SeqCst);
        assert!(queue.take_late(now).is_empty());
        assert_eq!((queue.take_left().len(), queue.len()), (1, 2), "what is under way is not called back");
        let waited: Vec<_> = queue.take_late(later).iter().map(|entry| entry.waited).collect();
        assert_eq!(waited, [true, false]);
        assert!(queue.is_empty() && queue.deadline().is_none() && queue.waiting() == 0);
    }
}
