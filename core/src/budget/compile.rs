//! From what is wanted to the timers: as patient as the recovery time allows, or a refusal with the reason
//! (X06).

use core::time::Duration;

use super::demand::Demand;
use super::rules::Broken;
use super::timers::Timers;
use crate::time::micros;

/// No lease is longer: whoever waits for one that nobody renews should not give up hope.
const LEASE_MAX: Duration = Duration::from_secs(30);

/// What stretching three times may add by rounding up to whole microseconds, generously.
const ROUNDING: Duration = Duration::from_micros(10);

/// The timers for `demand`.
///
/// # Errors
///
/// The first inequality that cannot be had. A longer recovery time, or a better network, disk or processor,
/// is what helps.
pub fn compile(demand: &Demand) -> Result<Timers, Broken> {
    let phase = whole(demand.phase());
    let backoff = whole(demand.round_trip.saturating_mul(2)).max(Duration::from_millis(2));
    // What is left of the recovery time when a round, an attempt in vain and a round trip are taken off.
    let round = phase
        .saturating_mul(2)
        .saturating_add(demand.drift.at_longest(backoff.saturating_mul(2)))
        .saturating_add(demand.round_trip);
    let free = demand.recovery_time.saturating_sub(round).saturating_sub(ROUNDING);
    // A takeover stretches the lease by the drift three times; `at_most` shrinks by a little more than that.
    let shrunk = (0..3).fold(free, |time, _| demand.drift.at_most(time));
    let lease = floor(shrunk).min(LEASE_MAX);
    let counted = demand.drift.at_most(lease);
    let overhead = demand.round_trip.saturating_add(demand.pause.saturating_mul(2));
    let renew = part(counted.saturating_sub(overhead), 3);
    let silence = part(lease.saturating_mul(6), 10);
    let unheard = silence.saturating_sub(demand.pause).saturating_sub(demand.round_trip);
    let heartbeat = part(unheard, demand.losses().saturating_add(1).max(3));
    let slow =
        heartbeat.saturating_mul(2).saturating_add(part(heartbeat, 4)).saturating_add(demand.round_trip);
    let listen = silence.saturating_mul(2);
    let timers = Timers {
        heartbeat,
        slow: whole(slow),
        silence,
        stable: silence.saturating_mul(2),
        lease,
        renew,
        answer_max: phase.saturating_mul(2),
        backoff,
        watch: renew.saturating_mul(2),
        listen,
        stagger: phase.saturating_mul(2),
        activate: listen.saturating_mul(3).max(Duration::from_secs(3)),
        fence: demand.fence.unwrap_or(Timers::DEFAULT.fence),
    };
    timers.check(demand).map(|()| timers)
}

/// Up to the next millisecond.
fn whole(time: Duration) -> Duration {
    Duration::from_millis(micros(time).div_ceil(1_000))
}

/// Down to the millisecond: leases travel in milliseconds.
fn floor(time: Duration) -> Duration {
    Duration::from_millis(micros(time) / 1_000)
}

/// One of `count` parts, down to the millisecond.
fn part(time: Duration, count: u32) -> Duration {
    floor(time.checked_div(count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Drift;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn demands() -> impl Strategy<Value = Demand> {
        let times = (1_u64..20_000, 0_u64..200, 0_u64..300, 0_u64..300);
        (times, 0_u32..100_001, 0_u32..301).prop_map(|((rto, trip, persist, pause), ppm, loss_permille)| {
            Demand {
                recovery_time: MS(rto),
                drift: Drift::from_ppm(ppm).unwrap(),
                round_trip: MS(trip),
                loss_permille,
                persist: MS(persist),
                pause: MS(pause),
                fence: None,
            }
        })
    }

    proptest! {
        /// What is compiled satisfies everything; what is refused names what cannot be had.
        #[test]
        fn a_compiled_set_satisfies_every_inequality(demand in demands()) {
            match compile(&demand) {
                Ok(timers) => prop_assert_eq!(timers.check(&demand), Ok(())),
                Err(broken) => prop_assert!(broken.found < broken.needed),
            }
        }

        /// Who gives twice the time it takes gets timers.
        #[test]
        fn enough_time_is_enough(demand in demands()) {
            let phase = demand.phase() + demand.round_trip + MS(10);
            let losses = demand.losses() + 4;
            let recovery_time = (phase * 20 + demand.pause * losses + MS(20) * losses) * 2;
            let broken = compile(&Demand { recovery_time, ..demand }).err();
            prop_assert_eq!(broken, None);
        }
    }

    /// The named sets keep what they promise: under a second, under 200 ms.
    #[test]
    fn the_named_sets_satisfy_their_demands() {
        assert_eq!(Timers::DEFAULT.check(&Demand::LAN), Ok(()));
        assert_eq!(Timers::TIGHT.check(&Demand::RACK), Ok(()));
        assert_eq!(Timers::WIDE.check(&Demand::METRO), Ok(()));
    }

    /// X06: a lease granted just before the master died, kept by the slowest voter; the next one hears at any
    /// moment what is left and counts it by the slowest clock. Whatever that takes was in the calculation.
    #[test]
    fn no_pair_of_slow_clocks_outlasts_the_takeover() {
        for ppm in [0, 1, 1_000, 10_000, 100_000] {
            let drift = Drift::from_ppm(ppm).unwrap();
            let demand = Demand { drift, recovery_time: MS(5_000), ..Demand::LAN };
            let timers = compile(&demand).unwrap();
            let (million, ppm) = (1_000_000_u128, u128::from(ppm));
            let kept = u128::from(micros(drift.at_least(timers.lease)));
            for percent in 0..=100 {
                // The voter's clock shows this much when it is asked; true time is own time / rate.
                let shown = kept * percent / 100;
                let asked_at = shown * million / (million - ppm);
                let left = Duration::from_micros(u64::try_from(kept - shown).unwrap());
                let waited = u128::from(micros(drift.at_least(left))) * million / (million - ppm);
                let rounds = u128::from(micros(demand.phase() * 2 + demand.round_trip));
                let taken = asked_at + waited + rounds;
                assert!(taken <= u128::from(micros(timers.takeover(&demand))), "{ppm} ppm, {percent} %");
            }
            assert!(timers.takeover(&demand) <= demand.recovery_time);
        }
    }

    /// Each inequality fires when the timer it is about is spoiled.
    #[test]
    fn a_spoiled_timer_is_refused_by_its_rule() {
        let spoil = |change: fn(&mut Timers)| {
            let mut timers = Timers::DEFAULT;
            change(&mut timers);
            timers.check(&Demand::LAN).map_err(|broken| broken.rule.split(' ').next().unwrap()).unwrap_err()
        };
        assert_eq!(spoil(|timers| timers.heartbeat = Duration::ZERO), "heartbeat");
        assert_eq!(spoil(|timers| timers.heartbeat = MS(90)), "slow");
        assert_eq!(spoil(|timers| timers.slow = MS(350)), "silence");
        assert_eq!(spoil(|timers| timers.silence = MS(270)), "silence");
        assert_eq!(spoil(|timers| timers.stable = MS(300)), "stable");
        assert_eq!(spoil(|timers| timers.answer_max = MS(70)), "answer");
        assert_eq!(spoil(|timers| timers.lease = MS(340)), "lease");
        assert_eq!(spoil(|timers| timers.watch = MS(100)), "watch");
        assert_eq!(spoil(|timers| timers.backoff = MS(4)), "pause");
        assert_eq!(spoil(|timers| timers.listen = MS(400)), "listening");
        assert_eq!(spoil(|timers| timers.stagger = MS(100)), "turn");
        assert_eq!(spoil(|timers| timers.activate = MS(100)), "activation");
        assert_eq!(spoil(|timers| timers.fence = MS(100)), "fencing");
        assert_eq!(spoil(|timers| timers.lease = MS(900)), "recovery");
    }
}
