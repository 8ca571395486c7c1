//! What is taken of each host while guests are being placed.

use super::amounts::Amounts;
use super::hosts::{HOSTS_MAX, HostIndex};

/// One host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room<const K: usize> {
    /// What it has for guests.
    pub provided: Amounts<K>,
    /// Of that, what nobody whose turn is still to come may take: placeholders, and guests of this priority
    /// and above that were placed or stay.
    pub settled: Amounts<K>,
    /// What guests have that run there and whose turn is still to come: they may have to go.
    pub standing: Amounts<K>,
    /// What all of them use, as far as is known.
    pub load: Amounts<K>,
    /// What those need that came from elsewhere; as everybody needs something, nothing means nobody.
    pub arrived: Amounts<K>,
}

impl<const K: usize> Room<K> {
    /// What is left for a guest that pushes nobody out.
    pub fn free(&self) -> Amounts<K> {
        self.provided.minus(self.settled.plus(self.standing))
    }

    /// Whether guests that run here have room beside everybody who is settled. Only kinds that the arrivals
    /// need count: of the others nobody took anything from them.
    pub fn keeps(&self, needs: Amounts<K>) -> bool {
        needs.only(self.arrived).fits(self.by_force())
    }

    /// What is left for a guest that may push out everybody whose turn is still to come.
    pub fn by_force(&self) -> Amounts<K> {
        self.provided.minus(self.settled)
    }
}

/// All hosts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rooms<const K: usize>([Room<K>; HOSTS_MAX]);

impl<const K: usize> Rooms<K> {
    /// Hosts that have nothing.
    pub const NONE: Self = Self(
        [Room {
            provided: Amounts::NONE,
            settled: Amounts::NONE,
            standing: Amounts::NONE,
            load: Amounts::NONE,
            arrived: Amounts::NONE,
        }; HOSTS_MAX],
    );

    /// One of them.
    pub fn of(&self, host: HostIndex) -> &Room<K> {
        self.0.get(usize::from(host.0)).expect("a host of a checked site")
    }

    /// The same, to be changed.
    pub fn change(&mut self, host: HostIndex) -> &mut Room<K> {
        self.0.get_mut(usize::from(host.0)).expect("a host of a checked site")
    }
}
