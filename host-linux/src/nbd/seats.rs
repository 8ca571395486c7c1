//! How many clients there are, and from where: a client that connects often takes nothing from others (V43).

use super::socket::Peer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The seats of a server.
#[derive(Debug)]
pub struct Seats {
    all: usize,
    per_peer: usize,
    taken: Mutex<BTreeMap<Peer, usize>>,
}

/// A seat; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    peer: Peer,
}

impl Seats {
    /// So many seats, so many for one peer.
    #[must_use]
    pub const fn new(all: usize, per_peer: usize) -> Self {
        Self { all, per_peer, taken: Mutex::new(BTreeMap::new()) }
    }

    /// A seat for `peer`, if there is one.
    #[must_use]
    pub fn take(self: &Arc<Self>, peer: Peer) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let mine = taken.get(&peer).copied().unwrap_or(0);
        if self.all <= all || self.per_peer <= mine {
            return None;
        }
        taken.insert(peer, mine.saturating_add(1));
        Some(Seat { seats: Arc::clone(self), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
        }
        taken.retain(|_, count| *count != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_for_all_and_for_each_and_free_again() {
        let seats = Arc::new(Seats::new(3, 2));
        let far = Peer::Ip([10, 0, 0, 1].into());
        let first = seats.take(far);
        let second = seats.take(far);
        assert!(first.is_some() && second.is_some() && seats.take(far).is_none());
        let near = seats.take(Peer::Unix);
        assert!(near.is_some() && seats.take(Peer::Unix).is_none());
        drop((first, second));
        assert!(seats.take(far).is_some());
    }
}
