//! The agent's thread for guests: while this node leads the volumes, it looks at the guests that are to run,
//! and has those begun that do not (S3-01, S3-04, S3-08, S3-14).
//!
//! It asks nobody whether it may: who leads, may; and the guest's own process asks for the lease by which it
//! runs (I5). What this thread does too late, or twice, costs time, and never a second guest.

use super::adrift::{self, Adrift, Unwanted};
use super::begin::{Begun, begin};
use super::came;
use super::placeholder::{self, Placeholder};
use super::room::lacking;
use super::sight::look;
use super::wanted::Needs;
use crate::cluster::clock;
use crate::cluster::events::News;
use crate::cluster::status::Guest as Seen;
use crate::cluster::wake::Wake;
use crate::failure::Failure;
use crate::guests::home::Homes;
use crate::guests::own_volume as own;
use crate::mirror::handle::Handle;
use crate::mirror::words::Order;
use crate::vmm::description::Description;
use bulkhead_core::failover::life::{Life, Mode, Sight};
use bulkhead_core::failover::room::{MEMORY, Room, taken_by};
use bulkhead_core::failover::table::{Begin, Table};
use bulkhead_core::id::Epoch;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::placement::amounts::Shortage;
use bulkhead_core::time::Instant;
use bulkhead_core::volume::NUMBER_MAX;
use bulkhead_core::volume::guest::{Failover, Guest};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is looked whether this node has come to lead.
const LOOK: Duration = Duration::from_millis(20);
/// How often all guests are looked at.
const LOOK_AT_ALL: Duration = Duration::from_millis(250);
/// How often a node that does not lead looks for whom it keeps memory.
const KEEP: Duration = Duration::from_secs(1);
/// Memory that was kept for a guest is waited for so long: it is given back sooner.
const GIVEN_BACK: Duration = Duration::from_secs(1);
/// How often it is tried to say that a guest came, where that fails.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// Guests that are begun at once: each reads its kernel from the volumes, and boots.
const AT_ONCE: usize = 4;
const STACK: usize = 256 << 10;

/// Where guests are, on this node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Their directories.
    pub homes: Homes,
    /// The agent's control socket.
    pub agent: PathBuf,
    /// Its NBD socket.
    pub volumes: PathBuf,
    /// How they are counted.
    pub counts: Counts,
    /// Memory that is kept for those who would begin here.
    pub placeholder: Arc<Placeholder>,
}

/// How guests are counted: the agent may be told otherwise while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// What this node has for guests.
    pub room: Room,
    /// What guests take is counted: a node of the pair says what it has.
    pub is_counted: bool,
    /// Memory is kept for those who would begin here.
    pub is_kept: bool,
}

/// What the thread is told.
enum Told {
    /// A start has ended.
    Begun(Volume, Result<Begun, Failure>),
    /// It was tried to say that this guest came.
    Came(String, Result<String, Failure>),
    /// It was looked where these guests are that nobody wants here.
    Adrift(Vec<(Unwanted, Option<String>)>),
    /// They are counted so from now on.
    Counts(Counts),
    /// End.
    Stop,
}

/// The thread. It ends with this; guests go on.
#[derive(Debug)]
pub struct Service {
    tell: Sender<Told>,
    news: Receiver<News>,
    seen: Arc<Mutex<Vec<Seen>>>,
    placeholder: Arc<Placeholder>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Looks after the guests of this group's volumes; `wake` wakes the agent's loop when there is news.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(group: Handle, settings: Settings, wake: Wake) -> Result<Self, Failure> {
        let (tell, heard) = channel();
        let (say, news) = channel();
        let seen = Arc::default();
        let placeholder = Arc::clone(&settings.placeholder);
        placeholder.keep(settings.counts.is_kept);
        let work = Work {
            group,
            wake,
            say,
            tell: tell.clone(),
            table: Box::new(Table::in_room(AT_ONCE, settings.counts.room)),
            names: BTreeMap::new(),
            processes: Vec::new(),
            failures: BTreeMap::new(),
            without_room: BTreeSet::new(),
            seen: Arc::clone(&seen),
            reign: None,
            says: None,
            say_at: Instant::ZERO,
            adrift: Adrift::default(),
            kept_at: Instant::ZERO,
            settings,
        };
        let thread = std::thread::Builder::new().name("guests".into()).stack_size(4 * STACK);
        let thread = thread.spawn(move || work.run(&heard));
        let failed = |error| Failure::failed(format!("nobody looks after guests: {error}"));
        Ok(Self { tell, news, seen, placeholder, thread: Some(thread.map_err(failed)?) })
    }

    /// What happened since, one after the other.
    pub fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Memory that is kept for guests that are not here; `None`: none is to be.
    #[must_use]
    pub fn kept(&self) -> Option<placeholder::Seen> {
        self.placeholder.seen()
    }

    /// Guests are counted so from now on.
    pub fn count(&self, counts: Counts) {
        // One that has ended counts nobody.
        let _ = self.tell.send(Told::Counts(counts));
    }

    /// The guests, as they were seen last; none while this node does not lead.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.tell.send(Told::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A reign of this node.
#[derive(Clone, Copy, Debug)]
struct Reign {
    epoch: Epoch,
    since: Instant,
}

struct Work {
    group: Handle,
    settings: Settings,
    wake: Wake,
    say: Sender<News>,
    tell: Sender<Told>,
    table: Box<Table<{ NUMBER_MAX as usize }>>,
    /// Of the guests in the table.
    names: BTreeMap<Volume, String>,
    /// Those that were begun here: who began a process sees it off.
    processes: Vec<Child>,
    /// Why guests could not be begun, until they run.
    failures: BTreeMap<Volume, String>,
    /// Those for which there is no room, as it was said last.
    without_room: BTreeSet<Volume>,
    seen: Arc<Mutex<Vec<Seen>>>,
    reign: Option<Reign>,
    /// The guest of which it is being said that it came, one at a time.
    says: Option<String>,
    say_at: Instant,
    adrift: Adrift,
    kept_at: Instant,
}

impl Work {
    fn run(mut self, heard: &Receiver<Told>) {
        let mut looked = Instant::ZERO;
        loop {
            let told = match heard.recv_timeout(LOOK) {
                Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Told::Begun(guest, begun)) => Some((guest, begun)),
                Ok(Told::Came(guest, said)) => {
                    self.came(&guest, said);
                    None
                }
                Ok(Told::Adrift(found)) => {
                    self.adrift.found(Some(found));
                    None
                }
                Ok(Told::Counts(counts)) => {
                    self.settings.counts = counts;
                    self.settings.placeholder.keep(counts.is_kept);
                    self.table.resize(counts.room);
                    None
                }
                Err(RecvTimeoutError::Timeout) => None,
            };
            let now = clock::now();
            let is_news = told.is_some() || self.group.reign() != self.reign.map(|reign| reign.epoch);
            let is_due = self.table.deadline().is_some_and(|at| at <= now);
            if let Some((guest, begun)) = told {
                self.begun(guest, begun);
            }
            if is_news || is_due || LOOK_AT_ALL <= now.since(looked) {
                looked = now;
                self.look(now);
                self.show();
            }
        }
    }

    /// Looks whether this node leads, what is wanted and what runs, and begins what is to be begun.
    fn look(&mut self, now: Instant) {
        self.processes.retain_mut(|process| matches!(process.try_wait(), Ok(None)));
        let Some((epoch, catalogue)) = self.group.settled() else {
            self.reign = None;
            self.table.lose();
            return self.keep_for_all(now);
        };
        if self.reign.is_none_or(|reign| reign.epoch != epoch) {
            self.table.lose();
            self.reign = Some(Reign { epoch, since: now });
        }
        let own = || catalogue.list().filter_map(|record| own::guest(record.name.as_str()));
        self.hear_of(now, own());
        let is_unwanted = |guest: &Option<Guest>| guest.is_some_and(|guest| !guest.is_wanted);
        let unwanted = catalogue.list().filter(|record| is_unwanted(&record.guest));
        let unwanted = unwanted.filter_map(|it| Some((own::guest(it.name.as_str())?.to_owned(), it.change)));
        self.look_for(now, &unwanted.collect::<Vec<_>>());
        let guests: Vec<(Volume, Guest, &str)> = catalogue
            .list()
            .filter_map(|record| Some((record.volume, record.guest?, own::guest(record.name.as_str())?)))
            .collect();
        self.names = guests.iter().map(|(volume, _, name)| (*volume, (*name).to_owned())).collect();
        self.table.lead(guests.iter().map(|(volume, guest, _)| (*volume, *guest)));
        let seen: Vec<_> = self.table.guests().map(|(volume, life)| (volume, life.mode())).collect();
        for (volume, before) in seen {
            self.see(now, volume, before);
        }
        while let Some(next) = self.table.next(now) {
            // Its room is its own when it begins: no later than it is asked for.
            self.keep(self.table.awaited());
            self.begin(next);
        }
        self.keep(self.table.awaited());
        self.say_who_has_no_room();
    }

    /// Room is kept for all that would begin here if this node came to lead.
    fn keep_for_all(&mut self, now: Instant) {
        if !self.settings.counts.is_kept || now.since(self.kept_at) < KEEP {
            return;
        }
        self.kept_at = now;
        let catalogue = self.group.catalogue();
        let begins = |guest: &Guest| guest.is_wanted && guest.failover != Failover::Stay;
        let mut guests: Vec<_> = catalogue
            .list()
            .filter_map(|record| Some((record.guest.filter(begins)?, record.volume)))
            .map(|(guest, volume)| (Reverse(guest.priority), volume, guest.needs))
            .collect();
        guests.sort_unstable_by_key(|(priority, volume, _)| (*priority, *volume));
        self.keep(taken_by(self.settings.counts.room, guests.into_iter().map(|(_, _, needs)| needs)));
    }

    fn keep(&self, room: Room) {
        self.settings.placeholder.want(room.0.get(usize::from(MEMORY.0)).copied().unwrap_or_default());
    }

    /// Says it once of each guest, and again when it had room in between.
    fn say_who_has_no_room(&mut self) {
        let lacks = |(guest, life): (Volume, &Life)| Some((guest, lacking(&life.lacks()?)));
        let now: BTreeMap<Volume, String> = self.table.guests().filter_map(lacks).collect();
        for (guest, lacks) in now.iter().filter(|(guest, _)| !self.without_room.contains(guest)) {
            let what =
                format!("there is no room for it on this node, which lacks {lacks}: it waits for that");
            self.tell(*guest, "guest-waits", &what);
        }
        self.without_room = now.into_keys().collect();
    }

    /// Has it said of one of these that it came here, if that is so.
    fn hear_of<'a>(&mut self, now: Instant, mut guests: impl Iterator<Item = &'a str>) {
        if self.says.is_some() || now < self.say_at {
            return;
        }
        let is_unsaid = |guest: &&str| self.settings.homes.find(guest).is_ok_and(|it| came::is_unsaid(&it));
        let Some(guest) = guests.find(is_unsaid).map(str::to_owned) else { return };
        let (settings, tell) = (self.settings.clone(), self.tell.clone());
        self.says = Some(guest.clone());
        let work = move || {
            let said = came::say(&settings, &guest);
            drop(tell.send(Told::Came(guest, said)));
        };
        let thread = std::thread::Builder::new().name("guest-came".into()).stack_size(STACK);
        if thread.spawn(work).is_err() {
            (self.says, self.say_at) = (None, now.after(SAY_AGAIN));
        }
    }

    /// Has it looked where these are that nobody wants here.
    fn look_for(&mut self, now: Instant, unwanted: &[Unwanted]) {
        let next = self.adrift.next(now, unwanted);
        if next.is_empty() {
            return;
        }
        let (settings, tell) = (self.settings.clone(), self.tell.clone());
        let work = move || {
            let look = |guest: Unwanted| {
                let why = adrift::look(&settings, &guest.0);
                (guest, why)
            };
            drop(tell.send(Told::Adrift(next.into_iter().map(look).collect())));
        };
        let thread = std::thread::Builder::new().name("guests-adrift".into()).stack_size(STACK);
        if thread.spawn(work).is_err() {
            self.adrift.found(None);
        }
    }

    fn came(&mut self, guest: &str, said: Result<String, Failure>) {
        self.says = None;
        match said {
            Ok(from) => {
                let what = format!("it came from {from}, and is to run in this pair from now on");
                self.tell_of(guest, "guest-came", &what);
            }
            Err(_) => self.say_at = clock::now().after(SAY_AGAIN),
        }
    }

    fn see(&mut self, now: Instant, guest: Volume, before: Mode) {
        let sight = self.sight(guest);
        self.table.see(now, guest, sight);
        self.count(guest);
        match (before, self.life(guest).map(|life| life.mode())) {
            (Mode::Running, Some(Mode::Waiting)) => {
                self.tell(guest, "guest-gone", "its process is gone: it is begun again");
            }
            (Mode::Running, Some(Mode::Left)) if sight == Sight::Ended => {
                self.tell(guest, "guest-off", "it has switched itself off, and stays off");
                self.is_off(guest);
            }
            (Mode::Running, Some(Mode::Left)) => {
                self.tell(guest, "guest-gone", "its process is gone, and an operator is to start it");
            }
            (_, _) => {}
        }
    }

    /// A guest that was started before anybody counted says what it takes as soon as it is seen to run.
    fn count(&mut self, guest: Volume) {
        let Some(life) = self.life(guest).filter(|life| life.mode() == Mode::Running) else { return };
        let wanted = life.wanted();
        if !self.settings.counts.is_counted || wanted.needs.is_some() || !wanted.is_wanted {
            return;
        }
        let home = self.names.get(&guest).and_then(|name| self.settings.homes.find(name).ok());
        let Some(Ok(of)) = home.map(|home| Description::read(&home.description())) else { return };
        let needs = Needs::of(of.memory, of.processors).into();
        // It is asked again until it is so. By then something else may be wanted of the guest.
        self.group.order(Order::Count { volume: guest, needs }, drop);
    }

    fn show(&mut self) {
        let is_known = |guest: &Volume, _: &mut String| self.names.contains_key(guest);
        self.failures.retain(is_known);
        let seen = self.table.guests().map(|(guest, life)| {
            let name = self.names.get(&guest).cloned().unwrap_or_default();
            let adrift = self.adrift.why(&name).filter(|_| life.mode() == Mode::Off);
            let (state, why) = match adrift {
                Some(why) => ("adrift", Some(why.to_owned())),
                None => (
                    life.mode().name(),
                    life.lacks().map(no_room).or_else(|| self.failures.get(&guest).cloned()),
                ),
            };
            let (priority, failures) = (life.wanted().priority, life.failures());
            let why = why.unwrap_or_default();
            Seen { name, state: state.into(), priority, failures, why, silent_ms: None }
        });
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen.collect();
    }

    fn sight(&self, guest: Volume) -> Sight {
        let home = self.names.get(&guest).and_then(|name| self.settings.homes.find(name).ok());
        home.map_or(Sight::Gone, |home| look(&home))
    }

    fn life(&self, guest: Volume) -> Option<Life> {
        self.table.guests().find(|(volume, _)| *volume == guest).map(|(_, life)| *life)
    }

    /// It is not to run any more, until somebody starts it.
    fn is_off(&self, guest: Volume) {
        let Some(wanted) = self.life(guest).map(|life| life.wanted()) else { return };
        // If this node loses the lead before that is durable, the guest begins once more elsewhere.
        self.group.order(Order::Guest { volume: guest, guest: Guest { is_wanted: false, ..wanted } }, drop);
    }

    fn begin(&mut self, next: Begin) {
        let Begin { guest, how } = next;
        let (name, settings, tell) =
            (self.names.get(&guest).cloned().unwrap_or_default(), self.settings.clone(), self.tell.clone());
        let again = self.tell.clone();
        let work = move || {
            settings.placeholder.wait(GIVEN_BACK);
            drop(tell.send(Told::Begun(guest, begin(&settings, &name, how))));
        };
        let thread = std::thread::Builder::new().name("guest-begins".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(work) {
            let failed = Failure::failed(format!("no thread to begin it: {error}"));
            let _ = again.send(Told::Begun(guest, Err(failed)));
        }
    }

    fn begun(&mut self, guest: Volume, begun: Result<Begun, Failure>) {
        let now = clock::now();
        // One that switched itself off before it was seen to run has run.
        let has_ended = begun.is_err() && self.sight(guest) == Sight::Ended;
        self.table.begun(now, guest, begun.is_ok() || has_ended);
        match begun {
            Err(_) if has_ended => {}
            Ok(Begun { is_resumed, why_not, process }) => {
                self.processes.push(process);
                self.failures.remove(&guest);
                let took = self.reign.map(|reign| now.since(reign.since).as_millis()).unwrap_or_default();
                let how = if is_resumed { "goes on from its last snapshot" } else { "begins anew" };
                let why_not = why_not.map(|why| format!(", and not from its snapshot: {}", why.what));
                let why_not = why_not.unwrap_or_default();
                let text = format!("it {how}, {took} ms after this node came to lead{why_not}");
                self.tell(guest, "guest-begun", &text);
            }
            Err(why) => {
                let next = self.life(guest).and_then(|life| life.deadline());
                let next = next.map_or(0, |at| at.since(now).as_secs());
                let text = format!("it could not be begun, and is tried again in {next} s: {}", why.what);
                self.failures.insert(guest, one_line(&why.what));
                self.tell(guest, "guest-failed", &text);
            }
        }
    }

    fn tell(&self, guest: Volume, kind: &'static str, what: &str) {
        self.tell_of(self.names.get(&guest).map_or("?", String::as_str), kind, what);
    }

    fn tell_of(&self, name: &str, kind: &'static str, what: &str) {
        let what = one_line(what);
        // The loop may have ended.
        let _ = self.say.send(News::new(kind, format!("guest {name}: {what}"), json!({ "guest": name })));
        self.wake.wake();
    }
}

/// Why a guest waits, for which a node lacks this.
fn no_room(lacks: Shortage) -> String {
    format!("there is no room for it: this node lacks {}", lacking(&lacks))
}

/// What a process said may be several.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
