//! Commands that end: each has a timeout, its own process group, and an error that says what it printed.
//!
//! Nothing is left behind. The group is killed on timeout and on drop; and because a test that is
//! itself killed runs no destructor, the kernel kills the command when this process ends.

mod owned;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use owned::Owned;

/// Output kept of each stream of a command; what follows is read, counted and dropped.
const OUTPUT_MAX: u64 = 16 * 1024 * 1024;

/// A command to run.
///
/// ```
/// use std::time::Duration;
/// use qemu_tests::process::Run;
/// let output = Run::new("echo").arg("hello").timeout(Duration::from_secs(5)).succeed().unwrap();
/// assert_eq!(output.stdout_text(), "hello\n");
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    input: Vec<u8>,
    timeout: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    /// The command as one line, for messages.
    pub command: String,
    /// The exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output, at most 16 MiB.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, at most 16 MiB.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub took: Duration,
}

impl Run {
    /// A command without arguments, without input, with a timeout of one minute.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            input: Vec::new(),
            timeout: Duration::from_secs(60),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Gives `bytes` on standard input.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Kills the command and fails when it runs longer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs to the end, whatever the exit code.
    ///
    /// # Errors
    /// When the command cannot be started, or runs into its timeout.
    pub fn output(&self) -> Result<Output> {
        let line = self.line();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let started = Instant::now();
        let mut child = Owned::start(&command, [Stdio::piped(), Stdio::piped(), Stdio::piped()])
            .with_context(|| format!("`{line}` could not be started"))?;
        self.feed(&mut child);
        let stdout = collect(child.stdout());
        let stderr = collect(child.stderr());
        let status = child.wait(self.timeout)?;
        // The group is gone, daemons that the command left included, so both pipes are closed.
        child.kill();
        let (stdout, stderr) = (finish(stdout), finish(stderr));
        let took = started.elapsed();
        let Some(status) = status else {
            bail!(
                "`{line}` did not end within {:.1} s and was killed.\n{}",
                self.timeout.as_secs_f64(),
                both(&stdout, &stderr)
            );
        };
        Ok(Output { command: line, status, stdout, stderr, took })
    }

    /// Runs to the end; any exit code but 0 is an error.
    ///
    /// # Errors
    /// As [`Run::output`], and when the command fails.
    pub fn succeed(&self) -> Result<Output> {
        self.exit(0)
    }

    /// Runs to the end; any exit code but `code` is an error.
    ///
    /// # Errors
    /// As [`Run::output`], and when the command ends otherwise.
    pub fn exit(&self, code: i32) -> Result<Output> {
        let output = self.output()?;
        if output.status.code() != Some(code) {
            bail!(
                "`{}` ended with {}, not with exit code {code}.\n{}",
                output.command,
                output.status,
                both(&output.stdout, &output.stderr)
            );
        }
        Ok(output)
    }

    fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Writes the input from a thread of its own: a command that reads late must not block us.
    fn feed(&self, child: &mut Owned) {
        if let Some(mut stdin) = child.stdin()
            && !self.input.is_empty()
        {
            let input = self.input.clone();
            // A command that ends without reading its input closes the pipe: its own decision.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
    }
}

impl Output {
    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Where `PATH` has `program`.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file())
}

/// One word of a shell command, quoted where needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Reads a pipe to its end in a thread, keeping the first [`OUTPUT_MAX`] bytes.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Option<thread::JoinHandle<Vec<u8>>> {
    let mut pipe = pipe?;
    Some(thread::spawn(move || {
        let mut kept = Vec::new();
        // A read error ends the output early; the exit status still tells how the command ended.
        let _ = pipe.by_ref().take(OUTPUT_MAX).read_to_end(&mut kept);
        let dropped = std::io::copy(&mut pipe, &mut std::io::sink()).unwrap_or(0);
        if dropped > 0 {
            kept.extend_from_slice(format!("\n[{dropped} bytes more, dropped]\n").as_bytes());
        }
        kept
    }))
}

fn finish(reader: Option<thread::JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}

fn both(stdout: &[u8], stderr: &[u8]) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    format!("  stdout: {}\n  stderr: {}", text(stdout), text(stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_kills_the_grandchildren_and_shows_what_was_printed() {
        let mark = format!("{}.5", 100_000 + std::process::id());
        let script = format!("echo began; sleep {mark} & sleep {mark}");
        let error = Run::new("sh").args(["-c", &script]).timeout(Duration::from_millis(300)).output();
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("did not end within 0.3 s") && text.contains("began"), "{text}");
        let listing = Run::new("ps").args(["-eo", "args"]).succeed().unwrap().stdout_text();
        assert!(!listing.lines().any(|line| line == format!("sleep {mark}")), "left behind:\n{listing}");
    }

    #[test]
    fn another_exit_code_is_an_error_with_both_streams() {
        let run = Run::new("sh").args(["-c", "cat; echo no >&2; exit 3"]).input(b"given");
        assert!(run.exit(3).is_ok());
        let text = format!("{:#}", run.succeed().unwrap_err());
        assert!(text.contains("exit status: 3") && text.contains("given") && text.contains("no"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let text = format!("{:#}", Run::new("no-such-program-here").succeed().unwrap_err());
        assert!(text.contains("no-such-program-here"), "{text}");
    }
}
