//! A guest's requests to its disk, one at a time: to a mirrored volume, and to a file that qemu-nbd serves.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::tooling::progress::step;

use super::super::served::{playground, qemu_nbd};
use super::disk_code::{self, REQUESTS};
use super::guest::{Guest, Monitor};
use super::report::Row;

/// Both disks, by both monitors, in turn.
pub fn figures(
    artefacts: &Artefacts,
    bulkhead: &Path,
    theirs: Option<&Monitor>,
    rounds: u32,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let (_playground, volume) = playground(bulkhead, &artefacts.path("playground"))?;
    let (_server, file) = qemu_nbd(artefacts, "file", &[])?;
    let ours = Monitor::Bulkhead(bulkhead.to_owned());
    for round in 0..=rounds {
        let name = if round == 0 { "to warm up".into() } else { format!("{round} of {rounds}") };
        step(&format!("bench: disks, round {name}"), || {
            for (disk, socket) in [("mirrored volume", &volume), ("file of qemu-nbd", &file)] {
                let uri = format!("nbd+unix:///vm1?socket={}", socket.display());
                let by = |monitor| turn(artefacts, monitor, &uri).with_context(|| disk.to_owned());
                let other = || theirs.map(by).transpose();
                let early = if round % 2 == 0 { other()? } else { None };
                let one = by(&ours)?;
                let other = if early.is_some() { early } else { other()? };
                if round != 0 {
                    keep(rows, disk, one, other);
                }
            }
            Ok(String::new())
        })?;
    }
    Ok(())
}

/// Writes and reads a second.
fn turn(artefacts: &Artefacts, monitor: &Monitor, uri: &str) -> Result<[f64; 2]> {
    let kernel = artefacts.path("asks");
    fs::write(&kernel, disk_code::asks(monitor.first_device()))?;
    let command = monitor.command(artefacts, &kernel, Some(uri))?;
    let (guest, _) = Guest::start(artefacts, &command, Stdio::null())?;
    let begun = guest.says(b'a')?;
    let written = guest.says(b'b')?;
    let read = guest.says(b'c')?;
    let rate = |time: std::time::Duration| f64::from(REQUESTS) / time.as_secs_f64();
    Ok([rate(written - begun), rate(read - written)])
}

fn keep(rows: &mut Vec<Row>, disk: &str, ours: [f64; 2], other: Option<[f64; 2]>) {
    for (place, way) in ["writes", "reads"].into_iter().enumerate() {
        let what = format!("4 KiB {way} of a guest, one at a time, {disk}");
        let other = other.and_then(|other| other.get(place).copied());
        let Some(ours) = ours.get(place).copied() else { continue };
        match rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.seen.push((ours, other)),
            None => {
                rows.push(Row { what, unit: "a second", beside: "qemu microvm", seen: vec![(ours, other)] })
            }
        }
    }
}
