//! Runs a program of the fence-agents packages: options as `key=value` lines on its standard input, the
//! result as its exit code (ECOSYSTEM: Pacemaker's fencing; V20, F28).
//!
//! A node counts as off only when the device was asked for its power again and said that it is off: a device
//! that says "done" too early is found out.

use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of what an agent says about a failure, this much is kept.
const WORDS_MAX: u64 = 2048;
/// From one look at a running agent to the next.
const POLL: Duration = Duration::from_millis(20);
/// What `action=status` exits with when the power is off.
const IS_OFF: i32 = 2;
/// And when it is on.
const IS_ON: i32 = 0;

/// The power of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    On,
    /// It does not.
    Off,
}

/// Switches the power and reads it back, all within `time`.
///
/// # Errors
///
/// Why it is not known to be as wanted, as a clause.
pub fn switch(
    agent: &str,
    options: &BTreeMap<String, String>,
    want: Power,
    time: Duration,
) -> Result<(), String> {
    let end = Instant::now().checked_add(time).ok_or("its timeout is too long")?;
    order_by(agent, options, want, end)?;
    let is = read_by(agent, options, end)?;
    if is == want {
        return Ok(());
    }
    let (want, is) = (want.word(), is.word());
    Err(format!("{agent} action={want} said it was done, but the power is {is}"))
}

/// Switches the power within `time`. That it is switched is for [`read`] to say.
///
/// # Errors
///
/// The agent failed, as a clause.
pub fn order(
    agent: &str,
    options: &BTreeMap<String, String>,
    want: Power,
    time: Duration,
) -> Result<(), String> {
    order_by(agent, options, want, Instant::now().checked_add(time).ok_or("its timeout is too long")?)
}

/// Reads the power within `time`.
///
/// # Errors
///
/// It cannot be told, as a clause.
pub fn read(agent: &str, options: &BTreeMap<String, String>, time: Duration) -> Result<Power, String> {
    read_by(agent, options, Instant::now().checked_add(time).ok_or("its timeout is too long")?)
}

fn order_by(
    agent: &str,
    options: &BTreeMap<String, String>,
    want: Power,
    end: Instant,
) -> Result<(), String> {
    let action = want.word();
    match run(agent, options, action, end)? {
        (0, _) => Ok(()),
        (code, words) => Err(format!("{agent} action={action} failed with exit code {code}: {words}")),
    }
}

fn read_by(agent: &str, options: &BTreeMap<String, String>, end: Instant) -> Result<Power, String> {
    match run(agent, options, "status", end)? {
        (IS_ON, _) => Ok(Power::On),
        (IS_OFF, _) => Ok(Power::Off),
        (code, words) => Err(format!("{agent} action=status failed with exit code {code}: {words}")),
    }
}

impl Power {
    /// The agents' word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// One run: its exit code, and what it said on standard error.
fn run(
    agent: &str,
    options: &BTreeMap<String, String>,
    action: &str,
    end: Instant,
) -> Result<(i32, String), String> {
    let spawned = Command::new(agent)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| format!("{agent} cannot be run: {error}"))?;
    let mut lines = format!("action={action}\n");
    for (key, value) in options.iter().filter(|(key, _)| *key != "action") {
        lines.push_str(&format!("{key}={value}\n"));
    }
    if let Some(mut stdin) = child.stdin.take() {
        // An agent that does not read its options says so itself.
        let _ = stdin.write_all(lines.as_bytes());
    }
    let words = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = (&mut stderr).take(WORDS_MAX).read_to_end(&mut kept);
            // The rest is read and forgotten, so that the agent never blocks on it.
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            kept
        })
    });
    let code = wait(&mut child, end);
    // Whatever it started ends with it, and closes its standard error.
    kill(&mut child);
    let words = words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ");
    let code = code.ok_or_else(|| format!("{agent} action={action} did not end in time"))?;
    Ok((code, if words.is_empty() { "it said nothing".into() } else { words }))
}

fn wait(child: &mut Child, end: Instant) -> Option<i32> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            // Killed by a signal: no code of its own.
            return Some(status.code().unwrap_or(-1));
        }
        if end <= Instant::now() {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A power switch in a file, behind the interface of fence-agents.
    const AGENT: &str = r#"#!/bin/sh
while IFS= read -r line; do case "$line" in
  action=*) action=${line#action=} ;; plug=*) plug=${line#plug=} ;; lie=*) lie=1 ;; hang=*) hang=1 ;;
esac; done
[ -n "$hang" ] && { sleep 60 & sleep 60; }
[ -n "$plug" ] || { echo "no plug given" >&2; exit 1; }
case $action in
  off|on) [ -n "$lie" ] || echo $action > "$plug" ;;
  status) [ "$(cat "$plug")" = on ] && exit 0; exit 2 ;;
  *) exit 1 ;;
esac
"#;

    fn agent() -> (tempfile::TempDir, String, BTreeMap<String, String>) {
        let directory = tempfile::tempdir().unwrap();
        let (path, plug) = (directory.path().join("fence_file"), directory.path().join("plug"));
        std::fs::write(&path, AGENT).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&plug, "on\n").unwrap();
        let options = BTreeMap::from([("plug".to_owned(), plug.display().to_string())]);
        (directory, path.display().to_string(), options)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_node_is_switched_and_its_power_read_back() {
        let (_directory, agent, options) = agent();
        assert_eq!(switch(&agent, &options, Power::Off, LONG), Ok(()));
        assert_eq!(std::fs::read_to_string(&options["plug"]).unwrap(), "off\n");
        assert_eq!(switch(&agent, &options, Power::On, LONG), Ok(()));
        assert_eq!(std::fs::read_to_string(&options["plug"]).unwrap(), "on\n");
    }

    /// F28: a device that lies, fails, hangs or is not there confirms nothing.
    #[test]
    fn nothing_is_confirmed_that_was_not_read_back() {
        let (_directory, agent, good) = agent();
        let with = |key: &str| good.clone().into_iter().chain([(key.to_owned(), "1".to_owned())]).collect();
        let lie = switch(&agent, &with("lie"), Power::Off, LONG).unwrap_err();
        assert!(lie.contains("said it was done, but the power is on"), "{lie}");
        let failed = switch(&agent, &BTreeMap::new(), Power::Off, LONG).unwrap_err();
        assert!(failed.contains("exit code 1: no plug given"), "{failed}");
        let begin = Instant::now();
        let hung = switch(&agent, &with("hang"), Power::Off, Duration::from_millis(300)).unwrap_err();
        assert!(hung.contains("did not end in time") && begin.elapsed() < LONG, "{hung}");
        let missing = switch("/no/such/agent", &good, Power::Off, LONG).unwrap_err();
        assert!(missing.contains("cannot be run"), "{missing}");
    }
}
