//! How a holder begins, with what its log holds, and how it ends (V12, F1 to F3, F7, F14, F16, F17).

use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_core::holder::machine::Holder;
use bulkhead_core::holder::recovery::{self, Recovered, Recovery};
use bulkhead_core::holder::words::{Backing, Settings};
use bulkhead_core::id::{GroupId, NodeId};
use bulkhead_core::log::batch::{Header, Kind};
use bulkhead_core::log::ring::{BLOCKS_MIN, Position, Ring};
use bulkhead_core::log::scan::{self, Payload};
use bulkhead_core::log::superblock::{self, Fault, Identity, Superblock};
use bulkhead_core::log::{BLOCK_LEN, Life, Seq};
use bulkhead_core::mirror::membership::Policy;

use super::act::Act;
use super::drive::{Cell, Drive};
use super::guests::Outcome;
use super::ledger::{Entry, Ledger};
use super::shell::Shell;
use super::store::Apply;
use super::{Common, Group, Told};
use crate::world::{Due, SITE, World};

const GROUP: GroupId = GroupId([0x6d; 16]);

impl World {
    /// The groups begin their work: guests, and streams.
    pub(crate) fn begin_groups(&mut self) {
        for pair in 0..self.groups.len() {
            self.begin_group(pair);
        }
        self.schedule(self.now, Due::Streams);
        for pair in 0..self.groups.len() {
            self.begin_guests(pair);
        }
    }

    fn begin_group(&mut self, pair: usize) {
        let blocks = self.blocks();
        let late = std::time::Duration::from_millis(self.chance.between(40, 300));
        let slowest = if self.chance.happens(200) { 60_000 } else { 600_000 };
        let pace = self.chance.between(20_000, slowest);
        let is_shared = self.chance.happens(200);
        let whole = &mut self.groups[pair];
        (whole.late, whole.pace, whole.ledger) = (late, pace, Ledger::of(blocks));
        whole.shared = is_shared.then(|| Common { store: Drive::blank(blocks), tenant: None });
        for node in self.holders(pair) {
            if let Some(machine) = self.machines.get_mut(&node) {
                machine.group.log = Drive::blank(BLOCKS_MIN + 2);
                machine.group.store = Drive::blank(blocks);
            }
        }
    }

    /// The process begins to read its log.
    pub(crate) fn start_group(&mut self, node: NodeId) {
        if !self.stores_on(node) {
            return;
        }
        let group = &mut self.machines.get_mut(&node).expect("a holder has a machine").group;
        (group.shell, group.flush_fails, group.keep_fails) = (None, false, false);
        group.missed.clear();
        group.untold.clear();
        let at = self.now + self.chance.between(100, 20_000);
        self.tell(node, at, Told::Open);
        self.start_service(node);
    }

    /// The process is gone: with its power, or alone, and then its disks write on (F16).
    pub(crate) fn stop_group(&mut self, node: NodeId) {
        if !self.stores_on(node) {
            return;
        }
        self.harm(node);
        let with_power = self.chance.happens(700);
        self.stop_service(node);
        if with_power {
            self.guests_lose_power(node);
        }
        let Self { machines, chance, groups, .. } = self;
        let machine = machines.get_mut(&node).expect("a holder has a machine");
        let (whole, group) = (&mut groups[usize::from(machine.member.pair.0)], &mut machine.group);
        // What others have written to a store of all is not lost with this node.
        let mut shared = whole.shared.as_mut().filter(|all| all.tenant == Some(node));
        if with_power {
            group.log.cut(chance);
            shared.as_mut().map_or(&mut group.store, |all| &mut all.store).cut(chance);
        }
        shared.into_iter().for_each(|all| all.tenant = None);
        let shell = group.shell.take();
        group.missed.clear();
        group.untold.clear();
        if shell.is_some_and(|shell| shell.holder.primary().is_some()) {
            self.oracle.reached.insert("primary died");
        }
        self.break_streams(node);
        self.gone_from(node, Outcome::Unknown);
    }

    /// Its log is read, and it begins.
    pub(crate) fn open(&mut self, node: NodeId) {
        self.lose_end(node);
        let Some(superblock) = self.superblock(node) else { return };
        let seed = self.chance.next() | 1;
        let whole = self.whole(node);
        let (late, is_founder, is_shared) =
            (whole.late, whole.members.first() == Some(&node), whole.shared.is_some());
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let group = &mut machine.group;
        let (recovered, window) = recover(&group.log, &superblock);
        let outcome = recovered.outcome();
        let policy = Policy::Back;
        let backing = if is_shared { Backing::Shared } else { Backing::Local };
        let settings = Settings { backing, late, policy, is_founder, seed };
        let mut acts = Vec::new();
        let holder = Holder::new(settings, recovered, &mut |action| acts.extend(Act::of(action)));
        let applied = holder.applied();
        group.shell = Some(Box::new(Shell {
            holder,
            timer_at: None,
            window,
            flights: Vec::new(),
            peers: BTreeMap::new(),
            waiting: Default::default(),
            owed: BTreeMap::new(),
            lease: None,
            led_from: None,
            knows_loss: false,
            gives: false,
            apply: Apply::new(applied),
            filled: None,
            asked_at: 0,
        }));
        self.note(&|| format!("n{} has read its log: {outcome:?}, applied {}", node.0, applied.0));
        if matches!(outcome, scan::Outcome::Damaged(_)) {
            self.oracle.reached.insert("log damaged");
            if !self.machines[&node].group.is_harmed {
                // V12: whatever a power cut leaves is no damage.
                let text = format!("n{} finds its log damaged, and nothing harmed it", node.0);
                self.oracle.violated(self.now, text);
            }
        }
        acts.into_iter().for_each(|act| self.act(node, act));
        // What was told it while it read.
        self.catch_up(node);
    }

    /// The newest superblock; that of a log that is made now, when there is none.
    fn superblock(&mut self, node: NodeId) -> Option<Superblock> {
        let life = u32::try_from(self.chance.next() >> 32).unwrap_or(1).max(1);
        let blocks = self.blocks();
        let group = &mut self.machines.get_mut(&node)?.group;
        // What an agent wrote that was killed counts when it is durable (`bulkhead_core::holder::recovery`).
        group.log.flush_all();
        group.store.flush_all();
        match newest(&group.log) {
            Ok(superblock) => Some(superblock),
            Err(Fault::Blank) => {
                let identity = Identity { site: SITE, group: GROUP, node, life: Life(life) };
                let superblock = Superblock::new(identity, Ring::new(BLOCKS_MIN)?, Seq(1));
                let at = superblock::copy_of(superblock.seq);
                group.log.write([(at, Cell::Bytes(Rc::new(superblock.encode())))]);
                group.log.flush_all();
                group.store = Drive::blank(blocks);
                self.whole_mut(node).lives.insert(life);
                Some(superblock)
            }
            Err(fault @ (Fault::Damaged | Fault::NewerFormat { .. })) => {
                self.oracle.violated(self.now, format!("the superblock of n{}: {fault}", node.0));
                None
            }
        }
    }
}

/// The newest superblock of a log.
fn newest(log: &Drive) -> Result<Superblock, Fault> {
    let mut room = [0; BLOCK_LEN];
    superblock::newest([0, 1].map(|at| Superblock::parse(log.read(at).bytes(&mut room))))
}

/// Where the header of the last batch is.
pub(super) fn last_header(log: &Drive) -> Option<u64> {
    let superblock = newest(log).ok()?;
    let scan::Outcome::Whole(end) = recover(log, &superblock).0.outcome() else { return None };
    let (ring, tail) = (superblock.ring, superblock.tail.at);
    let places = ring.extents(tail, end.at.since(tail));
    let blocks = places.flat_map(|extent| extent.first..extent.first + extent.blocks);
    blocks.filter(|at| matches!(log.read(*at), Cell::Bytes(_))).last()
}

/// Reads a log, as the shell does.
fn recover(log: &Drive, superblock: &Superblock) -> (Recovered, BTreeMap<Seq, Entry>) {
    let ring = superblock.ring;
    let read = |at: Position| log.read(ring.extents(at, 1).next().map_or(0, |extent| extent.first));
    let mut recovery = Recovery::new(superblock.clone());
    let (mut window, mut recovered) = (BTreeMap::new(), None);
    let mut event = scan::Event::Begin;
    let mut room = [0; BLOCK_LEN];
    loop {
        let (mut ask, mut check) = (None, None);
        recovery.step(event, &mut |action| match action {
            recovery::Action::Scan(scan::Action::Read(at)) => ask = Some(at),
            recovery::Action::Scan(scan::Action::Check(header)) => check = Some(header.clone()),
            recovery::Action::Scan(scan::Action::Found(header)) => {
                found(header, superblock, &read, &mut window);
            }
            recovery::Action::Scan(scan::Action::Ended(_)) => {}
            recovery::Action::Ended(one) => recovered = Some(one),
        });
        event = match (ask, &check) {
            (Some(at), _) => scan::Event::Block(Some(read(at).bytes(&mut room))),
            (None, Some(header)) => scan::Event::Payload(whole(header, &read)),
            (None, None) => break,
        };
    }
    (recovered.expect("a scan that asks for nothing has ended"), window)
}

/// The writes of a batch that count, as the disk has them. What rotted there says something else.
fn found<'a>(
    header: &Header,
    superblock: &Superblock,
    read: &dyn Fn(Position) -> &'a Cell,
    window: &mut BTreeMap<Seq, Entry>,
) {
    let mut at = header.at.after(1);
    let void = superblock.void_from(header.at);
    for (seq, write) in (header.first.0..).map(Seq).zip(header.content.writes()) {
        let number = match write.kind() {
            Kind::Data => read(at).value().unwrap_or(u64::MAX) >> 16,
            Kind::Zeroes | Kind::Trimmed => 0,
        };
        at = at.after(u64::try_from(write.payload()).unwrap_or(0));
        if void.is_none_or(|from| seq < from) {
            window.insert(seq, Entry { made: header.epoch, write: *write, number });
        }
    }
}

fn whole<'a>(header: &Header, read: &dyn Fn(Position) -> &'a Cell) -> Payload {
    let mut blocks = (1..).map(|n| read(header.at.after(n)));
    let is_whole = header.content.sums().iter().all(|sum| blocks.next().map(Cell::sum) == Some(*sum));
    if is_whole { Payload::Whole } else { Payload::Broken }
}

impl Group {
    /// Whether its log failed, or was never read, so that an operator must start it again.
    pub(crate) fn is_failed(&self) -> bool {
        let shell = self.shell.as_ref();
        shell.is_some_and(|shell| shell.holder.mode() == bulkhead_core::holder::machine::Mode::Failed)
    }
}
