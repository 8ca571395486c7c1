//! A node's copy of the mirror group of its pair, the streams to the other copies, and the NBD server of its
//! volumes: put together from the configuration, started with the agent and ended with it (S4-03, S4-07).

use super::events::News;
use super::guest_requests::Lent;
use super::pressure::Lack;
use super::status::Guest;
use super::storage::Group;
use super::wake::Wake;
use crate::failover::hearts::Hearts;
use crate::failover::placeholder;
use crate::failover::room::amounts;
use crate::failover::service as failover;
use crate::failure::Failure;
use crate::guests::home::Homes;
use crate::mirror::handle::Handle;
use crate::mirror::open::{self, Running};
use crate::mirror::words::{RegisterNews, RegisterWish, Streams};
use crate::nbd::encryption::Tls;
use crate::replication::service::Replication;
use crate::replication::words as streams;
use crate::site_config::key::SiteKey;
use crate::site_config::{self, Member, Secrecy, SiteConfig};
use crate::tls::files::Files;
use crate::tls::keeper::Keeper;
use crate::volume::route;
use crate::volume::serve::{self, Bell, NBD_SOCKET, Service};
use bulkhead_core::failover::room::UNBOUNDED;
use bulkhead_core::id::{GroupId, NodeId, PairId, SiteId};
use bulkhead_core::mirror::membership::HOLDERS_MAX;
use bulkhead_core::time::Instant;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How long another holder may owe a write before a primary goes on without it (S4-12, X07): what a guest's
/// write waits for when a holder is lost, and an eighth of what that holder waits for when it was only slow.
/// About as long as a takeover, which a guest must stand anyhow; longer than a disk hesitates as a rule.
const LATE: Duration = Duration::from_secs(1);

/// What a node has to do with volumes. Its clients go first.
#[derive(Debug)]
pub struct Volumes {
    service: Service,
    running: Running,
    /// The streams, once they are begun; the group ends them.
    streams: Arc<OnceLock<Weak<Replication>>>,
    /// What the holders are called.
    names: Vec<(NodeId, String)>,
    tls_is_required: bool,
    /// What guests were told.
    pub(super) lent: Lent,
    /// Which of them do not beat.
    pub(super) hearts: Hearts,
    /// Who looks after them; `None`: the agent stops.
    guests: Option<failover::Service>,
}

impl Group for Handle {
    fn told(&self, news: RegisterNews) {
        Self::told(self, news);
    }

    fn wishes(&self) -> Vec<RegisterWish> {
        Self::wishes(self)
    }
}

impl Volumes {
    /// Starts what `config` asks for; `None`: it asks for nothing. `wake` wakes the agent's loop.
    ///
    /// # Errors
    ///
    /// Its log or store cannot be used, a place cannot be listened at, or too many nodes keep volumes.
    pub fn start(config: &SiteConfig, key: &SiteKey, wake: &Wake) -> Result<Option<Self>, Failure> {
        let (Some(storage), Some(me)) = (&config.local.storage, config.me()) else { return Ok(None) };
        let pair = me.duty.pair();
        let keeps = |member: &&Member| {
            !member.duty.is_witness() && member.duty.pair() == pair && member.nbd.is_some()
        };
        let holders: Vec<&Member> = config.members.iter().filter(keeps).collect();
        if HOLDERS_MAX < holders.len() {
            let what = format!("{} nodes of pair {} have `nbd`", holders.len(), pair.0);
            let next = format!("leave it with {HOLDERS_MAX} at most: so many keep its volumes.");
            return Err(Failure::usage(what).left("Nothing was started.").next(next));
        }
        let group = group_of(pair);
        let keeper = storage.tls.as_ref().map(keeper).transpose()?;
        let both = storage.tls.as_ref().zip(keeper);
        let streams = streams::Settings {
            site: config.site,
            group,
            me: me.id,
            listen: config.listen,
            peers: holders.iter().map(|member| (member.id, member.addresses)).collect(),
            key: key.clone(),
            tls: both.as_ref().and_then(|(tls, keeper)| secrecy(tls, keeper, &holders)),
            queue_max: streams::QUEUE_MAX,
            timing: streams::Timing::default(),
        };
        // One node may, and every file names the same.
        let is_founder = holders.iter().map(|member| member.id).min() == Some(me.id);
        let settings = opened(config.site, group, me.id, is_founder, storage);
        let tls = both.map(|(tls, keeper)| Tls { keeper, is_required: tls.is_required });
        let bell = Bell::default();
        let ring = bell.clone();
        let begun = Arc::new(OnceLock::new());
        let told = Arc::clone(&begun);
        let connect: open::Connect = Box::new(move |pool, inbox| {
            let streams = Arc::new(Replication::start(streams, pool, inbox)?);
            // They are begun once.
            let _ = told.set(Arc::downgrade(&streams));
            Ok(streams as Arc<dyn Streams>)
        });
        let running = Running::start(settings, wake.clone(), move || ring.ring(), connect)?;
        let others = holders.iter().filter(|member| member.id != me.id);
        let settings = serve::Settings {
            socket: config.local.state.join(NBD_SOCKET),
            listen: me.nbd,
            others: others.filter_map(|member| Some((member.id.0, member.nbd?))).collect(),
            tls: tls.clone(),
            route: route::Settings::default(),
        };
        let service = Service::start(Arc::new(running.handle()), bell, settings)?;
        let tls_is_required = tls.is_some_and(|tls| tls.is_required);
        let names = holders.iter().map(|member| (member.id, member.name.clone())).collect();
        let guests = Some(guests(config, running.handle(), wake)?);
        let (lent, hearts) = (Lent::default(), Hearts::default());
        Ok(Some(Self { service, running, streams: begun, names, tls_is_required, lent, hearts, guests }))
    }

    /// Whether clients in the network must encrypt.
    pub const fn tls_is_required(&self) -> bool {
        self.tls_is_required
    }

    /// What happened to guests since, one after the other.
    pub fn news_of_guests(&self) -> Option<News> {
        self.guests.as_ref()?.news()
    }

    /// The guests of these volumes, where this node leads.
    pub fn guests_seen(&self, now: Instant) -> Vec<Guest> {
        let mut guests = self.guests.as_ref().map(failover::Service::seen).unwrap_or_default();
        for guest in guests.iter_mut().filter(|guest| guest.state == "running") {
            let silent = self.hearts.silent(now, &guest.name);
            guest.silent_ms = silent.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        }
        guests
    }

    /// Memory that is kept for guests that are not here; `None`: none is to be.
    pub fn kept(&self) -> Option<placeholder::Seen> {
        self.guests.as_ref()?.kept()
    }

    /// Guests are counted as `config` says from now on.
    pub fn recount(&self, config: &SiteConfig) {
        let _ = self.guests.as_ref().map(|guests| guests.count(counts(config)));
    }

    /// No guest is begun here any more: whoever leads next begins them.
    pub fn leave_guests(&mut self) {
        self.guests = None;
    }

    /// To speak to the group.
    pub fn group(&self) -> Handle {
        self.running.handle()
    }

    /// A volume that is not served, and should be; a holder with which there is no stream until somebody
    /// changes something; a store that has no room.
    pub fn lacks(&self) -> Vec<Lack> {
        let unserved = |failure: Failure| Lack {
            what: "volumes",
            why: format!("{}; it is tried again every second", failure.what),
        };
        let mut lacks: Vec<_> = self.service.lack().map(unserved).into_iter().collect();
        let streams = self.streams.get().and_then(Weak::upgrade);
        let peers = streams.map(|streams| streams.view().peers).unwrap_or_default();
        for (peer, why) in peers.into_iter().filter_map(|peer| Some((peer.node, peer.lack?))) {
            let name = self.names.iter().find(|(node, _)| *node == peer).map(|(_, name)| name.as_str());
            let why = format!("no stream to {}: {why}", name.unwrap_or_default());
            lacks.push(Lack { what: "streams", why });
        }
        let full = self.running.handle().view().full;
        let why = |why| format!("{why}; guests go on until the log is full, too: make room there");
        lacks.extend(full.map(|full| Lack { what: "store", why: why(full) }));
        let kept = self.kept();
        let short = kept.and_then(|kept| Some((kept.held, kept.wanted, kept.lack?)));
        lacks.extend(short.map(|(held, wanted, lack)| {
            let why = format!("{held} of {wanted} MiB are kept for guests that may come: {lack}");
            Lack { what: placeholder::VERB, why }
        }));
        lacks
    }
}

/// How the node's log and store are opened.
fn opened(
    site: SiteId,
    group: GroupId,
    me: NodeId,
    is_founder: bool,
    storage: &site_config::Storage,
) -> open::Settings {
    open::Settings {
        site,
        group,
        me,
        is_founder,
        log: storage.log.clone(),
        log_bytes: storage.log_size,
        volumes: storage.volumes.clone(),
        is_shared: storage.is_shared,
        backing: storage.backing.clone(),
        memory: usize::try_from(storage.memory).unwrap_or(usize::MAX),
        read_cache: storage.read_cache,
        late: LATE,
    }
}

/// Who looks after the guests of these volumes.
fn guests(config: &SiteConfig, group: Handle, wake: &Wake) -> Result<failover::Service, Failure> {
    let settings = failover::Settings {
        counts: counts(config),
        placeholder: Arc::default(),
        homes: Homes::at(&config.local.guests),
        agent: config.local.socket.clone(),
        volumes: config.local.state.join(NBD_SOCKET),
    };
    failover::Service::start(group, settings, wake.clone())
}

/// How guests are counted on this node.
fn counts(config: &SiteConfig) -> failover::Counts {
    let room = config.me().and_then(|me| me.room);
    let is_of_pair = |member: &Member| config.me().is_some_and(|me| me.duty.pair() == member.duty.pair());
    failover::Counts {
        room: room.map_or(UNBOUNDED, |room| amounts(room.memory, room.processors)),
        is_counted: config.members.iter().any(|member| member.room.is_some() && is_of_pair(member)),
        is_kept: room.is_some_and(|room| room.placeholder),
    }
}

/// The certificates of this node.
fn keeper(config: &site_config::Tls) -> Result<Arc<Keeper>, Failure> {
    let site_config::Tls { certificate, key, authorities, .. } = config.clone();
    let keeper = Keeper::open(Files { certificate, key, authorities });
    Ok(Arc::new(keeper.map_err(|failure| failure.left("Nothing was started."))?))
}

/// How the streams are encrypted: who calls itself a holder has the certificate for where that serves NBD.
fn secrecy(tls: &site_config::Tls, keeper: &Arc<Keeper>, holders: &[&Member]) -> Option<streams::Tls> {
    let is_required = match tls.streams {
        Secrecy::Clear => return None,
        Secrecy::Allowed => false,
        Secrecy::Required => true,
    };
    let host = |member: &&Member| Some((member.id, member.nbd?.ip().to_string()));
    let hosts = holders.iter().filter_map(host).collect();
    Some(streams::Tls { keeper: Arc::clone(keeper), is_required, hosts })
}

/// How a guest that moves is encrypted: as the streams, with whichever node it comes to.
///
/// # Errors
///
/// The certificate of this node cannot be used.
pub fn secrecy_of_moves(config: &SiteConfig) -> Result<Option<streams::Tls>, Failure> {
    let tls = config.local.storage.as_ref().and_then(|storage| storage.tls.as_ref());
    let Some(tls) = tls.filter(|tls| tls.streams != Secrecy::Clear) else { return Ok(None) };
    let nodes: Vec<_> = config.members.iter().filter(|member| !member.duty.is_witness()).collect();
    Ok(secrecy(tls, &keeper(tls)?, &nodes))
}

/// The mirror group of a pair: its number, and zeroes. The site stands beside it wherever it stands.
fn group_of(pair: PairId) -> GroupId {
    let mut id = [0; 16];
    if let Some(place) = id.first_chunk_mut() {
        *place = pair.0.to_le_bytes();
    }
    GroupId(id)
}
