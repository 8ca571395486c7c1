//! The plant of these tests: one volume, kept by both nodes.

use crate::common::{Answer, bulkhead};
use crate::common_plant::Plant as Playground;
use serde_json::Value;
use std::ops::Deref;
use std::time::{Duration, Instant};

pub const VOLUME: &str = "vm1";
/// For what takes a takeover, on a machine that does ten other things.
pub const LONG: Duration = Duration::from_secs(60);

/// Two nodes in sync, and a volume.
pub struct Plant(Playground);

impl Plant {
    /// Both nodes in sync, and an empty volume, in a store of each or in one of both.
    pub fn start(is_shared: bool) -> Self {
        let shared = || Playground::of(&["--volumes", "--shared"]);
        let plant = Self(if is_shared { shared() } else { Playground::start() });
        plant.is_whole();
        plant.ok(plant.primary(), &["create", VOLUME, "--size", "4MiB"]);
        plant
    }

    /// Waits until both nodes have everything, and say that any one part may fail: who was made to go on
    /// alone (X04) a moment ago may not die yet.
    pub fn is_whole(&self) {
        for node in ["a1", "b1"] {
            self.ok(node, &["wait", "--for", "in-sync", "--timeout", "90s"]);
            let begin = Instant::now();
            while let Err(status) = self.protected(node) {
                assert!(begin.elapsed() < LONG, "{node} is not protected: {status}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn protected(&self, node: &str) -> Result<(), String> {
        let socket = self.part(node)["socket"].as_str().unwrap();
        let answer: Answer = bulkhead(&["status", "--json", "--socket", socket]).output().unwrap().into();
        let told: Value = serde_json::from_str(&answer.out).unwrap_or_default();
        if told["ok"] == true { Ok(()) } else { Err(format!("{}{}", told["status"]["summary"], answer.err)) }
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

    /// Where clients find the volume: on each node by TCP, on each by its Unix socket.
    pub fn uris(&self) -> Vec<String> {
        let nbd = |node, key: &str| self.part(node)["nbd"][key].as_str().unwrap().to_owned();
        let tcp = |node| format!("nbd://{}/{VOLUME}", nbd(node, "address"));
        let unix = |node| format!("nbd+unix:///{VOLUME}?socket={}", nbd(node, "socket"));
        vec![tcp("a1"), tcp("b1"), unix("a1"), unix("b1")]
    }
}

impl Deref for Plant {
    type Target = Playground;

    fn deref(&self) -> &Playground {
        &self.0
    }
}
