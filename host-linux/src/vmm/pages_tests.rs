//! Guests in huge pages of this machine, which are had for the time of a test. Where there are none, the
//! tests say so and pass.

use super::*;
use crate::failure::Exit;
use crate::vmm::description::Description;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vm_memory::GuestAddress;

/// One test has them at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Pages that this machine has as long as this lives.
pub struct Had {
    pages: Pages,
    before: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Had {
    /// So many that nobody has; `None`: there are none, and why is said.
    pub fn new(pages: Pages, count: u64) -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = pages.said("nr_hugepages") else {
            println!("skipped: no pages of {}", pages.name());
            return None;
        };
        let had = Self { pages, before, _alone: alone };
        had.set(before + count);
        if had.free() < count {
            println!("skipped: {} pages of {} cannot be had", count, pages.name());
            return None;
        }
        Some(had)
    }

    pub fn free(&self) -> u64 {
        self.pages.said("free_hugepages").unwrap()
    }

    /// Whoever may not is told by what is free.
    fn set(&self, count: u64) {
        let _ = std::fs::write(self.pages.directory().join("nr_hugepages"), count.to_string());
    }
}

impl Drop for Had {
    fn drop(&mut self) {
        self.set(self.before);
    }
}

#[test]
fn a_description_names_its_pages() {
    let least = "version = 1\nname = \"web\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"k\"\n";
    let parse = |more: &str| Description::parse(&format!("{least}{more}"), Path::new("/"));
    let plain = parse("").unwrap();
    let expected = json!({ "size": 64 << 20, "hugepages": false, "hugepage_size": null });
    assert_eq!((plain.pages, &plain.json()["memory"]), (Pages::System, &expected));
    assert!(!plain.text.contains("pages"), "who knows nothing of them reads it, too: {}", plain.text);
    let huge = parse("pages = \"2MiB\"").unwrap();
    let expected = json!({ "size": 64 << 20, "hugepages": true, "hugepage_size": 2 << 20 });
    assert_eq!((huge.pages, &huge.json()["memory"]), (Pages::Large, &expected));
    assert_eq!(Description::parse(&huge.text, Path::new("/")).unwrap(), huge);
    let wrong =
        [("4KiB", "`pages`, `4KiB`, is `2MiB` or `1GiB`"), ("1GiB", "`memory` is whole pages of 1GiB")];
    for (name, why) in wrong {
        assert!(parse(&format!("pages = \"{name}\"")).unwrap_err().contains(why), "{name}");
    }
}

/// All pages of a guest are its own from the beginning, over its resets, and free behind it.
#[test]
fn pages_are_set_apart_at_once_and_kept() {
    let Some(had) = Had::new(Pages::Large, 6) else { return };
    let before = had.free();
    let kept = Kept::new("web1", 8 << 20, Pages::Large).unwrap().unwrap();
    assert_eq!(had.free(), before - 4, "none of it is touched");
    let memory = kept.take().unwrap();
    let places = [0, 5 << 20, (8 << 20) - 8];
    for at in places {
        assert_eq!(memory.read_obj::<u64>(GuestAddress(at)).unwrap(), 0);
        memory.write_obj(7_u64, GuestAddress(at)).unwrap();
    }
    drop(memory);
    assert_eq!(had.free(), before - 4);
    let memory = kept.take().unwrap();
    assert!(places.iter().all(|at| memory.read_obj::<u64>(GuestAddress(*at)).unwrap() == 0));
    drop((memory, kept));
    assert_eq!(had.free(), before);
}

/// How many are missing is said, and how they are had; nothing is left behind.
#[test]
fn who_lacks_pages_is_told_how_many() {
    let Some(had) = Had::new(Pages::Large, 2) else { return };
    let (free, needed) = (had.free(), 1 << 30 >> 21);
    let why = Kept::new("web1", 1 << 30, Pages::Large).unwrap_err();
    let expected = format!(
        "guest web1 needs {needed} pages of 2 MiB, and {free} are free: {} are missing",
        needed - free
    );
    assert_eq!((why.what, why.exit), (expected, Exit::Refused));
    let next = format!(
        "`echo {} > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`",
        Pages::Large.said("nr_hugepages").unwrap() + needed - free
    );
    assert!(why.next.starts_with(&next), "{}", why.next);
    assert_eq!(had.free(), free);
    assert!(Kept::new("web1", 4 << 20, Pages::System).unwrap().is_none());
}

/// A guest with more than fits below the devices, in the largest pages.
#[test]
fn giant_pages_leave_the_devices_alone() {
    let whole = memory::parts(4 << 30, Pages::Giant);
    let low: u64 = whole.iter().filter(|part| part.start < 3 << 30).map(|part| part.length).sum();
    assert_eq!(low, 3 << 30);
    assert_eq!(whole.last().map(|part| (part.start, part.length)), Some((4 << 30, 1 << 30)));
    // A machine in use has fewer such pieces of memory.
    for count in [1, 4] {
        let Some(had) = Had::new(Pages::Giant, count) else { return };
        let before = had.free();
        let kept = Kept::new("web1", count << 30, Pages::Giant).unwrap().unwrap();
        assert_eq!(had.free(), before - count);
        let memory = kept.take().unwrap();
        let end = memory.last_addr().0 + 1;
        assert_eq!(end, if count == 4 { 5 << 30 } else { 1 << 30 });
        memory.write_obj(7_u64, GuestAddress(end - 8)).unwrap();
        assert!(memory.write_obj(7_u64, GuestAddress(3 << 30)).is_err());
    }
}
