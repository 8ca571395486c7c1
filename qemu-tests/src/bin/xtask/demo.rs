//! `cargo xtask demo`: the main job, shown. A node boots, takes a good update, takes a bad one, and
//! comes back; then two compartments elect a master, lose it, and go on.

use std::io::{IsTerminal, stdout};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::{LONG, Lab, NodeDisk, Rig, parcel};
use qemu_tests::tooling::node_image::Variant;
use qemu_tests::tooling::progress::spoken;
use qemu_tests::tooling::setup;
use qemu_tests::tooling::workspace::Workspace;
use serde_json::json;

/// How often the bad update is tried: the default of `bulkhead image disk`.
const TRIES: u32 = 3;

/// Show the main job: build everything, boot a node in QEMU, update it well, then badly, and watch it
/// come back; then let two compartments lose their master and go on.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --json    the timeline as JSON lines\n  \
    BULKHEAD_KEEP=1 cargo xtask demo    keep the node's disk and its console"
)]
pub struct Arguments {
    /// Print the timeline as one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    setup::everything(workspace)?;
    Artefacts::of("demo", |artefacts| {
        let lab = Lab::get()?;
        let updates = [lab.image(Variant::Good, 2)?, lab.image(Variant::Unhealthy, 3)?];
        let [good, bad] = updates;
        let (good, bad) = (parcel(artefacts, "good.img", &good)?, parcel(artefacts, "bad.img", &bad)?);
        let mut rig = NodeDisk::new(lab, "demo-node")?
            .node_with(artefacts, |machine| machine.drive(good).drive(bad))?;
        let story = Story { begun: Instant::now(), json: arguments.json };
        story.begin();
        first_boot(&story, &mut rig)?;
        good_update(&story, &mut rig)?;
        bad_update(&story, &mut rig)?;
        let boots = rig.node.boots()?.len();
        rig.node.power_cut()?;
        compartments(lab, artefacts, arguments.json)?;
        story.end(boots, begun.elapsed());
        Ok(())
    })
}

/// The second half: a whole cluster as processes, told by the command itself.
fn compartments(lab: &Lab, artefacts: &Artefacts, json: bool) -> Result<()> {
    if !json {
        println!();
    }
    let mut playground = Command::new(&lab.bulkhead);
    playground.args(["playground", "demo", "--dir"]).arg(artefacts.path("playground"));
    let status = playground.args(json.then_some("--json")).status().context("cannot run the playground")?;
    ensure!(status.success(), "the playground ended with {status}");
    Ok(())
}

fn first_boot(story: &Story, rig: &mut Rig) -> Result<()> {
    story.tell("operator", "switches the node on; its disk holds version 1 in boot slot a");
    rig.node.power_on()?;
    rig.boots(SlotId::A, 1, Reason::Confirmed)?;
    story.tell("boot", "verified slot a (signature, digest) and started it");
    rig.healthy()?;
    story.tell("agent", "the control domain is up and healthy");
    rig.shell.ready(LONG)
}

fn good_update(story: &Story, rig: &mut Rig) -> Result<()> {
    story.tell("operator", "flashes version 2 into the spare slot b, while the node runs");
    rig.shell.exit(0, "bulkhead image flash /dev/vdb", LONG)?;
    rig.shell.start("reboot -f")?;
    story.tell("operator", "restarts the node");
    rig.boots(SlotId::B, 2, Reason::Candidate)?;
    story.tell("boot", "slot b is new: recorded its first try on the disk, then started it");
    rig.confirmed(SlotId::B, 2)?;
    story.tell("agent", "all health checks pass: version 2 is confirmed, and stays");
    rig.shell.ready(LONG)
}

fn bad_update(story: &Story, rig: &mut Rig) -> Result<()> {
    story.tell("operator", "flashes version 3 into the spare slot a; a service in it is broken");
    rig.shell.exit(0, "bulkhead image flash /dev/vdc", LONG)?;
    rig.shell.start("reboot -f")?;
    story.tell("operator", "restarts the node, and goes home");
    for number in 1..=TRIES {
        rig.boots(SlotId::A, 3, Reason::Candidate)?;
        story.tell("boot", &format!("tries version 3 in slot a, try {number} of {TRIES}"));
        rig.node.wait_for("GAVE-UP slot=a", LONG)?;
        story.tell("agent", "health checks fail: not confirmed, the node restarts");
    }
    rig.boots(SlotId::B, 2, Reason::FallbackTries)?;
    story.tell("boot", "the tries of version 3 are used up: back to the confirmed slot b, by itself");
    rig.healthy()?;
    story.tell("agent", "version 2 runs and is healthy. Nobody was called");
    Ok(())
}

/// Tells what happens, when it happens.
struct Story {
    begun: Instant,
    json: bool,
}

impl Story {
    fn begin(&self) {
        if !self.json {
            println!(
                "\nA node with two boot slots, in QEMU with real firmware. Seconds since it was built:\n"
            );
        }
    }

    fn tell(&self, who: &str, what: &str) {
        let at = self.begun.elapsed();
        if self.json {
            println!("{}", json!({ "seconds": at.as_secs_f64(), "who": who, "what": what }));
            return;
        }
        let (bold, plain) = if colours() { (colour(who), "\x1b[0m") } else { ("", "") };
        println!("{:7.1} s  {bold}{who:<9}{plain} {what}", at.as_secs_f64());
    }

    fn end(&self, boots: usize, total: Duration) {
        if self.json {
            println!("{}", json!({ "boots": boots, "total_seconds": total.as_secs_f64(), "result": "ok" }));
            return;
        }
        println!(
            "\nShown in {boots} boots: an update is tried before it is trusted, confirmed by the node's own\n\
             health, and left again without a person when it is bad. And of two compartments one\n\
             is master, the other takes over, and never do two act. The whole run took {}.\n\n\
             Next:\n  target/bulkhead/bulkhead playground run   the cluster, to hurt by hand\n  \
             BULKHEAD_KEEP=1 cargo xtask demo      keep the node's disk and console\n  \
             target/bulkhead/bulkhead --help       the commands used here\n  \
             docs/flashing.md                      the same on a real disk",
            spoken(total)
        );
    }
}

fn colours() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn colour(who: &str) -> &'static str {
    match who {
        "operator" => "\x1b[1;33m",
        "boot" => "\x1b[1;36m",
        _ => "\x1b[1;32m",
    }
}
