//! The image of a witness's card, as `bulkhead_core::provision` lays it out.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::link::key::SiteKey;
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Head, Local, Peer, Secrets, card};
use bulkhead_core::register::store::Owner;
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Drift;

/// Bytes of the image: a power of two, as QEMU's card wants it, with room for the votes of 64 pairs.
const IMAGE_LEN: u64 = 8 << 20;
/// Where QEMU's user network and everything behind it begins: the host is 10.0.2.2.
const NETWORK: [u8; 3] = [10, 0, 2];

/// What a witness is to be.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The site.
    pub site: SiteId,
    /// Its key.
    pub key: [u8; 32],
    /// The witness.
    pub node: NodeId,
    /// Its pair.
    pub pair: PairId,
    /// What all nodes of the site were told, as their agents sum it up.
    pub digest: Digest,
    /// The nodes it votes for.
    pub peers: Vec<Peer>,
    /// How many registers there is to be room for.
    pub registers: u16,
    /// The timers of the site.
    pub timers: Timers,
    /// Where it receives on its two paths.
    pub paths: [Local; 2],
    /// The way to other networks.
    pub gateway: Option<[u8; 4]>,
}

/// Where a witness receives in QEMU's user network.
#[must_use]
pub fn user_paths() -> [Local; 2] {
    let ([one, two], [port_one, port_two]) = (HOSTS, PORTS);
    [(one, port_one), (two, port_two)].map(|(number, port)| Local { host: Some((host(number), 24)), port })
}

/// An address in QEMU's user network.
#[must_use]
pub const fn host(number: u8) -> [u8; 4] {
    let [a, b, c] = NETWORK;
    [a, b, c, number]
}

/// The ports of the witness inside its network, one for each path.
pub const PORTS: [u16; 2] = [7901, 7902];
/// Its addresses there.
pub const HOSTS: [u8; 2] = [15, 16];

/// So many pairs, from pair 2 on, of nodes that are not there: what a full card names.
#[must_use]
pub fn absent(pairs: u16) -> Vec<Peer> {
    let of = |pair: u16| [(Side::A, 0), (Side::B, 1)].map(|(side, letter)| (pair, side, letter));
    let peer = |(pair, side, letter): (u16, Side, u16)| {
        let node = NodeId(1_000_u16.saturating_add(pair.saturating_mul(2)).saturating_add(letter));
        let member = Member { node, pair: PairId(pair), side: Some(side), votes: true };
        // Nobody receives there.
        Peer { member, outlet: None, paths: [Address { host: host(2), port: 9 }; 2] }
    };
    (2..).take(pairs.into()).flat_map(of).map(peer).collect()
}

/// Writes a new card, on which nobody ever voted.
///
/// # Errors
/// When the file cannot be written, or the system has no random numbers.
pub fn write(path: &Path, recipe: &Recipe) -> Result<()> {
    let mut random = [0; 36];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let (secret, life) = random.split_at(32);
    let secrets = Secrets { key: recipe.key, secret: secret.try_into()? };
    let life = Life(u32::from_le_bytes(life.try_into()?).max(1));
    let [low, high] = recipe.node.0.to_le_bytes();
    let head = Head {
        seq: 1,
        owner: Owner { site: recipe.site, node: recipe.node, life },
        pair: recipe.pair,
        digest: recipe.digest,
        peers: u16::try_from(recipe.peers.len())?,
        key: SiteKey::new(secrets.key),
        secret: SiteKey::new(secrets.secret),
        // Locally administered: it comes from no maker of hardware.
        hardware: [2, 0x42, 0x48, 0, high, low],
        paths: recipe.paths,
        gateway: recipe.gateway,
        timers: recipe.timers,
        drift: Drift::DEFAULT,
        old_lease: std::time::Duration::ZERO,
    };
    let mut options = File::options();
    // It holds the site's key.
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    file.set_len(IMAGE_LEN)?;
    for (at, block) in card(&head, &secrets, &recipe.peers, recipe.registers) {
        file.write_all_at(&block, at)?;
    }
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}

/// Bytes from their hex digits.
///
/// # Errors
/// When they are not as many, or no digits.
pub fn hex<const N: usize>(text: &str) -> Result<[u8; N]> {
    ensure!(text.is_ascii() && text.len() == 2 * N, "{} hex digits are wanted, not {}", 2 * N, text.len());
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        assert_eq!(hex::<2>("0aFf").unwrap(), [10, 255]);
        assert!(hex::<2>("0a").is_err() && hex::<2>("0aFg").is_err() && hex::<2>("0aé").is_err());
    }
}
