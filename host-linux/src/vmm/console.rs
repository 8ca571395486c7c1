//! What a guest says on its console: the last of it is kept for whoever reads, and a guest never waits for
//! them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Result, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that are kept; a reader that is further behind misses what lies between.
pub const KEPT_MAX: usize = 64 << 10;
/// How long the end of a guest waits for its last words to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
const STACK: usize = 64 << 10;

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
    /// The last that was said: [`KEPT_MAX`] bytes at most.
    kept: VecDeque<u8>,
    /// Bytes that were ever said.
    said: u64,
    /// How many of them each reader has written.
    read: BTreeMap<u64, u64>,
    /// Readers there ever were.
    readers: u64,
}

/// One who reads a console, until this is dropped.
#[derive(Debug)]
pub struct Reader {
    console: Console,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.console.leave(self.number);
    }
}

impl Console {
    /// One that goes to `out` to its end.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn to(out: impl Write + Send + 'static) -> Result<Self> {
        let console = Self::default();
        console.copy(out)?;
        Ok(console)
    }

    /// Copies what is kept, and what is said from now on, to `out`, by a thread of its own.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn copy_to(&self, out: impl Write + Send + 'static) -> Result<Reader> {
        Ok(Reader { console: self.clone(), number: self.copy(out)? })
    }

    /// Waits until all that was said is read, for a moment.
    pub fn drain(&self) {
        let is_behind = |state: &mut State| state.read.values().any(|read| *read < state.said);
        let waited = self.0.changed.wait_timeout_while(self.lock(), LAST_WORDS, is_behind);
        drop(waited);
    }

    fn copy(&self, mut out: impl Write + Send + 'static) -> Result<u64> {
        let mut state = self.lock();
        let number = state.readers;
        state.readers = state.readers.saturating_add(1);
        state.read.insert(number, 0);
        drop(state);
        let own = self.clone();
        let work = move || {
            let mut read = 0;
            while let Some((bytes, said)) = own.next(number, read) {
                if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
                    break;
                }
                read = said;
                own.lock().read.entry(number).and_modify(|read| *read = said);
                own.0.changed.notify_all();
            }
            own.leave(number);
        };
        std::thread::Builder::new().name("console-out".into()).stack_size(STACK).spawn(work)?;
        Ok(number)
    }

    /// What follows the first `read` bytes that were said, as far as it is kept, and how many were said;
    /// waits for it. `None`: the reader has left.
    fn next(&self, number: u64, read: u64) -> Option<(Vec<u8>, u64)> {
        let is_quiet = |state: &mut State| state.said == read && state.read.contains_key(&number);
        let waited = self.0.changed.wait_while(self.lock(), is_quiet);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.read.contains_key(&number).then(|| {
            let new = usize::try_from(state.said.saturating_sub(read)).unwrap_or(usize::MAX);
            let skip = state.kept.len().saturating_sub(new);
            (state.kept.iter().skip(skip).copied().collect(), state.said)
        })
    }

    fn leave(&self, number: u64) {
        self.lock().read.remove(&number);
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut state = self.lock();
        state.kept.extend(bytes);
        let over = state.kept.len().saturating_sub(KEPT_MAX);
        state.kept.drain(..over);
        state.said = state.said.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
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

    /// V16: whoever does not read costs a bounded amount, and the guest no time; what he finds when he reads
    /// again is the last that was said.
    #[test]
    fn a_reader_that_sleeps_holds_nobody_up() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut console = Console::to(writer).unwrap();
        let begun = std::time::Instant::now();
        for number in 0..40_000 {
            writeln!(console, "{number:08}").unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing is waited for");
        assert!(console.lock().kept.len() <= KEPT_MAX);
        let mut said = Vec::new();
        while !said.ends_with(b"00039999\n") {
            let mut bytes = [0; 4096];
            let count = reader.read(&mut bytes).unwrap();
            assert_ne!(count, 0);
            said.extend(&bytes[..count]);
        }
        assert!(said.starts_with(b"00000000\n"));
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

    #[test]
    fn who_comes_later_reads_what_was_said_before_and_who_leaves_reads_nothing() {
        let mut console = Console::default();
        console.write_all(b"be").unwrap();
        let read = |bytes: usize| {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let copy = console.copy_to(writer).unwrap();
            let mut said = vec![0; bytes];
            reader.read_exact(&mut said).unwrap();
            (said, copy, reader)
        };
        let (first, copy, mut reader) = read(2);
        assert_eq!(first, b"be");
        drop(copy);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"", "its thread has ended");
        console.clone().write_all(b"gun").unwrap();
        assert_eq!(read(5).0, b"begun");
        assert!(console.lock().read.is_empty());
    }
}
