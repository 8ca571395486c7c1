//! `cargo xtask bench witness`: what the firmware witness takes of its board, and how fast it serves its
//! pairs in QEMU, beside the witness on Linux in the same run (X03, X23).

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, SiteId};
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::node::settings::{Digest, Settings};
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Drift;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::process::Owned;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::sections::{Sections, sections};
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{firmware, setup};
use qemu_tests::witness::asker::{Asker, Ticket};
use qemu_tests::witness::board::{Board, Parts, Wire};
use qemu_tests::witness::budget;
use qemu_tests::witness::card::hex;
use qemu_tests::witness::layout::{Layout, SITE, WITNESS};
use qemu_tests::witness::tap::free_ports;
use serde_json::json;

use super::fleet::{Fleet, Seen};
use super::median;

/// Flash, memory and stack of the firmware witness; and how it serves its pairs in QEMU and on Linux in turn:
/// leases at ten a second for each pair, durable answers as fast as they come, and the times they take. Each
/// pair is two nodes that do what agents do.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench witness\n  cargo xtask bench witness --rounds 9 --json\n  \
    cargo xtask bench witness --site 64:default    64 pairs with the default timers\n  \
    cargo xtask bench witness --shift 5    a processor of 31 million instructions a second"
)]
pub struct Witness {
    /// How often the two take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How many pairs, and the preset of their timers; may be repeated.
    #[arg(long, value_name = "PAIRS:PRESET", default_values = ["6:default", "64:wide"])]
    site: Vec<String>,
    /// An instruction of the board takes 2^SHIFT ns, instead of what QEMU can: its speed is then known.
    #[arg(long)]
    shift: Option<u8>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    /// The firmware in QEMU.
    Firmware,
    /// `bulkhead witness` as a process of this machine.
    Linux,
}

/// One site: how many pairs, with which timers.
#[derive(Clone, Copy, Debug)]
struct Size {
    pairs: u16,
    preset: &'static str,
    timers: Timers,
}

/// What was seen of one site.
struct Figures {
    size: Size,
    /// A round each: of the firmware, and of Linux.
    rounds: [Vec<Seen>; 2],
    stack: [u32; 2],
}

pub fn figures(workspace: &Workspace, wanted: &Witness) -> Result<()> {
    setup::everything(workspace)?;
    let (lab, elf) = (Lab::get()?, firmware::witness(workspace)?);
    let room = room(workspace)?;
    let sizes: Vec<Size> = wanted.site.iter().map(|text| size(text, room)).collect::<Result<_>>()?;
    let mut all = Vec::new();
    for size in sizes {
        all.push(Artefacts::of("bench-witness", |artefacts| one_size(artefacts, lab, &elf, size, wanted))?);
    }
    print(&sections(&fs::read(&elf)?)?, room, &all, wanted);
    Ok(())
}

fn one_size(artefacts: &Artefacts, lab: &Lab, elf: &Path, size: Size, wanted: &Witness) -> Result<Figures> {
    let Size { pairs, preset, .. } = size;
    let mut figures = Figures { size, rounds: [Vec::new(), Vec::new()], stack: [0; 2] };
    let board = Stage::new(lab, artefacts.path("board"), size)?;
    let card = artefacts.path("witness.card");
    board.layout.provision(lab, &card)?;
    let linux = Stage::new(lab, artefacts.path("linux"), size)?;
    for round in 1..=wanted.rounds {
        let Figures { rounds: [on_board, on_linux], stack, .. } = &mut figures;
        let name = |who: Contestant| {
            format!("bench: {pairs} pairs, {preset}, round {round} of {}, {who:?}", wanted.rounds)
        };
        step(&name(Contestant::Firmware), || {
            let (wire, control) = (Wire::User(board.ports), artefacts.socket("w.qmp"));
            let parts = Parts { elf: elf.into(), card: Some(card.clone()), strip: None, wire, control };
            let power = Board::power_on_at(&parts, wanted.shift)?;
            let seen = board.fleet(round)?.run()?;
            let [used, all] = power.stack()?;
            let [deepest, _] = *stack;
            *stack = [used.max(deepest), all];
            on_board.push(seen);
            Ok(String::new())
        })?;
        step(&name(Contestant::Linux), || {
            let _process = on_this_machine(artefacts, lab, &linux)?;
            on_linux.push(linux.fleet(round)?.run()?);
            Ok(String::new())
        })?;
    }
    Ok(figures)
}

/// The site of one contestant.
struct Stage {
    layout: Layout,
    sockets: Vec<[UdpSocket; 2]>,
    /// Where the witness is reached.
    ports: [u16; 2],
    timers: Timers,
    key: [u8; 32],
}

impl Stage {
    fn new(lab: &Lab, directory: PathBuf, Size { pairs, preset, timers }: Size) -> Result<Self> {
        let (layout, sockets) = Layout::new(lab, directory, pairs, preset)?;
        let key = hex(fs::read_to_string(layout.key())?.trim())?;
        Ok(Self { layout, sockets, ports: free_ports()?, timers, key })
    }

    /// All nodes in a new start of theirs.
    fn fleet(&self, round: u32) -> Result<Fleet> {
        let members = self.layout.members();
        let witness = *members.last().context("no witness")?;
        let site = SiteId(hex(&SITE.replace('-', ""))?);
        // How closely a node and the witness watch each other is the core's to say.
        let settings = Settings {
            site,
            me: WITNESS,
            nonce: Nonce([0; 16]),
            key: SiteKey::new(self.key),
            members: members.iter().copied().collect(),
            timers: self.timers,
            drift: Drift::DEFAULT,
            life: Life(1),
            fences: false,
            digest: Digest::default(),
            relays: std::iter::empty().collect(),
            stores: false,
        };
        let mut askers = Vec::new();
        for (member, sockets) in members.iter().zip(&self.sockets) {
            let voters = |pair: u16| [NodeId(pair * 2 - 1), NodeId(pair * 2), WITNESS].to_vec();
            let ticket = Ticket {
                site,
                key: self.key,
                node: member.node,
                witness: WITNESS,
                pair: member.pair,
                infra: voters(member.pair.0),
                controller: voters(1),
                to: self.ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
                timers: self.timers,
                pace: settings.pace(&witness, member),
            };
            let [one, two] = sockets;
            let start = u64::from(round) << 16 | u64::from(member.node.0);
            askers.push(Asker::new(ticket, [one.try_clone()?, two.try_clone()?], start)?);
        }
        Ok(Fleet::new(askers))
    }
}

/// The witness as a process of this machine.
fn on_this_machine(artefacts: &Artefacts, lab: &Lab, stage: &Stage) -> Result<Owned> {
    let mut command = Command::new(&lab.bulkhead);
    command.args(["witness", "--config"]).arg(stage.layout.file(WITNESS, stage.ports)?);
    let errors = fs::File::create(artefacts.path("linux.stderr"))?;
    Owned::start(&command, [Stdio::null(), Stdio::null(), errors.into()])
}

/// How many pairs the firmware was built for: its source says so, and the board would refuse more.
fn room(workspace: &Workspace) -> Result<u16> {
    let source = fs::read_to_string(workspace.root().join("firmware/witness/src/lib.rs"))?;
    let (_, rest) = source.split_once("pub const PAIRS: usize = ").context("the firmware names no pairs")?;
    let (number, _) = rest.split_once(';').context("the firmware names no pairs")?;
    Ok(number.parse()?)
}

fn size(text: &str, room: u16) -> Result<Size> {
    let what = || format!("`--site {text}`: it must be like 64:wide");
    let (pairs, preset) = text.split_once(':').with_context(what)?;
    let pairs = pairs.parse().with_context(what)?;
    ensure!((1..=room).contains(&pairs), "the firmware has room for 1 to {room} pairs, not for {pairs}");
    let presets = [("tight", Timers::TIGHT), ("default", Timers::DEFAULT), ("wide", Timers::WIDE)];
    let found = presets.into_iter().find(|(name, _)| *name == preset);
    let (preset, timers) = found.with_context(what)?;
    Ok(Size { pairs, preset, timers })
}

fn print(sections: &Sections, room: u16, all: &[Figures], wanted: &Witness) {
    let (flash, memory) = (sections.flash(), sections.memory());
    if wanted.json {
        let sites: Vec<_> = all.iter().map(json_of).collect();
        let sizes = json!({
            "flash": flash, "flash_budget": budget::FLASH_MAX,
            "variables": memory, "variables_budget": budget::VARIABLES_MAX,
        });
        println!("{}", json!({ "room": room, "sizes": sizes, "shift": wanted.shift, "sites": sites }));
        return;
    }
    println!("flash       {flash:>7} bytes of {} ({} KiB on the board)", budget::FLASH_MAX, 256);
    println!("variables   {memory:>7} bytes of {}", budget::VARIABLES_MAX);
    println!("room        {room:>7} pairs");
    for Figures { size: Size { pairs, preset, .. }, rounds: [board, linux], stack: [used, stack] } in all {
        println!("\n{pairs} pairs, timers {preset}; stack {used} bytes at its deepest of {stack}");
        println!("{:<42} {:>24} {:>24}", "", "firmware in QEMU", "Linux");
        for (what, of) in ROWS {
            let [board, linux] = [board, linux].map(|rounds| {
                let [least, middle, most] = median(rounds.iter().map(of));
                format!("{middle:.2} ({least:.2} to {most:.2})")
            });
            println!("{what:<42} {board:>24} {linux:>24}");
        }
    }
}

type Row = (&'static str, fn(&Seen) -> f64);

/// What is shown of each round.
const ROWS: [Row; 12] = [
    ("until all nodes have a session, s", |seen| seen.connected.as_secs_f64()),
    ("pairs that got their register", |seen| f64::from(seen.served)),
    ("one node asks: durable answer, ms", |seen| seen.alone),
    ("leases a second, of those wanted", |seen| seen.leases.rate),
    ("  wanted", |seen| seen.wanted),
    ("  time to the answer, ms: median", |seen| seen.leases.middle),
    ("  ms: 99 of 100 within", |seen| seen.leases.most),
    ("  not answered within 500 ms, a second", |seen| seen.leases.lost),
    ("all pairs ask: durable answers a second", |seen| seen.durable.rate),
    ("  time to the answer, ms: median", |seen| seen.durable.middle),
    ("  ms: 99 of 100 within", |seen| seen.durable.most),
    ("  not answered within 500 ms, a second", |seen| seen.durable.lost),
];

fn json_of(figures: &Figures) -> serde_json::Value {
    let Figures { size, rounds: [board, linux], stack: [used, stack] } = figures;
    let rounds = |rounds: &[Seen]| rounds.iter().map(Seen::json).collect::<Vec<_>>();
    json!({
        "pairs": size.pairs, "preset": size.preset, "stack_used": used, "stack": stack,
        "firmware": rounds(board), "linux": rounds(linux),
    })
}
