//! Where an agent lets guests in: it sees whether who knocks is a node of this site, and begins a process
//! for the guest that comes (V22, V16, I11).

use super::channel::Channel;
use super::disks::volumes;
use super::hello::{HELLO_LEN, Hello, Keys};
use super::opening::End;
use super::own::Keeper;
use super::passing::{self, Passed};
use super::relay;
use super::words::{Offer, Refusal, Sizes, Word};
use crate::failure::Failure;
use crate::guests::home::{Home, Homes};
use crate::guests::own_volume::keeping::{self, Before};
use crate::guests::own_volume::pair::Pair;
use crate::guests::own_volume::served::Access;
use crate::guests::process;
use crate::site_config::{Member, SiteConfig};
use crate::vmm::description::Description;
use crate::vmm::in_use::is_in_use;
use crate::volume::serve::NBD_SOCKET;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Who knocks says who it is, and what it brings, within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who knocks at once; others are sent away.
const KNOCKING_MAX: usize = 8;
/// After the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);
const STACK: usize = 256 << 10;

/// Where guests are let in, and as whose.
#[derive(Debug)]
struct Reception {
    me: Member,
    site: bulkhead_core::id::SiteId,
    members: Vec<Member>,
    end: End,
    homes: Homes,
    agent: PathBuf,
    volumes: PathBuf,
    knocking: AtomicUsize,
}

/// Lets guests in from now on, if the configuration says where. Nothing ends it but the agent's end.
///
/// # Errors
///
/// The place cannot be listened at.
pub fn open(config: &SiteConfig) -> Result<(), Failure> {
    let Some((me, at)) = config.me().and_then(|me| Some((me, me.guests?))) else { return Ok(()) };
    let failed = |error: std::io::Error| {
        let what = format!("cannot take in guests at {at}: {error}");
        Failure::failed(what).left("Nothing was started.").next("see `guests` of this node.")
    };
    let listener = TcpListener::bind(at).map_err(failed)?;
    let reception = Arc::new(Reception {
        me: me.clone(),
        site: config.site,
        members: config.members.clone(),
        end: End::of(config)?,
        homes: Homes::at(&config.local.guests),
        agent: config.local.socket.clone(),
        volumes: config.local.state.join(NBD_SOCKET),
        knocking: AtomicUsize::new(0),
    });
    let work = move || {
        loop {
            match listener.accept() {
                Ok((wire, _)) => reception.let_in(wire),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    };
    let thread = std::thread::Builder::new().name("reception".into()).stack_size(STACK);
    thread.spawn(work).map(drop).map_err(failed)
}

impl Reception {
    /// Begins to hear who knocks; it is sent away where too many do.
    fn let_in(self: &Arc<Self>, wire: TcpStream) {
        if KNOCKING_MAX <= self.knocking.fetch_add(1, Ordering::SeqCst) {
            self.knocking.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let own = Arc::clone(self);
        let work = move || {
            let begun = own.hear(wire);
            own.knocking.fetch_sub(1, Ordering::SeqCst);
            // A process that has ended is to be seen off by who began it.
            let _ = begun.map(|mut process| process.wait());
        };
        let thread = std::thread::Builder::new().name("guest-knocks".into()).stack_size(STACK);
        if thread.spawn(work).is_err() {
            self.knocking.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Hears who knocks, and begins a process for what it brings. Nobody is told why it is not let in who
    /// does not have the site key.
    fn hear(&self, mut wire: TcpStream) -> Option<std::process::Child> {
        wire.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut bytes = [0; HELLO_LEN];
        wire.read_exact(&mut bytes).ok()?;
        let hello = Hello::parse(&bytes)?;
        let is_ours = hello.site == self.site && hello.to == self.me.id;
        let from = self.members.iter().find(|member| is_ours && member.id == hello.from)?;
        let is_node = !from.duty.is_witness() && from.id != self.me.id;
        let (wire, keys) = is_node.then(|| self.end.answer(wire, &hello))?.ok()?;
        let mut channel = Channel::arriving(relay::near(wire).ok()?, &keys).ok()?;
        let keeper = Keeper { agent: &self.agent, homes: &self.homes, me: &self.me.name };
        let comes = match channel.hear(PATIENCE).ok()? {
            Word::Offer(offer) => Ok((offer, None, false)),
            Word::Bring(offer, sizes) => Ok((offer, Some(sizes), false)),
            Word::BringOwn(offer, sizes) => Ok((offer, Some(sizes), true)),
            Word::Keep(files) => Err(files),
            Word::Accepted | Word::Bytes(_) | Word::Whole | Word::Go | Word::Runs | Word::Failed(_) => {
                return None;
            }
        };
        let (offer, disks, is_own) = match comes {
            Ok(guest) => guest,
            Err(files) => {
                if let Err(why) = keeper.take(&from.name, &files, &mut channel) {
                    let _ = channel.say(&Word::Failed(Refusal::of(&why)));
                }
                channel.finish();
                return None;
            }
        };
        let own = is_own.then_some((keeper, from.name.as_str()));
        match self.home(&offer, disks.as_ref(), own) {
            Err(why) => {
                let _ = channel.say(&Word::Failed(Refusal::of(&why)));
                channel.finish();
                None
            }
            Ok(home) => self.begin(&home, (&offer, disks, is_own), from, keys, channel),
        }
    }

    /// Where the guest is to be, as it is described; or, if its disks come with it, as far as it is described
    /// here already: where these are, and its files.
    fn home(
        &self,
        offer: &Offer,
        disks: Option<&Sizes>,
        own: Option<(Keeper<'_>, &str)>,
    ) -> Result<Home, Failure> {
        let wrong = |why| Failure::failed(format!("its description makes no sense here: {why}"));
        let described = Description::parse(&offer.description, Path::new("/")).map_err(wrong)?;
        let known = self.homes.find(&described.name).ok();
        if known.as_ref().is_some_and(|home| is_in_use(&home.description())) {
            let what = format!("a guest called {} runs on {} already", described.name, self.me.name);
            return Err(Failure::refused(what));
        }
        if let Some(sizes) = disks {
            let home = match own {
                Some((keeper, from)) => keeper.home(&described, from)?,
                None => self.expecting(&described, known)?,
            };
            let here = Description::read(&home.description())?;
            return volumes::make(&self.agent, &here, sizes, offer.is_leased).map(|()| home);
        }
        if let Some(home) = self.kept(&described.name)? {
            // It comes as it was begun; its files are here now.
            let described = described.loading(&home.kernel(), &home.initrd()).map_err(wrong)?;
            home.describe(&described)?;
            return Ok(home);
        }
        let Some(home) = known else { return self.homes.create(&described) };
        home.describe(&described)?;
        Ok(home)
    }

    /// Where a guest is to be that comes with its disks.
    fn expecting(&self, described: &Description, known: Option<Home>) -> Result<Home, Failure> {
        let name = &described.name;
        if Pair::ask(&self.agent)?.is_some_and(|pair| pair.volume(name).is_some()) {
            let what = format!("there is a guest called {name} already, in a volume of its own");
            let next = format!("`bulkhead vm delete {name}` on {} deletes it.", self.me.name);
            return Err(Failure::refused(what).next(next));
        }
        let Some(home) = known else { return self.homes.create(described) };
        let wrong = |why| Failure::refused(format!("it is described otherwise on {}: {why}", self.me.name));
        let here = Description::read(&home.description())?;
        let initrd = here.initrd.as_deref().or(described.initrd.as_deref()).unwrap_or(Path::new(""));
        let loaded = described.loading(&here.kernel, initrd).map_err(wrong)?;
        home.describe(&loaded.with_disks_of(&here).map_err(wrong)?)?;
        Ok(home)
    }

    /// The guest as it is in its own volume; `None`: it has none.
    fn kept(&self, guest: &str) -> Result<Option<Home>, Failure> {
        let pair = Pair::ask(&self.agent)?.filter(|pair| pair.volume(guest).is_some());
        let Some(pair) = pair else { return Ok(None) };
        let contents = pair.open(guest, Access::Read)?;
        keeping::bring(&contents, &self.homes, guest, Before::Any, &|_| ()).map(Some)
    }

    fn begin(
        &self,
        home: &Home,
        (offer, disks, is_own): (&Offer, Option<Sizes>, bool),
        from: &Member,
        keys: Keys,
        mut channel: Channel,
    ) -> Option<std::process::Child> {
        let begun = UnixStream::pair().map_err(|error| Failure::io("reach", &home.description(), &error));
        let agent = offer.is_leased.then_some(&*self.agent);
        let begun = begun.and_then(|(to, from)| Ok((to, process::receive(home, agent, from)?)));
        let (to, mut process) = match begun {
            Ok(begun) => begun,
            Err(why) => {
                let _ = channel.say(&Word::Failed(Refusal::of(&why)));
                channel.finish();
                return None;
            }
        };
        let (wire, heard) = channel.into_parts();
        let passed = Passed {
            keys,
            heard,
            node: from.name.clone(),
            is_leased: offer.is_leased,
            is_paused: offer.is_paused,
            agent: self.agent.clone(),
            volumes: self.volumes.clone(),
            disks,
            is_own,
        };
        if passing::pass(to, &passed, &wire).is_err() {
            // It has ended already: nothing came to it.
            let _ = process.kill();
        }
        Some(process)
    }
}
