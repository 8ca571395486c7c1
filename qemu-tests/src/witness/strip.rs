//! A power strip on the second serial line of a board in QEMU: it speaks docs/power-strip.md, and its outlets
//! really switch what hangs on them (V20, F28).
//!
//! ```no_run
//! use qemu_tests::witness::strip::{Load, Manner, Strip};
//! struct Lamp(bool);
//! impl Load for Lamp {
//!     fn switch(&mut self, on: bool) -> anyhow::Result<()> {
//!         self.0 = on;
//!         Ok(())
//!     }
//!     fn has_power(&mut self) -> anyhow::Result<bool> {
//!         Ok(self.0)
//!     }
//! }
//! let strip = Strip::start("/tmp/strip.sock".as_ref(), vec![Box::new(Lamp(true))]).unwrap();
//! // Parts { strip: Some(strip.socket().into()), .. }
//! strip.behave(Manner::Lies);
//! ```

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_core::fence::desk::Act;
use bulkhead_core::fence::strip::words::{Answer, Ear, Found, Request};

/// How long the thread sleeps when nothing comes.
const POLL: Duration = Duration::from_millis(5);

/// What hangs on an outlet. It is switched and measured in the strip's own thread.
pub trait Load: Send {
    /// Gives it power, or takes it away; harmless when it is so already.
    ///
    /// # Errors
    /// When that cannot be done: the strip answers that it failed.
    fn switch(&mut self, on: bool) -> Result<()>;

    /// Whether it has power now: measured, not remembered.
    ///
    /// # Errors
    /// When that cannot be told: the strip answers that it failed.
    fn has_power(&mut self) -> Result<bool>;
}

/// How the strip behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    #[default]
    Honest,
    /// It does nothing, and says nothing.
    Silent,
    /// It says that it switched and does not; what it measures is true.
    Lies,
    /// It does what it is asked for, and one bit of each answer is wrong.
    Garbles,
    /// It does what it is asked for, after that time.
    Slow(Duration),
}

/// A request that came, and when.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// Which.
    pub request: Request,
}

#[derive(Debug, Default)]
struct Shared {
    manner: Mutex<Manner>,
    heard: Mutex<Vec<Heard>>,
    stop: AtomicBool,
}

/// A power strip. Dropping it ends it; what hangs on it keeps the power it has.
#[derive(Debug)]
pub struct Strip {
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Strip {
    /// Waits at `socket` for a board, and for the next one when that is gone. Outlet 1 is the first of
    /// `loads`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(socket: &Path, loads: Vec<Box<dyn Load>>) -> Result<Self> {
        let _ = std::fs::remove_file(socket);
        let listener =
            UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("power strip".into());
        let thread = Some(thread.spawn(move || serve(&listener, loads, &theirs))?);
        Ok(Self { socket: socket.to_owned(), shared, thread })
    }

    /// Where a board finds it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has it behave so from now on.
    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// All requests so far, repetitions included.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, mut loads: Vec<Box<dyn Load>>, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A board that went away is followed by the next one.
            Ok((stream, _)) => drop(converse(stream, &mut loads, shared)),
            Err(_) => thread::sleep(POLL),
        }
    }
}

fn converse(mut stream: UnixStream, loads: &mut [Box<dyn Load>], shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(POLL))?;
    let (mut ear, mut buffer) = (Ear::new(), [0; 64]);
    while !shared.stop.load(Ordering::Relaxed) {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error.into()),
        };
        for byte in buffer.iter().take(count) {
            let Some(Ok(request)) = ear.hear(*byte).map(|line| Request::parse(&line)) else { continue };
            if let Some(answer) = answer(request, loads, shared) {
                stream.write_all(&answer)?;
            }
        }
    }
    Ok(())
}

/// Does what is asked for, and says what is to be sent.
fn answer(request: Request, loads: &mut [Box<dyn Load>], shared: &Shared) -> Option<Vec<u8>> {
    let manner = *shared.manner.lock().unwrap_or_else(PoisonError::into_inner);
    let heard = Heard { at: Instant::now(), request };
    shared.heard.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    if let Manner::Slow(time) = manner {
        thread::sleep(time);
    }
    let place = usize::from(request.outlet.get()).checked_sub(1);
    let done = match (place.and_then(|place| loads.get_mut(place)), request.act) {
        (_, _) if manner == Manner::Silent => return None,
        (None, Act::Off | Act::On | Act::Read) => Ok(Found::Failed),
        (Some(_), Act::Off | Act::On) if manner == Manner::Lies => Ok(Found::Switched),
        (Some(load), act @ (Act::Off | Act::On)) => load.switch(act == Act::On).map(|()| Found::Switched),
        (Some(load), Act::Read) => load.has_power().map(|on| if on { Found::On } else { Found::Off }),
    };
    let mut answer = Answer { to: request, found: done.unwrap_or(Found::Failed) }.encode();
    if manner == Manner::Garbles {
        // Another number, another result, or another checksum, in turn.
        let bit = usize::try_from(request.id.0).unwrap_or_default() % (answer.len() * 8);
        if let Some(byte) = answer.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
    Some(answer.to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::num::NonZeroU8;

    use bulkhead_core::fence::strip::words::{Malformed, RequestId};

    use super::*;

    struct Lamp(Arc<AtomicBool>);

    impl Load for Lamp {
        fn switch(&mut self, on: bool) -> Result<()> {
            self.0.store(on, Ordering::Relaxed);
            Ok(())
        }

        fn has_power(&mut self) -> Result<bool> {
            Ok(self.0.load(Ordering::Relaxed))
        }
    }

    /// Each manner is what its name says, seen from the other end of the line.
    #[test]
    fn it_switches_measures_and_misbehaves_as_told() {
        let directory = tempfile::tempdir().unwrap();
        let lamp = Arc::new(AtomicBool::new(true));
        let strip = Strip::start(&directory.path().join("s"), vec![Box::new(Lamp(lamp.clone()))]).unwrap();
        let mut line = BufReader::new(UnixStream::connect(strip.socket()).unwrap());
        line.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut id = 0;
        let mut ask = |outlet, act| -> Option<Result<Found, Malformed>> {
            id += 1;
            let request = Request { id: RequestId(id), outlet: NonZeroU8::new(outlet).unwrap(), act };
            line.get_mut().write_all(&request.encode()).unwrap();
            let mut answer = Vec::new();
            line.read_until(b'\n', &mut answer).ok()?;
            Some(Answer::parse(&answer).map(|answer| {
                assert_eq!(answer.to, request);
                answer.found
            }))
        };
        assert_eq!(ask(1, Act::Off), Some(Ok(Found::Switched)));
        assert_eq!((ask(1, Act::Read), lamp.load(Ordering::Relaxed)), (Some(Ok(Found::Off)), false));
        assert_eq!(ask(2, Act::Read), Some(Ok(Found::Failed)), "no such outlet");
        strip.behave(Manner::Lies);
        assert_eq!((ask(1, Act::On), ask(1, Act::Read)), (Some(Ok(Found::Switched)), Some(Ok(Found::Off))));
        strip.behave(Manner::Garbles);
        assert_eq!((ask(1, Act::On), lamp.load(Ordering::Relaxed)), (Some(Err(Malformed::Damaged)), true));
        strip.behave(Manner::Slow(Duration::from_millis(50)));
        assert_eq!(ask(1, Act::Read), Some(Ok(Found::On)));
        strip.behave(Manner::Silent);
        assert_eq!((ask(1, Act::Off), lamp.load(Ordering::Relaxed)), (None, true));
        assert_eq!(strip.heard().len(), 8);
    }
}
