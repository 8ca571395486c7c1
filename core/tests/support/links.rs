//! Any bytes from a network, as they are and behind a good tag: none upsets a link, what parses prints as it
//! was, and nothing is delivered twice or that nobody said (V22, V39, F31, F39). Shared by test and fuzzer.

use std::collections::BTreeSet;
use std::time::Duration;

use bulkhead_core::id::{NodeId, Path, SiteId};
use bulkhead_core::link::frame::{DATAGRAM_MAX, Datagram, Frame, Header, Kind, PAYLOAD_MAX, seal};
use bulkhead_core::link::hello::{HELLO_LEN, Hello};
use bulkhead_core::link::key::{NONCE_LEN, Nonce, SiteKey};
use bulkhead_core::link::links::{Links, Received, Settings};
use bulkhead_core::link::path::{Heartbeat, PathState};
use bulkhead_core::link::ring::Pace;
use bulkhead_core::link::suspicion::Limits;
use bulkhead_core::link::tally::Tally;
use bulkhead_core::time::Instant;

const SITE: SiteId = SiteId([9; 16]);
const SITE_KEY: [u8; 32] = [3; 32];

/// What is done to a pair of ends in one history; longer inputs find nothing new and cost time.
const STEPS_MAX: usize = 96;
/// What is under way or was recorded.
const WIRE_MAX: usize = 64;

/// A frame: as found, and with a good tag.
pub fn frame(bytes: &[u8]) {
    let key = SiteKey::new(SITE_KEY).between(NodeId(1), NodeId(2));
    let Ok(frame) = Frame::parse(bytes) else { return };
    assert!(bytes.len() <= DATAGRAM_MAX && frame.payload.len() <= PAYLOAD_MAX);
    let sealed = seal(&frame.header, &[frame.payload], &key);
    assert_eq!(sealed[..sealed.len() - 16], bytes[..bytes.len() - 16], "printed as it was");
    assert_eq!(frame.is_by(&key), sealed == bytes, "the tag decides");
    assert!(Frame::parse(&sealed).is_ok_and(|again| again.is_by(&key) && again.header == frame.header));
}

/// What a frame of a handshake carries.
pub fn hello(bytes: &[u8]) {
    let Some(hello) = Hello::parse(bytes) else { return };
    assert_eq!(hello.encode(), bytes);
    assert!(hello.versions.low <= hello.versions.high);
}

/// What a heartbeat carries: a path takes any of them, in any order, at any time.
pub fn heartbeat(bytes: &[u8]) {
    let (mut path, mut tally) = (PathState::default(), Tally::default());
    let mut now = Instant::ZERO;
    for chunk in bytes.chunks(25) {
        let Some((wait, body)) = chunk.split_first() else { return };
        now = now.after(Duration::from_millis(u64::from(*wait)));
        let Some(beat) = Heartbeat::parse(body) else { continue };
        assert_eq!(beat.encode(), body);
        tally.take(path.take(now, Instant::ZERO, &beat));
        assert_eq!(path.beat(now, 7).seq, 7);
        assert!(tally.loss_permille() <= 1_000);
        if let (Some(smoothed), Some((least, most))) = (path.round_trip(), tally.round_trips()) {
            assert!(least <= most && smoothed <= Duration::from_micros(now.as_micros()));
        }
    }
}

/// Bytes as events of two ends and the network between them.
pub fn links(bytes: &[u8]) {
    let mut wire = Wire::new();
    wire.calm();
    for step in bytes.chunks(2).take(STEPS_MAX) {
        wire.step(step[0], step.get(1).copied().unwrap_or(0), bytes);
    }
    wire.calm();
    for end in 0..2 {
        let (peer, start) = (node(1 - end), nonce(1 - end, wire.starts[1 - end]));
        assert_eq!(wire.ends[end].start_of(peer), Some(start.mark()), "a good network brings them together");
        assert_eq!(wire.ends[end].peers().count(), 1);
    }
}

struct Wire {
    ends: [Links<1>; 2],
    starts: [u8; 2],
    now: Instant,
    /// To whom, and what.
    sent: Vec<(usize, Path, Datagram)>,
    said: u16,
    delivered: BTreeSet<u16>,
}

fn node(end: usize) -> NodeId {
    NodeId(1 + u16::from(end == 1))
}

fn nonce(end: usize, start: u8) -> Nonce {
    let mut nonce = [start; NONCE_LEN];
    nonce[0] = 1 + u8::from(end == 1);
    Nonce(nonce)
}

fn end(end: usize, start: u8, now: Instant) -> Links<1> {
    let [slow, silence, stable] = [250, 500, 300].map(Duration::from_millis);
    let settings = Settings {
        site: SITE,
        me: node(end),
        nonce: nonce(end, start),
        key: SiteKey::new(SITE_KEY),
        heartbeat: Duration::from_millis(100),
        limits: Limits { slow, silence, stable },
    };
    let mut links = Links::new(now, settings);
    assert!(links.add(now, node(1 - end), Pace::Close));
    links
}

impl Wire {
    fn new() -> Self {
        let ends = [end(0, 0, Instant::ZERO), end(1, 0, Instant::ZERO)];
        let (sent, delivered) = (Vec::new(), BTreeSet::new());
        Self { ends, starts: [0; 2], now: Instant::ZERO, sent, said: 0, delivered }
    }

    fn step(&mut self, what: u8, how: u8, all: &[u8]) {
        let who = usize::from(how & 1);
        let pick = usize::from(how).checked_rem(self.sent.len());
        match (what & 7, pick) {
            (0, _) => self.pass(Duration::from_millis(u64::from(how) * 8)),
            (1, Some(pick)) => {
                let (to, path, datagram) = self.sent[pick].clone();
                self.arrive(to, path, &datagram);
            }
            (2, Some(pick)) => {
                let (to, path, datagram) = self.sent.swap_remove(pick);
                self.arrive(to, path, &datagram);
            }
            (3, Some(pick)) => self.bend(pick, what),
            (4, _) if self.starts[who] < 200 => {
                self.starts[who] += 1;
                self.ends[who] = end(who, self.starts[who], self.now);
            }
            (5, _) => {
                self.ends[who].remove(node(1 - who));
                assert!(self.ends[who].add(self.now, node(1 - who), Pace::Close));
            }
            (6, _) => self.say(who),
            (7, _) => self.nonsense(who, how, all),
            (..) => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for from in 0..2 {
            self.ends[from].judge(self.now, |_, _| {});
            for _ in 0..8 {
                let Some(out) = self.ends[from].next_due(self.now) else { break };
                let paths = out.path.map_or(Path::ALL.to_vec(), |path| vec![path]);
                self.sent.extend(paths.into_iter().map(|path| (1 - from, path, out.datagram.clone())));
            }
            assert!(self.ends[from].next_due(self.now).is_none(), "what is due does not end");
            assert!(self.ends[from].deadline().is_some_and(|next| self.now < next), "the shell would spin");
        }
        let much = self.sent.len().saturating_sub(WIRE_MAX);
        self.sent.drain(..much);
    }

    fn say(&mut self, from: usize) {
        if let Ok(datagram) = self.ends[from].seal(node(1 - from), &self.said.to_le_bytes()) {
            self.said += 1;
            self.sent.extend(Path::ALL.map(|path| (1 - from, path, datagram.clone())));
        }
    }

    fn arrive(&mut self, to: usize, path: Path, datagram: &[u8]) {
        if let Received::Message { message, .. } = self.ends[to].receive(self.now, path, datagram) {
            let number = u16::from_le_bytes(message[..].try_into().expect("two bytes were said"));
            assert!(number < self.said, "delivered what nobody said");
            assert!(self.delivered.insert(number), "delivered twice");
        }
    }

    /// Any changed bit makes it nobody's.
    fn bend(&mut self, pick: usize, bit: u8) {
        let (to, path, mut datagram) = self.sent[pick].clone();
        let at = usize::from(bit).wrapping_mul(31) % datagram.len();
        datagram[at] ^= 1 << (bit >> 5);
        assert!(matches!(self.ends[to].receive(self.now, path, &datagram), Received::Dropped(_)));
    }

    /// Bytes as they are, and as a hello of somebody who has the key and makes no sense.
    fn nonsense(&mut self, to: usize, how: u8, all: &[u8]) {
        let _ = self.ends[to].receive(self.now, Path::One, all);
        let key = SiteKey::new(SITE_KEY).between(node(0), node(1));
        let header = Header { kind: Kind::Hello, site: SITE, from: node(1 - to), to: node(to), counter: 0 };
        let from = usize::from(how) % all.len().max(1);
        let payload = &all[from..all.len().min(from + HELLO_LEN)];
        let _ = self.ends[to].receive(self.now, Path::Two, &seal(&header, &[payload], &key));
    }

    /// A good network for a while.
    fn calm(&mut self) {
        self.sent.clear();
        for _ in 0..24 {
            self.pass(Duration::from_millis(90));
            for (to, path, datagram) in std::mem::take(&mut self.sent) {
                self.arrive(to, path, &datagram);
            }
        }
    }
}
