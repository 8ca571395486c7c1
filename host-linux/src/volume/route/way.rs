//! The ways a request can go: to this node, or over the one connection to another. A way that answered that
//! it does not lead is doubted: one request at a time tries it, until it answers something else.

use crate::nbd::client::connection::Client;
use crate::nbd::limits::REQUESTS;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Requests under way on the connection; the other side reads no more at once.
const UNDER_WAY_MAX: usize = REQUESTS as usize;
/// Threads that open connections: one, and one that still waits for a node that does not lead any more.
const OPENING_MAX: usize = 2;

/// Where requests should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This node leads.
    Here,
    /// That one does.
    There(SocketAddr),
    /// Nobody does, as far as is known.
    Nowhere,
}

/// A way, told from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// To this node.
    Here,
    /// Over the connection with this number.
    There(u64),
}

/// A way that can be gone now.
#[derive(Clone, Debug)]
pub enum Way {
    /// To this node.
    Here,
    /// Over a connection.
    There(u64, Arc<Client>),
}

impl Way {
    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> Name {
        match self {
            Self::Here => Name::Here,
            Self::There(number, _) => Name::There(*number),
        }
    }
}

/// The connection to another node.
#[derive(Debug)]
enum Connection {
    /// There is none.
    Closed,
    /// It is opened by a thread of its own.
    Opening { number: u64, to: SocketAddr },
    /// It is open.
    Open { number: u64, to: SocketAddr, client: Arc<Client>, under_way: usize, used: Instant },
}

/// The ways of a route.
#[derive(Debug)]
pub struct Ways {
    connection: Connection,
    /// The number of the last connection.
    number: u64,
    /// Threads that open one. Invariant: at most [`OPENING_MAX`].
    opening: usize,
    /// No connection is opened before.
    open_from: Instant,
    /// A way that may not lead.
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    way: Name,
    /// It said so itself, or broke; otherwise the connection before it did.
    refused: bool,
    /// When one request may try it.
    next: Instant,
}

impl Ways {
    /// No connection.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { connection: Connection::Closed, number: 0, opening: 0, open_from: now, doubt: None }
    }

    /// The way to `target` for a request that ends at byte `end`, if it can be gone.
    #[must_use]
    pub fn find(&self, target: Target, end: u64) -> Option<Way> {
        match (target, &self.connection) {
            (Target::Here, _) => Some(Way::Here),
            (Target::There(at), Connection::Open { number, to, client, under_way, .. }) => {
                let fits = end <= size(client) && *under_way < UNDER_WAY_MAX;
                (at == *to && fits && client.ended().is_none())
                    .then(|| Way::There(*number, Arc::clone(client)))
            }
            (Target::There(_) | Target::Nowhere, _) => None,
        }
    }

    /// Whether the connection was told a size below `end`.
    #[must_use]
    pub fn is_too_small(&self, target: Target, end: u64) -> bool {
        match (&self.connection, target) {
            (Connection::Open { to, client, .. }, Target::There(at)) => at == *to && size(client) < end,
            (Connection::Open { .. } | Connection::Opening { .. } | Connection::Closed, _) => false,
        }
    }

    /// Whether nothing speaks against `way`.
    #[must_use]
    pub fn is_trusted(&self, way: &Way) -> bool {
        self.doubt.is_none_or(|doubt| doubt.way != way.name())
    }

    /// Whether one request may try `way`, which is doubted.
    pub fn try_once(&mut self, way: &Way, now: Instant, next: Instant) -> bool {
        match &mut self.doubt {
            Some(doubt) if doubt.way == way.name() => {
                let due = doubt.next <= now;
                if due {
                    doubt.next = next;
                }
                due
            }
            Some(_) | None => true,
        }
    }

    /// A request goes `way`.
    pub fn begun(&mut self, way: Name, now: Instant) {
        if let (Connection::Open { number, under_way, used, .. }, Name::There(gone)) =
            (&mut self.connection, way)
            && *number == gone
        {
            *under_way = under_way.saturating_add(1);
            *used = now;
        }
    }

    /// It came back with an answer, or with the news that this way does not lead.
    pub fn ended(&mut self, way: Name, leads: bool, next: Instant) {
        if let (Connection::Open { number, under_way, .. }, Name::There(gone)) = (&mut self.connection, way)
            && *number == gone
        {
            *under_way = under_way.saturating_sub(1);
        }
        let current = self.is_current(way);
        match (leads, &mut self.doubt) {
            (true, Some(doubt)) if doubt.way == way => self.doubt = None,
            (false, Some(doubt)) if doubt.way == way => doubt.refused = true,
            (false, Some(_) | None) if current => {
                self.doubt = Some(Doubt { way, refused: true, next });
            }
            (true | false, Some(_) | None) => {}
        }
    }

    /// There is news: whatever was doubted may be tried at once.
    pub fn hope(&mut self, now: Instant) {
        self.open_from = now;
        self.doubt = self.doubt.map(|doubt| Doubt { next: now, ..doubt });
    }

    /// Closes the connection if it does not lead to `target`, has ended, does not lead, or was not used
    /// since `idle`. Drop it without holding anything: what is under way on it comes back at that moment.
    #[must_use]
    pub fn close_unfit(&mut self, target: Target, idle: Option<Instant>) -> Option<Arc<Client>> {
        let unfit = match &self.connection {
            Connection::Closed => false,
            Connection::Opening { to, .. } => target != Target::There(*to),
            Connection::Open { number, to, client, under_way, used } => {
                let refused = |doubt: Doubt| doubt.refused && doubt.way == Name::There(*number);
                let doubted = self.doubt.is_some_and(refused);
                let idle = *under_way == 0 && idle.is_some_and(|idle| *used <= idle);
                target != Target::There(*to) || client.ended().is_some() || doubted || idle
            }
        };
        if unfit { self.close() } else { None }
    }

    /// Closes the connection.
    #[must_use]
    pub fn close(&mut self) -> Option<Arc<Client>> {
        match std::mem::replace(&mut self.connection, Connection::Closed) {
            Connection::Open { client, .. } => Some(client),
            Connection::Closed | Connection::Opening { .. } => None,
        }
    }

    /// The number and the place of a connection that is to be opened now; the next is opened from `next` on.
    pub fn open(&mut self, target: Target, now: Instant, next: Instant) -> Option<(u64, SocketAddr)> {
        let (Target::There(to), Connection::Closed) = (target, &self.connection) else { return None };
        if now < self.open_from || OPENING_MAX <= self.opening {
            return None;
        }
        self.number = self.number.wrapping_add(1);
        self.opening = self.opening.saturating_add(1);
        self.open_from = next;
        self.connection = Connection::Opening { number: self.number, to };
        Some((self.number, to))
    }

    /// A connection is open, or cannot be opened. What nobody wants any more is handed back, to be dropped.
    #[must_use]
    pub fn opened(&mut self, number: u64, client: Option<Arc<Client>>, now: Instant) -> Option<Arc<Client>> {
        self.opening = self.opening.saturating_sub(1);
        match (&self.connection, client) {
            (Connection::Opening { number: wanted, to }, Some(client)) if *wanted == number => {
                let to = *to;
                self.connection = Connection::Open { number, to, client, under_way: 0, used: now };
                // If the one before it did not lead, one request goes first.
                if self.doubt.is_some_and(|doubt| doubt.way != Name::Here) {
                    self.doubt = Some(Doubt { way: Name::There(number), refused: false, next: now });
                }
                None
            }
            (Connection::Opening { number: wanted, .. }, None) if *wanted == number => {
                self.connection = Connection::Closed;
                None
            }
            (_, client) => client,
        }
    }

    /// When a connection that is not used is closed.
    #[must_use]
    pub fn last_used(&self) -> Option<Instant> {
        match &self.connection {
            Connection::Open { used, .. } => Some(*used),
            Connection::Closed | Connection::Opening { .. } => None,
        }
    }

    /// Where the connection goes.
    #[must_use]
    pub fn connected_to(&self) -> Option<SocketAddr> {
        match &self.connection {
            Connection::Open { to, .. } => Some(*to),
            Connection::Closed | Connection::Opening { .. } => None,
        }
    }

    fn is_current(&self, way: Name) -> bool {
        match (way, &self.connection) {
            (Name::Here, _) => true,
            (Name::There(number), Connection::Open { number: open, .. }) => number == *open,
            (Name::There(_), Connection::Opening { .. } | Connection::Closed) => false,
        }
    }
}

fn size(client: &Client) -> u64 {
    use crate::nbd::export::Export as _;
    client.geometry().size()
}
