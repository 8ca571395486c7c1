//! `bulkhead logs witness`, as an operator meets it. What frames come to is tested beside the code, and with
//! a real firmware in QEMU by the harness.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use common::{Answer, bulkhead};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

fn logs(args: &[&str]) -> Answer {
    bulkhead(&[&["logs", "witness"], args].concat()).stdin(Stdio::null()).output().unwrap().into()
}

/// Without the file that has the words there is nothing to show: what to do is said.
#[test]
fn a_log_needs_the_elf_file_of_its_firmware() {
    let none = logs(&["-"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("no ELF file is named") && none.err.contains("witness.elf"), "{}", none.err);
    let missing = logs(&["--elf", "/nowhere/witness.elf", "-"]);
    assert!(missing.code == 1 && missing.err.contains("cannot read /nowhere/witness.elf"), "{}", missing.err);
    let other = logs(&["--elf", "/bin/sh", "-"]);
    assert!(other.code == 1 && other.err.contains("does not explain a log"), "{}", other.err);
    let nowhere = logs(&["--elf", "/bin/sh"]);
    assert!(nowhere.code == 2 && nowhere.err.contains("nothing says where the log comes from"));
}

/// The raw stream, byte by byte, for programs of others such as `defmt-print tcp`.
#[test]
fn the_raw_stream_is_offered_unchanged() {
    let mut command = bulkhead(&["logs", "witness", "--serve", "127.0.0.1:0", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().to_owned();
    let mut connections: Vec<_> = (0..2).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // What is sent before a connection is taken in is not for it.
    std::thread::sleep(Duration::from_millis(200));
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes).unwrap();
    for connection in &mut connections {
        let mut found = vec![0; bytes.len()];
        connection.read_exact(&mut found).unwrap();
        assert_eq!(found, bytes);
    }
    // One that goes away does not disturb the others.
    drop(connections.pop());
    input.write_all(&bytes).unwrap();
    drop(input);
    let mut rest = Vec::new();
    connections.pop().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, bytes);
    assert!(child.wait().unwrap().success());
}
