//! Planted protocol bugs: a check counts only if it has caught one (STYLE rule 36).
//!
//! Nothing of this is in a product: without the feature `bugs`, which only the simulator's own tests switch
//! on, [`is_planted`] is the constant `false`. With it, one bug at a time can be planted in the whole
//! process.

/// A bug that was made, or nearly made, in this protocol or in one like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Bug {
    /// A voter answers before its disk has the change.
    AnswerBeforePersist = 1,
    /// A voter accepts a record without writing it down.
    AcceptUnwritten,
    /// A voter promises the same attempt twice.
    PromiseTwice,
    /// A voter accepts an attempt below its promise.
    AcceptBelowPromise,
    /// A restarted voter forgets that it may have granted a lease.
    LeaseForgotten,
    /// A voter does not look at the lease when it is asked to promise.
    LeaseIgnored,
    /// A voter counts a lease only as long as the holder does.
    VoterIgnoresDrift,
    /// A holder counts its lease from the answer.
    LeaseFromReceipt,
    /// A holder counts the whole lease on its own clock, and a little more.
    HolderIgnoresDrift,
    /// A holder does not look at its lease before it acts.
    LeaseNotChecked,
    /// Half of the voters are enough.
    HalfIsEnough,
    /// A voter that lost its disk counts as before.
    LifeIgnored,
    /// While voters change, the old ones are not asked.
    OldVotersIgnored,
    /// The new voters decide alone before the change is known to be chosen.
    ChangeFinishedEarly,
    /// A proposer takes what it heard first, not what is newest.
    FirstFoundWins,
    /// A proposer does not raise the epoch.
    EpochReused,
    /// A fence of any start makes any lease void.
    FenceIgnoresStart,
    /// A fence that was not confirmed counts.
    FenceUnconfirmed,
    /// A node that was told of a peer's silence never hears it again.
    SilentForEver,
    /// Who cannot have the register never asks the voters it does not know of.
    FoundersForgotten,
    /// An instance does not give way to a master it hears.
    NeverSlave,
    /// A master that loses its lease goes on calling itself master.
    LossIgnored,
    /// Every start of a node counts its questions from the same number.
    AskReused,
    /// A witness cuts the power of a node for whoever asks.
    RelayCutsForAnybody,
    /// A primary acknowledges what is durable in its own log alone.
    MirrorNotAwaited,
    /// A primary without others acknowledges what is not in its store.
    ThroughIgnored,
    /// A primary does not look at its lease before it acknowledges.
    AcknowledgedLate,
    /// A primary goes on without a late holder before the register says so.
    LeavesUnrecorded,
    /// A primary takes what it sent for durable.
    SentIsDurable,
    /// A secondary says of what came that it is durable.
    FedIsDurable,
    /// A secondary has its store written before all have the write.
    AppliedUncommitted,
    /// A holder that is not in sync leads.
    StaleLeads,
    /// A batch counts although one before it is not durable.
    LaterFlushCounts,
    /// A batch counts before it is flushed.
    WrittenIsDurable,
    /// A torn batch counts after a start.
    TornCounts,
    /// A log that lost durable writes is taken for whole.
    DamageIsTorn,
    /// A log forgets what is not in the store.
    TrimmedUnapplied,
    /// What is cut off a log is not in its superblock.
    CutUnrecorded,
    /// The older copy of a superblock counts.
    OlderSuperblock,
    /// A holder calls applied what its store does not have.
    AppliedEarly,
    /// A holder leads before its promise is durable.
    LeadsUnpromised,
    /// A log that is made anew keeps its life.
    LifeKept,
    /// A filled store is said to have more than it was filled with.
    FillClaimsMore,
    /// Guests are begun before all of them were looked at.
    BeginsUnseen,
    /// Guests are begun in the order of their volumes.
    PriorityIgnored,
    /// More guests are begun at once than may be.
    BeginsAllAtOnce,
    /// A guest that failed is not tried again.
    FailedForgotten,
    /// A register is given back while guests run by it.
    LentGivenBack,
    /// A guest's process does not look at the end of its lease.
    GuestOutlivesLease,
    /// A forecast counts voters that are lost.
    ForecastCountsLost,
    /// A forecast goes by all voters of a pair, not by those in force.
    ForecastForgetsWitness,
    /// A forecast goes by the voters on the master of a pair, not by those on its volumes.
    ForecastOfMaster,
}

/// Which tests must find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Those of the register alone: stories, and a walk with far more disorder than a site has.
    Register,
    /// The simulator of a whole site.
    Site,
    /// The simulator of a site whose nodes hold a mirror group.
    Group,
    /// The simulator of a site of many pairs with guests.
    Guests,
}

/// A bug of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Its name on the command line.
    pub name: &'static str,
    /// Which.
    pub bug: Bug,
    /// Who must find it.
    pub layer: Layer,
}

const fn site(name: &'static str, bug: Bug) -> Planted {
    Planted { name, bug, layer: Layer::Site }
}

const fn group(name: &'static str, bug: Bug) -> Planted {
    Planted { name, bug, layer: Layer::Group }
}

const fn guests(name: &'static str, bug: Bug) -> Planted {
    Planted { name, bug, layer: Layer::Guests }
}

const fn register(name: &'static str, bug: Bug) -> Planted {
    Planted { name, bug, layer: Layer::Register }
}

/// The catalogue.
pub const BUGS: &[Planted] = &[
    site("answer-before-persist", Bug::AnswerBeforePersist),
    site("accept-unwritten", Bug::AcceptUnwritten),
    register("promise-twice", Bug::PromiseTwice),
    register("accept-below-promise", Bug::AcceptBelowPromise),
    site("lease-forgotten", Bug::LeaseForgotten),
    site("lease-ignored", Bug::LeaseIgnored),
    register("voter-ignores-drift", Bug::VoterIgnoresDrift),
    register("lease-from-receipt", Bug::LeaseFromReceipt),
    site("holder-ignores-drift", Bug::HolderIgnoresDrift),
    site("lease-not-checked", Bug::LeaseNotChecked),
    site("half-is-enough", Bug::HalfIsEnough),
    site("life-ignored", Bug::LifeIgnored),
    site("old-voters-ignored", Bug::OldVotersIgnored),
    register("change-finished-early", Bug::ChangeFinishedEarly),
    site("first-found-wins", Bug::FirstFoundWins),
    site("epoch-reused", Bug::EpochReused),
    register("fence-ignores-start", Bug::FenceIgnoresStart),
    site("fence-unconfirmed", Bug::FenceUnconfirmed),
    site("silent-for-ever", Bug::SilentForEver),
    register("founders-forgotten", Bug::FoundersForgotten),
    site("never-slave", Bug::NeverSlave),
    site("loss-ignored", Bug::LossIgnored),
    register("ask-reused", Bug::AskReused),
    site("relay-cuts-for-anybody", Bug::RelayCutsForAnybody),
    group("mirror-not-awaited", Bug::MirrorNotAwaited),
    group("through-ignored", Bug::ThroughIgnored),
    group("acknowledged-late", Bug::AcknowledgedLate),
    group("leaves-unrecorded", Bug::LeavesUnrecorded),
    group("sent-is-durable", Bug::SentIsDurable),
    group("fed-is-durable", Bug::FedIsDurable),
    group("applied-uncommitted", Bug::AppliedUncommitted),
    group("stale-leads", Bug::StaleLeads),
    group("later-flush-counts", Bug::LaterFlushCounts),
    group("written-is-durable", Bug::WrittenIsDurable),
    group("torn-counts", Bug::TornCounts),
    group("damage-is-torn", Bug::DamageIsTorn),
    group("trimmed-unapplied", Bug::TrimmedUnapplied),
    group("cut-unrecorded", Bug::CutUnrecorded),
    group("older-superblock", Bug::OlderSuperblock),
    group("applied-early", Bug::AppliedEarly),
    group("leads-unpromised", Bug::LeadsUnpromised),
    group("life-kept", Bug::LifeKept),
    group("fill-claims-more", Bug::FillClaimsMore),
    guests("begins-unseen", Bug::BeginsUnseen),
    guests("priority-ignored", Bug::PriorityIgnored),
    guests("begins-all-at-once", Bug::BeginsAllAtOnce),
    guests("failed-forgotten", Bug::FailedForgotten),
    guests("lent-given-back", Bug::LentGivenBack),
    guests("guest-outlives-lease", Bug::GuestOutlivesLease),
    guests("forecast-counts-lost", Bug::ForecastCountsLost),
    guests("forecast-forgets-witness", Bug::ForecastForgetsWitness),
    guests("forecast-of-master", Bug::ForecastOfMaster),
];

#[cfg(feature = "bugs")]
mod planted {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants `bug` in this process, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, number), Ordering::SeqCst);
    }

    /// Whether `bug` is planted.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == number(bug)
    }

    const fn number(bug: Bug) -> u8 {
        bug as u8
    }
}

#[cfg(feature = "bugs")]
pub use planted::{is_planted, plant};

/// Whether `bug` is planted: never in a product.
#[cfg(not(feature = "bugs"))]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
