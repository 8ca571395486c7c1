//! Mends what a node disk has two of: partition table, boot control block, confirmation marks.

use super::flash::verify_slot;
use crate::disk::open::Disk;
use crate::disk::state::{NodeDisk, read_copies};
use crate::disk::write::{Supplies, carry_out, describe};
use crate::failure::Failure;
use bulkhead_core::bcb::state::{Bcb, BootId, Reason, SlotState};
use bulkhead_core::boot::choice::{Check, Decision, Evidence, decide, floor};
use bulkhead_core::boot::operations::mark_writes;
use bulkhead_core::container::trust::Trust;
use bulkhead_core::gpt::format;
use bulkhead_core::gpt::header::ARRAY_LEN_MAX;
use bulkhead_core::plan::Plan;
use bulkhead_core::slot::SlotId;

/// One thing that is mended.
#[derive(Clone, Debug)]
pub struct Mend {
    /// What is wrong, and what is done about it.
    pub what: String,
    /// The steps.
    pub plan: Plan,
}

impl Mend {
    /// The steps, for `--dry-run`.
    pub fn steps(&self) -> Vec<String> {
        describe(&self.plan)
    }
}

/// Finds the first thing that needs mending; `None` when nothing does. What is mended first is what
/// the next depends on, so callers mend and ask again.
///
/// # Errors
///
/// The boot control block is lost and no slot can be started from.
pub fn next(disk: &Disk, node: &NodeDisk, trust: &Trust) -> Result<Option<Mend>, Failure> {
    if let Some(plan) = format::repair(&node.table, disk.geometry) {
        let what = format!("{}: writes both copies of the partition table", node.table.state);
        return Ok(Some(Mend { what, plan }));
    }
    node.may_write(disk)?;
    let places = node.layout.bcb_copies();
    let Some(stored) = node.copies.newest() else {
        let bcb = rebuild(disk, node, trust)?;
        let what =
            "both copies of the boot control block are lost: rebuilds it from the confirmation marks".into();
        return Ok(Some(Mend { what, plan: node.copies.write(places, &bcb) }));
    };
    let agree = node.copies.each().iter().all(|copy| copy.is_ok_and(|copy| copy.bcb == stored.bcb));
    if !agree {
        let what = "one copy of the boot control block is damaged or stale: writes both".into();
        return Ok(Some(Mend { what, plan: node.copies.write(places, &stored.bcb) }));
    }
    for slot in SlotId::ALL {
        let SlotState::Confirmed { image } = *stored.bcb.slots.get(slot) else { continue };
        if node.marks.get(slot).is_none_or(|mark| mark.image != image) {
            let what = format!("slot {slot} is confirmed but carries no mark of it: writes the mark");
            let plan = mark_writes(&stored.bcb, stored.seq, slot, node.layout.slot(slot));
            return Ok(Some(Mend { what, plan }));
        }
    }
    Ok(None)
}

/// Carries out one mend.
///
/// # Errors
///
/// The disk did not take it.
pub fn carry_out_mend(disk: &Disk, node: &NodeDisk, mend: &Mend) -> Result<(), Failure> {
    let mut entries = [0; ARRAY_LEN_MAX];
    let table = &node.table.table;
    table.encode(&mut entries);
    let supplies = Supplies { entries: entries.get(..table.array_len()), image: None };
    carry_out(disk, &mend.plan, supplies).map_err(|stopped| {
        Failure::failed(format!("{} could not be repaired: {stopped}", disk.path.display()))
            .left("What was good before is still good.")
    })
}

/// The boot control block as the next boot would rebuild it, but with no boot recorded.
fn rebuild(disk: &Disk, node: &NodeDisk, trust: &Trust) -> Result<Bcb, Failure> {
    let mut evidence = Evidence::new(read_copies(disk, &node.layout), node.marks);
    loop {
        match decide(&evidence) {
            Decision::Examine(slot) => {
                *evidence.checks.get_mut(slot) = check(disk, node, trust, &evidence, slot)
            }
            Decision::Start(start) => {
                return Ok(Bcb { boot: BootId(0), booted: None, reason: Reason::Never, ..start.record });
            }
            Decision::Rescue(_) => {
                let what = format!("{} holds no slot that was ever confirmed", disk.path.display());
                return Err(Failure::failed(what).next("make the disk anew with `bulkhead image disk`."));
            }
        }
    }
}

/// Examines a slot for a decision.
pub fn check(disk: &Disk, node: &NodeDisk, trust: &Trust, evidence: &Evidence, slot: SlotId) -> Check {
    match verify_slot(disk, node.layout.slot(slot), trust, floor(evidence), &mut |_| {}) {
        Ok(verified) => Check::Good(verified.image()),
        Err(why) => Check::Bad(why.fault()),
    }
}
