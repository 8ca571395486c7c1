//! Snapshots that build on others: what was written since is in them, and nothing but the right ones in
//! their order is a guest.

use super::super::chain::{self, CHAIN_MAX};
use super::super::disks;
use super::super::lineage::Lineage;
use super::super::tracked::Plan;
use super::*;
use crate::failure::{Exit, Failure};
use std::path::PathBuf;

/// A guest that counts, and the places of its snapshots.
struct Chain {
    guest: Guest,
}

impl Chain {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let guest = Guest::start(&with_timer(&count(&[])), &format!("processors = 1\n{more}"));
        guest.counts_on(&[COUNT, TICKS]);
        Self { guest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.guest.directory.path().join(name)
    }

    /// Takes one; it goes on.
    fn take(&self, name: &str, extent: &Extent) -> Result<(), Failure> {
        file::save(&self.guest.machine, &self.path(name), extent, None, &mut |_| Ok(())).map(drop)
    }

    fn since(&self, name: &str, older: &str) -> Result<(), Failure> {
        self.take(name, &Extent::Since(self.path(older)))
    }

    /// Has it write in its first pages, and a device at this place.
    fn writes(&self, at: u64) {
        self.guest.machine.memory().write_slice(&at.to_le_bytes(), GuestAddress(at)).unwrap();
        self.guest.counts_on(&[COUNT, TICKS]);
    }

    fn open(&self, name: &str, bases: &[&str]) -> Result<Copied, Failure> {
        let bases: Vec<_> = bases.iter().map(|base| self.path(base)).collect();
        file::open(&self.path(name), &bases, Console::default(), None, &mut |_| Ok(()))
    }

    /// It is none. What is said of that.
    fn refused(&self, name: &str, bases: &[&str], expected: &str) -> String {
        let why = self.open(name, bases).map(drop).unwrap_err();
        assert!(why.what.contains(expected), "{expected}: {}", why.what);
        format!("{}\n{}", why.what, why.next)
    }

    fn id(&self, name: &str) -> String {
        chain::lineage(&self.path(name)).unwrap().unwrap().id.to_string()
    }

    fn length(&self, name: &str) -> u64 {
        std::fs::metadata(self.path(name)).unwrap().len()
    }
}

/// S3-06: each has what was written since the one before, by the guest or by a device, and together they are
/// the guest: all of its memory, and its processors.
#[test]
fn what_was_written_since_is_all_that_one_has() {
    if !runs_guests() {
        return;
    }
    only_what_was_written_since("");
    // Its own, and a copy's.
    let Some(_had) = Had::new(Pages::Large, 4) else { return };
    only_what_was_written_since("pages = \"2MiB\"\n");
}

fn only_what_was_written_since(pages: &str) {
    let chain = Chain::with(pages);
    // Much that is never written again.
    chain.guest.machine.memory().write_slice(&[7; 1 << 20], GuestAddress(0x28_0000)).unwrap();
    chain.take("0", &Extent::Tracked).unwrap();
    assert_eq!(chain.guest.machine.tracked().unwrap().to_string(), chain.id("0"));
    chain.writes(0x20_0000);
    chain.since("1", "0").unwrap();
    assert!((1 << 20..2 << 20).contains(&chain.length("0")), "{}", chain.length("0"));
    assert!(chain.length("1") < 256 << 10, "{}", chain.length("1"));
    // What was zeroed since is zero.
    chain.guest.machine.memory().write_slice(&[0; 4096], GuestAddress(0x28_0000)).unwrap();
    chain.writes(0x21_0000);
    // An attempt that fails has emptied KVM's log; what it had is in the next one.
    assert!(chain.since("none/2", "1").unwrap_err().what.contains("none/2"));
    chain.writes(0x22_0000);
    chain.guest.machine.hold(Hold::Operator);
    chain.since("2", "1").unwrap();
    assert!(chain.length("2") < 256 << 10, "{}", chain.length("2"));
    let copy = chain.open("2", &[]).unwrap().begin(&[Hold::Operator], |_| ()).unwrap();
    assert!(all(&copy) == all(&chain.guest.machine), "their memory differs");
    let places = [COUNT, TICKS];
    copy.release(Hold::Operator);
    let number = |at: u64| copy.memory().read_obj::<u32>(GuestAddress(at)).unwrap();
    let before = places.map(number);
    until(|| places.iter().zip(before).all(|(at, before)| before < number(*at)));
    drop(copy);
    // An older one is that of its time.
    let copy = chain.open("1", &[]).unwrap().begin(&[Hold::Operator], |_| ()).unwrap();
    assert_eq!(copy.memory().read_obj::<u64>(GuestAddress(0x20_0000)).unwrap(), 0x20_0000);
    assert_eq!(copy.memory().read_obj::<u64>(GuestAddress(0x21_0000)).unwrap(), 0);
    assert_eq!(copy.memory().read_obj::<u8>(GuestAddress(0x28_0000)).unwrap(), 7);
}

/// One that would lack something is not taken, and what to do is said.
#[test]
fn what_nobody_kept_is_refused() {
    if !runs_guests() {
        return;
    }
    let chain = Chain::new();
    let refused = |why: Failure, expected: &str| {
        assert!(why.what.contains(expected) && why.exit == Exit::Refused, "{expected}: {why:?}");
        assert!(!why.next.is_empty() && !chain.path("x").exists() && !chain.path("x.new").exists());
    };
    chain.take("0", &Extent::All).unwrap();
    refused(chain.since("x", "0").unwrap_err(), "it is not kept what the guest has written since");
    chain.take("0", &Extent::Tracked).unwrap();
    chain.since("1", "0").unwrap();
    refused(chain.since("x", "0").unwrap_err(), "it is not kept");
    assert!(chain.since("x", "none").unwrap_err().what.contains("none"));
    for base in ["0", "1"] {
        let whole = std::fs::read(chain.path(base)).unwrap();
        refused(chain.since(base, "1").unwrap_err(), "would take the place of");
        assert_eq!(std::fs::read(chain.path(base)).unwrap(), whole);
    }
    // A move asks for the log that it has itself only, and so do snapshots.
    refused(chain.guest.machine.track().map(drop).unwrap_err(), "for its next snapshot");
    chain.take("other", &Extent::All).unwrap();
    assert_eq!(chain.guest.machine.tracked(), None);
    refused(chain.since("x", "1").unwrap_err(), "it is not kept");
    let tracking = chain.guest.machine.track().unwrap();
    refused(chain.guest.machine.track().map(drop).unwrap_err(), "is being moved already");
    refused(chain.take("x", &Extent::Tracked).unwrap_err(), "kept for its move");
    refused(chain.since("x", "1").unwrap_err(), "kept for its move");
    chain.take("other", &Extent::All).unwrap();
    chain.writes(0x20_0000);
    assert!(chain.guest.machine.written().is_ok_and(|written| written.bytes() != 0), "a move goes on");
    drop(tracking);
    // One that fails keeps nothing, for nobody would ask.
    assert!(chain.take("none/x", &Extent::Tracked).is_err());
    assert!(chain.guest.machine.tracked().is_none() && chain.guest.machine.written().is_err());
    chain.take("0", &Extent::Tracked).unwrap();
    let names: Vec<_> = (0..=CHAIN_MAX).map(|number| number.to_string()).collect();
    for (older, name) in names.iter().zip(&names[1..CHAIN_MAX]) {
        chain.since(name, older).unwrap();
    }
    assert_eq!(chain::open(&chain.path(&names[CHAIN_MAX - 1]), &[]).unwrap().len(), CHAIN_MAX);
    refused(chain.since("x", &names[CHAIN_MAX - 1]).unwrap_err(), "is the longest chain");
    chain.take("0", &Extent::Tracked).unwrap();
    chain.since("1", "0").unwrap();
}

/// I11: a chain is whole, and the right one, or it is none; which one is wrong is said by name and id.
#[test]
fn a_chain_that_is_not_whole_is_no_guest() {
    if !runs_guests() {
        return;
    }
    let chain = Chain::new();
    chain.take("0", &Extent::Tracked).unwrap();
    for (older, name) in [("0", "1"), ("1", "2")] {
        chain.writes(0x20_0000);
        chain.since(name, older).unwrap();
    }
    let place = |name: &str, to: &str| std::fs::rename(chain.path(name), chain.path(to)).unwrap();
    std::fs::create_dir(chain.path("elsewhere")).unwrap();
    place("1", "elsewhere/one");
    let why = chain.refused("2", &[], "which is not at");
    assert!(why.contains("/2 builds on snapshot ") && why.contains("/1\n"), "{why}");
    assert!(why.contains("--base FILE"));
    // Its own base is looked for beside the name that it has there.
    chain.open("2", &["elsewhere/one"]).unwrap();
    chain.open("2", &["0", "elsewhere/one"]).unwrap();
    let why = chain.refused("elsewhere/one", &["2"], "which is not at");
    assert!(why.contains(&chain.id("0")), "{why}");
    chain.refused("2", &["elsewhere/one", "2"], "does not build on");
    chain.refused("0", &["elsewhere/one"], "does not build on");
    // Another one in its place, by name and id.
    std::fs::copy(chain.path("0"), chain.path("1")).unwrap();
    let why = chain.refused("2", &[], "is another one");
    assert!(why.contains(&chain.id("elsewhere/one")) && why.contains(&chain.id("0")), "{why}");
    // One that says that it is the same.
    let mut reader = Reader::begin(std::fs::File::open(chain.path("elsewhere/one")).unwrap()).unwrap();
    let mut forged = Vec::new();
    let mut writer = Writer::keep(&mut forged).unwrap();
    while let Some((kind, content)) = reader.record().unwrap() {
        if kind != Kind::Memory {
            writer.put(kind, &[content]).unwrap();
        }
    }
    writer.end().unwrap();
    std::fs::write(chain.path("1"), &forged).unwrap();
    chain.refused("2", &[], "was another one");
    chain.open("1", &[]).unwrap();
    // One of version 1, and no snapshot at all; one that nobody ever writes to.
    let mut old = Vec::new();
    let mut writer = Writer::begin(&mut old).unwrap();
    writer.put(Kind::Description, &[chain.guest.machine.origin().description.text.as_bytes()]).unwrap();
    writer.end().unwrap();
    std::fs::write(chain.path("1"), old).unwrap();
    chain.refused("2", &[], "(of version 1, without an id) is another one");
    std::fs::write(chain.path("1"), "#!/bin/sh -e\nexit 0\n").unwrap();
    chain.refused("2", &[], "it is no snapshot of a guest");
    std::fs::remove_file(chain.path("1")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, chain.path("1"), rustix::fs::Mode::RWXU).unwrap();
    chain.refused("2", &[], "it breaks off in the middle");
    std::fs::remove_file(chain.path("1")).unwrap();
    place("elsewhere/one", "1");
    every_damage_is_refused(&chain);
}

/// Whatever is cut off or changed, in any of them.
fn every_damage_is_refused(chain: &Chain) {
    for name in ["0", "1", "2"] {
        let whole = std::fs::read(chain.path(name)).unwrap();
        // Each byte of each kind of record is in the tests of the format; here it is which file that is.
        let (step, length) = (whole.len() / 20, whole.len());
        for at in (0..200).step_by(9).chain((200..length).step_by(step)).chain([length - 1]) {
            std::fs::write(chain.path(name), &whole[..at]).unwrap();
            assert!(chain.open("2", &[]).is_err(), "{name} cut at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(chain.path(name), damaged).unwrap();
            assert!(chain.open("2", &[]).is_err(), "{name} changed at {at}");
        }
        std::fs::write(chain.path(name), [&whole[..], b"x"].concat()).unwrap();
        chain.refused("2", &[], "there is more behind its end");
        std::fs::write(chain.path(name), whole).unwrap();
        chain.open("2", &[]).unwrap();
    }
}

/// I11: files that name each other come to an end.
#[test]
fn a_chain_without_an_end_is_refused() {
    if !runs_guests() {
        return;
    }
    let chain = Chain::new();
    chain.take("0", &Extent::Tracked).unwrap();
    chain.since("1", "0").unwrap();
    let one = chain::lineage(&chain.path("1")).unwrap().unwrap();
    let mut base = one.base.clone().unwrap();
    (base.id, base.name) = (one.id, "1".into());
    let circle = Lineage { id: one.id, base: Some(base) };
    let mut bytes = Vec::new();
    let mut writer = Writer::keep(&mut bytes).unwrap();
    writer.put(Kind::Description, &[chain.guest.machine.origin().description.text.as_bytes()]).unwrap();
    writer.put(Kind::Lineage, &[&circle.bytes()]).unwrap();
    writer.end().unwrap();
    std::fs::write(chain.path("1"), &bytes).unwrap();
    chain.refused("1", &[], "is in a chain of more than 16");
    // What comes as a whole cannot build on anything.
    let why =
        Copied::read(&bytes[..], "it", Console::default(), None, &mut |_| Ok(())).map(drop).unwrap_err();
    assert!(why.what.contains("builds on another one, which is not here"), "{}", why.what);
}

/// What counts of the disks is what the newest one says: each seal takes the place of the one before.
#[test]
fn the_seals_that_count_are_those_of_the_newest() {
    if !runs_guests() {
        return;
    }
    let chain = Chain::new();
    let take = |name: &str, extent: &Extent, sealed: &[u8]| {
        let (machine, path) = (&chain.guest.machine, chain.path(name));
        let still = machine.stand_still().unwrap();
        let plan = Plan::new(machine, extent, &path).unwrap();
        let sealed = disks::read(sealed).unwrap();
        let mut file = std::fs::File::create(&path).unwrap();
        let digest =
            still.write_pages(&mut file, &plan.lineage, &sealed, plan.pages.as_ref(), &mut |_| Ok(()));
        plan.keep(digest.unwrap());
    };
    let (old, new) = (b"\x01\x04web1\x040707\x02a5", b"\x01\x04web1\x040707\x02b6");
    take("0", &Extent::Tracked, old);
    take("1", &Extent::Since(chain.path("0")), new);
    assert_eq!(chain.open("0", &[]).unwrap().disks(), disks::read(old).unwrap());
    assert_eq!(chain.open("1", &[]).unwrap().disks(), disks::read(new).unwrap());
    // Nobody has sealed them then: what an older one says of them is not so any more.
    take("2", &Extent::Since(chain.path("1")), b"\0");
    assert_eq!(chain.open("2", &[]).unwrap().disks(), []);
}
