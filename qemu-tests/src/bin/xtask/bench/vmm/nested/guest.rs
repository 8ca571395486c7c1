//! A Linux guest on a node of the site that does what is typed on its console (`guest.does=bench`).

use std::cell::Cell;

use anyhow::{Context, Result};
use qemu_tests::site::guests::{GUEST, describe};
use qemu_tests::site::{Part, Site};
use serde_json::Value;

/// What guests of the measurement do.
const DOES: &str = "bench";

/// The guest.
pub struct Guest<'a> {
    site: &'a Site,
    /// Where it runs.
    pub at: Part,
    /// Each order has a number, by which its answer is known.
    next: Cell<u32>,
}

impl<'a> Guest<'a> {
    /// One whose disk is the mirrored volume, and which any node may begin.
    pub fn made(site: &'a Site, at: Part) -> Result<Self> {
        let this = Self { site, at, next: Cell::new(1) };
        let described = describe(DOES, 1, "[[disk]]\\nvolume = \"vm1\"\\n");
        this.node(&format!("{described}; bulkhead vm create /tmp/{DOES}.toml"))?;
        Ok(this)
    }

    /// One that runs on this node alone, with these disks.
    pub fn alone(site: &'a Site, at: Part, disks: &[String]) -> Result<Self> {
        let this = Self { site, at, next: Cell::new(1) };
        let disks: String = disks.iter().map(|uri| format!("[[disk]]\\nuri = \"{uri}\"\\n")).collect();
        let described = describe(DOES, 1, &disks);
        this.node(&format!(
            "{described}; bulkhead vm create /tmp/{DOES}.toml --local && bulkhead vm start {DOES} --alone"
        ))?;
        this.hears("", "guest: ready")?;
        Ok(this)
    }

    /// A command in the node where it is.
    pub fn node(&self, command: &str) -> Result<String> {
        self.site.rig(self.at)?.shell.exit(0, command, GUEST)
    }

    /// What `bulkhead vm WORDS... --json` says there.
    pub fn vm(&self, verb: &str, words: &str) -> Result<Value> {
        let said = self.node(&format!("bulkhead vm {verb} {DOES} {words} --json"))?.replace('\n', "");
        let json = said.find('{').and_then(|at| said.get(at..)).with_context(|| said.clone())?;
        serde_json::from_str(json).with_context(|| said.clone())
    }

    /// Has it do something; what it said of that, behind the order's number.
    pub fn does(&self, order: &str) -> Result<String> {
        let number = self.next.replace(self.next.get() + 1);
        let said = self.hears(&format!("{number} {order}"), &format!("guest: {number} done"))?;
        let mine = format!("guest: {number} ");
        let lines = said.lines().filter_map(|line| line.split_once(&mine)).map(|(_, line)| line.trim());
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Types a line, and waits until it has said this; all that it said. The node does not look again and
    /// again meanwhile: it has one processor, and the guest is to have that.
    pub fn hears(&self, line: &str, words: &str) -> Result<String> {
        // A file, not a pipe: the end of who writes that would interrupt the shell as it opens the other one.
        let typed = if line.is_empty() { ":".to_owned() } else { format!("echo '{line}'") };
        self.node(&format!(
            "{typed} >/tmp/typed; rm -f /tmp/pipe; mkfifo /tmp/pipe; \
             bulkhead vm console {DOES} </tmp/typed >/tmp/pipe & console=$!; \
             while read -r line; do echo \"$line\"; case \"$line\" in *'{words}'*) break;; esac; done \
             </tmp/pipe; kill $console"
        ))
    }

    /// It loses its power.
    pub fn stop(&self) -> Result<()> {
        self.node(&format!("bulkhead vm stop {DOES} --now")).map(drop)
    }

    /// Starts it. Seconds until the command had returned, and until its init began.
    pub fn start(&self) -> Result<[f64; 2]> {
        let said = self.node(&format!(
            "now() {{ cut -d ' ' -f 1 /proc/uptime; }}; rm -f /tmp/pipe; mkfifo /tmp/pipe; begun=$(now); \
             bulkhead vm start {DOES} >/dev/null; runs=$(now); \
             bulkhead vm console {DOES} </dev/null >/tmp/pipe & console=$!; \
             grep -q -m 1 'guest: begins' /tmp/pipe; init=$(now); kill $console; \
             echo times $begun $runs $init"
        ))?;
        let [begun, runs, init] = numbers(&said, "times ")?;
        self.hears("", "guest: ready")?;
        Ok([runs - begun, init - begun])
    }

    /// Seconds that a command takes in its node.
    pub fn timed(&self, command: &str) -> Result<f64> {
        let said = self.node(&format!(
            "now() {{ cut -d ' ' -f 1 /proc/uptime; }}; begun=$(now); {command} || exit; \
             echo times $begun $(now)"
        ))?;
        let [begun, end] = numbers(&said, "times ")?;
        Ok(end - begun)
    }
}

/// The numbers behind these words.
pub fn numbers<const N: usize>(text: &str, words: &str) -> Result<[f64; N]> {
    let line = text.lines().rev().find_map(|line| line.split_once(words)).with_context(|| text.to_owned())?.1;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().ok().with_context(|| text.to_owned())
}
