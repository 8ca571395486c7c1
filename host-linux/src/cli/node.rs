//! `bulkhead node`: who this node is.

use super::target::{DiskArg, DryRun, Target, dry_run};
use super::{Common, cluster};
use crate::failure::Failure;
use crate::node_config::schema::NodeConfig;
use crate::node_config::store;
use crate::output::Report;
use bulkhead_core::gpt::layout::Role;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// The configuration that makes one image serve every node
    #[command(subcommand)]
    Config(ConfigVerb),
    Join(cluster::Join),
    Leave(cluster::Leave),
    Fences(cluster::Fences),
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    Show(Show),
    Set(Set),
}

pub(super) fn run(verb: Verb, common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Config(ConfigVerb::Show(args)) => show(&args, common),
        Verb::Config(ConfigVerb::Set(args)) => set(&args, common),
        Verb::Join(args) => cluster::join(&args),
        Verb::Leave(args) => cluster::leave(&args),
        Verb::Fences(args) => cluster::fences(&args),
    }
}

/// Print the node configuration
///
/// Prints the node configuration as it stands on the infra partition.
///
/// Example:
///   bulkhead node config show node.disk
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    #[command(flatten)]
    disk: DiskArg,
}

fn show(args: &Show, common: &Common) -> Result<Report, Failure> {
    let target = Target::look(common, &args.disk)?;
    let copies = store::read(&target.disk, &target.node.layout);
    let damage: Vec<_> = copies.iter().map(|copy| copy.as_ref().err().map(ToString::to_string)).collect();
    let stored = store::newest(copies).ok_or_else(|| {
        let why: Vec<String> = damage.into_iter().flatten().collect();
        Failure::failed(format!(
            "{} holds no node configuration ({})",
            target.disk.path.display(),
            why.join("; ")
        ))
        .next("put one there with `bulkhead node config set DISK FILE`.")
    })?;
    let json = json!({ "ok": true, "sequence": stored.seq, "text": stored.text });
    Ok(Report::new(stored.text, json))
}

/// Check a node configuration and put it on the disk
///
/// Checks a node configuration and puts it on the infra partition. The one before is kept as a
/// second copy: if the new one is lost to a power cut or a bad block, the node comes up as it
/// was.
///
/// Examples:
///   bulkhead node config set n1.toml             (on the node)
///   bulkhead node config set node.disk n1.toml   (a disk image)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, override_usage = "bulkhead node config set [OPTIONS] [DISK] <FILE>")]
pub(super) struct Set {
    /// The disk (default: the one this node booted from), and the configuration
    #[arg(value_name = "[DISK] FILE", required = true, num_args = 1..=2)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    dry: DryRun,
}

fn set(args: &Set, common: &Common) -> Result<Report, Failure> {
    let (path, file) = match args.paths.as_slice() {
        [file] => (None, file),
        [disk, file] => (Some(disk.as_path()), file),
        [] | [_, _, _, ..] => return Err(Failure::usage("give a disk and a file, or a file")),
    };
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io("read", file, &error))?;
    let config = NodeConfig::parse(&text)?;
    let target = Target::change_path(common, path, &[Role::Infra], args.dry)?;
    target.node.layout.check_zone(config.node.zone.into()).map_err(|fault| {
        Failure::refused(format!("{} does not suit a node of that zone: {fault}", target.disk.path.display()))
            .next("make the disk with `bulkhead image disk --zone mz`.")
    })?;
    let name = &config.node.name;
    if args.dry.dry_run {
        return Ok(dry_run(
            &format!("make this node {name}"),
            &["write the older copy, flush, read it back".into()],
        ));
    }
    let seq = store::write(&target.disk, &target.node.layout, &text)?;
    let text = format!("{} belongs to node {name}.\n", target.disk.path.display());
    Ok(Report::new(text, json!({ "ok": true, "dry_run": false, "node": name, "sequence": seq })))
}
