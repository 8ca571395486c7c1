//! What a search found: where each guest is to run, how that was found, who had to go for whom, and why a
//! guest stays down (S1-40, X17).

use super::amounts::{Amounts, Kind};
use super::guest::{Guest, GuestIndex};
use super::hosts::{HOSTS_MAX, HostIndex, HostSet};
use super::memory::{Decision, Fate};
use super::search::Question;
use super::site::running_on;
use super::steps::{Found, possible};

/// How good a placement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// There is no better one.
    Exact,
    /// It is the best one that was found before the steps were used up.
    BestFound,
}

/// What becomes of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not to run.
    Off,
    /// Its host is lost, and the operator does not want it started elsewhere (S3-13).
    Unprotected,
    /// It goes on where it runs.
    Stays(HostIndex),
    /// It had no host, and gets this one.
    Starts {
        /// Where.
        on: HostIndex,
        /// By which step.
        found: Found,
    },
    /// Guests that matter more need its host; it gets another one (S4-18).
    Moves {
        /// Where to.
        on: HostIndex,
        /// By which step.
        found: Found,
        /// For whom.
        by: GuestIndex,
    },
    /// Guests that matter more need its host, and there is no other one for it.
    Preempted {
        /// By whom.
        by: GuestIndex,
        /// Why nowhere else.
        why: Why,
    },
    /// It had no host, and gets none until there is more room: it is tried again with every search (S3-14).
    Down(Why),
}

/// Why there is no host for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No host that is up may run it.
    NoHost {
        /// Hosts of its class.
        of_class: u32,
        /// Of those, up.
        up: u32,
        /// Of those, with its data, on its site.
        reached: u32,
    },
    /// It would not fit on any of the hosts that may run it if they were empty.
    TooLarge {
        /// The host that lacks least.
        host: HostIndex,
        /// What it lacks most.
        kind: Kind,
        /// How much of that.
        lacks: u64,
    },
    /// On every host with room for it there is one of those that it is kept apart from.
    Apart {
        /// Such a host.
        host: HostIndex,
        /// Who is there.
        sibling: GuestIndex,
    },
    /// The hosts that may run it are full of guests that matter as much or more, and of placeholders.
    Full {
        /// The host that lacks least.
        host: HostIndex,
        /// What it lacks most.
        kind: Kind,
        /// How much of that.
        lacks: u64,
    },
}

/// Where every guest is to run.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'q, 'a, const K: usize> {
    question: Question<'q, 'a, K>,
    fates: &'q [Fate],
    certainty: Certainty,
    steps: u64,
}

impl<'q, 'a, const K: usize> Placement<'q, 'a, K> {
    pub(super) const fn new(
        question: Question<'q, 'a, K>,
        fates: &'q [Fate],
        certainty: Certainty,
        steps: u64,
    ) -> Self {
        Self { question, fates, certainty, steps }
    }

    /// How good it is.
    pub const fn certainty(&self) -> Certainty {
        self.certainty
    }

    /// How many steps it took.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The host that a guest is to run on; `None`: on none, or there is no such guest.
    pub fn host_of(&self, guest: GuestIndex) -> Option<HostIndex> {
        let fate = self.fates.get(usize::from(guest.0))?;
        match fate.best {
            Decision::Stays => running_on(self.question.site.guest(guest)),
            Decision::On { host, .. } => Some(host),
            Decision::Out | Decision::Pending | Decision::Down => None,
        }
    }

    /// What becomes of a guest; `None`: there is no such guest.
    pub fn of(&self, guest: GuestIndex) -> Option<Outcome> {
        let fate = self.fates.get(usize::from(guest.0))?;
        let what = self.question.site.guest(guest);
        let ran_on = running_on(what);
        let displaced_from = ran_on.filter(|host| self.question.up.has(*host));
        let outcome = match (fate.best, displaced_from.and_then(|host| self.pusher(guest, host))) {
            (Decision::Out | Decision::Pending, _) if ran_on.is_some() => Outcome::Unprotected,
            (Decision::Out | Decision::Pending, _) => Outcome::Off,
            (Decision::Stays, _) => Outcome::Stays(ran_on?),
            (Decision::On { host: on, found }, Some(by)) => Outcome::Moves { on, found, by },
            (Decision::On { host: on, found }, None) => Outcome::Starts { on, found },
            (Decision::Down, Some(by)) => Outcome::Preempted { by, why: self.why(guest, what) },
            (Decision::Down, None) => Outcome::Down(self.why(guest, what)),
        };
        Some(outcome)
    }

    /// All guests, and what becomes of them.
    pub fn outcomes(&self) -> impl Iterator<Item = (GuestIndex, Outcome)> {
        self.question.site.guests().filter_map(|(guest, _)| Some((guest, self.of(guest)?)))
    }

    /// Who took the room of a guest on a host: a sibling; else who came by pre-emption; else who matters
    /// most.
    fn pusher(&self, guest: GuestIndex, host: HostIndex) -> Option<GuestIndex> {
        let Question { site, priorities, .. } = self.question;
        let what = site.guest(guest);
        let above = site.guests().filter(|(other, _)| priorities.of(guest) < priorities.of(*other));
        let arrived = above.filter_map(|(other, of)| match self.fates.get(usize::from(other.0))?.best {
            Decision::On { host: on, found } if on == host => {
                let is_sibling = what.apart.is_some() && of.apart == what.apart;
                Some((is_sibling, found.is_preemption(), priorities.of(other), other))
            }
            Decision::On { .. } | Decision::Out | Decision::Pending | Decision::Stays | Decision::Down => {
                None
            }
        });
        arrived.max().map(|(.., other)| other)
    }

    fn why(&self, guest: GuestIndex, what: &Guest<K>) -> Why {
        let Question { site, up, .. } = self.question;
        let possible = possible(site, up, what);
        let of_class = site.hosts_of(site.class(what.pool));
        let nowhere = Why::NoHost {
            of_class: of_class.count(),
            up: of_class.among(up).count(),
            reached: possible.count(),
        };
        if !possible.iter().any(|host| what.needs.fits(site.provided(host))) {
            let least = self.least_short(what, possible, |host| site.provided(host));
            return least.map_or(nowhere, |(host, kind, lacks)| Why::TooLarge { host, kind, lacks });
        }
        let free = self.free_of_lower(guest);
        let free = |host: HostIndex| free.get(usize::from(host.0)).copied().unwrap_or(Amounts::NONE);
        let with_room = possible.iter().find(|host| what.needs.fits(free(*host)));
        if let Some(host) = with_room
            && let Some(sibling) = self.sibling_on(guest, what, host)
        {
            return Why::Apart { host, sibling };
        }
        let least = self.least_short(what, possible, free);
        least.map_or(nowhere, |(host, kind, lacks)| Why::Full { host, kind, lacks })
    }

    /// The host that lacks the smallest share of what a guest needs.
    fn least_short(
        &self,
        what: &Guest<K>,
        hosts: HostSet,
        room: impl Fn(HostIndex) -> Amounts<K>,
    ) -> Option<(HostIndex, Kind, u64)> {
        let short = hosts.iter().filter_map(|host| Some((host, what.needs.shortage(room(host))?)));
        let least = short.min_by_key(|(_, shortage)| shortage.permille)?;
        Some((least.0, least.1.kind, least.1.lacks))
    }

    /// Of each host, what is left if all guests go that matter less than this one. What is kept for somebody
    /// stays his, also when he has just come to it.
    fn free_of_lower(&self, guest: GuestIndex) -> [Amounts<K>; HOSTS_MAX] {
        let Question { site, up, priorities, .. } = self.question;
        let mut free = [Amounts::NONE; HOSTS_MAX];
        let hosts = || site.hosts().iter();
        for (free, host) in free.iter_mut().zip(hosts()) {
            *free = site.provided(host);
        }
        let mut take = |host: HostIndex, needs: Amounts<K>| {
            if let Some(free) = free.get_mut(usize::from(host.0)) {
                *free = free.minus(needs);
            }
        };
        for (other, what) in site.guests() {
            let fate = self.fates.get(usize::from(other.0));
            let takes_part = fate.is_some_and(|fate| fate.best != Decision::Out);
            let kept = what.placeholder.filter(|host| takes_part && up.has(*host));
            let is_stronger = priorities.of(guest) <= priorities.of(other);
            let on = self.host_of(other).filter(|host| is_stronger && kept != Some(*host));
            for host in [kept, on].into_iter().flatten() {
                take(host, what.needs);
            }
        }
        free
    }

    /// Whom a guest is kept apart from on a host.
    fn sibling_on(&self, guest: GuestIndex, what: &Guest<K>, host: HostIndex) -> Option<GuestIndex> {
        let group = what.apart?;
        let others =
            self.question.site.guests().filter(|(other, of)| *other != guest && of.apart == Some(group));
        let mut there =
            others.filter(|(other, of)| self.host_of(*other) == Some(host) || of.placeholder == Some(host));
        there.next().map(|(other, _)| other)
    }
}
