//! `cargo xtask bench`: figures, measured beside what our users know, as ratios within one round.

mod boot;
mod failover;
mod fio;
mod fleet;
mod log;
mod mirror;
mod served;
mod site;
mod size;
mod vmm;
mod witness;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::workspace::Workspace;

/// Measure.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Boot(boot::Boot),
    Failover(failover::Failover),
    Log(log::Log),
    Mirror(mirror::Mirror),
    Site(site::Site),
    Size(size::Size),
    Vmm(vmm::Vmm),
    Witness(witness::Witness),
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Boot(boot) => boot::boot_figures(workspace, boot),
        What::Failover(failover) => failover::figures(workspace, failover),
        What::Log(log) => log::figures(workspace, log),
        What::Mirror(mirror) => mirror::figures(workspace, mirror),
        What::Site(site) => site::figures(workspace, site),
        What::Size(size) => size::figures(workspace, size),
        What::Vmm(vmm) => vmm::figures(workspace, vmm),
        What::Witness(witness) => witness::figures(workspace, witness),
    }
}

/// Builds something of the agent's crate, as it is released, and returns where it is.
fn released(workspace: &Workspace, kind: &str, name: &str) -> Result<PathBuf> {
    step(&format!("build: {name}, release"), || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(workspace.root());
        cargo.args(["build", "--quiet", "--release", "-p", "bulkhead", kind, name]);
        ensure!(cargo.status()?.success(), "cargo build failed");
        Ok(String::new())
    })?;
    let folder = if kind == "--example" { "release/examples" } else { "release" };
    Ok(workspace.target().join(folder).join(name))
}

/// The least, the middle and the largest of some values; not numbers when there are none.
fn median(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
}
