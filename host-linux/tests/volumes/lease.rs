//! I5, V23, X02: guests run by the lease of the node that leads their volumes.

use super::common::bulkhead;
use super::kernel::{elf, out, say};
use super::plant::Plant;
use super::{BLOCK, LONG, check, client, content, roles, within, write};
use bulkhead::cluster::client::Client;
use bulkhead::cluster::guest_requests::GuestLease;
use bulkhead::cluster::request::Request;
use bulkhead::failure::{Exit, Failure};
use bulkhead::nbd::export::{Errno, Reply, Request as Asked};
use bulkhead::nbd::uri::Uri;
use bulkhead::vmm::description::{self, Content};
use bulkhead::vmm::disk::{Disk, Server};
use bulkhead::vmm::lease::Lease;
use bulkhead::vmm::machine::kvm;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The longest lease of a plant.
const LEASE: Duration = Duration::from_millis(600);

fn socket(plant: &Plant, node: &str) -> PathBuf {
    plant.part(node)["socket"].as_str().unwrap().into()
}

/// What a node's agent says, and the end of the lease as whoever asked counts it.
fn lease(plant: &Plant, node: &str) -> Result<(GuestLease, Instant), Failure> {
    let asked = Instant::now();
    let mut agent = Client::connect(&socket(plant, node))?;
    let answer = agent.ask(&Request::GuestLease { lease: None })?;
    let lease: GuestLease = serde_json::from_value(answer["guestLease"].clone()).unwrap();
    let left = Duration::from_millis(lease.left_ms);
    Ok((lease, asked + left))
}

/// The node that leads lends what it has; the other one names it. Whoever is given the lead has it when all
/// that was lent is over, and not before.
#[test]
fn guests_run_where_their_volumes_are_led() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    let (first, _) = lease(&plant, primary).unwrap();
    assert!(Duration::from_millis(first.left_ms) <= LEASE && first.volumes.exists(), "{first:?}");
    let refused = lease(&plant, secondary).unwrap_err();
    assert_eq!(refused.exit, Exit::Refused, "{}", refused.what);
    assert!(refused.what.contains(&format!("{primary} leads")), "{}", refused.what);
    assert!(refused.next.contains(&format!("promote {secondary}")), "{}", refused.next);
    std::thread::sleep(LEASE);
    let (again, until) = lease(&plant, primary).unwrap();
    assert_eq!(again.epoch, first.epoch, "nobody else has led");

    plant.ok(primary, &["promote", secondary]);
    let next = within("the other one to lead", || lease(&plant, secondary).ok());
    assert!(until < Instant::now(), "it leads while a guest may run");
    assert!(first.epoch < next.0.epoch);
    let refused = within("the first one to know", || {
        lease(&plant, primary).err().filter(|failure| failure.exit == Exit::Refused)
    });
    assert!(refused.what.contains(&format!("{secondary} leads")), "{}", refused.what);
}

/// The process of a guest, which ticks for as long as it runs.
struct Guest {
    process: Child,
    /// When it did.
    ticks: Receiver<Instant>,
}

impl Guest {
    /// A guest with a volume, under a lease of a node.
    fn start(plant: &Plant, node: &str, volume: &str, directory: &Path) -> Self {
        // Beside its ticks: mov ecx, 100000; dec ecx; jnz -3 ... jmp back
        let rest = [0xb9, 0xa0, 0x86, 1, 0, 0x49, 0x75, 0xfd];
        let code = [&say("on")[..], &rest, &out(0x3f8, b'.'), &[0xeb, 0xef]].concat();
        std::fs::write(directory.join("kernel"), elf(&code, true)).unwrap();
        let (lease, _) = lease(plant, node).unwrap();
        let uri = Uri::unix(&lease.volumes, volume);
        let described = format!(
            "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"16M\"\nkernel = \"kernel\"\n\
             [[disk]]\nuri = \"{uri}\"\n"
        );
        let file = directory.join(format!("{node}.toml"));
        std::fs::write(&file, described).unwrap();
        let mut command = bulkhead(&["vmm", file.to_str().unwrap(), "--socket"]);
        command.arg(socket(plant, node)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (mut said, (tell, ticks)) = (process.stdout.take().unwrap(), channel());
        std::thread::spawn(move || {
            while let Ok(1..) = said.read(&mut [0; 4096]) {
                if tell.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Self { process, ticks }
    }

    fn ticks(&self) {
        self.ticks.recv_timeout(LONG).expect("it ticks");
    }

    /// How it ended, and what it said of that.
    fn ends(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code(), said)
    }
}

/// A write by a disk of a guest; what becomes of it.
fn writes(server: &Server, block: u64, round: u64) -> Receiver<Result<(), Errno>> {
    let (tell, ended) = channel();
    let request = Asked::Write { offset: block * BLOCK, data: content(block, round), durable: false };
    let hear = move |answer: bulkhead::nbd::export::Answer| {
        let _ = tell.send(answer.map(drop).map_err(|failed| failed.errno));
    };
    server.submit(request, Reply::new(hear));
    ended
}

/// V23, V8, X02, F19: the agent that leads stands still, and with it nobody tells its guest to stop. That has
/// carried out its last instruction before the other node leads, and nothing that it asked for is done later.
#[test]
fn a_guest_stands_still_before_another_node_leads() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let far = client(&plant, secondary, "vm1", 16 << 20);
    let directory = tempfile::tempdir().unwrap();
    let guest = kvm().is_ok().then(|| Guest::start(&plant, primary, "vm1", directory.path()));
    guest.iter().for_each(Guest::ticks);

    // A disk as a guest has it.
    let (lent, _) = lease(&plant, primary).unwrap();
    let described =
        description::Disk { content: Content::Served(Uri::unix(&lent.volumes, "vm1")), is_read_only: false };
    let own = within("a lease", || Lease::obtain(&socket(&plant, primary)).ok());
    let disk = Disk::open(&described, Some(&own)).unwrap();
    let server = disk.connect().unwrap();
    assert_eq!(writes(&server, 5, 1).recv_timeout(LONG), Ok(Ok(())));
    check(&far, 5, 1);

    guest.iter().for_each(Guest::ticks);
    plant.fault(&["pause", primary]);
    let late = writes(&server, 5, 2);
    within("the other one to lead", || lease(&plant, secondary).ok());
    let leads = Instant::now();
    if let Some(last) = guest.as_ref().and_then(|guest| guest.ticks.try_iter().last()) {
        println!("its last tick was {:?} before the other node led", leads.duration_since(last));
    }
    write(&far, 5, 3);
    assert!(disk.connect().is_none(), "it has no lease any more");
    std::thread::sleep(LEASE);
    plant.fault(&["resume", primary]);
    assert_eq!(late.recv_timeout(LONG), Ok(Err(Errno::Shutdown)), "it was done");
    check(&far, 5, 3);
    if let Some(mut guest) = guest {
        let ticks = std::mem::replace(&mut guest.ticks, channel().1);
        let (code, said) = guest.ends();
        assert_eq!((code, said.contains(&format!("{secondary} leads"))), (Some(3), true), "{said}");
        assert_eq!(ticks.iter().count(), 0, "it went on");
        // It begins where its volume is led.
        let next = Guest::start(&plant, secondary, "vm1", directory.path());
        next.ticks();
        let Guest { mut process, .. } = next;
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
