//! Copies of image files that share blocks where the file system can, and keep holes where it cannot.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom as Position};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{SeekFrom, ioctl_ficlone, seek};

/// Copies `from` to `to`, which is replaced.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let source = File::open(from).with_context(|| format!("copying {}", from.display()))?;
    let target = File::create(to).with_context(|| format!("copying to {}", to.display()))?;
    // Refused by most file systems, at once.
    if ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut position = 0;
    while position < size {
        let begin = match seek(&source, SeekFrom::Data(position)) {
            Ok(begin) => begin,
            // Only a hole is left.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error).with_context(|| format!("finding data in {}", from.display())),
        };
        let end = seek(&source, SeekFrom::Hole(begin))?;
        copy_range(&source, &target, begin, end).with_context(|| format!("copying to {}", to.display()))?;
        position = end;
    }
    Ok(())
}

fn copy_range(mut source: &File, target: &File, begin: u64, end: u64) -> Result<()> {
    let mut buffer = vec![0; 1024 * 1024];
    source.seek(Position::Start(begin))?;
    let mut reader = source.take(end - begin);
    let mut offset = begin;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        target.write_all_at(buffer.get(..count).unwrap_or_default(), offset)?;
        offset += u64::try_from(count)?;
    }
}
