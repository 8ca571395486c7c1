//! `cargo xtask witness`: the firmware witness, built and run in QEMU, with its log.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, Side, SiteId};
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Peer};
use qemu_tests::tooling::firmware;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::witness::board::{Board, Parts, Wire};
use qemu_tests::witness::card::{self, Recipe, hex, host};

/// Build the witness's firmware and run it in QEMU (board lm3s6965evb) with its card and its log. Ends with
/// ctrl-C.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask witness --build    only build target/bulkhead/witness.elf\n  \
    cargo xtask witness --site 00112233445566778899aabbccddeeff --key site.key \\\n    \
    --peer a1=7101,7201 --peer b2=7102,7202    vote for two agents on this machine\n  \
    cargo xtask witness    go on with the card of the last time"
)]
pub struct Arguments {
    /// Only build: the ELF file, from which the log is read, too.
    #[arg(long)]
    build: bool,
    /// The card's image; default: target/bulkhead/witness-card.img.
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
    /// Make a new card for this site: 32 hex digits. The votes on the old one are lost.
    #[arg(long, value_name = "ID", requires = "key", requires = "peer")]
    site: Option<String>,
    /// The file with the site key.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The witness's own number.
    #[arg(long, default_value_t = 3)]
    node: u16,
    /// A voting node of pair 1, its side in front of its number, and the ports of this machine on which its
    /// agent receives, one for each path.
    #[arg(long, value_name = "SIDE NODE=PORT,PORT")]
    peer: Vec<String>,
    /// How many further pairs the card is to name, from pair 2 on: two nodes each, which are not there.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    more_pairs: u16,
    /// Ports of this machine that lead to the witness, one for each path.
    #[arg(long, value_name = "PORT,PORT", default_value = "7901,7902")]
    ports: String,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let elf = firmware::witness(workspace)?;
    if arguments.build {
        println!("{}", elf.display());
        return Ok(());
    }
    let image = arguments.card.clone().unwrap_or_else(|| workspace.out().join("witness-card.img"));
    if let (Some(site), Some(key)) = (&arguments.site, &arguments.key) {
        let key = std::fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
        let recipe = Recipe {
            site: SiteId(hex(&site.replace('-', ""))?),
            key: hex(key.trim())?,
            node: NodeId(arguments.node),
            pair: PairId(1),
            // Agents say that it differs, which costs nothing but a note.
            digest: Digest::default(),
            peers: peers(arguments)?,
            registers: 129,
            timers: Timers::DEFAULT,
            paths: card::user_paths(),
            gateway: Some(host(2)),
        };
        card::write(&image, &recipe)?;
    }
    ensure!(
        image.exists(),
        "there is no card {}.\n  Next: make one by `bulkhead witness provision`, or by --site, --key, --peer",
        image.display()
    );
    let sockets = tempfile::Builder::new().prefix("bh-").tempdir_in("/tmp")?;
    let wire = Wire::User(ports(&arguments.ports)?);
    let control = sockets.path().join("qmp");
    let board = Board::power_on(&Parts { elf, card: Some(image), strip: None, wire, control })?;
    for line in &board.log {
        println!("{line}");
        // With its own report, every ten seconds.
        if line.contains("frames received") {
            let [used, all] = board.stack()?;
            println!("(stack: {used} of {all} bytes were in use at once)");
        }
    }
    Ok(())
}

/// Those named, and two nodes of each further pair.
fn peers(arguments: &Arguments) -> Result<Vec<Peer>> {
    let mut peers = arguments.peer.iter().map(|text| peer(text)).collect::<Result<Vec<_>>>()?;
    peers.extend(card::absent(arguments.more_pairs));
    Ok(peers)
}

fn peer(text: &str) -> Result<Peer> {
    let what = || format!("`--peer {text}`: it must be like a1=7101,7201");
    let (name, both) = text.split_once('=').with_context(what)?;
    let side = if name.starts_with('a') { Side::A } else { Side::B };
    let node = NodeId(name.trim_start_matches(['a', 'b']).parse().with_context(what)?);
    let paths = ports(both).with_context(what)?.map(|port| Address { host: host(2), port });
    let member = Member { node, pair: PairId(1), side: Some(side), votes: true };
    Ok(Peer { member, outlet: None, paths })
}

fn ports(text: &str) -> Result<[u16; 2]> {
    let (one, two) = text.split_once(',').with_context(|| format!("`{text}` are no two ports"))?;
    Ok([one.parse()?, two.parse()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_as_they_are_written() {
        let one = peer("b7=7101,7201").unwrap();
        assert_eq!((one.member.node, one.member.side), (NodeId(7), Some(Side::B)));
        assert_eq!(one.paths[1], Address { host: [10, 0, 2, 2], port: 7201 });
        assert!(peer("a7").is_err() && peer("a7=1").is_err() && peer("x=1,2").is_err());
    }
}
