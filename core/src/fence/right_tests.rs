//! The rule, case by case, and then every case: never both sides of a pair.

use super::*;
use crate::fence::words::FenceId;
use crate::id::RegisterId;
use crate::register::message::Millis;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(4);
const LIMITS: Limits = Limits { silence: Duration::from_millis(350), lease: Duration::from_millis(600) };
const STALE: Millis = Millis(250);
const FRESH: Millis = Millis(251);

fn plea(node: NodeId, want: Want) -> Plea {
    let (id, register) = (FenceId(7), RegisterId(3));
    Plea { id, node, start: Some(Start(u64::from(node.0))), register, epoch: Epoch(5), want }
}

fn lease(holder: NodeId, left: Millis) -> Leased {
    Leased { holder, epoch: Epoch(5), start: Some(Start(u64::from(holder.0))), left }
}

fn facts(lease: Option<Leased>, is_silent: bool) -> Facts {
    let (has_relay, concerns_both, decides) = (true, true, true);
    let holder = lease.map(|lease| lease.holder);
    Facts { has_relay, concerns_both, decides, epoch: Epoch(5), holder, lease, is_silent, start: None }
}

fn said(asker: NodeId, plea: Plea, facts: &Facts) -> Result<Ground, Refusal> {
    judge(asker, &plea, facts, &LIMITS)
}

/// V19, F28: a silent holder is cut for whoever would follow it, and only when silent by every measure.
#[test]
fn a_holder_is_cut_only_when_it_is_silent_and_stale_here_too() {
    let off = plea(A, Want::Off);
    assert_eq!(said(B, off, &facts(Some(lease(A, STALE)), true)), Ok(Ground::HolderSilent));
    // The cut-off minority: the witness hears the master, or has renewed its lease lately.
    assert_eq!(said(B, off, &facts(Some(lease(A, STALE)), false)), Err(Refusal::Heard));
    assert_eq!(said(B, off, &facts(Some(lease(A, FRESH)), true)), Err(Refusal::Heard));
    assert_eq!(said(B, off, &facts(None, true)), Err(Refusal::NobodyHolds));
    assert_eq!(said(B, off, &facts(Some(lease(OTHER, STALE)), true)), Err(Refusal::NotHolder));
    assert_eq!(said(B, plea(A, Want::On), &facts(Some(lease(A, STALE)), true)), Err(Refusal::NotHolder));
}

/// A fence counts for one start, and for an epoch that the witness knows (V10, V20).
#[test]
fn another_start_or_epoch_is_refused() {
    let stale = facts(Some(lease(A, STALE)), true);
    let unknown = Leased { start: None, ..lease(A, STALE) };
    assert_eq!(said(B, plea(A, Want::Off), &facts(Some(unknown), true)), Err(Refusal::OtherStart));
    assert_eq!(said(B, Plea { start: None, ..plea(A, Want::Off) }, &stale), Err(Refusal::OtherStart));
    let newer = Plea { epoch: Epoch(6), ..plea(A, Want::Off) };
    assert_eq!(said(B, newer, &stale), Err(Refusal::OtherEpoch));
    // And for a holder that asks.
    let held = Facts { start: Some(Start(99)), ..facts(Some(lease(B, FRESH)), false) };
    assert_eq!(said(B, plea(A, Want::Off), &held), Err(Refusal::OtherStart));
    assert_eq!(said(B, Plea { start: None, ..plea(A, Want::Off) }, &held), Ok(Ground::Holder));
    assert_eq!(said(B, newer, &facts(Some(lease(B, FRESH)), false)), Err(Refusal::OtherEpoch));
}

#[test]
fn strangers_and_a_witness_that_does_not_decide_switch_nothing() {
    let good = facts(Some(lease(B, FRESH)), false);
    let off = plea(A, Want::Off);
    assert_eq!(said(B, off, &Facts { has_relay: false, ..good }), Err(Refusal::NoRelay));
    assert_eq!(said(B, off, &Facts { concerns_both: false, ..good }), Err(Refusal::NotACandidate));
    // X04: A may go on alone. The witness helps A, by the epoch they share, and nobody else.
    let alone = Facts { decides: false, holder: Some(A), ..facts(None, true) };
    assert_eq!(said(B, off, &alone), Err(Refusal::NotDeciding));
    assert_eq!(said(A, plea(B, Want::Off), &alone), Ok(Ground::Holder));
    assert_eq!(said(A, plea(B, Want::On), &alone), Ok(Ground::Holder));
    let moved = Facts { epoch: Epoch(6), ..alone };
    assert_eq!(said(A, plea(B, Want::Off), &moved), Err(Refusal::OtherEpoch));
    assert_eq!(said(A, plea(B, Want::On), &moved), Err(Refusal::OtherEpoch));
    assert_eq!(said(A, off, &good), Err(Refusal::NotACandidate), "nobody has itself cut");
    assert_eq!(said(A, plea(B, Want::Look), &good), Ok(Ground::Looking), "looking is free");
}

/// S1-20, X04: who went on alone and was started anew holds an epoch that the witness was not told of. It may
/// have its peer switched on, which a late order had cut, and so may whoever holds the register after it; to
/// cut, that is not enough, and a witness that decides or has no record takes nobody's word.
#[test]
fn a_newer_epoch_than_the_witness_knows_is_enough_to_switch_on() {
    let alone = Facts { decides: false, holder: Some(A), epoch: Epoch(4), ..facts(None, true) };
    assert_eq!(said(A, plea(B, Want::On), &alone), Ok(Ground::Holder));
    assert_eq!(said(B, plea(A, Want::On), &alone), Ok(Ground::Holder), "it was moved since");
    assert_eq!(said(A, plea(B, Want::Off), &alone), Err(Refusal::OtherEpoch));
    assert_eq!(said(B, plea(A, Want::Off), &alone), Err(Refusal::NotDeciding));
    let decides = Facts { epoch: Epoch(4), ..facts(Some(lease(A, STALE)), true) };
    assert_eq!(said(A, plea(B, Want::On), &decides), Err(Refusal::OtherEpoch));
    let blank = Facts { holder: None, epoch: Epoch(0), ..alone };
    assert_eq!(said(A, plea(B, Want::On), &blank), Err(Refusal::NotDeciding));
}

/// V21: whatever the witness knows, it never grants the cut of A for B and of B for A.
#[test]
fn never_both_sides() {
    let leases = [None, Some(A), Some(B), Some(OTHER)];
    let (mut cases, mut granted) = (0, 0);
    for (holder, decides) in leases.into_iter().flat_map(|holder| [(holder, false), (holder, true)]) {
        for left in [STALE, FRESH] {
            for [a_silent, b_silent] in [[false, false], [false, true], [true, false], [true, true]] {
                let lease = holder.filter(|_| decides).map(|holder| lease(holder, left));
                let known = |is_silent| Facts { decides, holder, ..facts(lease, is_silent) };
                let for_b = said(B, plea(A, Want::Off), &known(a_silent));
                let for_a = said(A, plea(B, Want::Off), &known(b_silent));
                // A plea of a silent node did not arrive.
                let both = for_b.is_ok() && !b_silent && for_a.is_ok() && !a_silent;
                assert!(!both, "{holder:?} {decides} {left:?} {a_silent} {b_silent}");
                cases += 1;
                granted += usize::from(for_b.is_ok()) + usize::from(for_a.is_ok());
            }
        }
    }
    assert_eq!((cases, granted), (64, 36));
}
