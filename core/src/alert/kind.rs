//! The kinds of alerts: how grave, and how long until each is said, and is over (X25).

use core::time::Duration;

/// How grave an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gravity {
    /// It works, and something is to be done about it.
    Warning,
    /// Guests are down, or data is in danger.
    Critical,
}

impl Gravity {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is wrong. The gravest first: so they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nobody leads the volumes: guests wait or are down.
    NobodyLeads,
    /// Blocks are damaged, and no holder can mend them.
    Damaged,
    /// Guests that are to run do not.
    GuestsDown,
    /// The heartbeat of guests is lost (S3-03).
    GuestsSilent,
    /// A node or a witness is not heard.
    NodeAway,
    /// A witness that is heard does not vote.
    NoVote,
    /// A holder does not have every acknowledged write (X25: replica behind).
    ReplicaBehind,
    /// The store of a holder is full.
    StoreFull,
    /// A node is heard on one network only.
    NetworkAway,
    /// Guests run in the other compartment than is their home (S0-19: both sets on one compartment).
    GuestsAway,
    /// Guests that are to be apart run on one node (S0-12: redundant pair on one host).
    Together,
    /// After the loss of the node that they run on, guests would find no room (S3-18).
    Crowded,
    /// The compartment is resilient, and volumes are cached (S0-20).
    Cached,
    /// A node's file says otherwise than this one's.
    FilesDiffer,
    /// The system did not grant what the agent needs.
    Lacking,
}

impl Kind {
    /// All of them, the gravest first.
    pub const ALL: [Self; 15] = [
        Self::NobodyLeads,
        Self::Damaged,
        Self::GuestsDown,
        Self::GuestsSilent,
        Self::NodeAway,
        Self::NoVote,
        Self::ReplicaBehind,
        Self::StoreFull,
        Self::NetworkAway,
        Self::GuestsAway,
        Self::Together,
        Self::Crowded,
        Self::Cached,
        Self::FilesDiffer,
        Self::Lacking,
    ];

    /// As programs know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NobodyLeads => "nobody-leads",
            Self::Damaged => "damaged",
            Self::GuestsDown => "guests-down",
            Self::GuestsSilent => "guests-silent",
            Self::NodeAway => "node-away",
            Self::NoVote => "no-vote",
            Self::ReplicaBehind => "replica-behind",
            Self::StoreFull => "store-full",
            Self::NetworkAway => "network-away",
            Self::GuestsAway => "guests-away",
            Self::Together => "together",
            Self::Crowded => "crowded",
            Self::Cached => "cached",
            Self::FilesDiffer => "files-differ",
            Self::Lacking => "lacking",
        }
    }

    /// How grave it is.
    pub const fn gravity(self) -> Gravity {
        match self {
            Self::NobodyLeads | Self::Damaged | Self::GuestsDown => Gravity::Critical,
            Self::GuestsSilent
            | Self::NodeAway
            | Self::NoVote
            | Self::ReplicaBehind
            | Self::StoreFull
            | Self::NetworkAway
            | Self::GuestsAway
            | Self::Together
            | Self::Crowded
            | Self::Cached
            | Self::FilesDiffer
            | Self::Lacking => Gravity::Warning,
        }
    }

    /// For how long it holds before it is an alert. A takeover passes through some of these states, and is
    /// none; a node that starts needs a moment to hear the others.
    pub const fn raised_after(self) -> Duration {
        match self {
            Self::Damaged | Self::NoVote | Self::StoreFull => Duration::ZERO,
            Self::GuestsSilent
            | Self::NodeAway
            | Self::Together
            | Self::Crowded
            | Self::Cached
            | Self::FilesDiffer
            | Self::Lacking => Duration::from_secs(2),
            Self::NetworkAway | Self::GuestsAway => Duration::from_secs(3),
            Self::NobodyLeads | Self::ReplicaBehind => Duration::from_secs(5),
            Self::GuestsDown => Duration::from_secs(10),
        }
    }

    /// For how long it does not hold before it is over: what flaps is one alert.
    pub const fn cleared_after(self) -> Duration {
        match self {
            Self::NodeAway | Self::NoVote | Self::NetworkAway | Self::ReplicaBehind => Duration::from_secs(5),
            Self::NobodyLeads
            | Self::Damaged
            | Self::GuestsDown
            | Self::GuestsSilent
            | Self::StoreFull
            | Self::GuestsAway
            | Self::Together
            | Self::Crowded
            | Self::Cached
            | Self::FilesDiffer
            | Self::Lacking => Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// X25: within a bound, and programs know each by a name of its own.
    #[test]
    fn every_kind_has_a_name_and_a_bound() {
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let longest = kind.raised_after().max(kind.cleared_after());
            assert!(longest <= Duration::from_secs(10), "{}", kind.name());
            // What is cleared at once could be raised again at once.
            assert!(Duration::ZERO < kind.cleared_after(), "{}", kind.name());
        }
        assert!(Kind::ALL.is_sorted(), "the gravest first");
        assert!(Kind::ALL.is_sorted_by_key(|kind| core::cmp::Reverse(kind.gravity())));
    }
}
