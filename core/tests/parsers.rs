//! Every parser against bytes that are nearly right: good structures with bytes changed, moved,
//! cut and spliced, from a seed (V39, F45 to F49). The fuzzer in `core/fuzz` goes on from here.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a panic is a red test"
)]

mod support;

use bulkhead_core::bcb::format::Stored;
use bulkhead_core::block::{BlockSize, Geometry, Lba};
use bulkhead_core::container::trust::{Key, Trust};
use bulkhead_core::fence::desk::Act;
use bulkhead_core::fence::strip::words as strip;
use bulkhead_core::fence::words::{Entry, FenceId, Ground, Outcome, Outlet, Plea, Want};
use bulkhead_core::gpt::entries::Table;
use bulkhead_core::gpt::format::{create, usable};
use bulkhead_core::id::{Epoch, NodeId, PairId, RegisterId, Side, SiteId};
use bulkhead_core::link::frame::{Header, Kind, seal};
use bulkhead_core::link::hello::{Hello, SPOKEN};
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::link::path::Heartbeat;
use bulkhead_core::node::message::{Said, encode};
use bulkhead_core::node::settings::Member;
use bulkhead_core::plan::{Data, Step};
use bulkhead_core::provision::{Address, Peer, encode_peers, records};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::message::{Ask, AskId, Lending, Millis, Request, Start};
use bulkhead_core::register::record::{Payload, Record};
use bulkhead_core::register::store as votes;
use bulkhead_core::register::voters::{Life, Set, Voter, Voters};
use bulkhead_core::slot::SlotId;
use bulkhead_core::time::Instant;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use support::Dice;
use support::events::{Event, decode};
use support::images::Images;
use support::node::{Fate, Node};
use support::parsers::PARSERS;
use support::votes::OWNER;

/// Runs of each parser.
const RUNS: usize = 40_000;
/// Histories of random bytes as events, and their length.
const HISTORIES: usize = 2_000;
const HISTORY: usize = 40;
/// Histories of random bytes as events of two ends of a link.
const LINK_HISTORIES: usize = 1_000;

/// Good structures to start from.
fn seeds() -> Vec<Vec<u8>> {
    let mut node = Node::new(&Rc::new(Images::new()));
    for event in [Event::Flash(SlotId::B, 1), Event::Boot(Fate::Runs), Event::Confirm] {
        node.tell(event).unwrap();
    }
    let stored = node.copies().newest().unwrap();
    let mut knobs = vec![0; 8];
    knobs.extend_from_slice(&stored.encode());
    knobs.extend_from_slice(&Stored { seq: stored.seq + 1, ..stored }.encode());
    knobs.extend_from_slice(&node.marks().a.unwrap().encode());
    knobs.extend_from_slice(&node.marks().b.unwrap().encode());
    let keys = [true, false].map(|revoked| Key { public: [3; 32], revoked });
    let trust = Trust { keys: keys.into_iter().collect() };
    let disk = Geometry { block_size: BlockSize::B512, blocks: 160 };
    let table = Table::empty(uguid::Guid::from_bytes([1; 16]), usable(disk).unwrap());
    let mut seeds = vec![
        stored.encode().to_vec(),
        node.marks().a.unwrap().encode().to_vec(),
        Images::new().images[0].container[..512].to_vec(),
        trust.encode().to_vec(),
        knobs,
        entries(),
    ];
    seeds.extend(frames());
    seeds.extend(voting());
    seeds.extend(witness());
    for step in create(&table, disk).steps() {
        if let Step::Write { data: Data::Sector(sector), .. } = step {
            seeds.push([&[0, 160][..], sector].concat());
        }
    }
    seeds
}

/// Two entries of an array.
fn entries() -> Vec<u8> {
    let mut bytes = vec![0; 256];
    for (index, entry) in (1_u8..).zip(bytes.chunks_mut(128)) {
        entry[..32].fill(index);
        entry[32] = 40 + index;
        entry[40] = 40 + index;
    }
    assert_eq!(Lba(41).before(), Lba(40));
    bytes
}

/// A hello, a heartbeat, and a frame that carries the one.
fn frames() -> [Vec<u8>; 3] {
    let nonce = |byte| Nonce([byte; 16]);
    let (challenge, answer) = (Some(nonce(2)), Some(nonce(3)));
    let hello = Hello { nonce: nonce(1), forgotten: 0, challenge, answer, versions: SPOKEN }.encode();
    let (from, to) = (NodeId(1), NodeId(2));
    let key = SiteKey::new([3; 32]).between(from, to);
    let header = Header { kind: Kind::Hello, site: SiteId([9; 16]), from, to, counter: 0 };
    let mut beats = Vec::new();
    for seq in 1..4 {
        beats.push(50);
        beats.extend(Heartbeat { seq, sent: 1_000, echo: 20_000, held: 500 }.encode());
    }
    [seal(&header, &[&hello], &key).to_vec(), hello.to_vec(), beats]
}

/// Questions to a voter with flushes between, and two copies of a register on its disk.
fn voting() -> [Vec<u8>; 2] {
    let set = Set::new((1..=3).map(|node| Voter { node: NodeId(node), life: Life(7) })).unwrap();
    let voters = Voters { current: set, previous: None };
    let record = Record { epoch: Epoch(3), holder: Some(NodeId(2)), voters, payload: Payload::new() };
    let ballot = Ballot::new(5, NodeId(2));
    let lending = Lending { length: Millis(600), start: Start(9) };
    let lease = Some(lending);
    let accept = Ask::Accept { ballot, record: record.clone(), lease, fenced: None };
    let mut asked = Vec::new();
    for (number, body) in
        (1..).zip([Ask::Prepare { ballot, fenced: None }, accept, Ask::Renew(lending), Ask::Read])
    {
        let said = Said::Request(Request { register: RegisterId(1), ask: AskId(number), body });
        let bytes = encode(&said);
        asked.push(u8::try_from(bytes.len()).unwrap());
        asked.extend_from_slice(&bytes);
        asked.push(0);
    }
    let accepted = Some((ballot, record));
    let register = votes::Stored { register: RegisterId(1), seq: 4, promised: ballot, accepted };
    let older = votes::Stored { seq: 3, accepted: None, ..register.clone() };
    [asked, [register.encode(&OWNER), older.encode(&OWNER)].concat()]
}

/// A block of peers, a record of a fence, and two lines of a power strip.
fn witness() -> [Vec<u8>; 3] {
    let member = Member { node: NodeId(1), pair: PairId(1), side: Some(Side::A), votes: true };
    let outlet = NonZeroU8::new(3).unwrap();
    let peer = Peer { member, outlet: Some(Outlet::Strip(outlet)), paths: [Address::default(); 2] };
    let (id, register, epoch) = (FenceId(7), RegisterId(3), Epoch(5));
    let plea = Plea { id, node: NodeId(1), start: Some(Start(9)), register, epoch, want: Want::Off };
    let (ground, outcome) = (Some(Ground::Holder), Outcome::Off);
    let entry = Entry { number: 4, at: Instant::ZERO, asker: NodeId(2), plea, ground, outcome };
    let record = records::Record { seq: 2, start: 1, lost: 0, entry };
    let to = strip::Request { id: strip::RequestId(77), outlet, act: Act::Read };
    let answer = strip::Answer { to, found: strip::Found::Off };
    let lines = [to.encode(), answer.encode()].concat();
    [encode_peers(3, &[peer; 2]).to_vec(), record.encode(&OWNER).to_vec(), lines]
}

/// Gives the fuzzer the same start: from nothing it does not find the magic numbers.
fn keep(folder: &Path, seeds: &[Vec<u8>]) {
    std::fs::create_dir_all(folder).unwrap();
    for (index, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    const TELLING: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 16];
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = TELLING[dice.below(TELLING.len())],
            2 => bytes[at] = dice.roll().to_le_bytes()[0],
            3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
            4 => {
                let len = dice.below(64).min(other.len()).min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&other[..len]);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
}

#[test]
fn no_bytes_upset_a_parser() {
    let seeds = seeds();
    if let Some(folder) = std::env::var_os("BULKHEAD_SEEDS").map(PathBuf::from) {
        keep(&folder, &seeds);
    }
    let mut dice = Dice(0xf0_22);
    for (name, parser) in PARSERS {
        for seed in &seeds {
            parser(seed);
        }
        for _ in 0..RUNS {
            let mut bytes = seeds[dice.below(seeds.len())].clone();
            mutate(&mut bytes, &seeds[dice.below(seeds.len())], &mut dice);
            parser(&bytes);
        }
        println!("{RUNS} runs of {name}");
    }
}

/// What happened so far; told when the test fails.
struct Tale(Vec<String>);

impl Drop for Tale {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("it came to this by:\n  {}", self.0.join("\n  "));
        }
    }
}

#[test]
fn no_history_upsets_a_link() {
    let mut dice = Dice(0x11_4b);
    for _ in 0..LINK_HISTORIES {
        let bytes: Vec<_> = (0..192).map(|_| dice.roll().to_le_bytes()[0]).collect();
        support::links::links(&bytes);
    }
}

#[test]
fn no_history_upsets_a_node() {
    let images = Rc::new(Images::new());
    let mut dice = Dice(0x0b5e);
    for history in 0..HISTORIES {
        let mut node = Node::new(&images);
        let mut tale = Tale(vec![format!("history {history}")]);
        for _ in 0..HISTORY {
            let byte = dice.roll().to_le_bytes()[0];
            tale.0.push(format!("{:?}", decode(byte)));
            node = node.after_byte(byte, &mut dice);
        }
        node.comes_back();
    }
}
