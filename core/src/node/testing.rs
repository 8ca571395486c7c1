//! For the tests of this module: a site of two compartments and a witness on a good network.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::format;
use std::string::String;
use std::vec::Vec;

use super::health::Health;
use super::machine::Node;
use super::message::Office;
use super::settings::{Digest, Member, Relay, Settings};
use super::storage;
use super::words::{Action, Command, Event, Note};
use crate::budget::timers::Timers;
use crate::fence::desk::{Act, Done};
use crate::id::{Epoch, NodeId, PairId, Path, Side, SiteId};
use crate::link::frame::Datagram;
use crate::link::key::{Nonce, SiteKey};
use crate::monitor::pair::Role;
use crate::register::record::Payload;
use crate::register::seat::Verdict;
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
    /// The mirror group's holders, on nodes that have a log.
    pub groups: BTreeMap<NodeId, Group>,
}

/// One holder of a mirror group, as far as its register is concerned.
#[derive(Default)]
pub struct Group {
    /// It has every acknowledged write, and may lead.
    pub is_in_sync: bool,
    /// It answers nothing.
    pub hangs: bool,
    /// Questions that it has not answered: what the record says.
    pub asked: VecDeque<Option<Payload>>,
    /// How often it was asked.
    pub questions: usize,
    /// The record and the end of the lease, while it leads.
    pub leads: Option<(Epoch, Payload, Instant)>,
    /// Leases it was told of that were longer than the one before.
    pub renewals: usize,
    /// Guests run here, by each lease to its end.
    pub has_guests: bool,
    /// Until when, whatever becomes of this holder or its node's agent.
    pub guests_until: Instant,
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
        stores: false,
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
            groups: BTreeMap::new(),
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
        settings.stores = self.groups.contains_key(&me);
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
                    self.stop(fenced.node);
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
                Action::Storage(action) => self.tell_group(me, action),
                Action::Role { .. } | Action::Note(_) | Action::Record(_) => {}
            }
        }
    }

    fn tell_group(&mut self, me: NodeId, action: storage::Action) {
        let now = Instant::from_millis(self.now);
        if let storage::Action::Held { .. } = action {
            let others = self.groups.iter().filter(|(node, _)| **node != me);
            let runs = others.filter(|(_, group)| now < group.guests_until).map(|(node, _)| *node);
            assert_eq!(
                runs.collect::<Vec<_>>(),
                [],
                "guests run there, and {me:?} leads at {} ms (I5)",
                self.now
            );
        }
        let group = self.groups.get_mut(&me).unwrap();
        match action {
            storage::Action::Decide(current) => {
                group.questions += 1;
                group.asked.push_back(current);
            }
            storage::Action::Held { epoch, payload, until } => {
                assert!(now < until && group.leads.as_ref().is_none_or(|(before, ..)| *before < epoch));
                group.leads = Some((epoch, payload, until));
            }
            storage::Action::Leased { until } => {
                let (.., end) = group.leads.as_mut().expect("it leads");
                assert!(*end < until, "a lease that is renewed is longer");
                *end = until;
                group.renewals += 1;
            }
            storage::Action::Lost => assert!(group.leads.take().is_some(), "it led"),
        }
        if let Some((.., until)) = group.leads.as_ref().filter(|_| group.has_guests) {
            let until = *until;
            group.guests_until = until;
            self.step(me, Event::Storage(storage::Event::Lent { until }));
        }
        let lead = self.groups.iter().filter(|(_, group)| group.leads.is_some());
        let lead: Vec<_> = lead.map(|(node, _)| *node).collect();
        assert!(lead.len() <= 1, "{lead:?} lead at {} ms (I1)", self.now);
    }

    /// Each holder answers what it was asked, one question in a while.
    fn groups_answer(&mut self) {
        for me in self.nodes.keys().copied().collect::<Vec<_>>() {
            let group = self.groups.get_mut(&me).filter(|group| !group.hangs);
            let Some((group, current)) = group.and_then(|group| {
                let current = group.asked.pop_front()?;
                Some((group, current))
            }) else {
                continue;
            };
            // Its name, behind those of the last ones that led before.
            let mut payload = current.unwrap_or_default();
            if payload.len() == 9 {
                payload.remove(0);
            }
            let verdict = match group.is_in_sync && payload.push(u8::try_from(me.0).unwrap()).is_ok() {
                true => Verdict::Take(payload),
                false => Verdict::Leave,
            };
            self.step(me, Event::Storage(storage::Event::Decided(verdict)));
        }
    }

    /// Power off: nobody is told.
    pub fn stop(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        if let Some(group) = self.groups.get_mut(&node) {
            (group.leads, group.asked) = (None, VecDeque::new());
        }
    }

    /// Who leads the mirror group, and what its record says.
    pub fn primary(&self) -> Option<(NodeId, Vec<u8>)> {
        self.groups.iter().find_map(|(node, group)| {
            let (_, payload, until) = group.leads.as_ref()?;
            assert!(Instant::from_millis(self.now) < *until, "it was told in time");
            Some((*node, payload.to_vec()))
        })
    }

    /// The relay of the witness, wired well.
    fn switch(&mut self, node: NodeId, act: Act) -> Done {
        match (act, self.nodes.contains_key(&node)) {
            (Act::Off, _) => {
                self.stop(node);
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
            self.groups_answer();
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
