//! S1-27, S3-07: what the catalogue has is exported on every node, and nothing else; clients are served by
//! the node that leads, wherever they ask.

use super::*;
use crate::nbd::client::connection::Client;
use crate::nbd::export::{Content, Errno, Export as _, Failed, Span};
use crate::nbd::uri::Uri;
use crate::tls::certificates::Authority;
use crate::tls::files::Files;
use crate::tls::keeper::Keeper;
use bulkhead_core::volume::record::Uuid;
use std::sync::mpsc::channel;
use std::time::Instant;

/// Content of all volumes of a pair, and who leads it.
#[derive(Default)]
struct Pair {
    leads: u16,
    catalogue: Catalogue,
    content: BTreeMap<(u16, u64), Vec<u8>>,
}

/// One node's side of it.
#[derive(Clone)]
struct Side(u16, Arc<Mutex<Pair>>);

impl Group for Side {
    fn catalogue(&self) -> Catalogue {
        lock(&self.1).catalogue.clone()
    }

    fn reign(&self) -> Option<Epoch> {
        let leads = lock(&self.1).leads;
        (leads == self.0).then_some(Epoch(leads.into()))
    }

    fn primary(&self) -> Option<u16> {
        Some(lock(&self.1).leads)
    }

    fn submit(&self, volume: Volume, request: Request, reply: Reply) {
        let mut pair = lock(&self.1);
        if pair.leads != self.0 {
            return reply.fail(Errno::Shutdown, "another node leads");
        }
        match request {
            Request::Write { offset, data, .. } => {
                pair.content.insert((volume.0, offset), data);
                reply.done();
            }
            Request::Read { span: Span { offset, .. } } => {
                let found = pair.content.get(&(volume.0, offset)).cloned();
                reply.data(found.unwrap_or_else(|| vec![0; 4096]));
            }
            Request::Flush
            | Request::Trim { .. }
            | Request::WriteZeroes { .. }
            | Request::Cache { .. }
            | Request::Status { .. } => reply.done(),
        }
    }
}

/// Two nodes that serve one pair.
struct Site {
    pair: Arc<Mutex<Pair>>,
    bells: [Bell; 2],
    services: [Service; 2],
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self::with([None, None], route::Settings::default())
    }

    fn with(tls: [Option<Tls>; 2], route: route::Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pair = Arc::new(Mutex::new(Pair { leads: 1, ..Pair::default() }));
        // Each must know where the other is: ports that are free now.
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (free(), free());
        let at = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        drop((one, two));
        let bells = [Bell::default(), Bell::default()];
        let start = |node: u16, mine: usize, other: usize| {
            let settings = Settings {
                socket: directory.path().join(format!("{node}.sock")),
                listen: Some(at[mine]),
                others: [(3 - node, at[other])].into(),
                tls: tls[mine].clone(),
                route,
            };
            let group = Arc::new(Side(node, Arc::clone(&pair)));
            Service::start(group, bells[mine].clone(), settings).unwrap()
        };
        let services = [start(1, 0, 1), start(2, 1, 0)];
        Self { pair, bells, services, directory }
    }

    fn change(&self, what: impl FnOnce(&mut Pair)) {
        what(&mut lock(&self.pair));
        self.bells.iter().for_each(Bell::ring);
    }

    fn write(&self, record: &Record) {
        self.change(|pair| {
            pair.catalogue.take(record.volume.0.into(), &record.encode()).unwrap();
        });
    }

    /// A client of a node, once it exports the volume in this size.
    fn client(&self, node: usize, name: &str, blocks: u64) -> Client {
        Self::client_at(&Uri::tcp(self.services[node].listens().unwrap(), name), blocks)
    }

    /// The same over the node's Unix socket.
    fn near(&self, node: usize, name: &str, blocks: u64) -> Client {
        let socket = self.directory.path().join(format!("{}.sock", node + 1));
        Self::client_at(&Uri::unix(&socket, name), blocks)
    }

    fn client_at(uri: &Uri, blocks: u64) -> Client {
        within(|| {
            let client = Client::connect(uri, Duration::from_secs(5)).ok()?;
            (client.geometry().size() == bytes(blocks)).then_some(client)
        })
    }
}

fn within<T>(mut seen: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ask(client: &Client, request: Request) -> Result<Vec<u8>, Failed> {
    let (done, answers) = channel();
    client.submit(request, Reply::new(move |answer| done.send(answer).unwrap()));
    let Content::Data(pieces) = answers.recv().unwrap()? else { return Ok(Vec::new()) };
    Ok(pieces
        .iter()
        .flat_map(|piece| match piece {
            crate::nbd::export::Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
            crate::nbd::export::Piece::Zeroes(count) => vec![0; *count as usize],
        })
        .collect())
}

fn write(byte: u8) -> Request {
    Request::Write { offset: 4096, data: vec![byte; 4096], durable: true }
}

const READ: Request = Request::Read { span: Span { offset: 4096, length: 4096 } };

#[test]
fn volumes_come_go_and_grow_and_every_node_serves_them() {
    let site = Site::new();
    let made = site.pair.lock().unwrap().catalogue.make("vm1", 8, Uuid([1; 16])).unwrap();
    site.write(&made);
    let clients = [site.client(0, "vm1", 8), site.client(1, "vm1", 8)];
    ask(&clients[1], write(7)).unwrap();
    assert_eq!(ask(&clients[0], READ).unwrap(), [7; 4096]);

    // The lead moves: the same connections go on.
    site.change(|pair| pair.leads = 2);
    ask(&clients[0], write(8)).unwrap();
    assert_eq!(ask(&clients[1], READ).unwrap(), [8; 4096]);

    // It grows: who is connected stays, who comes sees the new size.
    let larger = site.pair.lock().unwrap().catalogue.resize(made.volume, 16).unwrap();
    site.write(&larger);
    let late = site.client(1, "vm1", 16);
    assert_eq!(ask(&late, READ).unwrap(), [8; 4096]);
    ask(&clients[0], write(9)).unwrap();

    // It is deleted: clients lose it, and nobody finds it any more.
    let gone = site.pair.lock().unwrap().catalogue.delete(made.volume).unwrap();
    site.write(&gone);
    within(|| ask(&clients[0], READ).err());
    let uri = Uri::tcp(site.services[0].listens().unwrap(), "vm1");
    within(|| Client::connect(&uri, Duration::from_secs(5)).err());

    // Another one of the same name is another one.
    let again = site.pair.lock().unwrap().catalogue.make("vm1", 4, Uuid([2; 16])).unwrap();
    assert_ne!(again.volume, made.volume);
    site.write(&again);
    assert_eq!(ask(&site.client(0, "vm1", 4), READ).unwrap(), [0; 4096]);
    assert_eq!(site.services[0].lack(), None);
}

/// A node with a certificate of this authority.
fn tls(authority: &Authority, directory: &std::path::Path, is_required: bool) -> Option<Tls> {
    let node = authority.issue(directory, &["127.0.0.1"]);
    let [certificate, key, authorities] =
        ["client-cert.pem", "client-key.pem", "ca-cert.pem"].map(|name| node.join(name));
    let keeper = Arc::new(Keeper::open(Files { certificate, key, authorities }).unwrap());
    Some(Tls { keeper, is_required })
}

/// V43, S1-29: nodes encrypt what they ask each other; a change goes from node to node, and nobody notices.
#[test]
fn nodes_encrypt_between_them_and_begin_to_one_after_the_other() {
    let authority = Authority::new("the site");
    let directory = tempfile::tempdir().unwrap();
    let mode = |node: &str, mode: &str| match mode {
        "off" => None,
        word => tls(&authority, &directory.path().join(node), word == "require"),
    };
    for [one, two] in [
        ["off", "allow"],
        ["allow", "off"],
        ["allow", "allow"],
        ["require", "allow"],
        ["allow", "require"],
        ["require", "require"],
    ] {
        let site = Site::with([mode("1", one), mode("2", two)], route::Settings::default());
        let made = site.pair.lock().unwrap().catalogue.make("vm1", 8, Uuid([1; 16])).unwrap();
        site.write(&made);
        let clients = [site.near(0, "vm1", 8), site.near(1, "vm1", 8)];
        for leads in [1, 2] {
            site.change(|pair| pair.leads = leads);
            ask(&clients[1], write(7)).unwrap();
            ask(&clients[0], write(8)).unwrap();
            assert_eq!(ask(&clients[1], READ).unwrap(), [8; 4096], "{one}, {two}, {leads} leads");
        }
    }
}

/// A node that another authority has signed for is no node of the site, whatever it says.
#[test]
fn a_node_that_is_not_believed_is_asked_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [ours, theirs] = [Authority::new("the site"), Authority::new("somebody else")];
    let path = |name| directory.path().join(name);
    for is_required in [true, false] {
        let tls = [tls(&ours, &path("1"), is_required), tls(&theirs, &path("2"), is_required)];
        let patience = Duration::from_secs(2);
        let route = route::Settings { patience, answer: patience / 2, ..route::Settings::default() };
        let site = Site::with(tls, route);
        let made = site.pair.lock().unwrap().catalogue.make("vm1", 8, Uuid([1; 16])).unwrap();
        site.write(&made);
        site.change(|pair| pair.leads = 2);
        let failed = ask(&site.near(0, "vm1", 8), write(7)).unwrap_err();
        assert!(failed.why.contains("UnknownIssuer"), "{failed:?}");
        assert!(lock(&site.pair).content.is_empty(), "nothing went there in the clear");
    }
}

#[test]
fn what_cannot_be_served_is_said_before_anything_is() {
    let site = Site::new();
    let other = site.services[0].listens();
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        socket: directory.path().join("nbd.sock"),
        listen: other,
        others: BTreeMap::new(),
        tls: None,
        route: route::Settings::default(),
    };
    let group = Arc::new(Side(1, Arc::clone(&site.pair)));
    let failure = Service::start(group, Bell::default(), settings.clone()).unwrap_err();
    assert!(failure.next.contains("`nbd`"), "{failure:?}");
    assert!(!settings.socket.exists(), "nothing is left");
}
