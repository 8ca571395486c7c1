//! `cargo xtask test`: every check and test, in the order in which they are cheapest to fail, the same here
//! and in CI.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use qemu_tests::tooling::command::run;
use qemu_tests::tooling::progress::{spoken, step};
use qemu_tests::tooling::toolchain::{self, UEFI, own_cargo};
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{kernel, programs, setup};

/// Run every check and test, stopping at the first that fails. The output of each step is kept in
/// target/bulkhead/log/.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  \
    cargo xtask test --no-e2e             no QEMU: about a minute\n  \
    cargo xtask test --e2e-only -- update_to_b --nocapture    one end-to-end test, with its output")]
pub struct Arguments {
    /// Only the end-to-end tests, with what they need.
    #[arg(long, conflicts_with = "no_e2e")]
    e2e_only: bool,
    /// Everything but the end-to-end tests.
    #[arg(long)]
    no_e2e: bool,
    /// For the end-to-end tests: names to choose by, and options of the test program.
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Check the house rules alone: floors, sizes, words, catch-all arms, unsafe sites, layout, dependencies.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask tidy")]
pub struct Tidy {}

pub fn run_all(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    setup::everything(workspace)?;
    if !arguments.e2e_only {
        checks(workspace)?;
        unit_tests(workspace)?;
    }
    if !arguments.no_e2e {
        programs::boot_app(workspace)?;
        programs::bulkhead(workspace)?;
        kernel::fetch(workspace, false)?;
        end_to_end(workspace, &arguments.rest)?;
    }
    println!("test: all passed in {}", spoken(start.elapsed()));
    Ok(())
}

pub fn tidy(workspace: &Workspace) -> Result<()> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-core", "--test", "tidy", "--test", "dependencies"]);
    tests(workspace, "tidy", &mut cargo)
}

fn checks(workspace: &Workspace) -> Result<()> {
    silent(workspace, "format", own_cargo(workspace).args(["fmt", "--all", "--check"]))?;
    let mut clippy = own_cargo(workspace);
    clippy.args(["clippy", "--workspace", "--exclude", "bulkhead-boot", "--all-targets"]);
    silent(workspace, "clippy: host", clippy.args(["--", "-D", "warnings"]))?;
    let (choice, _) = toolchain::ensure(workspace)?;
    let mut clippy = choice.way.cargo(workspace, "clippy", UEFI);
    clippy.args(["-p", "bulkhead-boot", "--", "-D", "warnings"]);
    silent(workspace, "clippy: boot application", &mut clippy)?;
    tidy(workspace)
}

fn unit_tests(workspace: &Workspace) -> Result<()> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--workspace", "--exclude", "bulkhead-boot", "--exclude", "qemu-tests"]);
    tests(workspace, "test: core and host", &mut cargo)?;
    // The boot application itself is for UEFI; what of it is a library is tested here, on the host.
    if workspace.root().join("boot/src/lib.rs").exists() {
        let mut cargo = own_cargo(workspace);
        cargo.args(["test", "--package", "bulkhead-boot", "--lib"]);
        tests(workspace, "test: boot application", &mut cargo)?;
    }
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "qemu-tests", "--lib", "--bins"]);
    tests(workspace, "test: tooling and harness", &mut cargo)
}

/// Every file in `qemu-tests/tests`. Built with the profile that everything else here has, so that nothing is
/// compiled twice; what runs long in them is QEMU and the optimised `bulkhead`.
fn end_to_end(workspace: &Workspace, rest: &[String]) -> Result<()> {
    if !workspace.root().join("qemu-tests/tests").is_dir() {
        return step("test: end to end", || Ok("none in qemu-tests/tests".to_owned()));
    }
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "qemu-tests", "--test", "*", "--"]).args(rest);
    tests(workspace, "test: end to end", &mut cargo)
}

fn silent(workspace: &Workspace, name: &str, command: &mut Command) -> Result<()> {
    step(name, || run(command, &workspace.log(name)).map(|()| String::new()))
}

fn tests(workspace: &Workspace, name: &str, command: &mut Command) -> Result<()> {
    step(name, || {
        let log = workspace.log(name);
        run(command, &log)?;
        Ok(counted(&log))
    })
}

/// `41 tests`, summed over the test programs whose output is in `log`.
fn counted(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let sum = |what: &str| -> u64 {
        let results = text.lines().filter_map(|line| line.trim().strip_prefix("test result: ok. "));
        let parts = results.flat_map(|line| line.split("; ")).filter_map(|part| part.strip_suffix(what));
        parts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
    };
    match (sum(" passed"), sum(" ignored")) {
        (passed, 0) => format!("{passed} tests"),
        (passed, ignored) => format!("{passed} tests, {ignored} ignored"),
    }
}
