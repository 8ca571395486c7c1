//! `bulkhead node`: who this node is.

use super::target::{DiskArg, DryRun, Target, dry_run};
use super::{Common, cluster, force_quorum};
use crate::failure::Failure;
use crate::node_config::record::Kind;
use crate::node_config::schema::NodeConfig;
use crate::node_config::store;
use crate::node_site::Texts;
use crate::output::Report;
use bulkhead_core::gpt::layout::Role;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// The configuration that makes one image serve every node
    #[command(subcommand)]
    Config(ConfigVerb),
    /// The site that this node runs its part of
    #[command(subcommand)]
    Site(SiteVerb),
    Join(cluster::Join),
    Leave(cluster::Leave),
    Fences(cluster::Fences),
    ForceQuorum(force_quorum::ForceQuorum),
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    Show(Show),
    Set(Set),
}

#[derive(Debug, Subcommand)]
pub(super) enum SiteVerb {
    Show(ShowSite),
    Set(SetSite),
}

pub(super) fn run(verb: Verb, common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Config(ConfigVerb::Show(args)) => show(&args, common),
        Verb::Config(ConfigVerb::Set(args)) => set(&args, common),
        Verb::Site(SiteVerb::Show(args)) => show_site(&args, common),
        Verb::Site(SiteVerb::Set(args)) => set_site(&args, common),
        Verb::Join(args) => cluster::join(&args),
        Verb::Leave(args) => cluster::leave(&args),
        Verb::Fences(args) => cluster::fences(&args),
        Verb::ForceQuorum(args) => force_quorum::run(&args),
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
    let copies = store::read(&target.disk, &target.node.layout, Kind::Node);
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

/// The disk, if one is named, and the file.
fn disk_and_file(paths: &[PathBuf]) -> Result<(Option<&Path>, &Path), Failure> {
    match paths {
        [file] => Ok((None, file)),
        [disk, file] => Ok((Some(disk), file)),
        [] | [_, _, _, ..] => Err(Failure::usage("give a disk and a file, or a file")),
    }
}

fn set(args: &Set, common: &Common) -> Result<Report, Failure> {
    let (path, file) = disk_and_file(&args.paths)?;
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
    let seq = store::write(&target.disk, &target.node.layout, Kind::Node, &text)?;
    let text = format!("{} belongs to node {name}.\n", target.disk.path.display());
    Ok(Report::new(text, json!({ "ok": true, "dry_run": false, "node": name, "sequence": seq })))
}

/// Print the site's configuration on this node
///
/// Prints the site's configuration as it stands on the infra partition. The key is not printed.
///
/// Example:
///   bulkhead node site show node.disk
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ShowSite {
    #[command(flatten)]
    disk: DiskArg,
}

fn show_site(args: &ShowSite, common: &Common) -> Result<Report, Failure> {
    let target = Target::look(common, &args.disk)?;
    let texts = Texts::on(&target.disk, &target.node.layout)?.ok_or_else(|| {
        Failure::failed(format!("{} holds no site", target.disk.path.display()))
            .next("put one there with `bulkhead node site set DISK FILE`.")
    })?;
    let json = json!({ "ok": true, "text": texts.site });
    Ok(Report::new(texts.site, json))
}

/// Check a site's configuration and put it on the disk, with its key
///
/// Checks the configuration of the site, and puts it and the key it names on the infra partition.
/// The node that `local.node` names then runs its part of the site whenever it boots; the other
/// keys of [local] are left out, a node has its own places. In force after the next boot.
///
/// Examples:
///   bulkhead node site set site.toml             (on the node)
///   bulkhead node site set node.disk site.toml   (a disk image)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, override_usage = "bulkhead node site set [OPTIONS] [DISK] <FILE>")]
pub(super) struct SetSite {
    /// The disk (default: the one this node booted from), and the configuration
    #[arg(value_name = "[DISK] FILE", required = true, num_args = 1..=2)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    dry: DryRun,
}

fn set_site(args: &SetSite, common: &Common) -> Result<Report, Failure> {
    let (path, file) = disk_and_file(&args.paths)?;
    let (texts, config) = Texts::read(file)?;
    // Not claimed: the agent that runs on this partition holds it, and never touches this text.
    let roles: &[Role] = &[];
    let target = Target::change_path(common, path, roles, args.dry)?;
    let (name, site) = (config.name_of(config.local.node), &config.site_name);
    if args.dry.dry_run {
        let steps = ["write the key, flush, read it back", "write the configuration, flush, read it back"];
        return Ok(dry_run(&format!("make this node {name} of site {site}"), &steps.map(str::to_owned)));
    }
    let seq = texts.write(&target.disk, &target.node.layout)?;
    let path = target.disk.path.display();
    let text = format!("{path} is {name} of site {site} from its next boot on.\n");
    let json = json!({ "ok": true, "dry_run": false, "node": name, "site": site, "sequence": seq });
    Ok(Report::new(text, json))
}
