//! A tap on the way to the witness: hands datagrams on, keeps the latest, and adds any that a test makes.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

/// Datagrams kept for each path.
const KEPT_MAX: usize = 4_096;
/// Longer than any datagram of ours.
const DATAGRAM_MAX: usize = 2_048;
/// How long the end of a tap may take.
const REST: Duration = Duration::from_millis(100);

/// A tap on both paths. It ends when it is dropped.
#[derive(Debug)]
pub struct Tap {
    /// Where nodes send to, one for each path.
    pub entrances: [SocketAddr; 2],
    paths: [Arc<Path>; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Path {
    socket: UdpSocket,
    exit: SocketAddrV4,
    kept: Mutex<VecDeque<Vec<u8>>>,
}

impl Tap {
    /// A tap in front of these two ports of this machine.
    ///
    /// # Errors
    /// When there are no sockets or threads left.
    pub fn start(exits: [u16; 2]) -> Result<Self> {
        let path = |port| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no socket for a tap")?;
            socket.set_read_timeout(Some(REST))?;
            let exit = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            Ok::<_, anyhow::Error>(Arc::new(Path { socket, exit, kept: Mutex::default() }))
        };
        let [one, two] = exits;
        let paths = [path(one)?, path(two)?];
        let [one, two] = &paths;
        let entrances = [one.socket.local_addr()?, two.socket.local_addr()?];
        let stop = Arc::<AtomicBool>::default();
        let mut threads = Vec::new();
        for path in &paths {
            let (path, stop) = (Arc::clone(path), Arc::clone(&stop));
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    path.carry();
                }
            };
            threads.push(std::thread::Builder::new().name("tap".to_owned()).spawn(work)?);
        }
        Ok(Self { entrances, paths, stop, threads })
    }

    /// The latest datagrams that came on path 0 or 1.
    pub fn recorded(&self, path: usize) -> Vec<Vec<u8>> {
        let kept = self.paths.get(path).map(|path| path.lock().iter().cloned().collect());
        kept.unwrap_or_default()
    }

    /// Sends bytes to the witness on path 0 or 1.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn inject(&self, path: usize, bytes: &[u8]) -> Result<()> {
        let path = self.paths.get(path).context("there are two paths")?;
        path.socket.send_to(bytes, path.exit).context("sending to the witness").map(drop)
    }
}

impl Path {
    fn carry(&self) {
        let mut buffer = [0; DATAGRAM_MAX];
        let Ok(length) = self.socket.recv(&mut buffer) else { return };
        let bytes = buffer.get(..length).unwrap_or_default();
        let mut kept = self.lock();
        if KEPT_MAX <= kept.len() {
            kept.pop_front();
        }
        kept.push_back(bytes.to_vec());
        // A witness that is off refuses it.
        let _ = self.socket.send_to(bytes, self.exit);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Two ports of this machine that nobody uses now.
///
/// # Errors
/// When there are none.
pub fn free_ports() -> Result<[u16; 2]> {
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let two = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}
