//! X15, I11: a guest that comes with its disks, from a node that says anything and ends anywhere: nobody
//! begins it from disks that are not its own.

use super::copied::{Nodes, SIZE};
use super::migrate::{guests, ok, process, runs_guests, said, state, vm};
use super::within;
use bulkhead::migration::channel::{Channel, Outgoing};
use bulkhead::migration::disks::piece::{Content, Piece};
use bulkhead::migration::hello::{HELLO_LEN, Hello, Keys};
use bulkhead::migration::words::{Offer, Word};
use bulkhead::site_config::{SiteConfig, key};
use bulkhead::vmm::in_use::is_in_use;
use bulkhead::vmm::snapshot::format::{Kind, Reader, Writer};
use rustix::process::{Signal, kill_process};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Another node of the site, with a guest as a snapshot has it.
struct Sender<'a> {
    nodes: &'a Nodes,
    records: Vec<(Kind, Vec<u8>)>,
}

impl Sender<'_> {
    /// Begins to bring it.
    fn knock(&self) -> Channel {
        let Nodes { plant, here, there, .. } = self.nodes;
        let config = SiteConfig::read(plant.part(there)["config"].as_str().unwrap().as_ref()).unwrap();
        let me = config.me().unwrap();
        let from = config.members.iter().find(|member| member.name == *here).unwrap().id;
        let hello = Hello::new(config.site, from, me.id).unwrap();
        let mut wire = TcpStream::connect(me.guests.unwrap()).unwrap();
        wire.write_all(&hello.encode()).unwrap();
        let mut welcome = [0; HELLO_LEN];
        wire.read_exact(&mut welcome).unwrap();
        let key = key::read(&config.local.key_file).unwrap();
        let keys = Keys::new(&key, &hello, &Hello::parse(&welcome).unwrap());
        let mut channel = Channel::leaving(wire, &keys).unwrap();
        let description = self.records.iter().find(|(kind, _)| *kind == Kind::Description).unwrap();
        let description = String::from_utf8(description.1.clone()).unwrap();
        let offer = Offer { description, is_leased: false, is_paused: false };
        channel.say(&Word::Bring(offer, vec![Some(SIZE)])).unwrap();
        assert_eq!(channel.hear(LONG).unwrap(), Word::Accepted);
        // From here on what is there is half a copy, whatever was noted before.
        let noted = std::fs::read_to_string(guests(plant, there).join("web1/coming.json")).unwrap();
        assert!(noted.contains("\"whole\":false"), "{noted}");
        channel
    }

    /// Brings it, with a part of this disk.
    fn send(&self, channel: &mut Channel, disk: u32) {
        let mut writer = Writer::bring(Outgoing::new(channel)).unwrap();
        let piece = Piece { disk, offset: SIZE - 4096, content: Content::Data(&[5; 4096]) };
        for (kind, content) in &self.records {
            writer.put(*kind, &[content]).unwrap();
            if *kind == Kind::Description {
                writer.put(Kind::Disk, &[&piece.head(), &[5; 4096]]).unwrap();
            }
        }
        writer.end().unwrap();
    }

    fn is_refused(&self, more: &[&str], why: &str) {
        let Nodes { plant, there, .. } = self.nodes;
        let description = guests(plant, there).join("web1/guest.toml");
        within("it is off", || (!is_in_use(&description)).then_some(()));
        let refused = vm(plant, there, &[&["start", "web1", "--alone"], more].concat());
        assert_eq!((refused.code, refused.err.contains(why)), (3, true), "{}", refused.err);
    }
}

#[test]
fn nobody_begins_a_guest_from_what_is_not_all_there() {
    if !runs_guests() {
        return;
    }
    let nodes = Nodes::start();
    let Nodes { plant, here, there, disks, .. } = &nodes;
    let file = guests(plant, here).join("web1.snapshot");
    ok(plant, here, &["snapshot", "web1", file.to_str().unwrap(), "--stop"]);
    let mut reader = Reader::begin(File::open(&file).unwrap()).unwrap();
    let mut records = Vec::new();
    while let Some((kind, content)) = reader.record().unwrap() {
        if [Kind::Description, Kind::State, Kind::Memory].contains(&kind) {
            records.push((kind, content.to_vec()));
        }
    }
    let sender = Sender { nodes: &nodes, records };
    let half = "parts of a copy from";

    // A disk that there is not.
    let mut channel = sender.knock();
    sender.send(&mut channel, 9);
    let Word::Failed(why) = channel.hear(LONG).unwrap() else { panic!("it was taken") };
    assert!(why.what.contains("a part of no disk"), "{why:?}");
    sender.is_refused(&[], half);

    // All of it was there, and it was not given.
    let mut channel = sender.knock();
    sender.send(&mut channel, 0);
    assert_eq!(channel.hear(LONG).unwrap(), Word::Whole);
    assert_eq!(disks[1].content().last(), Some(&5), "it is there before that is said");
    assert!(!disks[1].disk.is_dirty.load(Ordering::SeqCst), "and durable");
    drop(channel);
    sender.is_refused(&["--here"], half);

    // It ends when all of it was there: it may have been given. Who begins it knows that.
    let mut channel = sender.knock();
    sender.send(&mut channel, 0);
    assert_eq!(channel.hear(LONG).unwrap(), Word::Whole);
    kill_process(process(plant, there), Signal::KILL).unwrap();
    sender.is_refused(&[], "may run there");
    assert_eq!(said(plant, there).len(), 0, "none of it has run");

    // It is given, and is here from then on, whoever ends.
    let mut channel = sender.knock();
    sender.send(&mut channel, 0);
    assert_eq!(channel.hear(LONG).unwrap(), Word::Whole);
    channel.say(&Word::Go).unwrap();
    assert_eq!(channel.hear(LONG).unwrap(), Word::Runs);
    within("it goes on", || (100 < said(plant, there).len()).then_some(()));
    kill_process(process(plant, there), Signal::KILL).unwrap();
    within("it is off", || (state(plant, there) == "Off").then_some(()));
    ok(plant, there, &["start", "web1", "--alone"]);
}
