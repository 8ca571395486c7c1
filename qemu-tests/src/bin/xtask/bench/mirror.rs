//! `cargo xtask bench mirror`: a mirrored volume beside what mirrors, and what does not, in turn (P4; S4-07).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::workspace::Workspace;
use serde_json::{Value, json};

use super::median;

/// How fast a mirrored volume is: 4 KiB writes and reads at random, 128 KiB writes in order, by fio over NBD
/// on a Unix socket, with every write durable before it is answered. Beside it qemu-nbd alone, which mirrors
/// nothing, and QEMU's quorum driver over two of them, which does. All logs and files share this machine's
/// one disk and its processors.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench mirror\n  cargo xtask bench mirror --rounds 5 --json")]
pub struct Mirror {
    /// How often the contestants take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

struct Load {
    name: &'static str,
    way: &'static str,
    kib: u32,
    depth: u32,
}

const LOADS: [Load; 5] = [
    Load { name: "4 KiB random write, depth 1", way: "randwrite", kib: 4, depth: 1 },
    Load { name: "4 KiB random write, depth 32", way: "randwrite", kib: 4, depth: 32 },
    Load { name: "128 KiB write in order, depth 8", way: "write", kib: 128, depth: 8 },
    Load { name: "4 KiB random read, depth 1", way: "randread", kib: 4, depth: 1 },
    Load { name: "4 KiB random read, depth 32", way: "randread", kib: 4, depth: 32 },
];
const CONTESTANTS: [&str; 3] = ["bulkhead, mirrored", "qemu-nbd, alone", "quorum over two qemu-nbd"];
/// Bytes of every volume.
const SIZE: u64 = 512 << 20;
/// Longest wait for a contestant to serve.
const BEGIN_MAX: Duration = Duration::from_secs(30);

struct Figures {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

pub fn figures(workspace: &Workspace, wanted: &Mirror) -> Result<()> {
    step("build: bulkhead, release", || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(workspace.root());
        cargo.args(["build", "--quiet", "--release", "-p", "bulkhead", "--bin", "bulkhead"]);
        ensure!(cargo.status()?.success(), "cargo build failed");
        Ok(String::new())
    })?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.root().join("target"), Into::into);
    let bulkhead = target.join("release/bulkhead");
    let mut seen: Vec<Vec<Vec<Figures>>> =
        LOADS.iter().map(|_| CONTESTANTS.iter().map(|_| Vec::new()).collect()).collect();
    Artefacts::of("bench-mirror", |artefacts| {
        let ours = artefacts.path("ours");
        let (_playground, own) = playground(&bulkhead, &ours)?;
        let (_alone, alone) = qemu_nbd(artefacts, "alone", &[])?;
        let (_one, one) = qemu_nbd(artefacts, "one", &[])?;
        let (_two, two) = qemu_nbd(artefacts, "two", &[])?;
        let children = [one, two].map(|path| path.display().to_string());
        let (_quorum, quorum) = qemu_nbd(artefacts, "quorum", &children)?;
        for round in 0..=wanted.rounds {
            let name = if round == 0 { "to warm up".into() } else { format!("{round} of {}", wanted.rounds) };
            step(&format!("bench: round {name}"), || {
                for (load, seen) in LOADS.iter().zip(&mut seen) {
                    for (socket, seen) in [&own, &alone, &quorum].into_iter().zip(seen) {
                        let figures = by_fio(socket, load, wanted.seconds)?;
                        if round != 0 {
                            seen.push(figures);
                        }
                    }
                }
                Ok(String::new())
            })?;
        }
        Ok(())
    })?;
    print(&seen, wanted.json);
    Ok(())
}

/// Two agents and a witness, and the socket of the node that leads.
fn playground(bulkhead: &Path, directory: &Path) -> Result<(Owned, PathBuf)> {
    let mut command = Command::new(bulkhead);
    command.args(["playground", "run", "--volumes", "--dir"]).arg(directory);
    let running = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
    let begun = Instant::now();
    loop {
        for node in ["a1", "b1"] {
            let volume = |args: &[&str]| {
                let socket = directory.join(format!("{node}.sock"));
                let mut command = Command::new(bulkhead);
                command.arg("volume").args(args).arg("--socket").arg(socket);
                command.output().is_ok_and(|output| output.status.success())
            };
            let is_synced = volume(&["wait", "--for", "in-sync", "--timeout", "1s"]);
            if is_synced && volume(&["create", "vm1", "--size", &format!("{}MiB", SIZE >> 20)]) {
                return Ok((running, directory.join(node).join("nbd.sock")));
            }
        }
        ensure!(begun.elapsed() < BEGIN_MAX, "no node of the playground leads its volumes");
    }
}

/// A qemu-nbd over a file of its own, or over others by the quorum driver. Every write is durable.
fn qemu_nbd(artefacts: &Artefacts, name: &str, children: &[String]) -> Result<(Owned, PathBuf)> {
    let socket = artefacts.socket(&format!("{name}.nbd"));
    let mut command = Command::new("qemu-nbd");
    command.args(["--persistent", "--shared=4", "--export-name=vm1", "--socket"]).arg(&socket);
    if children.is_empty() {
        let file = artefacts.path(name);
        std::fs::File::create(&file)?.set_len(SIZE)?;
        command.args(["--format=raw", "--cache=writethrough", "--aio=threads"]).arg(file);
    } else {
        let mut options = format!("driver=quorum,vote-threshold={}", children.len());
        for (number, path) in children.iter().enumerate() {
            options.push_str(&format!(
                ",children.{number}.driver=nbd,children.{number}.server.type=unix,\
                 children.{number}.server.path={path},children.{number}.export=vm1"
            ));
        }
        command.args(["--cache=writethrough", "--image-opts"]).arg(options);
    }
    let mut running = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
    let begun = Instant::now();
    while !socket.exists() {
        if let Some(status) = running.ended()? {
            bail!("qemu-nbd for {name} ended with {status}");
        }
        ensure!(begun.elapsed() < BEGIN_MAX, "qemu-nbd for {name} does not serve");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((running, socket))
}

fn by_fio(socket: &Path, load: &Load, seconds: u32) -> Result<Figures> {
    let mut fio = Command::new("fio");
    fio.args(["--name=mirror", "--ioengine=nbd", "--time_based", "--output-format=json"]);
    fio.arg(format!("--uri=nbd+unix:///vm1?socket={}", socket.display()));
    fio.args([format!("--rw={}", load.way), format!("--bs={}k", load.kib)]);
    fio.args([format!("--iodepth={}", load.depth), format!("--runtime={seconds}"), format!("--size={SIZE}")]);
    let output = fio.output().context("starting fio")?;
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.get(text.find('{').unwrap_or(0)..).unwrap_or_default();
    let answer: Value = serde_json::from_str(json).context("fio's answer")?;
    let kind = if load.way == "randread" { "read" } else { "write" };
    let number = |path: &str| {
        let value = answer.pointer(&format!("/jobs/0/{kind}/{path}")).and_then(Value::as_f64);
        value.with_context(|| format!("fio's answer has no {path}"))
    };
    Ok(Figures {
        per_second: number("iops")?,
        p50_us: number("clat_ns/percentile/50.000000")? / 1e3,
        p99_us: number("clat_ns/percentile/99.000000")? / 1e3,
    })
}

fn print(seen: &[Vec<Vec<Figures>>], as_json: bool) {
    for (load, contestants) in LOADS.iter().zip(seen) {
        if !as_json {
            println!("\n{}", load.name);
        }
        for (contestant, rounds) in CONTESTANTS.iter().zip(contestants) {
            let per_second = median(rounds.iter().map(|one| one.per_second));
            let [p50, p99] =
                [median(rounds.iter().map(|one| one.p50_us)), median(rounds.iter().map(|one| one.p99_us))];
            // Within a round, so that the machine's moods cancel out.
            let ours = contestants.first().into_iter().flatten();
            let ratio = median(ours.zip(rounds).map(|(ours, other)| ours.per_second / other.per_second));
            if as_json {
                let figures = json!({
                    "load": load.name, "contestant": contestant, "perSecond": per_second,
                    "p50Us": p50, "p99Us": p99, "oursOverIt": ratio,
                });
                println!("{figures}");
            } else {
                let [least, middle, most] = per_second;
                let ([_, p50, _], [_, p99, _], [low, times, high]) = (p50, p99, ratio);
                print!("  {contestant:<26} {middle:>8.0} a second ({least:.0} to {most:.0})  ");
                print!("p50 {p50:>7.0} us  p99 {p99:>7.0} us  ");
                println!("ours {times:.2} times ({low:.2} to {high:.2})");
            }
        }
    }
}
