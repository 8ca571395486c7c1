//! S0-11, X15: a guest moves to a node that has nothing of its disks, and what is on them goes with it, block
//! for block, while it writes there.

use super::kernel::elf;
use super::migrate::{
    Site, begin_to_move, counts_on, guests, ok, process, runs_guests, said, state, stays, vm,
};
use super::plant::Plant;
use super::{ask, client, roles, within};
use bulkhead::nbd::export::{Errno, Export, Geometry, Reply, Request, Span};
use bulkhead::nbd::file::FileExport;
use bulkhead::nbd::limits::Limits;
use bulkhead::nbd::server::Server;
use bulkhead::nbd::uri::Uri;
use rustix::process::{Signal, kill_process};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const SIZE: u64 = 16 << 20;
/// Where the guest writes: so many blocks, one after the other; more than in a test on one node.
const SLOTS: usize = 2048;
const SLOT: u64 = 4096;
/// What `vm.info` says while disks are copied.
pub(super) const DISKS: &str = "\"phase\":\"disks";

fn store(at: u32, value: u32) -> Vec<u8> {
    // mov dword [at], value
    [&[0xc7, 0x05][..], &at.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A guest that counts: it writes each number into the next slot of its disk, and says it when the disk has
/// said that it is written. A write that fails ends that.
pub(super) fn writer() -> Vec<u8> {
    const DEVICE: u32 = 0xd000_0000;
    let [table, available, used] = [0x1_1000_u32, 0x1_2000, 0x1_3000];
    let [header, data, status] = [0x1_4000_u32, 0x1_5000, 0x1_6000];
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
    let mut code: Vec<u8> =
        registers.into_iter().flat_map(|(register, value)| store(DEVICE + register, value)).collect();
    let parts = [(header, 16_u32, 1_u32 | 1 << 16), (data, 4096, 1 | 2 << 16), (status, 1, 2)];
    for (at, (place, length, flags)) in (table..).step_by(16).zip(parts) {
        code.extend([store(at, place), store(at + 8, length), store(at + 12, flags)].concat());
    }
    code.extend(store(header, 1));
    // Memory that takes a while: mov edi, 2 MiB; mov ecx, 1 Mi; mov eax, 0xa5a5a5a5; rep stosd; xor ebx, ebx
    code.extend([
        0xbf, 0, 0, 0x20, 0, 0xb9, 0, 0, 0x10, 0, 0xb8, 0xa5, 0xa5, 0xa5, 0xa5, 0xf3, 0xab, 0x31, 0xdb,
    ]);
    let again = code.len();
    // mov [data], ebx; mov eax, ebx; and eax, 2047; shl eax, 3; mov [header + 8], eax
    code.extend([&[0x89, 0x1d][..], &data.to_le_bytes(), &[0x89, 0xd8, 0x25, 0xff, 7, 0, 0]].concat());
    code.extend([&[0xc1, 0xe0, 3, 0xa3][..], &(header + 8).to_le_bytes()].concat());
    // inc word [available + 2]; and its device is told
    code.extend([&[0x66, 0xff, 0x05][..], &(available + 2).to_le_bytes()].concat());
    code.extend(store(DEVICE + 0x50, 0));
    // mov ax, [used + 2]; cmp ax, [available + 2]; jne back
    let wait = [&[0x66, 0xa1][..], &(used + 2).to_le_bytes(), &[0x66, 0x3b, 0x05]].concat();
    code.extend([&wait[..], &(available + 2).to_le_bytes(), &[0x75, 0xf1]].concat());
    // cmp byte [status], 0; jne here
    code.extend([&[0x80, 0x3d][..], &status.to_le_bytes(), &[0, 0x75, 0xfe]].concat());
    // mov al, bl; and al, 63; add al, '0'; mov dx, 0x3f8; out dx, al; inc ebx
    code.extend([0x88, 0xd8, 0x24, 63, 0x04, b'0', 0x66, 0xba, 0xf8, 0x03, 0xee, 0x43]);
    // mov ecx, 5000; dec ecx; jnz -3; jmp again
    code.extend([0xb9, 0x88, 0x13, 0, 0, 0x49, 0x75, 0xfd, 0xe9]);
    let back = i32::try_from(again).unwrap() - i32::try_from(code.len() + 4).unwrap();
    code.extend(back.to_le_bytes());
    elf(&code, true)
}

/// A disk that can be told to fail.
pub(super) struct Disk {
    file: FileExport,
    fails: AtomicBool,
    /// It was written to since it was told to make that durable.
    pub(super) is_dirty: AtomicBool,
}

impl Export for Disk {
    fn geometry(&self) -> Geometry {
        self.file.geometry()
    }

    fn submit(&self, request: Request, reply: Reply) {
        let is_write = matches!(request, Request::Write { .. });
        if is_write || request == Request::Flush {
            self.is_dirty.store(is_write, Ordering::SeqCst);
        }
        match is_write && self.fails.load(Ordering::SeqCst) {
            true => reply.fail(Errno::NoSpace, "full"),
            false => self.file.submit(request, reply),
        }
    }
}

/// The disk of a node, and who serves it.
pub(super) struct Served {
    path: PathBuf,
    pub(super) disk: Arc<Disk>,
    socket: PathBuf,
    _server: Server,
}

impl Served {
    fn new(directory: &Path, name: &str) -> Self {
        let (path, socket) = (directory.join(name), directory.join(format!("{name}.sock")));
        std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
        let file = FileExport::open(&path, false).unwrap();
        let disk = Arc::new(Disk { file, fails: false.into(), is_dirty: false.into() });
        let mut server = Server::start(Limits::default()).unwrap();
        server.listen_unix(&socket).unwrap();
        server.publish("disk", "", Arc::clone(&disk) as Arc<dyn Export>).unwrap();
        Self { path, disk, socket, _server: server }
    }

    pub(super) fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn described(&self) -> String {
        let uri = Uri::unix(&self.socket, "disk");
        format!(
            "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"kernel\"\n\
             [[disk]]\nuri = \"{uri}\"\n"
        )
    }
}

/// Two nodes, each with a disk that the other one does not reach, and a guest on one of them.
pub(super) struct Nodes {
    pub(super) plant: Site,
    pub(super) here: &'static str,
    pub(super) there: &'static str,
    pub(super) disks: [Served; 2],
    _directory: tempfile::TempDir,
}

/// What the guest does not touch.
pub(super) fn pattern() -> Vec<u8> {
    (0..512_u32 << 10).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

impl Nodes {
    pub(super) fn start() -> Self {
        let plant = Site(Plant::start());
        let (here, there) = roles(&plant);
        let directory = tempfile::tempdir().unwrap();
        let disks = ["here", "there"].map(|name| Served::new(directory.path(), name));
        std::fs::write(directory.path().join("kernel"), writer()).unwrap();
        std::fs::File::options()
            .write(true)
            .open(&disks[0].path)
            .unwrap()
            .write_all_at(&pattern(), 9 << 20)
            .unwrap();
        for (node, disk) in [here, there].into_iter().zip(&disks) {
            let file = directory.path().join("web1.toml");
            std::fs::write(&file, disk.described()).unwrap();
            ok(&plant, node, &["create", file.to_str().unwrap(), "--local"]);
        }
        ok(&plant, here, &["start", "web1", "--alone"]);
        within("it writes", || (200 < said(&plant, here).len()).then_some(()));
        Self { plant, here, there, disks, _directory: directory }
    }

    fn migrate(&self, more: &[&str]) -> super::Answer {
        vm(&self.plant, self.here, &[&["migrate", "web1", "--to", self.there, "--copy-disks"], more].concat())
    }
}

/// What is on a disk to which so many numbers were written, and told; the next one may be there.
fn holds(disk: &Served, told: usize) {
    is_written(&disk.content(), told);
}

pub(super) fn is_written(content: &[u8], told: usize) {
    assert!(content[9 << 20..11 << 20] == pattern(), "what the guest does not touch");
    assert!(content[11 << 20..].iter().chain(&content[8 << 20..9 << 20]).all(|byte| *byte == 0), "holes");
    for slot in 0..SLOTS {
        let at = slot * usize::try_from(SLOT).unwrap();
        let found = u32::from_le_bytes(*content[at..].first_chunk().unwrap()) as usize;
        let last = (slot..told).step_by(SLOTS).next_back().unwrap_or(0);
        let is_next = found == told && told % SLOTS == slot;
        assert!(found == last || is_next, "slot {slot}: {found}, not {last} of {told}");
        assert!(content[at + 4..at + usize::try_from(SLOT).unwrap()].iter().all(|byte| *byte == 0));
    }
}

/// All that it was told to be written is there, once, and what it did not touch is, too; the disk here stays
/// as it was, and neither it nor what is there is written over.
#[test]
fn a_guest_moves_with_what_is_on_its_disks() {
    if !runs_guests() {
        return;
    }
    let nodes = Nodes::start();
    let Nodes { plant, here, there, disks, .. } = &nodes;
    let moved: serde_json::Value = {
        let answer = nodes.migrate(&[]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        serde_json::from_str(&answer.out).unwrap()
    };
    println!("{}", moved["moved"]);
    assert!(2 << 20 <= moved["moved"]["diskBytes"].as_u64().unwrap(), "{moved}");
    assert!(moved["left"][0].as_str().unwrap().contains("here.sock"), "{moved}");
    assert_eq!((state(plant, here), state(plant, there)), ("Off".into(), "Running".into()));
    let before = said(plant, here).len();
    holds(&disks[0], before);
    let kept = disks[0].content();
    within("it writes there", || (300 < said(plant, there).len()).then_some(()));
    // Neither comes to life again where it was, nor goes back over what is there.
    let refused = vm(plant, here, &["start", "web1", "--alone"]);
    assert_eq!((refused.code, refused.err.contains("was moved to")), (3, true), "{}", refused.err);
    let refused = vm(plant, there, &["migrate", "web1", "--to", here, "--copy-disks"]);
    assert_eq!((refused.code, refused.err.contains("has something on it")), (3, true), "{}", refused.err);
    assert_eq!(state(plant, there), "Running");
    ok(plant, there, &["stop", "web1", "--now"]);
    let all = [said(plant, here), said(plant, there)].concat();
    counts_on(&all);
    holds(&disks[1], all.len());
    assert!(disks[0].content() == kept, "what is here is as it was");
    // It begins there again, as any guest does.
    ok(plant, there, &["start", "web1", "--alone"]);
}

/// All of a volume, as clients of a node see it.
pub(super) fn volume(plant: &Plant, node: &str) -> Vec<u8> {
    let client = client(plant, node, "vm1", SIZE);
    let read = |offset| {
        let span = Span { offset, length: 1 << 20 };
        ask(&client, Request::Read { span }).unwrap()
    };
    (0..SIZE).step_by(1 << 20).flat_map(read).collect()
}

/// From one pair to another: each node that leads has the guest by its own lease, the volume is made there,
/// and neither pair's lead changes. What is on it is in both nodes of that pair.
#[test]
fn a_guest_moves_to_another_pair() {
    if !runs_guests() {
        return;
    }
    let plant = Site(Plant::of(&["--volumes", "--pairs", "2"]));
    let of_pair = |one: &'static str, other: &'static str| {
        let found = plant.ok(one, &["wait", "--for", "in-sync", "--timeout", "60s"]);
        let leads = found["group"]["storage"]["primary"].as_u64() == plant.part(one)["node"].as_u64();
        if leads { (one, other) } else { (other, one) }
    };
    let ((here, follows), (there, far)) = (of_pair("a1", "b1"), of_pair("c1", "d1"));
    plant.ok(here, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, here, "vm1", SIZE);
    for (at, data) in pattern().chunks(1 << 20).enumerate() {
        let offset = (9 << 20) + (at as u64) * (1 << 20);
        ask(&near, Request::Write { offset, data: data.to_vec(), durable: true }).unwrap();
    }
    let directory = guests(&plant, here);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("kernel"), writer()).unwrap();
    let file = directory.join("web1.toml");
    let described = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"kernel\"\n\
                     [[disk]]\nvolume = \"vm1\"\n";
    std::fs::write(&file, described).unwrap();
    ok(&plant, here, &["create", file.to_str().unwrap(), "--local"]);
    ok(&plant, here, &["start", "web1"]);
    within("it writes", || (200 < said(&plant, here).len()).then_some(()));
    let refused = |to: &str, why: &str| {
        let answer = vm(&plant, here, &["migrate", "web1", "--to", to, "--copy-disks"]);
        assert_eq!((answer.code, answer.err.contains(why)), (3, true), "{to}: {}", answer.err);
        assert_eq!(state(&plant, here), "Running");
    };
    refused(follows, "both are of one pair");
    refused(far, &format!("{there} leads"));
    // Somebody's volume of that name is not written over.
    plant.ok(there, &["create", "vm1", "--size", "16MiB"]);
    let other = client(&plant, there, "vm1", SIZE);
    ask(&other, Request::Write { offset: 5 << 20, data: vec![7; 4096], durable: true }).unwrap();
    refused(there, "has something on it");
    drop(other);
    plant.ok(there, &["delete", "vm1", "--yes"]);

    let moved = ok(&plant, here, &["migrate", "web1", "--to", there, "--copy-disks"]);
    println!("{}", moved["moved"]);
    assert_eq!((state(&plant, here), state(&plant, there)), ("Off".into(), "Running".into()));
    let leads = |node| plant.ok(node, &["list"])["group"]["storage"]["leads"] == true;
    assert!(leads(here) && leads(there), "neither lead has changed");
    within("it writes there", || (300 < said(&plant, there).len()).then_some(()));
    let told = said(&plant, here).len();
    is_written(&volume(&plant, here), told);
    // By neither lease does it come to life again where it was.
    let again = vm(&plant, here, &["start", "web1"]);
    assert_eq!((again.code, again.err.contains("was moved to")), (3, true), "{}", again.err);
    // It runs by the lease of that node, and of no other one.
    plant.ok(there, &["promote", far]);
    within("it ends with the lease", || (state(&plant, there) == "Off").then_some(()));
    let all = [said(&plant, here), said(&plant, there)].concat();
    counts_on(&all);
    is_written(&volume(&plant, there), all.len());
    plant.fault(&["kill", there]);
    within("the other one of that pair to lead", || leads(far).then_some(()));
    is_written(&volume(&plant, far), all.len());
}

/// Whatever ends it before the guest was given away, it stays, and nobody begins it from half a disk; then it
/// moves over what was left.
#[test]
fn a_copy_that_fails_changes_nothing() {
    if !runs_guests() {
        return;
    }
    let nodes = Nodes::start();
    let Nodes { plant, here, there, disks, .. } = &nodes;
    let slow = ["--to", there, "--copy-disks", "--bandwidth", "1MiB"];
    let half = || {
        for more in [&[][..], &["--here"]] {
            let refused = vm(plant, there, &[&["start", "web1", "--alone"], more].concat());
            let is_said = refused.err.contains("parts of a copy from");
            assert_eq!((refused.code, is_said), (3, true), "{}", refused.err);
        }
    };

    // Cancelled, in the middle of its disks.
    let moves = begin_to_move(plant, here, &slow, DISKS);
    ok(plant, here, &["migrate", "web1", "--cancel"]);
    let answer = moves.join().unwrap();
    assert_eq!((answer.code, answer.err.contains("cancelled")), (1, true), "{}", answer.err);
    stays(plant, here, there);
    half();

    // The other end dies, in the middle of its disks and of its memory.
    for phase in [DISKS, "\"phase\":\"copying"] {
        let moves = begin_to_move(plant, here, &slow, phase);
        kill_process(process(plant, there), Signal::KILL).unwrap();
        let answer = moves.join().unwrap();
        assert_eq!((answer.code, answer.err.contains("stays on this node")), (1, true), "{}", answer.err);
        stays(plant, here, there);
        half();
    }

    // The disk there fails.
    disks[1].disk.fails.store(true, Ordering::SeqCst);
    let answer = nodes.migrate(&[]);
    assert_eq!((answer.code, answer.err.contains("cannot be written there")), (1, true), "{}", answer.err);
    disks[1].disk.fails.store(false, Ordering::SeqCst);
    stays(plant, here, there);
    half();

    // It dies itself: it is off, and begins again here only.
    let moves = begin_to_move(plant, here, &slow, DISKS);
    kill_process(process(plant, here), Signal::KILL).unwrap();
    assert_ne!(moves.join().unwrap().code, 0);
    within("it is off", || (state(plant, there) == "Off").then_some(()));
    half();
    assert_eq!((state(plant, here), said(plant, there).len()), ("Off".into(), 0));
    holds(&disks[0], said(plant, here).len());
    std::fs::remove_file(guests(plant, here).join("web1/console.log")).unwrap();
    let file = std::fs::File::options().write(true).open(&disks[0].path).unwrap();
    file.write_all_at(&vec![0; SLOTS * SLOT as usize], 0).unwrap();
    ok(plant, here, &["start", "web1", "--alone"]);
    within("it writes", || (100 < said(plant, here).len()).then_some(()));
    let answer = nodes.migrate(&["--quick"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    within("it writes there", || (100 < said(plant, there).len()).then_some(()));
    ok(plant, there, &["stop", "web1", "--now"]);
    let all = [said(plant, here), said(plant, there)].concat();
    counts_on(&all);
    holds(&disks[1], all.len());
}
