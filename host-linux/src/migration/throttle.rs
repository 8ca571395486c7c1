//! Slows a guest down: it is held for a part of each moment, so that it does not write faster than it can be
//! copied. Dropped, it runs as fast as it can.

use crate::vmm::gate::Hold;
use crate::vmm::machine::Machine;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A moment: short, so that it still answers; long beside what a hold costs.
const MOMENT: Duration = Duration::from_millis(40);
const STACK: usize = 64 << 10;

/// What slows a guest down.
#[derive(Debug)]
pub struct Throttle {
    /// How many hundredths of each moment it is held.
    tell: Option<Sender<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl Throttle {
    /// Does not slow it down yet.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn new(machine: Arc<Machine>) -> std::io::Result<Self> {
        let (tell, told) = channel::<u8>();
        let work = move || {
            let mut held = 0_u8;
            loop {
                let next = match held {
                    0 => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    held => {
                        let part = MOMENT.saturating_mul(u32::from(held)).checked_div(100).unwrap_or(MOMENT);
                        machine.hold(Hold::Throttle);
                        std::thread::sleep(part);
                        machine.release(Hold::Throttle);
                        told.recv_timeout(MOMENT.saturating_sub(part))
                    }
                };
                match next {
                    Ok(next) => held = next.min(99),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("throttle".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { tell: Some(tell), thread: Some(thread) })
    }

    /// It is held for so many hundredths of the time from now on.
    pub fn hold(&self, hundredths: u8) {
        // Its thread hears as long as this lives.
        let _ = self.tell.as_ref().map(|tell| tell.send(hundredths));
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.tell = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
