//! A network between two holders that does what networks do: it cuts a connection at any byte, changes bits,
//! goes silent. It listens where the dialling holder believes the other one to be.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What happens to one connection. Offsets count the bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Harm {
    /// It ends after so many bytes from the dialling end, or so many to it.
    pub cut: [Option<u64>; 2],
    /// One bit of this byte is changed.
    pub flip: [Option<(u64, u8)>; 2],
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    /// Nothing passes, and nothing ends.
    silent: AtomicBool,
    /// What the dialling end of the first connection said first.
    recorded: Mutex<Vec<u8>>,
    /// What is looked for in all that passes, and how often it was seen.
    marker: Vec<u8>,
    sightings: AtomicU64,
}

pub struct Proxy {
    at: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

const RECORD: usize = 4096;

impl Proxy {
    /// From `at` to `to`; `harm` decides for each connection, by its number.
    pub fn new(at: SocketAddr, to: SocketAddr, harm: impl Fn(u64) -> Harm + Send + 'static) -> Self {
        Self::begin(at, to, State::default(), harm)
    }

    /// From `at` to `to`, looking for a marker in both directions.
    pub fn watching(at: SocketAddr, to: SocketAddr, marker: &[u8]) -> Self {
        Self::begin(at, to, State { marker: marker.to_vec(), ..State::default() }, |_| Harm::default())
    }

    fn begin(
        at: SocketAddr,
        to: SocketAddr,
        state: State,
        harm: impl Fn(u64) -> Harm + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        let accept = move || {
            let mut pumps = Vec::new();
            for number in 0.. {
                let Ok((from, _)) = listener.accept() else { break };
                if shared.stop.load(Ordering::Acquire) {
                    break;
                }
                let Ok(onward) = TcpStream::connect(to) else { continue };
                let harm = harm(number);
                for (way, (from, to)) in [(&from, &onward), (&onward, &from)].into_iter().enumerate() {
                    let ends = [from.try_clone().unwrap(), to.try_clone().unwrap()];
                    let (shared, record) = (Arc::clone(&shared), number == 0 && way == 0);
                    let flow = Flow { ends, cut: harm.cut[way], flip: harm.flip[way], record };
                    pumps.push(std::thread::spawn(move || flow.run(&shared)));
                }
            }
            pumps.into_iter().for_each(|pump| pump.join().unwrap());
        };
        Self { at, state, thread: Some(std::thread::spawn(accept)) }
    }

    /// From now on nothing passes, and nobody is told.
    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::Release);
        // Who read at this moment has read to its end by then.
        std::thread::sleep(Duration::from_millis(60));
    }

    /// How often the marker passed.
    pub fn sightings(&self) -> u64 {
        self.state.sightings.load(Ordering::Acquire)
    }

    pub fn recorded(&self) -> Vec<u8> {
        self.state.recorded.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        drop(TcpStream::connect(self.at));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl State {
    /// Looks for the marker, also across the border of two reads.
    fn look(&self, kept: &mut Vec<u8>, bytes: &[u8]) {
        let length = self.marker.len();
        if length == 0 {
            return;
        }
        kept.extend_from_slice(bytes);
        let seen = kept.windows(length).filter(|window| *window == self.marker).count();
        self.sightings.fetch_add(seen as u64, Ordering::AcqRel);
        kept.drain(..(kept.len() + 1).saturating_sub(length));
    }
}

/// One direction of one connection.
struct Flow {
    ends: [TcpStream; 2],
    cut: Option<u64>,
    flip: Option<(u64, u8)>,
    record: bool,
}

impl Flow {
    fn run(self, state: &State) {
        let [from, to] = &self.ends;
        from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        to.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (mut buffer, mut passed, mut kept) = (vec![0; 64 << 10], 0_u64, Vec::new());
        while !state.stop.load(Ordering::Acquire) {
            if state.silent.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let room = self.cut.map_or(buffer.len() as u64, |cut| (cut - passed).min(buffer.len() as u64));
            if room == 0 {
                break;
            }
            let count = match (&*from).read(&mut buffer[..room as usize]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => break,
            };
            let bytes = &mut buffer[..count];
            if let Some((at, bit)) = self.flip
                && let Some(place) = at.checked_sub(passed).and_then(|at| bytes.get_mut(at as usize))
            {
                *place ^= 1 << (bit & 7);
            }
            if self.record {
                let mut recorded = state.recorded.lock().unwrap();
                let room = RECORD - recorded.len();
                recorded.extend_from_slice(&bytes[..count.min(room)]);
            }
            state.look(&mut kept, bytes);
            if !write_all(to, bytes, state) {
                break;
            }
            passed += count as u64;
        }
        self.ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
    }
}

/// Writes all of it, however slowly the other end takes it.
fn write_all(mut to: &TcpStream, mut bytes: &[u8], state: &State) -> bool {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error)
                if error.kind() == std::io::ErrorKind::WouldBlock && !state.stop.load(Ordering::Acquire) => {}
            Err(_) => return false,
        }
    }
    true
}
