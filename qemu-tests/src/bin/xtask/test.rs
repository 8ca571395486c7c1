//! `cargo xtask test`: every check and test, in the order in which they are cheapest to fail, the same here
//! and in CI.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use qemu_tests::tooling::command::run;
use qemu_tests::tooling::progress::{spoken, step};
use qemu_tests::tooling::sections::sections;
use qemu_tests::tooling::toolchain::{self, NONE, THUMBV7M, UEFI, own_cargo};
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{bare_guest, firmware, kernel, programs, setup};
use qemu_tests::witness::budget;

/// Run every check and test, stopping at the first that fails. The output of each step is kept in
/// target/bulkhead/log/.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  \
    cargo xtask test --no-e2e             no QEMU: some 20 minutes\n  \
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
    let mut passed = 0;
    setup::everything(workspace)?;
    if !arguments.e2e_only {
        passed += checks(workspace)?;
        passed += unit_tests(workspace)?;
    }
    if !arguments.no_e2e {
        programs::boot_app(workspace)?;
        programs::bulkhead(workspace)?;
        bare_guest::bare_guest(workspace)?;
        kernel::fetch(workspace, false)?;
        passed += end_to_end(workspace, &arguments.rest)?;
    }
    println!("test: all passed in {}", spoken(start.elapsed()));
    // The line that CI systems look for; a test that fails has ended this before.
    println!("{passed} passed, 0 failed");
    Ok(())
}

pub fn tidy(workspace: &Workspace) -> Result<u64> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-core", "--test", "tidy", "--test", "dependencies"]);
    tests(workspace, "tidy", &mut cargo)
}

fn checks(workspace: &Workspace) -> Result<u64> {
    silent(workspace, "format", own_cargo(workspace).args(["fmt", "--all", "--check"]))?;
    let mut clippy = own_cargo(workspace);
    clippy.args(["clippy", "--workspace", "--exclude", "bulkhead-boot", "--all-targets"]);
    silent(workspace, "clippy: host", clippy.args(["--", "-D", "warnings"]))?;
    let (choice, _) = toolchain::ensure(workspace)?;
    let mut clippy = choice.way.cargo(workspace, "clippy", UEFI);
    clippy.args(["-p", "bulkhead-boot", "--", "-D", "warnings"]);
    silent(workspace, "clippy: boot application", &mut clippy)?;
    bare_guest(workspace)?;
    Ok(tidy(workspace)? + witness(workspace)?)
}

/// The guest without an operating system, which is a workspace of its own: its style.
fn bare_guest(workspace: &Workspace) -> Result<()> {
    let manifest = workspace.root().join(bare_guest::MANIFEST);
    let mut format = own_cargo(workspace);
    format.arg("fmt").arg("--manifest-path").arg(&manifest).arg("--check");
    silent(workspace, "format: bare guest", &mut format)?;
    let (choice, _) = toolchain::ensure(workspace)?;
    let mut clippy = choice.way.cargo(workspace, "clippy", NONE);
    clippy.args(["--release", "--manifest-path"]).arg(&manifest).args(["--", "-D", "warnings"]);
    silent(workspace, "clippy: bare guest", &mut clippy)
}

/// The firmware of the witness, which is a workspace of its own: its style, its tests on the host, its
/// budget.
fn witness(workspace: &Workspace) -> Result<u64> {
    let manifest = workspace.root().join("firmware/witness/Cargo.toml");
    let own = |verb: &str| {
        let mut cargo = own_cargo(workspace);
        cargo.arg(verb).arg("--manifest-path").arg(&manifest);
        cargo
    };
    silent(workspace, "format: witness", own("fmt").arg("--check"))?;
    let mut clippy = own("clippy");
    silent(workspace, "clippy: witness", clippy.args(["--lib", "--tests", "--", "-D", "warnings"]))?;
    let (choice, _) = toolchain::ensure(workspace)?;
    let mut clippy = choice.way.cargo(workspace, "clippy", THUMBV7M);
    clippy.args(["--release", "--bins", "--manifest-path"]).arg(&manifest).args(["--", "-D", "warnings"]);
    silent(workspace, "clippy: witness, on its board", &mut clippy)?;
    let elf = firmware::witness(workspace)?;
    step("budget: witness", || {
        let sections = sections(&fs::read(&elf)?)?;
        budget::check(&sections)?;
        let (flash, memory) = (sections.flash(), sections.memory());
        Ok(format!(
            "{flash} of {} bytes flash, {memory} of {} bytes memory",
            budget::FLASH_MAX,
            budget::VARIABLES_MAX
        ))
    })?;
    tests(workspace, "test: witness", own("test").arg("--lib"))
}

fn unit_tests(workspace: &Workspace) -> Result<u64> {
    let mut passed = 0;
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--workspace"]);
    cargo.args(
        ["bulkhead-boot", "bulkhead-model", "bulkhead-sim", "qemu-tests"]
            .iter()
            .flat_map(|one| ["--exclude", one]),
    );
    passed += tests(workspace, "test: core and host", &mut cargo)?;
    passed += simulator(workspace)?;
    passed += models(workspace)?;
    // The boot application itself is for UEFI; what of it is a library is tested here, on the host.
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-boot", "--lib", "--examples"]);
    passed += tests(workspace, "test: boot application", &mut cargo)?;
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "qemu-tests", "--lib", "--bins"]);
    Ok(passed + tests(workspace, "test: tooling and harness", &mut cargo)?)
}

/// Many seeds of a whole site; then the same with a bug planted, which must be caught, each.
fn simulator(workspace: &Workspace) -> Result<u64> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-sim", "--", "--nocapture"]);
    let mut passed = tests(workspace, "test: simulator", &mut cargo)?;
    show(workspace, "test: simulator", |line| line.contains("simulated hours"));
    for (package, target) in
        [("bulkhead-core", ["--lib", "every_planted"]), ("bulkhead-sim", ["--test", "bugs"])]
    {
        let name = format!("test: planted bugs, {package}");
        let mut cargo = own_cargo(workspace);
        cargo.args(["test", "--package", package, "--features", "bugs"]).args(target);
        passed += tests(workspace, &name, cargo.args(["--", "--nocapture"]))?;
        show(workspace, &name, is_row);
    }
    Ok(passed)
}

/// Every order of events within small bounds, which are shown; then the bugs that this must find.
fn models(workspace: &Workspace) -> Result<u64> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-model", "--", "--nocapture"]);
    let mut passed = tests(workspace, "test: models", &mut cargo)?;
    show(workspace, "test: models", |line| line.contains(" states, ") || line.contains("not so: "));
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "bulkhead-model", "--features", "bugs", "--test", "bugs"]);
    passed += tests(workspace, "test: planted bugs, models", cargo.args(["--", "--nocapture"]))?;
    show(workspace, "test: planted bugs, models", |line| line.contains("not so: "));
    Ok(passed)
}

/// A row of a table, its columns set apart: no word of cargo, of a test program, or of a bug that was caught.
fn is_row(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains("  ")
}

/// Prints the lines of a step's log that people want to see.
fn show(workspace: &Workspace, name: &str, wanted: impl Fn(&str) -> bool) {
    let text = fs::read_to_string(workspace.log(name)).unwrap_or_default();
    text.lines().filter(|line| wanted(line)).for_each(|line| println!("        {line}"));
}

/// Every file in `qemu-tests/tests`, one program. Built with the profile that everything else here has, so
/// that nothing is compiled twice; what runs long in them is QEMU and the optimised `bulkhead`.
fn end_to_end(workspace: &Workspace, rest: &[String]) -> Result<u64> {
    let mut cargo = own_cargo(workspace);
    cargo.args(["test", "--package", "qemu-tests", "--test", "e2e", "--"]).args(rest);
    tests(workspace, "test: end to end", &mut cargo)
}

fn silent(workspace: &Workspace, name: &str, command: &mut Command) -> Result<()> {
    step(name, || run(command, &workspace.log(name)).map(|()| String::new()))
}

/// Runs a test command and counts what passed.
fn tests(workspace: &Workspace, name: &str, command: &mut Command) -> Result<u64> {
    let mut passed = 0;
    // An error says in words what it is about; the calls that led to it would bury them.
    command.env("RUST_LIB_BACKTRACE", "0");
    step(name, || {
        let log = workspace.log(name);
        run(command, &log)?;
        let text = fs::read_to_string(&log).unwrap_or_default();
        passed = counted(&text, " passed");
        Ok(match counted(&text, " ignored") {
            0 => format!("{passed} tests"),
            ignored => format!("{passed} tests, {ignored} ignored"),
        })
    })?;
    Ok(passed)
}

/// The sum of the counts before `what` in the closing lines of the test programs.
fn counted(log: &str, what: &str) -> u64 {
    let results = log.lines().filter_map(|line| line.trim().strip_prefix("test result: ok. "));
    let parts = results.flat_map(|line| line.split("; ")).filter_map(|part| part.strip_suffix(what));
    parts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_table_are_told_from_what_programs_say() {
        let log = "   Compiling x v1\nrunning 1 test\nbug  seed  profile\nlease-ignored  2  calm\n\n\
            thread 'x' panicked at y\nassertion failed\n  left: 1\ntest every ... ok";
        let rows: Vec<_> = log.lines().filter(|line| is_row(line)).collect();
        assert_eq!(rows, ["bug  seed  profile", "lease-ignored  2  calm"]);
    }
}
