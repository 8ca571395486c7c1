//! The cards of a node get their addresses, by the `ip` command of its image.

use crate::failure::Failure;
use crate::node_config::schema::Card;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a card may take to appear: drivers load while the agent starts.
const CARD_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Gives each card its address and switches it on.
///
/// # Errors
///
/// A card is not there, or does not take its address.
pub fn bring_up(cards: &[Card]) -> Result<(), Failure> {
    let deadline = Instant::now().checked_add(CARD_WAIT);
    for card in cards {
        let device = loop {
            if let Some(device) = find(Path::new("/sys/class/net"), &card.card) {
                break device;
            }
            if deadline.is_none_or(|deadline| deadline <= Instant::now()) {
                let what = format!("there is no network card {}", card.card);
                return Err(Failure::failed(what).next("see `ls /sys/class/net`; correct `network.card`."));
            }
            std::thread::sleep(POLL);
        };
        ip(&["address", "replace", &card.address, "dev", &device])?;
        ip(&["link", "set", &device, "up"])?;
    }
    Ok(())
}

/// The device with this name or this Ethernet address.
fn find(devices: &Path, card: &str) -> Option<String> {
    let mut names = std::fs::read_dir(devices).ok()?.flatten().map(|entry| entry.file_name());
    names.find_map(|name| {
        let name = name.into_string().ok()?;
        let address = std::fs::read_to_string(devices.join(&name).join("address")).unwrap_or_default();
        (name == card || address.trim().eq_ignore_ascii_case(card)).then_some(name)
    })
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    let command = format!("ip {}", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| Failure::failed(format!("cannot run `{command}`: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("`{command}` failed: {}", why.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_by_its_name_or_its_address() {
        let devices = tempfile::tempdir().unwrap();
        for (name, address) in [("eth0", "52:54:00:aa:bb:01\n"), ("lo", "00:00:00:00:00:00\n")] {
            std::fs::create_dir(devices.path().join(name)).unwrap();
            std::fs::write(devices.path().join(name).join("address"), address).unwrap();
        }
        for (card, found) in [("eth0", Some("eth0")), ("52:54:00:AA:BB:01", Some("eth0")), ("eth1", None)] {
            assert_eq!(find(devices.path(), card).as_deref(), found, "{card}");
        }
    }
}
