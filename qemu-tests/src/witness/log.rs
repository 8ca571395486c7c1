//! The log of the firmware: defmt frames, read with the ELF file they belong to.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result};
use defmt_decoder::{DecodeError, Table};

/// Reads frames from `stream` in the background, and hands them on as lines, until the stream ends.
///
/// # Errors
/// When `elf` is not there, or is no program that logs with defmt.
pub fn read(elf: &Path, mut stream: impl Read + Send + 'static) -> Result<Receiver<String>> {
    let what = || {
        let elf = elf.display();
        format!("{elf} does not explain the log.\n  Next: give the ELF file that was flashed to this board")
    };
    let file = std::fs::read(elf).with_context(what)?;
    let table = Table::parse(&file).with_context(what)?.with_context(what)?;
    let (lines, received) = channel();
    thread::spawn(move || {
        let mut decoder = table.new_stream_decoder();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            decoder.received(buffer.get(..count).unwrap_or_default());
            loop {
                let line = match decoder.decode() {
                    Ok(frame) => frame.display(false).to_string(),
                    Err(DecodeError::UnexpectedEof) => break,
                    // The line begins in the middle of a frame, or lost a byte: the next one is whole.
                    Err(DecodeError::Malformed) => "(a frame that cannot be read)".to_owned(),
                };
                if lines.send(line).is_err() {
                    return;
                }
            }
        }
    });
    Ok(received)
}
