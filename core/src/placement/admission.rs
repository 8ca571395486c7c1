//! Whether one more guest may be started, why not, and what would help (S3-15 to S3-18, X16).
//!
//! A guest is refused when not everybody would have room after the losses that the policy provides for, even
//! if there is room for it now. Guests count that run or are to run, of one class at a time, and their
//! placeholders. Each change that a refusal names admits the guest by itself: it was tried.
//!
//! This is about room alone. Where a guest's data is, and whom it is kept apart from, may leave it without a
//! host all the same: what [`super::alternates`] says of each loss knows that, too.

use super::amounts::Amounts;
use super::guest::{Guest, GuestIndex, Power, Priority};
use super::hosts::{HOSTS_MAX, HostIndex, HostSet};
use super::priority::Priorities;
use super::site::{ClassId, Site};
use super::slots::{Boxes, Count};

/// Into how many parts a host is cut to find what a guest may need. Boxes that are smaller yet are those of
/// the other guests.
const PARTS_MAX: u64 = 8;

/// What must be survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy<const K: usize> {
    /// How many hosts may be lost at once.
    pub losses: u8,
    /// How guests are counted.
    pub boxes: Boxes<K>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'q, 'a, const K: usize> {
    /// Of which site.
    pub site: &'q Site<'a, K>,
    /// The hosts that guests can run on now.
    pub up: HostSet,
    /// Who may be stopped for whom.
    pub priorities: Priorities<'q>,
    /// What must be survived.
    pub policy: Policy<K>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<const K: usize> {
    /// Everybody has room, with the guest that was asked about.
    Admitted(Count<K>),
    /// Not everybody has.
    Refused(Count<K>, Remedies<K>),
}

/// A change that makes a refused guest admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy<const K: usize> {
    /// A guest that sets the box needs no more than this.
    Shrink {
        /// Which.
        guest: GuestIndex,
        /// What it may need.
        to: Amounts<K>,
    },
    /// Guests that matter less are stopped: the least important first, of equals the last in the list.
    Stop {
        /// How many.
        count: u16,
        /// The last one of them; [`Admission::stopped`] tells the others.
        up_to: GuestIndex,
    },
    /// Hosts are added.
    AddHosts {
        /// How many.
        count: u8,
        /// Like this one: the class has none with more slots.
        like: HostIndex,
    },
    /// Fewer hosts may be lost.
    Tolerate {
        /// How many still may.
        losses: u8,
    },
    /// Small guests are counted in smaller boxes. They must matter less than the others ([`super::slots`]).
    Grade {
        /// Those that need no more than this.
        small: Amounts<K>,
    },
}

/// The changes that help, each by itself; `None`: none of this sort does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedies<const K: usize> {
    /// [`Remedy::Shrink`].
    pub shrink: Option<Remedy<K>>,
    /// [`Remedy::Stop`].
    pub stop: Option<Remedy<K>>,
    /// [`Remedy::AddHosts`].
    pub add_hosts: Option<Remedy<K>>,
    /// [`Remedy::Tolerate`].
    pub tolerate: Option<Remedy<K>>,
    /// [`Remedy::Grade`].
    pub grade: Option<Remedy<K>>,
}

impl<const K: usize> Remedies<K> {
    /// All that there are.
    pub fn iter(self) -> impl Iterator<Item = Remedy<K>> {
        [self.shrink, self.stop, self.add_hosts, self.tolerate, self.grade].into_iter().flatten()
    }
}

impl<'a, const K: usize> Admission<'_, 'a, K> {
    /// Whether a guest may be started beside all that run or are to run; `None`: there is no such guest.
    pub fn of(&self, guest: GuestIndex) -> Option<Verdict<K>> {
        let what = self.site.description().guests.get(usize::from(guest.0))?;
        Some(self.judge(Case { class: self.site.class(what.pool), candidate: Some(guest) }))
    }

    /// Whether all guests of a class that run or are to run still have room: to be asked when hosts have
    /// come or gone (S3-05, S3-18).
    pub fn of_class(&self, class: ClassId) -> Verdict<K> {
        self.judge(Case { class, candidate: None })
    }

    /// Those that [`Remedy::Stop`] stops for a guest that was asked about; `None`: nobody was.
    pub fn stopped(
        &self,
        class: ClassId,
        candidate: Option<GuestIndex>,
        up_to: GuestIndex,
    ) -> impl Iterator<Item = GuestIndex> {
        let all = self.guests(Case { class, candidate }).map(|(guest, _)| guest);
        all.filter(move |guest| Some(*guest) != candidate && self.rank(*guest) <= self.rank(up_to))
    }

    /// The less, the sooner it is stopped.
    fn rank(&self, guest: GuestIndex) -> (Priority, core::cmp::Reverse<GuestIndex>) {
        (self.priorities.of(guest), core::cmp::Reverse(guest))
    }

    fn judge(&self, case: Case) -> Verdict<K> {
        let count = self.count(case, None);
        if count.is_enough() {
            return Verdict::Admitted(count);
        }
        let remedies = Remedies {
            shrink: self.shrink(case, &count),
            stop: self.stop(case),
            add_hosts: self.add_hosts(case, &count),
            tolerate: self.tolerate(case),
            grade: self.grade(case, &count),
        };
        Verdict::Refused(count, remedies)
    }

    /// Guests and slots as they would be after a change.
    fn count(&self, case: Case, change: Option<Remedy<K>>) -> Count<K> {
        let counting = self.hosts(case);
        let goes_on = |guest: GuestIndex| match change {
            Some(Remedy::Stop { up_to, .. }) => {
                case.candidate == Some(guest) || self.rank(up_to) < self.rank(guest)
            }
            Some(Remedy::Shrink { .. } | Remedy::AddHosts { .. }) => true,
            Some(Remedy::Tolerate { .. } | Remedy::Grade { .. }) | None => true,
        };
        let needs = |guest: GuestIndex, now: Amounts<K>| match change {
            Some(Remedy::Shrink { guest: smaller, to }) if smaller == guest => to,
            Some(Remedy::Shrink { .. } | Remedy::Stop { .. } | Remedy::AddHosts { .. }) => now,
            Some(Remedy::Tolerate { .. } | Remedy::Grade { .. }) | None => now,
        };
        let guests = self.guests(case).filter(|(guest, _)| goes_on(*guest));
        let guests = guests.flat_map(|(guest, what)| {
            let own = (guest, needs(guest, what.needs));
            let kept = what.placeholder.filter(|host| counting.has(*host)).map(|_| own);
            core::iter::once(own).chain(kept)
        });
        let (mut boxes, mut losses, mut added) = (self.policy.boxes, self.policy.losses, None);
        match change {
            Some(Remedy::AddHosts { count, like }) => added = Some((usize::from(count), like)),
            Some(Remedy::Tolerate { losses: fewer }) => losses = fewer,
            Some(Remedy::Grade { small }) => boxes = Boxes::Graded(small),
            None | Some(Remedy::Shrink { .. } | Remedy::Stop { .. }) => {}
        }
        let added = added.into_iter().flat_map(|(count, like)| core::iter::repeat_n(like, count));
        let site = self.site;
        let hosts = (0..64).map(HostIndex).filter(move |host| counting.has(*host)).chain(added);
        Count::new(boxes, usize::from(losses), guests, hosts.map(move |host| site.provided(host)))
    }

    fn helps(&self, case: Case, change: Remedy<K>) -> Option<Remedy<K>> {
        self.count(case, Some(change)).is_enough().then_some(change)
    }

    /// The hosts that count.
    fn hosts(&self, case: Case) -> HostSet {
        self.site.hosts_of(case.class).among(self.up)
    }

    /// The guests that count.
    fn guests(&self, case: Case) -> impl Iterator<Item = (GuestIndex, &'a Guest<K>)> {
        let site = self.site;
        site.guests().filter(move |(guest, what)| {
            let counts = what.power != Power::Off || case.candidate == Some(*guest);
            counts && site.class(what.pool) == case.class
        })
    }

    /// Who sets the box, first the guest that is asked about, and how large it may be: as a host, as half of
    /// one, and so on, but no less than all others need.
    fn shrink(&self, case: Case, count: &Count<K>) -> Option<Remedy<K>> {
        let guests = case.candidate.into_iter().chain(count.large.set_by.into_iter().flatten());
        let mut changes = guests.flat_map(|guest| {
            let needs = self.site.guest(guest).needs;
            let others = self.guests(case).filter(move |(other, _)| *other != guest);
            let others = others.fold(Amounts::NONE, |most, (_, what)| most.or_more(what.needs));
            let parts = (1..=PARTS_MAX).flat_map(move |parts| {
                let hosts = self.hosts(case).iter().map(|host| self.site.provided(host));
                hosts.map(move |host| host.part(parts).or_more(others))
            });
            let limits = parts.chain(core::iter::once(others));
            limits.map(move |limit| Remedy::Shrink { guest, to: needs.minus(needs.minus(limit)) })
        });
        let nothing =
            |change: &Remedy<K>| matches!(change, Remedy::Shrink { to, .. } if *to == Amounts::NONE);
        changes.find_map(|change| if nothing(&change) { None } else { self.helps(case, change) })
    }

    /// The fewest guests, of those that matter less than the one that is asked about.
    fn stop(&self, case: Case) -> Option<Remedy<K>> {
        let below = case.candidate.map(|guest| self.priorities.of(guest));
        let is_below = |guest: GuestIndex| below.is_none_or(|most| self.priorities.of(guest) < most);
        let mut last = None;
        for count in 1.. {
            let after_last = |guest: &GuestIndex| last.is_none_or(|last| self.rank(last) < self.rank(*guest));
            let guests = self.guests(case).map(|(guest, _)| guest).filter(|guest| is_below(*guest));
            let up_to = guests.filter(after_last).min_by_key(|guest| self.rank(*guest))?;
            if let Some(found) = self.helps(case, Remedy::Stop { count, up_to }) {
                return Some(found);
            }
            last = Some(up_to);
        }
        None
    }

    /// The fewest hosts like the largest.
    fn add_hosts(&self, case: Case, count: &Count<K>) -> Option<Remedy<K>> {
        let slots = |host: &HostIndex| count.large.capacity.times_in(self.site.provided(*host));
        let like = self.hosts(case).iter().max_by_key(slots)?;
        let room = HOSTS_MAX.saturating_sub(self.site.description().hosts.len());
        let mut counts = (1..).take(room);
        counts.find_map(|count| self.helps(case, Remedy::AddHosts { count, like }))
    }

    /// The most losses.
    fn tolerate(&self, case: Case) -> Option<Remedy<K>> {
        let mut fewer = (0..self.policy.losses).rev();
        fewer.find_map(|losses| self.helps(case, Remedy::Tolerate { losses }))
    }

    /// The largest of those that set no kind of the box.
    fn grade(&self, case: Case, count: &Count<K>) -> Option<Remedy<K>> {
        if self.policy.boxes != Boxes::One {
            return None;
        }
        let set_by = count.large.set_by;
        let others = self.guests(case).filter(|(guest, _)| !set_by.contains(&Some(*guest)));
        let small = others.fold(Amounts::NONE, |most, (_, what)| most.or_more(what.needs));
        if small == Amounts::NONE {
            return None;
        }
        self.helps(case, Remedy::Grade { small })
    }
}

/// Who is counted.
#[derive(Clone, Copy, Debug)]
struct Case {
    class: ClassId,
    candidate: Option<GuestIndex>,
}
