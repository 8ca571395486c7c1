//! What each contestant is: how it is started on a host, which line of it says that it acts, and how it shows
//! that all is well.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::process::Owned;
use qemu_tests::tooling::command::output;

use super::arena::Arena;

/// A contestant and its settings.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Two agents and a witness, with this named set of timers.
    Bulkhead { program: PathBuf, preset: &'static str },
    /// VRRP with this interval between advertisements, in milliseconds.
    Keepalived { interval_ms: u64 },
    /// corosync and pacemaker; `token_ms` as corosync has it by default, or another.
    Pacemaker { token_ms: Option<u64> },
}

/// What tells when a host acts: a stream of lines, and which of them says so.
pub struct Voice {
    pub lines: Box<dyn std::io::Read + Send>,
    pub acts: fn(&str) -> bool,
    /// A program of ours that listens, where one is needed. It runs on no host.
    pub listener: Option<Owned>,
}

impl Kind {
    pub const fn hosts(&self) -> usize {
        match self {
            Self::Bulkhead { .. } => 3,
            Self::Keepalived { .. } | Self::Pacemaker { .. } => 2,
        }
    }

    /// What is made once, before any host starts.
    pub fn prepare(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        if let Self::Bulkhead { program, .. } = self {
            output(Command::new(program).args(["config", "keygen"]).arg(directory.join("site.key")))?;
        }
        Ok(())
    }

    /// Starts it on a host. A host that never acts has no voice.
    pub fn start(&self, arena: &mut Arena, host: usize, directory: &Path) -> Result<Option<Voice>> {
        let place = Place { directory, host };
        match self {
            Self::Bulkhead { program, preset } => place.bulkhead(arena, program, preset),
            Self::Keepalived { interval_ms } => place.keepalived(arena, *interval_ms).map(Some),
            Self::Pacemaker { token_ms } => place.pacemaker(arena, *token_ms).map(Some),
        }
    }

    /// Whether one host acts and the other could take over at once, `since` the last of them was started.
    pub fn is_ready(&self, arena: &Arena, directory: &Path, since: Duration) -> Result<bool> {
        match self {
            Self::Bulkhead { program, .. } => {
                let mut all = true;
                for host in [0, 1] {
                    let mut command = Command::new(program);
                    command.args(["status", "--socket"]).arg(Place { directory, host }.path("sock"));
                    all &= command.output()?.status.success();
                }
                Ok(all)
            }
            // It has no word for it: three times its own patience.
            Self::Keepalived { interval_ms } => Ok(Duration::from_millis(interval_ms * 12 + 1000) < since),
            Self::Pacemaker { .. } => {
                let mut all = true;
                for host in [0, 1] {
                    let Some(first) = arena.first(host)? else { return Ok(false) };
                    let mut command = Command::new("nsenter");
                    command.args(["-t", &first.to_string(), "-m", "-u", "-i", "-n", "-p", "crm_mon", "-1"]);
                    let text = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
                    all &= text.contains("Online: [ n0 n1 ]") && text.contains("Started n");
                }
                Ok(all)
            }
        }
    }
}

/// A host's files.
struct Place<'a> {
    directory: &'a Path,
    host: usize,
}

impl Place<'_> {
    fn path(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}.{what}", self.host))
    }

    fn log(&self) -> Result<[Stdio; 3]> {
        let log = OpenOptions::new().append(true).create(true).open(self.path("log"))?;
        Ok([Stdio::null(), log.try_clone()?.into(), log.into()])
    }

    fn bulkhead(&self, arena: &mut Arena, program: &Path, preset: &str) -> Result<Option<Voice>> {
        let config = self.path("toml");
        fs::write(&config, site(self.host, preset))?;
        let is_witness = self.host == 2;
        let mut command = Command::new(program);
        command.args([if is_witness { "witness" } else { "agent" }, "--config"]).arg(&config);
        arena.start(self.host, &command, self.log()?)?;
        if is_witness {
            return Ok(None);
        }
        // An agent that was killed leaves its socket; the new one replaces it.
        let follow = "until \"$0\" status --socket \"$1\" --one-line >/dev/null; [ $? -lt 3 ]; do \
                      sleep 0.02; done; exec \"$0\" events --follow --json --socket \"$1\"";
        let mut watch = Command::new("sh");
        watch.args(["-c", follow]).arg(program).arg(self.path("sock"));
        let mut listener = Owned::start(&watch, [Stdio::null(), Stdio::piped(), Stdio::null()])?;
        let lines = Box::new(listener.stdout().context("the events are a pipe")?);
        let acts = |line: &str| line.contains("\"office\":\"infra\"") && line.contains("\"role\":\"master\"");
        Ok(Some(Voice { lines, acts, listener: Some(listener) }))
    }

    fn keepalived(&self, arena: &mut Arena, interval_ms: u64) -> Result<Voice> {
        let (fifo, config) = (self.path("fifo"), self.path("conf"));
        let interval = format!("{}.{:03}", interval_ms / 1000, interval_ms % 1000);
        let text = format!(
            "global_defs {{\n  router_id n{}\n  notify_fifo {}\n  vrrp_version 3\n}}\n\
             vrrp_instance bench {{\n  state BACKUP\n  interface eth1\n  virtual_router_id 51\n  \
             priority {}\n  advert_int {interval}\n  nopreempt\n  \
             virtual_ipaddress {{\n    10.72.1.100/24\n  }}\n}}\n",
            self.host,
            fifo.display(),
            150 - 50 * self.host,
        );
        fs::write(&config, text)?;
        let lines = Box::new(pipe(&fifo)?);
        let mut command = Command::new("keepalived");
        command.args(["-n", "-l", "-f"]).arg(&config);
        for (option, file) in [("-p", "pid"), ("-r", "vrrp.pid")] {
            // Of one that was killed: it would be taken for a running one.
            remove(&self.path(file))?;
            command.arg(option).arg(self.path(file));
        }
        arena.start(self.host, &command, self.log()?)?;
        // Its address stays on the card when it is killed, as on a host that lives on: the killed one is not
        // the observer, and the other one does not look.
        Ok(Voice { lines, acts: |line| line.contains("\" MASTER "), listener: None })
    }

    fn pacemaker(&self, arena: &mut Arena, token_ms: Option<u64>) -> Result<Voice> {
        let (script, fifo) = (self.path("sh"), self.path("fifo"));
        fs::write(&script, include_str!("pacemaker.sh"))?;
        let lines = Box::new(pipe(&fifo)?);
        let token = token_ms.map_or_else(String::new, |token| format!("token: {token}"));
        let mut command = Command::new("sh");
        command.arg(&script).arg(self.host.to_string()).arg(&fifo).arg(token);
        arena.start(self.host, &command, self.log()?)?;
        Ok(Voice { lines, acts: |line| line == "start", listener: None })
    }
}

/// A pipe with a name, which has no end: both ends are ours too.
fn pipe(path: &Path) -> Result<File> {
    remove(path)?;
    output(Command::new("mkfifo").arg(path))?;
    Ok(OpenOptions::new().read(true).write(true).open(path)?)
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
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
