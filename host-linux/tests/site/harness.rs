//! A site of two nodes and a witness as processes on loopback, each with its own directory below one that is
//! removed at the end. Each site has ports of its own, so sites can run beside each other.

use crate::common::bulkhead;
use crate::relay::Relay;
use bulkhead::playground::ports::Ports;
use bulkhead::site_config::{EXAMPLE, SiteConfig};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Longer than any takeover on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(20);

pub struct Site {
    pub relay: Relay,
    directory: tempfile::TempDir,
    ports: Ports,
    children: [Option<Child>; 5],
}

impl Site {
    pub fn new() -> Self {
        Self::with(|_, _| ())
    }

    /// A site whose configuration is changed before it is written; the directory is the site's.
    pub fn with(change: impl Fn(&mut SiteConfig, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("site.key");
        bulkhead::site_config::key::generate(&key).unwrap();
        let mut config = SiteConfig::parse(Path::new("site.toml"), EXAMPLE).unwrap();
        let own = Ports::take(8).unwrap();
        let mut ports = own.all.iter().copied();
        let mut exits = BTreeMap::new();
        for member in &config.members {
            exits.extend((0..2).map(|network| ((member.id.0, network), ports.next().unwrap())));
        }
        let relay = Relay::start(&exits);
        config.fencing.clear();
        config.resources.clear();
        config.local.key_file = key;
        change(&mut config, directory.path());
        for member in config.members.clone() {
            config.local.node = member.id;
            config.local.state = directory.path().join(format!("state{}", member.id.0));
            config.local.socket = directory.path().join(format!("{}.sock", member.id.0));
            config.listen = [exits[&(member.id.0, 0)], exits[&(member.id.0, 1)]];
            for peer in &mut config.members {
                let lane = |network| (member.id.0, peer.id.0, network);
                let at =
                    |network| *relay.entrances.get(&lane(network)).unwrap_or(&exits[&(peer.id.0, network)]);
                peer.addresses = [at(0), at(1)];
            }
            std::fs::write(directory.path().join(format!("{}.toml", member.id.0)), config.to_toml()).unwrap();
        }
        Self { relay, directory, ports: own, children: [const { None }; 5] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The process of a node.
    pub fn pid(&self, node: usize) -> u32 {
        self.children[node].as_ref().unwrap().id()
    }

    fn config(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{node}.toml"))
    }

    /// Changes the file of one node.
    pub fn rewrite(&self, node: usize, change: impl FnOnce(&mut SiteConfig)) {
        let mut config = SiteConfig::read(&self.config(node)).unwrap();
        change(&mut config);
        std::fs::write(self.config(node), config.to_toml()).unwrap();
    }

    /// Writes the files of a fourth node, beside node 1 and without a vote, and has the files of the others
    /// name it. Its datagrams do not pass the relay.
    pub fn add_a2(&self) {
        let addresses = [self.ports.all[6], self.ports.all[7]];
        let mut its = SiteConfig::read(&self.config(1)).unwrap();
        let mut a2 = its.members.iter().find(|member| member.id.0 == 1).unwrap().clone();
        (a2.id.0, a2.name, a2.voter, a2.addresses) = (4, "a2".into(), false, addresses);
        for member in &mut its.members {
            member.addresses = SiteConfig::read(&self.config(member.id.0.into())).unwrap().listen;
        }
        its.members.push(a2.clone());
        (its.local.node, its.listen) = (a2.id, addresses);
        (its.local.state, its.local.socket) = (self.state(4), self.socket(4));
        std::fs::write(self.config(4), its.to_toml()).unwrap();
        (1..=3).for_each(|node| self.rewrite(node, |config| config.members.push(a2.clone())));
    }

    pub fn state(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("state{node}"))
    }

    pub fn socket(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{node}.sock"))
    }

    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{node}.log"))).unwrap()
    }

    pub fn start(&mut self, node: usize) {
        let log = self.directory.path().join(format!("{node}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let role = if node == 3 { "witness" } else { "agent" };
        let mut command = bulkhead(&[role, "--config"]);
        command.env("NOTIFY_SOCKET", self.path(&format!("notify{node}")));
        command.env("TEST_NODE", node.to_string());
        let child = command.arg(self.config(node)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children[node] = Some(child.spawn().unwrap());
    }

    /// All of them at once: either node may be master.
    pub fn start_at_once(&mut self) {
        (1..=3).for_each(|node| self.start(node));
    }

    /// All of them, a1 first: it is master and b1 its slave.
    pub fn start_all(&mut self) {
        self.start(1);
        self.start(3);
        self.wait("a1 is master", 1, |status| status["role"] == "master");
        self.start(2);
        self.wait("b1 follows", 2, |status| status["role"] == "slave");
        self.wait("a1 hears b1", 1, |status| status["nodes"][1]["role"] == "slave");
    }

    /// Sends a signal; `node` runs.
    fn signal(&self, node: usize, signal: rustix::process::Signal) {
        let pid = self.children[node].as_ref().unwrap().id();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGKILL: legal at any moment.
    pub fn kill(&mut self, node: usize) {
        let mut child = self.children[node].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; how long the process took to end, well.
    pub fn stop(&mut self, node: usize) -> Duration {
        let stop = rustix::process::Signal::from_named_raw(signal_hook::consts::SIGTERM).unwrap();
        self.signal(node, stop);
        let begin = Instant::now();
        let status = self.children[node].take().unwrap().wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log(node));
        begin.elapsed()
    }

    /// SIGHUP.
    pub fn hang_up(&self, node: usize) {
        self.signal(node, rustix::process::Signal::HUP);
    }

    pub fn freeze(&self, node: usize) {
        self.signal(node, rustix::process::Signal::STOP);
    }

    pub fn thaw(&self, node: usize) {
        self.signal(node, rustix::process::Signal::CONT);
    }

    /// Gives all nodes that start from now on another key.
    pub fn change_key(&self) {
        let key = self.directory.path().join("site.key");
        std::fs::remove_file(&key).unwrap();
        bulkhead::site_config::key::generate(&key).unwrap();
    }

    /// Runs a command against a node's agent; its exit code and all it printed.
    pub fn run(&self, node: usize, words: &[&str]) -> (i32, String) {
        let mut command = bulkhead(words);
        let out = command.arg("--config").arg(self.config(node)).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    /// Starts an agent that is to refuse.
    pub fn agent(&self, node: usize) -> (i32, String) {
        self.run(node, &["agent"])
    }

    pub fn witness(&self, node: usize) -> (i32, String) {
        self.run(node, &["witness"])
    }

    pub fn one_line(&self, node: usize) -> (i32, String) {
        self.run(node, &["status", "--one-line"])
    }

    /// The status a node gives now; `None` while it does not answer.
    pub fn status(&self, node: usize) -> Option<Value> {
        let (_, text) = self.run(node, &["status", "--json"]);
        let answer: Value = serde_json::from_str(text.lines().next()?).ok()?;
        answer.get("status").cloned()
    }

    pub fn events(&self, node: usize) -> Vec<Value> {
        let (_, text) = self.run(node, &["events", "--json"]);
        let answer: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        answer["events"].as_array().unwrap().clone()
    }

    /// Waits until what a node says of itself is `good`.
    pub fn wait(&self, what: &str, node: usize, good: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        let mut last = Value::Null;
        while begin.elapsed() < LONG {
            if let Some(status) = self.status(node) {
                if good(&status) {
                    return status;
                }
                last = status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let logs: String =
            (1..=3).filter(|node| self.children[*node].is_some()).map(|node| self.log(node)).collect();
        panic!("{what}: not within {LONG:?}: {last:#}\n{logs}");
    }

    /// How often a node's instance became master.
    pub fn times_master(&self, node: usize) -> usize {
        let won = |event: &&Value| {
            event["kind"] == "role" && event["office"] == "infra" && event["role"] == "master"
        };
        self.events(node).iter().filter(won).count()
    }

    /// Looks at both nodes again and again: at no time do both say that they may act.
    pub fn one_master_at_most_for(&self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            let [one, two] = [1, 2].map(|node| self.status(node).unwrap());
            let acts = |status: &Value| {
                status["role"] == "master" && 0 < status["leaseLeftMs"].as_u64().unwrap_or(0)
            };
            // The second was asked later: what the first may do by then is bounded by what it said.
            let asked_later = two["pairs"][0]["epoch"].as_u64() <= one["pairs"][0]["epoch"].as_u64();
            assert!(!(acts(&one) && acts(&two) && asked_later), "two masters: {one:#} {two:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.never_two_masters();
    }

    /// V2, V24: no two nodes ever said that they won the register under the same epoch.
    pub fn never_two_masters(&self) {
        let mut won: Vec<u64> = Vec::new();
        for node in [1, 2].into_iter().filter(|node| self.children[*node].is_some()) {
            for event in self.events(node) {
                if event["kind"] == "role" && event["office"] == "infra" && event["role"] == "master" {
                    let epoch = event["epoch"].as_u64().unwrap();
                    assert!(!won.contains(&epoch), "two masters under epoch {epoch}");
                    won.push(epoch);
                }
            }
        }
        assert!(!won.is_empty());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
