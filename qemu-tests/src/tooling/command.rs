//! Runs other programs: output into a log, the end of it in the error, and a deadline where the network is in
//! play.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::failures;

/// Lines of a failed program's output that its error carries when nothing in it says why.
const TAIL_LINES: usize = 60;
/// How often a program with a deadline is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Runs `command` to its end with its output in `log`.
///
/// # Errors
/// When it cannot be started or fails; the error says which tests failed and why, or ends with the last lines
/// of its output.
pub fn run(command: &mut Command, log: &Path) -> Result<()> {
    let status = into_log(command, log)?.status().with_context(|| cannot_start(command))?;
    if status.success() { Ok(()) } else { Err(failed(command, &status.to_string(), log)) }
}

/// As [`run`], but ends the program when it takes longer than `limit`.
///
/// # Errors
/// As [`run`], and when the time is up.
pub fn run_within(command: &mut Command, limit: Duration, log: &Path) -> Result<()> {
    let mut child = into_log(command, log)?.spawn().with_context(|| cannot_start(command))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(()) } else { Err(failed(command, &status.to_string(), log)) };
        }
        if limit < start.elapsed() {
            child.kill()?;
            child.wait()?;
            return Err(failed(command, &format!("no end within {} s, stopped", limit.as_secs()), log));
        }
        thread::sleep(POLL);
    }
}

/// The standard output of a quick program.
///
/// # Errors
/// When it cannot be started or fails; the error carries what it wrote to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", line(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where `name` is on the search path.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // A user's PATH often lacks the sbin folders, where sgdisk and mkfs.fat are.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The command as a person would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn into_log<'a>(command: &'a mut Command, log: &Path) -> Result<&'a mut Command> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let same = file.try_clone()?;
    Ok(command.stdin(Stdio::null()).stdout(file).stderr(same))
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", line(command))
}

fn failed(command: &Command, how: &str, log: &Path) -> anyhow::Error {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
    let told =
        [failures::summary(&said), failures::compiler(&said)].into_iter().find(|told| !told.is_empty());
    let said = told.unwrap_or(tail);
    anyhow!("{said}\n`{}` failed: {how}. Its whole output is in {}", line(command), log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_the_program_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("deep/sh.log");
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), &log).unwrap_err();
        assert!(error.to_string().starts_with("why\n`sh -c"), "{error}");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_program_that_waits_for_ever_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(60);
        let start = Instant::now();
        let error = run_within(Command::new("sleep").arg("60"), limit, &folder.path().join("log"));
        assert!(error.unwrap_err().to_string().contains("stopped"));
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
