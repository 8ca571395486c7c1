//! X15, I5: a guest with a volume of its own on its way to another pair, whose other end says anything and
//! ends anywhere: one pair wants it, or none does and both say so; it runs in one.

use super::copied::{SIZE, writer};
use super::copied_own::Pairs;
use super::migrate::{guests, ok, process, runs_guests, said, state};
use super::within;
use bulkhead::migration::channel::{Channel, Incoming, Outgoing};
use bulkhead::migration::hello::{HELLO_LEN, Hello, Keys};
use bulkhead::migration::words::{Files, Offer, Refusal, Word};
use bulkhead::site_config::{SiteConfig, key};
use bulkhead::vmm::in_use::is_in_use;
use bulkhead::vmm::snapshot::format::{Kind, Reader, Writer};
use rustix::process::{Signal, kill_process};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn config(pairs: &Pairs, node: &str) -> SiteConfig {
    SiteConfig::read(pairs.plant.part(node)["config"].as_str().unwrap().as_ref()).unwrap()
}

/// The place of the node that a guest is to go to, whose agent has died.
struct There {
    listener: TcpListener,
    config: SiteConfig,
}

impl There {
    fn new(pairs: &Pairs) -> Self {
        pairs.plant.fault(&["kill", pairs.there]);
        let config = config(pairs, pairs.there);
        let at = config.me().unwrap().guests.unwrap();
        Self { listener: within("its place", || TcpListener::bind(at).ok()), config }
    }

    fn accept(&self) -> Channel {
        let (mut wire, _) = self.listener.accept().unwrap();
        let mut bytes = [0; HELLO_LEN];
        wire.read_exact(&mut bytes).unwrap();
        let hello = Hello::parse(&bytes).unwrap();
        let welcome = Hello::new(self.config.site, hello.to, hello.from).unwrap();
        wire.write_all(&welcome.encode()).unwrap();
        let key = key::read(&self.config.local.key_file).unwrap();
        Channel::arriving(wire, &Keys::new(&key, &hello, &welcome)).unwrap()
    }

    /// Has it come, with all that it brings, up to where it says that all of it is there.
    fn receive(&self, pairs: &Pairs) -> (JoinHandle<super::Answer>, Channel) {
        let mut command = super::bulkhead(&["vm", "migrate", "web1", "--json", "--copy-disks", "--to"]);
        command.arg(pairs.there).arg("--guests").arg(guests(&pairs.plant, pairs.here));
        command.env("BULKHEAD_SOCKET", pairs.plant.part(pairs.here)["socket"].as_str().unwrap());
        let moves: JoinHandle<super::Answer> = std::thread::spawn(move || command.output().unwrap().into());
        let mut channel = self.accept();
        let Word::Keep(files) = channel.hear(LONG).unwrap() else { panic!("not its own volume") };
        let kernel = files.kernel;
        assert!(files.description.contains("web1") && files.initrd.is_none(), "{files:?}");
        channel.say(&Word::Accepted).unwrap();
        let mut bytes = Vec::new();
        Incoming::new(&mut channel).take(kernel).read_to_end(&mut bytes).unwrap();
        assert!(bytes == writer(), "its kernel comes from its own volume");
        channel.say(&Word::Whole).unwrap();
        let mut channel = self.accept();
        assert!(matches!(channel.hear(LONG).unwrap(), Word::BringOwn(offer, _) if offer.is_leased));
        channel.say(&Word::Accepted).unwrap();
        let mut guest = Reader::begin(Incoming::new(&mut channel)).unwrap();
        loop {
            match guest.record() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(why) => panic!("{why}: {}", moves.join().unwrap().err),
            }
        }
        assert_eq!(pairs.wanted(pairs.here), Some(true), "it is here, and is begun again here");
        (moves, channel)
    }
}

/// What is wrong, as a node says it.
fn alerts(pairs: &Pairs, node: &str) -> String {
    let mut command = super::bulkhead(&["alerts", "--json"]);
    command.env("BULKHEAD_SOCKET", pairs.plant.part(node)["socket"].as_str().unwrap());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Where it leaves.
#[test]
fn a_guest_is_wanted_where_it_is_whatever_the_other_pair_says() {
    if !runs_guests() {
        return;
    }
    let pairs = Pairs::start();
    let Pairs { plant, here, follows, .. } = &pairs;
    let other = There::new(&pairs);

    // It was given, and the other node says that it does not run there.
    let (moves, mut channel) = other.receive(&pairs);
    channel.say(&Word::Whole).unwrap();
    assert_eq!(channel.hear(LONG).unwrap(), Word::Go);
    assert_eq!(pairs.wanted(here), Some(false), "nobody begins here what was given away");
    let refusal = Refusal { is_refused: true, what: "it must not".into(), next: String::new() };
    channel.say(&Word::Failed(refusal)).unwrap();
    channel.finish();
    let answer = moves.join().unwrap();
    assert_eq!((answer.code, answer.err.contains("it must not")), (3, true), "{}", answer.err);
    pairs.counts(here);
    assert_eq!(pairs.wanted(here), Some(true));
    ok(plant, here, &["stop", "web1", "--now"]);
    ok(plant, here, &["start", "web1"]);
    pairs.counts(here);

    // It was given, and nothing more is heard of it: it is wanted nowhere, and that is said.
    let (moves, mut channel) = other.receive(&pairs);
    channel.say(&Word::Whole).unwrap();
    assert_eq!(channel.hear(LONG).unwrap(), Word::Go);
    drop(channel);
    let answer = moves.join().unwrap();
    assert_eq!((answer.code, answer.err.contains("not known whether")), (1, true), "{}", answer.err);
    within("it is off", || (state(plant, here) == "Off").then_some(()));
    assert_eq!(pairs.wanted(here), Some(false));
    let before = said(plant, here).len();
    pairs.is_refused(here, &["start", "web1"], "may run there");
    for node in [here, follows] {
        assert_eq!(pairs.listed(node)["movedTo"], pairs.there);
    }
    assert_eq!(said(plant, here).len(), before);
    within("an alert", || alerts(&pairs, here).contains("not heard to run there").then_some(()));
    ok(plant, here, &["start", "web1", "--here"]);
    within("no alert", || (!alerts(&pairs, here).contains("not heard to run there")).then_some(()));
    pairs.counts(here);
    assert_eq!((pairs.wanted(here), pairs.listed(here)["movedTo"].is_null()), (Some(true), true));

    // Its agent dies before it is given away: the other node of its pair begins it, and nobody is given it.
    let (moves, mut channel) = other.receive(&pairs);
    plant.fault(&["kill", here]);
    channel.say(&Word::Whole).unwrap();
    assert!(!matches!(channel.hear(LONG), Ok(Word::Go)), "nobody can say that it is not wanted here");
    assert_ne!(moves.join().unwrap().code, 0);
    pairs.counts(follows);
    assert_eq!(pairs.wanted(follows), Some(true));
    let before = said(plant, here).len();
    pairs.counts(follows);
    assert_eq!(said(plant, here).len(), before, "it stands still where nobody can let it run");
    plant.fault(&["start", here]);
    let description = guests(plant, here).join("web1/guest.toml");
    within("its process ends once it hears who leads", || (!is_in_use(&description)).then_some(()));
    ok(plant, follows, &["stop", "web1", "--now"]);
    ok(plant, follows, &["start", "web1"]);
}

/// A node from which a guest comes.
struct Sender<'a> {
    pairs: &'a Pairs,
    records: Vec<(Kind, Vec<u8>)>,
}

impl Sender<'_> {
    fn knock(&self) -> Channel {
        let config = config(self.pairs, self.pairs.there);
        let me = config.me().unwrap();
        let from = config.members.iter().find(|member| member.name == self.pairs.here).unwrap().id;
        let hello = Hello::new(config.site, from, me.id).unwrap();
        let mut wire = TcpStream::connect(me.guests.unwrap()).unwrap();
        wire.write_all(&hello.encode()).unwrap();
        let mut welcome = [0; HELLO_LEN];
        wire.read_exact(&mut welcome).unwrap();
        let key = key::read(&config.local.key_file).unwrap();
        let keys = Keys::new(&key, &hello, &Hello::parse(&welcome).unwrap());
        Channel::leaving(wire, &keys).unwrap()
    }

    fn description(&self) -> String {
        let found = self.records.iter().find(|(kind, _)| *kind == Kind::Description).unwrap();
        String::from_utf8(found.1.clone()).unwrap()
    }

    fn keep(&self) {
        let mut channel = self.knock();
        let kernel = writer();
        let length = kernel.len() as u64;
        let files = Files { description: self.description(), kernel: length, initrd: None, blocks: 100_000 };
        channel.say(&Word::Keep(files)).unwrap();
        assert_eq!(channel.hear(LONG).unwrap(), Word::Accepted);
        let mut out = Outgoing::new(&mut channel);
        out.write_all(&kernel).unwrap();
        out.flush().unwrap();
        assert_eq!(channel.hear(LONG).unwrap(), Word::Whole);
        assert_eq!(self.pairs.wanted(self.pairs.there), Some(false));
    }

    fn offer(&self) -> Channel {
        let mut channel = self.knock();
        let offer = Offer { description: self.description(), is_leased: true, is_paused: false };
        channel.say(&Word::BringOwn(offer, vec![Some(SIZE)])).unwrap();
        channel
    }

    /// Brings all of it.
    fn bring(&self) -> Channel {
        self.keep();
        let mut channel = self.offer();
        assert_eq!(channel.hear(LONG).unwrap(), Word::Accepted);
        let mut writer = Writer::bring(Outgoing::new(&mut channel)).unwrap();
        for (kind, content) in &self.records {
            writer.put(*kind, &[content]).unwrap();
        }
        writer.end().unwrap();
        assert_eq!(channel.hear(LONG).unwrap(), Word::Whole);
        channel
    }

    fn give(&self) {
        let mut channel = self.bring();
        channel.say(&Word::Go).unwrap();
        assert_eq!(channel.hear(LONG).unwrap(), Word::Runs);
    }

    /// As if nothing had ever come.
    fn clear(&self) {
        let Pairs { plant, there, .. } = self.pairs;
        ok(plant, there, &["stop", "web1", "--now"]);
        ok(plant, there, &["delete", "web1", "--yes"]);
        plant.ok(there, &["delete", "vm1", "--yes"]);
    }
}

/// Where it comes.
#[test]
fn a_guest_is_wanted_where_it_was_given_to_whoever_dies_then() {
    if !runs_guests() {
        return;
    }
    let pairs = Pairs::start();
    let Pairs { plant, here, there, far, .. } = &pairs;
    let file = guests(plant, here).join("web1.snapshot");
    ok(plant, here, &["snapshot", "web1", file.to_str().unwrap(), "--stop"]);
    let mut reader = Reader::begin(File::open(&file).unwrap()).unwrap();
    let mut records = Vec::new();
    while let Some((kind, content)) = reader.record().unwrap() {
        if [Kind::Description, Kind::State, Kind::Memory].contains(&kind) {
            records.push((kind, content.to_vec()));
        }
    }
    let sender = Sender { pairs: &pairs, records };

    // One whose own volume did not come before it is not let in.
    let mut channel = sender.offer();
    let Word::Failed(why) = channel.hear(LONG).unwrap() else { panic!("it was let in") };
    assert!(why.what.contains("did not come to"), "{why:?}");

    // All of it was there, and it was not given: nobody begins it.
    drop(sender.bring());
    let description = guests(plant, there).join("web1/guest.toml");
    within("it is off", || (!is_in_use(&description)).then_some(()));
    pairs.is_refused(there, &["start", "web1"], &format!("comes from {here}"));
    assert_eq!((pairs.wanted(there), said(plant, there).len()), (Some(false), 0));

    // It is given, over what was left, and its process dies at once: it is begun there.
    sender.give();
    kill_process(process(plant, there), Signal::KILL).unwrap();
    pairs.is_wanted(there, true);
    within("it runs", || (state(plant, there) == "Running").then_some(()));
    pairs.counts(there);
    sender.clear();

    // The agent dies before it is given, and is back and leads: it runs, and is wanted.
    let mut channel = sender.bring();
    plant.fault(&["kill", there]);
    pairs.leads(far);
    plant.fault(&["start", there]);
    plant.ok(far, &["wait", "--for", "in-sync", "--timeout", "25s"]);
    channel.say(&Word::Go).unwrap();
    plant.ok(far, &["promote", there]);
    pairs.leads(there);
    assert_eq!(channel.hear(LONG).unwrap(), Word::Runs);
    pairs.is_wanted(there, true);
    pairs.counts(there);
    sender.clear();

    // Its node dies as soon as it runs there: the other one begins it, or says what it is, and does when
    // told.
    sender.give();
    plant.fault(&["kill", there]);
    kill_process(process(plant, there), Signal::KILL).unwrap();
    pairs.leads(far);
    if pairs.wanted(far) == Some(false) {
        assert_eq!(pairs.listed(far)["comesFrom"], **here);
        pairs.is_refused(far, &["start", "web1"], &format!("comes from {here}"));
        ok(plant, far, &["start", "web1", "--here"]);
    }
    pairs.counts(far);
    assert_eq!(pairs.wanted(far), Some(true));
}
