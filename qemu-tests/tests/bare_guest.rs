//! A guest without an operating system (`qemu-tests/bare-guest`) on this machine's own KVM, its disk a
//! mirrored volume of two agents: block, console, snapshot, restore, the end of its lease (S2-01, S3-06,
//! S4-01; I2, I5). Where this machine runs no guests, that is said, and nothing is tested.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead::vmm::machine::kvm;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::process::{Output, Owned, Run};
use qemu_tests::tooling::bare_guest::bare_guest;

/// Two agents and a witness, or a guest, come to something within this time.
const LONG: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const NODES: [&str; 2] = ["a1", "b1"];
/// So many more numbers are waited for, to see that it goes on.
const FURTHER: u32 = 16;

/// What the guest says where it finds something wrong (`qemu-tests/bare-guest/src/main.rs`).
const FAULTS: [&str; 2] = ["bare: wrong:", "bare: jump:"];

/// Two agents, a witness, and the guest, which ends with them.
struct Plant<'a> {
    lab: &'a Lab,
    directory: PathBuf,
    _agents: Owned,
}

impl<'a> Plant<'a> {
    /// Agents with the volume `vm1` and the guest `bare`; and the node that leads, where it was started.
    fn begin(artefacts: &Artefacts, lab: &'a Lab) -> Result<(Self, &'static str)> {
        let kernel = bare_guest(&lab.workspace)?;
        let directory = artefacts.path("plant");
        let mut command = Command::new(&lab.bulkhead);
        command.args(["playground", "run", "--volumes", "--json", "--dir"]).arg(&directory);
        let agents = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
        let this = Self { lab, directory, _agents: agents };
        let leads = within("one node leads the volumes", || {
            let done = |node: &str, words: &[&str]| {
                this.volume(node, words).output().is_ok_and(|out| out.status.success())
            };
            let leads = |node: &&&str| {
                done(node, &["wait", "--for", "in-sync", "--timeout", "1s"])
                    && done(node, &["create", "vm1", "--size", "16MiB"])
            };
            Ok(NODES.iter().find(leads).copied())
        })?;
        let described = artefacts.path("bare.toml");
        std::fs::write(&described, description(&kernel, "volume = \"vm1\""))?;
        this.vm(leads, &["create"]).arg(&described).succeed()?;
        this.vm(leads, &["start", "bare"]).succeed()?;
        Ok((this, leads))
    }

    fn volume(&self, node: &str, words: &[&str]) -> Run {
        let socket = self.directory.join(format!("{node}.sock"));
        self.lab.tool(["volume"]).args(words).env("BULKHEAD_SOCKET", socket)
    }

    fn guests(&self, node: &str) -> PathBuf {
        self.directory.join(node).join("guests")
    }

    fn vm(&self, node: &str, words: &[&str]) -> Run {
        let socket = self.directory.join(format!("{node}.sock"));
        let run = self.lab.tool(["vm"]).args(words).env("BULKHEAD_SOCKET", socket);
        run.env("BULKHEAD_GUESTS", self.guests(node))
    }

    fn fault(&self, what: &str, node: &str) -> Result<Output> {
        self.lab.tool(["playground", "fault", what, node, "--dir"]).arg(&self.directory).succeed()
    }

    /// All that it said on a node, over all its lives there.
    fn said(&self, node: &str) -> String {
        std::fs::read_to_string(self.guests(node).join("bare/console.log")).unwrap_or_default()
    }

    /// Waits until it has kept more on a node than this, and found nothing wrong; what it said last.
    fn keeps(&self, node: &str, behind: u32) -> Result<u32> {
        let least = behind.saturating_add(FURTHER);
        within(&format!("the guest keeps {least} on {node}"), || {
            self.is_well(node)?;
            Ok(last(&self.said(node), "kept").filter(|kept| least <= *kept))
        })
        .with_context(|| self.tail(node))
    }

    fn is_well(&self, node: &str) -> Result<()> {
        let said = self.said(node);
        let fault = said.lines().find(|line| FAULTS.iter().any(|fault| line.contains(fault)));
        fault.map_or(Ok(()), |fault| bail!("on {node} the guest says `{fault}`"))
    }

    fn is(&self, node: &str, words: &str) -> Result<bool> {
        Ok(self.vm(node, &["show", "bare"]).succeed()?.stdout_text().contains(words))
    }

    /// The end of what was said there, for who reads why a test failed.
    fn tail(&self, node: &str) -> String {
        let said = self.said(node);
        let lines: Vec<_> = said.lines().collect();
        let messages = std::fs::read_to_string(self.guests(node).join("bare/messages")).unwrap_or_default();
        format!("{}\n{messages}", lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n"))
    }
}

impl Drop for Plant<'_> {
    fn drop(&mut self) {
        for node in NODES {
            // A part that sleeps would not answer.
            let _ = self.fault("resume", node);
            let _ = self.vm(node, &["stop", "bare", "--now"]).output();
        }
    }
}

fn description(kernel: &Path, disk: &str) -> String {
    format!(
        "version = 1\nname = \"bare\"\nprocessors = 1\nmemory = \"16MiB\"\nkernel = \"{}\"\n\
         [[disk]]\n{disk}\n",
        kernel.display()
    )
}

/// Whether this machine runs guests; says why not.
fn runs_guests() -> bool {
    kvm().inspect_err(|why| println!("skipped: {}", why.what)).is_ok()
}

/// Waits for something.
fn within<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// The last number that was said behind this word. A line that is being written is none.
fn last(said: &str, word: &str) -> Option<u32> {
    let whole = said.rsplit_once('\n')?.0;
    whole.lines().rev().find_map(|line| line.trim().strip_prefix(&format!("bare: {word} "))?.parse().ok())
}

/// How often it has begun with its kernel.
fn begins(said: &str) -> usize {
    said.matches("bare: begins").count()
}

/// S2-01, S4-01, I2: what a guest said to be durable is there when it has lost its power. S3-06: it goes on
/// where it was captured, its memory and its disk of one mind; one whose disk is further than its memory says
/// so.
#[test]
fn a_bare_guest_finds_what_it_kept_and_goes_on_where_it_was_captured() -> Result<()> {
    if !runs_guests() {
        return Ok(());
    }
    Artefacts::of("bare-guest", |artefacts| {
        let (plant, leads) = Plant::begin(artefacts, Lab::get()?)?;
        plant.keeps(leads, 0)?;
        plant.vm(leads, &["stop", "bare", "--now"]).succeed()?;
        let kept = last(&plant.said(leads), "kept").context("it kept nothing")?;
        plant.vm(leads, &["start", "bare"]).succeed()?;
        plant.keeps(leads, kept)?;
        let found = last(&plant.said(leads), "found").context("it found nothing")?;
        ensure!(kept <= found, "{kept} was kept, {found} was found: {}", plant.tail(leads));

        let lives = begins(&plant.said(leads));
        plant.vm(leads, &["snapshot", "bare", "--stop"]).succeed()?;
        ensure!(plant.is(leads, "bare: Off")?, "it was captured, and runs");
        let kept = last(&plant.said(leads), "kept").context("it kept nothing")?;
        plant.vm(leads, &["restore", "bare"]).succeed()?;
        let kept = plant.keeps(leads, kept)?;
        ensure!(begins(&plant.said(leads)) == lives, "it began anew: {}", plant.tail(leads));

        let file = artefacts.path("early");
        plant.vm(leads, &["snapshot", "bare"]).arg(&file).succeed()?;
        plant.keeps(leads, kept)?;
        plant.vm(leads, &["stop", "bare", "--now"]).succeed()?;
        let refused = plant.vm(leads, &["restore", "bare"]).arg(&file).exit(3)?.stderr_text();
        ensure!(refused.contains("vm1 was written to since the snapshot was taken"), "{refused}");
        sees_a_jump(artefacts, &plant, leads)
    })
}

/// A guest that runs alone is not kept from going on where its disk is not any more: it sees that itself, so
/// where it says nothing of it, all is well.
fn sees_a_jump(artefacts: &Artefacts, plant: &Plant<'_>, node: &str) -> Result<()> {
    plant.vm(node, &["delete", "bare", "--yes"]).succeed()?;
    let socket = plant.directory.join(node).join("nbd.sock");
    let disk = format!("uri = \"nbd+unix:///vm1?socket={}\"", socket.display());
    let (described, file) = (artefacts.path("alone.toml"), artefacts.path("early-alone"));
    std::fs::write(&described, description(&bare_guest(&plant.lab.workspace)?, &disk))?;
    plant.vm(node, &["create", "--local"]).arg(&described).succeed()?;
    plant.vm(node, &["start", "bare", "--alone"]).succeed()?;
    let kept = plant.keeps(node, 0)?;
    plant.vm(node, &["snapshot", "bare"]).arg(&file).succeed()?;
    plant.keeps(node, kept)?;
    plant.vm(node, &["stop", "bare", "--now"]).succeed()?;
    plant.vm(node, &["restore", "bare", "--alone"]).arg(&file).succeed()?;
    within("it sees the jump", || Ok(plant.said(node).contains("bare: jump: the disk ").then_some(())))
        .with_context(|| plant.tail(node))
}

/// I5: the agent of its node sleeps and does not know it. The guest stands still before its lease ends: it
/// says nothing any more from then on, ends when the agent is back, and what it kept is found where it goes
/// on.
#[test]
fn a_bare_guest_stands_still_before_its_lease_ends() -> Result<()> {
    if !runs_guests() {
        return Ok(());
    }
    Artefacts::of("bare-guest-lease", |artefacts| {
        let (plant, home) = Plant::begin(artefacts, Lab::get()?)?;
        let other = if home == "a1" { "b1" } else { "a1" };
        plant.keeps(home, 0)?;
        plant.fault("pause", home)?;
        within("it has no lease", || Ok(plant.is(home, "no lease")?.then_some(())))?;
        let before = plant.said(home);
        let kept = last(&before, "kept").context("it kept nothing")?;

        // Nobody starts it there: it is to run.
        plant.keeps(other, kept)?;
        let found = last(&plant.said(other), "found").context("it found nothing")?;
        ensure!(kept <= found, "{kept} was kept, {found} was found: {}", plant.tail(other));
        ensure!(plant.said(home) == before, "it ran in two places: {}", plant.tail(home));

        plant.fault("resume", home)?;
        within("it is off where it was", || Ok(plant.is(home, "bare: Off")?.then_some(())))?;
        ensure!(plant.said(home) == before, "it ran in two places: {}", plant.tail(home));
        let further = last(&plant.said(other), "kept").context("it kept nothing")?;
        plant.keeps(other, further).map(drop)
    })
}
