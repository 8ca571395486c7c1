//! A playground with volumes, hurt and healed by its own commands.

use crate::common::{Answer, bulkhead};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub const VOLUME: &str = "vm1";
/// For what takes a takeover, on a machine that does ten other things.
pub const LONG: Duration = Duration::from_secs(60);

/// It does not outlive its test.
pub struct Plant {
    child: Child,
    directory: tempfile::TempDir,
    parts: Vec<Value>,
}

impl Plant {
    /// Both nodes in sync, and an empty volume.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = bulkhead(&["playground", "run", "--volumes", "--json", "--dir"]);
        let mut child = command.arg(directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.next().expect("the playground starts").unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let plant = Self { child, directory, parts: told["parts"].as_array().unwrap().clone() };
        plant.in_sync();
        plant.ok(plant.primary(), &["create", VOLUME, "--size", "4MiB"]);
        plant
    }

    fn part(&self, name: &str) -> &Value {
        self.parts.iter().find(|part| part["name"] == name).unwrap()
    }

    fn volume(&self, node: &str, args: &[&str]) -> Answer {
        let socket = self.part(node)["socket"].as_str().unwrap();
        bulkhead(&[&["volume"], args, &["--json", "--socket", socket]].concat()).output().unwrap().into()
    }

    fn ok(&self, node: &str, args: &[&str]) -> Value {
        let answer = self.volume(node, args);
        assert_eq!(answer.code, 0, "{node}: volume {args:?}: {}{}", answer.out, answer.err);
        serde_json::from_str(&answer.out).unwrap()
    }

    /// Waits until both nodes have everything.
    pub fn in_sync(&self) {
        for node in ["a1", "b1"] {
            self.ok(node, &["wait", "--for", "in-sync", "--timeout", "90s"]);
        }
    }

    /// Who leads.
    pub fn primary(&self) -> &'static str {
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < LONG, "nobody leads");
            for node in ["a1", "b1"] {
                let answer = self.volume(node, &["list"]);
                let told: Value = serde_json::from_str(&answer.out).unwrap_or_default();
                if told["group"]["storage"]["leads"] == true {
                    return node;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn fault(&self, what: &[&str]) {
        let directory = self.directory.path().to_str().unwrap();
        let mut command = bulkhead(&[&["playground", "fault"], what, &["--dir", directory]].concat());
        let answer: Answer = command.output().unwrap().into();
        assert_eq!(answer.code, 0, "{what:?}: {}", answer.err);
    }

    /// Where clients find the volume: on each node by TCP, on each by its Unix socket.
    pub fn uris(&self) -> Vec<String> {
        let nbd = |node, key: &str| self.part(node)["nbd"][key].as_str().unwrap().to_owned();
        let tcp = |node| format!("nbd://{}/{VOLUME}", nbd(node, "address"));
        let unix = |node| format!("nbd+unix:///{VOLUME}?socket={}", nbd(node, "socket"));
        vec![tcp("a1"), tcp("b1"), unix("a1"), unix("b1")]
    }

    /// What the parts printed, and what they think: for a test that failed.
    pub fn logs(&self) -> String {
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
    }
}
