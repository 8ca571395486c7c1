//! `bulkhead volume scrub`: this node's store is searched for damage now (V14; F7, F10).

use super::cluster::AgentArg;
use super::volume::look;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::mirror::view::ScrubView;
use crate::output::{Report, Voice};
use crate::volume::orders::Listing;
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// From one look to the next. The agent's view is half as old at most.
const LOOK: Duration = Duration::from_millis(200);

/// Search this node's store for damaged blocks now, and mend them
///
/// Every block of every volume is read from the disk of this node and compared with its checksum;
/// one that is damaged is mended with what another holder in sync has. That happens by itself once
/// a week, block by block; this begins anew, without a pause, and leaves half of the time to others.
/// Exit code 1, with --wait: some are damaged that nobody can mend; `--json` says which.
///
/// Examples:
///   bulkhead volume scrub
///   bulkhead volume scrub --wait --json | jq .scrub
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Scrub {
    /// Return when all of it was searched
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn scrub(args: &Scrub, voice: Voice) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let before = look(&mut client)?.storage.scrub;
    let answer = client.ask(&Request::VolumeScrub)?;
    if !args.wait {
        let text =
            "this node's store is searched; `bulkhead volume show` and `list --json` say how far it is\n";
        return Ok(Report::new(text.to_owned(), answer));
    }
    let bar = voice.bar("searched", before.bytes);
    loop {
        std::thread::sleep(LOOK);
        let listing = look(&mut client)?;
        let now = &listing.storage.scrub;
        bar.set_length(now.bytes);
        bar.set_position(now.checked_bytes);
        if before.passes < now.passes && !now.hurried {
            bar.finish_and_clear();
            return ended(&listing, now.mended_blocks.saturating_sub(before.mended_blocks));
        }
    }
}

fn ended(listing: &Listing, mended: u64) -> Result<Report, Failure> {
    let scrub = &listing.storage.scrub;
    if scrub.damaged_blocks == 0 {
        let text = format!("nothing is damaged; {mended} blocks were, and are mended\n");
        return Ok(Report::new(text, json!({ "ok": true, "scrub": scrub })));
    }
    let failure =
        Failure::failed(format!("{} blocks are damaged: {}", scrub.damaged_blocks, places(listing, scrub)));
    let left = format!("{mended} others are mended; a guest that reads these gets an error.");
    let next = "have another holder in sync, which mends them within seconds, or write them again.";
    Err(failure.left(left).next(next))
}

/// The first damaged blocks, in words.
pub(super) fn places(listing: &Listing, scrub: &ScrubView) -> String {
    let mut out = String::new();
    for one in &scrub.damaged {
        let volume = listing.storage.volumes.iter().find(|volume| volume.number == one.volume);
        let name = volume.map_or("the list of volumes", |volume| volume.name.as_str());
        let _ = write!(
            out,
            "{}{name} at byte {}",
            if out.is_empty() { "" } else { ", " },
            one.block.saturating_mul(4096)
        );
    }
    let shown = u64::try_from(scrub.damaged.len()).unwrap_or(u64::MAX);
    if shown < scrub.damaged_blocks {
        out.push_str(", and more");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::view::BlockView;
    use crate::volume::orders::tests::listing;

    #[test]
    fn damage_is_named_by_volume_and_byte() {
        let mut all = listing(1);
        assert_eq!(ended(&all, 2).unwrap().text, "nothing is damaged; 2 blocks were, and are mended\n");
        let block = |volume, block| BlockView { volume, block };
        let (damaged, damaged_blocks) = (vec![block(0, 1), block(3, 7)], 3);
        all.storage.scrub = ScrubView { damaged, damaged_blocks, ..ScrubView::default() };
        let failure = ended(&all, 2).unwrap_err();
        let expected = "3 blocks are damaged: the list of volumes at byte 4096, vm1 at byte 28672, and more";
        assert_eq!(failure.what, expected);
    }
}
