//! Priority quotas from live dependencies: a database gains while its users run, and loses when they are down
//! (S1-41).

use super::TooSmall;
use super::guest::{GuestIndex, Priority};
use super::site::{Site, running_on};

/// What each guest's priority is now. To be made again when a guest begins or ends to run.
#[derive(Clone, Copy, Debug)]
pub struct Priorities<'m>(&'m [Priority]);

impl<'m> Priorities<'m> {
    /// Each guest's own priority, and what it gains by each user that runs.
    ///
    /// A user whose host is being lost still counts as running: it is about to be started again, and must not
    /// find that the database it needs was stopped for a guest that matters less than both. One that waits
    /// for room, or is off, does not count. What a guest gains is not passed on to what it depends on itself:
    /// the operator says that by another dependency, and no circle of guests can raise itself.
    ///
    /// # Errors
    ///
    /// `memory` has not a place for each guest.
    pub fn new<const K: usize>(site: &Site<'_, K>, memory: &'m mut [Priority]) -> Result<Self, TooSmall> {
        let needed = site.description().guests.len();
        let quotas = memory.get_mut(..needed).ok_or(TooSmall { needed })?;
        for (quota, (_, guest)) in quotas.iter_mut().zip(site.guests()) {
            *quota = guest.overrides.priority.unwrap_or(site.description().defaults.priority);
        }
        for dependency in site.description().dependencies {
            let is_live = running_on(site.guest(dependency.user)).is_some();
            if let Some(quota) = quotas.get_mut(usize::from(dependency.on.0)).filter(|_| is_live) {
                quota.0 = quota.0.saturating_add(dependency.gain);
            }
        }
        Ok(Self(quotas))
    }

    /// That of one guest.
    pub fn of(&self, guest: GuestIndex) -> Priority {
        self.0.get(usize::from(guest.0)).copied().unwrap_or_default()
    }
}
