//! Who is compared: each starts on a host, says when it acts there, and says when all is well again.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::process::Owned;
use qemu_tests::tooling::command::output;

use super::arena::Arena;

/// A cluster of two hosts, and a witness where it needs one.
#[derive(Debug)]
pub struct Contestant {
    /// Its name in the table.
    pub name: String,
    /// Where it runs.
    pub arena: Arena,
    kind: Kind,
    directory: PathBuf,
    /// When which host began to act.
    acts: Receiver<(usize, Instant)>,
    says: Sender<(usize, Instant)>,
    /// What runs for each host, that which watches it included.
    running: [Vec<Owned>; 3],
    started: Instant,
    /// The host that acted last.
    pub master: usize,
}

/// What it is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Two agents and a witness, with this named set of timers.
    Bulkhead { program: PathBuf, preset: &'static str },
    /// VRRP with this interval between advertisements, in milliseconds.
    Keepalived { interval_ms: u64 },
    /// corosync and pacemaker; `token_ms` as corosync has it by default, or another.
    Pacemaker { token_ms: Option<u64> },
}

impl Contestant {
    /// Starts it on all its hosts.
    pub fn start(name: &str, kind: Kind, directory: &Path, number: usize) -> Result<Self> {
        let directory = directory.join(format!("contestant-{number}"));
        fs::create_dir_all(&directory)?;
        let hosts = if matches!(kind, Kind::Bulkhead { .. }) { 3 } else { 2 };
        let arena = Arena::new(&number.to_string(), hosts)?;
        let (says, acts) = channel();
        let running = [Vec::new(), Vec::new(), Vec::new()];
        let (name, started) = (name.to_owned(), Instant::now());
        let mut one = Self { name, arena, kind, directory, acts, says, running, started, master: 0 };
        if let Kind::Bulkhead { program, .. } = &one.kind {
            output(Command::new(program).args(["config", "keygen"]).arg(one.directory.join("site.key")))?;
        }
        (0..hosts).try_for_each(|host| one.start_host(host))?;
        Ok(one)
    }

    fn start_host(&mut self, host: usize) -> Result<()> {
        self.started = Instant::now();
        let started = match self.kind.clone() {
            Kind::Bulkhead { program, preset } => self.bulkhead(host, &program, preset)?,
            Kind::Keepalived { interval_ms } => self.keepalived(host, interval_ms)?,
            Kind::Pacemaker { token_ms } => self.pacemaker(host, token_ms)?,
        };
        if let Some(running) = self.running.get_mut(host) {
            *running = started;
        }
        Ok(())
    }

    /// Waits until a host acts and the other one could take over at once.
    pub fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.is_ready()? {
            ensure!(Instant::now() < deadline, "{} does not settle", self.name);
            thread::sleep(Duration::from_millis(200));
        }
        while let Ok((host, _)) = self.acts.try_recv() {
            self.master = host;
        }
        Ok(())
    }

    /// Kills all of it on the master's host; the time until the other one acts. The killed one is started
    /// again.
    pub fn fail_over(&mut self) -> Result<Duration> {
        let (victim, heir) = (self.master, 1 - self.master);
        let begin = Instant::now();
        self.arena.kill(victim)?;
        let acted = loop {
            let (host, at) = self
                .acts
                .recv_timeout(Duration::from_secs(60))
                .with_context(|| format!("{}: nobody took over", self.name))?;
            if host == heir {
                break at;
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

    /// How often a host began to act since the last look.
    pub fn takeovers(&mut self) -> usize {
        let mut count = 0;
        while let Ok((host, _)) = self.acts.try_recv() {
            self.master = host;
            count += 1;
        }
        count
    }

    fn is_ready(&self) -> Result<bool> {
        match &self.kind {
            Kind::Bulkhead { program, .. } => {
                let mut all = true;
                for host in [0, 1] {
                    let mut command = Command::new(program);
                    command.args(["status", "--socket"]).arg(self.path(host, "sock"));
                    all &= command.output()?.status.success();
                }
                Ok(all)
            }
            // It has no word for it: three times its own patience.
            Kind::Keepalived { interval_ms } => {
                Ok(Duration::from_millis(interval_ms * 12 + 1000) < self.started.elapsed())
            }
            Kind::Pacemaker { .. } => {
                let mut all = true;
                for host in [0, 1] {
                    // Everything pacemaker runs there shares its namespaces.
                    let Some(first) = self.arena.processes(host)?.into_iter().max() else { return Ok(false) };
                    let mut command = Command::new("nsenter");
                    command.args(["-t", &first.to_string(), "-m", "-u", "-n", "crm_mon", "-1"]);
                    let text = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
                    all &= text.contains("Online: [ n0 n1 ]") && text.contains("Started n");
                }
                Ok(all)
            }
        }
    }

    fn path(&self, host: usize, what: &str) -> PathBuf {
        self.directory.join(format!("{host}.{what}"))
    }

    fn log(&self, host: usize) -> Result<[Stdio; 3]> {
        let log = OpenOptions::new().append(true).create(true).open(self.path(host, "log"))?;
        Ok([Stdio::null(), log.try_clone()?.into(), log.into()])
    }

    fn bulkhead(&self, host: usize, program: &Path, preset: &str) -> Result<Vec<Owned>> {
        let config = self.path(host, "toml");
        fs::write(&config, site(host, preset))?;
        let verb = if host == 2 { "witness" } else { "agent" };
        let mut command = self.arena.on(host, &program.display().to_string());
        command.args([verb, "--config"]).arg(&config);
        let agent = Owned::start(&command, self.log(host)?)?;
        if host == 2 {
            return Ok(vec![agent]);
        }
        let socket = self.path(host, "sock");
        let mut watch = Command::new("sh");
        // An agent that was killed leaves its socket; the new one replaces it.
        let follow = "until \"$0\" status --socket \"$1\" --one-line >/dev/null; [ $? -lt 3 ]; do \
                      sleep 0.02; done; exec \"$0\" events --follow --json --socket \"$1\"";
        watch.args(["-c", follow]).arg(program).arg(&socket);
        let mut watcher = Owned::start(&watch, [Stdio::null(), Stdio::piped(), Stdio::null()])?;
        let lines = watcher.stdout().context("the events are a pipe")?;
        self.watch(host, lines, |line| {
            line.contains("\"office\":\"infra\"") && line.contains("\"role\":\"master\"")
        });
        Ok(vec![agent, watcher])
    }

    fn keepalived(&self, host: usize, interval_ms: u64) -> Result<Vec<Owned>> {
        let (fifo, config) = (self.path(host, "fifo"), self.path(host, "conf"));
        let interval = format!("{}.{:03}", interval_ms / 1000, interval_ms % 1000);
        let text = format!(
            "global_defs {{\n  router_id n{host}\n  notify_fifo {}\n  vrrp_version 3\n}}\n\
             vrrp_instance bench {{\n  state BACKUP\n  interface eth1\n  virtual_router_id 51\n  \
             priority {}\n  advert_int {interval}\n  nopreempt\n  \
             virtual_ipaddress {{\n    10.72.1.100/24\n  }}\n}}\n",
            fifo.display(),
            150 - 50 * host,
        );
        fs::write(&config, text)?;
        self.watch(host, self.fifo(&fifo)?, |line| line.contains("\" MASTER "));
        let mut command = self.arena.on(host, "keepalived");
        command.args(["-n", "-l", "-f"]).arg(&config);
        for (option, file) in [("-p", "pid"), ("-r", "vrrp.pid")] {
            // Of one that was killed: it would be taken for a running one.
            remove(&self.path(host, file))?;
            command.arg(option).arg(self.path(host, file));
        }
        Ok(vec![Owned::start(&command, self.log(host)?)?])
    }

    fn pacemaker(&self, host: usize, token_ms: Option<u64>) -> Result<Vec<Owned>> {
        let (script, fifo) = (self.path(host, "sh"), self.path(host, "fifo"));
        fs::write(&script, include_str!("pacemaker.sh"))?;
        self.watch(host, self.fifo(&fifo)?, |line| line == "start");
        let token = token_ms.map_or_else(String::new, |token| format!("token: {token}"));
        let mut command = self.arena.on(host, "unshare");
        command.args(["-m", "-u", "sh"]).arg(&script).arg(host.to_string()).arg(&fifo).arg(token);
        Ok(vec![Owned::start(&command, self.log(host)?)?])
    }

    /// A pipe with a name, which has no end: both ends are ours too.
    fn fifo(&self, path: &Path) -> Result<File> {
        remove(path)?;
        output(Command::new("mkfifo").arg(path))?;
        Ok(OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// Tells of each line for which `acts` holds, at the moment it comes.
    fn watch(&self, host: usize, lines: impl std::io::Read + Send + 'static, acts: fn(&str) -> bool) {
        let says = self.says.clone();
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                // Nobody listens any more: the contestant is gone.
                if acts(&line) && says.send((host, Instant::now())).is_err() {
                    return;
                }
            }
        });
    }
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The site of our own contestant, for one host.
fn site(host: usize, preset: &str) -> String {
    let node = |host: usize| {
        let place = match host {
            0 => "name = \"n0\"\npair = 1\nside = \"a\"",
            1 => "name = \"n1\"\npair = 1\nside = \"b\"",
            _ => "name = \"w\"\nwitness = true",
        };
        let (id, address) = (host + 1, |network: u8| format!("\"10.72.{network}.{}\"", host + 1));
        let addresses = format!("[{}, {}]", address(1), address(2));
        format!("[[node]]\nid = {id}\n{place}\naddresses = {addresses}\nvoter = true\n")
    };
    let local = format!("node = {}\nkey_file = \"site.key\"\nstate = \"{host}.state\"\n", host + 1);
    format!(
        "[site]\nid = \"2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11\"\nname = \"bench\"\n[local]\n{local}\
         socket = \"{host}.sock\"\n{}{}{}[timers]\npreset = \"{preset}\"\n",
        node(0),
        node(1),
        node(2),
    )
}

/// All that the contestants and their hosts need is here.
pub fn check_tools() -> Result<()> {
    for tool in ["ip", "unshare", "nsenter", "keepalived", "corosync", "pacemakerd", "stress-ng"] {
        if qemu_tests::tooling::command::find(tool).is_none() {
            bail!("{tool} is not here");
        }
    }
    Ok(())
}
