//! A playground with volumes, hurt and healed by its own commands. It does not outlive its test.

use super::common::{Answer, bulkhead};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Two nodes and a witness.
pub struct Plant {
    child: Child,
    directory: tempfile::TempDir,
    parts: Vec<Value>,
}

impl Plant {
    /// Starts it, with the volumes of nobody yet.
    pub fn start() -> Self {
        Self::of(&["--volumes"])
    }

    /// As these arguments say.
    pub fn of(what: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = bulkhead(&[&["playground", "run"], what, &["--json", "--dir"]].concat());
        let mut child = command.arg(directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.next().expect("the playground starts").unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        Self { child, directory, parts: told["parts"].as_array().unwrap().clone() }
    }

    /// What `playground run --json` said of a part.
    pub fn part(&self, name: &str) -> &Value {
        self.parts.iter().find(|part| part["name"] == name).unwrap()
    }

    /// Whether it has a part of this name.
    #[allow(dead_code, reason = "not all tests ask")]
    pub fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part["name"] == name)
    }

    /// Runs a command about volumes on a node.
    pub fn volume(&self, node: &str, args: &[&str]) -> Answer {
        let socket = self.part(node)["socket"].as_str().unwrap();
        bulkhead(&[&["volume"], args, &["--json", "--socket", socket]].concat()).output().unwrap().into()
    }

    /// As [`Self::volume`], which must succeed.
    pub fn ok(&self, node: &str, args: &[&str]) -> Value {
        let answer = self.volume(node, args);
        assert_eq!(answer.code, 0, "{node}: volume {args:?}: {}{}", answer.out, answer.err);
        serde_json::from_str(&answer.out).unwrap()
    }

    /// Hurts it, or heals it.
    pub fn fault(&self, what: &[&str]) {
        let directory = self.directory.path().to_str().unwrap();
        let mut command = bulkhead(&[&["playground", "fault"], what, &["--dir", directory]].concat());
        let answer: Answer = command.output().unwrap().into();
        assert_eq!(answer.code, 0, "{what:?}: {}", answer.err);
    }

    /// What the parts printed, and what they think: for a test that failed.
    fn logs(&self) -> String {
        let tell = |part: &Value| {
            let path = PathBuf::from(part["log"].as_str().unwrap());
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(60).collect();
            let last: String = last.into_iter().rev().map(|line| format!("{line}\n")).collect();
            let list = match part["witness"] == true {
                true => String::new(),
                false => self.volume(part["name"].as_str().unwrap(), &["list"]).out,
            };
            format!("== {}\n{last}{list}\n", part["name"])
        };
        self.parts.iter().map(tell).collect()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
        end_guests(self.directory.path());
    }
}

/// Guests outlive their agents. Those of a plant are the processes of `vmm` with a path below its directory.
fn end_guests(directory: &Path) {
    let own = directory.as_os_str().as_encoded_bytes();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        let is_guest = words.nth(1) == Some(b"vmm") && words.any(|word| word.starts_with(own));
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.filter(|_| is_guest).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
