//! Brings a card to what a plan says: a new card, or new settings beside the votes that are on it (F8, V10,
//! V11).
//!
//! A card without its votes is a voter that has forgotten what it promised. So votes are wiped only on
//! demand, under a new life of the voter; and a card that is cut while it is written is what it was, or
//! nobody's.

use super::plan::Plan;
use super::read::{Card, Settings};
use crate::failure::Failure;
use bulkhead_core::id::SiteId;
use bulkhead_core::link::key::{KEY_LEN, SiteKey};
use bulkhead_core::provision::{Block, ERASED, Head, OWNERS, SETTINGS_AT, Secrets, card, copy};
use bulkhead_core::register::store::Owner;
use bulkhead_core::register::voters::Life;
use std::time::Duration;

/// What is to be done with a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it holds all that already.
    Nothing,
    /// The settings are written anew; votes, life and starts stay.
    Settings,
    /// All is written anew, and what it held is lost.
    New,
}

/// Why a card is not written without further words: what would be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss(pub String);

/// One thing to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a block at a place in bytes.
    Write(u64, Box<Block>),
    /// Have everything so far on the card before the next step.
    Flush,
}

/// What is to be done so that `found` holds `plan`, and what is lost by it.
pub fn change(found: &Card, plan: &Plan, site: SiteId, new: bool) -> (Change, Option<Loss>) {
    let loss = |what: String| (Change::New, Some(Loss(what)));
    if let Some(version) = found.newer() {
        return loss(format!("it was written by a newer Bulkhead (format version {version})"));
    }
    if found.is_blank {
        return (Change::New, None);
    }
    let is_ours = |owner: &Owner| owner.site == site && owner.node == plan.witness.id;
    match (found.settings(), found.owner()) {
        (Some(settings), Some(owner)) if is_ours(&owner) && settings.head.owner == owner => {
            if new {
                let count = found.registers.len();
                return loss(format!("it holds the votes of this witness: {count} registers"));
            }
            let is_done =
                found.copies.iter().all(|copy| copy.as_ref().is_ok_and(|copy| is_same(copy, settings, plan)));
            (if is_done { Change::Nothing } else { Change::Settings }, None)
        }
        (_, Some(owner)) if !is_ours(&owner) => {
            let whose = if owner.site == site { "of this site" } else { "of another site" };
            loss(format!("it holds the votes of node {} {whose}", owner.node.0))
        }
        (Some(settings), _) if !is_ours(&settings.head.owner) => {
            loss(format!("it is the card of node {}, or of another site", settings.head.owner.node.0))
        }
        (Some(_) | None, Some(_) | None) => {
            let damage = found.damage.first().cloned().unwrap_or_default();
            loss(format!("it is damaged, and its votes cannot be kept ({damage})"))
        }
    }
}

fn is_same(copy: &Settings, newest: &Settings, plan: &Plan) -> bool {
    let Some((head, secrets)) = kept(newest, plan) else { return false };
    let head = Head { seq: copy.head.seq, ..head };
    copy.head.seq == newest.head.seq
        && head.encode(&secrets) == copy.head.encode(&copy.secrets)
        && copy.peers == plan.peers
}

/// The head that keeps the votes of a card.
fn kept(settings: &Settings, plan: &Plan) -> Option<(Head, Secrets)> {
    let old = &settings.head;
    // Whatever was ever in force, a start waits for; what is not longer than the lease, the voter waits for.
    let longest = old.old_lease.max(old.timers.lease);
    let old_lease = if plan.timers.lease < longest { longest } else { Duration::ZERO };
    let secrets = Secrets { key: plan.key.0, secret: settings.secrets.secret };
    Some((head(plan, old.owner, old.seq.checked_add(1)?, &secrets, old_lease), secrets))
}

fn head(plan: &Plan, owner: Owner, seq: u64, secrets: &Secrets, old_lease: Duration) -> Head {
    Head {
        seq,
        owner,
        pair: plan.witness.duty.pair(),
        // The plan has no more than a card has room for.
        peers: u16::try_from(plan.peers.len()).unwrap_or(u16::MAX),
        key: SiteKey::new(secrets.key),
        secret: SiteKey::new(secrets.secret),
        hardware: plan.hardware,
        paths: plan.paths,
        gateway: plan.gateway.map(|host| host.octets()),
        timers: plan.timers,
        drift: plan.drift,
        digest: plan.digest,
        old_lease,
    }
}

/// The steps that write new settings beside the votes, and the head they write.
///
/// # Errors
///
/// The card was provisioned more often than can be counted.
pub fn settings_steps(settings: &Settings, plan: &Plan) -> Result<(Head, Vec<Step>), Failure> {
    let (head, secrets) = kept(settings, plan).ok_or_else(|| {
        Failure::failed("this card was written more often than can be counted").next("take another one.")
    })?;
    let mut steps = Vec::new();
    let [one, two] = SETTINGS_AT;
    // The copy in force stays whole until the other one is on the card.
    for at in if settings.copy == 0 { [two, one] } else { [one, two] } {
        steps.extend(
            copy(at, &head, &secrets, &plan.peers).map(|(at, block)| Step::Write(at, Box::new(block))),
        );
        steps.push(Step::Flush);
    }
    Ok((head, steps))
}

/// The steps that make any card a new one of the witness, with room for `places` registers.
///
/// # Errors
///
/// The system has no random numbers.
pub fn new_steps(plan: &Plan, site: SiteId, places: u16) -> Result<(Head, Vec<Step>), Failure> {
    let (mut secret, mut life) = ([0; KEY_LEN], [0; 4]);
    getrandom::fill(&mut secret)
        .and_then(|()| getrandom::fill(&mut life))
        .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
    let owner = Owner { site, node: plan.witness.id, life: Life(u32::from_le_bytes(life).max(1)) };
    let secrets = Secrets { key: plan.key.0, secret };
    let head = head(plan, owner, 1, &secrets, Duration::ZERO);
    let blocks: Vec<_> = card(&head, &secrets, &plan.peers, places).collect();
    let (erased, rest) = blocks.split_at(ERASED.min(blocks.len()));
    let (middle, owners) = rest.split_at(rest.len().saturating_sub(OWNERS));
    let mut steps = Vec::new();
    // Whoever put a partition table or a file system there must not find it, and mount it, again.
    steps.extend((0..SETTINGS_AT[0]).step_by(512).map(|at| Step::Write(at, Box::new([0; 512]))));
    for part in [erased, middle, owners] {
        steps.extend(part.iter().map(|(at, block)| Step::Write(*at, Box::new(*block))));
        steps.push(Step::Flush);
    }
    Ok((head, steps))
}
