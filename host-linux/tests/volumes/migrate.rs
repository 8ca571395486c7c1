//! X15, S0-11: a guest moves between the nodes of a pair while it runs, and its volumes' lead with it.

use super::common::{Answer, bulkhead};
use super::kernel::elf;
use super::plant::Plant;
use super::{roles, within};
use bulkhead::migration::channel::Channel;
use bulkhead::migration::hello::{HELLO_LEN, Hello, Keys};
use bulkhead::migration::words::{Offer, Word};
use bulkhead::site_config::SiteConfig;
use bulkhead::site_config::key::SiteKey;
use bulkhead::vmm::machine::kvm;
use bulkhead_core::id::{NodeId, SiteId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Whether this machine runs guests; says why not.
pub(super) fn runs_guests() -> bool {
    kvm().inspect_err(|why| println!("skipped: {}", why.what)).is_ok()
}

/// A guest that writes 12 MiB, and then counts.
pub(super) fn counter() -> Vec<u8> {
    counter_with(12)
}

/// A guest that writes so many MiB, up to 60, and then says 64 signs in a row, again and again: who leaves
/// one out or says one twice is seen.
pub(super) fn counter_with(mib: u8) -> Vec<u8> {
    // mov edi, 2 MiB; mov ecx, so many words; mov eax, 0xa5a5a5a5; rep stosd; xor ebx, ebx
    let write =
        [0xbf, 0, 0, 0x20, 0, 0xb9, 0, 0, 4 * mib, 0, 0xb8, 0xa5, 0xa5, 0xa5, 0xa5, 0xf3, 0xab, 0x31, 0xdb];
    // again: mov al, bl; and al, 63; add al, '0'; mov dx, 0x3f8; out dx, al; inc ebx
    let say = [0x88, 0xd8, 0x24, 63, 0x04, b'0', 0x66, 0xba, 0xf8, 0x03, 0xee, 0x43];
    // mov ecx, 5000; dec ecx; jnz -3; jmp again
    let rest = [0xb9, 0x88, 0x13, 0, 0, 0x49, 0x75, 0xfd, 0xeb, 0xea];
    elf(&[&write[..], &say, &rest].concat(), true)
}

pub(super) fn guests(plant: &Plant, node: &str) -> PathBuf {
    PathBuf::from(plant.part(node)["state"].as_str().unwrap()).join("guests")
}

pub(super) fn vm(plant: &Plant, node: &str, words: &[&str]) -> Answer {
    let mut command = bulkhead(&["vm"]);
    command.args(words).arg("--json").arg("--guests").arg(guests(plant, node));
    command.env("BULKHEAD_SOCKET", plant.part(node)["socket"].as_str().unwrap());
    command.output().unwrap().into()
}

pub(super) fn ok(plant: &Plant, node: &str, words: &[&str]) -> Value {
    let answer = vm(plant, node, words);
    assert_eq!(answer.code, 0, "{node}: vm {words:?}: {}", answer.err);
    serde_json::from_str(&answer.out).unwrap()
}

pub(super) fn state(plant: &Plant, node: &str) -> String {
    ok(plant, node, &["show", "web1"])["state"].as_str().unwrap().into()
}

/// What the guest has said on a node.
pub(super) fn said(plant: &Plant, node: &str) -> Vec<u8> {
    said_by(plant, node, "web1")
}

/// What a guest of this name has.
pub(super) fn said_by(plant: &Plant, node: &str, name: &str) -> Vec<u8> {
    std::fs::read(guests(plant, node).join(name).join("console.log")).unwrap_or_default()
}

/// Each sign is the one behind the one before it, from one node to the other.
pub(super) fn counts_on(signs: &[u8]) {
    for (at, pair) in signs.windows(2).enumerate() {
        let next = (pair[0] - b'0' + 1) % 64 + b'0';
        assert_eq!(pair[1], next, "sign {at} of {}", String::from_utf8_lossy(signs));
    }
}

/// A plant whose guests end with it.
pub(super) struct Site(pub(super) Plant);

impl std::ops::Deref for Site {
    type Target = Plant;

    fn deref(&self) -> &Plant {
        &self.0
    }
}

/// A plant with a guest on the node that leads.
pub(super) fn begin(more: &str, lease: &[&str]) -> (Site, &'static str, &'static str) {
    let plant = Site(Plant::start());
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let directory = guests(&plant, primary);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("kernel"), counter()).unwrap();
    let file = directory.join("web1.toml");
    let described = format!(
        "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"kernel\"\n{more}"
    );
    std::fs::write(&file, described).unwrap();
    // One that runs alone is not the pair's.
    let kept = if lease.contains(&"--alone") { &["--local"][..] } else { &[] };
    ok(&plant, primary, &[&["create", file.to_str().unwrap()], kept].concat());
    ok(&plant, primary, &[&["start", "web1"], lease].concat());
    within("it counts", || (100 < said(&plant, primary).len()).then_some(()));
    (plant, primary, secondary)
}

/// The process of a guest.
pub(super) fn process(plant: &Plant, node: &str) -> Pid {
    process_of(plant, node, "web1")
}

/// The process of a guest of this name.
pub(super) fn process_of(plant: &Plant, node: &str, name: &str) -> Pid {
    let socket = guests(plant, node).join(name).join("api.sock");
    let mut stream = within("its API", || UnixStream::connect(&socket).ok());
    stream.write_all(b"GET /api/v1/vmm.ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    Pid::from_raw(i32::try_from(body["pid"].as_u64().unwrap()).unwrap()).unwrap()
}

/// Begins to move it, and waits until the other node has seen of it what `seen` says.
pub(super) fn begin_to_move(plant: &Plant, from: &str, words: &[&str], seen: &str) -> JoinHandle<Answer> {
    let mut command = bulkhead(&["vm", "migrate", "web1", "--json", "--guests"]);
    command.arg(guests(plant, from)).args(words);
    command.env("BULKHEAD_SOCKET", plant.part(from)["socket"].as_str().unwrap());
    let moves = std::thread::spawn(move || command.output().unwrap().into());
    let socket = guests(plant, from).join("web1/api.sock");
    within(seen, || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.write_all(b"GET /api/v1/vm.info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains(seen).then_some(())
    });
    moves
}

/// It goes on where it is, and nothing of it is left elsewhere.
pub(super) fn stays(plant: &Plant, here: &str, there: &str) {
    let before = said(plant, here).len();
    within("it goes on", || (before + 100 < said(plant, here).len()).then_some(()));
    assert_eq!(state(plant, here), "Running");
    within("the other node to know", || {
        let list = ok(plant, there, &["list"]);
        let guest = list["guests"].as_array().unwrap().iter().find(|guest| guest["name"] == "web1").cloned();
        guest.is_none_or(|guest| guest["state"] == "Off").then_some(())
    });
    assert_eq!(said(plant, there).len(), 0, "it has run there");
}

/// X15: whatever ends a move before the guest was given away, it stays, and nothing of it runs elsewhere.
#[test]
fn a_move_that_fails_changes_nothing() {
    if !runs_guests() {
        return;
    }
    // One that dies is begun again by nobody else, which would hide what became of it.
    let more = "[[disk]]\nvolume = \"vm1\"\n[failover]\npolicy = \"stay\"\n";
    let (plant, here, there) = begin(more, &[]);
    let fails = |code, words: &[&str], why: &str| {
        let answer = vm(&plant, here, &[&["migrate", "web1"], words].concat());
        assert_eq!((answer.code, answer.err.contains(why)), (code, true), "{words:?}: {}", answer.err);
    };
    fails(2, &["--to", "c1"], "no node c1");
    fails(2, &["--to", here], "is this node");
    fails(3, &["--to", "witness"], "takes in no guests");
    fails(3, &["--cancel"], "not being moved");

    // Cancelled.
    let slow = ["--to", there, "--bandwidth", "1MiB"];
    let moves = begin_to_move(&plant, here, &slow, "copying");
    fails(3, &["--to", there], "already");
    let held = vm(&plant, here, &["pause", "web1"]);
    assert_eq!((held.code, held.err.contains("being moved")), (3, true), "{}", held.err);
    ok(&plant, here, &["migrate", "web1", "--cancel"]);
    let answer = moves.join().unwrap();
    assert_eq!((answer.code, answer.err.contains("cancelled")), (1, true), "{}", answer.err);
    stays(&plant, here, there);

    // The other end dies.
    let moves = begin_to_move(&plant, here, &slow, "copying");
    kill_process(process(&plant, there), Signal::KILL).unwrap();
    let answer = moves.join().unwrap();
    assert_eq!((answer.code, answer.err.contains("stays on this node")), (1, true), "{}", answer.err);
    stays(&plant, here, there);

    // The other end's agent stands still, and nobody lets it in.
    plant.fault(&["pause", there]);
    let answer = vm(&plant, here, &["migrate", "web1", "--to", there]);
    assert_eq!((answer.code, answer.err.contains("stays on this node")), (1, true), "{}", answer.err);
    plant.fault(&["resume", there]);
    stays(&plant, here, there);

    // It dies itself: so it is off, and nothing of it comes there.
    let moves = begin_to_move(&plant, here, &slow, "copying");
    kill_process(process(&plant, here), Signal::KILL).unwrap();
    assert_ne!(moves.join().unwrap().code, 0);
    within("it is off", || (state(&plant, there) == "Off").then_some(()));
    assert_eq!((state(&plant, here), said(&plant, there).len()), ("Off".into(), 0));
    counts_on(&said(&plant, here));
    ok(&plant, here, &["start", "web1"]);
    ok(&plant, here, &["migrate", "web1", "--to", there, "--quick"]);
    assert_eq!(state(&plant, there), "Running");
    ok(&plant, there, &["stop", "web1", "--now"]);
}

/// V22, V16, I11: who does not have the site key brings no guest, learns nothing, and holds nobody up.
#[test]
fn who_is_no_node_of_the_site_is_not_let_in() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there) = begin("", &["--alone"]);
    let file = plant.part(there)["config"].as_str().unwrap();
    let config = SiteConfig::read(file.as_ref()).unwrap();
    let me = config.me().unwrap();
    let at = me.guests.unwrap();
    let knock = |bytes: &[u8]| {
        let mut wire = TcpStream::connect(at).unwrap();
        // It may be sent away before it has said all.
        let _ = wire.write_all(bytes);
        wire
    };
    let answer = |mut wire: TcpStream| {
        let mut said = Vec::new();
        // It may be reset: what was sent is not read.
        let _ = wire.read_to_end(&mut said);
        said
    };
    let other = config.members.iter().find(|member| member.name == here).unwrap().id;
    let hello = Hello::new(config.site, other, me.id).unwrap();
    let witness = config.members.iter().find(|member| member.duty.is_witness()).unwrap().id;
    let strangers = [
        vec![b'x'; 1 << 20],
        vec![],
        Hello { from: NodeId(77), ..hello }.encode().to_vec(),
        Hello { from: witness, ..hello }.encode().to_vec(),
        Hello { from: me.id, ..hello }.encode().to_vec(),
        Hello { to: other, ..hello }.encode().to_vec(),
        Hello { site: SiteId([0; 16]), ..hello }.encode().to_vec(),
    ];
    for bytes in strangers {
        assert_eq!(answer(knock(&bytes)).len(), 0, "{:?}", bytes.get(..32));
    }
    // One that says the right things, without the key.
    let mut wire = knock(&hello.encode());
    let mut welcome = [0; HELLO_LEN];
    wire.read_exact(&mut welcome).unwrap();
    let welcome = Hello::parse(&welcome).unwrap();
    assert!(hello.is_answered_by(&welcome));
    let mut impostor = Channel::leaving(wire, &Keys::new(&SiteKey([7; 32]), &hello, &welcome)).unwrap();
    let description = std::fs::read_to_string(guests(&plant, here).join("web1/guest.toml")).unwrap();
    let offer = Offer { description, is_leased: false, is_paused: false };
    impostor.say(&Word::Offer(offer)).unwrap();
    assert!(impostor.hear(Duration::from_secs(30)).is_err());
    assert_eq!(ok(&plant, there, &["list"])["guests"], json!([]));

    // Many that say nothing: a guest comes when they were sent away.
    let silent: Vec<_> = (0..50).map(|_| knock(&[])).collect();
    within("a guest to be let in", || {
        (vm(&plant, here, &["migrate", "web1", "--to", there]).code == 0).then_some(())
    });
    drop(silent);
    assert_eq!(state(&plant, there), "Running");
    ok(&plant, there, &["stop", "web1", "--now"]);
}

/// A guest without a lease moves, too, and is not started again where it was by mistake.
#[test]
fn a_guest_that_runs_alone_moves() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there) = begin("", &["--alone"]);
    ok(&plant, here, &["migrate", "web1", "--to", there]);
    within("it counts there", || (100 < said(&plant, there).len()).then_some(()));
    counts_on(&[said(&plant, here), said(&plant, there)].concat());
    assert_eq!(ok(&plant, here, &["list"])["guests"][0]["movedTo"], there);
    assert_eq!(ok(&plant, here, &["show", "web1"])["moved"]["way"], "to");
    let refused = vm(&plant, here, &["start", "web1", "--alone"]);
    assert_eq!((refused.code, refused.err.contains("was moved to")), (3, true), "{}", refused.err);
    // Its name is taken there: another one of it does not come.
    ok(&plant, here, &["start", "web1", "--alone", "--here"]);
    let refused = vm(&plant, here, &["migrate", "web1", "--to", there]);
    assert_eq!((refused.code, refused.err.contains("runs on")), (3, true), "{}", refused.err);
    assert_eq!((state(&plant, here), state(&plant, there)), ("Running".into(), "Running".into()));
    for node in [here, there] {
        ok(&plant, node, &["stop", "web1", "--now"]);
    }
}

/// It runs by the lease of one node, then by that of the other, and back; in between it says nothing twice.
#[test]
fn a_guest_moves_there_and_back() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there) = begin("[[disk]]\nvolume = \"vm1\"\n", &[]);
    let mut all = Vec::new();
    for (from, to) in [(here, there), (there, here), (here, there)] {
        let begun = Instant::now();
        let _ = std::fs::remove_file(guests(&plant, to).join("web1/console.log"));
        let moved = ok(&plant, from, &["migrate", "web1", "--to", to]);
        println!("{from} to {to}: {} in {:?}", moved["moved"], begun.elapsed());
        assert_eq!((state(&plant, from), state(&plant, to)), ("Off".into(), "Running".into()));
        all.extend(said(&plant, from));
        within("it counts there", || (100 < said(&plant, to).len()).then_some(()));
        let listed = plant.ok(to, &["list"]);
        assert_eq!(listed["group"]["storage"]["leads"], true, "{listed}");
    }
    all.extend(said(&plant, there));
    counts_on(&all);
    ok(&plant, there, &["stop", "web1", "--now"]);
}
