//! QEMU boots what our guests boot, with a mirrored volume by its NBD URI: nobody needs our virtual machine
//! monitor to have the volumes (S1-27, S4-01).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::process::{Owned, Run};
use qemu_tests::tooling::guest_image::{GuestImage, guest_image};

/// A guest under emulation, from its start to its end.
const GUEST: Duration = Duration::from_secs(180);
/// Two agents and a witness on this machine agree within this time.
const AGREE: Duration = Duration::from_secs(60);

/// What a Linux guest of QEMU has written and flushed on one node, one with the volume of the other node
/// reads when that leads: the kernel and the first files are those of the guests in `guest.rs`.
#[test]
fn qemu_boots_the_same_kernel_with_the_same_volume() -> Result<()> {
    Artefacts::of("guest-qemu", |artefacts| {
        let lab = Lab::get()?;
        let image = guest_image(&lab.workspace)?;
        let directory = artefacts.path("plant");
        let mut command = Command::new(&lab.bulkhead);
        command.args(["playground", "run", "--volumes", "--dir"]).arg(&directory);
        let _plant = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
        let volume = |node: &str, words: &[&str]| {
            let socket = directory.join(format!("{node}.sock"));
            lab.tool(["volume"]).args(words).arg("--socket").arg(socket).output()
        };
        let begun = Instant::now();
        let (here, there) = loop {
            let does =
                |node: &str, words: &[&str]| volume(node, words).is_ok_and(|output| output.status.success());
            // Only the one that leads makes it.
            let leads = |node: &&&str| {
                does(node, &["wait", "--for", "in-sync", "--timeout", "1s"])
                    && does(node, &["create", "vm1", "--size", "64MiB"])
            };
            match ["a1", "b1"].iter().find(|node| leads(node)) {
                Some(&"a1") => break ("a1", "b1"),
                Some(_) => break ("b1", "a1"),
                None => ensure!(begun.elapsed() < AGREE, "no node of the playground leads its volumes"),
            }
        };
        let wrote = boots(&image, &directory.join(here).join("nbd.sock"), "write")?;
        ensure!(said(&wrote, "disk of")? == "131072 sectors, blocks of 4096", "{wrote}");
        let content = said(&wrote, "wrote")?;

        let promoted = volume(here, &["promote", there])?;
        ensure!(promoted.status.success(), "{}", promoted.stderr_text());
        let read = boots(&image, &directory.join(there).join("nbd.sock"), "read")?;
        ensure!(said(&read, "read")? == content, "{wrote}{read}");
        Ok(())
    })
}

/// What a guest of QEMU says that does this with the volume at an agent's NBD socket.
fn boots(image: &GuestImage, socket: &Path, does: &str) -> Result<String> {
    let drive =
        format!("id=disk,file=nbd+unix:///vm1?socket={},format=raw,if=none,cache=none", socket.display());
    let line = format!("console=ttyS0 loglevel=4 panic=-1 guest.does={does}");
    let qemu = Run::new("qemu-system-x86_64").args(["-M", "q35,accel=tcg", "-cpu", "max", "-m", "128M"]);
    let qemu = qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-nographic", "-serial", "stdio"]);
    let qemu =
        qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd).args(["-append", &line]);
    let qemu = qemu.args([
        "-drive",
        &drive,
        "-device",
        "virtio-blk-pci,drive=disk,logical_block_size=4096,physical_block_size=4096",
    ]);
    let qemu = qemu.args(["-device", "virtio-rng-pci"]);
    Ok(qemu.timeout(GUEST).succeed()?.stdout_text())
}

/// What a guest said behind these words.
fn said<'a>(text: &'a str, words: &str) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.split_once(&format!("guest: {words} ")));
    Ok(line.with_context(|| format!("the guest did not say `{words}`: {text}"))?.1.trim())
}
