//! How a node starts: its settings are looked at, and all machines begin (F54, X03).

use heapless::Vec;

use super::health::History;
use super::machine::Node;
use super::message::Office;
use super::post::Post;
use super::power::Power;
use super::roster::Rosters;
use super::settings::{CONTROLLER, Member, Settings, Unsound, first_pair, infra_register};
use super::speech::Speech;
use crate::link::links::{self, Links};
use crate::link::suspicion::Limits;
use crate::monitor::pair;
use crate::register::acceptor::{self, Acceptor};
use crate::register::message::Start;
use crate::register::seat::{self, Seat};
use crate::register::store::Stored;
use crate::time::Instant;

/// Settings that make a node.
#[derive(Clone, Debug)]
pub struct Sound {
    settings: Settings,
    me: Member,
    rosters: Rosters,
}

impl<const PEERS: usize, const PLACES: usize, const ANSWERS: usize, const POSTS: usize, const WORK: usize>
    Node<PEERS, PLACES, ANSWERS, POSTS, WORK>
{
    /// A node that has just started, with what its voter's disk holds. Its offices are stopped until a
    /// [`Command::Start`].
    ///
    /// # Errors
    ///
    /// [`Unsound`] settings.
    pub fn new(
        now: Instant,
        settings: Settings,
        stored: impl IntoIterator<Item = Stored>,
    ) -> Result<Self, Unsound> {
        let sound = Self::sound(now, settings)?;
        let mut node = Self::begin(now, sound, stored);
        if node.me.side.is_some() && POSTS != 0 {
            for office in Office::ALL {
                let post = node.post_for(now, office)?;
                // One post for each office: there is room.
                let _ = node.posts.push(post);
            }
        }
        Ok(node)
    }

    /// Settings that make a node of this size.
    ///
    /// # Errors
    ///
    /// [`Unsound`] settings.
    pub fn sound(now: Instant, settings: Settings) -> Result<Sound, Unsound> {
        let me = settings.check()?;
        let offices = if me.side.is_some() { Office::ALL.len() } else { 0 };
        if POSTS < offices || PEERS < settings.members.len().saturating_sub(1) {
            return Err(Unsound::NoRoom);
        }
        let rosters = Rosters::new(now, &settings)?;
        Ok(Sound { settings, me, rosters })
    }

    /// A node that has just started, without its offices: a witness has none. What it returns is not wrapped
    /// into anything, so that a microcontroller need not have room for it twice.
    pub fn begin(now: Instant, sound: Sound, stored: impl IntoIterator<Item = Stored>) -> Self {
        let Sound { settings, me, rosters } = sound;
        let voter = acceptor::Settings {
            life: settings.life,
            lease_max: settings.timers.lease,
            drift: settings.drift,
        };
        Self {
            me,
            started: now,
            links: links_of(now, &settings, &me),
            voter: me.votes.then(|| Acceptor::new(now, voter, stored)),
            posts: Vec::new(),
            power: Power::new(&settings),
            speech: Speech::new(now),
            rosters,
            history: History::default(),
            written: 0,
            settings,
        }
    }

    fn post_for(&self, now: Instant, office: Office) -> Result<Post, Unsound> {
        let (settings, timers) = (&self.settings, self.settings.timers);
        let (register, pair) = match office {
            Office::Infra => (infra_register(self.me.pair), self.me.pair),
            Office::Controller => (CONTROLLER, first_pair(&settings.members)),
        };
        let founders = settings.founders(pair).map_err(Unsound::Voters)?;
        let Start(start) = settings.start();
        let seat = seat::Settings {
            register,
            me: settings.me,
            start: settings.start(),
            founders: founders.clone(),
            lease: timers.lease,
            renew: timers.renew,
            answer_max: timers.answer_max,
            watch: timers.watch,
            backoff: timers.backoff,
            stale: (office == Office::Infra && settings.fences).then_some(timers.silence),
            drift: settings.drift,
            seed: start.wrapping_add(u64::from(register.0)),
        };
        let is_infra = office == Office::Infra;
        let pair = pair::Settings {
            me: settings.me,
            candidates: if is_infra { settings.candidates(pair) } else { settings.everybody() },
            listen: timers.listen,
            stagger: timers.stagger,
            silence: timers.silence,
            lease: timers.lease,
            activate: is_infra.then_some(timers.activate),
            fence: (is_infra && settings.fences).then_some(timers.fence),
        };
        let known = self.voter.as_ref().and_then(|voter| voter.accepted(register)).cloned();
        let (seat, pair) = (Seat::new(now, seat, known), pair::Pair::new(pair));
        Ok(Post { office, seat, pair, founders, barred: false, told: None, told_voters: None })
    }
}

/// The links to all other members. There is room for them: that was asked for before.
fn links_of<const PEERS: usize>(now: Instant, settings: &Settings, me: &Member) -> Links<PEERS> {
    let timers = settings.timers;
    let limits = Limits { slow: timers.slow, silence: timers.silence, stable: timers.stable };
    let mut links = Links::new(
        now,
        links::Settings {
            site: settings.site,
            me: settings.me,
            nonce: settings.nonce,
            key: settings.key.clone(),
            heartbeat: timers.heartbeat,
            limits,
        },
    );
    for member in settings.members.iter().filter(|member| member.node != me.node) {
        links.add(now, member.node, settings.pace(me, member));
    }
    links
}
