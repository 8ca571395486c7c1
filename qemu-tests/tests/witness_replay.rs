//! What a witness on Linux was told, told to the firmware on its board: both do the same, bit for bit (X23).
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_core::provision::trace::STEP_HEAD;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::limit::Permit;
use qemu_tests::process::Owned;
use qemu_tests::tooling::firmware;
use qemu_tests::witness::board::{Parts, Wire};
use qemu_tests::witness::device::Device;
use qemu_tests::witness::tap::free_ports;

/// Longest time that the board takes for the record of half a minute.
const REPLAY_MAX: Duration = Duration::from_secs(60);

/// X23: a site of real agents loses its master, has its controller moved, is cut and healed, and its witness
/// on Linux is recorded. The firmware decides the same at each step; and a record with one bit changed is
/// found.
#[test]
fn the_firmware_decides_what_the_linux_witness_decided() -> Result<()> {
    Artefacts::of("witness-x23", |artefacts| {
        let lab = Lab::get()?;
        let elf = firmware::replay(&lab.workspace)?;
        let record = artefacts.path("record");
        a_busy_minute(lab, artefacts, &record)?;
        let length = std::fs::metadata(&record)?.len();
        // A card's size is a power of two.
        let file = OpenOptions::new().read(true).write(true).open(&record)?;
        file.set_len(length.next_power_of_two().max(1 << 20))?;
        let said = replayed(artefacts, &elf, &record)?;
        println!("{said}; {length} bytes");
        let steps: u32 = said.split(' ').find_map(|word| word.parse().ok()).context("no number of steps")?;
        ensure!(said.contains("all as recorded"), "{said}");
        ensure!(300 < steps, "little happened: {said}");

        // The last byte of the sum of the last step, which stands in front of the end.
        let at = last_step(&file, length)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 1], at)?;
        let said = replayed(artefacts, &elf, &record)?;
        ensure!(said.contains("differs from the record"), "{said}");
        Ok(())
    })
}

/// Where the sum of the last step ends.
fn last_step(file: &File, length: u64) -> Result<u64> {
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, 0)?;
    let votes = u64::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    // The beginning, the head, one block of peers, the votes.
    let mut at = (3 + votes) * 512;
    let mut last = at;
    loop {
        let head = bytes.get(usize::try_from(at)?..).and_then(|rest| rest.first_chunk::<STEP_HEAD>());
        let head = head.context("the record has no end")?;
        if head[0] == 0 {
            return Ok(last + STEP_HEAD as u64 - 1);
        }
        last = at;
        at += STEP_HEAD as u64 + u64::from(u16::from_le_bytes([head[2], head[3]]));
    }
}

fn a_busy_minute(lab: &Lab, artefacts: &Artefacts, record: &Path) -> Result<()> {
    let directory = artefacts.path("playground");
    let mut command = Command::new(&lab.bulkhead);
    command.args(["playground", "run", "--json", "--dir"]).arg(&directory).env("BULKHEAD_RECORD", record);
    let errors = File::create(artefacts.path("playground.stderr"))?;
    let mut playground = Owned::start(&command, [Stdio::null(), Stdio::piped(), errors.into()])?;
    let mut told = BufReader::new(playground.stdout().context("the playground has no output")?);
    told.read_line(&mut String::new())?;
    let fault = |words: &[&str]| {
        let run = lab.tool(["playground", "fault"]).args(words).arg("--dir").arg(&directory);
        run.succeed()?;
        std::thread::sleep(Duration::from_secs(2));
        Ok::<_, anyhow::Error>(())
    };
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..10 {
        for (from, to) in [("a1", "2"), ("b1", "1")] {
            let socket = directory.join(format!("{from}.sock"));
            lab.tool(["controller", "move", to, "--socket"]).arg(socket).output()?;
        }
    }
    for words in [
        &["kill", "a1"][..],
        &["start", "a1"],
        &["cut", "a1", "b1"],
        &["heal"],
        &["cut", "b1", "witness"],
        &["heal"],
        &["kill", "b1"],
        &["start", "b1"],
    ] {
        fault(words)?;
    }
    // The witness ends well, and its record with it.
    let id = i32::try_from(playground.id())?;
    let id = rustix::process::Pid::from_raw(id).context("no process")?;
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    let ended = playground.wait(Duration::from_secs(20))?.context("the playground did not end")?;
    ensure!(ended.success(), "the playground ended with {ended}");
    Ok(())
}

/// What the board says of a record.
fn replayed(artefacts: &Artefacts, elf: &Path, record: &Path) -> Result<String> {
    let (wire, control) = (Wire::User(free_ports()?), artefacts.socket("w.qmp"));
    let parts = Parts { elf: elf.into(), card: Some(record.into()), strip: None, wire, control };
    let device = Device::new(parts, &Arc::new(Permit::take(1)?));
    device.start()?;
    device.wait_log("replay", REPLAY_MAX)
}
