//! For the tests of this module: a site of two compartments and a witness on a good network.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::vec::Vec;

use super::health::Health;
use super::machine::Node;
use super::message::Office;
use super::settings::{Digest, Member, Relay, Settings};
use super::words::{Action, Command, Event, Note};
use crate::budget::timers::Timers;
use crate::fence::desk::{Act, Done};
use crate::id::{NodeId, PairId, Path, Side, SiteId};
use crate::link::frame::Datagram;
use crate::link::key::{Nonce, SiteKey};
use crate::monitor::pair::Role;
use crate::register::store::{Owner, Stored};
use crate::register::voters::Life;
use crate::time::{Drift, Instant};

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);
pub const W: NodeId = NodeId(3);

pub struct Site {
    pub nodes: BTreeMap<NodeId, Node>,
    pub disks: BTreeMap<NodeId, BTreeMap<u16, Stored>>,
    pub starts: u8,
    pub now: u64,
    pub wire: Vec<(NodeId, NodeId, Path, Datagram)>,
    /// Directed: nothing gets from the first to the second.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub told: Vec<String>,
    pub fences: bool,
    /// The witness has a relay in the power feed of each.
    pub relays: bool,
    /// Nodes whose files differ, and in what.
    pub other: BTreeMap<NodeId, fn(&mut Settings)>,
    pub powered: Vec<NodeId>,
    /// Who heard, of whom, how it is.
    pub health: Vec<(NodeId, NodeId, Health)>,
}

pub fn settings(me: NodeId, start: u8, fences: bool) -> Settings {
    let member = |node, side, votes| Member { node, pair: PairId(0), side, votes };
    Settings {
        site: SiteId([1; 16]),
        me,
        nonce: Nonce([start; 16]),
        key: SiteKey::new([2; 32]),
        members: [member(A, Some(Side::A), true), member(B, Some(Side::B), true), member(W, None, true)]
            .into_iter()
            .collect(),
        timers: Timers::DEFAULT,
        drift: Drift::DEFAULT,
        life: Life(u32::from(me.0) + 40),
        fences,
        relays: heapless::Vec::new(),
        digest: Digest([3; 16]),
    }
}

impl Site {
    pub fn new(nodes: &[NodeId]) -> Self {
        let mut site = Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            starts: 0,
            now: 1_000,
            wire: Vec::new(),
            cut: BTreeSet::new(),
            told: Vec::new(),
            fences: false,
            relays: false,
            other: BTreeMap::new(),
            powered: Vec::new(),
            health: Vec::new(),
        };
        nodes.iter().for_each(|node| site.start(*node));
        site
    }

    pub fn start(&mut self, me: NodeId) {
        self.starts += 1;
        let stored: Vec<_> = self.disks.entry(me).or_default().values().cloned().collect();
        let mut settings = settings(me, self.starts, self.fences);
        let relays = [A, B].into_iter().filter(|_| self.relays).map(|node| Relay { node, witness: W });
        settings.relays = relays.collect();
        if let Some(change) = self.other.get(&me) {
            change(&mut settings);
        }
        let node = Node::new(Instant::from_millis(self.now), settings, stored).unwrap();
        self.nodes.insert(me, node);
        for office in Office::ALL {
            self.step(me, Event::Command(Command::Start(office)));
        }
    }

    pub fn step(&mut self, me: NodeId, event: Event<'_>) {
        let Some(node) = self.nodes.get_mut(&me) else { return };
        let (mut actions, now) = (Vec::new(), Instant::from_millis(self.now));
        node.step(now, event, &mut |action| actions.push(action));
        for action in actions {
            match action {
                Action::Send { to, path, datagram } => {
                    for path in path.map_or(Path::ALL.to_vec(), |path| std::vec![path]) {
                        self.wire.push((me, to, path, datagram.clone()));
                    }
                }
                Action::Persist { id, place, bytes } => {
                    let settings = self.nodes[&me].settings();
                    let owner = Owner { site: settings.site, node: me, life: settings.life };
                    let stored = Stored::parse(&bytes, &owner).unwrap();
                    self.disks.get_mut(&me).unwrap().insert(place, stored);
                    self.step(me, Event::Persisted(id));
                }
                Action::Role { office: Office::Infra, role, .. } => {
                    self.told.push(format!("{} {}", me.0, role.name()));
                }
                Action::Fence(fenced) => {
                    self.nodes.remove(&fenced.node);
                    self.told.push(format!("{} fences {}", me.0, fenced.node.0));
                    self.step(me, Event::FenceAnswered { fenced, confirmed: true });
                }
                Action::PowerOn { node } => self.powered.push(node),
                Action::Note(Note::Compared { node, found }) => {
                    self.told.push(format!("{} finds {} {found:?}", me.0, node.0));
                }
                Action::Power { order, node, act } => {
                    let done = self.switch(node, act);
                    self.told.push(format!("{} does {act:?} to {}: {done:?}", me.0, node.0));
                    self.step(me, Event::PowerDone { order, done });
                }
                Action::Note(Note::Plea { plea, ended: Some(ended), .. }) => {
                    self.told.push(format!("{} is told {ended:?} of {}", me.0, plea.node.0));
                }
                Action::Note(Note::Health { node, health }) => self.health.push((me, node, health)),
                Action::Role { .. } | Action::Note(_) | Action::Record(_) => {}
            }
        }
    }

    /// The relay of the witness, wired well.
    fn switch(&mut self, node: NodeId, act: Act) -> Done {
        match (act, self.nodes.contains_key(&node)) {
            (Act::Off, _) => {
                self.nodes.remove(&node);
                Done::Switched
            }
            (Act::On, false) => {
                self.start(node);
                Done::Switched
            }
            (Act::On, true) => Done::Switched,
            (Act::Read, true) => Done::IsOn,
            (Act::Read, false) => Done::IsOff,
        }
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_millis()).unwrap();
        while self.now < end {
            self.now += 5;
            for (from, to, path, datagram) in std::mem::take(&mut self.wire) {
                if !self.cut.contains(&(from, to)) {
                    self.step(to, Event::Received { path, bytes: &datagram });
                }
            }
            for me in self.nodes.keys().copied().collect::<Vec<_>>() {
                // It may have been cut by the one before it.
                let due = self.nodes.get(&me).and_then(Node::deadline);
                if due.is_some_and(|due| due <= Instant::from_millis(self.now)) {
                    self.step(me, Event::Timeout);
                }
            }
            let mut pairs: Vec<_> =
                self.masters().iter().map(|master| self.nodes[master].member().pair).collect();
            pairs.dedup();
            assert_eq!(pairs.len(), self.masters().len(), "two masters of a pair at {} ms (I5)", self.now);
        }
    }

    pub fn masters(&self) -> Vec<NodeId> {
        let now = Instant::from_millis(self.now);
        let acts =
            |node: &Node| node.post(Office::Infra).is_some_and(|post| post.acting(now) == Role::Master);
        self.nodes.iter().filter(|(_, node)| acts(node)).map(|(me, _)| *me).collect()
    }

    pub fn role(&self, node: NodeId) -> Role {
        self.nodes[&node].post(Office::Infra).unwrap().acting(Instant::from_millis(self.now))
    }

    pub fn both_ways(&mut self, a: NodeId, b: NodeId) {
        self.cut.extend([(a, b), (b, a)]);
    }
}

pub const S: Duration = Duration::from_secs(1);
