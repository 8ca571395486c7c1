//! A changed configuration file, taken by the running agent: what can change at run time does, and what
//! needs a restart is named (S2-07, S2-08, F54, V40).
//!
//! A thread of its own reads the file: the loop has no time for disks. What is wrong with the file, or cannot
//! be taken, leaves everything as it was.

use super::clock;
use super::events::News;
use super::node_settings::{can_fence, members, relays};
use super::request::Answer;
use super::run::Agent;
use super::wake::Wake;
use crate::cluster::control::Question;
use crate::failure::Failure;
use crate::site_config::{Member, SiteConfig};
use bulkhead_core::node::membership::Fixed;
use bulkhead_core::node::settings::{Digest, Relay};
use bulkhead_core::node::words::Event;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What needs a restart.
const RESTART: &str = "undo it, or restart the agents of the site with the new file, one at a time";

/// A file that was read, and who wants to know what became of it; nobody when it was a signal.
type Done = (Result<SiteConfig, Failure>, Option<Question>);

/// Reads the file again.
#[derive(Debug)]
pub struct Reader {
    /// None when the agent was not started with a file.
    file: Option<PathBuf>,
    asked: Arc<AtomicBool>,
    sender: Sender<Done>,
    receiver: Receiver<Done>,
    wake: Wake,
}

impl Reader {
    /// Reads `file` when it is asked to, or when the process gets SIGHUP.
    ///
    /// # Errors
    ///
    /// The signal cannot be listened for.
    pub fn new(file: Option<&Path>, wake: Wake) -> Result<Self, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asked)).map_err(|error| {
            Failure::failed(format!("cannot listen for signals: {error}")).left("Nothing was started.")
        })?;
        let (sender, receiver) = channel();
        Ok(Self { file: file.map(Into::into), asked, sender, receiver, wake })
    }

    /// Begins to read; `question` is answered when the file was read and taken, or not.
    fn read(&self, question: Option<Question>) {
        let (sender, wake, file) = (self.sender.clone(), self.wake.clone(), self.file.clone());
        let thread = std::thread::Builder::new().name("config".into()).stack_size(1 << 20);
        // Without a thread nobody answers, and the command says that.
        let _ = thread.spawn(move || {
            let read = file.map_or_else(|| Err(no_file()), |file| SiteConfig::read(&file));
            // The loop may have ended.
            let _ = sender.send((read, question));
            wake.wake();
        });
    }
}

fn no_file() -> Failure {
    Failure::refused("this agent runs what stands on its node's disk, not a file")
        .next("put the site there with `bulkhead node site set`, and restart the agent.")
}

impl Agent {
    pub(super) fn read_again(&self, question: Option<Question>) {
        self.reader.read(question);
    }

    /// Takes what was read since, and begins to read when a signal asked for it.
    pub(super) fn take_files(&mut self) {
        if self.reader.asked.swap(false, Ordering::Relaxed) {
            self.read_again(None);
        }
        while let Ok((read, question)) = self.reader.receiver.try_recv() {
            let taken = read.and_then(|config| self.take(config));
            if let Err(failure) = &taken {
                let text = format!("the configuration file was not taken: {}", failure.what);
                self.hands.log.say(News::new("not-applied", text, json!({})));
            }
            if let Some(question) = question {
                question.answer(match taken {
                    Ok(changes) => Answer::done("applied", json!(changes)),
                    Err(failure) => Answer::refused(failure.exit.name(), failure.what, failure.next),
                });
            }
        }
    }

    /// Has this node go on with `config`; says what changed.
    fn take(&mut self, config: SiteConfig) -> Result<Vec<String>, Failure> {
        let old = Arc::clone(&self.hands.config);
        let fixed = fixed(&old, &config);
        if !fixed.is_empty() {
            let what = format!("a running agent cannot change {}", fixed.join(", "));
            return Err(Failure::refused(what).next(format!("{RESTART}.")));
        }
        let now = clock::now();
        let taken = self.node.change_members(now, members(&config), relays(&config), Digest(config.digest()));
        taken.map_err(|fixed| refused(&old, fixed))?;
        let news = changes(&old, &config);
        let config = Arc::new(config);
        self.hands.fencer.set_config(Arc::clone(&config));
        self.hands.switchboard.set_config(Arc::clone(&config));
        let _ = self.volumes.as_ref().map(|volumes| volumes.recount(&config));
        self.hands.config = config;
        self.step(Event::Timeout);
        let texts = news.iter().map(|one| one.text.clone()).collect();
        news.into_iter().for_each(|one| self.hands.log.say(one));
        Ok(texts)
    }
}

fn refused(old: &SiteConfig, fixed: Fixed) -> Failure {
    let next = match fixed {
        Fixed::Acts { node, .. } => {
            let name = old.name_of(node);
            let what = format!("{name} has a role, and would not be a node of the site any more");
            let next = format!("run `bulkhead node leave {}` on {name}, and try again.", node.0);
            return Failure::refused(what).next(next);
        }
        Fixed::Unsound(_) | Fixed::Member(_) | Fixed::Voters(_) | Fixed::Controller => RESTART,
    };
    let what = match fixed {
        Fixed::Voters(pair) => format!("others would vote for pair {}", pair.0),
        Fixed::Acts { .. } | Fixed::Unsound(_) | Fixed::Member(_) | Fixed::Controller => fixed.to_string(),
    };
    Failure::refused(format!("a running agent cannot change who votes: {what}")).next(format!("{next}."))
}

/// What of `new` a running agent cannot take, by key.
fn fixed(old: &SiteConfig, new: &SiteConfig) -> Vec<String> {
    let keys = [
        ("`id` or `name` of [site]", (old.site, &old.site_name) != (new.site, &new.site_name)),
        ("[local]", old.local != new.local),
        ("its own addresses", old.listen != new.listen),
        ("[timers]", old.timers != new.timers),
        ("[watchdog]", old.watchdog != new.watchdog),
        ("[[resource]]", old.resources != new.resources),
        ("`witness` of [[fencing]]", moves_a_relay(old, new)),
        ("[[fencing]] from none to some, or from some to none", can_fence(old) != can_fence(new)),
    ];
    let of_site = keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| (*key).to_owned());
    let of_nodes = old.members.iter().filter_map(|old| {
        let new = new.member(old.id)?;
        let served = (old.nbd, old.guests) != (new.nbd, new.guests);
        let changed = (old.duty, old.voter) != (new.duty, new.voter) || served;
        let keys = "`pair`, `side`, `priority`, `witness`, `voter`, `nbd` or `guests`";
        changed.then(|| format!("{keys} of {}", old.name))
    });
    of_site.chain(of_nodes).collect()
}

/// A relay would be another witness's. While one file after the other is taken, two could cut for two sides.
fn moves_a_relay(old: &SiteConfig, new: &SiteConfig) -> bool {
    let new = relays(new);
    let moved = |one: &Relay| new.iter().any(|other| other.node == one.node && other.witness != one.witness);
    relays(old).iter().any(moved)
}

/// What changes, for people and programs.
fn changes(old: &SiteConfig, new: &SiteConfig) -> Vec<News> {
    let mut changes = Vec::new();
    let mut say = |member: &Member, what: &'static str, text: String| {
        changes.push(News::new("membership", text, json!({ "node": member.id.0, "what": what })));
    };
    for member in &old.members {
        let name = &member.name;
        match new.member(member.id) {
            None => say(member, "removed", format!("{name} is not a node of the site any more")),
            Some(now) if now != member => {
                say(now, "changed", format!("the addresses or the name of {name} changed"))
            }
            Some(_) => {}
        }
    }
    for member in new.members.iter().filter(|member| old.member(member.id).is_none()) {
        say(member, "added", format!("{} is a node of the site from now on", member.name));
    }
    if old.fencing != new.fencing {
        changes.push(News::new("applied", "how nodes are fenced changed".to_owned(), json!({})));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::{EXAMPLE, Method};
    use bulkhead_core::fence::words::Outlet;
    use bulkhead_core::id::NodeId;
    use std::num::NonZeroU8;

    /// V21: a relay stays its witness's while agents run; all else of fencing may change.
    #[test]
    fn a_relay_stays_with_its_witness() {
        let old = SiteConfig::parse(Path::new("site.toml"), EXAMPLE).unwrap();
        let changed = |change: fn(&mut Method)| {
            let mut new = old.clone();
            new.fencing.iter_mut().for_each(|fencing| change(&mut fencing.method));
            fixed(&old, &new)
        };
        let other = |method: &mut Method| {
            if let Method::Relay { witness, .. } = method {
                *witness = NodeId(9);
            }
        };
        assert_eq!(changed(other), ["`witness` of [[fencing]]"]);
        let wired_otherwise = |method: &mut Method| {
            if let Method::Relay { outlet, .. } = method {
                *outlet = Outlet::Strip(NonZeroU8::MAX);
            }
        };
        assert_eq!(changed(wired_otherwise), [""; 0]);
    }
}
