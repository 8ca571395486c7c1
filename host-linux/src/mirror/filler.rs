//! The thread that fills another holder's store: asks where it differs, and sends what does (X07, X13).
//!
//! # Why what comes of it is whole, although guests go on
//!
//! The log is repeated from the write behind `upto` on. So a block may come to have any content that this
//! store had since `upto` was in it: if a later write changed it, the log repeats that write.
//!
//! A block is settled when its region's digests are the same, or its own are, or when it is sent. Each of
//! them is read here at an instant of its own, all of them after `upto` was in this store, and compared with
//! a store that nothing else changes. So whichever settles a block, it has a content that this store had
//! since.
//!
//! # Why it comes to an end
//!
//! While a large store is compared, the log may lose what must be repeated. Then another pass follows, over
//! the regions that were written since the one before began ([`super::touched`]), with a later `upto`; each
//! pass begins when all that was shown, and so is not among what the next one will look at, is in the store.

use super::compare::{Region, regions};
use super::handle::{Shared, Told, lock};
use super::mends::heal;
use super::store::Damaged;
use super::touched::{Part, Touched};
use super::words::Streams;
use crate::replication::frame::REGIONS_MAX;
use crate::replication::tally::End;
use crate::replication::words::{Blocks, Digest, Frame, REGION, Stream};
use crate::storage::buffers::Piece;
use crate::storage::space::sums;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::{BlockIndex, Kind, Volume, Write};
use bulkhead_core::log::{BLOCK_LEN, Seq};
use bulkhead_core::volume::{CATALOGUE, CATALOGUE_BLOCKS};
use std::collections::VecDeque;
use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Questions on their way at most: 64 MiB of a store.
pub const ASKED_MAX: usize = 8;
/// Answers to them at most.
const ANSWERS_MAX: usize = ASKED_MAX * 65;
/// Bytes on their way, above which the filler waits.
const QUEUED_MAX: usize = 2 << 20;
/// How long it waits then.
const PAUSE: Duration = Duration::from_millis(5);
/// A store that could not be read is read again after so long.
const RETRY: Duration = Duration::from_secs(10);
/// Who answers nothing for so long loses its stream.
const ANSWER: Duration = Duration::from_secs(60);
/// Blocks that one question asks for.
const QUESTION: u64 = 64 * PER_REGION;
/// Blocks of a region.
const PER_REGION: u64 = 32;
/// Blocks that a frame makes zeroes at most: whole regions.
const ZEROES_MAX: u64 = 1 << 31;
/// Another pass follows while more than so much was written during the last one: 64 MiB.
const NEAR: u64 = 16_384;
/// Not for ever: how much guests write must not decide.
const PASSES_MAX: u32 = 8;

const _: () = assert!(REGION == 32 && REGIONS_MAX == 64, "one size of question");
const _: () = assert!(BLOCK_LEN == 4096, "one size of block");

/// What a filler tells its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// All of the other store is as this one.
    Ended,
    /// This store could not be read, and is read again later.
    Failed(String),
}

/// How far a fill is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that are to be compared.
    pub bytes: AtomicU64,
    /// Bytes that were.
    pub compared: AtomicU64,
    /// Bytes of blocks that were sent.
    pub moved: AtomicU64,
}

/// What a filler and its group share.
#[derive(Debug)]
pub struct Desk {
    stop: AtomicBool,
    state: Mutex<State>,
    woken: Condvar,
    /// Shown to whoever asks.
    pub progress: Progress,
    /// When it began.
    pub since: Instant,
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Frame>,
    touched: Touched,
    /// Every write up to this one is in `touched`, or was shown before the fill began.
    shown: Seq,
    /// Every write up to this one is in the store.
    applied: Seq,
    /// The log still has this write, and all after it.
    oldest: Seq,
}

impl Desk {
    /// Writes up to `shown` are not looked at any more.
    pub fn new(shown: Seq) -> Self {
        let state = Mutex::new(State { shown, ..State::default() });
        let (stop, woken, progress) = (AtomicBool::new(false), Condvar::new(), Progress::default());
        Self { stop, state, woken, progress, since: Instant::now() }
    }

    /// Ends the filler.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.woken.notify_all();
    }

    /// The other holder answered; `false`: it was not asked so much.
    pub fn answered(&self, frame: Frame) -> bool {
        let mut state = lock(&self.state);
        let is_bounded = state.answers.len() < ANSWERS_MAX;
        if is_bounded {
            state.answers.push_back(frame);
            self.woken.notify_all();
        }
        is_bounded
    }

    /// A write may be read here from now on, and what it says of volumes is known.
    pub fn shown(&self, seq: Seq, write: &Write) {
        let mut state = lock(&self.state);
        state.touched.write(write);
        state.shown = seq;
    }

    /// A volume was made or deleted.
    pub fn renewed(&self, volume: Volume) {
        lock(&self.state).touched.all_of(volume);
    }

    /// What is in the store, and where the log begins.
    pub fn moved(&self, applied: Seq, oldest: Seq) {
        let mut state = lock(&self.state);
        if (state.applied, state.oldest) != (applied, oldest) {
            (state.applied, state.oldest) = (applied, oldest);
            self.woken.notify_all();
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Waits for news, for a little while.
    fn pause(&self) {
        let state = lock(&self.state);
        if state.answers.is_empty() && !self.is_over() {
            drop(self.woken.wait_timeout(state, PAUSE).map_err(PoisonError::into_inner));
        }
    }
}

/// A filler at work.
pub struct Work {
    /// What it shares with others.
    pub shared: Arc<Shared>,
    /// By which it sends.
    pub streams: Arc<dyn Streams>,
    /// To whom.
    pub stream: Stream,
    /// Under which this holder leads.
    pub epoch: Epoch,
    /// Which filler of the group this is.
    pub number: u64,
    /// What it shares with its group.
    pub desk: Arc<Desk>,
    /// What was asked, and is not answered.
    pub asked: VecDeque<Blocks>,
    /// When something was asked while nothing was, or was answered.
    pub heard: Instant,
}

/// Why it goes on no further.
enum Halt {
    /// It was told to, or the other holder has lost its stream.
    Over,
    /// This store.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Work {
    /// Runs until the other store is filled, or it is told to end.
    pub fn run(mut self) {
        loop {
            match self.fill() {
                Ok(upto) => {
                    self.streams.send(self.stream, vec![Frame::Filled { epoch: self.epoch, upto }]);
                    return self.say(Said::Ended);
                }
                Err(Halt::Over) => return,
                Err(Halt::Failed(error)) => {
                    self.say(Said::Failed(error.to_string()));
                    if self.rest().is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn say(&self, said: Said) {
        let to: NodeId = self.stream.peer();
        self.shared.tell(Told::Filler(to, self.number, said));
    }

    /// Fills. Returns the write behind which the log is to be repeated.
    fn fill(&mut self) -> Result<Seq, Halt> {
        // A failed attempt is repeated as a whole.
        for count in [&self.desk.progress.bytes, &self.desk.progress.compared] {
            count.store(0, Ordering::SeqCst);
        }
        let mut pass = 0_u32;
        loop {
            let mut state = lock(&self.desk.state);
            let (touched, upto) = (std::mem::take(&mut state.touched), state.shown);
            drop(state);
            // Every volume that was made up to then is known.
            let volumes = self.volumes();
            // Where the other one keeps a volume depends on it: it has it before anything else comes.
            self.pass(vec![(CATALOGUE, 0, CATALOGUE_BLOCKS)], upto)?;
            let all = || volumes.iter().map(|(volume, blocks)| (*volume, 0, *blocks)).collect();
            self.pass(if pass == 0 { all() } else { touched.parts(&volumes) }, upto)?;
            pass = pass.saturating_add(1);
            let state = lock(&self.desk.state);
            let is_kept = state.oldest <= upto.next();
            let is_near = state.touched.blocks() <= NEAR || PASSES_MAX <= pass;
            drop(state);
            if is_kept && is_near {
                return Ok(upto);
            }
        }
    }

    /// The volumes as they are now, the list of them last.
    fn volumes(&self) -> Vec<(Volume, u64)> {
        let present = lock(&self.shared.catalogue);
        let volumes = present.list().map(|record| (record.volume, record.blocks));
        volumes.chain([(CATALOGUE, CATALOGUE_BLOCKS)]).collect()
    }

    /// Makes these parts of the other store as this one is, when this one has every write up to `upto`.
    fn pass(&mut self, parts: Vec<Part>, upto: Seq) -> Result<(), Halt> {
        while lock(&self.desk.state).applied < upto {
            self.answers()?;
            self.desk.pause();
        }
        let mut bytes = 0_u64;
        for (volume, first, end) in &parts {
            let mut at = *first;
            while at < *end {
                let (is_data, count) = self.step(*volume, at, *end)?;
                bytes = bytes.saturating_add(if is_data { length(count) } else { 0 });
                at = at.saturating_add(count);
            }
        }
        self.desk.progress.bytes.fetch_add(bytes, Ordering::SeqCst);
        for (volume, first, end) in parts {
            let mut at = first;
            while at < end {
                let (is_data, count) = self.step(volume, at, end)?;
                let blocks =
                    Blocks { volume, first: BlockIndex(at), count: u32::try_from(count).unwrap_or(u32::MAX) };
                if is_data {
                    self.ask(blocks)?
                } else {
                    self.send(blocks, None)
                }
                at = at.saturating_add(count);
            }
        }
        while !self.asked.is_empty() {
            self.answers()?;
            self.desk.pause();
        }
        Ok(())
    }

    /// Whether to compare at a block, which begins a region, and how many blocks at once. What has no data is
    /// made zeroes there, without a question. Between two such holes there is one, which bounds their number.
    fn step(&self, volume: Volume, at: u64, end: u64) -> Result<(bool, u64), Error> {
        let left = end.saturating_sub(at);
        let (is_data, run) = self.shared.store.run(volume, at, left)?;
        let whole = if left <= run { left } else { run.saturating_sub(run % PER_REGION) };
        if !is_data && (whole == left || QUESTION <= whole) {
            return Ok((false, whole.min(ZEROES_MAX)));
        }
        Ok((true, left.min(QUESTION)))
    }

    /// Asks the other holder to compare.
    fn ask(&mut self, blocks: Blocks) -> Result<(), Halt> {
        loop {
            self.answers()?;
            if self.asked.len() < ASKED_MAX && self.streams.queued(self.stream) < QUEUED_MAX {
                break;
            }
            self.desk.pause();
        }
        let mut region = Region::default();
        let digests = regions(blocks).map(|part| self.load(&mut region, part)).collect::<Result<_, _>>()?;
        if self.asked.is_empty() {
            self.heard = Instant::now();
        }
        self.asked.push_back(blocks);
        self.streams.send(self.stream, vec![Frame::Compare { epoch: self.epoch, blocks, digests }]);
        Ok(())
    }

    /// Reads a region of this store. What is damaged in it is what a third holder has there; with two, nobody
    /// is in sync who could say, and the fill waits until a guest has written it again.
    fn load(&self, region: &mut Region, blocks: Blocks) -> Result<Digest, Error> {
        loop {
            let loaded = region.load(&self.shared.store, blocks);
            match loaded.as_ref().err().and_then(Damaged::of) {
                Some(damaged) => heal(&self.shared, damaged)?,
                None => return loaded,
            }
        }
    }

    /// Does what the other holder's answers ask for.
    fn answers(&mut self) -> Result<(), Halt> {
        loop {
            if self.desk.is_over() {
                return Err(Halt::Over);
            }
            let answer = lock(&self.desk.state).answers.pop_front();
            match answer {
                None if !self.asked.is_empty() && ANSWER <= self.heard.elapsed() => {
                    return self.give_up(End::Unanswered);
                }
                None => return Ok(()),
                Some(Frame::Differs { blocks, digests, .. }) => {
                    let asked = self.asked.front().copied();
                    if !asked.is_some_and(|asked| regions(asked).any(|part| part == blocks)) {
                        return self.give_up(End::Babbled);
                    }
                    self.differs(blocks, &digests)?;
                }
                Some(Frame::Compared { blocks, .. }) => {
                    if self.asked.pop_front() != Some(blocks) {
                        return self.give_up(End::Babbled);
                    }
                    self.heard = Instant::now();
                    let compared = length(u64::from(blocks.count));
                    self.desk.progress.compared.fetch_add(compared, Ordering::SeqCst);
                }
                Some(
                    Frame::Word(_)
                    | Frame::Write { .. }
                    | Frame::Fill { .. }
                    | Frame::Filled { .. }
                    | Frame::Compare { .. }
                    | Frame::Wants { .. }
                    | Frame::Mend { .. }
                    | Frame::Lacks { .. }
                    | Frame::Member { .. },
                ) => return self.give_up(End::Babbled),
            }
        }
    }

    /// With this peer, and this stream, nothing comes of it.
    fn give_up(&self, why: End) -> Result<(), Halt> {
        self.streams.end(self.stream, why);
        Err(Halt::Over)
    }

    /// Sends the blocks of a region that are not these.
    fn differs(&mut self, blocks: Blocks, theirs: &[Digest]) -> Result<(), Halt> {
        let mut region = Region::default();
        self.load(&mut region, blocks)?;
        for run in region.runs(theirs) {
            let at = |block: usize| u64::try_from(block).unwrap_or(u64::MAX);
            let part = Blocks {
                volume: blocks.volume,
                first: BlockIndex(blocks.first.0.saturating_add(at(run.blocks.start))),
                count: u32::try_from(run.blocks.len()).unwrap_or(u32::MAX),
            };
            let bytes = run.blocks.start.saturating_mul(BLOCK_LEN)..run.blocks.end.saturating_mul(BLOCK_LEN);
            let content = region.bytes().get(bytes).filter(|_| !run.is_zero);
            let payload = content.map(|bytes| self.memory(bytes)).transpose()?;
            self.send(part, payload);
        }
        Ok(())
    }

    fn send(&self, blocks: Blocks, payload: Option<Piece>) {
        let kind = if payload.is_some() { Kind::Data } else { Kind::Zeroes };
        // Whatever a volume has is a write's.
        let Some(write) = Write::new(blocks.volume, blocks.first, blocks.count, kind) else { return };
        let sums: Vec<_> = payload.iter().flat_map(|piece| sums(piece.bytes())).collect();
        if payload.is_some() {
            self.desk.progress.moved.fetch_add(length(u64::from(blocks.count)), Ordering::SeqCst);
        }
        self.streams.send(self.stream, vec![Frame::Fill { epoch: self.epoch, write, sums, payload }]);
    }

    /// A copy where networks take it from, when there is memory and the peer has taken what came before.
    fn memory(&self, bytes: &[u8]) -> Result<Piece, Halt> {
        loop {
            if self.desk.is_over() {
                return Err(Halt::Over);
            }
            // Half of the memory stays with guests.
            let is_free = self.shared.pool_blocks / 2 <= self.shared.pool.free();
            if is_free
                && self.streams.queued(self.stream) < QUEUED_MAX
                && let Some(mut buffer) = self.shared.pool.take(bytes.len() / BLOCK_LEN)
            {
                buffer.bytes_mut().copy_from_slice(bytes);
                return Ok(buffer.keep().piece());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits before the store is read again. Until then nothing that was asked before is to be answered.
    fn rest(&mut self) -> Result<(), Halt> {
        let since = Instant::now();
        while since.elapsed() < RETRY || !self.asked.is_empty() {
            if ANSWER <= since.elapsed() {
                return self.give_up(End::Unanswered);
            }
            let answer = lock(&self.desk.state).answers.pop_front();
            match answer {
                Some(Frame::Compared { .. }) => drop(self.asked.pop_front()),
                Some(_) => {}
                None => self.desk.pause(),
            }
            if self.desk.is_over() {
                return Err(Halt::Over);
            }
        }
        Ok(())
    }
}

/// Bytes of so many blocks.
const fn length(blocks: u64) -> u64 {
    blocks.saturating_mul(4096)
}
