//! The timers that every node of a site uses, as compiled from what the operator wants.

use core::time::Duration;

/// All timers of a site. The same on all its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timers {
    /// How often each peer is told on each path that a node is alive.
    pub heartbeat: Duration,
    /// A peer not heard for longer, or with a longer round trip, is slow.
    pub slow: Duration,
    /// A peer not heard for longer is silent.
    pub silence: Duration,
    /// A silent peer that is heard without a gap for this long is up again.
    pub stable: Duration,
    /// The length of a lease.
    pub lease: Duration,
    /// How often a lease is renewed.
    pub renew: Duration,
    /// How long a phase of a round at a register may take.
    pub answer_max: Duration,
    /// Least pause before another attempt at a register; up to twice as long by chance.
    pub backoff: Duration,
    /// How often those who do not hold a register ask who does.
    pub watch: Duration,
    /// How long an instance listens for a master after its start.
    pub listen: Duration,
    /// How much later each next candidate asks for a register.
    pub stagger: Duration,
    /// How often the start of a missing peer is asked for.
    pub activate: Duration,
    /// How long a fencing device may take.
    pub fence: Duration,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Timers {
    /// A LAN: round trips up to 5 ms, durable writes up to 20 ms, pauses up to 50 ms. Takeover within 1 s.
    pub const DEFAULT: Self = Self {
        heartbeat: ms(75),
        slow: ms(180),
        silence: ms(350),
        stable: ms(600),
        lease: ms(600),
        renew: ms(120),
        answer_max: ms(150),
        backoff: ms(30),
        watch: ms(300),
        listen: ms(700),
        stagger: ms(150),
        activate: ms(3_000),
        fence: ms(30_000),
    };

    /// One rack: round trips up to 1 ms, durable writes up to 5 ms, pauses up to 10 ms. Takeover within 200
    /// ms.
    pub const TIGHT: Self = Self {
        heartbeat: ms(15),
        slow: ms(35),
        silence: ms(90),
        stable: ms(200),
        lease: ms(150),
        renew: ms(22),
        answer_max: ms(35),
        backoff: ms(5),
        watch: ms(60),
        listen: ms(150),
        stagger: ms(35),
        activate: ms(3_000),
        fence: ms(30_000),
    };

    /// Compartments a city apart, or links that are shared: round trips up to 20 ms, one heartbeat in ten
    /// lost.
    pub const WIDE: Self = Self {
        heartbeat: ms(400),
        slow: ms(1_000),
        silence: ms(2_600),
        stable: ms(5_000),
        lease: ms(6_000),
        renew: ms(1_200),
        answer_max: ms(700),
        backoff: ms(100),
        watch: ms(2_400),
        listen: ms(5_000),
        stagger: ms(700),
        activate: ms(15_000),
        fence: ms(60_000),
    };
}
