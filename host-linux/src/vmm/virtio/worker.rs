//! The thread of a device: looks at a ring when it is told to, until it is stopped.

use super::ring::Ring;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

const STACK: usize = 128 << 10;

/// What a thread does that has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits until the ring is notified.
    Wait,
    /// It looks again after this time, or when the ring is notified.
    Within(Duration),
    /// It ends: the driver has written nonsense.
    End,
}

/// A thread that ends when it is dropped.
#[derive(Debug)]
pub struct Worker {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Calls `look`, and again whenever `ring` is notified.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file descriptor for it.
    pub fn start(
        name: &str,
        ring: Arc<Ring>,
        mut look: impl FnMut() -> Next + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let epoll = Epoll::new()?;
        for (number, fd) in (STOP..).zip([stop.as_raw_fd(), ring.notify.as_raw_fd()]) {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, number))?;
        }
        // What was asked before it was there has notified nobody.
        let work = move || while wait(&epoll, &ring, look()) {};
        let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Which of the two is ready.
const STOP: u64 = 0;

/// Waits until there is something to look at; `false`: it is to stop.
fn wait(epoll: &Epoll, ring: &Ring, next: Next) -> bool {
    let millis = match next {
        Next::Wait => -1,
        Next::Within(time) => i32::try_from(time.as_millis()).unwrap_or(i32::MAX),
        Next::End => return false,
    };
    let mut events = [EpollEvent::default(); 2];
    match epoll.wait(millis, &mut events) {
        Ok(count) => {
            let _ = ring.notify.read();
            events.iter().take(count).all(|event| event.data() != STOP)
        }
        Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
    }
}
