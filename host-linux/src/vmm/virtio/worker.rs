//! The thread of a device: looks at its rings when it is told to, until it is stopped.

use super::ring::Ring;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

const STACK: usize = 128 << 10;

/// What a thread does that has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits until a ring is notified.
    Wait,
    /// It looks again after this time, or when a ring is notified.
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
        look: impl FnMut() -> Next + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(name, vec![ring], None, look)
    }

    /// Calls `look`, and again whenever one of `rings` is notified, or something new can be read from
    /// `outside`. `look` owns that; what it leaves there it is not told of again.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file descriptor for it.
    pub fn start_with(
        name: &str,
        rings: Vec<Arc<Ring>>,
        outside: Option<BorrowedFd<'_>>,
        mut look: impl FnMut() -> Next + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let epoll = Epoll::new()?;
        let add = |fd, events, kind| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, kind));
        add(stop.as_raw_fd(), EventSet::IN, STOP)?;
        for ring in &rings {
            add(ring.notify.as_raw_fd(), EventSet::IN, LOOK)?;
        }
        if let Some(outside) = outside {
            // Else what nobody has room for would wake the thread for ever, and what is broken, too.
            add(outside.as_raw_fd(), EventSet::IN | EventSet::EDGE_TRIGGERED, LOOK)?;
        }
        // What was asked before it was there has notified nobody.
        let work = move || while wait(&epoll, &rings, look()) {};
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

/// What is ready: it is to stop, or to look.
const STOP: u64 = 0;
const LOOK: u64 = 1;
/// As many as are reported at once; the rest is, at the next time.
const EVENTS: usize = 4;

/// Waits until there is something to look at; `false`: it is to stop.
fn wait(epoll: &Epoll, rings: &[Arc<Ring>], next: Next) -> bool {
    let millis = match next {
        Next::Wait => -1,
        Next::Within(time) => i32::try_from(time.as_millis()).unwrap_or(i32::MAX),
        Next::End => return false,
    };
    let mut events = [EpollEvent::default(); EVENTS];
    match epoll.wait(millis, &mut events) {
        Ok(count) => {
            for ring in rings {
                let _ = ring.notify.read();
            }
            events.iter().take(count).all(|event| event.data() != STOP)
        }
        Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
    }
}
