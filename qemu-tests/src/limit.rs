//! At most so many QEMUs at a time on the whole machine, whatever number of test binaries runs.
//!
//! Slots are file locks below a directory that all users of the machine share, so the kernel frees
//! them when a holder dies. Waiting is first come, first served: one waiter at a time holds the
//! queue lock, and takes all the slots it needs at once, so two tests with two nodes each cannot
//! hold one slot each and wait for ever.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest wait for a slot. Longer than any test: whoever waits so long waits for a stuck one.
const WAIT_MAX: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(25);

/// Leave to run some number of QEMUs, given back on drop.
#[derive(Debug)]
pub struct Permit {
    slots: Vec<File>,
}

impl Permit {
    /// Waits for leave to run `count` machines. A test with several nodes takes one permit for all of
    /// them and shares it ([`crate::machine::Machine::permit`]).
    ///
    /// The machine-wide number is that of its processors, or `BULKHEAD_QEMU_SLOTS`. A test that needs
    /// more than there are gets all of them and runs alone.
    ///
    /// # Errors
    /// When the lock files cannot be used, or no slot came free for 15 minutes.
    pub fn take(count: usize) -> Result<Self> {
        let directory = PathBuf::from("/tmp/bulkhead-qemu-slots");
        Self::take_from(&directory, total()?, count, WAIT_MAX)
    }

    /// How many slots this permit holds.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    fn take_from(directory: &Path, total: usize, count: usize, wait: Duration) -> Result<Self> {
        let wanted = count.clamp(1, total);
        let deadline = Instant::now() + wait;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("the directory of the QEMU slots, {}", directory.display()))?;
        // For another user's tests on the same machine. Only the directory's owner may do this, and did.
        let _ = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o1777));
        let queue = open(&directory.join("queue"))?;
        while queue.try_lock().is_err() {
            pause(deadline, wanted, total)?;
        }
        let mut slots = Vec::new();
        loop {
            for index in 0..total {
                if slots.len() < wanted {
                    let slot = open(&directory.join(format!("slot-{index}")))?;
                    // A slot of our own counts as taken too: locks belong to the open file.
                    if slot.try_lock().is_ok() {
                        slots.push(slot);
                    }
                }
            }
            if slots.len() == wanted {
                return Ok(Self { slots });
            }
            // What we hold we keep: nobody else can take slots while we hold the queue.
            pause(deadline, wanted, total)?;
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o666)
        .open(path)
        .with_context(|| format!("the lock file of a QEMU slot, {}", path.display()))
}

fn total() -> Result<usize> {
    match std::env::var("BULKHEAD_QEMU_SLOTS") {
        Ok(text) => match text.parse() {
            Ok(total @ 1..=1024) => Ok(total),
            Ok(_) | Err(_) => bail!("BULKHEAD_QEMU_SLOTS is `{text}`; it must be a number from 1 to 1024"),
        },
        Err(_) => Ok(thread::available_parallelism().map_or(1, std::num::NonZero::get)),
    }
}

fn pause(deadline: Instant, wanted: usize, total: usize) -> Result<()> {
    if Instant::now() >= deadline {
        bail!(
            "no {wanted} of the machine's {total} QEMU slots came free in time; other tests hold them.\n  \
             Next: look for a stuck test (`ps -ef | grep qemu-system`), or set BULKHEAD_QEMU_SLOTS higher."
        );
    }
    thread::sleep(POLL);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_total_are_given_and_drop_gives_back() {
        let place = tempfile::tempdir().unwrap();
        let take = |count| Permit::take_from(place.path(), 3, count, Duration::from_millis(60));
        let two = take(2).unwrap();
        let one = take(1).unwrap();
        let text = format!("{:#}", take(1).unwrap_err());
        assert!(text.contains("no 1 of the machine's 3 QEMU slots"), "{text}");
        drop(two);
        assert!(take(3).is_err(), "one slot is still held");
        drop(one);
        assert_eq!(take(9).unwrap().slots(), 3, "a test that asks for too much runs alone");
    }
}
