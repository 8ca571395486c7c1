//! The registers of a virtio device in a guest's memory (virtio 1.3, 4.2.2). Every access is 4 bytes, but of
//! the device's configuration; what has another size or place reads as zero and changes nothing.

use super::super::memory::Memory;
use super::ring::{Interrupt, Ring};
use super::saved::{Saved, SavedQueue};
use super::{Device, INDIRECT, VERSION_1};
use std::sync::Arc;
use virtio_queue::{Queue, QueueT as _};
use vmm_sys_util::eventfd::EventFd;

const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Who made it: four letters.
const VENDOR: u32 = u32::from_le_bytes(*b"BLKH");

/// Where the device's configuration begins.
const CONFIG: u64 = 0x100;
/// A write here says which queue has something new; the kernel passes it on without this code.
pub const NOTIFY: u64 = 0x50;

/// Bits of the status.
mod status {
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
}

/// The registers of a device, and the device.
pub struct Transport {
    device: Box<dyn Device>,
    memory: Memory,
    interrupt: Arc<Interrupt>,
    notify: Vec<EventFd>,
    queues: Vec<Queue>,
    /// While the device has them.
    rings: Vec<Arc<Ring>>,
    status: u32,
    /// Which half of the features is read, and which written.
    offered_half: u32,
    taken_half: u32,
    taken: u64,
    queue: u32,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Transport {
    /// The registers of `device`, which raises `interrupt`. There is one of `notify` for each of its queues.
    ///
    /// # Errors
    ///
    /// A queue has a length that none may have.
    pub fn new(
        device: Box<dyn Device>,
        memory: Memory,
        interrupt: EventFd,
        notify: Vec<EventFd>,
    ) -> Result<Self, virtio_queue::Error> {
        let queues = device.queues().iter().map(|length| Queue::new(*length)).collect::<Result<_, _>>()?;
        let interrupt = Arc::new(Interrupt::new(interrupt));
        Ok(Self {
            device,
            memory,
            interrupt,
            notify,
            queues,
            rings: Vec::new(),
            status: 0,
            offered_half: 0,
            taken_half: 0,
            taken: 0,
            queue: 0,
        })
    }

    /// The driver reads, `offset` bytes behind the first register.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(CONFIG) {
            let config = usize::try_from(offset).ok().and_then(|offset| self.device.config().get(offset..));
            data.iter_mut().zip(config.unwrap_or_default()).for_each(|(to, from)| *to = *from);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.register(offset).to_le_bytes();
        }
    }

    /// The driver writes.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(word) = <[u8; 4]>::try_from(data) else { return };
        if offset < CONFIG {
            self.set(offset, u32::from_le_bytes(word));
        }
    }

    /// The guest ends: the device ends before it.
    pub fn end(&mut self) {
        self.rings.drain(..).for_each(|ring| ring.close());
        self.device.end();
    }

    /// The device takes nothing more from the guest; what it has asked of others still arrives.
    pub fn pause(&mut self) {
        self.device.pause();
    }

    /// Who still has something of the guest's. `None`: nothing of its memory changes while it is held.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.device.waits_for()
    }

    /// The device goes on after a pause.
    pub fn resume(&mut self) {
        if self.device.resume().is_err() {
            self.needs_reset();
        }
    }

    /// All that a copy needs of it. The guest is held, and the device paused.
    #[must_use]
    pub fn saved(&self) -> Saved {
        let rings: Vec<_> = self.rings.iter().filter_map(|ring| ring.saved()).collect();
        let has_begun = !rings.is_empty();
        let untouched = || self.queues.iter().map(|queue| SavedQueue::of(queue, Vec::new())).collect();
        Saved {
            kind: self.device.kind(),
            config: self.device.config().to_vec(),
            status: self.status,
            offered_half: self.offered_half,
            taken_half: self.taken_half,
            taken: self.taken,
            queue: self.queue,
            why: self.interrupt.why(),
            has_begun,
            queues: if has_begun { rings } else { untouched() },
        }
    }

    /// Makes a new one the copy of one that was saved, and has it go on where that was. `None`: that was
    /// another device, or none that there can be.
    pub fn restore(&mut self, saved: &Saved) -> Option<()> {
        let lengths = saved.queues.iter().map(|queue| queue.size_max);
        let is_same = saved.kind == self.device.kind() && saved.config == self.device.config();
        let knows_all = saved.taken & !self.features() == 0 || !saved.has_begun;
        if !is_same || !knows_all || !lengths.eq(self.device.queues().iter().copied()) {
            return None;
        }
        self.queues = saved.queues.iter().map(SavedQueue::queue).collect::<Option<_>>()?;
        (self.status, self.taken, self.queue) = (saved.status, saved.taken, saved.queue);
        (self.offered_half, self.taken_half) = (saved.offered_half, saved.taken_half);
        self.interrupt.restore(saved.why);
        if !saved.has_begun {
            return Some(());
        }
        let mut rings = Vec::new();
        for (queue, notify) in saved.queues.iter().zip(&self.notify) {
            let (interrupt, notify) = (Arc::clone(&self.interrupt), notify.try_clone().ok()?);
            rings.push(Arc::new(Ring::restored(queue, self.memory.clone(), interrupt, notify)?));
        }
        self.rings.clone_from(&rings);
        self.device.begin(rings, self.taken).ok()
    }

    fn needs_reset(&mut self) {
        self.status |= status::NEEDS_RESET;
        self.interrupt.changed();
    }

    fn features(&self) -> u64 {
        self.device.features() | VERSION_1 | INDIRECT
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = usize::try_from(self.queue).ok().and_then(|queue| self.queues.get(queue));
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.device.kind(),
            0x00c => VENDOR,
            0x010 => half(self.features(), self.offered_half),
            0x034 => queue.map_or(0, |queue| u32::from(queue.max_size())),
            0x044 => queue.map_or(0, |queue| u32::from(queue.ready())),
            0x060 => self.interrupt.why(),
            0x070 => self.status,
            // There is no shared memory.
            0x0b0..0x0c0 => u32::MAX,
            _ => 0,
        }
    }

    fn set(&mut self, offset: u64, value: u32) {
        match offset {
            0x014 => self.offered_half = value,
            0x020 if self.status & status::FEATURES_OK == 0 => {
                let shift = self.taken_half.saturating_mul(32);
                let low = u64::from(u32::MAX).checked_shl(shift).unwrap_or(0);
                self.taken = (self.taken & !low) | u64::from(value).checked_shl(shift).unwrap_or(0);
            }
            0x024 => self.taken_half = value,
            0x030 => self.queue = value,
            NOTIFY => {
                let notify = usize::try_from(value).ok().and_then(|queue| self.notify.get(queue));
                // A full counter is a notification that is pending already.
                let _ = notify.map(|notify| notify.write(1));
            }
            0x064 => self.interrupt.acknowledge(value),
            0x070 => self.set_status(value),
            // A queue that the device has is not moved.
            0x038..0x0a8 if self.rings.is_empty() => self.set_queue(offset, value),
            _ => {}
        }
    }

    fn set_queue(&mut self, offset: u64, value: u32) {
        let queue = usize::try_from(self.queue).ok().and_then(|queue| self.queues.get_mut(queue));
        let Some(queue) = queue else { return };
        match offset {
            0x038 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x044 => queue.set_ready(value == 1),
            0x080 => queue.set_desc_table_address(Some(value), None),
            0x084 => queue.set_desc_table_address(None, Some(value)),
            0x090 => queue.set_avail_ring_address(Some(value), None),
            0x094 => queue.set_avail_ring_address(None, Some(value)),
            0x0a0 => queue.set_used_ring_address(Some(value), None),
            0x0a4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.end();
            self.queues.iter_mut().for_each(Queue::reset);
            self.interrupt.reset();
            (self.status, self.taken, self.queue) = (0, 0, 0);
            (self.offered_half, self.taken_half) = (0, 0);
            return;
        }
        // No bit is taken back but by a reset.
        let new = (value | self.status) & !status::NEEDS_RESET | self.status & status::NEEDS_RESET;
        let is_asked = |bit: u32| new & bit != 0 && self.status & bit == 0;
        let (features, begins) = (is_asked(status::FEATURES_OK), is_asked(status::DRIVER_OK));
        self.status = new;
        let knows_all = self.taken & !self.features() == 0 && self.taken & VERSION_1 != 0;
        if features && !knows_all {
            // The driver reads it again, and sees that it cannot go on.
            self.status &= !status::FEATURES_OK;
        }
        if begins && self.rings.is_empty() && self.begin().is_none() {
            self.needs_reset();
        }
    }

    /// Has the device begin; `None` when something of what the driver set up makes no sense.
    fn begin(&mut self) -> Option<()> {
        if self.status & status::FEATURES_OK == 0 {
            return None;
        }
        let mut rings = Vec::new();
        for (queue, notify) in self.queues.iter().zip(&self.notify) {
            let queue = Queue::try_from(queue.state()).ok()?;
            let (interrupt, notify) = (Arc::clone(&self.interrupt), notify.try_clone().ok()?);
            let ring = Ring::new(queue, self.memory.clone(), interrupt, notify);
            rings.push(Arc::new(ring));
        }
        if !rings.iter().all(|ring| ring.is_sound()) {
            return None;
        }
        self.rings.clone_from(&rings);
        self.device.begin(rings, self.taken).ok()
    }
}

fn half(features: u64, which: u32) -> u32 {
    let shifted = features.checked_shr(which.saturating_mul(32)).unwrap_or(0);
    u32::try_from(shifted & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::entropy::Entropy;
    use super::super::testing::{DATA, Driver, event, get, initialise, set};
    use super::*;
    use proptest::prelude::*;

    fn entropy(driver: &Driver) -> Transport {
        let device = Box::<Entropy>::default();
        Transport::new(device, driver.memory.clone(), event(), vec![event()]).unwrap()
    }

    #[test]
    fn a_driver_finds_a_device_and_uses_it_again_and_again() {
        let mut driver = Driver::default();
        let mut transport = entropy(&driver);
        let known = [0x00, 0x04, 0x08, 0x34, 0x70].map(|register| get(&transport, register));
        assert_eq!(known, [0x7472_6976, 2, 4, 16, 0]);
        for round in 0..3 {
            let offered = [0, 1].map(|half| {
                set(&mut transport, 0x14, half);
                get(&transport, 0x10)
            });
            assert_eq!(offered, [1 << 28, 1]);
            assert_eq!(initialise(&mut transport, VERSION_1 | INDIRECT), 15, "round {round}");
            driver.put(DATA, &[0; 64]);
            driver.ask(0, &[(DATA, 64, true)]);
            set(&mut transport, 0x50, 0);
            assert_eq!(driver.wait(1), [(0, 64)]);
            assert_ne!(driver.get(DATA, 64), [0; 64]);
            assert_eq!(get(&transport, 0x60), 1);
            set(&mut transport, 0x64, 1);
            assert_eq!(get(&transport, 0x60), 0);
            set(&mut transport, 0x70, 0);
            assert_eq!(get(&transport, 0x70), 0);
            driver.restart();
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_begun() {
        let driver = Driver::default();
        let mut transport = entropy(&driver);
        assert_eq!(initialise(&mut transport, VERSION_1 | 1 << 40) & status::FEATURES_OK, 0, "not offered");
        assert_eq!(initialise(&mut transport, 0) & status::FEATURES_OK, 0, "nothing older is spoken");
        for (register, value) in [(0x44, 0), (0x84, 1), (0xa0, 0xffff_fffc)] {
            let mut transport = entropy(&driver);
            [0, 1, 3].into_iter().for_each(|status| set(&mut transport, 0x70, status));
            set(&mut transport, 0x24, 1);
            set(&mut transport, 0x20, 1);
            set(&mut transport, 0x70, 11);
            set(&mut transport, 0x44, 1);
            set(&mut transport, register, value);
            set(&mut transport, 0x70, 15);
            assert_eq!(get(&transport, 0x70), 15 | status::NEEDS_RESET, "{register:#x}");
            assert_eq!(get(&transport, 0x60), 2, "its state has changed");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

        /// Whatever a guest writes and reads where, and however long: no panic, and a reset is a reset.
        #[test]
        fn any_access_is_answered(accesses in proptest::collection::vec(
            (0_u64..0x1000, proptest::collection::vec(any::<u8>(), 0..9), any::<bool>()), 1..64,
        )) {
            let driver = Driver::default();
            let mut transport = entropy(&driver);
            for (offset, mut bytes, is_write) in accesses {
                match is_write {
                    true => transport.write(offset & !3, &bytes),
                    false => transport.read(offset, &mut bytes),
                }
            }
            set(&mut transport, 0x70, 0);
            prop_assert_eq!(get(&transport, 0x70), 0);
            prop_assert_eq!(initialise(&mut transport, VERSION_1), 15);
        }
    }
}
