//! `cargo xtask`: everything a developer or a CI machine does with this project, one subcommand each.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "host tooling: an overflow is a panic in debug, never a wrong image"
)]

mod bench;
mod build;
mod demo;
mod doctor;
mod losses;
mod mutants;
mod soak;
mod test;
mod witness;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use qemu_tests::tooling::workspace::Workspace;

/// The project's own tooling. On a fresh Debian 12 machine `cargo xtask demo` and `cargo xtask test` are
/// enough: both first install what is missing (see `cargo xtask doctor`).
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
#[command(after_help = "Examples:\n  cargo xtask demo            the main job, shown\n  \
    cargo xtask doctor --fix    make this machine ready\n  \
    cargo xtask test            all checks and tests, as CI runs them")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Demo(demo::Arguments),
    Bench(bench::Arguments),
    #[command(alias = "ci")]
    Test(test::Arguments),
    Tidy(test::Tidy),
    Doctor(doctor::Arguments),
    BootApp(build::BootApp),
    Bulkhead(build::Bulkhead),
    Kernel(build::KernelArguments),
    NodeImage(build::NodeImage),
    Mutants(mutants::Arguments),
    Soak(soak::Arguments),
    Witness(witness::Arguments),
}

fn main() -> ExitCode {
    // clap ends a wrong command line with exit code 2 by itself.
    let arguments = Arguments::parse();
    match run(arguments.task, &Workspace::locate()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(task: Task, workspace: &Workspace) -> Result<ExitCode> {
    match task {
        Task::Doctor(arguments) => return doctor::run(workspace, &arguments),
        Task::Demo(arguments) => demo::run(workspace, &arguments)?,
        Task::Bench(arguments) => bench::run(workspace, &arguments)?,
        Task::Test(arguments) => test::run_all(workspace, &arguments)?,
        Task::Tidy(test::Tidy {}) => drop(test::tidy(workspace)?),
        Task::BootApp(build::BootApp {}) => build::boot_app(workspace)?,
        Task::Bulkhead(build::Bulkhead {}) => build::bulkhead(workspace)?,
        Task::Kernel(arguments) => build::kernel(workspace, &arguments)?,
        Task::Mutants(arguments) => mutants::run(&arguments)?,
        Task::Soak(arguments) => soak::soak(workspace, &arguments)?,
        Task::Witness(arguments) => witness::run(workspace, &arguments)?,
        Task::NodeImage(arguments) => build::node_image(workspace, &arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
