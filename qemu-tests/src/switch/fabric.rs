//! Where a frame goes, and what happens to it on the way: no sockets, no clock, no threads.

use std::collections::HashMap;
use std::time::Duration;

use super::chance::{Chance, PerMille};
use super::{Address, PORTS_MAX, PortId};

/// Addresses learned at most. A flood of made-up addresses makes the switch flood, as a real one does.
const ADDRESSES_MAX: usize = 1024;
/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// What happens to frames from one port to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// How often a frame is lost.
    pub drop: PerMille,
    /// How often it arrives twice.
    pub duplicate: PerMille,
    /// How long it takes at least.
    pub delay: Duration,
    /// How much longer it takes at most, by chance; frames overtake each other.
    pub jitter: Duration,
}

impl Rule {
    /// Nothing passes: one direction of a cut.
    pub const CUT: Self = Self {
        drop: PerMille::ALWAYS,
        duplicate: PerMille::NEVER,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
    };

    /// Loses frames this often.
    pub fn losing(drop: PerMille) -> Self {
        Self { drop, ..Self::default() }
    }

    /// Delays frames.
    pub fn delaying(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}

/// Frames of a port. What came from its machine is counted at `received`; the rest counts what went, or
/// failed to go, to its machine, but for `malformed` and `unplugged`, which count both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came from the machine.
    pub received: u64,
    /// Came from the machine for all, or for an address that is not known.
    pub flooded: u64,
    /// Given to the machine.
    pub delivered: u64,
    /// Lost by a rule.
    pub dropped: u64,
    /// Doubled by a rule.
    pub duplicated: u64,
    /// Lost between two groups of a split network.
    pub split: u64,
    /// Lost because a cable was out.
    pub unplugged: u64,
    /// Lost because a queue was full.
    pub overflowed: u64,
    /// Lost because the machine was off.
    pub absent: u64,
    /// Not frames: too short or too long.
    pub malformed: u64,
}

/// A frame to give to a port after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) to: PortId,
    pub(super) after: Duration,
}

#[derive(Debug)]
pub(super) struct Fabric {
    seed: u64,
    ports: Vec<State>,
    /// Invariant: at most [`ADDRESSES_MAX`].
    learned: HashMap<Address, PortId>,
    default: Rule,
    rules: HashMap<(PortId, PortId), Rule>,
    chances: HashMap<(PortId, PortId), Chance>,
    /// `None`: not split.
    groups: Option<Vec<Vec<PortId>>>,
}

#[derive(Debug)]
struct State {
    plugged: bool,
    counters: Counters,
}

impl Fabric {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ports: Vec::new(),
            learned: HashMap::new(),
            default: Rule::default(),
            rules: HashMap::new(),
            chances: HashMap::new(),
            groups: None,
        }
    }

    pub(super) fn add_port(&mut self) -> Option<PortId> {
        let id = PortId(self.ports.len());
        (id.0 < PORTS_MAX).then(|| {
            self.ports.push(State { plugged: true, counters: Counters::default() });
            id
        })
    }

    pub(super) fn set_default(&mut self, rule: Rule) {
        self.default = rule;
    }

    pub(super) fn set_rule(&mut self, from: PortId, to: PortId, rule: Rule) {
        self.rules.insert((from, to), rule);
    }

    pub(super) fn split(&mut self, groups: Vec<Vec<PortId>>) {
        self.groups = Some(groups);
    }

    pub(super) fn plug(&mut self, port: PortId, plugged: bool) {
        if let Some(state) = self.ports.get_mut(port.0) {
            state.plugged = plugged;
        }
    }

    pub(super) fn heal(&mut self) {
        self.default = Rule::default();
        self.rules.clear();
        self.groups = None;
        self.ports.iter_mut().for_each(|state| state.plugged = true);
    }

    pub(super) fn counters(&self, port: PortId) -> Counters {
        self.ports.get(port.0).map(|state| state.counters).unwrap_or_default()
    }

    /// Counts something about a port.
    pub(super) fn count(&mut self, port: PortId, change: impl FnOnce(&mut Counters)) {
        if let Some(state) = self.ports.get_mut(port.0) {
            change(&mut state.counters);
        }
    }

    /// Takes a frame from `from` and says who gets it when.
    pub(super) fn forward(&mut self, from: PortId, frame: &[u8]) -> Vec<Delivery> {
        self.count(from, |counters| counters.received += 1);
        let (Some((to, rest)), true) = (frame.split_first_chunk::<6>(), frame.len() >= HEADER) else {
            self.count(from, |counters| counters.malformed += 1);
            return Vec::new();
        };
        if !self.is_plugged(from) {
            self.count(from, |counters| counters.unplugged += 1);
            return Vec::new();
        }
        if let Some((source, _)) = rest.split_first_chunk::<6>() {
            self.learn(Address(*source), from);
        }
        let targets: Vec<PortId> = match self.learned.get(&Address(*to)) {
            // For a station behind the port it came from: nothing to do.
            Some(port) if *port == from => Vec::new(),
            Some(port) => vec![*port],
            None => {
                self.count(from, |counters| counters.flooded += 1);
                (0..self.ports.len()).map(PortId).filter(|port| *port != from).collect()
            }
        };
        targets.into_iter().flat_map(|to| self.fate(from, to)).collect()
    }

    /// What the rules make of one frame from one port to another.
    fn fate(&mut self, from: PortId, to: PortId) -> Vec<Delivery> {
        let rule = self.rules.get(&(from, to)).copied().unwrap_or(self.default);
        let stream = u64::try_from(from.0 * PORTS_MAX + to.0).unwrap_or(u64::MAX);
        let seed = self.seed;
        let chance = self.chances.entry((from, to)).or_insert_with(|| Chance::new(seed, stream));
        // All four are asked of each frame, so that its fate depends on its number alone.
        let (dropped, doubled) = (chance.happens(rule.drop), chance.happens(rule.duplicate));
        let jitter = u64::try_from(rule.jitter.as_micros()).unwrap_or(u64::MAX);
        let delays = [chance.below(jitter), chance.below(jitter)];
        let apart = self
            .groups
            .as_ref()
            .is_some_and(|groups| !groups.iter().any(|group| group.contains(&from) && group.contains(&to)));
        if !self.is_plugged(to) {
            self.count(to, |counters| counters.unplugged += 1);
            return Vec::new();
        }
        if apart {
            self.count(to, |counters| counters.split += 1);
            return Vec::new();
        }
        if dropped {
            self.count(to, |counters| counters.dropped += 1);
            return Vec::new();
        }
        if doubled {
            self.count(to, |counters| counters.duplicated += 1);
        }
        let copies = if doubled { 2 } else { 1 };
        let after = |micros| rule.delay.saturating_add(Duration::from_micros(micros));
        delays.into_iter().take(copies).map(|micros| Delivery { to, after: after(micros) }).collect()
    }

    fn learn(&mut self, source: Address, port: PortId) {
        let [first, ..] = source.0;
        let single = first & 1 == 0;
        if single && (self.learned.len() < ADDRESSES_MAX || self.learned.contains_key(&source)) {
            self.learned.insert(source, port);
        }
    }

    fn is_plugged(&self, port: PortId) -> bool {
        self.ports.get(port.0).is_some_and(|state| state.plugged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fabric(seed: u64) -> (Fabric, [PortId; 3]) {
        let mut fabric = Fabric::new(seed);
        let ports = std::array::from_fn(|_| fabric.add_port().unwrap());
        (fabric, ports)
    }

    fn frame(to: u8, from: u8) -> Vec<u8> {
        let station = |number: u8| if number == 0xff { [0xff; 6] } else { [2, 0, 0, 0, 0, number] };
        [station(to).as_slice(), &station(from), &[0x88, 0xb5], b"payload"].concat()
    }

    fn targets(deliveries: &[Delivery]) -> Vec<usize> {
        deliveries.iter().map(|delivery| delivery.to.0).collect()
    }

    #[test]
    fn unknown_and_broadcast_are_flooded_known_is_not() {
        let (mut fabric, [a, b, _]) = fabric(1);
        assert_eq!(targets(&fabric.forward(a, &frame(2, 1))), [1, 2]);
        assert_eq!(targets(&fabric.forward(b, &frame(1, 2))), [0]);
        assert_eq!(targets(&fabric.forward(a, &frame(2, 1))), [1]);
        assert_eq!(targets(&fabric.forward(a, &frame(0xff, 1))), [1, 2]);
        assert_eq!(targets(&fabric.forward(a, b"short")), [] as [usize; 0]);
        let counters = fabric.counters(a);
        assert_eq!((counters.received, counters.flooded, counters.malformed), (4, 2, 1));
    }

    #[test]
    fn the_same_seed_gives_the_same_losses_whatever_other_pairs_do() {
        let run = |seed, noise: bool| {
            let (mut fabric, [a, b, c]) = fabric(seed);
            fabric.set_default(Rule { duplicate: PerMille::new(100), ..Rule::losing(PerMille::new(300)) });
            fabric.forward(b, &frame(0xff, 2));
            let fates = (0..2000).map(|_| {
                if noise {
                    fabric.forward(c, &frame(2, 3));
                }
                fabric.forward(a, &frame(2, 1)).len()
            });
            fates.collect::<Vec<_>>()
        };
        let fates = run(7, false);
        assert_eq!(fates, run(7, true));
        assert_ne!(fates, run(8, false));
        let lost = fates.iter().filter(|count| **count == 0).count();
        assert!((500..700).contains(&lost), "{lost} of 2000 were lost, about 600 should be");
    }

    #[test]
    fn splits_and_cables_are_counted_and_healed() {
        let (mut fabric, [a, b, c]) = fabric(1);
        fabric.split(vec![vec![a, b], vec![c]]);
        assert_eq!(targets(&fabric.forward(a, &frame(0xff, 1))), [1]);
        assert_eq!(fabric.counters(c).split, 1);
        fabric.set_rule(a, b, Rule::CUT);
        assert_eq!(targets(&fabric.forward(a, &frame(0xff, 1))), [] as [usize; 0]);
        assert_eq!(targets(&fabric.forward(b, &frame(0xff, 2))), [0], "the other direction is whole");
        fabric.plug(a, false);
        assert_eq!(targets(&fabric.forward(b, &frame(0xff, 2))), [] as [usize; 0]);
        assert_eq!(fabric.counters(a).unplugged, 1);
        fabric.heal();
        assert_eq!(targets(&fabric.forward(a, &frame(0xff, 1))), [1, 2]);
    }

    #[test]
    fn made_up_addresses_do_not_grow_memory() {
        let (mut fabric, [a, ..]) = fabric(1);
        for number in 0..100_000_u32 {
            let [_, x, y, z] = number.to_be_bytes();
            fabric.forward(a, &[[0xff; 6].as_slice(), &[2, 9, 9, x, y, z], &[8, 0]].concat());
        }
        assert_eq!(fabric.learned.len(), ADDRESSES_MAX);
    }
}
