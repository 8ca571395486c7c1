//! Why a seat waits before it tries again, and for how long (X14, V11).

use core::time::Duration;

use super::{Mode, Seat, Wait};
use crate::register::message::{Leased, Refusal};
use crate::time::Instant;

/// How much longer a seat waits in the end for a machine above that leaves the register, in watches. Each
/// attempt is a write on the disk of every voter, and whoever may not lead may not lead for days.
const PATIENCE_MAX: u32 = 64;

impl Seat {
    pub(super) fn refused(&mut self, now: Instant, refusal: Refusal) {
        let wait = match refusal {
            Refusal::Leased(lease) => Wait::Lease(lease),
            Refusal::Outbid { .. } | Refusal::OldEpoch { .. } | Refusal::NotHolder { .. } => Wait::Turn,
            Refusal::LeaseTooLong { .. } | Refusal::Full => Wait::Majority,
        };
        self.pause(now, wait);
    }

    pub(super) fn pause(&mut self, now: Instant, wait: Wait) {
        let pause = match wait {
            // What is left was counted by the voter; a little later both clocks agree that it is over.
            Wait::Lease(lease) => {
                let left = self.fresh_for(&lease).unwrap_or(lease.left.duration());
                self.settings.drift.at_least(left).max(self.chance_backoff())
            }
            Wait::Turn | Wait::Majority => self.chance_backoff(),
            Wait::Verdict => self.patience(),
        };
        self.enter(Mode::Pausing { until: now.after(pause), wait });
    }

    /// For how long a lease cannot count as stale yet. Then the voters are asked again: a fence ends the wait
    /// sooner than the lease does, but a holder that renews it must not be fenced.
    fn fresh_for(&self, lease: &Leased) -> Option<Duration> {
        let stale = self.settings.lease.saturating_sub(self.settings.stale?);
        Some(lease.left.duration().saturating_sub(stale)).filter(|fresh| !fresh.is_zero())
    }

    fn chance_backoff(&mut self) -> Duration {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let extra = crate::time::micros(self.settings.backoff).saturating_mul(self.chance & 0xff) / 256;
        self.settings.backoff.saturating_add(Duration::from_micros(extra))
    }

    /// Twice as long with every time, so that a machine that comes to its senses late has waited at most as
    /// long again.
    fn patience(&mut self) -> Duration {
        let watches = 1_u32.checked_shl(self.left_alone).unwrap_or(PATIENCE_MAX).min(PATIENCE_MAX);
        self.left_alone = self.left_alone.saturating_add(1);
        self.settings.watch.saturating_mul(watches).saturating_add(self.chance_backoff())
    }
}
