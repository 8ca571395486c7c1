//! `cargo xtask bench witness`: what the firmware witness takes of its board, and how fast it answers in
//! QEMU, beside the witness on Linux in the same run (X03, X23).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Peer};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::process::Owned;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::sections::{Sections, sections};
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{firmware, setup};
use qemu_tests::witness::asker::{Asker, Question, Ticket};
use qemu_tests::witness::board::{Board, Parts, Wire};
use qemu_tests::witness::budget;
use qemu_tests::witness::card::{Recipe, hex, host, user_paths, write};
use qemu_tests::witness::tap::free_ports;
use serde_json::json;

use super::median;

const SITE: &str = "2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11";
/// The witness's number: behind those of all nodes.
const WITNESS: u16 = 1_000;
/// How long a witness may take until it knows all that ask.
const SESSIONS_MAX: Duration = Duration::from_secs(60);
/// Questions of one node in one round.
const QUESTIONS: usize = 200;
/// How long all pairs ask at once.
const LOAD: Duration = Duration::from_secs(5);

/// Flash, memory and stack of the firmware witness; the time from a request to its durable answer, in QEMU
/// and on Linux in turn; and how many answers a second it gives to all the pairs that it serves.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench witness\n  cargo xtask bench witness --rounds 9 --json"
)]
pub struct Witness {
    /// How often the two take turns.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was seen.
struct Seen {
    sections: Sections,
    stack: [u32; 2],
    pairs: u16,
    /// Milliseconds to a durable answer, one median a round: the firmware's, and Linux's.
    durable: [Vec<f64>; 2],
    /// Answers a second to all pairs at once, durable ones and others.
    rates: [f64; 2],
}

pub fn figures(workspace: &Workspace, wanted: &Witness) -> Result<()> {
    setup::everything(workspace)?;
    let (lab, elf) = (Lab::get()?, firmware::witness(workspace)?);
    let pairs = pairs(workspace)?;
    let seen = Artefacts::of("bench-witness", |artefacts| {
        let key = artefacts.path("site.key");
        lab.tool(["config", "keygen"]).arg(&key).succeed()?;
        let secret = hex(fs::read_to_string(&key)?.trim())?;
        let (board, mut askers) = on_board(artefacts, &elf, pairs, secret)?;
        let (_linux, mut other) = on_linux(artefacts, lab, &key, secret)?;
        step("bench: sessions", || {
            connect(&mut askers)?;
            connect(std::slice::from_mut(&mut other)).map(|()| format!("{} nodes", askers.len()))
        })?;
        let mut durable = [Vec::new(), Vec::new()];
        for round in 1..=wanted.rounds {
            step(&format!("bench: round {round} of {}", wanted.rounds), || {
                let [board, linux] = &mut durable;
                let first = askers.first_mut().context("nobody asks")?;
                board.push(one_by_one(first)?);
                linux.push(one_by_one(&mut other)?);
                Ok(String::new())
            })?;
        }
        let mut rates = [0.0; 2];
        for (rate, question) in rates.iter_mut().zip([Question::Promise, Question::Read]) {
            step(&format!("bench: {pairs} pairs at once"), || {
                *rate = all_at_once(&mut askers, question)?;
                Ok(format!("{rate:.0} answers a second"))
            })?;
        }
        Ok(Seen { sections: sections(&fs::read(&elf)?)?, stack: board.stack()?, pairs, durable, rates })
    })?;
    print(&seen, wanted.json);
    Ok(())
}

fn print(seen: &Seen, as_json: bool) {
    let Seen { sections, stack: [stack, stack_all], pairs, durable, rates } = seen;
    let [[low, board, high], [linux_low, linux, linux_high]] =
        durable.each_ref().map(|rounds| median(rounds.iter().copied()));
    let [board_rounds, linux_rounds] = durable;
    let ratios = median(board_rounds.iter().zip(linux_rounds).map(|(board, linux)| board / linux));
    let [least, ratio, most] = ratios;
    let [promises, reads] = rates;
    let (flash, memory) = (sections.flash(), sections.memory());
    if as_json {
        let sizes = json!({
            "flash": flash, "flash_budget": budget::FLASH_MAX, "variables": memory,
            "variables_budget": budget::VARIABLES_MAX, "stack_used": stack, "stack": stack_all,
        });
        let time = json!({ "board": durable[0], "linux": durable[1], "ratio": ratios });
        let rates = json!({ "durable": promises, "read": reads });
        println!("{}", json!({ "pairs": pairs, "sizes": sizes, "durable_ms": time, "per_second": rates }));
        return;
    }
    println!("flash       {flash:>7} bytes of {} ({} KiB on the board)", budget::FLASH_MAX, 256);
    println!("variables   {memory:>7} bytes of {}", budget::VARIABLES_MAX);
    println!("stack       {stack:>7} bytes at its deepest of {stack_all}, under load");
    println!("serves      {pairs:>7} pairs");
    println!(
        "durable     {board:>7.2} ms from the request to the answer, in QEMU (medians {low:.2} to {high:.2})"
    );
    println!("  Linux     {linux:>7.2} ms ({linux_low:.2} to {linux_high:.2})");
    println!("  ratio     {ratio:>7.2} firmware / Linux ({least:.2} to {most:.2})");
    println!("all pairs   {promises:>7.0} durable answers a second, {reads:.0} that write nothing, in QEMU");
}

/// How many pairs the firmware was built for: its source says so, and the board would refuse more.
fn pairs(workspace: &Workspace) -> Result<u16> {
    let source = fs::read_to_string(workspace.root().join("firmware/witness/src/lib.rs"))?;
    let (_, rest) = source.split_once("pub const PAIRS: usize = ").context("the firmware names no pairs")?;
    let (number, _) = rest.split_once(';').context("the firmware names no pairs")?;
    Ok(number.parse()?)
}

/// Two sockets, and where they receive.
fn sockets() -> Result<([UdpSocket; 2], [u16; 2])> {
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let two = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ports = [one.local_addr()?.port(), two.local_addr()?.port()];
    Ok(([one, two], ports))
}

fn ticket(key: [u8; 32], node: u16, ports: [u16; 2]) -> Result<Ticket> {
    // Two nodes a pair; the witness counts among the voters of its own pair, the first.
    let pair = node.div_ceil(2);
    let voters = |pair: u16| [pair * 2 - 1, pair * 2].into_iter().chain((pair == 1).then_some(WITNESS));
    let (infra, controller) = (voters(pair).map(NodeId).collect(), voters(1).map(NodeId).collect());
    let site = SiteId(hex(&SITE.replace('-', ""))?);
    let to = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Ok(Ticket {
        site,
        key,
        node: NodeId(node),
        witness: NodeId(WITNESS),
        pair: PairId(pair),
        infra,
        controller,
        to,
    })
}

/// The firmware with both nodes of each pair: side a asks about its pair, side b is only there.
fn on_board(artefacts: &Artefacts, elf: &Path, pairs: u16, key: [u8; 32]) -> Result<(Board, Vec<Asker>)> {
    let outside = free_ports()?;
    let (mut peers, mut askers) = (Vec::new(), Vec::new());
    for node in 1..=pairs * 2 {
        let (pair, side) = (PairId(node.div_ceil(2)), if node % 2 == 1 { Side::A } else { Side::B });
        let (sockets, ports) = sockets()?;
        let member = Member { node: NodeId(node), pair, side: Some(side), votes: true };
        let paths = ports.map(|port| Address { host: host(2), port });
        peers.push(Peer { member, outlet: None, paths });
        askers.push(Asker::new(ticket(key, node, outside)?, sockets, node.into())?);
    }
    let card = artefacts.path("witness.card");
    let recipe = Recipe {
        site: SiteId(hex(&SITE.replace('-', ""))?),
        key,
        node: NodeId(WITNESS),
        pair: PairId(1),
        digest: Digest::default(),
        peers,
        registers: 129,
        timers: Timers::DEFAULT,
        paths: user_paths(),
        gateway: Some(host(2)),
    };
    write(&card, &recipe)?;
    let (wire, control) = (Wire::User(outside), artefacts.socket("w.qmp"));
    let board = Board::power_on(&Parts { elf: elf.into(), card: Some(card), strip: None, wire, control })?;
    Ok((board, askers))
}

/// The same witness as a process of this machine, with the two nodes of one pair.
fn on_linux(artefacts: &Artefacts, lab: &Lab, key: &Path, secret: [u8; 32]) -> Result<(Owned, Asker)> {
    let (ours, our_ports) = sockets()?;
    let ((_absent, their_ports), its_ports) = (sockets()?, free_ports()?);
    let node = |id: u16, place: &str, [one, two]: [u16; 2]| {
        format!(
            "[[node]]\nid = {id}\nname = \"n{id}\"\n{place}\nvoter = true\n\
             addresses = [\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"]\n"
        )
    };
    let nodes = [
        node(1, "pair = 1\nside = \"a\"", our_ports),
        node(2, "pair = 1\nside = \"b\"", their_ports),
        node(WITNESS, "witness = true", its_ports),
    ];
    let state = artefacts.path("linux");
    let text = format!(
        "[site]\nid = \"{SITE}\"\nname = \"bench\"\n[local]\nnode = {WITNESS}\nkey_file = {key:?}\n\
         state = {state:?}\n{}",
        nodes.concat()
    );
    let file = artefacts.path("linux.toml");
    fs::write(&file, text)?;
    let mut command = Command::new(&lab.bulkhead);
    command.args(["witness", "--config"]).arg(&file);
    let errors = fs::File::create(artefacts.path("linux.stderr"))?;
    let process = Owned::start(&command, [Stdio::null(), Stdio::null(), errors.into()])?;
    let asker = Asker::new(ticket(secret, 1, its_ports)?, ours, 1)?;
    Ok((process, asker))
}

fn connect(askers: &mut [Asker]) -> Result<()> {
    let begin = Instant::now();
    while !askers.iter().all(Asker::is_connected) {
        for asker in &mut *askers {
            asker.turn()?;
        }
        ensure!(begin.elapsed() < SESSIONS_MAX, "the witness does not know all nodes");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// The median time of many questions, one after the other, in milliseconds.
fn one_by_one(asker: &mut Asker) -> Result<f64> {
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < QUESTIONS {
        asker.ask(Question::Promise)?;
        times.extend(asker.turn()?.map(|took| took.as_secs_f64() * 1e3));
        ensure!(begin.elapsed() < SESSIONS_MAX, "only {} answers", times.len());
    }
    let [_, middle, _] = median(times.into_iter());
    Ok(middle)
}

/// Answers a second while one node of each pair asks again as soon as it has its answer.
fn all_at_once(askers: &mut [Asker], question: Question) -> Result<f64> {
    let (begin, mut answers) = (Instant::now(), 0_u32);
    while begin.elapsed() < LOAD {
        for (number, asker) in askers.iter_mut().enumerate() {
            if number % 2 == 0 {
                asker.ask(question)?;
            }
            answers += u32::from(asker.turn()?.is_some());
        }
    }
    Ok(f64::from(answers) / begin.elapsed().as_secs_f64())
}
