//! Flash, set next, confirm, roll back: what each makes of the boot control block, and when it
//! is refused.
//!
//! An operation answers with the block that is to be written, or with the reason why it would
//! endanger the node. It writes nothing; [`crate::bcb::copies::Copies::write`] makes the plan.
//!
//! Flashing takes two records around the writing of the image: [`flash_begins`] makes the slot
//! empty, so that a half-written image is never considered, [`flash_ends`] makes it a candidate
//! once the image was read back. A cut in between leaves the slot empty and the other as it was.

use crate::bcb::state::{Bcb, BootId, Reason, SlotState, Tries, Why};
use crate::container::header::PAYLOAD_START;
use crate::container::image::{ImageId, SecurityVersion};
use crate::container::mark::Mark;
use crate::gpt::layout::SlotPlace;
use crate::plan::{Data, Plan};
use crate::slot::SlotId;

/// Why an operation is refused: it would break a promise to the node's operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The slot is the one that is running.
    #[error("slot {slot} is the one that is running")]
    Running {
        /// The slot.
        slot: SlotId,
    },
    /// The other slot was never confirmed, so this one is all the node has.
    #[error("slot {slot} is the only confirmed slot; confirm slot {} first, or roll it back", slot.other())]
    OnlyConfirmed {
        /// The slot.
        slot: SlotId,
    },
    /// The image is older than what may boot.
    #[error("security version {found} is below the floor {floor} of this disk")]
    BelowFloor {
        /// The image's security version.
        found: SecurityVersion,
        /// The lowest that may boot.
        floor: SecurityVersion,
    },
    /// There is nothing to start in the slot.
    #[error("slot {slot} is {}", state.name())]
    NotBootable {
        /// The slot.
        slot: SlotId,
        /// What it is instead.
        state: SlotState,
    },
    /// The slot's tries are used up.
    #[error("slot {slot} has used up its tries; flash it again")]
    NoTriesLeft {
        /// The slot.
        slot: SlotId,
    },
    /// The slot was not started by the boot that asks (V38).
    #[error("boot {boot} did not start slot {slot}; only the boot that started a slot can confirm it")]
    NotThisBoot {
        /// The slot.
        slot: SlotId,
        /// The boot that asks.
        boot: BootId,
    },
    /// There is no slot to go back to.
    #[error("slot {slot} is {}, so there is nothing to go back to", state.name())]
    NothingToGoBackTo {
        /// The slot that would be started instead.
        slot: SlotId,
        /// What it is.
        state: SlotState,
    },
}

/// The boot that is running: what the boot application put on the kernel's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The slot it was started from.
    pub slot: SlotId,
    /// Its number.
    pub boot: BootId,
}

/// The slot to flash when none is named: not the running one. On a disk that is not running, the
/// one that is not preferred; but never the only confirmed one, which is what a candidate that was
/// flashed and not yet tried leaves behind.
pub fn inactive(bcb: &Bcb, running: Option<Running>) -> SlotId {
    let spare = running.map_or(bcb.preferred, |running| running.slot).other();
    let confirmed = |slot| matches!(bcb.slots.get(slot), SlotState::Confirmed { .. });
    if running.is_none() && confirmed(spare) && !confirmed(spare.other()) { spare.other() } else { spare }
}

/// Begins to flash `image` into `slot`: the slot is empty until [`flash_ends`].
///
/// # Errors
///
/// The slot is running, is the only confirmed one, or the image is below the floor.
pub fn flash_begins(
    bcb: &Bcb,
    running: Option<Running>,
    slot: SlotId,
    image: ImageId,
) -> Result<Bcb, Refused> {
    if running.is_some_and(|running| running.slot == slot) {
        return Err(Refused::Running { slot });
    }
    let confirmed = |slot| matches!(bcb.slots.get(slot), SlotState::Confirmed { .. });
    if confirmed(slot) && !confirmed(slot.other()) {
        return Err(Refused::OnlyConfirmed { slot });
    }
    if image.security < bcb.floor {
        return Err(Refused::BelowFloor { found: image.security, floor: bcb.floor });
    }
    let preferred = if bcb.preferred == slot { slot.other() } else { bcb.preferred };
    Ok(Bcb { preferred, ..bcb.with(slot, SlotState::Empty) })
}

/// The plan that writes the image container into its slot: the payload first, its header last,
/// so that the slot never shows a header before the payload it vouches for.
pub fn flash_writes(place: SlotPlace, container_len: u64) -> Plan {
    let mut plan = Plan::new();
    let len = container_len.saturating_sub(PAYLOAD_START);
    plan.write(place.image.plus(PAYLOAD_START), Data::Image { from: PAYLOAD_START, len });
    plan.flush();
    plan.write(place.image, Data::Image { from: 0, len: PAYLOAD_START });
    plan.flush();
    plan
}

/// Ends flashing, after the image was read back from the disk and verified: the slot is a
/// candidate and is preferred.
pub fn flash_ends(bcb: &Bcb, slot: SlotId, image: ImageId) -> Bcb {
    let state = SlotState::Candidate { image, left: bcb.tries_max, done: Tries::NONE };
    Bcb { preferred: slot, ..bcb.with(slot, state) }
}

/// Makes `slot` the one that is considered first at the next boots.
///
/// # Errors
///
/// It is empty or bad, or its tries are used up.
pub fn set_next(bcb: &Bcb, slot: SlotId) -> Result<Bcb, Refused> {
    let state = *bcb.slots.get(slot);
    match state {
        SlotState::Empty | SlotState::Bad { .. } => Err(Refused::NotBootable { slot, state }),
        SlotState::Candidate { left, .. } if left == Tries::NONE => Err(Refused::NoTriesLeft { slot }),
        SlotState::Candidate { .. } | SlotState::Confirmed { .. } => Ok(Bcb { preferred: slot, ..*bcb }),
    }
}

/// Confirms the slot that is running as good, and raises the floor to its security version. A
/// slot that thereby falls below the floor is retired in the same write (V35). A slot that is
/// confirmed already stays so, and the choice of the next slot stays what it is.
///
/// # Errors
///
/// The running boot is not the last one this disk recorded, or did not start that slot (V38);
/// the slot is bad, and no person started it nevertheless; its image is below the floor.
pub fn confirm(bcb: &Bcb, running: Running) -> Result<Bcb, Refused> {
    let Running { slot, boot } = running;
    if bcb.boot != boot || bcb.booted != Some(slot) {
        return Err(Refused::NotThisBoot { slot, boot });
    }
    let state = *bcb.slots.get(slot);
    let (image, preferred) = match state {
        SlotState::Candidate { image, .. } => (image, slot),
        SlotState::Bad { image, .. } if bcb.reason == Reason::Operator => (image, slot),
        SlotState::Confirmed { image } => (image, bcb.preferred),
        SlotState::Empty | SlotState::Bad { .. } => return Err(Refused::NotBootable { slot, state }),
    };
    if image.security < bcb.floor {
        return Err(Refused::BelowFloor { found: image.security, floor: bcb.floor });
    }
    let floor = image.security;
    let mut next = Bcb { floor, preferred, ..bcb.with(slot, SlotState::Confirmed { image }) };
    if let SlotState::Candidate { image, .. } | SlotState::Confirmed { image } = *bcb.slots.get(slot.other())
        && image.security < floor
    {
        next = next.with(slot.other(), SlotState::Bad { image, why: Why::BelowFloor });
    }
    Ok(next)
}

/// The plan that puts the confirmation mark beside the image of `slot`; nothing when the slot is
/// not confirmed. Written after the block that confirms it, and repeated whenever it is missing.
pub fn mark_writes(bcb: &Bcb, seq: u64, slot: SlotId, place: SlotPlace) -> Plan {
    let mut plan = Plan::new();
    if let SlotState::Confirmed { image } = *bcb.slots.get(slot) {
        let mark = Mark { image, floor: bcb.floor, seq, tries_max: bcb.tries_max.count() };
        plan.write(place.mark, Data::Sector(mark.encode()));
        plan.flush();
    }
    plan
}

/// Goes back from the preferred slot to the other, which must be confirmed. A candidate that is
/// left this way is bad; a confirmed slot stays confirmed.
///
/// # Errors
///
/// The other slot is not confirmed.
pub fn roll_back(bcb: &Bcb) -> Result<Bcb, Refused> {
    let from = bcb.preferred;
    let to = from.other();
    let state = *bcb.slots.get(to);
    let SlotState::Confirmed { .. } = state else {
        return Err(Refused::NothingToGoBackTo { slot: to, state });
    };
    let mut next = Bcb { preferred: to, ..*bcb };
    if let SlotState::Candidate { image, .. } = *bcb.slots.get(from) {
        next = next.with(from, SlotState::Bad { image, why: Why::RolledBack });
    }
    Ok(next)
}

/// The block of a new disk whose slot A holds `image`, put there by whoever made the disk and
/// therefore confirmed: there is nothing yet to go back to.
pub fn first_image(tries_max: Tries, image: ImageId) -> Bcb {
    let bcb = Bcb::new(tries_max).with(SlotId::A, SlotState::Confirmed { image });
    Bcb { floor: image.security, ..bcb }
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
