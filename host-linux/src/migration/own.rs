//! The own volume of a guest goes to another pair before the guest does: its description, kernel and first
//! files, by a connection of their own, from the command that moves it to the other node's agent. The guest's
//! process has no part in it (V22, F43). Snapshots stay: the seals in them are of the volumes here.

use super::calling::call;
use super::channel::{Channel, Incoming, Outgoing};
use super::disks;
use super::saying::{expect, say, told};
use super::words::{Files, Word};
use crate::failover::room;
use crate::failover::wanted::Wanted;
use crate::failure::Failure;
use crate::guests::home::{Home, Homes};
use crate::guests::own_volume::contents::Contents;
use crate::guests::own_volume::keeping::{self, Before};
use crate::guests::own_volume::medium::Medium;
use crate::guests::own_volume::moving::{self, Moving};
use crate::guests::own_volume::pair::{Pair, Says, has_none};
use crate::guests::own_volume::served::{Access, Served};
use crate::guests::own_volume::table::What;
use crate::guests::own_volume::{SUFFIX, name};
use crate::guests::record::Way;
use crate::vmm::description::Description;
use crate::vmm::in_use::is_in_use;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

/// The other node makes a volume, or has all of it durable, within this time.
const ANSWERS: Duration = Duration::from_secs(60);
/// What is read at once.
const PIECE: usize = 256 << 10;

/// Has the own volume of a guest be noted here as one that goes, and be at the other node; the names of its
/// snapshots, which stay. The guest is wanted here as before.
///
/// # Errors
///
/// It cannot go there: what came of it there is noted as that.
pub fn ahead(agent: &Path, guest: &str, node: &str) -> Result<Vec<String>, Failure> {
    // First: once it is there, whatever follows, nobody begins it here whom nobody wants to.
    let snapshots = moving::note(agent, guest, &Moving::now(Way::To, node))?;
    send(agent, guest, node).map(|()| snapshots).inspect_err(|_| stays(agent, guest))
}

/// It does not go, unless it was given away.
pub fn stays(agent: &Path, guest: &str) {
    // What is left of the note says nothing of a guest that is wanted here.
    let _ = moving::forget(agent, guest);
}

/// It was heard to run there: that is noted, too, for whoever looks here for it.
pub fn runs_there(agent: &Path, guest: &str, node: &str) {
    // Where it cannot be, what is said of it is true still.
    let _ = moving::note(agent, guest, &Moving { heard: true, ..Moving::now(Way::To, node) });
}

fn send(agent: &Path, guest: &str, node: &str) -> Result<(), Failure> {
    let pair = Pair::ask(agent)?.ok_or_else(|| has_none(guest))?;
    let contents = pair.open(guest, Access::Read)?;
    let described = keeping::description(guest, &contents)?;
    let length = |what| contents.table().find(&what).map(|entry| entry.length);
    let files = Files {
        description: described.text.clone(),
        kernel: length(What::Kernel).unwrap_or(0),
        initrd: described.initrd.as_ref().and(length(What::Initrd)),
        blocks: contents.blocks(),
    };
    let has_initrd = files.initrd.is_some();
    let may_go = |road: &_| disks::may_go(&described, road, true, None);
    let (_, mut channel) = call(node, agent, false, &may_go, &mut |_| Ok(()))?;
    say(&mut channel, &Word::Keep(files))?;
    expect(&mut channel, ANSWERS, &Word::Accepted)?;
    send_file(&contents, &What::Kernel, &mut channel)?;
    if has_initrd {
        send_file(&contents, &What::Initrd, &mut channel)?;
    }
    expect(&mut channel, ANSWERS, &Word::Whole)
}

fn send_file<M: Medium>(contents: &Contents<M>, what: &What, channel: &mut Channel) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::failed(format!("{what} cannot be read from the guest's own volume: {why}"))
    };
    let mut from = contents.read(what).ok_or_else(|| failed(&"there is none"))?;
    let mut piece = vec![0; PIECE];
    let mut out = Outgoing::new(channel);
    let sent = loop {
        match from.read(&mut piece).map_err(|error| failed(&error))? {
            0 => break out.flush(),
            count => match out.write_all(piece.get(..count).unwrap_or_default()) {
                Ok(()) => {}
                failed @ Err(_) => break failed,
            },
        }
    };
    sent.map_err(|error| told(channel, &error))
}

/// Where own volumes are let in: a node's agent, and where its guests are.
#[derive(Clone, Copy, Debug)]
pub struct Keeper<'a> {
    /// The agent's control socket.
    pub agent: &'a Path,
    /// The guests of its node.
    pub homes: &'a Homes,
    /// What the node is called.
    pub me: &'a str,
}

impl Keeper<'_> {
    /// Takes in the own volume of a guest that is to come from this node, and says so.
    ///
    /// # Errors
    ///
    /// There is a guest of this name, or the volume does not take it; or the other node was lost. What is
    /// there of it is noted as coming: nobody wants it.
    pub fn take(self, from: &str, files: &Files, channel: &mut Channel) -> Result<(), Failure> {
        let lost = |error: std::io::Error| Failure::failed(format!("the other node was lost: {error}"));
        let wrong = |why| Failure::failed(format!("its description makes no sense here: {why}"));
        let described = Description::parse(&files.description, Path::new("")).map_err(wrong)?;
        let contents = self.place(&described, files.blocks)?;
        channel.say(&Word::Accepted).map_err(lost)?;
        let lengths = (files.kernel, files.initrd);
        let moving = Moving::now(Way::From, from);
        keeping::take(contents, &described, lengths, &mut Incoming::new(channel), &moving)?;
        channel.say(&Word::Whole).map_err(lost)
    }

    /// The own volume of a guest that comes: made, or one that an attempt has left, or the guest when it went
    /// from here.
    fn place(self, described: &Description, blocks: u64) -> Result<Contents<Served>, Failure> {
        let guest = described.name.as_str();
        let mut pair = Pair::ask(self.agent)?.ok_or_else(|| self.no_volumes())?;
        if pair.volume(guest).is_some() && pair.wants(guest) {
            return Err(self.is_there(guest));
        }
        let known = self.homes.find(guest).ok();
        if let Some(home) = known {
            if is_in_use(&home.description()) {
                return Err(Failure::refused(format!("a guest called {guest} runs on {} already", self.me)));
            }
            if keeping::origin(&home)?.is_none() {
                return Err(self.is_alone(guest));
            }
        }
        if room::is_counted(pair.status()) {
            let Says { failover, needs } = Says::of(described);
            let admitted = room::admit(pair.status(), guest, Wanted::of(true, failover, Some(needs)), false);
            admitted
                .map_err(|why| why.next(format!("make room there: see `bulkhead plan` on {}.", self.me)))?;
        }
        let contents = pair.find_or_make(guest, blocks)?;
        let is_free = contents.table().entries().is_empty() || Moving::load(guest, &contents)?.is_some();
        if is_free { Ok(contents) } else { Err(self.is_there(guest)) }
    }

    /// Where a guest is to be whose own volume came before it from this node.
    ///
    /// # Errors
    ///
    /// It did not.
    pub fn home(self, described: &Description, from: &str) -> Result<Home, Failure> {
        let guest = &described.name;
        let pair = Pair::ask(self.agent)?.ok_or_else(|| self.no_volumes())?;
        let came = moving::in_force(&pair, guest)?;
        if !came.is_some_and(|moving| moving.way == Way::From && moving.node == from) {
            let what = format!("the own volume of guest {guest} did not come to {} before it", self.me);
            return Err(
                Failure::refused(what).next("`bulkhead vm migrate` sends it there, and then the guest.")
            );
        }
        let contents = pair.open(guest, Access::Read)?;
        let home = keeping::bring(&contents, self.homes, guest, Before::Copy, &|_| ())?;
        // It comes as it was begun; its files are here now.
        let wrong = |why| Failure::failed(format!("its description makes no sense here: {why}"));
        home.describe(&described.loading(&home.kernel(), &home.initrd()).map_err(wrong)?)?;
        Ok(home)
    }

    fn no_volumes(self) -> Failure {
        let what = format!("{} has no volumes, and a guest with a volume of its own needs one", self.me);
        Failure::refused(what).next("name a node that has.")
    }

    fn is_there(self, guest: &str) -> Failure {
        let what = format!("there is a guest called {guest} already, in a volume of its own");
        let next = format!("`bulkhead vm delete {guest}` on {} deletes it.", self.me);
        Failure::refused(what).next(next)
    }

    fn is_alone(self, guest: &str) -> Failure {
        let volume = name(guest).map_or_else(|_| format!("{guest}{SUFFIX}"), |name| name.to_string());
        let what = format!("there is a guest called {guest} on {} alone, which has no {volume}", self.me);
        let next = format!("`bulkhead vm delete {guest} --local --yes` on {} forgets that one.", self.me);
        Failure::refused(what).next(next)
    }
}
