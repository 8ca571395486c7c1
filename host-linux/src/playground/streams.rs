//! The relay's other half: TCP streams between nodes, through the same weather as the datagrams. A stream of
//! a link that is cut stands still, as one does whose cable was pulled, and goes on when the link is healed.

use super::relay::{Lane, Weather, held_until};
use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a stream that stands still looks at the weather.
const REST: Duration = Duration::from_millis(20);
/// A listener looks this often whether somebody came.
const KNOCK: Duration = Duration::from_millis(5);
/// How long a node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Streams of one lane at once. Full means: the relay refuses them, as a router does that forgets them.
const STREAMS_MAX: usize = 16;
/// Bytes that a stream carries at once: small beside what a socket holds, so that a cut is felt soon.
const PIECE: usize = 32 << 10;

/// What all streams share.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) weather: Arc<Mutex<Weather>>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Streams {
    /// Carries the streams of a lane from `listener` to `exit`.
    ///
    /// # Errors
    ///
    /// The system gives no more threads.
    pub(super) fn open(&self, lane: Lane, listener: TcpListener, exit: SocketAddr) -> Result<()> {
        listener.set_nonblocking(true)?;
        let this = self.clone();
        let thread = std::thread::Builder::new().name("relay-door".into()).stack_size(128 << 10);
        thread.spawn(move || this.accept(lane, &listener, exit))?;
        Ok(())
    }

    fn accept(&self, lane: Lane, listener: &TcpListener, exit: SocketAddr) {
        // One clone a direction: their number is that of the streams.
        let slots = Arc::new(());
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((come, _)) = listener.accept() else {
                std::thread::sleep(KNOCK);
                continue;
            };
            if STREAMS_MAX.saturating_mul(2) < Arc::strong_count(&slots) {
                continue;
            }
            // Who connects over a link that is cut hears nothing, not even that it is refused.
            let (this, slot) = (self.clone(), Arc::clone(&slots));
            let thread = std::thread::Builder::new().name("relay-stream".into()).stack_size(256 << 10);
            let _ = thread.spawn(move || {
                if this.passes(lane) {
                    this.join(lane, come, exit, &slot);
                }
            });
        }
    }

    /// Connects on, and carries both directions.
    fn join(&self, lane: Lane, come: TcpStream, exit: SocketAddr, slot: &Arc<()>) {
        let Ok(gone) = TcpStream::connect_timeout(&exit, CONNECT) else { return };
        let (from, to, network) = lane;
        let (Ok(back_in), Ok(back_out)) = (gone.try_clone(), come.try_clone()) else { return };
        let (this, slot) = (self.clone(), Arc::clone(slot));
        let thread = std::thread::Builder::new().name("relay-stream".into()).stack_size(256 << 10);
        let back = thread.spawn(move || {
            this.carry((to, from, network), back_in, back_out);
            drop(slot);
        });
        if back.is_ok() {
            self.carry(lane, come, gone);
        }
    }

    /// Carries one direction to its end. The end itself is carried, too, when the link is not cut.
    fn carry(&self, lane: Lane, mut from: TcpStream, mut to: TcpStream) {
        let limits = from
            .set_nonblocking(false)
            .and_then(|()| from.set_read_timeout(Some(REST)))
            .and_then(|()| to.set_write_timeout(Some(REST)))
            .and_then(|()| to.set_nodelay(true));
        let mut piece = vec![0; PIECE];
        while limits.is_ok() {
            let len = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if waits(&error) && !self.stop.load(Ordering::Relaxed) => continue,
                Err(_) => break,
            };
            if !self.passes(lane) || !self.write(piece.get(..len).unwrap_or_default(), &mut to) {
                break;
            }
        }
        if self.passes(lane) {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    /// Waits until a lane carries; `false`: the relay ended first.
    fn passes(&self, lane: Lane) -> bool {
        let mut held = None;
        while !self.stop.load(Ordering::Relaxed) {
            match held_until(&lane, &self.weather) {
                None => {}
                Some(None) => return true,
                Some(Some(until)) => {
                    let until = *held.get_or_insert(until);
                    if until <= Instant::now() {
                        return true;
                    }
                }
            }
            let left = held.map_or(REST, |until: Instant| until.saturating_duration_since(Instant::now()));
            std::thread::sleep(left.clamp(Duration::from_millis(1), REST));
        }
        false
    }

    fn write(&self, bytes: &[u8], to: &mut TcpStream) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(0) => return false,
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if waits(&error) && !self.stop.load(Ordering::Relaxed) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plant {
        streams: Streams,
        at: SocketAddr,
        node: TcpListener,
    }

    impl Plant {
        fn new() -> Self {
            let streams = Streams { weather: Arc::default(), stop: Arc::default() };
            let node = TcpListener::bind("127.0.0.1:0").unwrap();
            let door = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = door.local_addr().unwrap();
            streams.open((1, 2, 0), door, node.local_addr().unwrap()).unwrap();
            Self { streams, at, node }
        }

        fn connect(&self) -> (TcpStream, TcpStream) {
            let one = TcpStream::connect(self.at).unwrap();
            let (two, _) = self.node.accept().unwrap();
            two.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            (one, two)
        }
    }

    impl Drop for Plant {
        fn drop(&mut self) {
            self.streams.stop.store(true, Ordering::Relaxed);
        }
    }

    fn word(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        let mut word = [0; 4];
        stream.read_exact(&mut word).map(|()| word)
    }

    /// F36: a cut link swallows nothing and says nothing; what was sent arrives when it is healed.
    #[test]
    fn a_stream_of_a_cut_link_stands_still_and_goes_on() {
        let plant = Plant::new();
        let (mut one, mut two) = plant.connect();
        one.write_all(b"ping").unwrap();
        assert_eq!(word(&mut two).unwrap(), *b"ping");
        two.write_all(b"pong").unwrap();
        assert_eq!(word(&mut one).unwrap(), *b"pong");
        plant.streams.weather.lock().unwrap().cut.insert((1, 2, 0));
        one.write_all(b"late").unwrap();
        assert!(waits(&word(&mut two).unwrap_err()));
        // The other direction is a lane of its own.
        two.write_all(b"back").unwrap();
        assert_eq!(word(&mut one).unwrap(), *b"back");
        plant.streams.weather.lock().unwrap().cut.clear();
        two.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(word(&mut two).unwrap(), *b"late");
        // An end is an end on both sides.
        drop(one);
        assert_eq!(two.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_node_that_is_down_refuses() {
        let plant = Plant::new();
        let (_, two) = plant.connect();
        drop(two);
        let Plant { at, .. } = &plant;
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let (door, exit) = (TcpListener::bind("127.0.0.1:0").unwrap(), nobody.local_addr().unwrap());
        drop(nobody);
        let away = door.local_addr().unwrap();
        plant.streams.open((1, 2, 1), door, exit).unwrap();
        let mut one = TcpStream::connect(away).unwrap();
        assert_eq!(one.read(&mut [0; 1]).unwrap_or(0), 0, "closed, not left open: {at}");
    }
}
