//! The pages that a guest's memory is made of: the system's, or huge ones, which are set apart before the
//! guest begins and are its own until its process ends, so that it is never killed for lack of one.

use super::memory::{self, Memory};
use crate::failure::Failure;
use crate::output::size;
use rustix::fs::MemfdFlags;
use serde_json::{Value, json};
use std::io::{Error, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

/// What a guest's memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Those of the system, which gives each when it is touched.
    #[default]
    System,
    /// Of 2 MiB.
    Large,
    /// Of 1 GiB.
    Giant,
}

impl Pages {
    /// The huge ones.
    pub const HUGE: [Self; 2] = [Self::Large, Self::Giant];

    /// How many bytes one has.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::System => 4096,
            Self::Large => 2 << 20,
            Self::Giant => 1 << 30,
        }
    }

    /// As a guest's description says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "4KiB",
            Self::Large => "2MiB",
            Self::Giant => "1GiB",
        }
    }

    /// Those that a guest's description names for so much memory.
    ///
    /// # Errors
    ///
    /// There are none of this name, or it is no whole number of them.
    pub fn named(name: Option<&str>, memory: u64) -> std::result::Result<Self, String> {
        let Some(name) = name else { return Ok(Self::System) };
        let found = Self::HUGE.into_iter().find(|pages| pages.name() == name);
        let pages = found.ok_or_else(|| format!("`pages`, `{name}`, is `2MiB` or `1GiB`"))?;
        match memory.is_multiple_of(pages.bytes()) {
            true => Ok(pages),
            false => Err(format!("`memory` is whole pages of {name}, as `pages` says")),
        }
    }

    /// So much memory in them, for machines.
    #[must_use]
    pub fn json(self, memory: u64) -> Value {
        let each = (self != Self::System).then(|| self.bytes());
        json!({ "size": memory, "hugepages": each.is_some(), "hugepage_size": each })
    }

    /// How a file of them is asked for.
    #[must_use]
    pub fn flags(self) -> MemfdFlags {
        match self {
            Self::System => MemfdFlags::empty(),
            Self::Large => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
            Self::Giant => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
        }
    }

    /// What the kernel says of them.
    fn said(self, what: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.directory().join(what)).ok()?;
        text.trim().parse().ok()
    }

    fn directory(self) -> PathBuf {
        let kib = self.bytes() >> 10;
        PathBuf::from("/sys/kernel/mm/hugepages").join(format!("hugepages-{kib}kB"))
    }

    /// Why a guest has no memory of so many bytes in them.
    pub fn lack(self, guest: &str, bytes: u64, error: &Error) -> Failure {
        let (needed, each) = (bytes.checked_div(self.bytes()).unwrap_or(0), size(self.bytes()));
        let Some((all, free)) = self.said("nr_hugepages").zip(self.said("free_hugepages")) else {
            let what = format!("guest {guest} is to have pages of {each}, and this node has none: {error}");
            return Failure::refused(what).left("").next("leave `pages` out, or name another size.");
        };
        // Who has asked for some has them, touched or not.
        let free = free.saturating_sub(self.said("resv_hugepages").unwrap_or(0));
        let missing = needed.saturating_sub(free);
        if missing == 0 {
            let what = format!("guest {guest} does not get its {needed} pages of {each}: {error}");
            let next = "see what bounds them for its process: a control group, or the nodes of its memory.";
            return Failure::refused(what).left("").next(next);
        }
        let what = format!(
            "guest {guest} needs {needed} pages of {each}, and {free} are free: {missing} are missing"
        );
        let next = format!(
            "`echo {} > {}` sets them apart while memory is in large pieces (`cat` it then), or the kernel's \
             `hugepagesz={} hugepages=` as the node boots.",
            all.saturating_add(missing),
            self.directory().join("nr_hugepages").display(),
            self.name().trim_end_matches("iB"),
        );
        Failure::refused(what).left("").next(next)
    }
}

/// Memory in huge pages, which stays a guest's over its resets.
#[derive(Debug)]
pub struct Kept {
    memory: Memory,
    is_used: AtomicBool,
}

impl Kept {
    /// So many bytes for the guest of this name; `None`: those of the system need not be kept.
    ///
    /// # Errors
    ///
    /// There are too few.
    pub fn new(guest: &str, bytes: u64, pages: Pages) -> std::result::Result<Option<Self>, Failure> {
        if pages == Pages::System {
            return Ok(None);
        }
        let memory = memory::of(bytes, pages).map_err(|error| pages.lack(guest, bytes, &error))?;
        Ok(Some(Self { memory, is_used: AtomicBool::new(false) }))
    }

    /// All of it, zero. Who had it before has ended.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn take(&self) -> Result<Memory> {
        const PIECE: usize = 1 << 20;
        if self.is_used.swap(true, Ordering::SeqCst) {
            let zeroes = vec![0; PIECE];
            for region in self.memory.iter() {
                // Pieces are parts of huge pages, and so of regions.
                for at in (0..region.len()).step_by(PIECE) {
                    let at = region.start_addr().0.saturating_add(at);
                    self.memory.write_slice(&zeroes, vm_memory::GuestAddress(at)).map_err(Error::other)?;
                }
            }
        }
        Ok(self.memory.clone())
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
pub(crate) mod tests;
