//! Who stops, lies or dawdles on the way to an encrypted stream, or on one, costs nobody else anything (V43,
//! F38, F39, I11).

use super::site::{Node, Place, meet, millis, until};
use super::traffic::{check, frame};
use super::veiled::{host, trust, veiled};
use bulkhead::replication::frame::{Head, Kind};
use bulkhead::replication::hello::{HELLO_LEN, Hello, Refusal, Speaks};
use bulkhead::replication::part::{BARE_LEN, begun, is_begun, seal};
use bulkhead::replication::seal::{Direction, Sealer};
use bulkhead::replication::tally::End;
use bulkhead::replication::words::{Settings, Timing};
use bulkhead::site_config::key::SiteKey;
use bulkhead_core::id::{GroupId, NodeId, SiteId};
use rustls::{ClientConnection, Connection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const KEY: SiteKey = SiteKey([3; 32]);

/// Node 1, made by hand, whose hello was answered.
struct Impostor {
    socket: TcpStream,
    hello: [u8; HELLO_LEN],
    welcome: [u8; HELLO_LEN],
}

type Veiled = StreamOwned<ClientConnection, TcpStream>;

impl Impostor {
    fn new(at: SocketAddr) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(millis(20_000)))?;
        socket.set_nodelay(true)?;
        let hello = Hello::new(SiteId([1; 16]), GroupId([2; 16]), NodeId(1), NodeId(2), [7; 16]);
        let hello = hello.speaking(Speaks::Either).encode();
        socket.write_all(&hello)?;
        let mut welcome = [0; HELLO_LEN];
        socket.read_exact(&mut welcome)?;
        assert!(Hello::parse(&welcome).unwrap().encrypts());
        Ok(Self { socket, hello, welcome })
    }

    /// Proves that it knows the key.
    fn prove(&mut self) -> std::io::Result<()> {
        let sealer = |way| Sealer::new(&KEY, &self.hello, &self.welcome, way);
        let (mut sealer, mut opener) = (sealer(Direction::Out), sealer(Direction::Back));
        self.socket.write_all(begun(&mut sealer).front())?;
        let mut answer = [0; BARE_LEN];
        self.socket.read_exact(&mut answer)?;
        assert!(is_begun(&mut opener, &answer), "the other end proves the key, too");
        Ok(())
    }

    /// Encrypts, with what is in this directory.
    fn veil(mut self, certificates: &str) -> std::io::Result<(Veiled, Sealer, Sealer)> {
        self.prove()?;
        let Connection::Client(connection) = trust(certificates).client(&host(2)).unwrap() else {
            panic!("a client")
        };
        let mut stream = StreamOwned::new(connection, self.socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let label = b"EXPORTER bulkhead replication 2";
        let secret = stream.conn.export_keying_material([0; 32], label, None).unwrap();
        let sealer = |way| Sealer::in_tls(&KEY, &self.hello, &self.welcome, &secret, way);
        Ok((stream, sealer(Direction::Out), sealer(Direction::Back)))
    }

    /// As [`super::impostor`] does it, inside TLS.
    fn meet(at: SocketAddr) -> (Veiled, Sealer) {
        let mut met = None;
        until("the impostor is met", || {
            met = Self::new(at).and_then(|one| one.veil("1")).ok().and_then(
                |(mut stream, mut out, mut back)| {
                    stream.write_all(begun(&mut out).front()).ok()?;
                    let mut answer = [0; BARE_LEN];
                    stream.read_exact(&mut answer).ok()?;
                    assert!(is_begun(&mut back, &answer));
                    Some((stream, out))
                },
            );
            met.is_some()
        });
        met.unwrap()
    }
}

/// All that comes until the end.
fn rest(mut stream: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn client_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    trust("1").client(&host(2)).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// V43: who does not know the site key, whatever certificates it has, gets as far as where nothing is
/// encrypted: it is refused, and no byte of TLS comes back.
#[test]
fn tls_begins_with_nobody_who_has_not_proved_the_key() {
    let place = Place::new();
    let high = Node::start(veiled(place.settings(2, 2)));
    for (number, bytes) in [client_hello(), vec![0x16; 400], vec![0; BARE_LEN]].into_iter().enumerate() {
        let stranger = Impostor::new(place.of(2)[0]).unwrap();
        (&stranger.socket).write_all(&bytes).unwrap();
        let answer = rest(&stranger.socket);
        assert!(answer.len() <= HELLO_LEN, "{number}: {} bytes", answer.len());
        assert!(answer.is_empty() || answer.starts_with(b"BHREPL\x03\x05"), "{number}: {answer:?}");
    }
    until("each is counted", || high.streams.view().refused.get(&Refusal::Key) == Some(&3));
    high.quiet(millis(1));
}

/// V43: who knows the key is no node without the certificate of one, and no node with it and another
/// session's keys: it is told nothing inside TLS either.
#[test]
fn who_knows_the_key_and_has_no_certificate_is_no_node() {
    let place = Place::new();
    let high = Node::start(veiled(place.settings(2, 2)));
    for (certificates, said) in
        [("nobody", "no certificates"), ("client", "not valid for name"), ("1-other", "UnknownIssuer")]
    {
        // Its own end of TLS is over before it knows what the other end thinks of it.
        if let Ok((mut stream, mut out, _)) = Impostor::new(place.of(2)[0]).unwrap().veil(certificates) {
            let _ = stream.write_all(begun(&mut out).front());
            assert_eq!(rest(stream), b"", "{certificates}");
        }
        let told = || high.streams.view().last_refused.is_some_and(|text| text.contains(said));
        until(certificates, told);
    }
    // The frames of one session fit no other one.
    let (_, mut out, _) = Impostor::new(place.of(2)[0]).unwrap().veil("1").unwrap();
    let (mut stream, _, _) = Impostor::new(place.of(2)[0]).unwrap().veil("1").unwrap();
    stream.write_all(begun(&mut out).front()).unwrap();
    assert!(rest(stream).starts_with(b"BHREPL\x03\x05"));
    assert!(high.streams.view().refused.contains_key(&Refusal::Key));
    high.quiet(millis(1));
}

/// F38: handshakes that stop anywhere, also of who knows the key, are over in time, and hold nobody's place:
/// a stream goes on, and a holder that comes meanwhile is met.
#[test]
fn half_open_handshakes_change_nothing_for_others() {
    let place = Place::new();
    let high = Node::start(veiled(place.settings(2, 2)));
    let low = Node::start(veiled(place.settings(1, 2)));
    let (stream, _) = meet(&low, &high);
    let (hello, mut crowd, mut slowest) = (client_hello(), Vec::new(), Duration::ZERO);
    for number in 0..60 {
        let mut one = Impostor::new(place.of(2)[number % 2]).unwrap();
        if number % 5 != 0 && one.prove().is_ok() {
            let bytes = match number % 5 {
                1 => &[],
                2 => &hello[..1],
                3 => &hello[..hello.len() / 2],
                _ => &hello[..],
            };
            let _ = one.socket.write_all(bytes);
        }
        crowd.push(one);
        let (begun, number) = (Instant::now(), 1 + number as u64);
        low.streams.send(stream, vec![frame(&low.made, 7, number, 2)]);
        check(&high.frame(), 7, number, 2);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < millis(2000), "{slowest:?}");
    // All of them are still there, or were sent away for others like them.
    drop(low);
    high.gone();
    let begun = Instant::now();
    let low = Node::start(veiled(place.settings(1, 2)));
    meet(&low, &high);
    assert!(begun.elapsed() < millis(5000), "{:?}", begun.elapsed());
    until("each is over", || {
        let refused = high.streams.view().refused;
        let count = |why| refused.get(&why).copied().unwrap_or(0);
        count(Refusal::Unfinished) + count(Refusal::Crowded) == 60
    });
    crowd.into_iter().for_each(|one| drop(rest(&one.socket)));
    assert_eq!(low.peer().met, 1);
}

/// As without encryption: a record that comes a byte at a time is no sign of life for ever.
#[test]
fn a_record_that_never_ends_ends_the_stream() {
    let place = Place::new();
    let timing = Timing { stall: millis(1500), ..place.settings(2, 2).timing };
    let high = Node::start(veiled(Settings { timing, ..place.settings(2, 2) }));
    let (mut stream, mut out) = Impostor::meet(place.of(2)[0]);
    high.met();
    let mut record = Vec::new();
    let alive = seal(&mut out, &Head::bare(Kind::Alive), &[], None);
    stream.conn.writer().write_all(&alive.front().repeat(100)).unwrap();
    stream.conn.write_tls(&mut record).unwrap();
    let begun = Instant::now();
    for byte in record {
        if stream.sock.write_all(&[byte]).is_err() || high.peer().network.is_none() {
            break;
        }
        std::thread::sleep(millis(10));
    }
    assert_eq!(high.gone(), NodeId(1));
    assert!(begun.elapsed() < millis(15_000), "the end of the record was not waited for");
    until("why is shown", || high.peer().ends.contains_key(&End::Slow));
}

/// A record that nobody encrypted, in the middle of a stream.
#[test]
fn a_forged_record_ends_the_stream() {
    let place = Place::new();
    let high = Node::start(veiled(place.settings(2, 2)));
    let (mut stream, _) = Impostor::meet(place.of(2)[0]);
    high.met();
    stream.sock.write_all(&[&[0x17, 3, 3, 0, 40][..], &[9; 40]].concat()).unwrap();
    assert_eq!(high.gone(), NodeId(1));
    until("why is shown", || high.peer().ends.contains_key(&End::Changed));
}
