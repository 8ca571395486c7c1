//! What the nodes were told of their site, compared at run time: files that differ are noticed, and cannot
//! make two masters (F54, V40).
//!
//! Every node tells every other one who votes by its configuration, and a digest of all that must be the
//! same. What may differ while a change is rolled out, and why it is safe:
//!
//! - **The length of a lease**: each question carries it. A voter keeps what it granted, and grants nothing
//!   longer than it would remember across a restart ([`Refusal::LeaseTooLong`]).
//! - **The bound on drift**: each node counts by its own clock and the bound on that one clock. The holder
//!   counts less than was promised and the voter more, so neither needs to know the other's bound.
//! - **All other timers** say when to ask, not who may act: wrong ones cost time, never a second master.
//! - **Who votes**, once there is a record: the record names its voters, and those are changed by agreement.
//!
//! What must not differ is who votes while there is *no* record: majorities of two sets need not meet. So a
//! voter without a record listens only to a start that has named the same voters, and nobody asks for a
//! register that it knows no record of while anybody it hears names others.
//!
//! [`Refusal::LeaseTooLong`]: crate::register::message::Refusal::LeaseTooLong

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::machine::{Node, Out};
use super::message::{Office, Said};
use super::settings::{Digest, MEMBERS_MAX, Settings, Unsound, first_pair, start_of};
use super::words::{Action, Note};
use crate::id::{NodeId, PairId};
use crate::link::key::Mark;
use crate::link::ring::Pace;
use crate::register::message::{Ask, Request, Start};
use crate::register::voters::{NotASet, VOTERS_MAX};
use crate::time::Instant;

/// Members that are told in one step.
const AT_ONCE_MAX: usize = 8;

/// Who votes, by configuration.
pub type Named = Vec<NodeId, VOTERS_MAX>;

/// What a node tells of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Of all that must be the same.
    pub digest: Digest,
    /// Its pair.
    pub pair: PairId,
    /// Who votes on the register of that pair.
    pub infra: Named,
    /// Who votes on the controller's register.
    pub controller: Named,
}

/// How the configuration of another node compares with this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is the same.
    Same,
    /// Something differs that may, for a while.
    Differs,
    /// Other voters: nothing can be founded with it.
    OtherVoters,
}

/// What all others told.
#[derive(Clone, Debug)]
pub(super) struct Rosters {
    mine: Roster,
    told: Vec<Told, MEMBERS_MAX>,
    /// When others are told again: a datagram may be lost.
    pub(super) say_at: Instant,
    /// When those who are not watched closely are told, too.
    say_far_at: Instant,
    /// Who comes next in the round under way.
    turn: usize,
}

/// What one of them told.
#[derive(Clone, Copy, Debug)]
struct Told {
    node: NodeId,
    start: Mark,
    found: Match,
    /// It was compared with what this node is told now.
    is_current: bool,
}

impl Roster {
    pub(super) fn of(settings: &Settings) -> Result<Self, Unsound> {
        let pair =
            settings.members.iter().find(|one| one.node == settings.me).ok_or(Unsound::NotAMember)?.pair;
        let voters = |pair| named(settings, pair).map_err(Unsound::Voters);
        let (infra, controller) = (voters(pair)?, voters(first_pair(&settings.members))?);
        Ok(Self { digest: settings.digest, pair, infra, controller })
    }

    /// How it compares with what this node was told: also of a pair that is not its own, whose voter it may
    /// be.
    fn compare(&self, settings: &Settings) -> Match {
        let is_controller_same =
            named(settings, first_pair(&settings.members)).as_ref() == Ok(&self.controller);
        let is_infra_same = named(settings, self.pair).as_ref() == Ok(&self.infra);
        match (is_controller_same && is_infra_same, self.digest == settings.digest) {
            (false, _) => Match::OtherVoters,
            (true, false) => Match::Differs,
            (true, true) => Match::Same,
        }
    }
}

fn named(settings: &Settings, pair: PairId) -> Result<Named, NotASet> {
    let founders = settings.founders(pair)?;
    Ok(founders.iter().map(|voter| voter.node).collect())
}

impl Rosters {
    pub(super) const fn new(now: Instant, mine: Roster) -> Self {
        Self { mine, told: Vec::new(), say_at: now, say_far_at: now, turn: 0 }
    }

    /// Notes what `node` told; what it comes to, when that is news.
    fn take(&mut self, node: NodeId, start: Start, found: Match) -> Option<Match> {
        let told = Told { node, start: Mark(start.0.to_le_bytes()), found, is_current: true };
        if let Some(known) = self.told.iter_mut().find(|known| known.node == node) {
            let before = core::mem::replace(known, told).found;
            return (before != found).then_some(found);
        }
        // One place for each member: there is room.
        let _ = self.told.push(told);
        (found != Match::Same).then_some(found)
    }

    fn of(&self, node: NodeId, start: Option<Start>) -> Option<Match> {
        let told = self.told.iter().find(|told| told.node == node && told.is_current)?;
        (Some(start_of(told.start)) == start).then_some(told.found)
    }

    /// This node is told of its site anew: nothing is compared until the others have told theirs again, and
    /// they learn of it at once.
    pub(super) fn change(&mut self, now: Instant, settings: &Settings) -> Result<(), Unsound> {
        self.mine = Roster::of(settings)?;
        self.told.retain(|told| settings.members.iter().any(|member| member.node == told.node));
        self.told.iter_mut().for_each(|told| told.is_current = false);
        (self.say_at, self.say_far_at, self.turn) = (now, now, 0);
        Ok(())
    }
}

impl<
    const PEERS: usize,
    const PLACES: usize,
    const ANSWERS: usize,
    const POSTS: usize,
    const WORK: usize,
    const ROOM: usize,
    const SHOWN: usize,
> Node<PEERS, PLACES, ANSWERS, POSTS, WORK, ROOM, SHOWN>
{
    /// How the configuration of `node` compares with this node's; `None` before this start of it told.
    pub fn compared(&self, node: NodeId) -> Option<Match> {
        self.rosters.of(node, self.start_of(node))
    }

    #[inline(never)]
    pub(super) fn take_roster(&mut self, from: NodeId, roster: &Roster, out: Out<'_>) {
        let Some(start) = self.start_of(from) else { return };
        let found = roster.compare(self.settings());
        if let Some(found) = self.rosters.take(from, start, found) {
            out(Action::Note(Note::Compared { node: from, found }));
        }
    }

    #[inline(never)]
    pub(super) fn tell_roster(&mut self, to: NodeId, out: Out<'_>) {
        let mut mine = self.rosters.mine.clone();
        // Who votes for every pair tells a node of that node's own.
        if mine.pair == PairId::EVERY
            && let Some(other) = self.settings().members.iter().find(|one| one.node == to)
            && let Ok(infra) = named(self.settings(), other.pair)
        {
            (mine.pair, mine.infra) = (other.pair, infra);
        }
        let said = Said::Roster(mine);
        self.send(to, &said, out);
    }

    /// Tells all, now and then; those who are not watched closely more seldom. In parts: a small processor
    /// that tells a hundred at once hears nobody meanwhile.
    #[inline(never)]
    pub(super) fn tell_rosters(&mut self, now: Instant, out: Out<'_>) {
        if now < self.rosters.say_at {
            return;
        }
        let to_all = self.rosters.say_far_at <= now;
        let end = self.rosters.turn.saturating_add(AT_ONCE_MAX);
        while self.rosters.turn < end {
            let Some(to) = self.settings().members.get(self.rosters.turn).copied() else {
                return self.end_of_rosters(now, to_all);
            };
            self.rosters.turn = self.rosters.turn.saturating_add(1);
            let is_told = to_all
                || match self.settings().pace(self.member(), &to) {
                    Pace::Close => true,
                    // A witness is bound only by those who told it; what it tells itself can wait.
                    Pace::Calm => self.member().side.is_some(),
                    Pace::Far => false,
                };
            if to.node != self.member().node && is_told {
                if to_all {
                    self.tell_health(now, to.node, out);
                }
                self.tell_roster(to.node, out);
            }
        }
    }

    fn end_of_rosters(&mut self, now: Instant, to_all: bool) {
        let every = self.settings().timers.listen;
        self.rosters.turn = 0;
        self.rosters.say_at = now.after(every);
        if to_all {
            self.rosters.say_far_at = now.after(every.saturating_mul(Pace::Far.times()));
        }
    }

    /// Whether this voter may be bound by what `from` asks.
    pub(super) fn may_answer(&self, from: NodeId, request: &Request) -> bool {
        let has_record = self.voter().is_some_and(|voter| voter.has_record(request.register));
        let is_same = matches!(self.compared(from), Some(Match::Same | Match::Differs));
        has_record || (is_same && !self.knows_newer(request)) || !binds(&request.body)
    }

    /// Whether a record is to be accepted that is not the first: this node knows of a newer one. Its voter
    /// lost its disk.
    fn knows_newer(&self, request: &Request) -> bool {
        let Ask::Accept { record, .. } = &request.body else { return false };
        let post = self.posts.iter().find(|post| post.seat.register() == request.register);
        post.and_then(|post| post.seat.known())
            .is_some_and(|known| record.epoch <= known.epoch && record != known)
    }

    /// Whether this node may ask for the register of `office`.
    pub(super) fn may_ask(&self, office: Office, body: &Ask) -> bool {
        let is_heard = |node| self.links().verdict(node).is_alive();
        let others = |node| is_heard(node) && self.compared(node) == Some(Match::OtherVoters);
        let has_record = self.post(office).is_none_or(|post| post.seat().known().is_some());
        has_record || !binds(body) || !self.links().peers().any(others)
    }
}

/// Whether an answer to it is a promise.
const fn binds(body: &Ask) -> bool {
    match body {
        Ask::Prepare { .. } | Ask::Accept { .. } | Ask::Renew(_) => true,
        Ask::Read | Ask::Release { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::timers::Timers;
    use crate::id::{Epoch, Side, SiteId};
    use crate::link::key::{Nonce, SiteKey};
    use crate::node::settings::{Member, infra_register};
    use crate::node::testing::{A, B, S, Site, W};
    use crate::register::ballot::Ballot;
    use crate::register::message::AskId;
    use crate::register::record::Record;
    use crate::register::voters::Life;
    use crate::time::Drift;

    /// Two pairs, a witness each, as `me` was told.
    fn settings(me: u16) -> Settings {
        let member = |node, pair, side| Member { node: NodeId(node), pair: PairId(pair), side, votes: true };
        let pair = |pair, a, b, w| {
            [(a, Some(Side::A)), (b, Some(Side::B)), (w, None)].map(|(n, s)| member(n, pair, s))
        };
        Settings {
            site: SiteId([1; 16]),
            me: NodeId(me),
            nonce: Nonce([0; 16]),
            key: SiteKey::new([7; 32]),
            members: [pair(1, 1, 2, 3), pair(2, 4, 5, 6)].concat().into_iter().collect(),
            timers: Timers::DEFAULT,
            drift: Drift::DEFAULT,
            life: Life(1),
            fences: false,
            relays: heapless::Vec::new(),
            digest: Digest([3; 16]),
            stores: false,
        }
    }

    /// F54: also what a node was told of a pair that is not its own is compared, for it may vote there by the
    /// other's file.
    #[test]
    fn all_pairs_are_compared() {
        let compared = |change: fn(&mut Settings)| {
            let mut theirs = settings(4);
            change(&mut theirs);
            Roster::of(&theirs).unwrap().compare(&settings(3))
        };
        assert_eq!(compared(|_| {}), Match::Same);
        assert_eq!(compared(|theirs| theirs.digest = Digest([4; 16])), Match::Differs);
        // Of pair 2, the one that tells.
        assert_eq!(compared(|theirs| theirs.members[5].node = NodeId(3)), Match::OtherVoters);
        // Of pair 1, whose voters decide who is controller.
        assert_eq!(compared(|theirs| theirs.members[1].votes = false), Match::OtherVoters);
        // A pair that this node does not have.
        let third =
            |theirs: &mut Settings| theirs.members.iter_mut().skip(3).for_each(|one| one.pair = PairId(3));
        assert_eq!(compared(third), Match::OtherVoters);
    }

    /// F54: what an earlier start told, or what was compared with an earlier file, says nothing.
    #[test]
    fn only_what_the_start_that_runs_told_counts() {
        let (peer, first, second) = (NodeId(4), Start(1), Start(2));
        let mut rosters = Rosters::new(Instant::ZERO, Roster::of(&settings(3)).unwrap());
        assert_eq!(rosters.of(peer, Some(first)), None, "it told nothing yet");
        assert_eq!(rosters.take(peer, first, Match::Same), None, "no news");
        for (start, found) in [(Some(first), Some(Match::Same)), (Some(second), None), (None, None)] {
            assert_eq!(rosters.of(peer, start), found, "{start:?} runs");
        }
        rosters.change(Instant::ZERO, &settings(3)).unwrap();
        assert_eq!(rosters.of(peer, Some(first)), None, "this node was told of its site anew");
        assert_eq!(rosters.take(peer, second, Match::OtherVoters), Some(Match::OtherVoters));
        for (start, found) in [(Some(first), None), (Some(second), Some(Match::OtherVoters))] {
            assert_eq!(rosters.of(peer, start), found, "{start:?} runs");
        }
    }

    /// F54: a voter without a record promises nothing to whoever has not named the same voters; what promises
    /// nothing is answered to all, and with a record its voters are known.
    #[test]
    fn a_voter_is_bound_by_those_who_name_the_same_voters() {
        let b_votes_alone: fn(&mut Settings) =
            |theirs| theirs.members.iter_mut().for_each(|one| one.votes = one.node == B);
        let longer_lease: fn(&mut Settings) = |theirs| theirs.digest = Digest([4; 16]);
        let nobody = NodeId(9);
        let promises = |site: &Site, from| {
            [Ask::Prepare { ballot: Ballot::new(1, from), fenced: None }, Ask::Read].map(|body| {
                let request = Request { register: infra_register(PairId(0)), ask: AskId(1), body };
                site.nodes[&W].may_answer(from, &request)
            })
        };
        let mut site = Site::new(&[]);
        site.other.extend([(A, longer_lease), (B, b_votes_alone)]);
        [A, B, W].into_iter().for_each(|node| site.start(node));
        assert_eq!(promises(&site, A), [false, true], "it told nothing yet");
        site.pass(S);
        assert!(site.nodes[&W].voter().unwrap().accepted(infra_register(PairId(0))).is_none());
        for (from, binds) in [(A, true), (B, false), (nobody, false)] {
            assert_eq!(promises(&site, from), [binds, true], "{from:?}");
        }
        site.other.clear();
        site.start(B);
        site.pass(3 * S);
        assert!(site.nodes[&W].voter().unwrap().accepted(infra_register(PairId(0))).is_some());
        assert_eq!(promises(&site, nobody), [true, true], "the record names its voters");
    }

    /// F25, I1: a node whose disk was replaced and that learned of a record since helps to found no other.
    #[test]
    fn a_voter_that_lost_its_disk_accepts_what_follows_the_record_it_knows() {
        let register = infra_register(PairId(0));
        let mut site = Site::new(&[A, B, W]);
        site.pass(3 * S);
        site.nodes.remove(&A);
        site.disks.remove(&B);
        site.other.insert(B, |theirs| theirs.life = Life(99));
        site.start(B);
        site.pass(3 * S);
        let b = &site.nodes[&B];
        let known = b.post(Office::Infra).unwrap().seat().known().unwrap().clone();
        assert!(b.voter().unwrap().accepted(register).is_none());
        let next = Epoch(known.epoch.0 + 1);
        for (epoch, holder, accepts) in
            [(Epoch(1), W, false), (known.epoch, W, false), (known.epoch, A, true), (next, W, true)]
        {
            let record = Record { epoch, holder: Some(holder), ..known.clone() };
            let body = Ask::Accept { ballot: Ballot::new(9, W), record, lease: None, fenced: None };
            let request = Request { register, ask: AskId(1), body };
            assert_eq!(b.may_answer(W, &request), accepts, "{epoch:?} of {holder:?}");
        }
    }
}
