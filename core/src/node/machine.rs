//! The composer: routes what one machine asks for to the one it concerns (X23, rule 20 of the house).

use heapless::{Deque, Vec};

use super::health::History;
use super::message::{Office, Said, decode, encode};
use super::post::Post;
use super::power::{Power, fence_answered};
use super::roster::Rosters;
use super::settings::{MEMBERS_MAX, Member, Settings, start_of};
use super::speech::Speech;
use super::words::{Action, Command, Event, Note};
use crate::id::{NodeId, RegisterId};
use crate::link::links::{Links, Received};
use crate::link::suspicion::Verdict;
use crate::monitor::pair;
use crate::register::acceptor::{self, Acceptor, PersistId, WAITING_MAX};
use crate::register::kept::{ANY_RECORD, room_for};
use crate::register::message::Start;
use crate::register::record::{PAYLOAD_SURE, Payload};
use crate::register::seat;
use crate::register::store::{Owner, Stored};
use crate::time::{Instant, earliest};

/// Registers one voter keeps: two for each of 64 pairs, and the controller's.
pub const REGISTERS: usize = 129;

/// Inner events of one outer one. Only what concerns this node itself is queued, and each of those leads to
/// less than it came from; the walk of the simulator would find a longer chain.
const WORK_MAX: usize = 48;

/// Inner events that one outer one may lead to in all: ten times what the simulator has seen.
const INNER_MAX: usize = 1_000;

pub(super) type Work<const WORK: usize> = Deque<Inner, WORK>;
/// A node that takes no office and writes its votes at once, in the memory of a microcontroller. It decides
/// as any other does (X23).
pub type Witness<const PEERS: usize, const PLACES: usize> =
    Node<PEERS, PLACES, 2, 0, WITNESS_WORK, WITNESS_ROOM, 0>;
/// Inner events of one outer one on a witness: a question to its voter, or news for offices that it lacks.
const WITNESS_WORK: usize = 4;

/// Bytes of a record on a witness: three voters, one more while another takes its place or it comes back in
/// another life, and the in-sync set of a mirror group of two; or three voters, and a set of three. It
/// refuses a longer one: for that record it is as if it were away.
const WITNESS_ROOM: usize = room_for(4, PAYLOAD_SURE);

/// Where a node's actions go, in order.
pub type Out<'a> = &'a mut dyn FnMut(Action);

#[derive(Clone, Debug)]
pub(super) enum Inner {
    Seat(Office, seat::Event),
    Pair(Office, pair::Event),
    Voter(acceptor::Event),
}

/// A node of the site, or a witness, with room for so many peers, registers, answers that wait for a flush,
/// offices, inner events of one outer one, bytes of a record, and peers that are shown to an operator. A full
/// one by default.
#[derive(Clone, Debug)]
pub struct Node<
    const PEERS: usize = MEMBERS_MAX,
    const PLACES: usize = REGISTERS,
    const ANSWERS: usize = WAITING_MAX,
    const POSTS: usize = 3,
    const WORK: usize = WORK_MAX,
    const ROOM: usize = ANY_RECORD,
    const SHOWN: usize = MEMBERS_MAX,
> {
    pub(super) settings: Settings,
    pub(super) me: Member,
    pub(super) started: Instant,
    pub(super) links: Links<PEERS, SHOWN>,
    pub(super) voter: Option<Acceptor<PLACES, ANSWERS, ROOM>>,
    /// None on a witness.
    pub(super) posts: Vec<Post, POSTS>,
    pub(super) power: Power,
    pub(super) speech: Speech,
    pub(super) rosters: Rosters,
    pub(super) history: History,
    /// Votes written since its start.
    pub(super) written: u32,
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
    /// This node's line in the list of members.
    pub const fn member(&self) -> &Member {
        &self.me
    }

    /// All it was told at its start.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The links to its peers.
    pub const fn links(&self) -> &Links<PEERS, SHOWN> {
        &self.links
    }

    /// Its voter, if it votes.
    pub const fn voter(&self) -> Option<&Acceptor<PLACES, ANSWERS, ROOM>> {
        self.voter.as_ref()
    }

    /// Its part in `office`; `None` on a witness.
    pub fn post(&self, office: Office) -> Option<&Post> {
        // A constant: what a witness has no room for costs it no code either.
        if POSTS == 0 {
            return None;
        }
        self.posts.iter().find(|post| post.office == office)
    }

    pub(super) fn post_mut(&mut self, office: Office) -> Option<&mut Post> {
        if POSTS == 0 {
            return None;
        }
        self.posts.iter_mut().find(|post| post.office == office)
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let posts = earliest(self.posts.iter().map(Post::deadline));
        earliest([self.links.deadline(), posts, self.speaks_at(), self.power.deadline()])
    }

    /// Takes one event, and hands what is to be done to `out`, in order.
    pub fn step(&mut self, now: Instant, event: Event<'_>, out: Out<'_>) {
        let mut work = Work::<WORK>::new();
        self.judge(now, &mut work, out);
        let is_failure = matches!(event, Event::PersistFailed);
        match event {
            Event::Received { path, bytes } => match self.links.receive(now, path, bytes) {
                Received::Message { from, message } => self.heard(now, from, message, &mut work, out),
                Received::Handled | Received::Dropped(_) => {}
            },
            Event::Persisted(id) => push(&mut work, Inner::Voter(acceptor::Event::Persisted(id))),
            Event::PersistFailed => {
                push(&mut work, Inner::Voter(acceptor::Event::PersistFailed));
                out(Action::Note(Note::VoterFailed));
            }
            Event::FenceAnswered { fenced, confirmed } => fence_answered(fenced, confirmed, &mut work),
            Event::PowerDone { order, done } => self.power_done(now, order, done, out),
            Event::Command(command) => self.command(now, command, &mut work, out),
            Event::Force(lost) => self.force(&lost, &mut work),
            Event::Storage(event) => self.storage_event(event, &mut work),
            Event::History(history) => self.history = history,
            Event::Timeout => {}
        }
        self.timeouts(now, &mut work);
        self.power_timeout(now, &mut work, out);
        self.drain(now, &mut work, out);
        if is_failure {
            self.tell_all_health(now, out);
        }
        self.speak(now, out);
    }

    /// Judges the peers, and tells the machines whose verdict changed.
    #[inline(never)]
    fn judge(&mut self, now: Instant, work: &mut Work<WORK>, out: Out<'_>) {
        let mut changed = Vec::<(NodeId, Verdict), MEMBERS_MAX>::new();
        self.links.judge(now, |node, verdict| {
            // One change for each peer: there is room.
            let _ = changed.push((node, verdict));
        });
        for (node, verdict) in changed.iter().copied() {
            out(Action::Note(Note::Peer { node, verdict }));
            self.tell_roster(node, out);
            self.tell_health(now, node, out);
            self.each_now(now, pair::Event::Heard { node, alive: verdict.is_alive() }, work, out);
        }
    }

    /// Gives `event` to the rule of every office, at once: there can be as many as there are peers.
    fn each_now(&mut self, now: Instant, event: pair::Event, work: &mut Work<WORK>, out: Out<'_>) {
        if POSTS == 0 {
            return;
        }
        for office in Office::ALL {
            self.pair_step(now, office, event, work, out);
        }
        self.drain(now, work, out);
    }

    #[inline(never)]
    fn heard(&mut self, now: Instant, from: NodeId, message: &[u8], work: &mut Work<WORK>, out: Out<'_>) {
        let Some(said) = decode(message) else { return };
        match said {
            Said::Request(request) if self.may_answer(from, &request) => {
                push(work, Inner::Voter(acceptor::Event::Asked { from, request }));
            }
            // It is asked again, once this start of the asker has told who votes.
            Said::Request(_) => {}
            Said::Roster(roster) => self.take_roster(from, &roster, out),
            Said::Answer(answer) => {
                if let Some(office) = self.office_of(answer.register) {
                    push(work, Inner::Seat(office, seat::Event::Answered { from, answer }));
                }
            }
            Said::Saying(office, saying) => {
                push(work, Inner::Pair(office, pair::Event::Said { node: from, saying }));
            }
            Said::Activate => self.activated(now, from, work, out),
            Said::TakeController => {
                push(work, Inner::Pair(Office::Controller, pair::Event::Promoted { by: from }));
            }
            Said::Take(office) => push(work, Inner::Pair(office, pair::Event::Promoted { by: from })),
            Said::Plea(plea) => self.pleaded(now, from, plea, out),
            Said::PleaAnswered(reply) => self.plea_answered(now, from, reply, work, out),
            Said::Health(health) => out(Action::Note(Note::Health { node: from, health })),
        }
    }

    fn activated(&self, _now: Instant, by: NodeId, work: &mut Work<WORK>, out: Out<'_>) {
        let Some(post) = self.post(Office::Infra) else { return };
        let started = !post.barred && post.pair.role() == pair::Role::Stopped;
        if started {
            push(work, Inner::Pair(Office::Infra, pair::Event::Started));
        }
        out(Action::Note(Note::Activated { by, started }));
    }

    #[inline(never)]
    fn command(&mut self, now: Instant, command: Command, work: &mut Work<WORK>, out: Out<'_>) {
        match command {
            Command::Start(office) => {
                self.bar(office, false);
                push(work, Inner::Pair(office, pair::Event::Started));
            }
            Command::Stop(office) => {
                self.bar(office, true);
                push(work, Inner::Pair(office, pair::Event::Stopped));
            }
            Command::Move { office, to } => self.hand_over(now, office, to, work, out),
            Command::Power { node, want } => self.want_power(now, node, want, work, out),
        }
    }

    /// Gives the operator's word to every seat.
    fn force(&self, lost: &seat::Lost, work: &mut Work<WORK>) {
        for post in &self.posts {
            push(work, Inner::Seat(post.office, seat::Event::Force(lost.clone())));
        }
    }

    fn hand_over(&mut self, now: Instant, office: Office, to: NodeId, work: &mut Work<WORK>, out: Out<'_>) {
        let Some(post) = self.post(office).filter(|post| post.seat.holds(now).is_some()) else { return };
        if to == self.settings.me || !self.settings.is_candidate(to, post.register()) {
            return;
        }
        push(work, Inner::Pair(office, pair::Event::Yield));
        self.drain(now, work, out);
        self.say(now, true, out);
        let said = match office {
            Office::Infra | Office::Storage => Said::Take(office),
            Office::Controller => Said::TakeController,
        };
        self.send(to, &said, out);
    }

    fn bar(&mut self, office: Office, barred: bool) {
        if let Some(post) = self.post_mut(office) {
            post.barred = barred;
        }
    }

    fn timeouts(&self, now: Instant, work: &mut Work<WORK>) {
        for post in &self.posts {
            if post.seat.deadline() <= now {
                push(work, Inner::Seat(post.office, seat::Event::Timeout));
            }
            if post.pair.deadline().is_some_and(|at| at <= now) {
                push(work, Inner::Pair(post.office, pair::Event::Timeout));
            }
        }
    }

    /// Carries out what is queued, and what that leads to.
    pub(super) fn drain(&mut self, now: Instant, work: &mut Work<WORK>, out: Out<'_>) {
        for _ in 0..INNER_MAX {
            let Some(inner) = work.pop_front() else { return };
            self.inner(now, inner, work, out);
        }
        panic!("the machines of this node answer each other without end");
    }

    fn inner(&mut self, now: Instant, inner: Inner, work: &mut Work<WORK>, out: Out<'_>) {
        match inner {
            Inner::Voter(event) => self.voter_step(now, event, work, out),
            Inner::Seat(office, event) => self.seat_step(now, office, event, work, out),
            Inner::Pair(office, event) => self.pair_step(now, office, event, work, out),
        }
    }

    #[inline(never)]
    fn voter_step(&mut self, now: Instant, event: acceptor::Event, work: &mut Work<WORK>, out: Out<'_>) {
        let owner = Owner { site: self.settings.site, node: self.settings.me, life: self.settings.life };
        let Some(voter) = &mut self.voter else { return };
        // By reference: a move is a copy, and they are large.
        for action in voter.step(now, event).iter() {
            match action {
                acceptor::Action::Persist { id, place, stored } => {
                    self.written = self.written.saturating_add(1);
                    persist(*id, *place, stored, &owner, out);
                }
                acceptor::Action::Answer { to, answer } if *to == self.settings.me => {
                    if let Some(office) = self.office_of(answer.register) {
                        let answer = answer.clone();
                        push(work, Inner::Seat(office, seat::Event::Answered { from: *to, answer }));
                    }
                }
                acceptor::Action::Answer { to, answer } => {
                    self.send(*to, &Said::Answer(answer.clone()), out);
                }
            }
        }
    }

    #[inline(never)]
    fn seat_step(
        &mut self,
        now: Instant,
        office: Office,
        event: seat::Event,
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        let me = self.settings.me;
        let Some(post) = self.post_mut(office) else { return };
        let before = post.seat.mode().name();
        let actions = post.seat.step(now, event);
        if let seat::Mode::Pausing { wait: seat::Wait::Lease(lease), .. } = post.seat.mode()
            && before != post.seat.mode().name()
        {
            push(work, Inner::Pair(office, pair::Event::Leased(*lease)));
        }
        // By reference: a move is a copy, and they are large.
        for action in actions.iter() {
            match action {
                // Nothing is founded against what another node was told: the attempt fails, and is repeated.
                seat::Action::Ask { request, .. } if !self.may_ask(office, &request.body) => {}
                seat::Action::Ask { request, .. } if self.keeps_silent(now, office, &request.body) => {}
                seat::Action::Ask { to, request } if *to == me => {
                    let request = request.clone();
                    push(work, Inner::Voter(acceptor::Event::Asked { from: me, request }));
                }
                seat::Action::Ask { to, request } => self.send(*to, &Said::Request(request.clone()), out),
                seat::Action::Decide { current } if office == Office::Storage => {
                    self.ask_group(current.as_ref(), out);
                }
                // The other offices keep no data in their registers: whoever may ask for one may take it.
                seat::Action::Decide { .. } => {
                    let verdict = seat::Verdict::Take(Payload::new());
                    push(work, Inner::Seat(office, seat::Event::Decided(verdict)));
                }
                seat::Action::Held(record) => {
                    push(work, Inner::Pair(office, pair::Event::Held(record.epoch)));
                    self.tell_group_held(now, office, record, out);
                }
                seat::Action::Lost(why) => {
                    push(work, Inner::Pair(office, pair::Event::Lost(*why)));
                    self.tell_group_lost(office, out);
                }
                seat::Action::Seen(_) => {}
            }
        }
        self.tell_group_lease(office, out);
        self.tell(office, out);
    }

    /// Notes a new holder or new voters.
    fn tell(&mut self, office: Office, out: Out<'_>) {
        let Some(post) = self.post_mut(office) else { return };
        let Some(record) = post.seat.known() else { return };
        let (epoch, set) = (record.epoch, &record.voters.current);
        if let Some(holder) = record.holder
            && post.told.is_none_or(|(_, told)| told != holder)
        {
            post.told = Some((epoch, holder));
            out(Action::Note(Note::Holder { office, epoch, holder }));
        }
        let nodes =
            |set: &crate::register::voters::Set| -> Vec<NodeId, 5> { set.iter().map(|v| v.node).collect() };
        if post.told_voters.as_ref().is_none_or(|told| nodes(told) != nodes(set)) {
            post.told_voters = Some(set.clone());
            out(Action::Note(Note::Voters { office, epoch, voters: set.clone() }));
        }
    }

    #[inline(never)]
    fn pair_step(
        &mut self,
        now: Instant,
        office: Office,
        event: pair::Event,
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        let Some(post) = self.post_mut(office) else { return };
        for action in post.pair.step(now, event) {
            match action {
                pair::Action::Hold => push(work, Inner::Seat(office, seat::Event::Want(seat::Wish::Hold))),
                pair::Action::Follow => {
                    push(work, Inner::Seat(office, seat::Event::Want(seat::Wish::Follow)))
                }
                pair::Action::Role { role, reason } => {
                    out(Action::Role { office, role, reason });
                    self.speech.is_news(now);
                }
                pair::Action::Activate { node } => {
                    out(Action::Note(Note::Activating { node }));
                    match self.links.verdict(node).is_alive() {
                        true => self.send(node, &Said::Activate, out),
                        false => self.power_on(now, node, work, out),
                    }
                }
                pair::Action::Fence(fenced) => self.fence(now, office, fenced, work, out),
            }
        }
    }

    #[inline(never)]
    pub(super) fn send(&mut self, to: NodeId, said: &Said, out: Out<'_>) {
        // Without a session nobody is there: what is asked is asked again, what is answered was asked.
        if let Ok(datagram) = self.links.seal(to, &encode(said)) {
            out(Action::Send { to, path: None, datagram });
        }
    }

    fn office_of(&self, register: RegisterId) -> Option<Office> {
        self.posts.iter().find(|post| post.register() == register).map(|post| post.office)
    }

    /// The start of `node` that this node speaks with, as voters know it.
    pub fn start_of(&self, node: NodeId) -> Option<Start> {
        self.links.start_of(node).map(start_of)
    }
}

/// Has a register written. Apart: its bytes lie on the stack only while they are written.
#[inline(never)]
fn persist(id: PersistId, place: u16, stored: &Stored, owner: &Owner, out: Out<'_>) {
    out(Action::Persist { id, place, bytes: stored.encode(owner) });
}

/// Queues an inner event.
pub(super) fn push<const WORK: usize>(work: &mut Work<WORK>, inner: Inner) {
    let pushed = work.push_back(inner).is_ok();
    assert!(pushed, "one event led to more inner ones than its documented bound");
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
