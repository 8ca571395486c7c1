//! X15: a guest of this machine's own KVM leaves for another end that does anything, or nothing.

use super::super::channel::Incoming;
use super::super::hello::{HELLO_LEN, Hello, Keys};
use super::super::words::Refusal;
use super::*;
use crate::site_config::key::SiteKey;
use crate::vmm::description::Description;
use crate::vmm::machine::Origin;
use crate::vmm::said::{Said, runs_guests};
use crate::vmm::testing::elf;
use bulkhead_core::id::{NodeId, SiteId};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use vm_memory::{Bytes as _, GuestAddress};

const LONG: Duration = Duration::from_secs(30);
const KEY: SiteKey = SiteKey([3; 32]);
const SITE: SiteId = SiteId([4; 16]);
/// Where the guest counts.
const COUNT: u64 = 0x3000;

/// What the other end does: each in place of what it should say then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    BreakOffAtOnce,
    IsSomebodyElse,
    RefuseTheOffer,
    BreakOffAmidst,
    RefuseAmidst,
    RefuseAll,
    WaitToBeCancelled,
    RefuseAfterGo,
    BreakOffAfterGo,
    SayNonsenseAfterGo,
    Run,
}

/// The other end, for one guest; `tell` hears when it waits to be cancelled. Whether it was given.
fn other_end(listener: &TcpListener, does: Does, with_disks: bool, tell: &Sender<()>) -> bool {
    let (mut wire, _) = listener.accept().unwrap();
    if does == Does::BreakOffAtOnce {
        return false;
    }
    let mut bytes = [0; HELLO_LEN];
    wire.read_exact(&mut bytes).unwrap();
    let hello = Hello::parse(&bytes).unwrap();
    let from = if does == Does::IsSomebodyElse { NodeId(9) } else { hello.to };
    let welcome = Hello::new(SITE, from, hello.from).unwrap();
    wire.write_all(&welcome.encode()).unwrap();
    if does == Does::IsSomebodyElse {
        return false;
    }
    let mut channel = Channel::arriving(wire, &Keys::new(&KEY, &hello, &welcome)).unwrap();
    let offer = match channel.hear(LONG).unwrap() {
        Word::Bring(offer, sizes) if with_disks && sizes.is_empty() => offer,
        Word::Offer(offer) if !with_disks => offer,
        word @ (Word::Offer(_)
        | Word::Bring(..)
        | Word::Keep(_)
        | Word::BringOwn(..)
        | Word::Accepted
        | Word::Bytes(_)
        | Word::Whole
        | Word::Go
        | Word::Runs
        | Word::Failed(_)) => panic!("{word:?}"),
    };
    assert!(!offer.is_leased);
    let refusal = Word::Failed(Refusal { is_refused: true, what: "it must not".into(), next: String::new() });
    if does == Does::RefuseTheOffer {
        channel.say(&refusal).unwrap();
        channel.finish();
        return false;
    }
    channel.say(&Word::Accepted).unwrap();
    if does == Does::BreakOffAmidst {
        return false;
    }
    if does == Does::RefuseAmidst {
        channel.say(&refusal).unwrap();
        channel.finish();
        return false;
    }
    let mut guest = crate::vmm::snapshot::format::Reader::begin(Incoming::new(&mut channel)).unwrap();
    while guest.record().unwrap().is_some() {}
    if does == Does::RefuseAll {
        channel.say(&refusal).unwrap();
        channel.finish();
        return false;
    }
    if does == Does::WaitToBeCancelled {
        tell.send(()).unwrap();
        return channel.hear(LONG).is_ok();
    }
    channel.say(&Word::Whole).unwrap();
    assert_eq!(channel.hear(LONG).unwrap(), Word::Go);
    let last =
        [(Does::RefuseAfterGo, refusal), (Does::SayNonsenseAfterGo, Word::Accepted), (Does::Run, Word::Runs)];
    if let Some((_, word)) = last.into_iter().find(|(when, _)| *when == does) {
        channel.say(&word).unwrap();
    }
    true
}

/// The agent of this node, which says where the other end is.
fn agent(directory: &Path, listener: &TcpListener) -> PathBuf {
    let path = directory.join("control.sock");
    let road =
        json!({ "site": SITE.0, "from": 1, "to": 2, "name": "b1", "at": listener.local_addr().unwrap() });
    let own = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in own.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|count| count != 0) {
                let asked = serde_json::from_str(&line).unwrap();
                let answer = if let Request::GuestKeys { hello, welcome } = asked {
                    let parse = |bytes: Vec<u8>| Hello::parse(&bytes.try_into().unwrap()).unwrap();
                    json!({ "ok": true, "guestKeys": Keys::new(&KEY, &parse(hello), &parse(welcome)) })
                } else {
                    assert_eq!(asked, Request::GuestRoad { node: "b1".into(), leased: false });
                    json!({ "ok": true, "guestRoad": road })
                };
                writeln!(stream.get_mut(), "{answer}").unwrap();
                line.clear();
            }
        }
    });
    path
}

/// A guest that counts in memory.
fn guest(directory: &Path) -> Arc<Machine> {
    // again: inc dword [COUNT]; jmp again
    let code = [&[0xff, 0x05][..], &0x3000_u32.to_le_bytes(), &[0xeb, 0xf8]].concat();
    std::fs::write(directory.join("kernel"), elf(&code, true)).unwrap();
    let text = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"4M\"\nkernel = \"kernel\"\n";
    let described = Description::parse(text, directory).unwrap();
    let origin = Origin::find(described, Said::new().1, None).unwrap();
    Arc::new(Machine::start(origin, &[], |_| ()).unwrap())
}

fn count(machine: &Machine) -> u32 {
    machine.memory().read_obj(GuestAddress(COUNT)).unwrap()
}

/// Whether it goes on; who expects that waits for it.
fn counts(machine: &Machine, is_expected: bool) -> bool {
    let (before, begun) = (count(machine), Instant::now());
    let most = if is_expected { LONG } else { Duration::from_millis(300) };
    while begun.elapsed() < most {
        if before != count(machine) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// What it stood still for is all of that, but for what each part leaves of a millisecond.
fn adds_up(moved: &Moved) {
    assert!(0 < moved.rounds && 0 < moved.bytes);
    let stood = moved.stood.as_ref().unwrap();
    let sum: u64 = [stood.rest_ms, stood.whole_ms, stood.lead_ms, stood.begin_ms].iter().sum();
    assert!((sum..=sum + 4).contains(&moved.downtime_ms), "{moved:?}");
}

/// Of a guest that moves by itself, while it runs, and of which nothing is noted.
fn settings(agent: PathBuf, machine: &Arc<Machine>) -> Settings {
    Settings {
        node: "b1".into(),
        agent,
        loan: None,
        is_paused: false,
        downtime: Duration::from_millis(300),
        bandwidth: None,
        is_quick: false,
        with_disks: false,
        record: None,
        throttle: Arc::new(Throttle::new(machine)),
        together: None,
    }
}

/// It goes on here unless it was given away, and then never; what is noted says which.
#[test]
fn a_guest_is_here_until_it_is_given_away() {
    if !runs_guests() {
        return;
    }
    let refused = "it must not";
    let lost = "the connection was lost";
    //  it does              it goes on here   what is said                what is noted: given, moved
    let rows = [
        (Does::BreakOffAtOnce, true, "cannot be reached", (false, false)),
        (Does::IsSomebodyElse, true, "is not b1 of this site", (false, false)),
        (Does::RefuseTheOffer, true, refused, (false, false)),
        (Does::BreakOffAmidst, true, lost, (false, false)),
        (Does::RefuseAmidst, true, refused, (false, false)),
        (Does::RefuseAll, true, refused, (false, false)),
        (Does::WaitToBeCancelled, true, "was cancelled", (false, false)),
        (Does::RefuseAfterGo, true, refused, (false, false)),
        (Does::BreakOffAfterGo, false, "not known whether it runs there", (true, false)),
        (Does::SayNonsenseAfterGo, false, "not known whether it runs there", (true, false)),
        (Does::Run, false, "", (true, true)),
    ];
    for (does, goes_on, said, noted) in rows {
        for (is_quick, with_disks) in [(false, false), (true, false), (false, true), (true, true)] {
            let directory = tempfile::tempdir().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (machine, record) = (guest(directory.path()), directory.path().join("moved.json"));
            let settings = Settings {
                is_quick,
                with_disks,
                record: Some(record.clone()),
                ..settings(agent(directory.path(), &listener), &machine)
            };
            let (tell, waits) = channel();
            let other = std::thread::spawn(move || other_end(&listener, does, with_disks, &tell));
            let departure = Departure::begin(&machine, settings, || ()).unwrap();
            if does == Does::WaitToBeCancelled {
                // All of it is there.
                waits.recv_timeout(LONG).unwrap();
                assert!(departure.cancel());
            }
            let begun = Instant::now();
            while !departure.is_over() {
                assert!(begun.elapsed() < LONG, "{does:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
            let outcome = departure.end();
            let given = other.join().unwrap();
            let (text, stays) = match outcome {
                Outcome::Stays(why) => (why.what, true),
                Outcome::Unheard(why) => (why.what, false),
                Outcome::Gone(moved) => {
                    adds_up(&moved);
                    (String::new(), false)
                }
            };
            assert_eq!((stays, text.contains(said)), (goes_on, true), "{does:?}, quick: {is_quick}: {text}");
            assert_eq!(counts(&machine, goes_on), goes_on, "{does:?}, quick: {is_quick}");
            assert!(given || goes_on, "{does:?}: it is nowhere");
            let record = Record::load(&record).unwrap();
            let with = record.iter().all(|record| record.with_disks == with_disks);
            let moved = record.as_ref().map(|record| record.moved.as_ref());
            let told = moved.flatten().is_none_or(|moved| moved.stood.is_none());
            assert!(with && told, "{does:?}: what is noted is version 1");
            let found = (moved.is_some(), moved.flatten().is_some());
            assert_eq!(found, noted, "{does:?}, quick: {is_quick}");
        }
    }
}
