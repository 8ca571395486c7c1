//! A Linux guest that moves to the other node and back: idle, and while it writes so much memory a second.

use anyhow::{Context, Result};
use serde_json::Value;

use super::guest::{Guest, numbers};
use super::{Seen, Stage};

/// MiB a second that the guest is to write, in turn.
const RATES: [u32; 2] = [0, 2];

/// Ends on the node where it began, off.
pub fn figures(stage: &Stage, guest: &mut Guest<'_>, seen: &mut Seen) -> Result<()> {
    guest.start()?;
    for rate in RATES {
        let load =
            if rate == 0 { "idle".to_owned() } else { format!("which is to write {rate} MiB a second") };
        guest.does(&format!("dirties {rate}"))?;
        if rate != 0 {
            let [hundredths] = numbers(&guest.hears("", "guest: wrote 10 MiB")?, "hundredths ")?;
            seen.keep("what it writes, before it moves", "MiB a second", 1000.0 / hundredths, None);
        }
        stage.each(&format!("moves, {load}"), || {
            for (from, to) in [(stage.first, stage.other), (stage.other, stage.first)] {
                stage.site.command(from, "bulkhead volume wait --for in-sync --timeout 50s")?;
                let moved = guest.vm("migrate", &format!("--to {}", to.name()))?;
                guest.at = to;
                let number = |key: &str| {
                    let value = moved.pointer(&format!("/moved/{key}")).and_then(Value::as_u64);
                    let value = value.with_context(|| format!("{key} in {moved}"))?;
                    Ok::<_, anyhow::Error>(f64::from(u32::try_from(value)?))
                };
                let mut row = |what: &str, unit, value| {
                    seen.keep(&format!("a guest moves, {load}: {what}"), unit, value, None);
                };
                row("stands still for", "ms", number("downtimeMs")?);
                row("of that, until the rest is sent", "ms", number("stood/restMs")?);
                row("of that, until all of it is there", "ms", number("stood/wholeMs")?);
                row("of that, until the other node leads", "ms", number("stood/leadMs")?);
                row("of that, until it runs there", "ms", number("stood/beginMs")?);
                row("in all", "ms", number("totalMs")?);
                row("rounds", "rounds", number("rounds")?);
                row("sent", "MiB", number("bytes")? / f64::from(1 << 20));
                row("slowed down by, at last", "%", number("throttled")?);
                // It is there, and hears.
                guest.does("nothing")?;
            }
            Ok(())
        })?;
    }
    guest.stop()
}
