//! Where a guest's console goes: a guest never waits for whoever reads it.

use std::collections::VecDeque;
use std::io::{Result, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that wait to be read; what a guest says beyond them is lost.
const WAITING_MAX: usize = 64 << 10;
/// How long the end of a guest waits for its last words to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A console. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Console(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<u8>,
    /// They are being written.
    is_writing: bool,
}

impl Console {
    /// One that goes to `out`, by a thread of its own.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn to(mut out: impl Write + Send + 'static) -> Result<Self> {
        let console = Self::default();
        let own = console.clone();
        let work = move || {
            loop {
                let bytes = own.next();
                // Nobody may be there to read it.
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
                own.lock().is_writing = false;
                own.0.changed.notify_all();
            }
        };
        std::thread::Builder::new().name("console-out".into()).stack_size(64 << 10).spawn(work)?;
        Ok(console)
    }

    /// Waits until all that was said is read, for a moment.
    pub fn drain(&self) {
        let is_left = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(self.lock(), LAST_WORDS, is_left);
        drop(waited);
    }

    /// What was said; waits for it.
    fn next(&self) -> Vec<u8> {
        let is_quiet = |state: &mut State| state.waiting.is_empty();
        let waited = self.0.changed.wait_while(self.lock(), is_quiet);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        state.waiting.drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut state = self.lock();
        let room = WAITING_MAX.saturating_sub(state.waiting.len());
        state.waiting.extend(bytes.iter().take(room));
        drop(state);
        self.0.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// V16: whoever does not read costs a bounded amount, and the guest no time.
    #[test]
    fn a_reader_that_sleeps_holds_nobody_up() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut console = Console::to(writer).unwrap();
        let begun = std::time::Instant::now();
        for number in 0..40_000 {
            writeln!(console, "{number:08}").unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing is waited for");
        assert!(console.lock().waiting.len() <= WAITING_MAX);
        let mut first = [0; 9];
        reader.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"00000000\n");
        let rest = std::thread::spawn(move || {
            let mut rest = vec![0; WAITING_MAX];
            reader.read_exact(&mut rest).unwrap();
        });
        rest.join().unwrap();
    }

    #[test]
    fn last_words_are_waited_for() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut console = Console::to(writer).unwrap();
        console.write_all(b"off").unwrap();
        console.drain();
        let mut said = [0; 3];
        reader.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"off");
    }
}
