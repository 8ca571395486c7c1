//! Cards that are made, made anew, cut meanwhile, and damaged (F8, F25, V10, V11).

use super::plan::{Plan, plan, witness};
use super::read::Card;
use super::write::{Change, Step, change, new_steps, settings_steps};
use crate::site_config::{Board, EXAMPLE, Goal, Preset, SiteConfig, key};
use bulkhead_core::fence::words::{Entry, FenceId, Ground, Outcome, Outlet, Plea, Refusal, Want};
use bulkhead_core::id::{Epoch, NodeId, RegisterId};
use bulkhead_core::provision::records::{Record, Ring};
use bulkhead_core::provision::{Address, SETTINGS_AT, VOTES_AT, encode_starts};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::store::{Owner, Stored, offset};
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Instant;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

const PLACES: u16 = 5;

type Blocks = BTreeMap<u64, [u8; 512]>;

fn config(change: impl FnOnce(&mut SiteConfig)) -> SiteConfig {
    let mut config = SiteConfig::parse(Path::new("site.toml"), EXAMPLE).unwrap();
    change(&mut config);
    config
}

fn plan_of(config: &SiteConfig, board: &Board) -> Result<Plan, String> {
    let member = witness(config, "witness").unwrap();
    plan(config, member, board, key::SiteKey([7; 32])).map_err(|failure| failure.text())
}

fn usual(config: &SiteConfig) -> Plan {
    plan_of(config, &Board::default()).unwrap()
}

fn read(blocks: &Blocks) -> Card {
    Card::read(PLACES, &mut |at| Ok(blocks.get(&at).copied().unwrap_or([0; 512]))).unwrap()
}

fn write(blocks: &mut Blocks, steps: &[Step]) {
    for step in steps {
        if let Step::Write(at, block) = step {
            blocks.insert(*at, **block);
        }
    }
}

fn made(config: &SiteConfig) -> Blocks {
    let mut blocks = Blocks::new();
    write(&mut blocks, &new_steps(&usual(config), config.site, PLACES).unwrap().1);
    blocks
}

/// A card whose witness started twice and promised something.
fn used(config: &SiteConfig) -> Blocks {
    let mut blocks = made(config);
    let owner = read(&blocks).owner().unwrap();
    let promised = Ballot::new(7, NodeId(1));
    let stored = Stored { register: RegisterId(3), seq: 4, promised, accepted: None };
    blocks.insert(VOTES_AT + offset(0, 0), stored.encode(&owner));
    blocks.insert(bulkhead_core::provision::STARTS_AT[1], encode_starts(&owner, 2));
    blocks
}

fn faster(config: &mut SiteConfig) {
    config.timers.goal = Goal::Preset(Preset::Tight);
}

#[test]
fn a_card_holds_what_the_site_says() {
    let config = config(|_| {});
    let plan = usual(&config);
    let card = read(&made(&config));
    assert!(card.is_usable() && card.damage.is_empty(), "{:?}", card.damage);
    let settings = card.settings().unwrap();
    let head = &settings.head;
    assert_eq!((head.seq, head.owner.site, head.owner.node), (1, config.site, NodeId(3)));
    assert_eq!((head.digest.0, settings.secrets.key), (config.digest(), [7; 32]));
    assert_eq!(head.paths[0].host, Some(([10, 0, 1, 3], 24)));
    assert_eq!((head.hardware[0], head.hardware), (2, usual(&config).hardware));
    let peers: Vec<_> = settings.peers.iter().map(|peer| (peer.member.node.0, peer.outlet)).collect();
    let one = std::num::NonZeroU8::MIN;
    assert_eq!(peers, [(1, None), (2, Some(Outlet::Relay(one)))], "most wanted first, with its relay");
    assert_eq!(settings.peers[1].paths[1], Address { host: [10, 0, 2, 2], port: 7901 });
    assert_eq!((card.started(), card.registers.len()), (Some(0), 0));
    assert_eq!(change(&card, &plan, config.site, false), (Change::Nothing, None));
    assert!(!format!("{card:?}").contains("7, 7, 7, 7"), "a key is printed");
}

/// V10: settings change beside the votes, which stay with their life and the number of starts.
#[test]
fn a_card_that_was_used_keeps_its_votes() {
    let before = config(|_| {});
    let mut blocks = used(&before);
    let old = read(&blocks);
    let after = config(|config| config.members[0].addresses[0] = "10.0.1.99:7901".parse().unwrap());
    let plan = usual(&after);
    assert_eq!(change(&old, &plan, after.site, false), (Change::Settings, None));
    let (head, steps) = settings_steps(old.settings().unwrap(), &plan).unwrap();
    write(&mut blocks, &steps);
    let new = read(&blocks);
    assert!(new.is_usable() && new.damage.is_empty(), "{:?}", new.damage);
    assert_eq!((new.owner(), new.registers, new.starts), (old.owner(), old.registers.clone(), old.starts));
    assert_eq!((head.seq, new.copies[1].as_ref().unwrap().peers[0].paths[0].host), (2, [10, 0, 1, 99]));
    let secret = |card: &Card| card.copies[0].as_ref().unwrap().secrets.secret;
    assert_eq!(secret(&old), secret(&read(&blocks)), "nonces go on where they were");
}

/// V20, F29: of an order that ended the end is shown, of one that was cut short its beginning; those of an
/// earlier owner are not this witness's.
#[test]
fn records_of_fences_are_read() {
    let config = config(|_| {});
    let mut blocks = used(&config);
    let owner = read(&blocks).owner().unwrap();
    let plea = |id| Plea {
        id: FenceId(id),
        node: NodeId(2),
        start: None,
        register: RegisterId(3),
        epoch: Epoch(4),
        want: Want::Off,
    };
    let entry = |number, outcome, ground| {
        let at = Instant::from_millis(u64::from(number) * 1_000);
        Entry { number, at, asker: NodeId(1), plea: plea(number.into()), ground, outcome }
    };
    let holder = Some(Ground::Holder);
    let orders = [
        entry(1, Outcome::UnderWay, holder),
        entry(1, Outcome::Off, holder),
        entry(2, Outcome::UnderWay, holder),
    ];
    let mut put = |ring: Ring, seq: u64, entry, owner: &Owner| {
        let at = ring.places().nth(usize::try_from(seq % ring.len()).unwrap()).unwrap();
        blocks.insert(at, Record { seq, start: 2, lost: 0, entry }.encode(owner));
    };
    (1..).zip(orders).for_each(|(seq, entry)| put(Ring::Orders, seq, entry, &owner));
    put(Ring::Refusals, 1, entry(3, Outcome::Refused(Refusal::Busy), None), &owner);
    put(
        Ring::Refusals,
        2,
        entry(4, Outcome::Refused(Refusal::Busy), None),
        &Owner { life: Life(9), ..owner },
    );
    let card = read(&blocks);
    let found: Vec<_> = card.records.iter().map(|one| (one.entry.number, one.entry.outcome)).collect();
    let wanted = [(1, Outcome::Off), (2, Outcome::UnderWay), (3, Outcome::Refused(Refusal::Busy))];
    assert_eq!((found, card.damage), (wanted.to_vec(), Vec::new()));
}

/// F8: cut after any write, and with the write torn, a card that is provisioned again is the old one or the
/// new one, always with its votes; a new card is blank, nobody's, or complete.
#[test]
fn a_card_cut_at_any_write_is_what_it_was_or_what_it_is_to_be() {
    let before = config(|_| {});
    let plan = usual(&config(faster));
    let card = used(&before);
    let (_, steps) = settings_steps(read(&card).settings().unwrap(), &plan).unwrap();
    let writes: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Write(..))).cloned().collect();
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..=writes.len() {
        let mut blocks = card.clone();
        write(&mut blocks, &writes[..cut]);
        if let Some(Step::Write(at, _)) = writes.get(cut) {
            blocks.insert(*at, [0xaa; 512]);
        }
        let found = read(&blocks);
        assert!(found.is_usable() && found.registers.len() == 1, "cut {cut}: {:?}", found.damage);
        seen.insert(found.settings().unwrap().head.seq);
        let (what, loss) = change(&found, &plan, before.site, false);
        assert!(loss.is_none() && what != Change::New, "cut {cut}: it can be done again");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);

    let (_, steps) = new_steps(&usual(&before), before.site, PLACES).unwrap();
    let flushes: Vec<_> = (0..steps.len()).filter(|at| steps[*at] == Step::Flush).collect();
    assert_eq!(flushes.len(), 3);
    // What lies between two flushes may reach the card in any order: the whole part, or none of it.
    for end in [flushes[0], flushes[1]] {
        let mut blocks = used(&before);
        write(&mut blocks, &steps[..end]);
        assert!(!read(&blocks).is_usable(), "a witness without its votes would start");
    }
}

/// V11: leases that were in force are waited for, however often the card is provisioned again, until the
/// lease is as long again.
#[test]
fn shorter_leases_wait_for_longer_ones() {
    let (long, short) = (config(|_| {}), config(faster));
    let mut blocks = used(&long);
    let lease = |config: &SiteConfig| usual(config).timers.lease;
    assert!(lease(&short) < lease(&long));
    for (config, waits) in [(&short, true), (&short, true), (&long, false)] {
        let card = read(&blocks);
        // Something else changes, too.
        let board = Board { hardware: Some([2, 0, 0, 0, 0, u8::from(waits)]), ..Board::default() };
        let plan = plan_of(config, &board).unwrap();
        let (head, steps) = settings_steps(card.settings().unwrap(), &plan).unwrap();
        write(&mut blocks, &steps);
        let waited = read(&blocks).settings().unwrap().head.old_leases();
        assert_eq!((waited, !waited.is_zero()), (head.old_leases(), waits));
        assert!(!waits || lease(&long) <= waited);
    }
    assert_eq!(read(&blocks).settings().unwrap().head.old_lease, Duration::ZERO);
}

/// F25, F54: nothing that anybody could want is overwritten without a word.
#[test]
fn what_would_be_lost_is_named() {
    let config = config(|_| {});
    let plan = usual(&config);
    let loss = |blocks: &Blocks, new| change(&read(blocks), &plan, config.site, new).1.map(|loss| loss.0);
    assert_eq!(loss(&Blocks::new(), false), None);
    assert!(loss(&used(&config), true).is_some_and(|what| what.contains("1 registers")));
    let other_site = self::config(|config| config.site.0[0] ^= 1);
    assert!(loss(&used(&other_site), false).is_some_and(|what| what.contains("of another site")));
    let mut damaged = used(&config);
    for at in SETTINGS_AT {
        damaged.get_mut(&at).unwrap()[9] ^= 1;
    }
    assert!(loss(&damaged, false).is_some_and(|what| what.contains("damaged")));
    let mut newer = used(&config);
    let block = newer.get_mut(&SETTINGS_AT[1]).unwrap();
    block[7] = 9;
    let crc = bulkhead_core::crc::crc32c(&block[..508]).to_le_bytes();
    block[508..].copy_from_slice(&crc);
    assert!(loss(&newer, false).is_some_and(|what| what.contains("format version 9")));
    let lost_owner: Blocks =
        used(&config).into_iter().filter(|(at, _)| *at != VOTES_AT && *at != VOTES_AT + 4096).collect();
    assert!(loss(&lost_owner, false).is_some_and(|what| what.contains("damaged")));
}

#[test]
fn what_a_board_cannot_do_is_said() {
    let text = |change: fn(&mut SiteConfig), board: Board| plan_of(&config(change), &board).unwrap_err();
    let usual = Board::default();
    let far: fn(&mut SiteConfig) = |config| config.members[1].addresses[1] = "10.9.0.2:7901".parse().unwrap();
    assert!(text(far, usual).contains("b1 is in neither network of witness"));
    let gateway = |host| Board { gateway: Some(Ipv4Addr::from(host)), ..usual };
    assert!(plan_of(&config(far), &gateway([10, 0, 1, 254])).is_ok());
    assert!(text(far, gateway([10, 5, 1, 254])).contains("10.5.1.254 is in neither network"));
    let v6: fn(&mut SiteConfig) = |config| config.members[0].addresses[0] = "[fd00::1]:7901".parse().unwrap();
    assert!(text(v6, usual).contains("speaks IPv4"));
    let narrow = Board { bits: Some([31, 31]), ..usual };
    assert!(text(|_| {}, narrow).contains("is in neither network"));
    let local: fn(&mut SiteConfig) =
        |config| config.members[2].addresses[0] = "127.0.0.1:7901".parse().unwrap();
    assert!(text(local, usual).contains("no other machine reaches"));
    let dhcp = plan_of(&config(far), &Board { dhcp: true, ..usual }).unwrap();
    let second = Some(([10, 0, 2, 3], 24));
    assert_eq!((dhcp.paths[0].host, dhcp.paths[0].port, dhcp.paths[1].host), (None, 7901, second));
}
