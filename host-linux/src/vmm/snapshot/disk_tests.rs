//! Disks of guests that are captured, and that go on in new machines.

use super::*;
use crate::nbd::export::{Export, Geometry, Reply, Request};
use crate::nbd::file::FileExport;
use crate::nbd::limits::Limits;
use crate::nbd::server::Server;
use crate::nbd::uri::Uri;
use serde_json::json;
use std::sync::{Arc, Mutex};

/// A server that says nothing.
struct Silent {
    file: FileExport,
    held: Mutex<Vec<(Request, Reply)>>,
}

impl Export for Silent {
    fn geometry(&self) -> Geometry {
        self.file.geometry()
    }

    fn submit(&self, request: Request, reply: Reply) {
        self.held.lock().unwrap().push((request, reply));
    }
}

/// A server of a disk in this directory.
fn serve(directory: &Path) -> (Server, Arc<Silent>) {
    let path = directory.join("disk");
    if !path.exists() {
        std::fs::write(&path, [0; 8192]).unwrap();
    }
    let mut server = Server::start(Limits::default()).unwrap();
    server.listen_unix(&directory.join("nbd.sock")).unwrap();
    let file = || FileExport::open(&path, false).unwrap();
    let silent = Arc::new(Silent { file: file(), held: Mutex::default() });
    server.publish("disk", "", Arc::new(file())).unwrap();
    server.publish("silent", "", silent.clone()).unwrap();
    (server, silent)
}

/// A guest that has its disk write 512 bytes, counts, and says D when that is done.
fn writer() -> Vec<u8> {
    const DEVICE: u32 = 0xd000_0000;
    let [table, available, used] = [0x1_1000, 0x1_2000, 0x1_3000];
    let registers = [
        (0x70, 1),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x38, 16),
        (0x80, table),
        (0x90, available),
        (0xa0, used),
        (0x44, 1),
        (0x70, 15),
    ];
    let set: Vec<u8> =
        registers.into_iter().flat_map(|(register, value)| store(DEVICE + register, value)).collect();
    let parts = [(0x1_4000_u32, 16_u32, 1_u32 | 1 << 16), (0x1_5000, 512, 1 | 2 << 16), (0x1_6000, 1, 2)];
    let describe = (table..).step_by(16).zip(parts).flat_map(|(at, (place, length, flags))| {
        [store(at, place), store(at + 8, length), store(at + 12, flags)].concat()
    });
    // A write of sector 3, and what it writes.
    let ask = [store(0x1_4000, 1), store(0x1_4008, 3), store(0x1_5000, 0x6162_6364)];
    let offer = [store(available, 1 << 16), store(DEVICE + 0x50, 0)];
    // cmp word [used + 2], 0; jne behind the jump back and the end of counting
    let done = [&[0x66, 0x83, 0x3d][..], &(used + 2).to_le_bytes(), &[0, 0x75, 2 + 2]].concat();
    let told = [say("D"), count(&[])].concat();
    [set, describe.collect(), ask.concat(), offer.concat(), count(&done), told].concat()
}

fn with_disk(directory: &Path, export: &str) -> String {
    let uri = Uri::unix(&directory.join("nbd.sock"), export);
    format!("processors = 1\n[[disk]]\nuri = \"{uri}\"\n")
}

/// S3-06, S4-01: what waits for a server when a guest is captured is asked by the copy, and answered once.
#[test]
fn a_disk_goes_on_where_it_was() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = serve(directory.path());
    let kernel = elf(&writer(), true);
    let described = described(directory.path(), &kernel, &with_disk(directory.path(), "disk"));
    let (said, console) = Said::new();
    let origin = Origin::find(described, console, None).unwrap();
    drop(server);
    let machine = Machine::start(origin, &[], |_| ()).unwrap();
    let mut guest = Guest { directory, machine, said };
    let taken = |guest: &Guest| lock(&guest.machine.board.devices[0]).saved().queues[0].taken.len();
    until(|| taken(&guest) == 1);
    guest.machine.capture(&mut std::io::sink(), &mut |_| Ok(())).unwrap();
    guest.counts_on(&[COUNT]);
    let bytes = guest.last_bytes();
    drop(guest.machine);

    let (_server, _) = serve(guest.directory.path());
    let (mut said, console) = Said::new();
    let (copied, _) = Copied::read(&bytes[..], "it", console, None, &mut |_| Ok(())).unwrap();
    guest.machine = copied.begin(&[], |_| ()).unwrap();
    said.hears("D");
    assert_eq!(guest.number(0x1_3000) >> 16, 1, "it was answered once");
    assert_eq!(guest.machine.memory().read_obj::<u8>(GuestAddress(0x1_6000)).unwrap(), 0);
    let disk = std::fs::read(guest.directory.path().join("disk")).unwrap();
    assert_eq!(&disk[3 * 512..3 * 512 + 5], b"dcba\0");
    let counted = json!({ "read_ops": 0, "read_bytes": 0, "write_ops": 1, "write_bytes": 512 });
    assert_eq!(guest.machine.origin().counters(), json!({ "disk0": counted }));
    guest.counts_on(&[COUNT]);
}

/// A server that has something of the guest's and does not answer is named, and the guest goes on.
#[test]
fn a_silent_server_is_named_and_the_guest_goes_on() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (_server, silent) = serve(directory.path());
    let mut guest = Guest::start(&elf(&writer(), true), &with_disk(directory.path(), "silent"));
    until(|| silent.held.lock().unwrap().len() == 1);
    for _ in 0..2 {
        let why = guest.machine.stand_still_within(Duration::from_millis(50)).unwrap_err();
        assert!(why.what.contains("guest small cannot be captured: 1 requests to the disk nbd"), "{why:?}");
        guest.counts_on(&[COUNT]);
        assert_eq!(silent.held.lock().unwrap().len(), 1, "nothing was asked twice");
    }
    for (request, reply) in silent.held.lock().unwrap().drain(..) {
        silent.file.submit(request, reply);
    }
    guest.said.hears("D");
    let still = guest.machine.stand_still().unwrap();
    let twice = guest.machine.stand_still().unwrap_err();
    assert_eq!(twice.what, "guest small is being captured already");
    drop(still);
    guest.counts_on(&[COUNT]);
}
