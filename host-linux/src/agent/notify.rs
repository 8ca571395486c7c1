//! Tells systemd that the agent is ready and that it lives: `sd_notify(3)`, without its library.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Messages at most this often: far below any sensible `WatchdogSec=`.
const INTERVAL: Duration = Duration::from_secs(1);

/// The socket of the service manager; silent where there is none.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    last: Option<Instant>,
}

impl Notify {
    /// The socket the service manager named in the environment.
    pub fn from_env() -> Self {
        let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name.as_bytes()),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = address.ok().filter(|_| !name.is_empty());
        // A manager that does not read must not stall the loop.
        let nonblocking =
            || UnixDatagram::unbound().ok().filter(|socket| socket.set_nonblocking(true).is_ok());
        let socket = socket.and_then(|address| Some((nonblocking()?, address)));
        Self { socket, last: None }
    }

    /// Nobody is told: another thread speaks for this process.
    pub const fn silent() -> Self {
        Self { socket: None, last: None }
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }

    /// The agent knows its node and watches it.
    pub fn ready(&mut self) {
        self.send("READY=1");
    }

    /// The agent was asked to stop and does.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1");
    }

    /// The loop made progress.
    pub fn alive(&mut self) {
        if self.last.is_none_or(|last| INTERVAL <= last.elapsed()) {
            self.send("WATCHDOG=1");
            self.last = Some(Instant::now());
        }
    }
}
