//! A contestant in its arena: it starts, settles, loses its master, and tells when somebody begins to act.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::process::Owned;

use super::arena::Arena;
use super::kinds::{Kind, Voice};

/// All is well within this time after a start, or the contestant is given up.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The slowest contestant takes over within ten seconds.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);

/// A host began to act.
#[derive(Clone, Debug)]
pub struct Act {
    /// Which.
    pub host: usize,
    /// When it was heard of.
    pub at: Instant,
    /// The contestant's own words.
    pub line: String,
}

/// A cluster of two hosts, and a witness where it needs one.
#[derive(Debug)]
pub struct Contestant {
    /// Its name in the table.
    pub name: String,
    /// Where it runs.
    pub arena: Arena,
    /// The host that acted last.
    pub master: usize,
    kind: Kind,
    directory: PathBuf,
    acts: Receiver<Act>,
    says: Sender<Act>,
    /// What listens to each host.
    listeners: [Option<Owned>; 3],
    started: Instant,
}

impl Contestant {
    /// Starts it on all its hosts.
    pub fn start(name: &str, kind: Kind, directory: &Path) -> Result<Self> {
        kind.prepare(directory)?;
        let (hosts, (says, acts)) = (kind.hosts(), channel());
        let mut one = Self {
            name: name.to_owned(),
            arena: Arena::new(hosts)?,
            master: 0,
            kind,
            directory: directory.to_owned(),
            acts,
            says,
            listeners: [None, None, None],
            started: Instant::now(),
        };
        (0..hosts).try_for_each(|host| one.start_host(host))?;
        Ok(one)
    }

    fn start_host(&mut self, host: usize) -> Result<()> {
        self.started = Instant::now();
        if let Some(voice) = self.kind.start(&mut self.arena, host, &self.directory)? {
            self.listen(host, voice);
        }
        Ok(())
    }

    /// Tells of each line that says so, at the moment it comes.
    fn listen(&mut self, host: usize, voice: Voice) {
        let (says, Voice { lines, acts, listener }) = (self.says.clone(), voice);
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                // Nobody listens any more: the contestant is gone.
                let at = Instant::now();
                if acts(&line) && says.send(Act { host, at, line }).is_err() {
                    return;
                }
            }
        });
        if let Some(place) = self.listeners.get_mut(host) {
            *place = listener;
        }
    }

    /// Waits until a host acts and the other one could take over at once.
    pub fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_MAX;
        while !self.kind.is_ready(&self.arena, &self.directory, self.started.elapsed())? {
            ensure!(Instant::now() < deadline, "{} does not settle", self.name);
            thread::sleep(Duration::from_millis(200));
        }
        let _ = self.takeovers();
        Ok(())
    }

    /// Kills all of it on the master's host; the time until the other one acts. The killed one is started
    /// again.
    pub fn fail_over(&mut self) -> Result<Duration> {
        let (victim, heir) = (self.master, 1 - self.master);
        let begin = Instant::now();
        self.arena.kill(victim)?;
        let acted = loop {
            let left = TAKEOVER_MAX.saturating_sub(begin.elapsed());
            let heard = self.acts.recv_timeout(left);
            let act = heard.with_context(|| format!("{}: nobody took over", self.name))?;
            if act.host == heir && begin <= act.at {
                break act.at;
            }
        };
        self.master = heir;
        self.start_host(victim)?;
        Ok(acted.saturating_duration_since(begin))
    }

    /// Whether it is Bulkhead: its failures are ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Bulkhead { .. })
    }

    /// How many hosts it has.
    pub fn hosts(&self) -> usize {
        self.kind.hosts()
    }

    /// Every time that a host began to act since the last look.
    pub fn takeovers(&mut self) -> Vec<Act> {
        let acts: Vec<_> = self.acts.try_iter().collect();
        self.master = acts.last().map_or(self.master, |act| act.host);
        acts
    }
}
