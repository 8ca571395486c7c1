//! What goes wrong in a run: each seed allows a random set of faults and a random severity (swarm testing,
//! Groce 2012), so that rare combinations are as likely as mild ones.

use bulkhead_core::id::{NodeId, Path};

use crate::network::Quality;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Links lose, repeat, delay and bend (F31, F32).
    Lossy,
    /// Links are cut, in one direction or both, on one network or both (F33 to F36).
    Cut,
    /// A link comes and goes (F40).
    Flap,
    /// Power fails and returns (F16, F17).
    Power,
    /// A process sleeps and does not know (F19).
    Sleep,
    /// The witness loses power (F25, F26).
    Witness,
    /// A disk is slow (F13).
    SlowDisk,
    /// A flush fails (F5).
    BadFlush,
    /// The fencing devices are there, and do not always work (F28, F29).
    Fence,
    /// A voter comes back with an empty disk (F14, F25).
    Wipe,
}

/// All kinds.
pub const FAULTS: [Fault; 10] = [
    Fault::Lossy,
    Fault::Cut,
    Fault::Flap,
    Fault::Power,
    Fault::Sleep,
    Fault::Witness,
    Fault::SlowDisk,
    Fault::BadFlush,
    Fault::Fence,
    Fault::Wipe,
];

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// None.
    Calm,
    /// Lossy links.
    Lossy,
    /// Links that are cut and flap.
    Partitions,
    /// Power cuts.
    Crashes,
    /// Processes that sleep.
    Pauses,
    /// The witness comes and goes.
    Witness,
    /// Slow and failing disks, with power cuts.
    Disks,
    /// Any of them.
    Everything,
}

/// All profiles.
pub const PROFILES: [Profile; 8] = [
    Profile::Calm,
    Profile::Lossy,
    Profile::Partitions,
    Profile::Crashes,
    Profile::Pauses,
    Profile::Witness,
    Profile::Disks,
    Profile::Everything,
];

impl Profile {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Lossy => "lossy",
            Self::Partitions => "partitions",
            Self::Crashes => "crashes",
            Self::Pauses => "pauses",
            Self::Witness => "witness",
            Self::Disks => "disks",
            Self::Everything => "everything",
        }
    }

    /// The faults it allows.
    pub const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Calm => &[],
            Self::Lossy => &[Fault::Lossy],
            Self::Partitions => &[Fault::Cut, Fault::Flap],
            Self::Crashes => &[Fault::Power, Fault::Witness, Fault::Fence],
            Self::Pauses => &[Fault::Sleep, Fault::Lossy],
            Self::Witness => &[Fault::Witness, Fault::Cut],
            Self::Disks => &[Fault::SlowDisk, Fault::BadFlush, Fault::Power, Fault::Wipe],
            Self::Everything => &FAULTS,
        }
    }
}

/// Lets one thing go wrong, or be repaired.
pub fn strike(world: &mut World, fault: Fault) {
    let nodes = world.all();
    let (one, other) = (world.chance.one_of(&nodes), world.chance.one_of(&nodes));
    let lease = u64::try_from(world.timers.lease.as_micros()).unwrap_or(600_000);
    match fault {
        Fault::Lossy => {
            let quality = Quality {
                is_cut: false,
                loss: world.chance.below(300),
                repeated: world.chance.below(200),
                bent: world.chance.below(30),
                delay: world.chance.between(50, lease / 100),
                jitter: world.chance.below(lease / 8),
            };
            each_path(world, one, other, quality);
        }
        Fault::Cut | Fault::Flap => {
            let is_cut = world.chance.happens(if fault == Fault::Flap { 500 } else { 700 });
            let quality = Quality { is_cut, ..Quality::GOOD };
            match world.chance.below(4) {
                // From everybody.
                0 => nodes.iter().for_each(|node| {
                    each_path(world, one, *node, quality);
                    each_path(world, *node, one, quality);
                }),
                1 => each_path(world, one, other, quality),
                _ => {
                    each_path(world, one, other, quality);
                    each_path(world, other, one, quality);
                }
            }
        }
        Fault::Power if world.stores && world.chance.happens(200) => world.all_lose_power(),
        Fault::Power => {
            if world.machines[&one].node.is_some() {
                world.power_off(one);
            } else {
                world.power_on(one);
            }
        }
        Fault::Witness => {
            let witness = world.witness();
            if world.machines[&witness].node.is_some() {
                world.power_off(witness);
            } else {
                world.power_on(witness);
            }
        }
        Fault::Sleep => {
            let micros = world.chance.between(1_000, 4 * lease);
            world.sleep(one, micros);
        }
        Fault::SlowDisk => {
            let slowest = world.chance.one_of(&[2_000, 20_000, lease / 2, 3 * lease]);
            if let Some(machine) = world.machines.get_mut(&one) {
                machine.flush_max = slowest;
            }
        }
        Fault::BadFlush if world.stores && world.chance.happens(500) => world.bad_flush_of_group(one),
        Fault::BadFlush => {
            if let Some(machine) = world.machines.get_mut(&one) {
                machine.flush_fails = true;
            }
        }
        Fault::Wipe if world.may_wipe(one) => replace_disks(world, one),
        Fault::Fence | Fault::Wipe => {}
    }
}

/// A voter comes back with an empty disk, and an empty log if that is not the only one that has everything.
fn replace_disks(world: &mut World, node: NodeId) {
    let is_spare = world.stores_on(node) && world.leads_elsewhere(node);
    world.power_off(node);
    world.wipe(node);
    if is_spare {
        world.empty_disks(node);
    }
    world.power_on(node);
}

/// Gives the links from `one` to `other` this quality, on one network or both.
fn each_path(world: &mut World, one: NodeId, other: NodeId, quality: Quality) {
    let which = world.chance.below(4);
    for path in Path::ALL {
        let concerned = match path {
            Path::One => which != 0,
            Path::Two => which != 1,
        };
        if concerned {
            world.network.set(one, other, path, quality);
        }
    }
}
