//! What goes wrong in a site, alone and together: each seed allows some of it (swarm testing, as in
//! [`crate::plan`]).

use bulkhead_core::id::{NodeId, Path, Side};
use bulkhead_core::node::message::Office;
use bulkhead_core::node::words::{Command, Event};

use crate::network::Quality;
use crate::world::{Due, World};

/// A kind of fault of a whole site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A node loses its power, and gets it back (F17).
    Power,
    /// An agent dies, and is started again; its guests may live on (F16).
    Agent,
    /// All nodes of a compartment lose their power at once.
    Compartment,
    /// A witness loses its power (F25, F26).
    Witness,
    /// A network between the compartments is cut, or both, or is whole again (F33 to F36).
    Between,
    /// A node is cut off from all, or from one (F33 to F35).
    Link,
    /// A process stands still and does not know (F19).
    Sleep,
    /// A guest ends, by itself or not.
    Guest,
    /// A guest cannot begin for a while (S3-14).
    Broken,
    /// An operator wants something else.
    Want,
    /// An operator has another node lead.
    Move,
    /// A flush fails, a store is full (F5, F12).
    Disk,
}

/// All kinds.
pub const FAULTS: [Fault; 12] = [
    Fault::Power,
    Fault::Agent,
    Fault::Compartment,
    Fault::Witness,
    Fault::Between,
    Fault::Link,
    Fault::Sleep,
    Fault::Guest,
    Fault::Broken,
    Fault::Want,
    Fault::Move,
    Fault::Disk,
];

/// Lets one thing go wrong, or be repaired.
pub(super) fn strike(world: &mut World, fault: Fault) {
    let nodes = world.nodes();
    let node = world.chance.one_of(&nodes);
    let pair = world.pair_of(node);
    let back = world.now + world.chance.between(50_000, 4_000_000);
    match fault {
        Fault::Power => {
            world.loses_power(node);
            world.schedule(back, Due::PowerOn { node });
        }
        Fault::Agent => {
            world.power_off(node);
            let soon = world.now + world.chance.between(5_000, 400_000);
            world.schedule(soon, Due::PowerOn { node });
        }
        Fault::Compartment => {
            let side = world.chance.one_of(&[Side::A, Side::B]);
            world.note(&|| format!("compartment {side:?} loses power"));
            for node in nodes {
                if world.machines[&node].member.side == Some(side) {
                    world.loses_power(node);
                    let at = back + world.chance.below(500_000);
                    world.schedule(at, Due::PowerOn { node });
                }
            }
        }
        Fault::Witness => {
            let node = world.any_witness();
            world.power_off(node);
            world.schedule(back, Due::PowerOn { node });
        }
        Fault::Between => between(world, &nodes),
        Fault::Link => link(world, node),
        Fault::Sleep => {
            let micros = world.chance.between(1_000, 2_500_000);
            world.sleep(node, micros);
        }
        Fault::Guest => {
            let by_itself = world.chance.happens(300);
            world.guest_dies(pair, by_itself);
        }
        Fault::Broken => world.break_guests(pair),
        Fault::Want => world.change_a_want(pair),
        Fault::Move => {
            let (holders, office) = (world.holders(pair), Office::Storage);
            if let Some(from) = world.primaries(pair).first().copied() {
                let to = world.chance.one_of(&holders);
                world.note(&|| format!("n{} is to lead for n{}", to.0, from.0));
                world.shell(from).into_iter().for_each(|shell| shell.gives = from != to);
                world.step(from, Event::Command(Command::Move { office, to }));
            }
        }
        Fault::Disk => world.bad_flush_of_group(node),
    }
}

/// The networks between the compartments change.
fn between(world: &mut World, nodes: &[NodeId]) {
    let which = world.chance.below(4);
    let is_cut = world.chance.happens(500);
    world.note(&|| format!("between the compartments: cut {is_cut}, networks {which}"));
    for one in nodes {
        for other in nodes {
            if world.machines[one].member.side != world.machines[other].member.side {
                set(world, (*one, *other), which, is_cut);
            }
        }
    }
}

/// A node is cut off from all or from one, or is not any more.
fn link(world: &mut World, node: NodeId) {
    let (all, which) = (world.all(), world.chance.below(4));
    let is_cut = world.chance.happens(600);
    let others = if world.chance.happens(500) { all } else { vec![world.chance.one_of(&all)] };
    world.note(&|| format!("n{} and {} others: cut {is_cut}, networks {which}", node.0, others.len()));
    for other in others {
        set(world, (node, other), which, is_cut);
        set(world, (other, node), which, is_cut);
    }
}

/// 0: network 1 alone; 1: network 2 alone; else both.
fn set(world: &mut World, (one, other): (NodeId, NodeId), which: u64, is_cut: bool) {
    let quality = Quality { is_cut, ..Quality::GOOD };
    for path in Path::ALL {
        let is_meant = match path {
            Path::One => which != 1,
            Path::Two => which != 0,
        };
        if is_meant {
            world.network.set(one, other, path, quality);
        }
    }
}

impl World {
    /// Some guests of a pair cannot begin for a while, and those that run may end, too.
    fn break_guests(&mut self, pair: usize) {
        let until = self.now + self.chance.between(100_000, 3_000_000);
        let many = self.chance.happens(300);
        let wanted = &mut self.groups[pair].wanted;
        let mut broken = 0;
        for at in &mut wanted.broken_until {
            if many || self.chance.happens(100) {
                *at = until;
                broken += 1;
            }
        }
        self.note(&|| format!("{broken} guests of pair {pair} cannot begin until {until}"));
        self.guest_dies(pair, false);
    }
}
