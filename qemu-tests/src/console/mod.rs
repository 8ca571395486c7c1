//! What a machine prints, line by line with the time, and waits for lines with a bound.
//!
//! A console outlives the machine's power: it is one record from the first power-on to the end of
//! the test. Waits go forward: each begins behind what the last one found. The whole text is in
//! `<name>.log` (one line with its time per line) and `<name>.raw` (the bytes as they came).

mod error;
mod line;
mod pattern;
mod record;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use error::{WaitCause, WaitError};
pub use pattern::Pattern;
pub use record::Line;
use record::Record;

/// Lines shown in the error of a wait that failed.
pub const LINES_SHOWN: usize = 30;

/// A console. Cloning gives another handle of the same one, with the same place in it.
#[derive(Clone, Debug)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    record: Record,
    /// The power-on the writer belongs to; a late reader of an earlier one changes nothing.
    session: u64,
    /// `None` while the machine is off.
    writer: Option<UnixStream>,
}

impl Console {
    /// A console that keeps its files in `directory` and measures times from now.
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let record = Record::new(directory, name)
            .with_context(|| format!("making the console's files in {}", directory.display()))?;
        let state = State { record, session: 0, writer: None };
        let shared = Shared { name: name.to_owned(), state: Mutex::new(state), changed: Condvar::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads from `stream` until its end, in a thread of its own.
    ///
    /// # Errors
    /// When the stream cannot be duplicated.
    pub fn attach(&self, stream: UnixStream) -> Result<()> {
        let writer = stream.try_clone()?;
        let session = {
            let mut state = self.shared.lock();
            state.session += 1;
            state.writer = Some(writer);
            state.session
        };
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || shared.read(stream, session));
        Ok(())
    }

    /// Waits for the next line with `pattern`.
    ///
    /// # Errors
    /// When it does not come in time, or cannot come because the machine is off.
    pub fn wait_for(&self, pattern: impl Into<Pattern>, timeout: Duration) -> Result<Line, WaitError> {
        self.wait_for_any(&[pattern.into()], timeout).map(|(_, line)| line)
    }

    /// Waits for the next line with any of `patterns`; gives the index of the first that fits.
    ///
    /// # Errors
    /// As [`Console::wait_for`].
    pub fn wait_for_any(&self, patterns: &[Pattern], timeout: Duration) -> Result<(usize, Line), WaitError> {
        let begin = Instant::now();
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = state.record.find(patterns) {
                return Ok(found);
            }
            let waited = begin.elapsed();
            let cause = match (state.writer.is_none(), waited >= timeout) {
                (true, _) => Some(WaitCause::Closed),
                (false, true) => Some(WaitCause::TimedOut),
                (false, false) => None,
            };
            if let Some(cause) = cause {
                return Err(self.error(&state, patterns, cause, waited));
            }
            state = self.shared.wait(state, timeout.saturating_sub(waited));
        }
    }

    /// Waits for `wanted`, and fails at once when one of `unwanted` comes before it: a kernel panic
    /// need not cost the whole timeout.
    ///
    /// # Errors
    /// As [`Console::wait_for`], and when an unwanted line comes first.
    pub fn wait_unless(
        &self,
        wanted: impl Into<Pattern>,
        unwanted: &[Pattern],
        timeout: Duration,
    ) -> Result<Line, WaitError> {
        let begin = Instant::now();
        let mut patterns = vec![wanted.into()];
        patterns.extend_from_slice(unwanted);
        let (index, line) = self.wait_for_any(&patterns, timeout)?;
        match index.checked_sub(1).and_then(|index| unwanted.get(index)) {
            None => Ok(line),
            Some(pattern) => {
                let unwanted = std::slice::from_ref(pattern);
                Err(self.error(&self.shared.lock(), unwanted, WaitCause::Unwanted, begin.elapsed()))
            }
        }
    }

    /// Watches for `time` and fails if a line with `pattern` comes. Machines that are off pass.
    ///
    /// # Errors
    /// When the line comes.
    pub fn wait_without(&self, pattern: impl Into<Pattern>, time: Duration) -> Result<(), WaitError> {
        let (begin, pattern) = (Instant::now(), [pattern.into()]);
        match self.wait_for_any(&pattern, time) {
            Ok(_) => Err(self.error(&self.shared.lock(), &pattern, WaitCause::Unwanted, begin.elapsed())),
            Err(_) => Ok(()),
        }
    }

    /// Types `text`.
    ///
    /// # Errors
    /// When the machine is off, or does not read for ten seconds.
    pub fn send(&self, text: &str) -> Result<()> {
        let writer = self.shared.lock().writer.as_ref().map(UnixStream::try_clone);
        let mut writer =
            writer.with_context(|| format!("typing at {}, which is off", self.shared.name))??;
        writer.set_write_timeout(Some(Duration::from_secs(10)))?;
        writer.write_all(text.as_bytes()).with_context(|| format!("typing at {}", self.shared.name))
    }

    /// Types `text` and Enter.
    ///
    /// # Errors
    /// As [`Console::send`].
    pub fn send_line(&self, text: &str) -> Result<()> {
        self.send(&format!("{text}\r"))
    }

    /// The lines in memory, oldest first: the whole record, except in very long tests.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lock().record.lines().cloned().collect()
    }

    /// The lines that fit `pattern`, waited for or not.
    pub fn matching(&self, pattern: impl Into<Pattern>) -> Vec<Line> {
        let pattern = pattern.into();
        self.lines().into_iter().filter(|line| pattern.find(&line.text).is_some()).collect()
    }

    /// The next wait begins with what comes from now on.
    pub fn skip(&self) {
        self.shared.lock().record.skip();
    }

    /// Waits until all that a machine printed before its power went off is in the record, and skips it:
    /// the next wait begins with the next power-on.
    ///
    /// # Errors
    /// When the machine is still on after `timeout`.
    pub fn skip_to_end(&self, timeout: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut state = self.shared.lock();
        while state.writer.is_some() {
            let waited = begin.elapsed();
            if waited >= timeout {
                bail!("{} is still on after {:.1} s", self.shared.name, timeout.as_secs_f64());
            }
            state = self.shared.wait(state, timeout.saturating_sub(waited));
        }
        state.record.skip();
        Ok(())
    }

    /// The next wait begins at the beginning.
    pub fn rewind(&self) {
        self.shared.lock().record.rewind();
    }

    /// The last `count` lines, as shown in errors.
    pub fn tail(&self, count: usize) -> String {
        self.shared.lock().record.tail(count)
    }

    fn error(&self, state: &State, patterns: &[Pattern], cause: WaitCause, waited: Duration) -> WaitError {
        let wanted = patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        let tail = state.record.tail(LINES_SHOWN);
        WaitError { console: self.shared.name.clone(), wanted, cause, waited, tail }
    }
}

impl Shared {
    /// A panic of another test thread while it held the lock left the record whole: each change of it
    /// is a single call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn read(&self, mut stream: UnixStream, session: u64) {
        let mut buffer = [0; 4096];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // A killed QEMU resets the connection: the same end as a closed one.
                Err(_) => 0,
            };
            let mut state = self.lock();
            state.record.take(buffer.get(..count).unwrap_or_default());
            if count == 0 && state.session == session {
                state.record.end_line();
                state.writer = None;
            }
            drop(state);
            self.changed.notify_all();
            if count == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(10);

    fn console() -> (tempfile::TempDir, Console, UnixStream) {
        let place = tempfile::tempdir().unwrap();
        let console = Console::new(place.path(), "serial").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        console.attach(ours).unwrap();
        (place, console, theirs)
    }

    #[test]
    fn waits_go_forward_and_see_whole_lines() {
        let (_place, console, mut machine) = console();
        machine.write_all(b"one\r\nBOOT slot=a\r\nBOOT sl").unwrap();
        assert_eq!(console.wait_for("BOOT", LONG).unwrap().text, "BOOT slot=a");
        assert!(console.wait_for("BOOT", SOON).is_err(), "half a line is not a line");
        machine.write_all(b"ot=b\r\n").unwrap();
        assert_eq!(console.wait_for("BOOT", LONG).unwrap().text, "BOOT slot=b");
        console.rewind();
        assert_eq!(console.wait_for("BOOT", LONG).unwrap().text, "BOOT slot=a");
    }

    #[test]
    fn a_prompt_is_found_without_a_line_end_and_typing_works() {
        let (_place, console, mut machine) = console();
        machine.write_all(b"\x1b[2J\x1b[01;01H\x1b[0m\x1b[37mrescue> ").unwrap();
        console.wait_for(Pattern::prompt("> "), LONG).unwrap();
        assert!(console.wait_for(Pattern::prompt("> "), SOON).is_err(), "the same prompt twice");
        console.send_line("state").unwrap();
        let mut typed = [0; 6];
        machine.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"state\r");
    }

    #[test]
    fn errors_show_what_was_wanted_and_the_last_thirty_lines() {
        let (_place, console, mut machine) = console();
        for number in 0..50 {
            writeln!(machine, "line {number:02}.").unwrap();
        }
        console.wait_for("line 49.", LONG).unwrap();
        let error = console.wait_for(Pattern::parts(["a", "b"]), SOON).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.cause(), WaitCause::TimedOut);
        assert!(text.contains("`a`…`b` within 0.1 s") || text.contains("`a`…`b` within 0.0 s"), "{text}");
        assert!(
            !text.contains("line 19.") && text.contains("line 20.") && text.contains("line 49."),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_goes_off_ends_the_wait_and_a_new_one_goes_on() {
        let (place, console, machine) = console();
        assert!(console.skip_to_end(SOON).is_err(), "it is still on");
        drop(machine);
        console.skip_to_end(LONG).unwrap();
        assert_eq!(console.wait_for("never", LONG).unwrap_err().cause(), WaitCause::Closed);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        console.attach(ours).unwrap();
        theirs.write_all(b"panic: no\nafter\n").unwrap();
        let error = console.wait_unless("after", &["panic".into()], LONG).unwrap_err();
        assert_eq!(error.cause(), WaitCause::Unwanted);
        console.wait_for("after", LONG).unwrap();
        assert!(std::fs::read_to_string(place.path().join("serial.log")).unwrap().contains("after"));
        assert_eq!(std::fs::read(place.path().join("serial.raw")).unwrap(), b"panic: no\nafter\n");
    }
}
