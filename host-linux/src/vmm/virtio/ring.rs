//! A queue in a guest's memory, for threads of its device, until the driver resets the device: then nothing
//! of the guest's memory is touched any more (F43, V44).

use super::super::memory::Memory;
use super::saved::{Parts, SavedQueue};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

/// The interrupt of a device, and why it was raised.
#[derive(Debug)]
pub struct Interrupt {
    why: AtomicU32,
    line: EventFd,
}

/// A queue has something for the driver.
const USED: u32 = 1;
/// The device's configuration, or whether it needs a reset, has changed.
const CHANGED: u32 = 2;

impl Interrupt {
    /// One that is raised by `line`.
    #[must_use]
    pub const fn new(line: EventFd) -> Self {
        Self { why: AtomicU32::new(0), line }
    }

    /// The device has changed.
    pub fn changed(&self) {
        self.raise(CHANGED);
    }

    /// Why it was raised.
    #[must_use]
    pub fn why(&self) -> u32 {
        self.why.load(Ordering::SeqCst)
    }

    /// The driver knows of these reasons.
    pub fn acknowledge(&self, why: u32) {
        self.why.fetch_and(!why, Ordering::SeqCst);
    }

    /// None was ever raised.
    pub fn reset(&self) {
        self.why.store(0, Ordering::SeqCst);
    }

    /// It was raised for these reasons by a device of which this one is the copy. Whether the driver saw it,
    /// nobody knows: it looks once more.
    pub fn restore(&self, why: u32) {
        if why != 0 {
            self.raise(why);
        }
    }

    fn raise(&self, why: u32) {
        self.why.fetch_or(why, Ordering::SeqCst);
        // A full counter is an interrupt that is pending already.
        let _ = self.line.write(1);
    }
}

/// What a driver asked: a private copy of where, checked when it is used. Clones are the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Arc<Parts>);

impl Chain {
    /// How much there is to read, and room to write.
    #[must_use]
    pub fn lengths(&self) -> (u64, u64) {
        let sum = |parts: &[(u64, u32)]| parts.iter().map(|(_, length)| u64::from(*length)).sum();
        (sum(&self.0.readable), sum(&self.0.writable))
    }

    fn parts(&self) -> usize {
        self.0.readable.len().saturating_add(self.0.writable.len())
    }
}

/// The queue cannot be used any more: what is in it makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A queue in use.
#[derive(Debug)]
struct Open {
    queue: Queue,
    /// Chains that were taken and are not done. Invariant: no more than the queue is long.
    taken: Vec<Chain>,
    /// Those of them that a device took of which this one is the copy: they are given again.
    again: VecDeque<Chain>,
}

impl Open {
    /// How many chains are asked and not taken. More than the queue is long was never asked, nor what was not
    /// given back asked again.
    fn asked(&self, memory: &Memory) -> Result<usize, Broken> {
        let newest = self.queue.avail_idx(memory, Ordering::Acquire).map_err(|_| Broken)?;
        let asked = usize::from(newest.0.wrapping_sub(self.queue.next_avail()));
        match self.taken.len().saturating_add(asked) <= usize::from(self.queue.size()) {
            true => Ok(asked),
            false => Err(Broken),
        }
    }

    /// The next chain that is asked.
    fn pop(&mut self, memory: &Memory) -> Result<Option<Chain>, Broken> {
        let Some(found) = self.queue.pop_descriptor_chain(memory) else { return Ok(None) };
        let mut chain = Parts { head: found.head_index(), ..Parts::default() };
        for part in found {
            let list = if part.is_write_only() { &mut chain.writable } else { &mut chain.readable };
            list.push((part.addr().0, part.len()));
        }
        if usize::from(self.queue.size()) <= self.taken.len() {
            return Err(Broken);
        }
        let chain = Chain(Arc::new(chain));
        self.taken.push(chain.clone());
        Ok(Some(chain))
    }

    /// So many chains that were popped last are as if they were not.
    fn put_back(&mut self, count: usize) {
        let back = u16::try_from(count).unwrap_or(u16::MAX);
        self.queue.set_next_avail(self.queue.next_avail().wrapping_sub(back));
        self.taken.truncate(self.taken.len().saturating_sub(count));
    }

    /// Gives chains back, each with so many bytes written: the driver sees all of them, or none yet. Whether
    /// it wants to be told.
    fn give_back(&mut self, memory: &Memory, used: &[(&Chain, u32)]) -> bool {
        let Some(((last, written), before)) = used.split_last() else { return false };
        let is_used = |one: &Chain| used.iter().any(|(chain, _)| Arc::ptr_eq(&one.0, &chain.0));
        self.taken.retain(|one| !is_used(one));
        for (chain, written) in before {
            let next = self.queue.next_used();
            let place = u64::from(next.checked_rem(self.queue.size()).unwrap_or(0));
            let at = self.queue.used_ring().saturating_add(place.saturating_mul(8)).saturating_add(4);
            let entry = u64::from(*written) << 32 | u64::from(chain.0.head);
            if memory.write_obj(entry.to_le(), GuestAddress(at)).is_err() {
                return false;
            }
            self.queue.set_next_used(next.wrapping_add(1));
        }
        let is_put = self.queue.add_used(memory, last.0.head, *written).is_ok();
        is_put && self.queue.needs_notification(memory).unwrap_or(true)
    }
}

/// What became of bytes for a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It has them.
    Done,
    /// It has not asked for so many, and may do so yet.
    Later,
    /// What it asks never has so much room.
    Never,
}

/// A queue, and the memory that it and what is asked with it lie in.
#[derive(Debug)]
pub struct Ring {
    /// `None` once the driver has reset the device.
    open: Mutex<Option<Open>>,
    memory: Memory,
    interrupt: Arc<Interrupt>,
    /// The driver has put something in it, or the device is to look again.
    pub notify: EventFd,
}

impl Ring {
    /// Opens a queue that a driver has set up.
    #[must_use]
    pub fn new(queue: Queue, memory: Memory, interrupt: Arc<Interrupt>, notify: EventFd) -> Self {
        Self::with(queue, Vec::new(), memory, interrupt, notify)
    }

    fn with(
        queue: Queue,
        taken: Vec<Chain>,
        memory: Memory,
        interrupt: Arc<Interrupt>,
        notify: EventFd,
    ) -> Self {
        let again = taken.iter().cloned().collect();
        Self { open: Mutex::new(Some(Open { queue, taken, again })), memory, interrupt, notify }
    }

    /// Opens a queue as it was when [`Self::saved`] was asked. `None`: there never was such a queue.
    #[must_use]
    pub fn restored(
        saved: &SavedQueue,
        memory: Memory,
        interrupt: Arc<Interrupt>,
        notify: EventFd,
    ) -> Option<Self> {
        let queue = saved.queue()?;
        let taken = saved.taken.iter().cloned().map(|parts| Chain(Arc::new(parts))).collect();
        let ring = Self::with(queue, taken, memory, interrupt, notify);
        (saved.taken.len() <= usize::from(saved.size) && ring.is_sound()).then_some(ring)
    }

    /// What the queue is, and what was taken from it and is not done. `None`: it is closed.
    #[must_use]
    pub fn saved(&self) -> Option<SavedQueue> {
        let guard = self.lock();
        let open = guard.as_ref()?;
        let taken = open.taken.iter().map(|chain| Parts::clone(&chain.0)).collect();
        Some(SavedQueue::of(&open.queue, taken))
    }

    /// Whether its place makes sense. All parts of it lie in memory.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lock().as_ref().is_some_and(|open| open.queue.is_valid(&self.memory))
    }

    /// Nothing of the guest's memory is touched after this.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// What was asked and not taken yet: chains with no more parts altogether than the queue is long, or one
    /// chain, so that nobody is busy with one queue for ever. If there may be more, it notifies itself.
    ///
    /// # Errors
    ///
    /// The driver has written nonsense.
    pub fn take(&self) -> Result<VecDeque<Chain>, Broken> {
        let mut guard = self.lock();
        let mut chains = VecDeque::new();
        let Some(open) = guard.as_mut() else { return Ok(chains) };
        if !open.again.is_empty() {
            let _ = self.notify.write(1);
            return Ok(std::mem::take(&mut open.again));
        }
        open.asked(&self.memory)?;
        let mut parts = 0_usize;
        while parts < usize::from(open.queue.size()) {
            let Some(chain) = open.pop(&self.memory)? else { return Ok(chains) };
            parts = parts.saturating_add(chain.parts()).max(chains.len().saturating_add(1));
            chains.push_back(chain);
        }
        let _ = self.notify.write(1);
        Ok(chains)
    }

    /// Whether something is asked that was not taken yet.
    ///
    /// # Errors
    ///
    /// The driver has written nonsense.
    pub fn is_asked(&self) -> Result<bool, Broken> {
        let guard = self.lock();
        guard.as_ref().map_or(Ok(false), |open| open.asked(&self.memory).map(|asked| asked != 0))
    }

    /// Reads all that the next chain has, if there is room for it, and gives the chain back at once: nothing
    /// is under way. How much it was, none if it cannot be read; `None`: nothing is asked.
    ///
    /// # Errors
    ///
    /// The driver has written nonsense.
    pub fn get(&self, room: &mut [u8]) -> Result<Option<usize>, Broken> {
        let mut guard = self.lock();
        let Some(open) = guard.as_mut() else { return Ok(None) };
        open.asked(&self.memory)?;
        let Some(chain) = open.pop(&self.memory)? else { return Ok(None) };
        let (given, _) = chain.lengths();
        let room = usize::try_from(given).ok().and_then(|given| room.get_mut(..given));
        let count = room.and_then(|room| {
            read(&self.memory, &chain, 0, room)?;
            Some(room.len())
        });
        self.tell(open.give_back(&self.memory, &[(&chain, 0)]));
        Ok(Some(count.unwrap_or(0)))
    }

    /// Writes bytes into the next chains, into so many at most, and gives them back at once: nothing is under
    /// way. Before that `stamp` is told how many there are, and may change the bytes.
    ///
    /// # Errors
    ///
    /// The driver has written nonsense.
    pub fn put(
        &self,
        bytes: &mut [u8],
        chains_max: usize,
        stamp: impl FnOnce(&mut [u8], u16),
    ) -> Result<Put, Broken> {
        let mut guard = self.lock();
        let Some(open) = guard.as_mut() else { return Ok(Put::Later) };
        let asked = open.asked(&self.memory)?;
        let size = usize::from(open.queue.size());
        let needed = u64::try_from(bytes.len()).map_err(|_| Broken)?;
        let (mut chains, mut room, mut parts) = (Vec::new(), 0_u64, 0_usize);
        while room < needed {
            let is_whole = chains.len() == chains_max.min(size) || size <= parts;
            if is_whole || chains.len() == asked {
                open.put_back(chains.len());
                return Ok(if is_whole { Put::Never } else { Put::Later });
            }
            let Some(chain) = open.pop(&self.memory)? else { return Err(Broken) };
            room = room.saturating_add(chain.lengths().1);
            parts = parts.saturating_add(chain.parts());
            chains.push(chain);
        }
        stamp(bytes, u16::try_from(chains.len()).map_err(|_| Broken)?);
        let (mut rest, mut used) = (&*bytes, Vec::new());
        for chain in &chains {
            let room = usize::try_from(chain.lengths().1).unwrap_or(usize::MAX);
            let (here, behind) = rest.split_at(room.min(rest.len()));
            if !write(&self.memory, chain, 0, here) {
                return Err(Broken);
            }
            used.push((chain, u32::try_from(here.len()).map_err(|_| Broken)?));
            rest = behind;
        }
        self.tell(open.give_back(&self.memory, &used));
        Ok(Put::Done)
    }

    /// Reads so many bytes of what a chain has, from `skip` on. `None`: there are not so many, or they are
    /// not in memory, or the queue is closed.
    #[must_use]
    pub fn read(&self, chain: &Chain, skip: u64, count: usize) -> Option<Vec<u8>> {
        let guard = self.lock();
        guard.as_ref()?;
        let mut bytes = vec![0; count];
        read(&self.memory, chain, skip, &mut bytes)?;
        Some(bytes)
    }

    /// Writes bytes into what a chain has room for, from `skip` on. Whether there was room, in memory, and
    /// the queue is open.
    pub fn write(&self, chain: &Chain, skip: u64, bytes: &[u8]) -> bool {
        let guard = self.lock();
        guard.is_some() && write(&self.memory, chain, skip, bytes)
    }

    /// The device has done what a chain asks, and has written so many bytes.
    pub fn done(&self, chain: &Chain, written: u64) {
        let mut guard = self.lock();
        let Some(open) = guard.as_mut() else { return };
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.tell(open.give_back(&self.memory, &[(chain, written)]));
    }

    /// Raises the interrupt, if the driver wants it.
    fn tell(&self, is_wanted: bool) {
        if is_wanted {
            self.interrupt.raise(USED);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what a chain has, from `skip` on, until `room` is full. `None`: there is not so much, or it is not
/// in memory.
fn read(memory: &Memory, chain: &Chain, skip: u64, room: &mut [u8]) -> Option<()> {
    let count = room.len();
    let mut rest = room;
    for (at, length) in within(&chain.0.readable, skip, count) {
        let (here, behind) = rest.split_at_mut_checked(length)?;
        memory.read_slice(here, at).ok()?;
        rest = behind;
    }
    rest.is_empty().then_some(())
}

/// Writes into what a chain has room for, from `skip` on. Whether there was room, in memory.
fn write(memory: &Memory, chain: &Chain, skip: u64, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for (at, length) in within(&chain.0.writable, skip, bytes.len()) {
        let Some((here, behind)) = rest.split_at_checked(length) else { return false };
        if memory.write_slice(here, at).is_err() {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

/// The places of so many bytes, from `skip` on.
fn within(parts: &[(u64, u32)], skip: u64, count: usize) -> Vec<(GuestAddress, usize)> {
    let (mut skip, mut left, mut places) = (skip, count, Vec::new());
    for (at, length) in parts {
        let beyond = skip.min(u64::from(*length));
        skip = skip.saturating_sub(beyond);
        let rest = u64::from(*length).saturating_sub(beyond);
        let here = usize::try_from(rest).unwrap_or(usize::MAX).min(left);
        if here != 0 {
            places.push((GuestAddress(at.saturating_add(beyond)), here));
            left = left.saturating_sub(here);
        }
    }
    places
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
