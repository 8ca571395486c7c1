//! X03, X23: a witness with the memory of a microcontroller decides as a full node does, on the same events,
//! byte for byte.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::machine::{Node, Witness};
use super::message::Office;
use super::settings::{Digest, Member, Relay, Settings, Unsound, storage_register};
use super::storage;
use super::words::{Action, Command, Event};
use crate::budget::timers::Timers;
use crate::fence::desk::{Act, Done};
use crate::id::{NodeId, PairId, Path, Side, SiteId};
use crate::link::frame::Datagram;
use crate::link::key::{Nonce, SiteKey};
use crate::register::record::{PAYLOAD_SURE, Payload, Record};
use crate::register::seat::Verdict;
use crate::register::store::{Owner, Stored};
use crate::register::voters::Life;
use crate::time::{Drift, Instant};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const W: NodeId = NodeId(3);

fn member(node: NodeId, side: Option<Side>) -> Member {
    Member { node, pair: PairId(0), side, votes: true }
}

fn of_node(me: NodeId, start: u8) -> Settings {
    Settings {
        site: SiteId([1; 16]),
        me,
        nonce: Nonce([start; 16]),
        key: SiteKey::new([2; 32]),
        members: [member(A, Some(Side::A)), member(B, Some(Side::B)), member(W, None)].into_iter().collect(),
        timers: Timers::DEFAULT,
        drift: Drift::DEFAULT,
        life: Life(u32::from(me.0) + 40),
        fences: true,
        digest: Digest([5; 16]),
        relays: [A, B].map(|node| Relay { node, witness: W }).into_iter().collect(),
        stores: me != W,
    }
}

/// Two nodes, and the witness twice: as a node, which is heard, and as itself, which is compared.
struct Site {
    nodes: BTreeMap<NodeId, Node>,
    witness: Witness<2, 3>,
    disks: BTreeMap<NodeId, BTreeMap<u16, Stored>>,
    wire: Vec<(NodeId, Path, Datagram)>,
    now: u64,
    chance: u64,
    starts: u8,
    compared: usize,
    cuts: usize,
    /// How often somebody was told that it leads the mirror group.
    led: usize,
    /// Nodes without power, by the witness's relays.
    off: BTreeSet<NodeId>,
    /// A node that hangs, and until when.
    hangs: Option<(NodeId, u64)>,
}

impl Site {
    fn new(seed: u64) -> Self {
        let witness = Self::witness(0, 0, Vec::new());
        let (nodes, disks) = (BTreeMap::new(), BTreeMap::new());
        let mut site = Self {
            nodes,
            witness,
            disks,
            wire: Vec::new(),
            now: 1_000,
            chance: seed,
            starts: 0,
            compared: 0,
            cuts: 0,
            led: 0,
            off: BTreeSet::new(),
            hangs: None,
        };
        [A, B, W].into_iter().for_each(|node| site.start(node));
        site
    }

    fn witness(now: u64, start: u8, stored: Vec<Stored>) -> Witness<2, 3> {
        Witness::new(Instant::from_millis(now), of_node(W, start), stored).unwrap()
    }

    fn start(&mut self, me: NodeId) {
        self.starts += 1;
        let stored: Vec<_> = self.disks.entry(me).or_default().values().cloned().collect();
        if me == W {
            self.witness = Self::witness(self.now, self.starts, stored.clone());
        }
        let node = Node::new(Instant::from_millis(self.now), of_node(me, self.starts), stored).unwrap();
        self.nodes.insert(me, node);
        Office::ALL.into_iter().for_each(|office| self.step(me, Event::Command(Command::Start(office))));
    }

    fn step(&mut self, me: NodeId, event: Event<'_>) {
        let (mut actions, now) = (Vec::new(), Instant::from_millis(self.now));
        let node = self.nodes.get_mut(&me).unwrap();
        node.step(now, event.clone(), &mut |action| actions.push(action));
        if me == W {
            let mut same = Vec::new();
            self.witness.step(now, event, &mut |action| same.push(action));
            assert_eq!(same, actions, "at {} ms", self.now);
            assert_eq!(self.witness.deadline(), node.deadline());
            self.compared += actions.len();
        }
        for action in actions {
            match action {
                Action::Send { to, path, datagram } => {
                    for path in path.map_or(Path::ALL.to_vec(), |path| std::vec![path]) {
                        self.wire.push((to, path, datagram.clone()));
                    }
                }
                Action::Persist { id, place, bytes } => {
                    let owner = Owner { site: SiteId([1; 16]), node: me, life: Life(u32::from(me.0) + 40) };
                    let stored = Stored::parse(&bytes, &owner).unwrap();
                    self.disks.get_mut(&me).unwrap().insert(place, stored);
                    self.step(me, Event::Persisted(id));
                }
                Action::Power { order, node, act } => {
                    let done = match (act, self.off.contains(&node)) {
                        (Act::Off, _) => {
                            self.cuts += 1;
                            self.off.insert(node);
                            Done::Switched
                        }
                        (Act::On, _) => {
                            self.off.remove(&node);
                            Done::Switched
                        }
                        (Act::Read, true) => Done::IsOff,
                        (Act::Read, false) => Done::IsOn,
                    };
                    self.step(me, Event::PowerDone { order, done });
                }
                // The longest that a witness keeps: it is heard that it does, or nobody would lead.
                Action::Storage(storage::Action::Decide(_)) => {
                    let payload = Payload::from_slice(&[7; PAYLOAD_SURE]).unwrap();
                    let decided = storage::Event::Decided(Verdict::Take(payload));
                    self.step(me, Event::Storage(decided));
                }
                Action::Storage(storage::Action::Held { .. }) => self.led += 1,
                Action::Storage(storage::Action::Leased { .. } | storage::Action::Lost)
                | Action::Role { .. }
                | Action::Note(_)
                | Action::Fence(_)
                | Action::PowerOn { .. }
                | Action::Record(_) => {}
            }
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance.is_multiple_of(one_in)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_millis()).unwrap();
        while self.now < end {
            self.now += 5;
            for (to, path, datagram) in std::mem::take(&mut self.wire) {
                if self.chance(10) {
                    continue;
                }
                if !self.runs(to) {
                    continue;
                }
                let mut bytes = datagram.to_vec();
                if self.chance(50) {
                    let at = usize::try_from(self.chance % 40).unwrap();
                    bytes[at] ^= 1;
                }
                self.step(to, Event::Received { path, bytes: &bytes });
            }
            for me in [A, B, W] {
                if self.runs(me)
                    && self.nodes[&me].deadline().is_some_and(|due| due <= Instant::from_millis(self.now))
                {
                    self.step(me, Event::Timeout);
                }
            }
            if self.chance(600) {
                let me = [A, B, W][usize::try_from(self.chance % 3).unwrap()];
                self.start(me);
            }
            if self.chance(500) {
                self.hangs = Some((if self.chance(2) { A } else { B }, self.now + 2_000));
            }
        }
    }

    fn runs(&self, node: NodeId) -> bool {
        let hangs = self.hangs.is_some_and(|(one, until)| one == node && self.now < until);
        !hangs && !self.off.contains(&node)
    }
}

/// There is less room, and it is asked for before anything is promised.
#[test]
fn a_witness_has_room_for_what_it_was_built_for() {
    let new = |me| Witness::<1, 3>::new(Instant::ZERO, of_node(me, 1), []).err();
    assert_eq!(new(W), Some(Unsound::NoRoom), "two peers");
    let new = |me| Witness::<2, 3>::new(Instant::ZERO, of_node(me, 1), []).err();
    assert_eq!((new(W), new(A)), (None, Some(Unsound::NoRoom)), "no office");
}

#[test]
fn a_small_witness_is_a_full_node_without_an_office() {
    let mut cuts = 0;
    for seed in 1..=20 {
        let mut site = Site::new(seed * 7_919);
        site.pass(Duration::from_secs(40));
        let epoch = |node: &NodeId| site.nodes[node].post(Office::Infra).unwrap().epoch();
        assert!(1 < epoch(&A).max(epoch(&B)).0, "seed {seed}: nothing happened");
        assert!(2 <= site.led, "seed {seed}: nobody led");
        let register = storage_register(PairId(0));
        let held = |record: Option<Record>| record.map(|record| record.payload);
        let voter = site.witness.voter().unwrap();
        let longest = Payload::from_slice(&[7; PAYLOAD_SURE]).ok();
        assert_eq!(held(voter.accepted(register)), longest, "seed {seed}: not the witness's");
        assert!(1_000 < site.compared, "seed {seed}: {} actions", site.compared);
        site.step(W, Event::PersistFailed);
        site.pass(Duration::from_secs(2));
        cuts += site.cuts;
    }
    assert!(5 < cuts, "{cuts} cuts: pleas are not compared");
}
