//! What a node says without being asked, when and to whom: what it does, what it was told of the site, and
//! who is to vote (S3-01, X04, F54).

use heapless::Vec;

use super::machine::{Inner, Node, Out, Work, push};
use super::message::{Office, Said};
use super::settings::{MEMBERS_MAX, Member};
use super::words::Action;
use crate::id::NodeId;
use crate::link::ring::Pace;
use crate::link::suspicion::Verdict;
use crate::monitor::alone;
use crate::register::seat;
use crate::time::{Instant, earliest};

/// Heartbeats and hellos that leave in one step.
const AT_ONCE_MAX: usize = 16;

/// When what this node does is said again.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    say_at: Instant,
    /// When those who are not watched closely are told, too.
    say_far_at: Instant,
}

impl Speech {
    pub(super) const fn new(now: Instant) -> Self {
        Self { say_at: now, say_far_at: now }
    }

    /// Peers learn of a new role now, not with the next heartbeat, and all of them at once.
    pub(super) const fn is_news(&mut self, now: Instant) {
        (self.say_at, self.say_far_at) = (now, now);
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
    /// When there is something to say.
    pub(super) fn speaks_at(&self) -> Option<Instant> {
        let say = (!self.posts.is_empty()).then_some(self.speech.say_at);
        earliest([say, Some(self.rosters.say_at)])
    }

    /// Says what is due: who this node is, what it does, and who is to vote.
    #[inline(never)]
    pub(super) fn speak(&mut self, now: Instant, out: Out<'_>) {
        // The first is a constant: what a witness has no room for costs it no code either.
        if POSTS != 0 && self.speech.say_at <= now && !self.posts.is_empty() {
            let (heartbeat, to_all) = (self.settings().timers.heartbeat, self.speech.say_far_at <= now);
            self.speech.say_at = now.after(heartbeat);
            if to_all {
                self.speech.say_far_at = now.after(heartbeat.saturating_mul(Pace::Far.times()));
            }
            self.say(now, to_all, out);
            self.revote(now, out);
        }
        self.tell_rosters(now, out);
        // What is left is still due: whoever has a hundred peers listens between.
        for _ in 0..AT_ONCE_MAX {
            let Some(due) = self.links.next_due(now) else { break };
            out(Action::Send { to: due.to, path: due.path, datagram: due.datagram });
        }
    }

    #[inline(never)]
    pub(super) fn say(&mut self, now: Instant, to_all: bool, out: Out<'_>) {
        for place in 0..self.posts.len() {
            let Some(post) = self.posts.get(place) else { return };
            let said = Said::Saying(post.office, post.saying(now));
            for node in self.candidates(post.office, to_all) {
                self.send(node, &said, out);
            }
        }
    }

    /// Who is told about an office: those watched closely, or all.
    fn candidates(&self, office: Office, all: bool) -> Vec<NodeId, MEMBERS_MAX> {
        let is_other = |one: &&Member| one.side.is_some() && one.node != self.member().node;
        let concerns = |one: &&Member| office == Office::Controller || one.pair == self.member().pair;
        let is_told = |one: &&Member| all || self.settings().pace(self.member(), one) == Pace::Close;
        let all = self.settings().members.iter().filter(is_other).filter(concerns).filter(is_told);
        all.map(|one| one.node).collect()
    }

    /// Has the right voters decide about what this node holds (X04).
    #[inline(never)]
    fn revote(&mut self, now: Instant, out: Out<'_>) {
        let mut work = Work::<WORK>::new();
        for post in &self.posts {
            let (Some(_), Some(record)) = (post.seat.holds(now), post.seat.known()) else { continue };
            let heard = |node| match self.links.verdict(node) {
                Verdict::Up | Verdict::Slow => true,
                Verdict::Silent => false,
                // It is given as long as a master is listened for.
                Verdict::Unknown => now.since(self.started) < self.settings().timers.listen,
            };
            let current = &record.voters.current;
            let wanted = alone::voters(self.settings().me, &post.founders, current, heard);
            let nodes = |set: &crate::register::voters::Set| -> Vec<NodeId, 5> {
                set.iter().map(|v| v.node).collect()
            };
            if nodes(&wanted) != nodes(current) {
                push(&mut work, Inner::Seat(post.office, seat::Event::Revote(wanted)));
            }
        }
        self.drain(now, &mut work, out);
    }
}
