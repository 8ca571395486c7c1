//! Runs a health check as a process: in a process group of its own, with its output bounded, so
//! that neither it nor what it started can outlive or drown the agent.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Bytes of output kept; the rest is read and forgotten, so that the check never blocks on it.
const OUTPUT_MAX: usize = 4096;
/// How long the last words of a finished check are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Running,
    /// It exited with 0.
    Passed,
    /// It did not; why, with what it printed.
    Failed(String),
}

/// A check that was started.
pub struct Child {
    child: std::process::Child,
    output: mpsc::Receiver<Vec<u8>>,
}

impl Child {
    /// Starts `words`: a program and its arguments.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub fn start(words: &[String]) -> std::io::Result<Self> {
        Self::start_with(words, &[])
    }

    /// As [`Self::start`], with more variables in its environment.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_with(words: &[String], variables: &[(&str, String)]) -> std::io::Result<Self> {
        let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let (reader, writer) = std::io::pipe()?;
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .map_err(|error| std::io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let (send, output) = mpsc::channel();
        std::thread::spawn(move || {
            // The agent may have stopped waiting for the last words.
            let _ = send.send(read_bounded(reader));
        });
        Ok(Self { child, output })
    }

    /// What it says by now.
    pub fn poll(&mut self) -> Verdict {
        match self.child.try_wait() {
            Ok(None) => Verdict::Running,
            Ok(Some(status)) if status.success() => {
                self.kill_group();
                Verdict::Passed
            }
            Ok(Some(status)) => {
                self.kill_group();
                let how = match (status.code(), status.signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, Some(signal)) => format!("killed by signal {signal}"),
                    (None, None) => "ended".to_owned(),
                };
                let output = self.output.recv_timeout(LAST_WORDS).unwrap_or_default();
                let output = String::from_utf8_lossy(&output);
                let output = output.trim();
                Verdict::Failed(if output.is_empty() { how } else { format!("{how}: {output}") })
            }
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    /// Ends it and everything it started.
    pub fn kill(&mut self) {
        self.kill_group();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn kill_group(&self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn read_bounded(mut reader: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count) = reader.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let room = OUTPUT_MAX.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(script: &str) -> Verdict {
        let mut child = Child::start(&["/bin/sh".into(), "-c".into(), script.into()]).unwrap();
        for _ in 0..200 {
            match child.poll() {
                Verdict::Running => std::thread::sleep(Duration::from_millis(20)),
                done @ (Verdict::Passed | Verdict::Failed(_)) => return done,
            }
        }
        child.kill();
        Verdict::Running
    }

    #[test]
    fn a_check_says_whether_it_passed_and_why_not() {
        assert_eq!(verdict("exit 0"), Verdict::Passed);
        assert_eq!(verdict("echo no route; exit 3"), Verdict::Failed("exit code 3: no route".into()));
        assert_eq!(verdict("kill -9 $$"), Verdict::Failed("killed by signal 9".into()));
        assert!(Child::start(&["/no/such/program".into()]).is_err());
    }

    #[test]
    fn endless_output_neither_blocks_nor_grows() {
        let Verdict::Failed(why) = verdict("head -c 10000000 /dev/zero | tr '\\0' x; exit 1") else {
            panic!()
        };
        assert!(why.len() <= OUTPUT_MAX + 20, "{}", why.len());
    }
}
