//! How a node starts: its settings are looked at, and all machines begin (F54, X03).

use heapless::Vec;

use super::health::History;
use super::machine::Node;
use super::message::Office;
use super::post::Post;
use super::power::Power;
use super::roster::{Roster, Rosters};
use super::settings::{CONTROLLER, Member, Settings, Unsound, first_pair, infra_register, storage_register};
use super::speech::Speech;
use crate::link::links::{self, Links};
use crate::link::suspicion::Limits;
use crate::monitor::pair::{self, Heir};
use crate::register::acceptor::{self, Acceptor};
use crate::register::message::Start;
use crate::register::seat::{self, Seat};
use crate::register::store::Stored;
use crate::time::Instant;

/// What was found in settings that make a node.
#[derive(Clone, Debug)]
pub struct Sound {
    me: Member,
    mine: Roster,
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
        let sound = Self::sound(&settings)?;
        let mut node = Self::begin(now, settings, sound);
        node.link_all(now);
        for stored in stored {
            let resumed = node.resume(now, &stored);
            assert!(resumed, "the shell read more registers than this node has places");
        }
        if POSTS != 0 {
            for office in node.settings.offices(&node.me) {
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
    pub fn sound(settings: &Settings) -> Result<Sound, Unsound> {
        let me = settings.check()?;
        if POSTS < settings.offices(&me).count() || PEERS < settings.members.len().saturating_sub(1) {
            return Err(Unsound::NoRoom);
        }
        Ok(Sound { me, mine: Roster::of(settings)? })
    }

    /// A node that has just started, without its offices, of which a witness has none. Before its first event
    /// it is to know its peers ([`Self::link_all`]) and what its voter's disk holds ([`Self::resume`]): a
    /// microcontroller makes it where it stays, and has no room for it twice.
    pub fn begin(now: Instant, settings: Settings, sound: Sound) -> Self {
        let Sound { me, mine } = sound;
        let voter = acceptor::Settings {
            life: settings.life,
            lease_max: settings.timers.lease,
            drift: settings.drift,
        };
        Self {
            me,
            started: now,
            links: links_of(now, &settings),
            voter: if me.votes { Some(Acceptor::blank(voter)) } else { None },
            posts: Vec::new(),
            power: Power::new(&settings),
            speech: Speech::new(now),
            rosters: Rosters::new(now, mine),
            history: History::default(),
            written: 0,
            settings,
        }
    }

    /// Has the voter go on from what the disk holds at its next place, before the first event. `false` when
    /// it has no room for it: this node must not run.
    #[must_use = "a voter that forgets a register must not vote"]
    pub fn resume(&mut self, now: Instant, stored: &Stored) -> bool {
        self.voter.as_mut().is_none_or(|voter| voter.resume(now, stored))
    }

    /// Begins to speak with all other members. There is room for them: that was asked for before.
    pub fn link_all(&mut self, now: Instant) {
        let (settings, links, me) = (&self.settings, &mut self.links, &self.me);
        for member in settings.members.iter().filter(|member| member.node != me.node) {
            // Whoever is there already stays there.
            let pace = settings.pace(me, member);
            links.add(now, member.node, pace);
            links.set_pace(now, member.node, pace);
        }
    }

    fn post_for(&self, now: Instant, office: Office) -> Result<Post, Unsound> {
        let (settings, timers) = (&self.settings, self.settings.timers);
        let (register, pair) = match office {
            Office::Infra => (infra_register(self.me.pair), self.me.pair),
            Office::Controller => (CONTROLLER, first_pair(&settings.members)),
            Office::Storage => (storage_register(self.me.pair), self.me.pair),
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
            candidates: match office {
                Office::Infra | Office::Storage => settings.candidates(pair),
                Office::Controller => settings.everybody(),
            },
            heir: match office {
                Office::Storage => Heir::Near,
                Office::Infra | Office::Controller => Heir::Across,
            },
            listen: timers.listen,
            // Guests may run by the lease of a mirror group to its end.
            leave: match office {
                Office::Storage => timers.listen.saturating_add(timers.lease),
                Office::Infra | Office::Controller => timers.listen,
            },
            stagger: timers.stagger,
            silence: timers.silence,
            lease: timers.lease,
            activate: is_infra.then_some(timers.activate),
            fence: (is_infra && settings.fences).then_some(timers.fence),
        };
        let known = self.voter.as_ref().and_then(|voter| voter.accepted(register));
        let (seat, pair) = (Seat::new(now, seat, known), pair::Pair::new(pair));
        Ok(Post {
            office,
            seat,
            pair,
            founders,
            barred: false,
            told: None,
            told_voters: None,
            unanswered: 0,
            told_until: None,
            // An earlier start may have lent what it held to its end, a moment ago; and its guests live on.
            lent_before: now.after(timers.lease),
            lent_until: Instant::ZERO,
        })
    }
}

/// Links to nobody yet.
#[inline(always)]
fn links_of<const PEERS: usize, const SHOWN: usize>(
    now: Instant,
    settings: &Settings,
) -> Links<PEERS, SHOWN> {
    let timers = settings.timers;
    let limits = Limits { slow: timers.slow, silence: timers.silence, stable: timers.stable };
    Links::new(
        now,
        links::Settings {
            site: settings.site,
            me: settings.me,
            nonce: settings.nonce,
            key: settings.key.clone(),
            heartbeat: timers.heartbeat,
            limits,
        },
    )
}
