//! Chance for a guest (virtio 1.3, 5.4): from the system's, in pieces of bounded size.

use super::Device;
use super::ring::Ring;
use super::worker::{Next, Worker};
use std::sync::Arc;

/// Its number.
const KIND: u32 = 4;
const QUEUE: u16 = 16;
/// A driver that wants more asks again.
const BYTES_MAX: u64 = 4096;

/// Chance.
#[derive(Debug, Default)]
pub struct Entropy {
    /// Once a driver is ready.
    ring: Option<Arc<Ring>>,
    worker: Option<Worker>,
}

impl Device for Entropy {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn begin(&mut self, rings: Vec<Arc<Ring>>, _: u64) -> std::io::Result<()> {
        self.ring = rings.into_iter().next();
        self.resume()
    }

    fn end(&mut self) {
        (self.ring, self.worker) = (None, None);
    }

    fn pause(&mut self) {
        self.worker = None;
    }

    fn resume(&mut self) -> std::io::Result<()> {
        let Some(ring) = self.ring.clone() else { return Ok(()) };
        self.worker = Some(Worker::start("vmm-entropy", Arc::clone(&ring), move || fill(&ring))?);
        Ok(())
    }
}

/// Answers all that is asked.
fn fill(ring: &Ring) -> Next {
    let Ok(chains) = ring.take() else { return Next::End };
    for chain in chains {
        let (_, room) = chain.lengths();
        let mut bytes = vec![0; usize::try_from(room.min(BYTES_MAX)).unwrap_or(0)];
        let is_written = getrandom::fill(&mut bytes).is_ok() && ring.write(&chain, 0, &bytes);
        ring.done(&chain, if is_written { room.min(BYTES_MAX) } else { 0 });
    }
    Next::Wait
}
