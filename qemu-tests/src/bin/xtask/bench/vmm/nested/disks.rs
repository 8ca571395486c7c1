//! Requests of a guest to its disks: the mirrored volume, and a file of its node that qemu-nbd serves.

use anyhow::{Context, Result};
use serde_json::Value;

use super::guest::{Guest, numbers};
use super::{Seen, Stage};

/// Bytes of the file, which is written before. That of the volume is not: it takes room as it is written.
const FILE_MIB: u32 = 40;
/// How many streams of requests, and how many requests each has.
const LOADS: [(u32, u32); 2] = [(1, 256), (8, 128)];

pub fn figures(stage: &Stage, seen: &mut Seen) -> Result<()> {
    let Stage { site, first, .. } = stage;
    let shown: Value = serde_json::from_str(&site.command(*first, "bulkhead volume show vm1 --json")?)?;
    let text = shown.to_string();
    let uri = text.split('"').find(|text| text.starts_with("nbd+unix:")).with_context(|| text.clone())?;
    // Every write is durable before it is answered, as it is with a volume.
    let serve = format!(
        "dd if=/dev/urandom of=/volumes/file bs=1M count={FILE_MIB} conv=fsync 2>/dev/null; \
         qemu-nbd --fork --persistent --shared=4 --export-name=file --socket=/run/file.nbd --format=raw \
         --cache=writethrough --aio=threads /volumes/file"
    );
    site.command(*first, &serve)?;
    let disks = [uri.to_owned(), "nbd+unix:///file?socket=/run/file.nbd".to_owned()];
    let guest = Guest::alone(site, *first, &disks)?;
    let rate = |disk: &str, way: &str, (streams, blocks): (u32, u32)| {
        let said = guest.does(&format!("requests {disk} {way} {streams} {blocks}"))?;
        let [hundredths] = numbers(&said, "hundredths ")?;
        Ok::<_, anyhow::Error>(f64::from(streams * blocks) * 100.0 / hundredths)
    };
    for (disk, load) in ["vda", "vdb"].into_iter().flat_map(|disk| LOADS.map(|load| (disk, load))) {
        // The first write of a block takes room, and the log begins.
        rate(disk, "write", load)?;
    }
    let mut is_first = false;
    stage.each("disks", || {
        is_first = !is_first;
        for (way, load) in ["write", "read"].into_iter().flat_map(|way| LOADS.map(|load| (way, load))) {
            let early = if is_first { Some(rate("vdb", way, load)?) } else { None };
            let ours = rate("vda", way, load)?;
            let other = if let Some(early) = early { early } else { rate("vdb", way, load)? };
            let what = format!("4 KiB {way}s of a guest, mirrored volume, {} at a time", load.0);
            seen.keep(&what, "a second", ours, Some(("file of qemu-nbd", other)));
        }
        Ok(())
    })?;
    guest.stop()?;
    guest.node("bulkhead vm delete bench --yes --local; kill $(pidof qemu-nbd); rm /volumes/file")?;
    Ok(())
}
