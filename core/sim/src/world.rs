//! The engine: one queue of events in true time, and machines that run the real core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bulkhead_core::budget::timers::Timers;
use bulkhead_core::fence::desk::{Act, Done, OrderId};
use bulkhead_core::fence::words::Outcome;
use bulkhead_core::id::{NodeId, Path, SiteId};
use bulkhead_core::link::frame::Frame;
use bulkhead_core::monitor::pair::Role;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::{Office, Said, decode};
use bulkhead_core::node::settings::{Member, infra_register};
use bulkhead_core::node::words::{Action, Event, Note};
use bulkhead_core::register::acceptor::PersistId;
use bulkhead_core::register::message::{Answer, Ask, Fenced, Reply, Request};
use bulkhead_core::register::store::STORED_LEN;
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Instant;

use crate::chance::Chance;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::group::{Group, Told, Whole, Wish};
use crate::network::Network;
use crate::oracle::Oracle;
use crate::queue::{Queue, Timer};
use crate::shape::{Shape, Witnesses};
use crate::site::{Happens, Hosted};
use crate::trace::Trace;

/// The bound on drift that all nodes are told, and that all clocks keep.
pub const DRIFT_PPM: u32 = 10_000;
/// Events of one run of a pair: some thirty times as many as one with the default timers has.
const STEPS_MAX: u64 = 1_000_000;
/// Datagrams that wait for a node that sleeps: its socket buffer.
const BUFFER_MAX: usize = 256;

pub(crate) const SITE: SiteId = SiteId([0xb1; 16]);

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    Arrive { to: NodeId, path: Path, bytes: Rc<[u8]> },
    Timer { node: NodeId, timer: Timer },
    Flushed { node: NodeId, start: u64 },
    Fenced { by: NodeId, start: u64, fenced: Fenced, works: bool },
    Switched { witness: NodeId, start: u64, order: OrderId, node: NodeId, act: Act, works: bool },
    Group { node: NodeId, start: u64, wish: Wish },
    Told { node: NodeId, start: u64, told: Box<Told> },
    Carried { from: NodeId, to: NodeId, stream: u64 },
    Streams,
    Guest { pair: usize, lane: usize },
    Guests(Happens),
    PowerOn { node: NodeId },
    Wake { node: NodeId },
}

/// A write on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) id: PersistId,
    pub(crate) place: u16,
    pub(crate) bytes: [u8; STORED_LEN],
    /// Copy 0 is durable and reported; copy 1 is on its way.
    pub(crate) reported: bool,
}

/// A node or a witness.
pub struct Machine {
    /// What runs on it; `None` while its power is off.
    pub node: Option<Box<Node>>,
    /// Its clock.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// How often it was started.
    pub starts: u64,
    /// It does not run until then, and does not know.
    pub sleeps: bool,
    /// Longest time a flush takes now, microseconds.
    pub flush_max: u64,
    /// The next flush fails.
    pub flush_fails: bool,
    pub(crate) member: Member,
    pub(crate) writes: VecDeque<Write>,
    pub(crate) buffer: VecDeque<(Path, Rc<[u8]>)>,
    /// The newest flush it has not been told of, because it sleeps.
    pub(crate) untold: Option<PersistId>,
    pub(crate) timer_at: Option<u64>,
    pub(crate) lives: u32,
    pub(crate) group: Group,
    pub(crate) hosted: Hosted,
}

/// The site.
pub struct World {
    /// True time, microseconds.
    pub now: u64,
    /// All machines.
    pub machines: BTreeMap<NodeId, Machine>,
    /// The networks.
    pub network: Network,
    /// Where chance comes from.
    pub chance: Chance,
    /// What happened.
    pub trace: Trace,
    /// What must never happen.
    pub oracle: Oracle,
    /// Events so far.
    pub steps: u64,
    /// The timers all nodes use.
    pub timers: Timers,
    /// Whether there are fencing devices.
    pub fences: bool,
    /// Whether the witness is that device.
    pub relays: bool,
    /// Whether the nodes hold a mirror group.
    pub stores: bool,
    /// Nobody switches these on before all is repaired.
    pub(crate) gone: BTreeSet<NodeId>,
    /// Guests of each pair, that run on its nodes.
    pub(crate) guests: u16,
    /// How long it takes to begin one, at most, microseconds.
    pub(crate) begin_max: u64,
    /// Starts of guests.
    pub(crate) serials: u64,
    /// One of each pair.
    pub(crate) groups: Vec<Whole>,
    /// More events than this are too many.
    pub(crate) steps_max: u64,
    /// Nothing goes wrong any more.
    pub(crate) is_healed: bool,
    /// When the witness was last reached by each node: true time.
    pub(crate) heard: BTreeMap<NodeId, u64>,
    pub(crate) queue: Queue,
    /// Room for what one node asks for at a time.
    actions: Vec<Action>,
}

impl World {
    /// A site of two compartments with `per_side` nodes each and a witness, all off. The first node of each
    /// compartment and the witness vote.
    pub fn new(chance: Chance, per_side: u16, timers: Timers, fences: bool) -> Self {
        Self::of(chance, &Shape { pairs: 1, per_side, witnesses: Witnesses::Each }, timers, fences)
    }

    /// A site of this shape, all off. The first node of each compartment of a pair and its witness vote.
    pub fn of(mut chance: Chance, shape: &Shape, timers: Timers, fences: bool) -> Self {
        let mut machines = BTreeMap::new();
        for member in shape.members() {
            let drift = u64::from(DRIFT_PPM);
            let rate = chance.below(2 * drift + 1).cast_signed() - drift.cast_signed();
            let clock = Clock { rate, origin: chance.between(1, 1 << 40) };
            let machine = Machine {
                node: None,
                clock,
                disk: Disk::blank(Life(u32::from(member.node.0) << 8 | 1)),
                starts: 0,
                sleeps: false,
                flush_max: 3_000,
                flush_fails: false,
                member,
                writes: VecDeque::new(),
                buffer: VecDeque::new(),
                untold: None,
                timer_at: None,
                lives: 1,
                group: Group::default(),
                hosted: Hosted::default(),
            };
            machines.insert(member.node, machine);
        }
        Self {
            now: 0,
            machines,
            network: Network::default(),
            chance,
            trace: Trace::default(),
            oracle: Oracle::default(),
            steps: 0,
            timers,
            fences,
            relays: false,
            stores: false,
            gone: BTreeSet::new(),
            guests: 0,
            begin_max: 0,
            serials: 0,
            groups: (0..shape.pairs).map(|pair| Whole::of(shape.holders(pair))).collect(),
            steps_max: STEPS_MAX * u64::from(shape.pairs),
            is_healed: false,
            heard: BTreeMap::new(),
            queue: Queue::default(),
            actions: Vec::new(),
        }
    }

    /// All nodes with a compartment.
    pub fn nodes(&self) -> Vec<NodeId> {
        let with_side = self.machines.iter().filter(|(_, machine)| machine.member.side.is_some());
        with_side.map(|(node, _)| *node).collect()
    }

    /// The witness; where there are several, the last.
    pub fn witness(&self) -> NodeId {
        self.machines.keys().next_back().copied().unwrap_or(NodeId(0))
    }

    /// Everything that runs or could run.
    pub fn all(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: u64) {
        while let Some((at, due)) = self.queue.next(end) {
            if self.steps_max < self.steps {
                let text = format!("more than {} events: somebody never rests", self.steps_max);
                self.oracle.violated(self.now, text);
                break;
            }
            self.now = self.now.max(at);
            self.happen(due);
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn schedule(&mut self, at: u64, due: Due) {
        self.queue.push(at.max(self.now), due);
    }

    fn happen(&mut self, due: Due) {
        self.steps += 1;
        match due {
            Due::Arrive { to, path, bytes } => {
                self.trace.mix(self.now ^ u64::from(to.0) << 48);
                let Some(machine) = self.machines.get_mut(&to) else { return };
                if machine.sleeps {
                    if machine.buffer.len() < BUFFER_MAX {
                        machine.buffer.push_back((path, bytes));
                    }
                    return;
                }
                if to == self.witness()
                    && let Ok(frame) = Frame::parse(&bytes)
                {
                    self.heard.insert(frame.header.from, self.now);
                }
                self.step(to, Event::Received { path, bytes: &bytes });
            }
            Due::Timer { node, timer: Timer::Holder } => self.pulse(node),
            Due::Timer { node, timer: Timer::Node } => {
                let machine = self.machines.get_mut(&node);
                let Some(machine) = machine.filter(|one| !one.sleeps) else { return };
                machine.timer_at = None;
                self.step(node, Event::Timeout);
            }
            Due::Flushed { node, start } => self.flushed(node, start),
            Due::Fenced { by, start, fenced, works } => {
                if works {
                    self.note(&|| format!("n{} is switched off by n{}", fenced.node.0, by.0));
                    self.power_off(fenced.node);
                    self.guests_lose_power(fenced.node);
                    self.oracle.reached.insert("fenced");
                    let back = self.now + self.chance.between(500_000, 3_000_000);
                    self.schedule(back, Due::PowerOn { node: fenced.node });
                }
                if self.machines[&by].starts == start {
                    self.step(by, Event::FenceAnswered { fenced, confirmed: works });
                }
            }
            Due::Switched { witness, start, order, node, act, works } => {
                let done = if works { self.switch(node, act) } else { Done::Failed };
                if self.machines[&witness].starts == start {
                    self.step(witness, Event::PowerDone { order, done });
                }
            }
            Due::Group { node, start, wish } => self.group_says(node, start, wish),
            Due::Told { node, start, told } => self.is_told(node, start, *told),
            Due::Carried { from, to, stream } => self.carried(from, to, stream),
            Due::Streams => self.look_at_streams(),
            Due::Guests(what) => self.happens_to_guests(what),
            Due::Guest { pair, lane } => self.guest(pair, lane),
            Due::PowerOn { node } => self.power_on(node),
            Due::Wake { node } => self.wake(node),
        }
    }

    fn flushed(&mut self, node: NodeId, start: u64) {
        let Some(machine) =
            self.machines.get_mut(&node).filter(|one| one.starts == start && one.node.is_some())
        else {
            return;
        };
        let Some(mut write) = machine.writes.pop_front() else { return };
        if machine.flush_fails {
            machine.writes.clear();
            self.note(&|| format!("a flush of n{} fails", node.0));
            self.step(node, Event::PersistFailed);
            return;
        }
        machine.disk.write(write.place, u8::from(write.reported), write.bytes);
        machine.disk.flush();
        let id = write.id;
        if !write.reported {
            write.reported = true;
            machine.writes.push_front(write);
            if machine.sleeps {
                machine.untold = Some(id);
            } else {
                self.step(node, Event::Persisted(id));
            }
        }
        self.begin_write(node);
    }

    fn begin_write(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| !machine.writes.is_empty()) else {
            return;
        };
        let (start, flush_max) = (machine.starts, machine.flush_max);
        let at = self.now + self.chance.between(50, flush_max);
        self.schedule(at, Due::Flushed { node, start });
    }

    /// Gives one event to a node, and carries out what it asks for.
    pub fn step(&mut self, node: NodeId, event: Event<'_>) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(running) = &mut machine.node else { return };
        let now = machine.clock.at(self.now);
        // Taken out while it is used: nothing that is carried out steps a node at once.
        let mut actions = std::mem::take(&mut self.actions);
        running.step(now, event, &mut |action| actions.push(action));
        let due = running.deadline();
        actions.iter().for_each(|action| self.carry_out(node, action));
        actions.clear();
        self.actions = actions;
        self.set_timer(node, due);
        self.look(node, now);
    }

    fn set_timer(&mut self, node: NodeId, due: Option<Instant>) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.node.is_some()) else {
            return;
        };
        // At least a little later: an event loop takes its time, too.
        let at = due.map(|due| machine.clock.when(due, self.now).max(self.now + 20));
        if at == machine.timer_at {
            return;
        }
        machine.timer_at = at;
        self.queue.set(node, Timer::Node, at);
    }

    fn carry_out(&mut self, node: NodeId, action: &Action) {
        match *action {
            Action::Send { to, path, ref datagram } => {
                self.overhear(datagram);
                let bytes: Rc<[u8]> = Rc::from(&datagram[..]);
                let bits = u64::try_from(bytes.len()).unwrap_or(1) * 8;
                for path in Path::ALL.into_iter().filter(|one| path.is_none_or(|path| path == *one)) {
                    let arrivals = self.network.send(self.now, (node, to, path), bits, &mut self.chance);
                    for (at, bent) in arrivals.into_iter().flatten() {
                        let bytes = bent.map_or_else(|| bytes.clone(), |bit| bend(&bytes, bit));
                        self.schedule(at, Due::Arrive { to, path, bytes });
                    }
                }
            }
            Action::Persist { id, place, bytes } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                let is_idle = machine.writes.is_empty();
                machine.writes.push_back(Write { id, place, bytes, reported: false });
                if is_idle {
                    self.begin_write(node);
                }
            }
            Action::Fence(fenced) => {
                self.note(&|| format!("n{} asks to fence n{}", node.0, fenced.node.0));
                let at = self.now + self.chance.between(20_000, 1_500_000);
                let (start, works) = (self.machines[&node].starts, !self.chance.happens(200));
                self.schedule(at, Due::Fenced { by: node, start, fenced, works });
            }
            Action::Power { order, node: which, act } => {
                self.note(&|| format!("n{} does {act:?} to n{}", node.0, which.0));
                self.must_be_rightful(which, act);
                let at = self.now + self.chance.between(1_000, 800_000);
                let (start, works) = (self.machines[&node].starts, !self.chance.happens(100));
                self.schedule(at, Due::Switched { witness: node, start, order, node: which, act, works });
            }
            Action::Record(ref entry) => {
                self.note(&|| format!("n{} puts on record {entry:?}", node.0));
                if entry.outcome == Outcome::Off {
                    self.oracle.reached.insert("cut by the witness");
                }
            }
            Action::PowerOn { node: which } => {
                self.note(&|| format!("n{} has n{} switched on", node.0, which.0));
                self.oracle.reached.insert("switched on");
                self.schedule(self.now + 100_000, Due::PowerOn { node: which });
            }
            Action::Role { office, role, reason } => {
                self.note(&|| format!("n{} {} is {}: {reason:?}", node.0, office.name(), role.name()));
                let register = infra_register(self.machines[&node].member.pair);
                self.oracle.role((node, register), office, role, reason);
            }
            Action::Storage(ref action) => self.tell_group(node, action.clone()),
            // It says that it is there, again and again.
            Action::Note(Note::Health { .. }) => {}
            Action::Note(ref note) => self.note(&|| format!("n{} notes {note:?}", node.0)),
        }
    }

    /// Notes what a voter was asked to accept, and what it says that it has accepted (V10).
    fn overhear(&mut self, datagram: &[u8]) {
        let Ok(frame) = Frame::parse(datagram) else { return };
        // The first byte of a message's payload is 1.
        let Some((1, message)) = frame.payload.split_first() else { return };
        let (from, to) = (frame.header.from, frame.header.to);
        match decode(message) {
            Some(Said::Request(Request { register, ask, body: Ask::Accept { record, .. } })) => {
                self.oracle.asked((from, to, register, ask), record.epoch);
            }
            Some(Said::Answer(Answer { register, ask, life, body: Reply::Accepted })) => {
                self.oracle.accepted((to, from, register, ask), life);
            }
            Some(Said::Answer(Answer { register, life, body: Reply::Promised { accepted }, .. })) => {
                let epoch = accepted.map(|(_, record)| record.epoch).unwrap_or_default();
                self.oracle.answered((from, life, register), epoch);
            }
            Some(
                Said::Request(_)
                | Said::Answer(_)
                | Said::Saying(..)
                | Said::Activate
                | Said::TakeController
                | Said::Roster(_)
                | Said::Plea(_)
                | Said::PleaAnswered(_)
                | Said::Health(_)
                | Said::Take(_),
            )
            | None => {}
        }
    }

    /// Safety, after every step (I1, I5, V3): who holds a register now, nobody else may hold.
    fn look(&mut self, node: NodeId, now: Instant) {
        for office in Office::ALL {
            let Some(running) = self.machines[&node].node.as_ref() else { return };
            let pair = running.member().pair;
            let Some(post) = running.post(office) else { continue };
            let Some(epoch) = post.seat().holds(now) else { continue };
            self.oracle.holds(self.now, node, (office, post.register()), epoch);
            if office == Office::Storage {
                self.none_runs_elsewhere(node);
            }
            let is_other = |other: &NodeId, machine: &Machine| {
                *other != node && (office == Office::Controller || machine.member.pair == pair)
            };
            for (other, machine) in self.machines.iter().filter(|(other, machine)| is_other(other, machine)) {
                let post = machine.node.as_ref().and_then(|running| running.post(office));
                if post.and_then(|post| post.seat().holds(machine.clock.at(self.now))).is_some() {
                    let text = format!("n{} and n{} both hold {}", node.0, other.0, office.name());
                    self.oracle.violated(self.now, text);
                }
            }
        }
    }

    /// Notes something in words.
    pub fn note(&mut self, text: &dyn Fn() -> String) {
        self.trace.note(self.now, text);
    }

    /// Who acts in which role of the infra pair now.
    pub fn roles(&self) -> Vec<(NodeId, Role)> {
        let role = |(node, machine): (&NodeId, &Machine)| {
            let post = machine.node.as_ref()?.post(Office::Infra)?;
            Some((*node, post.acting(machine.clock.at(self.now))))
        };
        self.machines.iter().filter_map(role).collect()
    }
}

fn bend(bytes: &Rc<[u8]>, bit: u64) -> Rc<[u8]> {
    let mut bent = bytes.to_vec();
    let (byte, bit) = (usize::try_from(bit / 8).unwrap_or(0), bit % 8);
    bent[byte] ^= 1 << bit;
    Rc::from(bent)
}
