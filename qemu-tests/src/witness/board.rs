//! The board: QEMU's lm3s6965evb, with the card in its slot, on QEMU's user network or in a switch.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::card::{HOSTS, PORTS, host};
use super::log;
use crate::machine::{Qmp, await_qemu};
use crate::process::{Owned, find_program};
use crate::switch::trunk::Trunk;

const QEMU: &str = "qemu-system-arm";
/// QEMU's name of the card's drive.
const CARD: &str = "sd0";
/// What it says of a port of this machine that somebody else has.
const TAKEN: &str = "host forwarding";
/// Such a port is waited for.
const TAKEN_MAX: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(250);
/// QEMU ends within this time once it has closed its control socket.
const ENDS: Duration = Duration::from_secs(5);
/// With what cortex-m-rt paints a stack.
const PAINT: u8 = 0xcc;
/// Where the board's memory begins, and its length.
const MEMORY_AT: u32 = 0x2000_0000;
const MEMORY_LEN: u32 = 64 << 10;

/// To what the board's Ethernet socket is joined.
#[derive(Clone, Debug)]
pub enum Wire {
    /// QEMU's user network, in which this machine is 10.0.2.2. These of its ports lead to the two paths.
    User([u16; 2]),
    /// Both networks of the harness.
    Trunk(Arc<Trunk>),
}

/// What the board is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The firmware.
    pub elf: PathBuf,
    /// The image of the card; without one the slot is empty.
    pub card: Option<PathBuf>,
    /// Where a power strip (`super::strip`) waits for it, if there is one.
    pub strip: Option<PathBuf>,
    /// Its network.
    pub wire: Wire,
    /// A path for the socket by which the harness commands QEMU: for a card that is pulled.
    pub control: PathBuf,
}

/// A board with its power on. Dropping it cuts the power.
#[derive(Debug)]
pub struct Board {
    process: Owned,
    qmp: Qmp,
    /// Where QEMU may put a file for a moment.
    scratch: PathBuf,
    /// What it logs.
    pub log: Receiver<String>,
}

impl Board {
    /// Switches the board on.
    ///
    /// # Errors
    /// When QEMU is missing or cannot be started.
    pub fn power_on(parts: &Parts) -> Result<Self> {
        Self::power_on_at(parts, None)
    }

    /// The same with a processor of a known speed: each instruction takes 2^`shift` ns, whatever this machine
    /// could.
    ///
    /// # Errors
    /// As [`Self::power_on`].
    pub fn power_on_at(parts: &Parts, shift: Option<u8>) -> Result<Self> {
        if find_program(QEMU).is_none() {
            bail!("{QEMU} is missing.\n  Next: run `cargo xtask doctor --fix`");
        }
        let begun = Instant::now();
        loop {
            match Self::start(parts, shift) {
                // While the power was off, whoever looked for a free port may have had this one for a moment.
                Err(error) if format!("{error:#}").contains(TAKEN) && begun.elapsed() < TAKEN_MAX => {
                    std::thread::sleep(AGAIN);
                }
                started => return started,
            }
        }
    }

    fn start(parts: &Parts, shift: Option<u8>) -> Result<Self> {
        let mut command = Command::new(QEMU);
        command.args(["-M", "lm3s6965evb", "-display", "none", "-monitor", "none"]);
        if let Some(shift) = shift {
            command.args(["-icount", &format!("shift={shift},sleep=on")]);
        }
        command.args(["-serial", "stdio", "-serial"]);
        match &parts.strip {
            Some(strip) => {
                let socket = format!("socket,id=strip,path={}", strip.display());
                command.args(["chardev:strip", "-chardev", &socket]);
            }
            None => drop(command.arg("null")),
        }
        command.arg("-kernel").arg(&parts.elf);
        if let Some(card) = &parts.card {
            command.args(["-drive", &format!("if=sd,format=raw,cache=writethrough,file={}", card.display())]);
        }
        command.args(["-net", "nic,model=stellaris,netdev=net", "-netdev", &netdev(&parts.wire)]);
        command.args(["-chardev", &format!("socket,id=qmp,path={}", parts.control.display())]);
        command.args(["-mon", "chardev=qmp,mode=control"]);
        if let Wire::Trunk(trunk) = &parts.wire {
            // A QEMU that was killed leaves its end behind, and the next one could not take it.
            let _ = std::fs::remove_file(trunk.machine_socket());
        }
        // QEMU's user network complains of every datagram to a port that is closed.
        let words = parts.control.with_extension("stderr");
        let errors = File::create(&words).with_context(|| format!("cannot write {}", words.display()))?;
        let started = await_qemu(&parts.control, || {
            Owned::start(&command, [Stdio::null(), Stdio::piped(), errors.into()])
        });
        let why = || {
            let said = std::fs::read_to_string(&words).unwrap_or_default();
            format!("the board does not start; QEMU said: {}", said.trim())
        };
        let (mut process, control) = started.with_context(why)?;
        let qmp = Qmp::connect(control).map_err(|error| {
            // What it has to say it says before it ends.
            let _ = process.wait(ENDS);
            error.context(why())
        })?;
        let output = process.stdout().context("QEMU has no output")?;
        Ok(Self { log: log::read(&parts.elf, output)?, process, qmp, scratch: parts.control.clone() })
    }

    /// The id of QEMU's process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// QEMU's control socket.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// How much of the stack was ever used since the start, and how large it is, in bytes. It lies at the
    /// start of the memory, and the firmware paints it.
    ///
    /// # Errors
    /// When QEMU does not give the memory.
    pub fn stack(&self) -> Result<[u32; 2]> {
        let memory = |from: u32, length: u32| {
            let file = self.scratch.with_extension("memory");
            let what = json!({ "val": from, "size": length, "filename": file.to_str() });
            self.qmp.execute("pmemsave", what)?;
            let bytes = std::fs::read(&file)?;
            std::fs::remove_file(&file)?;
            Ok::<_, anyhow::Error>(bytes)
        };
        let top =
            memory(0, 4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).context("no vectors")?;
        let size = top.checked_sub(MEMORY_AT).filter(|size| *size <= MEMORY_LEN).context("no stack")?;
        let memory = memory(MEMORY_AT, size)?;
        let words = memory.chunks(4).take_while(|word| word.iter().all(|byte| *byte == PAINT));
        Ok([size.saturating_sub(4 * u32::try_from(words.count())?), size])
    }

    /// Pulls the card out of its slot.
    ///
    /// # Errors
    /// When there was none.
    pub fn pull_card(&self) -> Result<()> {
        self.qmp.execute("eject", json!({ "device": CARD, "force": true })).map(drop)
    }

    /// Puts a card into its slot.
    ///
    /// # Errors
    /// When the file is no card.
    pub fn push_card(&self, card: &Path) -> Result<()> {
        let file = card.to_str().context("a path that is no text")?;
        let what = json!({ "device": CARD, "filename": file, "format": "raw" });
        self.qmp.execute("blockdev-change-medium", what).map(drop)
    }
}

fn netdev(wire: &Wire) -> String {
    match wire {
        Wire::User(ports) => {
            let mut user = "user,id=net".to_owned();
            for ((outside, inside), number) in ports.iter().zip(PORTS).zip(HOSTS) {
                let outside = SocketAddrV4::new(Ipv4Addr::LOCALHOST, *outside);
                let inside = SocketAddrV4::new(host(number).into(), inside);
                user.push_str(&format!(",hostfwd=udp:{outside}-{inside}"));
            }
            user
        }
        Wire::Trunk(trunk) => format!(
            "dgram,id=net,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            trunk.machine_socket().display(),
            trunk.switch_socket().display()
        ),
    }
}
