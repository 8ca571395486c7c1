//! Disks with a cache that a power cut empties: what was not flushed is there or not, each write by chance.
//!
//! QEMU's driver `blklogwrites` records every write and every flush beside the image. After the cut the image
//! is made anew: what it was at power-on, every write before the last flush, and of those after it whatever
//! chance keeps. The record's format is that of Linux' dm-log-writes.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::disk::{Image, copy};
use crate::switch::chance::Chance;

/// A sector of the record, and the unit in which it counts.
const SECTOR: u64 = 512;
/// The first sector begins with this, a version, and how many entries there were at the last flush.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// An entry's flags.
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// A disk whose writes are recorded.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    image: PathBuf,
    seed: u64,
}

/// A write, or a flush, which has no length.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    offset: u64,
    length: u64,
    flags: u64,
    data: Vec<u8>,
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Writes after the last flush that are there.
    pub(super) kept: usize,
    /// Those that are not.
    pub(super) lost: usize,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} are there and {} are not", self.kept, self.lost)
    }
}

impl Recorded {
    pub(super) fn new(image: &Path, seed: u64) -> Self {
        Self { image: image.into(), seed }
    }

    /// Where QEMU records.
    pub(super) fn record(&self) -> PathBuf {
        self.image.with_extension("writes")
    }

    fn before(&self) -> PathBuf {
        self.image.with_extension("before")
    }

    /// At power-on: keeps what the disk is now, and begins a new record.
    pub(super) fn begin(&self) -> Result<()> {
        copy(&self.image, &self.before())?;
        File::create(self.record()).with_context(|| format!("making {}", self.record().display())).map(drop)
    }

    /// After a power cut: takes away what was not flushed and has no luck. `None`: nothing, for it is not
    /// known what was flushed.
    pub(super) fn cut(&self) -> Result<Option<Lost>> {
        let (entries, count) = read(&self.record())?;
        // A write whose record was not written when QEMU was killed hides the flush behind it: such a cut
        // loses nothing, rather than too much.
        if u64::try_from(entries.len())? < count {
            return Ok(None);
        }
        let flushed = entries.iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |at| at + 1);
        let mut chance = Chance::new(self.seed, u64::try_from(entries.len())?);
        // All, none, or half of what is left.
        let luck = chance.below(3);
        let mut lost = Lost::default();
        copy(&self.before(), &self.image)?;
        let image = Image::open(&self.image)?;
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| 0 < entry.length) {
            if flushed <= at {
                if luck < chance.below(2) + 1 {
                    lost.lost += 1;
                    continue;
                }
                lost.kept += 1;
            }
            apply(&image, entry)?;
        }
        Ok(Some(lost))
    }
}

fn apply(image: &Image, entry: &Entry) -> Result<()> {
    if entry.flags & DISCARD != 0 {
        return image.zero(entry.offset..entry.offset.saturating_add(entry.length));
    }
    image.write(entry.offset, &entry.data)
}

/// The entries, up to the first that is not there, and how many there were at the last flush.
fn read(path: &Path) -> Result<(Vec<Entry>, u64)> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut input = BufReader::new(file);
    let mut entries = Vec::new();
    let Some(head) = sector(&mut input)? else { return Ok((entries, 0)) };
    let [magic, version, count, size] = words(&head);
    let sector_size = size & u64::from(u32::MAX);
    ensure!(
        (magic, version, sector_size) == (MAGIC, VERSION, SECTOR),
        "{} is no record of writes",
        path.display()
    );
    while let Some(head) = sector(&mut input)? {
        let [at, sectors, flags, _] = words(&head);
        if sectors == 0 && flags == 0 {
            break;
        }
        let (offset, length) = (at * SECTOR, sectors * SECTOR);
        let mut data = Vec::new();
        if flags & DISCARD == 0 {
            input.by_ref().take(length).read_to_end(&mut data)?;
            if u64::try_from(data.len())? < length {
                break;
            }
        }
        entries.push(Entry { offset, length, flags, data });
    }
    Ok((entries, count))
}

/// The next sector; `None` where not all of it is there.
fn sector(input: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(SECTOR).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| u64::try_from(bytes.len()).is_ok_and(|length| length == SECTOR)))
}

/// The first four words of a sector.
fn words(bytes: &[u8]) -> [u64; 4] {
    let mut words =
        bytes.chunks_exact(8).map(|word| word.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)));
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Run;

    /// What is left after these commands of `qemu-io` and a power cut: the first byte of each 4 KiB.
    fn left(commands: &[&str], seed: u64) -> (Vec<u8>, Lost) {
        let place = tempfile::tempdir().unwrap();
        let image = Image::create(place.path().join("disk.img"), 32 << 10).unwrap();
        image.write(28 << 10, &[9]).unwrap();
        let disk = Recorded::new(image.path(), seed);
        disk.begin().unwrap();
        let mut run = Run::new("qemu-io").args(["-t", "writeback"]);
        for command in commands {
            run = run.args(["-c", command]);
        }
        let (file, log) = (image.path().display(), disk.record());
        let options = format!(
            "driver=blklogwrites,file.driver=file,file.filename={file},log.driver=file,log.filename={}",
            log.display()
        );
        run.args(["--image-opts", &options]).succeed().unwrap();
        // It flushes when it ends in order: that is taken out of the record again.
        let (mut entries, _) = read(&log).unwrap();
        while entries.pop_if(|entry| entry.flags & FLUSH != 0).is_some() {}
        let of = |entry: &Entry| SECTOR + u64::try_from(entry.data.len()).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
        file.set_len(SECTOR + entries.iter().map(of).sum::<u64>()).unwrap();
        let count = u64::try_from(entries.len()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &count.to_le_bytes(), 16).unwrap();
        let lost = disk.cut().unwrap().unwrap();
        let bytes = image.read(0, 32 << 10).unwrap();
        (bytes.chunks_exact(4096).map(|block| block[0]).collect(), lost)
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_is_there_or_not() {
        let commands = [
            "write -P 1 0 8k",
            "write -P 2 4k 4k",
            "discard 28k 4k",
            "flush",
            "write -P 3 8k 4k",
            "write -P 4 12k 4k",
            "write -P 5 4k 4k",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let (bytes, lost) = left(&commands, seed);
            assert_eq!((bytes[0], bytes[7]), (1, 0), "flushed: {bytes:?}");
            assert!([2, 5].contains(&bytes[1]) && [0, 3].contains(&bytes[2]) && [0, 4].contains(&bytes[3]));
            assert_eq!(lost.kept + lost.lost, 3);
            seen.insert((bytes[1], bytes[2], bytes[3]));
        }
        assert!(seen.contains(&(2, 0, 0)) && seen.contains(&(5, 3, 4)), "all and nothing: {seen:?}");
        assert!(seen.contains(&(5, 0, 0)) || seen.contains(&(2, 3, 4)), "in another order: {seen:?}");
    }
}
