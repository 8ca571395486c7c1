//! The thread that looks for damage where nobody reads: every block that a store has is read from its disk
//! once a period, and compared with its checksum (V14; F7, F10).
//!
//! What is damaged is mended at once (`mends`); what nobody could mend is tried again until somebody can, or
//! a guest has written it again. It does nothing while a crash or a fill may have left blocks half written.

use super::backing::How;
use super::compare::REGION_LEN;
use super::dirty::Found;
use super::handle::{Shared, lock};
use super::mends::heal;
use super::store::{Damaged, Store};
use crate::cluster::clock;
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::{CATALOGUE, CATALOGUE_BLOCKS};
use std::io::Error;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Every block is looked at once in this time.
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// What nobody could mend is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Blocks of a region.
const REGION: u64 = 32;
/// It looks at least so often whether it may go on.
const TICK: Duration = Duration::from_secs(1);
/// Where it is, is remembered so often: a start goes on from there.
const REMEMBER: Duration = Duration::from_secs(60);

/// What the thread and its group share.
#[derive(Debug, Default)]
pub struct Scrub {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_allowed: bool,
    /// An operator waits for the end of a pass.
    is_hurried: bool,
    is_over: bool,
    progress: Progress,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Passes over the whole store since the start.
    pub passes: u64,
    /// The size of the volumes, together.
    pub bytes: u64,
    /// How much of that this pass has behind it.
    pub checked: u64,
    /// It goes on without a pause.
    pub is_hurried: bool,
}

impl Scrub {
    /// Whether what does not fit its checksum is damaged now.
    pub fn allow(&self, is_allowed: bool) {
        let mut state = lock(&self.state);
        if state.is_allowed != is_allowed {
            state.is_allowed = is_allowed;
            self.woken.notify_all();
        }
    }

    /// Looks at everything now, from the first block on.
    pub fn hurry(&self) {
        let mut state = lock(&self.state);
        state.is_hurried = true;
        state.progress.checked = 0;
        self.woken.notify_all();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let state = lock(&self.state);
        Progress { is_hurried: state.is_hurried, ..state.progress }
    }

    /// Waits for so long, and until it may go on; `None`: it is over.
    fn rest(&self, pause: Duration) -> Option<()> {
        let until = clock::now().after(pause);
        let mut state = lock(&self.state);
        loop {
            let left = until.since(clock::now());
            match state.is_over {
                true => return None,
                false if state.is_allowed && (left.is_zero() || state.is_hurried) => return Some(()),
                false => {}
            }
            let longest = if left.is_zero() { TICK } else { left.min(TICK) };
            let woken = self.woken.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner);
            state = woken.0;
        }
    }
}

/// The thread; it ends with this.
#[derive(Debug)]
pub struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Begins.
    ///
    /// # Errors
    ///
    /// There are no threads.
    pub fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let all = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("scrub".into()).spawn(move || run(&all))?;
        Ok(Self { shared: Arc::clone(shared), thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        lock(&self.shared.scrub.state).is_over = true;
        self.shared.scrub.woken.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Where a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    volume: Volume,
    block: u64,
}

impl Place {
    const FIRST: Self = Self { volume: CATALOGUE, block: 0 };

    fn recall(store: &Store) -> Self {
        let said = store.recall().unwrap_or_default();
        let mut numbers = said.split_whitespace();
        let place = numbers.next().zip(numbers.next());
        let place = place.and_then(|(volume, block)| Some((volume.parse().ok()?, block.parse().ok()?)));
        place.map_or(Self::FIRST, |(volume, block)| Self { volume: Volume(volume), block })
    }
}

/// What the thread knows.
struct Work<'a> {
    shared: &'a Shared,
    at: Place,
    /// The volume that was begun with its first block, and is looked at since.
    begun: Option<Volume>,
    /// This pass was begun for an operator.
    hurries: bool,
    remembered: Instant,
    tried: Instant,
}

fn run(shared: &Shared) {
    let at = Place::recall(&shared.store);
    let mut work =
        Work { shared, at, begun: None, hurries: false, remembered: Instant::now(), tried: Instant::now() };
    let mut due = clock::now().after(TICK);
    while shared.scrub.rest(due.since(clock::now()).min(AGAIN)).is_some() {
        work.try_again();
        let is_hurried = lock(&shared.scrub.state).is_hurried;
        if clock::now() < due && !is_hurried {
            continue;
        }
        let since = Instant::now();
        // Whoever reads what cannot be read, or writes it, says so.
        let pause = work.step().unwrap_or(AGAIN);
        // In a hurry, half of the time is left to others.
        due = clock::now().after(pause);
        if is_hurried {
            std::thread::sleep(since.elapsed().min(TICK));
        }
    }
    work.remember();
}

impl Work<'_> {
    /// Looks at the next blocks, and says how long to wait behind that.
    fn step(&mut self) -> Result<Duration, Error> {
        let volumes = self.volumes();
        let total: u64 = volumes.iter().map(|(_, blocks)| *blocks).sum();
        self.show(&volumes, total);
        let here =
            volumes.iter().find(|(volume, blocks)| (self.at.volume, self.at.block) < (*volume, *blocks));
        let Some((volume, blocks)) = here.copied() else {
            self.at = Place::FIRST;
            self.begun = None;
            let mut state = lock(&self.shared.scrub.state);
            state.progress.passes = state.progress.passes.saturating_add(1);
            // One who asked since the last look waits for the next pass.
            if std::mem::take(&mut self.hurries) {
                state.is_hurried = false;
            }
            return Ok(TICK);
        };
        if self.at.volume != volume {
            self.at = Place { volume, block: 0 };
        }
        if self.at.block == 0 {
            self.begun = Some(volume);
        }
        let store = &self.shared.store;
        let left = blocks.saturating_sub(self.at.block);
        let unwritten = store.unwritten(volume, self.at.block, left)?;
        let count = if unwritten == 0 { left.min(REGION) } else { unwritten };
        if unwritten == 0 {
            self.look(volume, self.at.block, count)?;
        }
        self.at.block = self.at.block.saturating_add(count);
        if self.at.block == blocks && self.begun == Some(volume) && !store.is_checked(volume)? {
            store.set_checked(volume)?;
        }
        if REMEMBER <= self.remembered.elapsed() {
            self.remember();
        }
        let share = u32::try_from(total.div_ceil(count.max(1))).unwrap_or(u32::MAX);
        let share = PERIOD.checked_div(share).unwrap_or(PERIOD);
        Ok(if unwritten == 0 { share } else { Duration::ZERO })
    }

    /// The list of volumes first: it is number 0.
    fn volumes(&self) -> Vec<(Volume, u64)> {
        let catalogue = lock(&self.shared.catalogue);
        let volumes = catalogue.list().map(|record| (record.volume, record.blocks));
        [(CATALOGUE, CATALOGUE_BLOCKS)].into_iter().chain(volumes).collect()
    }

    /// Has others see how far it is; and an operator have it begin anew.
    fn show(&mut self, volumes: &[(Volume, u64)], total: u64) {
        let mut state = lock(&self.shared.scrub.state);
        if state.is_hurried && state.progress.checked == 0 {
            self.at = Place::FIRST;
            self.hurries = true;
        }
        let before = volumes.iter().filter(|(volume, _)| *volume < self.at.volume);
        let before: u64 = before.map(|(_, blocks)| *blocks).sum();
        let bytes = |blocks: u64| blocks.saturating_mul(u64::try_from(BLOCK_LEN).unwrap_or(1));
        state.progress.bytes = bytes(total);
        // Never 0 again until it is begun anew.
        state.progress.checked = bytes(before.saturating_add(self.at.block)).max(1);
    }

    /// Looks at some blocks, each until it is good or nobody can mend it.
    fn look(&self, volume: Volume, first: u64, count: u64) -> Result<(), Error> {
        let (store, end) = (&self.shared.store, first.saturating_add(count));
        let mut bytes = vec![0; REGION_LEN];
        let mut at = first;
        while at < end {
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(0).saturating_mul(BLOCK_LEN);
            let bytes = bytes.get_mut(..length).unwrap_or_default();
            let read = store.read(volume, at, bytes, How::FromDisk);
            match read.as_ref().err().map(Damaged::of) {
                None => break,
                Some(Some(damaged)) => {
                    self.mend(damaged)?;
                    at = damaged.block.saturating_add(1);
                }
                Some(None) => return read,
            }
        }
        if !store.is_checked(volume)? {
            let length = usize::try_from(count).unwrap_or(0).saturating_mul(BLOCK_LEN);
            store.adopt(volume, first, bytes.get_mut(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Mends a block, unless what is dirty will come there.
    fn mend(&self, damaged: Damaged) -> Result<(), Error> {
        let parts = lock(&self.shared.dirty).look(damaged.volume, damaged.block, 1);
        if parts.iter().any(|part| !matches!(part.found, Found::Store)) {
            return Ok(());
        }
        match heal(self.shared, damaged) {
            // It is remembered, and tried again.
            Err(error) if Damaged::of(&error).is_some() => Ok(()),
            healed => healed,
        }
    }

    /// What nobody could mend: it may have been written since, or somebody may be there who can.
    fn try_again(&mut self) {
        if self.tried.elapsed() < AGAIN {
            return;
        }
        self.tried = Instant::now();
        for damaged in self.shared.mends.tally().damaged {
            let read =
                self.shared.store.read(damaged.volume, damaged.block, &mut [0; BLOCK_LEN], How::FromDisk);
            let is_damaged = read.as_ref().err().and_then(Damaged::of).is_some();
            // One at a time: nobody answers for the others either.
            if !is_damaged {
                self.shared.mends.is_good(damaged);
            } else if heal(self.shared, damaged).is_err() {
                return;
            }
        }
    }

    fn remember(&mut self) {
        self.remembered = Instant::now();
        let Place { volume, block } = self.at;
        self.shared.store.remember(&format!("{} {block}\n", volume.0));
    }
}
