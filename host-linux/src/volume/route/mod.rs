//! A volume as its clients see it, on every node of its pair: wherever they ask, the node that leads answers
//! (S1-27 to S1-29, S1-31, S4-03, F42, V42, V43; BLACKBOX 2).
//!
//! ```text
//! client ─▶ Route ─▶ Here::submit                                  this node leads
//!             ├────▶ connection ─▶ Served ─▶ Here::submit there    another node leads
//!             └────▶ waits, at most `Settings::patience`           nobody does, as far as is known
//! ```
//!
//! **What was not carried out, or perhaps, is asked again.** A holder that does not lead (any more) answers
//! [`Errno::Shutdown`](crate::nbd::export::Errno), and a connection may break: then the route asks the node
//! that leads next, and the client notices a delay. Every other error is the storage's own and is passed on.
//! Asking again is right because every request does the same when it is carried out twice, and because:
//!
//! - What the client was not told to be finished is concurrent with all that overtakes it meanwhile.
//! - *Another* node that leads begins after the reign of the one before has ended: a write that the old one
//!   still had under way is in the log that the new one begins with, or it is nowhere and its holders refuse
//!   it by its epoch. It does not come later.
//! - *The same* node could still have the first request in a buffer that nobody has read. So a connection
//!   between nodes is a session ([`turns`](crate::nbd::turns)): the next one begins when every request of
//!   the one before has been answered or thrown away, and each is good for one reign ([`Served`]), so that
//!   nothing asked in one reign is carried out in the next.
//! - A client that has closed its connection may have asked elsewhere: what waits for it is not begun any
//!   more, also if it was read only later. That needs a client that does not give a node up before it has
//!   been silent for longer than [`Settings::answer`]: after that time nothing is sent on that was
//!   under way here, however long this process stood still.
//!
//! **Flush.** Every write is acknowledged when it is durable on all holders that are in sync, so a flush has
//! nothing to do at the node that leads, also if that is another one than the write's; `multi_conn` is true.
//!
//! **No loops.** Requests between nodes come in by an export that serves [`Here`] alone and never passes on.
//! It is not listed, and a session's name in it is one that nobody guesses.
//!
//! **Bounds.** Each request ends within [`Settings::patience`]; what may wait is what the server admits. A
//! volume costs a thread, and while it is led elsewhere one connection (two threads), closed when idle.
//! Requests that waited go on in the order in which they came, before those that come after.

pub mod front;
pub mod outcome;
pub mod queue;
pub mod served;
pub mod way;
pub mod worker;

pub use front::{Route, View};
pub use served::Served;

use crate::failure::Failure;
use crate::nbd::encryption::Wish;
use crate::nbd::export::{Export, Geometry, Reply, Request};
use crate::nbd::server::Server;
use bulkhead_core::id::Epoch;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What this node has of a volume, and knows about it. No method waits.
pub trait Here: Send + Sync {
    /// The reign in which this node leads, while its lease holds: another one after each interruption.
    fn reign(&self) -> Option<Epoch>;

    /// Where the node that leads serves NBD, as far as this node knows.
    fn primary(&self) -> Option<SocketAddr>;

    /// What the volume looks like.
    fn geometry(&self) -> Geometry;

    /// How connections to other nodes are encrypted.
    fn wish(&self) -> Wish {
        Wish::Clear
    }

    /// Begins `request`. Answered with [`Errno::Shutdown`](crate::nbd::export::Errno::Shutdown) if this node
    /// does not lead, or stops leading before it can say what became of it; from then on its reign never
    /// carries it out where the next one does not know of it.
    fn submit(&self, request: Request, reply: Reply);
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For a request, all in all. Longer than a takeover, and shorter than
    /// [`Limits::answer`](crate::nbd::limits::Limits): the client hears why, instead of losing its
    /// connection.
    pub patience: Duration,
    /// For another node's answer, and for a connection to it. Much shorter than the patience, so that there
    /// is time to ask again.
    pub answer: Duration,
    /// Between two attempts, unless there is news.
    pub retry: Duration,
    /// After which a connection that is not used is closed.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(20),
            answer: Duration::from_secs(6),
            retry: Duration::from_millis(50),
            idle: Duration::from_secs(60),
        }
    }
}

/// The export by which other nodes reach the volume `name` here; no volume can be called like this.
#[must_use]
pub fn between_nodes(name: &str) -> String {
    format!("~{name}")
}

/// Exports the volume `name`: to clients as it is called, and to the other nodes of its pair. Tell the route
/// that it answers by [`Route::changed`] whenever [`Here`] changes its mind.
///
/// # Errors
///
/// The name is taken or cannot be one, or there is no thread to be had. Nothing is exported.
pub fn publish(
    server: &Server,
    name: &str,
    description: &str,
    here: Arc<dyn Here>,
    settings: Settings,
) -> Result<Arc<Route>, Failure> {
    let route = Arc::new(Route::start(name, Arc::clone(&here), settings)?);
    server.publish(name, description, Arc::clone(&route) as Arc<dyn Export>)?;
    if let Err(failure) = server.publish_for_sessions(&between_nodes(name), Arc::new(Served::new(here))) {
        server.withdraw(name);
        return Err(failure);
    }
    Ok(route)
}

/// Exports the volume `name` no more, and ends the connections to it. Whether it was exported.
pub fn withdraw(server: &Server, name: &str) -> bool {
    let to_clients = server.withdraw(name);
    server.withdraw(&between_nodes(name)) || to_clients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::limits::Limits;

    #[test]
    fn the_times_leave_room_for_one_another() {
        let settings = Settings::default();
        assert!(settings.patience < Limits::default().answer, "else the client never hears why");
        assert!(settings.answer * 3 < settings.patience, "else there is one attempt only");
        assert!(settings.retry * 10 < settings.answer);
    }
}
