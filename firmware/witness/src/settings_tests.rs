//! Settings that are cut while they are written, and starts that are cut while they are counted.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, SiteId};
use bulkhead_core::link::key::SiteKey;
use bulkhead_core::node::settings::{Digest, Member};
use bulkhead_core::provision::{Address, Local, Secrets, encode_peers};
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Drift;

use super::*;

const OWNER: Owner = Owner { site: SiteId([9; 16]), node: NodeId(3), life: Life(77) };
const SECRETS: Secrets = Secrets { key: [7; 32], secret: [8; 32] };

#[derive(Clone, Debug, Default)]
struct Disk {
    blocks: BTreeMap<u32, [u8; BLOCK]>,
    /// Writes until one is torn and the rest fail.
    cut: Option<usize>,
}

impl Blocks for Disk {
    fn read(&mut self, at: u32, bytes: &mut [u8; BLOCK]) -> Result<(), Trouble> {
        *bytes = self.blocks.get(&at).copied().unwrap_or([0; BLOCK]);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8; BLOCK]) -> Result<(), Trouble> {
        if let Some(left) = &mut self.cut {
            let torn = *left == 0;
            *left = left.wrapping_sub(1);
            if torn {
                self.blocks.insert(at, [0x5a; BLOCK]);
            }
            if torn || usize::MAX / 2 < *left {
                return Err(Trouble::Missing);
            }
        }
        self.blocks.insert(at, *bytes);
        Ok(())
    }
}

fn provision(disk: &mut Disk, seq: u64, peers: u16) -> Result<(), Trouble> {
    let key = SiteKey::new(SECRETS.key);
    let paths = [Local { host: None, port: 1 }, Local { host: None, port: 2 }];
    let head = Head {
        seq,
        owner: OWNER,
        pair: PairId(1),
        peers,
        secret: key.clone(),
        key,
        hardware: [2, 0, 0, 0, 0, 1],
        paths,
        gateway: None,
        timers: Timers::DEFAULT,
        drift: Drift::DEFAULT,
        old_lease: core::time::Duration::ZERO,
        digest: Digest([6; 16]),
    };
    let peer = |node| Peer {
        member: Member { node: NodeId(node), pair: PairId(1), side: None, votes: false },
        outlet: None,
        paths: [Address { host: [10, 0, 0, 1], port: 1 }; 2],
    };
    let peers: std::vec::Vec<_> = (1..=peers).map(peer).collect();
    for at in SETTINGS_AT.map(block_at) {
        // The head comes last.
        for (block, peers) in (at + 1..).zip(peers.chunks(PEERS_PER_BLOCK)) {
            disk.write(block, &encode_peers(seq, peers))?;
        }
        disk.write(at, &head.encode(&SECRETS))?;
    }
    Ok(())
}

/// F8: provisioned again and cut at any write, a card has its old settings or its new ones, never a mixture.
#[test]
fn a_cut_leaves_the_old_settings_or_the_new() {
    let mut old = Disk::default();
    provision(&mut old, 1, 30).unwrap();
    let mut seen = BTreeSet::new();
    for cut in 0..8 {
        let mut disk = Disk { cut: Some(cut), ..old.clone() };
        let _ = provision(&mut disk, 2, 60);
        let mut peers = Vec::<_, 60>::new();
        let head = load(&mut disk, &mut peers).unwrap();
        assert_eq!(peers.len(), if head.seq == 1 { 30 } else { 60 }, "cut at {cut}");
        assert!(peers.iter().map(|peer| peer.member.node.0).eq(1..=head.peers));
        seen.insert(head.seq);
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn a_card_that_says_too_little_or_too_much_is_refused() {
    assert_eq!(load::<4>(&mut Disk::default(), &mut Vec::new()).unwrap_err(), Unfit::Settings(Fault::Blank));
    let mut disk = Disk::default();
    provision(&mut disk, 1, 5).unwrap();
    assert_eq!(load::<4>(&mut disk, &mut Vec::new()).unwrap_err(), Unfit::TooManyPeers(5));
    for at in SETTINGS_AT.map(block_at) {
        disk.blocks.get_mut(&at).unwrap()[60] ^= 1;
    }
    assert_eq!(load::<9>(&mut disk, &mut Vec::new()).unwrap_err(), Unfit::Settings(Fault::Damaged));
}

/// F39: whatever is cut, no number comes twice.
#[test]
fn no_start_has_the_number_of_another() {
    let mut disk = Disk::default();
    assert_eq!(next_start(&mut disk, &OWNER), Err(Unfit::Starts), "never provisioned");
    for at in STARTS_AT {
        disk.write(block_at(at), &encode_starts(&OWNER, 0)).unwrap();
    }
    let mut last = 0;
    for round in 0..20 {
        disk.cut = (round % 3 == 1).then_some(0);
        match next_start(&mut disk, &OWNER) {
            Ok(number) => {
                assert!(last < number, "{number} after {last}");
                last = number;
            }
            Err(why) => assert_eq!(why, Unfit::Card(Trouble::Missing)),
        }
    }
    assert!(10 < last);
    let other = Owner { life: Life(78), ..OWNER };
    assert_eq!(next_start(&mut disk, &other), Err(Unfit::Starts), "another witness's card");
}
