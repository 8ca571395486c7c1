//! `cargo xtask demo`: the main job, shown. A node boots, takes a good update, takes a bad one, and
//! comes back; then two compartments elect a master, lose it, and go on, with the firmware witness as third
//! voter; then a compartment is lost under a Linux guest, which goes on in the other one and comes home.

mod failover;

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::{LONG, Lab, NodeDisk, Rig, parcel};
use qemu_tests::process::Owned;
use qemu_tests::tooling::firmware;
use qemu_tests::tooling::node_image::Variant;
use qemu_tests::tooling::progress::spoken;
use qemu_tests::tooling::setup;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::witness::board::{Board, Parts, Wire};
use qemu_tests::witness::playground;
use qemu_tests::witness::tap::free_ports;
use qemu_tests::witness::votes::Votes;
use serde_json::json;

/// How often the bad update is tried: the default of `bulkhead image disk`.
const TRIES: u32 = 3;
/// Longest time until the playground has written its files.
const FILES_MAX: Duration = Duration::from_secs(20);
/// Longest time that the story of the compartments takes: its own bounds end it before.
const STORY_MAX: Duration = Duration::from_secs(300);

/// Show the main job: build everything, boot a node in QEMU, update it well, then badly, and watch it come
/// back; then let two compartments lose their master and go on, with the firmware witness in QEMU as third
/// voter; then lose a compartment under a Linux guest, which goes on in the other one and comes home.
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
        let elf = firmware::witness(workspace)?;
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
        compartments(lab, artefacts, elf.clone(), arguments.json)?;
        story.next("Now two compartments of nodes in QEMU, with a Linux guest on nested KVM:");
        // Another site: its witness has a card of its own.
        let figures = Artefacts::of("demo-guest", |artefacts| failover::run(&story, lab, artefacts, &elf))?;
        story.end(boots, &figures.text(), begun.elapsed());
        Ok(())
    })
}

/// The second half: a whole cluster as processes, told by the command itself, with the firmware in QEMU as
/// its witness.
fn compartments(lab: &Lab, artefacts: &Artefacts, elf: PathBuf, json: bool) -> Result<()> {
    let about =
        "the witness is the firmware on an emulated board (QEMU, lm3s6965evb), its votes on an SD card";
    match json {
        true => println!("{}", json!({ "who": "witness", "what": about })),
        false => println!("\nNow {about}.\n"),
    }
    let (ports, directory) = (free_ports()?, artefacts.path("playground"));
    let [one, two] = ports.map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(&lab.bulkhead);
    command.args(["playground", "demo", "--witness", &format!("{one},{two}"), "--dir"]).arg(&directory);
    command.args(json.then_some("--json"));
    let mut playground = Owned::start(&command, [Stdio::null(), Stdio::inherit(), Stdio::inherit()])?;
    let card = artefacts.path("witness.card");
    await_card(lab, &mut playground, &directory, &card)?;
    let (wire, control) = (Wire::User(ports), artefacts.socket("w.qmp"));
    let board = Board::power_on(&Parts { elf, card: Some(card.clone()), strip: None, wire, control })?;
    let status = playground.wait(STORY_MAX)?.context("the playground did not come to its end")?;
    ensure!(status.success(), "the playground ended with {status}");
    drop(board);
    let votes = Votes::read(&card)?.changes();
    ensure!(0 < votes, "the witness never voted");
    match json {
        true => println!("{}", json!({ "who": "witness", "votes": votes })),
        false => println!("\nThe firmware wrote {votes} votes on its card; none left before it was there."),
    }
    Ok(())
}

/// Makes the card as soon as the playground has written what the witness must know.
fn await_card(lab: &Lab, playground: &mut Owned, directory: &Path, card: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        let made = playground::card(lab, directory, card, 0);
        if made.is_ok() || FILES_MAX < begun.elapsed() || playground.ended()?.is_some() {
            return made;
        }
        thread::sleep(Duration::from_millis(20));
    }
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

    fn next(&self, what: &str) {
        if !self.json {
            println!("\n{what}\n");
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

    fn end(&self, boots: usize, guest: &str, total: Duration) {
        if self.json {
            let seconds = total.as_secs_f64();
            println!(
                "{}",
                json!({ "boots": boots, "guest": guest, "total_seconds": seconds, "result": "ok" })
            );
            return;
        }
        println!(
            "\nShown in {boots} boots: an update is tried before it is trusted, confirmed by the node's own\n\
             health, and left again without a person when it is bad. And of two compartments one\n\
             is master, the other takes over, and never do two act; the third vote is a\n\
             microcontroller's. {guest}\n\
             The whole run took {}.\n\n\
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
