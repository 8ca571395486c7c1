//! Hosts as namespaces on two bridges, for one contestant. Nothing has a name and nothing outlives this
//! program, however it ends: the kernel takes the networks away with the last process that is in them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::process::Owned;
use qemu_tests::tooling::command::output;
use rustix::process::{Pid, Signal, kill_process};

/// Processor time in `/proc/PID/stat` counts these a second (`man 5 proc`; `sysconf(_SC_CLK_TCK)` on Linux).
pub const TICKS_PER_SECOND: f64 = 100.0;

/// The networks of each host, by the names of its cards.
pub const NETWORKS: [&str; 2] = ["1", "2"];

/// The kernel ends a host within milliseconds; on a loaded machine it may have to wait for its turn.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Some hosts on two networks. Dropping it ends all that runs on them.
#[derive(Debug)]
pub struct Arena {
    hosts: Vec<Host>,
    /// Keeps the bridges.
    switch: Owned,
}

#[derive(Debug)]
struct Host {
    /// Keeps the network cards: they stay when all that runs on the host is killed.
    cards: Owned,
    /// `unshare`, which waits for the first process of the host.
    runs: Option<Owned>,
}

impl Arena {
    /// `hosts` hosts; host `n` has the addresses `10.72.1.n+1` and `10.72.2.n+1`.
    pub fn new(hosts: usize) -> Result<Self> {
        let switch = holder()?;
        for network in NETWORKS {
            let bridge = format!("br{network}");
            ip(&switch, &["link", "add", &bridge, "type", "bridge"])?;
            ip(&switch, &["link", "set", &bridge, "up"])?;
        }
        let mut arena = Self { hosts: Vec::new(), switch };
        for host in 0..hosts {
            arena.add(host)?;
        }
        Ok(arena)
    }

    fn add(&mut self, host: usize) -> Result<()> {
        let (switch, cards) = (&self.switch, holder()?);
        ip(&cards, &["link", "set", "lo", "up"])?;
        for network in NETWORKS {
            let (port, card) = (format!("p{host}n{network}"), format!("eth{network}"));
            let there = cards.id().to_string();
            ip(switch, &["link", "add", &port, "type", "veth", "peer", "name", &card, "netns", &there])?;
            ip(switch, &["link", "set", &port, "master", &format!("br{network}"), "up"])?;
            ip(&cards, &["address", "add", &format!("10.72.{network}.{}/24", host + 1), "dev", &card])?;
            ip(&cards, &["link", "set", &card, "up"])?;
        }
        self.hosts.push(Host { cards, runs: None });
        Ok(())
    }

    fn host(&self, host: usize) -> Result<&Host> {
        self.hosts.get(host).with_context(|| format!("no host {host}"))
    }

    /// Starts a program as the first process of a host that runs nothing.
    pub fn start(&mut self, host: usize, program: &Command, streams: [Stdio; 3]) -> Result<()> {
        let one = self.hosts.get_mut(host).with_context(|| format!("no host {host}"))?;
        ensure!(one.runs.is_none(), "host {host} runs already");
        let mut command = Command::new("nsenter");
        command.arg(network_of(&one.cards)).arg("unshare");
        command.args(["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(program.get_program()).args(program.get_args());
        one.runs = Some(Owned::start(&command, streams)?);
        Ok(())
    }

    /// Kills all that runs on a host at once, as a loss of power would: the kernel ends what is left when the
    /// first process dies, so nobody sees another one die, and nobody can be started anew.
    pub fn kill(&mut self, host: usize) -> Result<()> {
        let first = self.first(host)?.with_context(|| format!("nothing runs on host {host}"))?;
        let first = Pid::from_raw(first).context("a process id")?;
        kill_process(first, Signal::KILL)?;
        let one = self.hosts.get_mut(host).with_context(|| format!("no host {host}"))?;
        if let Some(mut runs) = one.runs.take() {
            ensure!(runs.wait(KILL_MAX)?.is_some(), "host {host} was killed and does not end");
        }
        Ok(())
    }

    /// The first process of a host, once there is one.
    pub fn first(&self, host: usize) -> Result<Option<i32>> {
        let Some(runs) = &self.host(host)?.runs else { return Ok(None) };
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", runs.id()))?;
        Ok(children.split_whitespace().next().map(str::parse).transpose()?)
    }

    /// Processor time that a host has used, in ticks.
    pub fn ticks(&self, host: usize) -> Result<u64> {
        let Some(first) = self.first(host)? else { return Ok(0) };
        let inside = |id: &str| fs::read_link(PathBuf::from(format!("/proc/{id}/ns/pid"))).ok();
        let host = inside(&first.to_string()).context("the host has ended")?;
        let mut sum = 0;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if inside(&name).is_some_and(|space| space == host) {
                // A process that ends meanwhile is found again in what its parent has waited for.
                sum += ticks_in(&fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default());
            }
        }
        Ok(sum)
    }

    /// Bytes that a host has sent, by network.
    pub fn sent(&self, host: usize) -> Result<[u64; 2]> {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.host(host)?.cards.id()))?;
        let [one, two] = NETWORKS.map(|network| sent_in(&text, &format!("eth{network}")));
        Ok([one.context("no first network")?, two.context("no second network")?])
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for host in 0..self.hosts.len() {
            // One that runs nothing is as dead as it is to be.
            let _ = self.kill(host);
        }
    }
}

/// A process that does nothing in a network namespace of its own.
fn holder() -> Result<Owned> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "echo here; exec sleep infinity"]);
    let mut holder = Owned::start(&command, [Stdio::null(), Stdio::piped(), Stdio::inherit()])?;
    let mut line = String::new();
    BufReader::new(holder.stdout().context("its output is a pipe")?).read_line(&mut line)?;
    ensure!(line == "here\n", "no network namespace can be made here: this needs root");
    Ok(holder)
}

fn network_of(holder: &Owned) -> String {
    format!("--net=/proc/{}/ns/net", holder.id())
}

fn ip(holder: &Owned, arguments: &[&str]) -> Result<()> {
    output(Command::new("nsenter").arg(network_of(holder)).arg("ip").args(arguments)).map(drop)
}

/// User and system time of a process, and of those it has waited for: fields 14 to 17 of its `stat`. The
/// name, in parentheses, may hold anything.
fn ticks_in(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Bytes sent by a card: the ninth number behind its name in `/proc/net/dev`.
fn sent_in(dev: &str, card: &str) -> Option<u64> {
    let line = dev.lines().find_map(|line| line.trim_start().strip_prefix(card)?.strip_prefix(':'))?;
    line.split_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
                       eth10: 1 2 3 4 5 6 7 8 99 10 11 12 13 14 15 16\n  \
                       eth1: 1 2 3 4 5 6 7 8 42 10 11 12 13 14 15 16\n";

    #[test]
    fn the_kernels_counters_are_read_in_the_right_column() {
        assert_eq!(sent_in(DEV, "eth1"), Some(42));
        assert_eq!(sent_in(DEV, "eth2"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 4 200 1000 20 0 1 0 5 6 7";
        assert_eq!(ticks_in(stat), 30 + 4 + 200 + 1000);
    }

    /// Pacemaker starts a daemon anew that it sees die: killed one by one, some would stay for ever.
    #[test]
    fn a_host_dies_with_all_that_it_could_start_anew() {
        let Ok(mut arena) = Arena::new(2) else {
            println!("skipped: no namespaces can be made here");
            return;
        };
        let mark = format!("{}.25", 200_000 + std::process::id());
        let mut stubborn = Command::new("sh");
        stubborn.args(["-c", &format!("while :; do sleep {mark} & setsid sleep {mark}; done")]);
        arena.start(0, &stubborn, [Stdio::null(), Stdio::null(), Stdio::null()]).unwrap();
        let running = || {
            let listing = output(Command::new("ps").args(["-eo", "args"])).unwrap();
            listing.lines().filter(|line| *line == format!("sleep {mark}")).count()
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while running() < 2 {
            assert!(std::time::Instant::now() < deadline, "the host does not start");
        }
        arena.kill(0).unwrap();
        assert_eq!(running(), 0);
        assert!(arena.kill(0).is_err(), "a host that runs nothing was killed");
        assert!(arena.sent(1).is_ok() && arena.sent(2).is_err());
    }
}
