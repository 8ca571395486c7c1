//! Hosts as network namespaces on two bridges, made for one contestant and gone with it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use qemu_tests::tooling::command::output;
use rustix::process::{Pid, Signal, kill_process};

/// Processor time in `/proc/PID/stat` counts these a second (`man 5 proc`; `sysconf(_SC_CLK_TCK)` on Linux).
pub const TICKS_PER_SECOND: f64 = 100.0;

/// Some hosts on two networks. Dropping it ends all that runs on them.
#[derive(Debug)]
pub struct Arena {
    prefix: String,
    hosts: usize,
}

impl Arena {
    /// `hosts` hosts; host `n` has the addresses `10.72.1.n+1` and `10.72.2.n+1`.
    pub fn new(name: &str, hosts: usize) -> Result<Self> {
        let arena = Self { prefix: format!("bhb{}{name}", std::process::id()), hosts };
        let switch = arena.switch();
        ip(&["netns", "add", &switch])?;
        for network in ["1", "2"] {
            ip(&["-n", &switch, "link", "add", &format!("br{network}"), "type", "bridge"])?;
            ip(&["-n", &switch, "link", "set", &format!("br{network}"), "up"])?;
        }
        for host in 0..hosts {
            let name = arena.namespace(host);
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            for network in ["1", "2"] {
                let (port, card) = (format!("p{host}n{network}"), format!("eth{network}"));
                let peer = ["type", "veth", "peer", "name", &card, "netns", &name];
                ip(&[&["-n", &switch, "link", "add", &port], &peer[..]].concat())?;
                ip(&["-n", &switch, "link", "set", &port, "master", &format!("br{network}"), "up"])?;
                let address = format!("10.72.{network}.{}/24", host + 1);
                ip(&["-n", &name, "address", "add", &address, "dev", &card])?;
                ip(&["-n", &name, "link", "set", &card, "up"])?;
            }
        }
        Ok(arena)
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A command on a host.
    pub fn on(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// All processes on a host.
    pub fn processes(&self, host: usize) -> Result<Vec<i32>> {
        let list = output(Command::new("ip").args(["netns", "pids", &self.namespace(host)]))?;
        list.split_whitespace().map(|id| id.parse().context("a process id")).collect()
    }

    /// Kills all processes on a host at once, as a loss of power would.
    pub fn kill(&self, host: usize) -> Result<()> {
        // The youngest first: a child that saw its parent die might still say goodbye.
        for id in self.processes(host)?.into_iter().rev() {
            // One that ended meanwhile is as dead as it is to be.
            let _ = Pid::from_raw(id).map(|id| kill_process(id, Signal::KILL));
        }
        Ok(())
    }

    /// Processor time that the processes on a host have used, in ticks.
    pub fn ticks(&self, host: usize) -> Result<u64> {
        let mut sum = 0;
        for id in self.processes(host)? {
            let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
            let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
            sum += fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(sum)
    }

    /// Bytes that a host has sent on both networks.
    pub fn bytes(&self, host: usize) -> Result<u64> {
        let mut sum = 0;
        for network in ["1", "2"] {
            let file = format!("/sys/class/net/p{host}n{network}/statistics/rx_bytes");
            let text = output(Command::new("ip").args(["netns", "exec", &self.switch(), "cat", &file]))?;
            sum += text.trim().parse::<u64>()?;
        }
        Ok(sum)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            let _ = self.kill(host);
            let _ = ip(&["netns", "delete", &self.namespace(host)]);
        }
        let _ = ip(&["netns", "delete", &self.switch()]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(drop)
}
