//! Volumes in words and as JSON: made here only (BLACKBOX 3).

use super::volume_scrub::places;
use crate::mirror::view::{Algorithm, CacheView, FillView, HolderView, Policy, View, VolumeView};
use crate::nbd::uri::Uri;
use crate::output::size;
use crate::volume::orders::Listing;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How the group is, in one line.
pub(super) fn group(listing: &Listing) -> String {
    listing.storage.line(listing.pair, |node| listing.name_of(node))
}

/// All volumes.
pub(super) fn list(listing: &Listing) -> String {
    let mut out = format!("{}\n", group(listing));
    let volumes = &listing.storage.volumes;
    if volumes.is_empty() {
        out.push_str("no volumes; `bulkhead volume create NAME --size SIZE` makes one\n");
        return out;
    }
    let width = volumes.iter().map(|volume| volume.name.len()).max().unwrap_or(0).max(6);
    let _ = writeln!(out, "\n{:width$}  {:>12}  where", "volume", "size");
    for volume in volumes {
        let uris = listing.uris(&volume.name);
        let first = uris.first().map(|(_, uri)| uri.to_string()).unwrap_or_default();
        let _ = writeln!(out, "{:width$}  {:>12}  {first}", volume.name, size(volume.bytes));
    }
    out
}

/// One volume.
pub(super) fn show(listing: &Listing, volume: &VolumeView) -> String {
    let VolumeView { number, name, uuid, bytes, wanted: own, policy, cached, at_risk_bytes, seal, .. } =
        volume;
    let backing = &volume.backing;
    let View { leads, primary, wanted, holders, .. } = &listing.storage;
    let View { log, dirty_bytes, cache, writes, reads, scrub, last_error, .. } = &listing.storage;
    let mut out = format!("{name}: {}, volume {number} of pair {}, {uuid}\n", size(*bytes), listing.pair);
    let _ = writeln!(out, "{}", group(listing));
    let when = |policy: &Policy| match policy {
        Policy::Through => "in the backing store, too (write-through)",
        Policy::Back => "in the logs of all holders in sync (write-back)",
    };
    // Only who leads knows what the others have, and when writes are acknowledged.
    match (*leads, primary.map(|node| listing.name_of(node))) {
        (true, _) => {
            let _ = write!(out, "writes are acknowledged when they are {}", when(policy));
            let wanted = own.as_ref().unwrap_or(wanted);
            if wanted != policy {
                let _ = write!(out, "; wanted: {}", when(wanted));
            }
            if own.is_some() {
                out.push_str("; by a mode of its own");
            }
            out.push('\n');
        }
        (false, Some(leads)) => {
            let _ = writeln!(out, "{leads} knows what every holder has, this node knows its own:");
        }
        (false, None) => {}
    }
    out.push('\n');
    let width = holders.iter().map(|holder| listing.name_of(holder.node).len()).max().unwrap_or(0);
    for holder in holders {
        let name = listing.name_of(holder.node);
        let _ = writeln!(out, "{name:width$}  {}", said(listing, holder));
    }
    let (free, all) = (size(log.free_bytes), size(log.bytes));
    let _ =
        writeln!(out, "\nnot yet in the backing store: {}; log: {free} of {all} free", size(*dirty_bytes));
    let sealed = seal.as_ref().map(|seal| format!("; not written to since it was sealed as {seal}"));
    let _ =
        writeln!(out, "content on {}: {backing}{}", listing.name_of(listing.me), sealed.unwrap_or_default());
    if let Some(at_risk) = at_risk_bytes {
        let bound = match listing.storage.at_risk_max {
            Some(max) => format!("no more than {} of all volumes are let", size(max)),
            None => "no bound is set".to_owned(),
        };
        let _ = writeln!(out, "in one place only: {}; {bound}", size(*at_risk));
    }
    out.push_str(&said_of_cache(cache, *cached));
    for (what, latency) in [("writes", writes), ("reads", reads)] {
        if let (Some(p50), Some(p99)) = (latency.p50_us, latency.p99_us) {
            let _ = writeln!(out, "{what} take {p50} us (half of them), {p99} us (99 of 100)");
        }
    }
    let lacking = listing.storage.placeholder.lacking();
    if lacking != 0 {
        let text = "the volumes may need more than the file system of this node's store has, by";
        let _ = writeln!(out, "{text} {}", size(lacking));
    }
    if scrub.damaged_blocks != 0 {
        let _ = writeln!(out, "damaged in this node's store: {}", places(listing, scrub));
    }
    if let Some(error) = last_error {
        let _ = writeln!(out, "last error: {error}");
    }
    out.push('\n');
    uris(&listing.uris(name), &mut out);
    out
}

/// How the read cache does, if there is one; `is_for_it`: whether what is read of the volume stays there.
fn said_of_cache(cache: &CacheView, is_for_it: bool) -> String {
    let CacheView { bytes, used_bytes, algorithm, hits, misses } = cache;
    if *bytes == 0 {
        return String::new();
    }
    let algorithm = match algorithm {
        Algorithm::Lru => "LRU",
        Algorithm::Clock => "clock",
        Algorithm::Arc => "ARC",
        Algorithm::Off => "switched off",
    };
    let mut out = format!("read cache: {algorithm}, {} of {} used", size(*used_bytes), size(*bytes));
    let all = hits.saturating_add(*misses);
    if let Some(tenths) = hits.saturating_mul(1000).checked_div(all) {
        let _ = write!(out, "; {}.{} % of {all} blocks were there", tenths / 10, tenths % 10);
    }
    if !is_for_it {
        out.push_str("; not for this volume");
    }
    out.push('\n');
    out
}

/// What is known of a holder.
fn said(listing: &Listing, holder: &HolderView) -> String {
    let HolderView { node, in_sync, connected, encrypted, has, lag, removed, fill } = holder;
    let sync = match (listing.storage.leads, in_sync) {
        (_, _) if *removed => "TAKEN OUT",
        (true, true) => "in sync",
        (true, false) => "NOT IN SYNC",
        (false, _) => "",
    };
    let mut out = format!("{sync:11}");
    if Some(*node) == listing.storage.primary {
        out.push_str("  leads");
    }
    if let Some(has) = has {
        let _ = write!(out, "  has write {has}");
    }
    if let Some(lag) = lag.filter(|lag| *lag != 0) {
        let _ = write!(out, ", {lag} behind");
    }
    if let Some(fill) = fill {
        let FillView { bytes, compared_bytes, moved_bytes, left_bytes, left_millis } = fill;
        let (compared, all) = (size(*compared_bytes), size(*bytes));
        let (moved, left) = (size(*moved_bytes), size(*left_bytes));
        let _ = write!(out, "  is filled: {compared} of {all} compared, {moved} sent, at most {left} left");
        if let Some(millis) = left_millis {
            let _ = write!(out, ", about {} s", millis.div_ceil(1000));
        }
    }
    if *node == listing.me {
        out.push_str("  (this node)");
    } else if !connected {
        out.push_str("  not reached");
    }
    out.push_str(match encrypted {
        Some(true) => "  encrypted",
        Some(false) => "  in the clear",
        None => "",
    });
    out.trim_end().to_owned()
}

/// Where clients find a volume.
pub(super) fn uris(all: &[(String, Uri)], out: &mut String) {
    let width = all.iter().map(|(node, _)| node.len()).max().unwrap_or(0);
    for (node, uri) in all {
        let _ = writeln!(out, "  {node:width$}  {uri}");
    }
}

/// The same for programs.
pub(super) fn uris_json(all: &[(String, Uri)]) -> Value {
    let one = |(node, uri): &(String, Uri)| json!({ "node": node, "uri": uri.to_string() });
    all.iter().map(one).collect()
}

/// A volume for programs.
pub(super) fn json(listing: &Listing, volume: &VolumeView) -> Value {
    let mut value = serde_json::to_value(volume).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("uris".into(), uris_json(&listing.uris(&volume.name)));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::view::State;
    use crate::volume::orders::tests::listing;

    #[test]
    fn a_volume_is_shown_on_one_screen() {
        let mut all = listing(1);
        all.storage.holders[0].has = Some(40);
        all.storage.holders[1].in_sync = false;
        all.storage.holders[1].connected = false;
        all.storage.holders[1].lag = Some(2);
        all.storage.state = State::Degraded;
        all.storage.policy = Policy::Through;
        all.storage.volumes[0].policy = Policy::Through;
        all.storage.dirty_bytes = 12 << 20;
        all.storage.log.bytes = 64 << 20;
        all.storage.volumes[0].at_risk_bytes = Some(8192);
        all.storage.volumes[0].backing = "/dev/sdb".into();
        all.storage.at_risk_bytes = Some(8192);
        all.storage.at_risk_max = Some(64 << 20);
        all.storage.holders[1].removed = true;
        all.storage.writes.p50_us = Some(210);
        all.storage.writes.p99_us = Some(900);
        all.storage.reads.p50_us = Some(12);
        all.storage.reads.p99_us = Some(340);
        let (bytes, used_bytes) = (256 << 20, 12 << 20);
        all.storage.cache = CacheView { bytes, used_bytes, hits: 9876, misses: 123, ..CacheView::default() };
        let expected = "\
vm1: 10 GiB, volume 3 of pair 1, 07070707-0707-4707-8707-070707070707
pair 1 is DEGRADED: what is written is in one place only; a1 leads, epoch 7; 8 KiB at risk; \
b1 was taken out: `bulkhead volume secondary add b1` takes it in again
writes are acknowledged when they are in the backing store, too (write-through); \
wanted: in the logs of all holders in sync (write-back)

a1  in sync      leads  has write 40  (this node)
b1  TAKEN OUT  , 2 behind  not reached

not yet in the backing store: 12 MiB; log: 0 bytes of 64 MiB free
content on a1: /dev/sdb
in one place only: 8 KiB; no more than 64 MiB of all volumes are let
read cache: ARC, 12 MiB of 256 MiB used; 98.7 % of 9999 blocks were there
writes take 210 us (half of them), 900 us (99 of 100)
reads take 12 us (half of them), 340 us (99 of 100)

  a1  nbd://10.0.1.1/vm1
  b1  nbd://10.0.1.2/vm1
  a1  nbd+unix:///vm1?socket=/run/b/nbd.sock
";
        assert_eq!(show(&all, &all.storage.volumes[0]), expected);
    }

    /// S4-02: a volume that goes past the cache, and a cache that is switched off, are said to.
    #[test]
    fn a_read_cache_is_shown_where_there_is_one() {
        let mut all = listing(1);
        let line = |all: &Listing| {
            let shown = show(all, &all.storage.volumes[0]);
            shown.lines().find(|line| line.starts_with("read cache")).map(str::to_owned)
        };
        assert_eq!(line(&all), None);
        all.storage.cache.bytes = 64 << 20;
        assert_eq!(line(&all).unwrap(), "read cache: ARC, 0 bytes of 64 MiB used");
        all.storage.volumes[0].cached = false;
        all.storage.cache.algorithm = Algorithm::Off;
        all.storage.cache.misses = 3;
        let expected = "read cache: switched off, 0 bytes of 64 MiB used; 0.0 % of 3 blocks were there; \
                        not for this volume";
        assert_eq!(line(&all).unwrap(), expected);
    }

    /// V43: who looks sees whether what goes to another holder can be read on the way.
    #[test]
    fn a_stream_is_encrypted_or_in_the_clear() {
        let mut all = listing(1);
        for (encrypted, said) in
            [(Some(true), "      encrypted"), (Some(false), "      in the clear"), (None, "")]
        {
            all.storage.holders[1].encrypted = encrypted;
            let shown = show(&all, &all.storage.volumes[0]);
            let line = shown.lines().find(|line| line.starts_with("b1")).unwrap();
            assert_eq!(line, format!("b1  in sync{said}").trim_end());
        }
    }

    /// A node that follows knows what it has itself, and says who knows the rest.
    #[test]
    fn a_node_that_follows_says_what_it_knows() {
        let mut all = listing(2);
        all.storage.holders.remove(0);
        all.storage.holders[0].has = Some(40);
        let expected = "\
vm1: 10 GiB, volume 3 of pair 1, 07070707-0707-4707-8707-070707070707
pair 1 is synced: any one holder may be lost; a1 leads, epoch 7
a1 knows what every holder has, this node knows its own:

b1               has write 40  (this node)
";
        let shown = show(&all, &all.storage.volumes[0]);
        assert!(shown.starts_with(expected), "{shown}");
    }

    #[test]
    fn all_volumes_are_listed_with_the_state_first() {
        let mut all = listing(1);
        let expected = "\
pair 1 is synced: any one holder may be lost; a1 leads, epoch 7

volume          size  where
vm1           10 GiB  nbd://10.0.1.1/vm1
";
        assert_eq!(list(&all), expected);
        all.storage.volumes.clear();
        assert!(list(&all).contains("bulkhead volume create"));
        assert_eq!(json(&all, &listing(1).storage.volumes[0])["uris"][2]["node"], "a1");
    }
}
