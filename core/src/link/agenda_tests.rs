//! X03: what the agenda leaves out is nothing. A witness and its nodes, on a network that loses and holds
//! back; at every moment a clone that looks at everybody must say the same.

use core::time::Duration;
use std::vec::Vec;

use super::*;
use crate::id::SiteId;
use crate::link::key::SiteKey;
use crate::link::suspicion::Limits;

const NODES: u16 = 6;
const WITNESS: NodeId = NodeId(99);

fn links<const PEERS: usize>(me: NodeId, start: u8, now: Instant) -> Links<PEERS> {
    let limits = Limits {
        slow: Duration::from_millis(180),
        silence: Duration::from_millis(350),
        stable: Duration::from_millis(600),
    };
    let (site, key, nonce) = (SiteId([9; 16]), SiteKey::new([3; 32]), Nonce([start; 16]));
    let settings = Settings { site, me, nonce, key, heartbeat: Duration::from_millis(75), limits };
    Links::new(now, settings)
}

fn pace(node: u16) -> Pace {
    Pace::ALL[usize::from(node) % Pace::ALL.len()]
}

struct Site {
    witness: Links<8>,
    nodes: Vec<Links<1>>,
    now: Instant,
    wire: Vec<(NodeId, Path, Datagram)>,
    chance: u64,
    /// Verdicts that changed, and datagrams that were due.
    seen: (usize, usize),
    /// Calls without news.
    idle: usize,
}

impl Site {
    fn new(seed: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let mut witness = links(WITNESS, 1, now);
        assert!((1..=NODES).all(|node| witness.add(now, NodeId(node), pace(node))));
        let nodes = (1..=NODES).map(|node| Self::node(node, 1, now)).collect();
        let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { witness, nodes, now, wire: Vec::new(), chance, seen: (0, 0), idle: 0 }
    }

    fn node(node: u16, start: u8, now: Instant) -> Links<1> {
        let mut links = links(NodeId(node), start, now);
        assert!(links.add(now, WITNESS, pace(node)));
        links
    }

    fn below(&mut self, bound: u16) -> u16 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        u16::try_from(self.chance % u64::from(bound)).unwrap()
    }

    /// The witness does what is due, beside a clone of it that leaves nothing out.
    fn serve(&mut self) {
        let mut whole = self.witness.clone();
        whole.agenda.renew();
        let (mut few, mut all) = (Vec::new(), Vec::new());
        self.witness.judge(self.now, |node, verdict| few.push((node, verdict)));
        whole.judge(self.now, |node, verdict| all.push((node, verdict)));
        assert_eq!(few, all, "at {:?}", self.now);
        let (mut sent, mut due) = (Vec::new(), Vec::new());
        sent.extend(core::iter::from_fn(|| self.witness.next_due(self.now)));
        due.extend(core::iter::from_fn(|| whole.next_due(self.now)));
        assert_eq!(sent, due, "at {:?}", self.now);
        let peers = self.witness.peers.iter();
        let next = peers.filter_map(|peer| peer.deadline(self.witness.listening, &self.witness.paces)).min();
        assert!(self.witness.agenda.due().is_some_and(|at| next.is_none_or(|next| at <= next)));
        self.seen = (self.seen.0 + few.len(), self.seen.1 + sent.len());
        self.idle += usize::from(sent.is_empty());
        for out in sent {
            Path::ALL.into_iter().filter(|path| out.path.is_none_or(|one| one == *path)).for_each(|path| {
                self.wire.push((out.to, path, out.datagram.clone()));
            });
        }
    }

    fn step(&mut self) {
        self.now = self.now.after(Duration::from_micros(u64::from(self.below(20_000))));
        self.serve();
        for node in 0..self.nodes.len() {
            self.nodes[node].judge(self.now, |_, _| ());
            while let Some(out) = self.nodes[node].next_due(self.now) {
                for path in Path::ALL.into_iter().filter(|path| out.path.is_none_or(|one| one == *path)) {
                    self.wire.push((WITNESS, path, out.datagram.clone()));
                }
            }
        }
        for (to, path, datagram) in core::mem::take(&mut self.wire) {
            match self.below(8) {
                0 => {}
                1 => self.wire.push((to, path, datagram)),
                2.. if to == WITNESS => {
                    let _ = self.witness.receive(self.now, path, &datagram);
                    // The shell may hear several before it serves.
                    if self.below(3) != 0 {
                        self.serve();
                    }
                }
                2.. => {
                    let _ = self.nodes[usize::from(to.0 - 1)].receive(self.now, path, &datagram);
                }
            }
        }
        self.serve();
        let (one, start) = (self.below(NODES), self.below(200) + 2);
        match self.below(120) {
            0 => self.nodes[usize::from(one)] = Self::node(one + 1, u8::try_from(start).unwrap(), self.now),
            1 => self.witness.set_pace(self.now, NodeId(one + 1), pace(start)),
            2 => {
                self.witness.remove(NodeId(one + 1));
                assert!(self.witness.add(self.now, NodeId(one + 1), pace(one + 1)));
            }
            3 => self.now = self.now.after(Duration::from_millis(u64::from(start) * 10)),
            4.. => {}
        }
    }
}

#[test]
fn the_agenda_leaves_nobody_out() {
    let (mut verdicts, mut datagrams, mut idle) = (0, 0, 0);
    for seed in 1..=40 {
        let mut site = Site::new(seed);
        (0..600).for_each(|_| site.step());
        (verdicts, datagrams, idle) = (verdicts + site.seen.0, datagrams + site.seen.1, idle + site.idle);
    }
    assert!(1_000 < verdicts && 20_000 < datagrams && 20_000 < idle, "{verdicts} {datagrams} {idle}");
}
