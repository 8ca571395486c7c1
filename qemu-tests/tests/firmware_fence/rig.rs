//! Firmware in QEMU, its power strip, and two agents of this machine behind a wire that can be cut.

use std::fmt::Write as _;
use std::fs::File;
use std::net::UdpSocket;
use std::num::NonZeroU8;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::fence::desk::Act;
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::records::{Record, Ring};
use bulkhead_core::provision::{Address, Local, Peer, VOTES_AT};
use bulkhead_core::register::store::Owner;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{firmware, programs};
use qemu_tests::witness::board::{Board, Parts, Wire as Cable};
use qemu_tests::witness::card::{self, Recipe, hex, host};
use qemu_tests::witness::strip::{Heard, Load, Strip};

use super::liar::{LIAR, Liar};

/// Longer than any of this takes on a machine that does ten other things.
pub const LONG: Duration = Duration::from_secs(60);
pub const WITNESS: NodeId = NodeId(3);
const SITE: &str = "2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11";

/// An agent, and the outlet that feeds it.
#[derive(Clone)]
pub struct Agent {
    program: PathBuf,
    config: PathBuf,
    process: Arc<Mutex<Option<Owned>>>,
}

impl Agent {
    fn process(&self) -> MutexGuard<'_, Option<Owned>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn start(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["agent", "--config"]).arg(&self.config);
        let log =
            std::fs::File::options().create(true).append(true).open(self.config.with_extension("log"))?;
        *self.process() = Some(Owned::start(&command, [Stdio::null(), Stdio::null(), log.into()])?);
        Ok(())
    }

    pub fn runs(&self) -> Result<bool> {
        let mut process = self.process();
        Ok(process.as_mut().map(Owned::ended).transpose()?.is_some_and(|ended| ended.is_none()))
    }

    /// Exit code and output of a command for this agent.
    pub fn run(&self, words: &[&str]) -> Result<(Option<i32>, String)> {
        let out = Command::new(&self.program).args(words).arg("--config").arg(&self.config).output()?;
        let text = [out.stdout, out.stderr].concat();
        Ok((out.status.code(), String::from_utf8_lossy(&text).into_owned()))
    }

    pub fn wait(&self, what: &str, good: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < LONG {
            (_, last) = self.run(&["status", "--json"])?;
            let answer: serde_json::Value = serde_json::from_str(&last).unwrap_or_default();
            if answer.get("status").is_some_and(&good) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        let log = std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default();
        bail!("{what}: not within {LONG:?}: {last}\n{log}")
    }
}

impl Load for Agent {
    fn switch(&mut self, on: bool) -> Result<()> {
        match (self.runs()?, on) {
            (false, true) => self.start(),
            (true, false) => {
                self.process().take().iter_mut().for_each(Owned::kill);
                Ok(())
            }
            (true, true) | (false, false) => Ok(()),
        }
    }

    fn has_power(&mut self) -> Result<bool> {
        self.runs()
    }
}

/// What carries datagrams between the two agents, until it is cut.
pub struct Wire {
    is_cut: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Wire {
    /// From each socket to the port beside it.
    fn start(lanes: Vec<(UdpSocket, u16)>) -> Result<Self> {
        lanes.iter().try_for_each(|(socket, _)| socket.set_nonblocking(true))?;
        let (is_cut, is_over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (cut, over) = (Arc::clone(&is_cut), Arc::clone(&is_over));
        let carry = move || {
            let mut buffer = [0; 2_048];
            while !over.load(Ordering::Relaxed) {
                for (socket, to) in &lanes {
                    while let Ok(count) = socket.recv(&mut buffer) {
                        let bytes = buffer.get(..count).filter(|_| !cut.load(Ordering::Relaxed));
                        let _ = bytes.map(|bytes| socket.send_to(bytes, ("127.0.0.1", *to)));
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        };
        Ok(Self { is_cut, is_over, thread: Some(thread::spawn(carry)) })
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

pub struct Rig {
    pub wire: Wire,
    pub strip: Strip,
    pub board: Board,
    pub agents: [Agent; 2],
    pub liar: Liar,
    image: PathBuf,
}

impl Rig {
    /// Everything is on, but the agents. The witness receives at `paths`.
    pub fn new(artefacts: &Artefacts, paths: [Local; 2]) -> Result<Self> {
        let workspace = Workspace::locate();
        let (elf, program) = (firmware::witness(&workspace)?, programs::bulkhead(&workspace)?);
        // All sockets are open at once, so no port is given twice.
        let [a, b, w, to_a, to_b, liar] = [pair()?, pair()?, pair()?, pair()?, pair()?, pair()?];
        let ports = |[one, two]: &[UdpSocket; 2]| -> Result<[u16; 2]> {
            Ok([one.local_addr()?.port(), two.local_addr()?.port()])
        };
        let [at_a, at_b, at_w] = [ports(&a)?, ports(&b)?, ports(&w)?];
        let (at_liar, by_a, by_b) = (ports(&liar)?, ports(&to_b)?, ports(&to_a)?);
        drop((a, b, w));
        let wire = Wire::start(to_a.into_iter().chain(to_b).zip([at_a, at_b].concat()).collect())?;
        let key = artefacts.path("site.key");
        let drawn = Command::new(&program).args(["config", "keygen"]).arg(&key).output()?;
        ensure!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
        let agent = |node: u8, listen: [u16; 2], addresses: [[u16; 2]; 2]| -> Result<Agent> {
            let config = artefacts.path(&format!("{node}.toml"));
            std::fs::write(&config, site_file(artefacts, node, listen, addresses, at_w)?)?;
            Ok(Agent { program: program.clone(), config, process: Arc::default() })
        };
        let agents = [agent(1, at_a, [at_a, by_a])?, agent(2, at_b, [by_b, at_b])?];
        let (site, secret) =
            (SiteId(hex(&SITE.replace('-', ""))?), hex(std::fs::read_to_string(&key)?.trim())?);
        let image = artefacts.path("card.img");
        let peer = |node: NodeId, side, outlet, ports: [u16; 2]| Peer {
            member: Member { node, pair: PairId(1), side: Some(side), votes: node != LIAR },
            outlet: NonZeroU8::new(outlet).map(Outlet::Strip),
            paths: ports.map(|port| Address { host: host(2), port }),
        };
        let recipe = Recipe {
            site,
            key: secret,
            node: WITNESS,
            pair: PairId(1),
            digest: Digest::default(),
            peers: vec![
                peer(NodeId(1), Side::A, 1, at_a),
                peer(NodeId(2), Side::B, 2, at_b),
                peer(LIAR, Side::B, 0, at_liar),
            ],
            registers: 13,
            timers: Timers::WIDE,
            paths,
            gateway: None,
        };
        card::write(&image, &recipe)?;
        let loads = agents.clone().map(|agent| -> Box<dyn Load> { Box::new(agent) });
        let strip = Strip::start(&artefacts.socket("strip"), loads.into())?;
        let board = Board::power_on(&Parts {
            elf,
            card: Some(image.clone()),
            strip: Some(strip.socket().into()),
            wire: Cable::User(at_w),
            control: artefacts.socket("w.qmp"),
        })?;
        let liar = Liar::new(liar, at_w, site, secret)?;
        Ok(Self { wire, strip, board, agents, liar, image })
    }

    /// When the requests came for this outlet.
    pub fn asked(&self, outlet: u8, act: Act) -> Vec<Instant> {
        let is = |heard: &&Heard| (heard.request.outlet.get(), heard.request.act) == (outlet, act);
        self.strip.heard().iter().filter(is).map(|heard| heard.at).collect()
    }

    /// The records on the witness's card.
    pub fn records(&self, ring: Ring) -> Result<Vec<Record>> {
        let card = File::open(&self.image)?;
        let block = |at: u64| -> Result<[u8; 512]> {
            let mut bytes = [0; 512];
            card.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        };
        let owner = Owner::parse(&block(VOTES_AT)?).ok().context("the votes have an owner")?;
        let blocks: Vec<_> = ring.places().map(block).collect::<Result<_>>()?;
        let mut found: Vec<_> = blocks.iter().filter_map(|block| Record::parse(block, &owner).ok()).collect();
        found.sort_by_key(|record| record.seq);
        Ok(found)
    }

    /// What the firmware has logged of power since this was asked last.
    pub fn logged(&self) -> String {
        self.board.log.try_iter().filter(|line| line.contains("power:")).collect::<Vec<_>>().join("\n")
    }
}

fn pair() -> Result<[UdpSocket; 2]> {
    Ok([UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?])
}

fn site_file(
    artefacts: &Artefacts,
    node: u8,
    listen: [u16; 2],
    addresses: [[u16; 2]; 2],
    witness: [u16; 2],
) -> Result<String> {
    let at = |[one, two]: [u16; 2]| format!("[\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"]");
    let state = artefacts.path(&format!("state{node}"));
    let [a, b] = addresses.map(at);
    let mut text = format!("[site]\nid = \"{SITE}\"\nname = \"test\"\n");
    writeln!(text, "[local]\nnode = {node}\nkey_file = \"site.key\"\nstate = \"{}\"", state.display())?;
    writeln!(text, "socket = \"{}\"", artefacts.socket(&format!("agent{node}")).display())?;
    writeln!(text, "[network]\nlisten = {}\n[timers]\npreset = \"wide\"", at(listen))?;
    for (id, name, side, addresses) in [(1, "a1", "a", a), (2, "b1", "b", b)] {
        writeln!(text, "[[node]]\nid = {id}\nname = \"{name}\"\npair = 1\nside = \"{side}\"\nvoter = true")?;
        writeln!(text, "addresses = {addresses}")?;
        writeln!(text, "[[fencing]]\nnode = {id}\nmethod = \"relay\"\nwitness = 3\nstrip = {id}")?;
    }
    writeln!(
        text,
        "[[node]]\nid = 3\nname = \"w\"\nwitness = true\nvoter = true\naddresses = {}",
        at(witness)
    )?;
    Ok(text)
}
