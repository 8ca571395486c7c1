//! The board: QEMU's lm3s6965evb, with the card in its slot and its network behind QEMU's user network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result, bail};

use super::card::{HOSTS, PORTS, host};
use super::log;
use crate::process::{Owned, find_program};

const QEMU: &str = "qemu-system-arm";

/// A board with its power on. Dropping it cuts the power.
#[derive(Debug)]
pub struct Board {
    process: Owned,
    /// What it logs.
    pub log: Receiver<String>,
}

impl Board {
    /// Switches the board on. `ports` of this machine lead to the two paths of the witness. Without a card
    /// the slot is empty.
    ///
    /// # Errors
    /// When QEMU is missing or cannot be started.
    pub fn power_on(elf: &Path, card: Option<&Path>, ports: [u16; 2]) -> Result<Self> {
        if find_program(QEMU).is_none() {
            bail!("{QEMU} is missing.\n  Next: run `cargo xtask doctor --fix`");
        }
        let mut command = Command::new(QEMU);
        command.args(["-M", "lm3s6965evb", "-display", "none", "-monitor", "none"]);
        command.args(["-serial", "stdio", "-serial", "null", "-kernel"]).arg(elf);
        if let Some(card) = card {
            command.args(["-drive", &format!("if=sd,format=raw,cache=writethrough,file={}", card.display())]);
        }
        let mut user = "user".to_owned();
        for ((outside, inside), number) in ports.into_iter().zip(PORTS).zip(HOSTS) {
            let outside = SocketAddrV4::new(Ipv4Addr::LOCALHOST, outside);
            let inside = SocketAddrV4::new(host(number).into(), inside);
            user.push_str(&format!(",hostfwd=udp:{outside}-{inside}"));
        }
        command.args(["-net", "nic,model=stellaris", "-net", &user]);
        let mut process = Owned::start(&command, [Stdio::null(), Stdio::piped(), Stdio::inherit()])?;
        let output = process.stdout().context("QEMU has no output")?;
        Ok(Self { log: log::read(elf, output)?, process })
    }

    /// The id of QEMU's process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }
}
