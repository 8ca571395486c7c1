//! Linux guests in nodes, on nested KVM, by `bulkhead vmm` (S2-01, S3-06, S4-01).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead::vmm::mac::Mac;
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::{LONG, Lab, NodeDisk, Rig};
use qemu_tests::site::guests::{GUEST, describe, recipe};
use qemu_tests::site::{Part, Site};
use serde_json::Value;

/// As for other sites of emulated nodes: a pause of half a second must not count as a death.
const TIMERS: &str = "rto = \"5s\"\npause = \"500ms\"";

/// The command that describes a guest with so many processors and these devices, which does this, and runs
/// it.
fn guest(does: &str, processors: u32, devices: &str) -> String {
    format!("{}; bulkhead vmm /tmp/{does}.toml --alone --once", describe(does, processors, devices))
}

/// A site with the volume `vm1`, the node that leads it, and the other one.
fn with_a_volume(artefacts: &Artefacts) -> Result<(Site, Part, Part)> {
    let lab = Lab::get()?;
    let image = lab.image_of(&recipe(&["shell", "volumes"]))?;
    let mut site = Site::with_volumes(artefacts, lab, &image, TIMERS)?;
    site.power_on(&Part::ALL)?;
    let leads = site.wait_synced()?;
    site.command(leads, "bulkhead volume create vm1 --size 64MiB")?;
    Ok((site, leads, leads.peer().context("the other node")?))
}

/// What a guest said behind these words.
fn said<'a>(text: &'a str, words: &str) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.split_once(&format!("guest: {words} ")));
    Ok(line.with_context(|| format!("the guest did not say `{words}`: {text}"))?.1.trim())
}

/// S2-01: the kernel of the node itself starts in a guest with two processors, finds its memory and its
/// devices, and is off when it wants to be; a guest that resets is told from one that is off.
#[test]
fn a_linux_guest_runs_in_a_node() -> Result<()> {
    Artefacts::of("guest", |artefacts| {
        let lab = Lab::get()?;
        let image = lab.image_of(&recipe(&["shell"]))?;
        let mut rig = NodeDisk { image, ..NodeDisk::new(lab, "host")? }.node(artefacts)?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.shell.ready(LONG)?;
        let first = rig.shell.exit(0, &guest("chance", 2, ""), GUEST)?;
        let up = said(&first, "up")?;
        let kib: u32 = up.split(' ').nth(3).context("the memory")?.parse()?;
        // The kernel keeps a part for itself.
        ensure!((64 << 10..128 << 10).contains(&kib), "{up}");
        ensure!(up.starts_with("with 2 processors, ") && up.contains("virtio"), "{up}");
        let second = rig.shell.exit(0, &guest("chance", 1, ""), GUEST)?;
        ensure!(said(&first, "chance")? != said(&second, "chance")?, "{first}{second}");
        let json = format!("{} --json", guest("reset", 1, ""));
        let resets = rig.shell.exit(0, &json, GUEST)?;
        ensure!(resets.contains("\"ended\":\"reset\""), "{resets}");
        let typed = format!("(sleep 20; echo hello) | ({})", guest("echo", 1, ""));
        let echoes = rig.shell.exit(0, &typed, GUEST)?;
        ensure!(said(&echoes, "heard")? == "hello", "{echoes}");
        // The same by a console over memory.
        let typed = format!("(sleep 20; echo hello) | ({})", guest("hvc", 1, "console = \"virtio\"\\n"));
        let echoes = rig.shell.exit(0, &typed, GUEST)?;
        ensure!(said(&echoes, "heard")? == "hello", "{echoes}");
        goes_on_without_its_terminal(&rig)?;
        loses_its_heartbeat(&rig)?;
        rig.node.power_cut()
    })
}

/// A guest in a process of its own is held, goes on, is written and goes on from there, and ends itself when
/// its power button is pressed (S3-06, S0-11).
fn goes_on_without_its_terminal(rig: &Rig) -> Result<()> {
    let described = describe("button", 1, "");
    let make = "bulkhead vm create /tmp/button.toml && \
                bulkhead vm start button --alone";
    rig.shell.exit(0, &format!("{described}; {make}"), GUEST)?;
    let until = |what: &str| {
        format!(
            "n=0; until bulkhead vm log button | grep '{what}'; do sleep 1; n=$((n+1)); [ $n -lt 90 ]; done"
        )
    };
    rig.shell.exit(0, &until("waits for its button"), GUEST)?;
    rig.shell.exit(0, "bulkhead vm pause button && bulkhead vm show button | grep Paused", GUEST)?;
    rig.shell.exit(0, "bulkhead vm resume button", GUEST)?;
    // Twice out of one process into a file and into another process: it still waits where it waited.
    let again = "bulkhead vm snapshot button /tmp/button.snapshot --stop && \
                 bulkhead vm restore button /tmp/button.snapshot --alone";
    rig.shell.exit(0, &format!("{again} && sleep 2 && {again}"), GUEST)?;
    rig.shell.exit(0, "bulkhead vm stop button --timeout 90s", GUEST)?;
    let log = rig.shell.exit(0, "bulkhead vm log button; bulkhead vm list", GUEST)?;
    ensure!(log.contains("was told to end") && log.contains("Off"), "{log}");
    Ok(())
}

/// The driver that Linux has for it beats for a guest; when nobody feeds it any more, that is said, and the
/// guest ends as its description says (S3-03).
fn loses_its_heartbeat(rig: &Rig) -> Result<()> {
    let described = describe("heart", 1, "[heartbeat]\\nlost = \"stop\"\\nbegins_within = \"5m\"\\n");
    let make = "bulkhead vm create /tmp/heart.toml && bulkhead vm start heart --alone";
    rig.shell.exit(0, &format!("{described}; {make}"), GUEST)?;
    let until = |command: &str, what: &str| {
        format!("n=0; until {command} | grep '{what}'; do sleep 1; n=$((n+1)); [ $n -lt 90 ]; done")
    };
    rig.shell.exit(0, &until("bulkhead vm show heart", "heartbeat    beats$"), GUEST)?;
    rig.shell.exit(0, &until("bulkhead vm log heart", "guest: stops beating"), GUEST)?;
    rig.shell.exit(0, "bulkhead vm show heart | grep 'heart: Running'", GUEST)?;
    rig.shell.exit(0, &until("bulkhead vm show heart", "heart: Off"), GUEST)?;
    let said = rig.shell.exit(0, "cat /var/lib/bulkhead/guests/heart/messages", GUEST)?;
    ensure!(said.contains("guest heart: its heartbeat is lost"), "{said}");
    Ok(())
}

/// S2-01: a guest on a bridge of its node is pinged there, and gives back what it is sent, whole; long
/// segments of TCP pass in both directions without being cut.
#[test]
fn a_guest_and_its_node_reach_each_other() -> Result<()> {
    Artefacts::of("guest-network", |artefacts| {
        let lab = Lab::get()?;
        let image = lab.image_of(&recipe(&["shell"]))?;
        let mut rig = NodeDisk { image, ..NodeDisk::new(lab, "host")? }.node(artefacts)?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.shell.ready(LONG)?;
        let bridge = "ip link add br0 type bridge; ip addr add 10.77.0.1/24 dev br0; ip link set br0 up";
        rig.shell.exit(0, bridge, LONG)?;
        let network = "[[network]]\\ntap = \"guest-0\"\\nbridge = \"br0\"\\n";
        rig.shell.exit(0, &format!("({}) >/tmp/said 2>&1 &", guest("network", 1, network)), LONG)?;
        let ping = "until ping -c 1 -W 1 10.77.0.2; do sleep 1; \
                    if grep bulkhead: /tmp/said; then exit 1; fi; done";
        rig.shell.exit(0, ping, GUEST)?;
        // The guest is there before its servers are.
        let there_and_back = "head -c 2000000 /dev/urandom >/tmp/there; \
                              until nc 10.77.0.2 7 </tmp/there; do sleep 1; done; \
                              until nc 10.77.0.2 8 </dev/null >/tmp/back; do sleep 1; done; \
                              cmp /tmp/there /tmp/back";
        rig.shell.exit(0, there_and_back, GUEST)?;
        // The tap goes with the guest.
        let off = "while [ -e /sys/class/net/guest-0 ]; do sleep 1; done; cat /tmp/said";
        let text = rig.shell.exit(0, off, GUEST)?;
        ensure!(said(&text, "network")? == Mac::derived("network", 0).to_string(), "{text}");
        for direction in ["received", "sent"] {
            let frames = said(&text, direction)?.strip_prefix("2000000 bytes in ").context(text.clone())?;
            let frames: u64 = frames.trim_end_matches(" frames").parse()?;
            // There are 1448 bytes of TCP in one that is whole.
            ensure!(frames < 2_000_000 / 1448, "{direction}: {text}");
        }
        rig.node.power_cut()
    })
}

/// S4-01, S3-06, I5: a guest's disk is a mirrored volume. What one guest has written and flushed on one node,
/// one on the other node reads when the first node has lost its power.
#[test]
fn what_a_guest_wrote_is_there_when_its_node_is_not() -> Result<()> {
    Artefacts::of("guest-volume", |artefacts| {
        let (mut site, primary, other) = with_a_volume(artefacts)?;
        let wrote = run(&site, primary, "write")?;
        ensure!(said(&wrote, "disk of")? == "131072 sectors, blocks of 4096", "{wrote}");
        let content = said(&wrote, "wrote")?;
        site.power_cut(primary)?;
        site.wait(other, "the other node leads", |status| {
            status.pointer("/storage/leads") == Some(&Value::Bool(true))
        })?;
        let read = run(&site, other, "read")?;
        ensure!(said(&read, "read")? == content, "{wrote}{read}");
        Ok(())
    })
}

/// X15, S0-11, I5: a Linux guest that writes moves to the other node and back, and does not notice: each
/// write is there once, and its clock makes no jump. A move that is cancelled leaves it where it is.
#[test]
fn a_linux_guest_moves_between_two_nodes() -> Result<()> {
    Artefacts::of("guest-moves", |artefacts| {
        let (site, first, other) = with_a_volume(artefacts)?;
        let described = describe("moves", 1, "[[disk]]\\nvolume = \"vm1\"\\n");
        let shell = &site.rig(first)?.shell;
        shell.exit(0, &format!("{described}; bulkhead vm create /tmp/moves.toml"), GUEST)?;
        shell.exit(0, "bulkhead vm start moves", GUEST)?;
        let mut at = goes_on(&site, first, 0)?;

        let cancelled = format!(
            "(bulkhead vm migrate moves --to {} --bandwidth 1MiB >/tmp/said 2>&1; \
             echo ended >>/tmp/said) & until grep round /tmp/said; do sleep 1; done; \
             bulkhead vm migrate moves --cancel; until grep ended /tmp/said; do sleep 1; done; cat /tmp/said",
            other.name()
        );
        let cancelled = shell.exit(0, &cancelled, GUEST)?;
        ensure!(cancelled.contains("was cancelled. It stays on this node"), "{cancelled}");
        at = goes_on(&site, first, at)?;

        for (from, to) in [(first, other), (other, first)] {
            let migrate = format!("bulkhead vm migrate moves --to {} --json", to.name());
            let moved = site.rig(from)?.shell.exit(0, &migrate, GUEST)?;
            println!("{} to {}: {moved}", from.name(), to.name());
            ensure!(site.command(from, "bulkhead vm show moves")?.contains("Off"), "it is in two places");
            at = goes_on(&site, to, at)?;
        }
        let log = shell.exit(0, "bulkhead vm stop moves --now; bulkhead vm log moves", GUEST)?;
        ensure!(!log.contains("wrong:"), "{log}");
        Ok(())
    })
}

/// S0-07 to S0-09, S3-01, S3-08 (I2, I5): the node on which a Linux guest writes loses its power. The guest
/// begins in the other compartment without anybody's doing, finds every write that it had said to be durable,
/// and goes on; when the node is back, it goes home while it runs.
#[test]
fn a_linux_guest_goes_on_in_the_other_compartment_and_comes_home() -> Result<()> {
    Artefacts::of("guest-fails-over", |artefacts| {
        let (mut site, home, other) = with_a_volume(artefacts)?;
        site.start_guest(home, "keeps", "vm1")?;
        site.kept(home, 20)?;
        let told = site.kept(home, 0)?;

        // Of what was made on this node nothing but the volumes is anywhere else.
        site.power_cut(home)?;
        let lost = Instant::now();
        site.kept(other, told)?;
        let took = lost.elapsed();
        let text = site.command(other, "bulkhead vm log keeps; bulkhead events | grep guest")?;
        let found: u64 = said(&text, "found")?.parse()?;
        println!("kept {told} when the power was cut, found {found}, goes on after {took:?}: {text}");
        ensure!(told <= found && !text.contains("wrong:"), "{told} was kept, {text}");

        site.power_on(&[home])?;
        site.wait_synced()?;
        let told = site.kept(other, 0)?;
        let migrate = format!("bulkhead vm migrate keeps --to {}", home.name());
        site.rig(other)?.shell.exit(0, &migrate, GUEST)?;
        site.kept(home, told)?;
        let last = site.command(home, "bulkhead vm stop keeps --now; bulkhead vm log keeps")?;
        ensure!(!last.contains("wrong:"), "{last}");
        Ok(())
    })
}

/// S3-06, S3-11, I5: a Linux guest is written into its own volume in the middle of its work, and goes on from
/// there on the other node: each write is there once, and its clock makes no jump. Where it has written on
/// behind its snapshot, it does not go on from that.
#[test]
fn a_linux_guest_that_was_captured_goes_on_on_the_other_node() -> Result<()> {
    Artefacts::of("guest-resumes", |artefacts| {
        let (site, first, other) = with_a_volume(artefacts)?;
        site.start_guest(first, "moves", "vm1")?;
        let mut at = goes_on(&site, first, 0)?;

        let shell = &site.rig(first)?.shell;
        // It stands still for as long as that takes.
        let mut begun = Instant::now();
        shell.exit(0, "bulkhead vm snapshot moves --as early", GUEST)?;
        let early = begun.elapsed();
        at = goes_on_since(&site, first, at, early)?;
        begun = Instant::now();
        shell.exit(0, "bulkhead vm snapshot moves --stop", GUEST)?;
        let refused = shell.exit(3, "bulkhead vm restore moves --from early", GUEST)?;
        ensure!(refused.contains("vm1 was written to since the snapshot was taken"), "{refused}");

        let promote = format!("bulkhead volume promote {}", other.name());
        site.command(first, &promote)?;
        site.wait(other, "the other node leads", |status| {
            status.pointer("/storage/leads") == Some(&Value::Bool(true))
        })?;
        site.rig(other)?.shell.exit(0, "bulkhead vm restore moves", GUEST)?;
        goes_on_since(&site, other, at, begun.elapsed().max(early))?;
        let log = site.command(other, "bulkhead vm stop moves --now; bulkhead vm log moves")?;
        ensure!(!log.contains("wrong:"), "{log}");
        Ok(())
    })
}

/// Waits until the guest has written on behind this number, on this node; how far it is then. Its clock has
/// made no jump.
fn goes_on(site: &Site, part: Part, behind: u64) -> Result<u64> {
    goes_on_since(site, part, behind, Duration::ZERO)
}

/// The same of one that stood still for no longer than this.
fn goes_on_since(site: &Site, part: Part, behind: u64, still: Duration) -> Result<u64> {
    let least = behind.saturating_add(40);
    let last = "bulkhead vm log moves | sed -n 's/.*guest: at \\([0-9]*\\) .*/\\1/p' | tail -n 1";
    let wait = format!(
        "n=0; until [ $(($({last}) + 0)) -ge {least} ]; do sleep 1; n=$((n+1)); [ $n -lt 100 ] || break; \
         done; \
         bulkhead vm log moves | tail -n 3"
    );
    let text = site.rig(part)?.shell.exit(0, &wait, GUEST)?;
    let last = text.lines().rev().find_map(|line| line.split_once("guest: at ")).context(text.clone())?.1;
    let numbers: Vec<u64> = last.trim().split(" gap ").filter_map(|number| number.parse().ok()).collect();
    let [at, gap] = numbers[..] else { bail!("{text}") };
    let most = still.as_secs().saturating_add(20);
    ensure!(least <= at && gap < most && !text.contains("wrong:"), "{text}");
    Ok(at)
}

/// Runs a guest of the volume, by the socket of its node and under its lease.
fn run(site: &Site, part: Part, does: &str) -> Result<String> {
    let shown: Value = serde_json::from_str(&site.command(part, "bulkhead volume show vm1 --json")?)?;
    let uris = shown.to_string();
    let uri = uris.split('"').find(|text| text.starts_with("nbd+unix:")).context(uris.clone())?;
    let disk = format!("[[disk]]\\nuri = \"{uri}\"\\n");
    let command = format!("{}; bulkhead vmm /tmp/{does}.toml --once", describe(does, 1, &disk));
    site.rig(part)?.shell.exit(0, &command, GUEST)
}
