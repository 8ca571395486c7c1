//! A disk (virtio 1.3, 5.2): every request of the guest becomes one of its content's server, and is answered
//! when that has answered. A server that goes away is waited for, and asked again (S4-01, F43).

use super::Device;
use super::ring::{Chain, Ring};
use super::worker::{Next, Worker};
use crate::nbd::export::{Answer, Content, Errno, Piece, Reply, Request, Span};
use crate::vmm::disk::{Disk, Server};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Its number.
const KIND: u32 = 2;
const QUEUE: u16 = 128;

/// Features.
mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const BLOCK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// What a guest may ask.
mod ask {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const NAME: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// How a request ended: the last byte of its room.
mod status {
    pub const DONE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const UNKNOWN: u8 = 2;
}

const SECTOR: u64 = 512;
/// What stands before the data of a request.
const HEADER: usize = 16;
/// One range to discard or to fill with zeroes: sector, count, flags.
const RANGE: usize = 16;
/// The longest name that a guest can ask for.
const NAME_LEN: usize = 20;
/// Parts of a request, and the longest of them: 1 MiB altogether.
const PARTS_MAX: u32 = 126;
const PART_MAX: u32 = 8192;
/// The longest request, and the bytes of all that are under way: what a guest costs beside its memory.
const REQUEST_MAX: u64 = 1 << 20;
const UNDER_WAY_MAX: u64 = 4 << 20;
/// Sectors that are discarded or filled with zeroes by one request.
const RANGE_MAX: u32 = 1 << 21;
/// How often a server that is not there is looked for.
const AGAIN: Duration = Duration::from_millis(100);

/// A disk of a guest.
#[derive(Debug)]
pub struct Block {
    shared: Arc<Shared>,
    name: String,
    config: Vec<u8>,
    /// Once a driver is ready.
    session: Option<Session>,
    worker: Option<Worker>,
}

impl Block {
    /// A disk with the content that `disk` finds, called `name` when the guest asks.
    #[must_use]
    pub fn new(disk: Disk, name: &str) -> Self {
        let config = config(&disk);
        let shared = Arc::new(Shared { disk, state: Mutex::default() });
        Self { shared, name: name.to_owned(), config, session: None, worker: None }
    }
}

/// The configuration as the guest reads it (5.2.4).
fn config(disk: &Disk) -> Vec<u8> {
    let mut config = vec![0; 60];
    let mut put = |at: usize, bytes: &[u8]| {
        let to = config.get_mut(at..at.saturating_add(bytes.len())).unwrap_or_default();
        to.copy_from_slice(bytes);
    };
    put(0, &(disk.size() / SECTOR).to_le_bytes());
    put(8, &PART_MAX.to_le_bytes());
    put(12, &PARTS_MAX.to_le_bytes());
    put(20, &disk.block().to_le_bytes());
    let aligned = disk.block() >> SECTOR.trailing_zeros();
    for at in [36, 48] {
        // How many sectors in how many ranges, of discards and of zeroes.
        put(at, &RANGE_MAX.to_le_bytes());
        put(at.saturating_add(4), &1_u32.to_le_bytes());
    }
    put(44, &aligned.to_le_bytes());
    // Zeroes may become holes.
    put(56, &[1]);
    config
}

impl Device for Block {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        let all = feature::SIZE_MAX | feature::SEG_MAX | feature::BLOCK_SIZE | feature::FLUSH;
        match self.shared.disk.is_read_only() {
            true => all | feature::READ_ONLY,
            false => all | feature::DISCARD | feature::WRITE_ZEROES,
        }
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn begin(&mut self, rings: Vec<Arc<Ring>>, features: u64) -> std::io::Result<()> {
        let Some(ring) = rings.into_iter().next() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        shared.lock().begin();
        let session = Session {
            shared,
            ring,
            name: self.name.clone(),
            // Who cannot flush is told that a write is done when it is durable.
            is_durable: features & feature::FLUSH == 0,
        };
        self.session = Some(session);
        self.resume()
    }

    fn end(&mut self) {
        (self.session, self.worker) = (None, None);
    }

    fn pause(&mut self) {
        self.worker = None;
    }

    fn resume(&mut self) -> std::io::Result<()> {
        let Some(session) = self.session.clone() else { return Ok(()) };
        let ring = Arc::clone(&session.ring);
        self.worker = Some(Worker::start("vmm-disk", ring, move || session.look())?);
        Ok(())
    }

    fn waits_for(&self) -> Option<String> {
        let count = self.shared.lock().asked;
        (count != 0).then(|| format!("{count} requests to the disk {}", self.shared.disk.uri()))
    }
}

/// What the threads of a disk share.
#[derive(Debug)]
struct Shared {
    disk: Disk,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What waits for room or for a server.
    waiting: VecDeque<Chain>,
    /// Bytes of what a server has.
    bytes: u64,
    /// Requests that a server has, those of older drivers, too.
    asked: usize,
    server: Option<Arc<Server>>,
    /// Somebody looks for a server.
    is_dialling: bool,
    /// How often a driver has begun: of an older one nothing is answered.
    times: u64,
}

impl State {
    fn begin(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
        self.times = self.times.saturating_add(1);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk in a driver's hands.
#[derive(Clone, Debug)]
struct Session {
    shared: Arc<Shared>,
    ring: Arc<Ring>,
    name: String,
    is_durable: bool,
}

/// What a chain asks.
enum Asked {
    /// Of the server.
    Server(Request),
    /// This, at once.
    Here(Vec<u8>, u8),
}

/// What a request carries, once it is done.
#[derive(Clone, Copy)]
enum Carries {
    ToGuest(u64),
    FromGuest(u64),
    Nothing,
}

impl Carries {
    fn by(request: &Request) -> Self {
        match request {
            Request::Read { span } => Self::ToGuest(span.length.into()),
            Request::Write { data, .. } => Self::FromGuest(u64::try_from(data.len()).unwrap_or(u64::MAX)),
            Request::Flush
            | Request::Trim { .. }
            | Request::WriteZeroes { .. }
            | Request::Cache { .. }
            | Request::Status { .. } => Self::Nothing,
        }
    }
}

impl Session {
    /// Takes what the guest asks, and asks the server as far as there is room.
    fn look(&self) -> Next {
        let Ok(chains) = self.ring.take() else { return Next::End };
        let mut state = self.shared.lock();
        state.waiting.extend(chains);
        loop {
            // Each time anew: one that is over answers at once, and what it was asked waits again.
            let Some(server) = state.server.clone().filter(|server| !server.is_over()) else {
                if state.waiting.is_empty() {
                    return Next::Wait;
                }
                if !state.is_dialling {
                    state.is_dialling = self.dial();
                }
                return Next::Within(AGAIN);
            };
            if UNDER_WAY_MAX <= state.bytes {
                return Next::Wait;
            }
            let Some(chain) = state.waiting.pop_front() else { return Next::Wait };
            let cost = cost(&chain);
            state.bytes = state.bytes.saturating_add(cost);
            let times = state.times;
            drop(state);
            self.ask(&server, chain, times);
            state = self.shared.lock();
        }
    }

    /// Looks for a server, on a thread of its own: that may take a while, and whoever ends this disk does not
    /// wait for it. Whether there is such a thread.
    fn dial(&self) -> bool {
        let (shared, ring) = (Arc::clone(&self.shared), Arc::clone(&self.ring));
        let work = move || {
            let server = shared.disk.connect().map(Arc::new);
            let mut state = shared.lock();
            state.is_dialling = false;
            if let Some(server) = server {
                shared.disk.is_asked_by(&server);
                state.server = Some(server);
                drop(state);
                let _ = ring.notify.write(1);
            }
        };
        std::thread::Builder::new().name("vmm-dial".into()).stack_size(256 << 10).spawn(work).is_ok()
    }

    fn ask(&self, server: &Arc<Server>, chain: Chain, times: u64) {
        match self.asked(&chain) {
            Asked::Here(bytes, status) => {
                self.answer(&chain, &[&bytes], status);
                self.ended(&chain, times);
            }
            Asked::Server(request) => {
                let (own, from, carries) = (self.clone(), Arc::clone(server), Carries::by(&request));
                let written = written_by(&request);
                let mut state = self.shared.lock();
                state.asked = state.asked.saturating_add(1);
                drop(state);
                let hear = move |answer| {
                    let mark = |(offset, length)| own.shared.disk.changes().mark(offset, length);
                    // Whatever it answers: what failed may have been done in part.
                    let _ = written.map(mark);
                    own.count(carries, &answer);
                    own.hear(&from, chain, times, answer);
                };
                server.submit(request, Reply::new(hear));
            }
        }
    }

    /// What a chain asks, as far as that makes sense.
    fn asked(&self, chain: &Chain) -> Asked {
        let nothing = |status| Asked::Here(Vec::new(), status);
        let (given, room) = chain.lengths();
        let header = self.ring.read(chain, 0, HEADER);
        let Some((kind, sector)) = header.as_deref().and_then(header_of) else {
            return nothing(status::FAILED);
        };
        // The last byte of the room is the status.
        let (data, room) = (given.saturating_sub(HEADER as u64), room.saturating_sub(1));
        let offset = sector.saturating_mul(SECTOR);
        let disk = &self.shared.disk;
        match kind {
            ask::READ if disk.has(offset, room) && room <= REQUEST_MAX => {
                let length = u32::try_from(room).unwrap_or(u32::MAX);
                Asked::Server(Request::Read { span: Span { offset, length } })
            }
            ask::WRITE if disk.has(offset, data) && data <= REQUEST_MAX && !disk.is_read_only() => {
                let count = usize::try_from(data).unwrap_or(usize::MAX);
                match self.ring.read(chain, HEADER as u64, count) {
                    Some(data) => Asked::Server(Request::Write { offset, data, durable: self.is_durable }),
                    None => nothing(status::FAILED),
                }
            }
            ask::FLUSH => Asked::Server(Request::Flush),
            ask::NAME => {
                let mut name = self.name.clone().into_bytes();
                name.resize(NAME_LEN, 0);
                name.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                Asked::Here(name, status::DONE)
            }
            ask::DISCARD | ask::WRITE_ZEROES if !disk.is_read_only() => {
                self.range(chain, kind).map_or_else(|| nothing(status::FAILED), Asked::Server)
            }
            ask::READ | ask::WRITE | ask::DISCARD | ask::WRITE_ZEROES => nothing(status::FAILED),
            _ => nothing(status::UNKNOWN),
        }
    }

    fn range(&self, chain: &Chain, kind: u32) -> Option<Request> {
        let bytes = self.ring.read(chain, HEADER as u64, RANGE)?;
        let (sector, rest) = bytes.split_first_chunk::<8>()?;
        let (count, flags) = rest.split_first_chunk::<4>()?;
        let flags = flags.first_chunk::<4>().map(|flags| u32::from_le_bytes(*flags))?;
        let count = u32::from_le_bytes(*count);
        let offset = u64::from_le_bytes(*sector).checked_mul(SECTOR)?;
        let length = u64::from(count).saturating_mul(SECTOR);
        if RANGE_MAX < count || !self.shared.disk.has(offset, length) {
            return None;
        }
        let span = Span { offset, length: u32::try_from(length).ok()? };
        let durable = self.is_durable;
        Some(match (kind, flags & 1) {
            (ask::DISCARD, _) => Request::Trim { span, durable },
            // Whether it may become a hole.
            (_, unmap) => Request::WriteZeroes { span, durable, allocated: unmap == 0, fast: false },
        })
    }

    /// Counts what was done.
    fn count(&self, carries: Carries, answer: &Answer) {
        let traffic = self.shared.disk.traffic();
        match (answer, carries) {
            (Ok(_), Carries::ToGuest(bytes)) => traffic.to_guest.add(bytes),
            (Ok(_), Carries::FromGuest(bytes)) => traffic.from_guest.add(bytes),
            (Ok(_), Carries::Nothing) | (Err(_), _) => {}
        }
    }

    /// The server has answered, or is gone.
    fn hear(&self, from: &Server, chain: Chain, times: u64, answer: Answer) {
        self.heard(from, chain, times, answer);
        // Not before: until then it may have written into the guest's memory.
        let mut state = self.shared.lock();
        state.asked = state.asked.saturating_sub(1);
    }

    fn heard(&self, from: &Server, chain: Chain, times: u64, answer: Answer) {
        match answer {
            Ok(Content::Data(pieces)) => {
                let parts: Vec<_> = pieces.iter().map(bytes_of).collect();
                let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
                self.answer(&chain, &parts, status::DONE);
            }
            Ok(Content::Done | Content::Extents(_)) => self.answer(&chain, &[], status::DONE),
            Err(failed) if from.is_over() || failed.errno == Errno::Shutdown => {
                // Nobody knows whether it was done. The guest was told nothing: it is asked again.
                from.give_up();
                let mut state = self.shared.lock();
                if state.times == times {
                    state.bytes = state.bytes.saturating_sub(cost(&chain));
                    state.waiting.push_back(chain);
                }
                drop(state);
                let _ = self.ring.notify.write(1);
                return;
            }
            Err(_) => self.answer(&chain, &[], status::FAILED),
        }
        self.ended(&chain, times);
    }

    /// Writes what there is into the chain's room, and the status into its last byte.
    fn answer(&self, chain: &Chain, parts: &[&[u8]], status: u8) {
        let (_, room) = chain.lengths();
        let Some(last) = room.checked_sub(1) else {
            // There is not even room for a status: the driver gets its chain back, and nothing with it.
            return self.ring.done(chain, 0);
        };
        let (mut at, mut is_written) = (0_u64, true);
        for part in parts {
            is_written &= self.ring.write(chain, at, part);
            at = at.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        let status = if is_written && at <= last { status } else { status::FAILED };
        self.ring.write(chain, last, &[status]);
        self.ring.done(chain, room);
    }

    /// There is room for more.
    fn ended(&self, chain: &Chain, times: u64) {
        let mut state = self.shared.lock();
        if state.times == times {
            state.bytes = state.bytes.saturating_sub(cost(chain));
            if !state.waiting.is_empty() {
                let _ = self.ring.notify.write(1);
            }
        }
    }
}

/// What a request costs while it is under way: its data, and a little.
fn cost(chain: &Chain) -> u64 {
    let (given, room) = chain.lengths();
    given.max(room).min(REQUEST_MAX).saturating_add(SECTOR)
}

/// The bytes that a request writes: the first, and how many.
fn written_by(request: &Request) -> Option<(u64, u64)> {
    match request {
        Request::Write { offset, data, .. } => Some((*offset, u64::try_from(data.len()).unwrap_or(u64::MAX))),
        Request::Trim { span, .. } | Request::WriteZeroes { span, .. } => {
            Some((span.offset, span.length.into()))
        }
        Request::Read { .. } | Request::Flush | Request::Cache { .. } | Request::Status { .. } => None,
    }
}

/// The kind of a request, and its first sector.
fn header_of(bytes: &[u8]) -> Option<(u32, u64)> {
    let (kind, rest) = bytes.split_first_chunk::<4>()?;
    let sector = rest.get(4..)?.first_chunk::<8>()?;
    Some((u32::from_le_bytes(*kind), u64::from_le_bytes(*sector)))
}

fn bytes_of(piece: &Piece) -> std::borrow::Cow<'_, [u8]> {
    match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().into(),
        Piece::Zeroes(count) => vec![0; usize::try_from(*count).unwrap_or(0)].into(),
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
