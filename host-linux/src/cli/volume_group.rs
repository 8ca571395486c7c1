//! `bulkhead volume limit | secondary | recover`: what goes for the whole mirror group of a pair (S4-02,
//! S4-12, X11, X14).

use super::cluster::AgentArg;
use super::volume::{find, look};
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::output::{Report, parse_size, size};
use clap::{Args, Subcommand};

/// Bound the bytes at risk
///
/// While only one node has what is written, no more than so many bytes are acknowledged: guests
/// then wait until a second holder is in sync, or the bound is raised. A node that starts while it
/// is alone does not know what the other one lacks, and counts all volumes in full. none: guests
/// never wait for it. `bulkhead volume list` shows what is at risk.
///
/// Examples:
///   bulkhead volume limit 4GiB
///   bulkhead volume limit none
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Limit {
    /// So many bytes, or `none`
    #[arg(value_name = "SIZE", value_parser = bound)]
    bytes: Bound,
    #[command(flatten)]
    agent: AgentArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound(Option<u64>);

#[derive(Debug, Subcommand)]
#[command(about = "Say who keeps copies of the volumes")]
pub(super) enum Secondary {
    Add(Add),
    Remove(Remove),
}

/// Take a node in as a secondary again
///
/// It is fed what it missed, and is in sync when it has all of it.
///
/// Example:
///   bulkhead volume secondary add b1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Add {
    /// The name or `id` of the node
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    agent: AgentArg,
}

/// Take a node out: it is no secondary until it is added again
///
/// Guests do not wait for it any more, and it is fed nothing, also after restarts and by whoever
/// leads next. Its copy stays where it is. Exit code 3: it is the last one, and without it what is
/// written is in one place only; --yes says so.
///
/// Example:
///   bulkhead volume secondary remove b1 --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Remove {
    /// The name or `id` of the node
    #[arg(value_name = "NODE")]
    node: String,
    /// Also if no other one is left
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
}

/// Have this node lead with what it has, when all who have more are lost
///
/// DANGEROUS: what was acknowledged without this node is lost, and stays lost. It is for the case
/// that every node with all acknowledged writes is lost for good, or that no voter remembers the
/// group. It is refused while a node that has all of them is there, and while the store of this one
/// has parts of two times because it was being filled. A node that was away and has more must give
/// its log up before it can be fed (docs/volumes.md).
///
/// Example:
///   bulkhead volume recover --yes-lose-writes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Recover {
    /// Yes, lose what was acknowledged without this node
    #[arg(long)]
    yes_lose_writes: bool,
    /// Also if its store has parts of two times: file systems on it may be broken
    #[arg(long)]
    even_part_filled: bool,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn limit(args: &Limit) -> Result<Report, Failure> {
    let Bound(bytes) = args.bytes;
    let answer = args.agent.connect()?.ask(&Request::VolumeLimit { bytes })?;
    let text = match bytes {
        Some(bytes) => format!("no more than {} are acknowledged in one place only\n", size(bytes)),
        None => "nothing is held back for being in one place only\n".to_owned(),
    };
    Ok(Report::new(text, answer))
}

pub(super) fn secondary(verb: &Secondary) -> Result<Report, Failure> {
    let (Secondary::Add(Add { node, agent }) | Secondary::Remove(Remove { node, agent, .. })) = verb;
    let mut client = agent.connect()?;
    let listing = look(&mut client)?;
    let place = find(&listing, node)?;
    let (request, text) = match verb {
        Secondary::Add(_) => {
            let text = format!("{} is fed what it missed\n", place.name);
            (Request::VolumeSecondaryAdd { node: place.node }, text)
        }
        Secondary::Remove(Remove { yes, .. }) => {
            let text = format!("{} is no secondary until it is added again\n", place.name);
            (Request::VolumeSecondaryRemove { node: place.node, yes: *yes }, text)
        }
    };
    let answer = client.ask(&request)?;
    Ok(Report::new(text, answer))
}

pub(super) fn recover(args: &Recover) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let listing = look(&mut client)?;
    let me = listing.name_of(listing.me);
    if !args.yes_lose_writes {
        let newest = listing.storage.log.durable;
        let what = format!(
            "this has {me} lead with the {newest} writes it has; what was acknowledged without it is lost"
        );
        let failure = Failure::refused(what).left("Nothing was changed.");
        return Err(
            failure.next("say it again with --yes-lose-writes if all who have more are lost for good.")
        );
    }
    let answer = client.ask(&Request::VolumeRecover { even_part_filled: args.even_part_filled })?;
    let text = format!(
        "{me} leads with what it has as soon as the voters let it: within half a minute as a rule\n\
         `bulkhead volume wait --for primary` waits for it\n"
    );
    Ok(Report::new(text, answer))
}

fn bound(text: &str) -> Result<Bound, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    match parse_size(text)? {
        0..4096 => Err("no write fits a bound of less than 4 KiB; `none` is no bound".to_owned()),
        bytes => Ok(Bound(Some(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_has_room_for_a_write() {
        assert_eq!(bound("none"), Ok(Bound(None)));
        assert_eq!(bound("4KiB"), Ok(Bound(Some(4096))));
        for text in ["0", "4095", "x", ""] {
            assert!(bound(text).is_err(), "{text}");
        }
    }
}
