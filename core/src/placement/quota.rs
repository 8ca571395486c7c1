//! Provider quotas as they stand: what a pool has, and what of it is of use to any guest (S1-38).

use super::amounts::Amounts;
use super::guest::{GuestIndex, PoolIndex, Power};
use super::hosts::{HostIndex, HostSet};
use super::site::{Site, running_on};

/// A pool, by amounts. What is taken, free and left over is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<const K: usize> {
    /// What its hosts that are up have for guests.
    pub provided: Amounts<K>,
    /// What guests and placeholders have.
    pub taken: Amounts<K>,
    /// What is left on hosts on which there is room for some guest of the class.
    pub free: Amounts<K>,
    /// What is left on the others: remnants, too small for any guest, which do not count.
    pub remnants: Amounts<K>,
}

/// The quota of a pool; `None`: there is no such pool.
pub fn of_pool<const K: usize>(site: &Site<'_, K>, up: HostSet, pool: PoolIndex) -> Option<Quota<K>> {
    let class = site.description().pools.get(usize::from(pool.0))?.class;
    let none = Amounts::NONE;
    let mut quota = Quota { provided: none, taken: none, free: none, remnants: none };
    for host in site.hosts().among(up).iter().filter(|host| site.host(*host).pool == pool) {
        let (provided, taken) = (site.provided(host), taken(site, host));
        let left = provided.minus(taken);
        let mut of_class = site.guests().filter(|(_, guest)| site.class(guest.pool) == class).peekable();
        let is_any = of_class.peek().is_none();
        let counts = is_any || of_class.any(|(_, guest)| guest.hosts.has(host) && guest.needs.fits(left));
        let place = if counts { &mut quota.free } else { &mut quota.remnants };
        *place = place.plus(left);
        quota.provided = quota.provided.plus(provided);
        quota.taken = quota.taken.plus(taken);
    }
    Some(quota)
}

/// What of a pool a guest takes, in thousandths of what its hosts that are up provide, of the kind of which
/// it takes most; `None`: there is no such guest.
pub fn share<const K: usize>(site: &Site<'_, K>, up: HostSet, guest: GuestIndex) -> Option<u64> {
    let guest = site.description().guests.get(usize::from(guest.0))?;
    let quota = of_pool(site, up, guest.pool)?;
    Some(guest.needs.share_of(quota.provided))
}

/// What guests and placeholders have of a host.
fn taken<const K: usize>(site: &Site<'_, K>, host: HostIndex) -> Amounts<K> {
    let there = site.guests().filter(|(_, guest)| {
        let is_kept = guest.placeholder == Some(host) && guest.power != Power::Off;
        is_kept || running_on(guest) == Some(host)
    });
    there.fold(Amounts::NONE, |sum, (_, guest)| sum.plus(guest.needs))
}
