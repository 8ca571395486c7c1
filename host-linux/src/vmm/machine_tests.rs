//! Guests of a few instructions, on this machine's own KVM. Where it has none, the tests say so and pass.

use super::super::description::{self, Content};
use super::super::namespace::{has_own_network, ip, network};
use super::super::said::{Said, runs_guests};
use super::super::testing::{FOR_EVER, elf, out, say};
use super::*;
use crate::failover::wanted::Failover;
use crate::nbd::file::FileExport;
use crate::nbd::limits::Limits;
use crate::nbd::server::Server;
use crate::nbd::uri::Uri;
use crate::vmm::pages::Pages;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn described(directory: &Path, kernel: &[u8]) -> Description {
    let path: PathBuf = directory.join("kernel");
    std::fs::write(&path, kernel).unwrap();
    Description {
        name: "test".into(),
        processors: 1,
        memory: 16 << 20,
        pages: Pages::System,
        kernel: path,
        initrd: None,
        command_line: "hello".into(),
        console: description::Typing::Serial,
        disks: Vec::new(),
        networks: Vec::new(),
        heartbeat: description::Heartbeat::default(),
        failover: Failover::default(),
        text: String::new(),
    }
}

/// Starts a guest; how its processors end.
fn start(described: &Description, console: Console, held: &[Hold]) -> (Machine, Receiver<End>) {
    let (tell, ends) = channel();
    let tell = move |end| {
        let _ = tell.send(end);
    };
    let origin = Origin::find(described.clone(), console, None).unwrap();
    (Machine::start(origin, held, tell).unwrap(), ends)
}

/// Runs a guest of this code until it ends; it must say this before.
fn run(kernel: &[u8], says: &str) -> End {
    let directory = tempfile::tempdir().unwrap();
    let (mut said, console) = Said::new();
    let (machine, ends) = start(&described(directory.path(), kernel), console, &[]);
    let end = ends.recv_timeout(LONG);
    drop(machine);
    said.hears(says);
    end.expect("it ends")
}

#[test]
fn a_guest_speaks_and_is_off() {
    if !runs_guests() {
        return;
    }
    for is_pvh in [true, false] {
        let code = [say("hello"), out(0x601, 0x34), FOR_EVER.to_vec()].concat();
        assert_eq!(run(&elf(&code, is_pvh), "hello"), End::PowerOff);
    }
}

#[test]
fn a_guest_resets_in_each_way_that_guests_know() {
    if !runs_guests() {
        return;
    }
    // The last one is a fault without anybody to take it.
    for way in [out(0x600, 1), out(0x64, 0xfe), vec![0x0f, 0x0b]] {
        let code = [say("x"), way, FOR_EVER.to_vec()].concat();
        assert_eq!(run(&elf(&code, true), "x"), End::Reset);
    }
}

/// A guest that begins anew as a PC does, by a jump to where its firmware would be, in 16-bit mode.
#[test]
fn a_guest_resets_by_its_firmware() {
    if !runs_guests() {
        return;
    }
    // From 32-bit mode by a 16-bit code segment into real mode: a table of descriptors at 0x1000 with one at
    // place 8, and 16-bit code at 0x2000.
    let segment: [u8; 8] = [0xff, 0xff, 0, 0, 0, 0x9b, 0, 0];
    // mov eax, cr0; and al, 0xfe; mov cr0, eax; jmp 0xffff:0
    let real: [u8; 13] = [0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0, 0xea, 0, 0, 0xff, 0xff];
    let bytes = [(0x1008_u32, &segment[..]), (0x2000, &real), (0x1800, &[0xff, 0, 0, 0x10, 0, 0])];
    // mov byte [at], value
    let put = |at: u32, value: u8| [&[0xc6, 0x05][..], &at.to_le_bytes(), &[value]].concat();
    let puts =
        bytes.into_iter().flat_map(|(at, bytes)| (at..).zip(bytes)).flat_map(|(at, byte)| put(at, *byte));
    // lgdt [0x1800]; jmp 8:0x2000
    let jump = [0x0f, 0x01, 0x15, 0, 0x18, 0, 0, 0xea, 0, 0x20, 0, 0, 8, 0];
    let code: Vec<u8> = say("x").into_iter().chain(puts).chain(jump).collect();
    assert_eq!(run(&elf(&code, true), "x"), End::Reset);
}

/// A guest that is busy with itself ends when it is dropped, and so does one that sleeps.
#[test]
fn a_guest_is_dropped_whatever_it_does() {
    if !runs_guests() {
        return;
    }
    for rest in [FOR_EVER.to_vec(), vec![0xfa, 0xf4, 0xeb, 0xfd]] {
        let directory = tempfile::tempdir().unwrap();
        let (mut said, console) = Said::new();
        let mut described = described(directory.path(), &elf(&[say("on"), rest].concat(), true));
        described.processors = 4;
        let (machine, ends) = start(&described, console, &[]);
        said.hears("on");
        assert!(ends.recv_timeout(Duration::from_millis(20)).is_err());
        drop(machine);
        assert_eq!(ends.iter().collect::<Vec<_>>(), vec![End::Stopped; 4]);
    }
}

/// I5: a guest that is held carries nothing out, however many reasons there are, and goes on where it was.
#[test]
fn a_held_guest_does_nothing_and_goes_on_where_it_was() {
    if !runs_guests() {
        return;
    }
    // inc dword [0x3000]; jmp back
    let count = [0xff, 0x05, 0, 0x30, 0, 0, 0xeb, 0xf8];
    let directory = tempfile::tempdir().unwrap();
    let (mut said, console) = Said::new();
    let kernel = elf(&[&say("on")[..], &count].concat(), true);
    let described = Description { processors: 4, ..described(directory.path(), &kernel) };
    let (machine, ends) = start(&described, console, &[Hold::Lease]);
    let counted = || machine.memory().read_obj::<u32>(GuestAddress(0x3000)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(counted(), 0, "it was held from its first instruction on");
    machine.release(Hold::Lease);
    said.hears("on");
    for _ in 0..5 {
        [Hold::Operator, Hold::Lease].into_iter().for_each(|why| machine.hold(why));
        let held_at = counted();
        machine.release(Hold::Lease);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(counted(), held_at, "one reason is left");
        machine.release(Hold::Operator);
        let begun = std::time::Instant::now();
        while counted() == held_at {
            assert!(begun.elapsed() < LONG, "it goes on");
        }
    }
    assert!(ends.try_recv().is_err());
}

/// I11: what is no kernel is refused, and the file is named.
#[test]
fn what_is_no_kernel_is_refused_by_name() {
    if !runs_guests() {
        return;
    }
    let whole = elf(&[0x90; 64], true);
    let mut beyond = whole.clone();
    beyond[64 + 24..64 + 32].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let cases: [&[u8]; 5] = [b"", b"#!/bin/sh\n", &whole[..100], &beyond, &[0; 4096]];
    for kernel in cases {
        let directory = tempfile::tempdir().unwrap();
        let origin = Origin::find(described(directory.path(), kernel), Console::default(), None).unwrap();
        let why = Machine::start(origin, &[], |_| ()).unwrap_err();
        assert!(why.what.contains("/kernel"), "{}", why.what);
    }
}

/// S2-01: a guest that begins anew is where it was on its network: the interface is the same one.
#[test]
fn a_guest_begins_anew_on_its_network() {
    if !runs_guests() || !has_own_network() {
        return;
    }
    ip("link add br0 type bridge");
    let directory = tempfile::tempdir().unwrap();
    let mut described = described(directory.path(), &elf(&FOR_EVER, true));
    described.networks.push(network("tap0", Some("br0")));
    let origin = Origin::find(described, Console::default(), None).unwrap();
    let none = json!({ "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0 });
    assert_eq!(origin.counters(), json!({ "net0": none }));
    let number = || ip("-oneline link show master br0").split(": tap0: ").next().unwrap().to_owned();
    let first = number();
    for _ in 0..2 {
        let machine = Machine::start(origin.clone(), &[], |_| ()).unwrap();
        assert!(first.parse::<u32>().is_ok() && number() == first, "{first}, {}", number());
        drop(machine);
    }
}

/// S3-06: a guest that begins anew finds its disks, also while nobody serves them.
#[test]
fn a_guest_begins_anew_without_its_server() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, socket) = (directory.path().join("disk"), directory.path().join("nbd.sock"));
    std::fs::write(&path, [0; 8192]).unwrap();
    let mut server = Server::start(Limits::default()).unwrap();
    server.listen_unix(&socket).unwrap();
    server.publish("disk", "", Arc::new(FileExport::open(&path, false).unwrap())).unwrap();
    // mov al, [the sectors of the first disk]; out; for ever
    let size = [&[0xa0][..], &0xd000_0100_u32.to_le_bytes(), &[0x66, 0xba, 0xf8, 0x03, 0xee]].concat();
    let code = [size, out(0x600, 1), FOR_EVER.to_vec()].concat();
    let disk =
        description::Disk { content: Content::Served(Uri::unix(&socket, "disk")), is_read_only: false };
    let described = Description { disks: vec![disk], ..described(directory.path(), &elf(&code, true)) };
    let (mut said, console) = Said::new();
    let origin = Origin::find(described, console, None).unwrap();
    drop(server);
    for _ in 0..2 {
        let (tell, ends) = channel();
        let tell = move |end| tell.send(end).unwrap();
        let machine = Machine::start(origin.clone(), &[], tell).unwrap();
        said.hears("\u{10}");
        assert_eq!(ends.recv_timeout(LONG).unwrap(), End::Reset);
        drop(machine);
    }
}
