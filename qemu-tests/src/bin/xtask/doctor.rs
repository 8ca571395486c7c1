//! `cargo xtask doctor`: what this machine has, what it lacks, and how each thing is or would be had.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use qemu_tests::tooling::command::{find, output};
use qemu_tests::tooling::packages::{Need, PACKAGES};
use qemu_tests::tooling::setup;
use qemu_tests::tooling::toolchain::{self, TARGETS, Toolchain, Wish};
use qemu_tests::tooling::workspace::Workspace;
use serde::Serialize;

/// Tell what is present, what is missing, and how each thing was resolved. Exit code 0 when everything that
/// `demo` and `test` need is there, else 1.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask doctor\n  cargo xtask doctor --fix\n  \
    cargo xtask doctor --toolchain debian --fix    use Debian's compiler for bare metal from now on\n  \
    cargo xtask doctor --toolchain auto            decide anew at the next build\n  \
    cargo xtask doctor --json | jq '.findings[] | select(.needed and .path == null)'")]
pub struct Arguments {
    /// Print one JSON object: {"ready": bool, "findings": [{"name", "path", "version", "needed", "note"}]}.
    #[arg(long)]
    json: bool,
    /// Install what is missing (as `demo` and `test` do), then report.
    #[arg(long)]
    fix: bool,
    /// Remember which way to compile for bare metal.
    #[arg(long, value_name = "WAY")]
    toolchain: Option<Wish>,
}

#[derive(Serialize)]
struct Report {
    ready: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    name: String,
    /// Absent: the thing is missing.
    path: Option<String>,
    version: Option<String>,
    /// `demo` and `test` cannot do without it.
    needed: bool,
    /// What it is for, and how it was or would be had.
    note: String,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    if let Some(wish) = arguments.toolchain {
        toolchain::remember_wish(workspace, wish)?;
    }
    if arguments.fix {
        setup::everything(workspace)?;
    }
    let report = examine(workspace);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::from(u8::from(!report.ready)))
}

fn examine(workspace: &Workspace) -> Report {
    let way = toolchain::remembered(workspace).map(|choice| choice.way);
    let findings: Vec<_> =
        packages(way).into_iter().chain(compilers(way)).chain(machine(workspace)).collect();
    let ready = findings.iter().all(|finding| !finding.needed || finding.path.is_some());
    Report { ready, findings }
}

fn packages(way: Option<Toolchain>) -> Vec<Finding> {
    let versions = versions();
    let finding = |package: &qemu_tests::tooling::packages::Package| {
        let (needed, who) = match package.need {
            Need::Everything => (true, ""),
            Need::Bench => (false, ", for `bench` alone"),
            Need::DebianRust => {
                (way == Some(Toolchain::Debian), ", for bare metal where rustup reaches nothing")
            }
        };
        Finding {
            name: package.name.to_owned(),
            path: package.found().map(|path| path.display().to_string()),
            version: versions.get(package.name).cloned(),
            needed,
            note: format!("Debian package: {}{who}", package.why),
        }
    };
    PACKAGES.iter().map(finding).collect()
}

/// Installed Debian packages and their versions, asked once. Empty where there is no dpkg.
fn versions() -> BTreeMap<String, String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"]);
    query.args(PACKAGES.iter().map(|package| package.name));
    // It fails when it does not know one of the names, and still prints the others.
    let Ok(answer) = query.output() else { return BTreeMap::new() };
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let installed = text.lines().filter_map(|line| line.strip_prefix("installed "));
    installed.filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn compilers(way: Option<Toolchain>) -> Vec<Finding> {
    let mut found: Vec<_> = ["cargo", "rustc", "cargo-fmt", "cargo-clippy", "cc"]
        .into_iter()
        .map(|name| Finding {
            name: name.to_owned(),
            path: find(name).map(|path| path.display().to_string()),
            version: output(Command::new(name).arg("--version")).ok().and_then(first_line),
            needed: true,
            note: match name {
                "cc" => "links host programs (Debian package gcc)".to_owned(),
                _ => "Rust toolchain".to_owned(),
            },
        })
        .collect();
    for target in TARGETS {
        let path = match way {
            Some(Toolchain::Debian) => Toolchain::Debian.is_ready().then(|| "/usr/bin/cargo".to_owned()),
            Some(Toolchain::Rustup) | None => {
                toolchain::rustup_library(*target).map(|path| path.display().to_string())
            }
        };
        let note = match way {
            Some(Toolchain::Rustup) => "bare-metal target, by rustup",
            Some(Toolchain::Debian) => "bare-metal target, by Debian's toolchain with -Zbuild-std",
            None => "bare-metal target, way not chosen yet: the next build tries rustup, then Debian",
        };
        found.push(Finding {
            name: target.triple.to_owned(),
            path,
            version: None,
            needed: true,
            note: note.to_owned(),
        });
    }
    found
}

fn machine(workspace: &Workspace) -> Vec<Finding> {
    let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let mut found = vec![Finding {
        name: "/dev/kvm".to_owned(),
        path: kvm.is_ok().then(|| "/dev/kvm".to_owned()),
        version: None,
        needed: false,
        note: match &kvm {
            Ok(_) => "opens: tests may use it".to_owned(),
            Err(error) => format!("tests use QEMU's own emulation instead ({error})"),
        },
    }];
    for (name, path) in [
        ("firmware code", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
        ("firmware variables", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("firmware variables, Secure Boot", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ] {
        found.push(Finding {
            name: name.to_owned(),
            path: Path::new(path).exists().then(|| path.to_owned()),
            version: None,
            needed: true,
            note: "Debian package ovmf".to_owned(),
        });
    }
    let disk = output(Command::new("df").args(["--output=avail", "-h"]).arg(workspace.root()));
    let free = disk.ok().and_then(|text| text.lines().last().map(|line| line.trim().to_owned()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    found.push(Finding {
        name: "machine".to_owned(),
        path: Some(workspace.target().display().to_string()),
        version: None,
        needed: false,
        note: format!("{cores} cores, {} free for builds (4G are enough)", free.unwrap_or_default()),
    });
    found
}

fn first_line(text: String) -> Option<String> {
    text.lines().next().map(str::to_owned)
}

fn print(report: &Report) {
    for finding in &report.findings {
        let state = match (&finding.path, finding.needed) {
            (Some(_), _) => "ok",
            (None, true) => "MISSING",
            (None, false) => "absent",
        };
        let place = finding.path.as_deref().unwrap_or("-");
        let version = finding.version.as_deref().map_or_else(String::new, |version| format!(" ({version})"));
        println!("{state:>7}  {:<32} {place}{version}\n{:43}{}", finding.name, "", finding.note);
    }
    if report.ready {
        println!("\nReady: `cargo xtask demo` and `cargo xtask test` have all they need.");
    } else {
        println!(
            "\nNot ready. Next: `cargo xtask doctor --fix`; `demo` and `test` do the same by themselves."
        );
    }
}
