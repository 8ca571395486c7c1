//! A guest written into a file, and read back; beside a copy of that file.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;

use super::code;
use super::guest::{Guest, described};
use super::report::Row;

/// One guest that has written so many MiB, into a file and out of it.
pub fn turn(artefacts: &Artefacts, bulkhead: &Path, mib: u32, rows: &mut Vec<Row>) -> Result<()> {
    let (kernel, api) = (artefacts.path("writes"), artefacts.socket("api"));
    let (file, copy) = (artefacts.path("snapshot"), artefacts.path("copy"));
    fs::write(&kernel, code::writes(mib))?;
    let mut run = Command::new(bulkhead);
    run.arg("vmm").arg(described(artefacts, &kernel, code::memory_of(mib), None)?).args(["--alone", "--api"]);
    let (guest, _) = Guest::start(artefacts, run.arg(&api), Stdio::null())?;
    guest.says(b'a')?;
    // What others have to write is not to be waited for.
    rustix::fs::sync();
    let begun = Instant::now();
    snapshot(&api, &file)?;
    let written = begun.elapsed();
    drop(guest);
    let bytes = fs::metadata(&file)?.len();
    ensure!(u64::from(mib) << 20 <= bytes, "a snapshot of {bytes} bytes lacks what the guest has written");

    rustix::fs::sync();
    let begun = Instant::now();
    fs::copy(&file, &copy)?;
    fs::File::open(&copy)?.sync_all()?;
    let copied = begun.elapsed();
    fs::remove_file(&copy)?;
    let begun = Instant::now();
    fs::read(&file)?;
    let read = begun.elapsed();

    let mut restore = Command::new(bulkhead);
    restore.args(["vmm", "--alone", "--restore"]).arg(&file);
    let (mut guest, begun) = Guest::start(artefacts, &restore, Stdio::piped())?;
    let mut typed = guest.process().stdin().context("its input")?;
    typed.write_all(b"x")?;
    let restored = guest.says(b'x')? - begun;
    let what = format!("a guest that wrote {mib} MiB");
    let mut row = |done: &str, beside, ours: std::time::Duration, other: std::time::Duration| {
        let what = format!("{what}, {done}");
        let seen = (ours.as_secs_f64() * 1e3, Some(other.as_secs_f64() * 1e3));
        match rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.seen.push(seen),
            None => rows.push(Row { what, unit: "ms", beside, seen: vec![seen] }),
        }
    };
    row("until it is on disk", "a copy of the file", written, copied);
    row("from the file to its next instruction", "reading the file", restored, read);
    Ok(())
}

/// Has the guest at this socket written into a file.
fn snapshot(api: &Path, file: &Path) -> Result<()> {
    let body = format!("{{\"destination_url\": \"file://{}\"}}", file.display());
    let length = body.len();
    let mut stream = UnixStream::connect(api)?;
    write!(
        stream,
        "PUT /api/v1/vm.snapshot HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 204"), "vm.snapshot: {answer}");
    Ok(())
}
