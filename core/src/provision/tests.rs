//! The format of a card, in bytes, and what is refused.

use std::vec::Vec;

use super::*;
use crate::register::store::STRIDE;

const RELAY_4: Outlet = Outlet::Relay(NonZeroU8::new(4).unwrap());
const STRIP_3: Outlet = Outlet::Strip(NonZeroU8::new(3).unwrap());

const SECRETS: Secrets = Secrets { key: [7; KEY_LEN], secret: [8; KEY_LEN] };

fn example() -> Head {
    Head {
        seq: 0x0102,
        owner: Owner { site: SiteId([1; 16]), node: NodeId(3), life: Life(0x11) },
        pair: PairId(2),
        peers: 25,
        key: SiteKey::new(SECRETS.key),
        secret: SiteKey::new(SECRETS.secret),
        hardware: [2, 0, 0, 0, 0, 3],
        paths: [Local { host: Some(([10, 0, 1, 3], 24)), port: 7400 }, Local { host: None, port: 7401 }],
        gateway: Some([10, 0, 1, 1]),
        timers: Timers::DEFAULT,
        drift: Drift::DEFAULT,
        digest: Digest([6; 16]),
        old_lease: Duration::ZERO,
    }
}

fn one(node: u16) -> Peer {
    let address = |path| Address { host: [10, 0, path, 1], port: 7400 };
    let member = Member { node: NodeId(node), pair: PairId(2), side: Some(Side::B), votes: node == 9 };
    Peer { member, outlet: Some(RELAY_4), paths: [address(1), address(2)] }
}

/// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
#[test]
fn the_head_of_version_1_never_changes() {
    let bytes = example().encode(&SECRETS);
    let mut golden = [0; BLOCK_LEN];
    golden[..8].copy_from_slice(b"BHWITN\0\x01");
    golden[8..10].copy_from_slice(&[2, 1]);
    golden[16..32].fill(1);
    (golden[32], golden[34], golden[38]) = (3, 0x11, 25);
    golden[40..72].fill(7);
    golden[72..104].fill(8);
    golden[104..110].copy_from_slice(&[2, 0, 0, 0, 0, 3]);
    golden[110..118].copy_from_slice(&[10, 0, 1, 3, 24, 0, 0xe8, 0x1c]);
    golden[124..126].copy_from_slice(&[0xe9, 0x1c]);
    golden[126..130].copy_from_slice(&[10, 0, 1, 1]);
    golden[130] = 2;
    golden[156..172].fill(6);
    for (at, millis) in [(132, 75_u32), (136, 180), (140, 350), (144, 600), (148, 600)] {
        golden[at..at + 4].copy_from_slice(&(millis * 1_000).to_le_bytes());
    }
    golden[152..156].copy_from_slice(&10_000_u32.to_le_bytes());
    let crc = crc32c(&golden[..508]).to_le_bytes();
    golden[508..].copy_from_slice(&crc);
    assert_eq!(bytes, golden);
    assert_eq!(&bytes[508..], HEAD_CRC);
}

fn golden_peers(version: u8, number: u8, what: u8) -> Block {
    let mut golden = [0; BLOCK_LEN];
    golden[..7].copy_from_slice(b"BHPEER\0");
    golden[7] = version;
    golden[8..10].copy_from_slice(&[2, 1]);
    golden[16..24].copy_from_slice(&[9, 0, 2, 0, 2, 1, number, what]);
    golden[24..36].copy_from_slice(&[10, 0, 1, 1, 0xe8, 0x1c, 10, 0, 2, 1, 0xe8, 0x1c]);
    let crc = crc32c(&golden[..508]).to_le_bytes();
    golden[508..].copy_from_slice(&crc);
    golden
}

fn outlet(bytes: &Block) -> Result<Option<Outlet>, Fault> {
    let mut found = None;
    parse_peers(bytes, 0x0102, 1, |peer| found = peer.outlet)?;
    Ok(found)
}

/// In the field: both versions of a block of peers. Version 2 is what is written.
#[test]
fn peers_of_versions_1_and_2_never_change() {
    for (number, what, meant) in [(4, 0, Some(RELAY_4)), (3, 1, Some(STRIP_3)), (0, 0, None)] {
        let golden = golden_peers(2, number, what);
        assert_eq!(encode_peers(0x0102, &[Peer { outlet: meant, ..one(9) }]), golden);
        assert_eq!(outlet(&golden), Ok(meant));
    }
    assert_eq!(outlet(&golden_peers(1, 4, 0)), Ok(Some(RELAY_4)));
    // Version 1 knew no strip; no strip has an outlet 0; nobody knows what 2 would be.
    for (version, number, what) in [(1, 3, 1), (2, 0, 1), (2, 3, 2)] {
        assert_eq!(outlet(&golden_peers(version, number, what)), Err(Fault::Damaged));
    }
    assert_eq!(outlet(&golden_peers(3, 4, 0)), Err(Fault::NewerFormat { found: 3 }));
}

/// CRC-32C as Python computes it over the same bytes.
const HEAD_CRC: &[u8] = &[0x91, 0x23, 0x54, 0x57];

#[test]
fn what_was_written_is_read() {
    let head = Head::parse(&example().encode(&SECRETS)).unwrap();
    assert_eq!(head.encode(&SECRETS), example().encode(&SECRETS));
    assert_eq!((head.peer_blocks(), COPY_BLOCKS), (2, 7));
    let peers: Vec<_> = (1..=24).map(one).collect();
    let bytes = encode_peers(5, &peers);
    let mut found = Vec::new();
    parse_peers(&bytes, 5, 24, |peer| found.push(peer)).unwrap();
    assert_eq!(found, peers);
    assert_eq!(parse_peers(&bytes, 6, 24, |_| {}), Err(Fault::OtherSeq));
}

#[test]
fn any_flipped_bit_is_seen() {
    for good in [example().encode(&SECRETS), encode_peers(5, &[one(1)])] {
        for bit in 0..BLOCK_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::parse(&bad).is_err() && parse_peers(&bad, 5, 1, |_| {}).is_err(), "bit {bit}");
        }
    }
}

/// F54, V41: a head that could not be run with is refused where it is read.
#[test]
fn a_head_without_sense_is_refused() {
    type Spoil = fn(&mut Head);
    let spoils: [Spoil; 9] = [
        |head| head.seq = 0,
        |head| head.owner.node = NodeId(0),
        |head| head.owner.life = Life(0),
        |head| head.peers = 0,
        |head| head.peers = 129,
        |head| head.paths[1].port = 0,
        |head| head.paths[0].host = Some(([10, 0, 0, 1], 33)),
        |head| head.timers.heartbeat = head.timers.slow,
        |head| head.timers.silence = head.timers.slow,
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let mut head = example();
        spoil(&mut head);
        assert_eq!(Head::parse(&head.encode(&SECRETS)).unwrap_err(), Fault::Damaged, "{number}");
    }
    let mut newer = example().encode(&SECRETS);
    newer[7] = 2;
    let crc = crc32c(&newer[..508]).to_le_bytes();
    newer[508..].copy_from_slice(&crc);
    assert_eq!(Head::parse(&newer).unwrap_err(), Fault::NewerFormat { found: 2 });
    assert_eq!(Head::parse(&[0; BLOCK_LEN]).unwrap_err(), Fault::Blank);
}

/// V22: each start has a nonce of its own, and another witness has others.
#[test]
fn nonces_are_never_the_same() {
    let mut other = example();
    other.secret = SiteKey::new([9; KEY_LEN]);
    let nonces: std::collections::BTreeSet<_> =
        (0..1_000).flat_map(|count| [example().nonce(count).0, other.nonce(count).0]).collect();
    assert_eq!(nonces.len(), 2_000);
}

/// A card as it is provisioned: every part is read back, no block is another's, and the owner comes last.
#[test]
fn a_card_holds_all_that_a_witness_reads() {
    let peers: Vec<_> = (1..=25).map(one).collect();
    let head = example();
    let blocks: Vec<_> = card(&head, &SECRETS, &peers, 3).collect();
    let card: std::collections::BTreeMap<_, _> = blocks.iter().copied().collect();
    for at in SETTINGS_AT {
        let head = Head::parse(&card[&at]).unwrap();
        let mut found = Vec::new();
        for (number, left) in [(1, 25), (2, 1)] {
            parse_peers(&card[&(at + number * 512)], head.seq, left, |peer| found.push(peer)).unwrap();
        }
        assert_eq!(found, peers);
    }
    assert!(STARTS_AT.iter().all(|at| parse_starts(&card[at], &head.owner) == Some(0)));
    assert_eq!(parse_starts(&card[&STARTS_AT[0]], &Owner { life: Life(9), ..head.owner }), None);
    let last: Vec<_> = blocks.iter().rev().take(2).map(|(at, bytes)| (*at, *bytes)).collect();
    assert_eq!(last, [(VOTES_AT + STRIDE, head.owner.encode()), (VOTES_AT, head.owner.encode())]);
    let first: Vec<_> =
        blocks[..ERASED].iter().map(|(at, bytes)| (*at, bytes.iter().all(|b| *b == 0))).collect();
    let erased = [SETTINGS_AT[0], SETTINGS_AT[1], VOTES_AT, VOTES_AT + STRIDE].map(|at| (at, true));
    assert_eq!((first, OWNERS), (erased.to_vec(), last.len()));
    assert_eq!(card.len(), 2 * (1 + 2) + 2 + 2 * 3 + 2, "no two parts in one block");
}

/// In the field: a number of starts.
#[test]
fn starts_of_version_1_never_change() {
    let bytes = encode_starts(&example().owner, 0x0304);
    let mut golden = [0; BLOCK_LEN];
    golden[..8].copy_from_slice(b"BHSTRT\0\x01");
    golden[8..24].fill(1);
    (golden[24], golden[26]) = (3, 0x11);
    golden[30..32].copy_from_slice(&[4, 3]);
    let crc = crc32c(&golden[..508]).to_le_bytes();
    golden[508..].copy_from_slice(&crc);
    assert_eq!(bytes, golden);
}

/// In the field: the longest lease that was ever in force. A head without one is as it always was.
#[test]
fn a_head_keeps_the_longest_lease_that_was_in_force() {
    let old = Head { old_lease: Duration::from_millis(1_500), ..example() };
    let bytes = old.encode(&SECRETS);
    assert_eq!(bytes[172..176], 1_500_000_u32.to_le_bytes());
    assert_eq!(Head::parse(&bytes).unwrap().old_lease, old.old_lease);
    // Clocks may be a hundredth wrong.
    assert!(Duration::from_millis(1_515) <= old.old_leases() && example().old_leases().is_zero());
    let longer = Timers { lease: Duration::from_millis(1_500), ..Timers::DEFAULT };
    assert!(Head { timers: longer, ..old }.old_leases().is_zero(), "the voter itself waits for these");
    let Secrets { key, secret } = Secrets::of(&bytes);
    assert_eq!((key, secret), (SECRETS.key, SECRETS.secret));
}

#[test]
fn a_witness_starts_with_what_its_card_says() {
    let peers: Vec<_> = (4..=9).map(one).collect();
    let settings = example().settings(7, &peers).unwrap();
    let me = settings.check().unwrap();
    assert_eq!((me.node, me.pair, me.side, me.votes), (NodeId(3), PairId(2), None, true));
    assert_eq!((settings.members.len(), settings.relays.len()), (7, 6));
    assert_eq!(settings.nonce, example().nonce(7));
    let many: Vec<_> = (10..=200).map(one).collect();
    assert_eq!(example().settings(7, &many).unwrap_err(), Unsound::NoRoom);
}
