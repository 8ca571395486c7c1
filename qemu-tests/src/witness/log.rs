//! The log of the firmware, line by line, as `bulkhead logs witness` shows it.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Result, anyhow};
use bulkhead::witness_log::Words;

/// Reads frames from `stream` in the background, and hands them on as lines, until the stream ends.
///
/// # Errors
/// When `elf` is not there, or is no program that logs with defmt.
pub fn read(elf: &Path, mut stream: impl Read + Send + 'static) -> Result<Receiver<String>> {
    let words = Words::read(elf).map_err(|failure| anyhow!(failure.text()))?;
    let (lines, received) = channel();
    thread::spawn(move || {
        let mut reader = words.reader();
        let mut buffer = [0; 1024];
        let mut is_heard = true;
        while is_heard && let Ok(count @ 1..) = stream.read(&mut buffer) {
            reader.take(buffer.get(..count).unwrap_or_default(), &mut |line| {
                is_heard &= lines.send(line.to_string()).is_ok();
            });
        }
    });
    Ok(received)
}
