//! What a control domain starts after a boot, from what it can see by itself (S1-04..S1-09, X01, V27).
//!
//! One total table: each combination of inputs fires exactly one row, which a test proves by trying them all.
//! A profile starts services. It never gives the right to write a guest's volume: that is always the lease of
//! a register (I1, I5).
//!
//! | row | contacted     | further condition                                     | start                  |
//! |-----|---------------|-------------------------------------------------------|------------------------|
//! | 1   | > 90 %        | the management system runs already                    | I; await management    |
//! | 2   | > 50 %        | this node has the highest priority of those contacted | I and management       |
//! | 3   | none          | the register's lease is not held: lost, or not known  | local I; await operator |
//! | 4   | < 50 %        | the missing are unreachable, and the lease is held    | I and management       |
//! | 5   | anything else |                                                       | I; follow the controller |
//!
//! I: the infrastructure resources. Unreachable: neither the external interfaces nor the quorum devices of a
//! missing node answer.
//!
//! A site with a single node has nobody to contact: all of none is not more than half of it, so it goes by
//! rows 3 to 5. The boundaries are exact: of 10 peers, 5 are not more than half and 9 are not more than nine
//! tenths.

/// How many of the other nodes completed an authenticated handshake within the set time (S1-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// None of them, or there are no others.
    None,
    /// Less than half.
    Minority,
    /// Exactly half.
    Half,
    /// More than half, at most nine tenths.
    Majority,
    /// More than nine tenths.
    NearlyAll,
}

impl Reach {
    /// All of them, least first.
    pub const ALL: [Self; 5] = [Self::None, Self::Minority, Self::Half, Self::Majority, Self::NearlyAll];

    /// Of `configured` other nodes, `contacted` answered. More than all counts as all.
    pub const fn of(contacted: u16, configured: u16) -> Self {
        // Widening; `From` is not const.
        let (contacted, configured) = (contacted as u32, configured as u32);
        let contacted = if contacted < configured { contacted } else { configured };
        // Compared crosswise, without rounding; 10 x 65,535 fits.
        if contacted == 0 {
            Self::None
        } else if configured.saturating_mul(9) < contacted.saturating_mul(10) {
            Self::NearlyAll
        } else if configured < contacted.saturating_mul(2) {
            Self::Majority
        } else if configured == contacted.saturating_mul(2) {
            Self::Half
        } else {
            Self::Minority
        }
    }
}

/// What this side knows of the lease on its pair's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseView {
    /// It holds the lease, or has won it.
    Held,
    /// It cannot win it: no majority of the voters answers, or somebody else holds it.
    CannotWin,
    /// It is not known yet.
    Unknown,
}

/// Everything a profile rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// How many of the other nodes were contacted.
    pub reach: Reach,
    /// The management system already runs somewhere that was contacted.
    pub management_runs: bool,
    /// This node has the highest priority for the management system among those contacted, itself included.
    pub highest_priority: bool,
    /// Neither the external interfaces nor the quorum devices of any missing node answer.
    pub missing_unreachable: bool,
    /// The lease on the register.
    pub lease: LeaseView,
}

/// What to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The infrastructure resources; the management system runs elsewhere, wait for it.
    AwaitManagement,
    /// The infrastructure resources and the management system.
    Manage,
    /// The local infrastructure resources only; an operator must decide.
    AwaitOperator,
    /// The infrastructure resources; follow the designated controller, or wait for one.
    Follow,
}

impl Profile {
    /// What it starts and what it waits for, in the operator's words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AwaitManagement => "start the infrastructure resources; wait for the management system",
            Self::Manage => "start the infrastructure resources and the management system",
            Self::AwaitOperator => "start the local infrastructure resources only; wait for an operator",
            Self::Follow => {
                "start the infrastructure resources; follow the designated controller, or wait for one"
            }
        }
    }

    /// Whether the management system is to be started here.
    pub const fn manages(self) -> bool {
        match self {
            Self::Manage => true,
            Self::AwaitManagement | Self::AwaitOperator | Self::Follow => false,
        }
    }
}

/// What a row asks of a yes-or-no input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Yes,
    Any,
}

/// What a row asks of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskLease {
    Held,
    NotHeld,
    Any,
}

struct Row {
    number: u8,
    reach: &'static [Reach],
    management_runs: Ask,
    highest_priority: Ask,
    missing_unreachable: Ask,
    lease: AskLease,
    profile: Profile,
}

const ROWS: [Row; 5] = [
    Row {
        number: 1, // S1-08
        reach: &[Reach::NearlyAll],
        management_runs: Ask::Yes,
        highest_priority: Ask::Any,
        missing_unreachable: Ask::Any,
        lease: AskLease::Any,
        profile: Profile::AwaitManagement,
    },
    Row {
        number: 2, // S1-06
        reach: &[Reach::Majority, Reach::NearlyAll],
        management_runs: Ask::Any,
        highest_priority: Ask::Yes,
        missing_unreachable: Ask::Any,
        lease: AskLease::Any,
        profile: Profile::Manage,
    },
    Row {
        number: 3, // S1-05
        reach: &[Reach::None],
        management_runs: Ask::Any,
        highest_priority: Ask::Any,
        missing_unreachable: Ask::Any,
        lease: AskLease::NotHeld,
        profile: Profile::AwaitOperator,
    },
    Row {
        number: 4, // S1-07
        reach: &[Reach::None, Reach::Minority],
        management_runs: Ask::Any,
        highest_priority: Ask::Any,
        missing_unreachable: Ask::Yes,
        lease: AskLease::Held,
        profile: Profile::Manage,
    },
    Row {
        number: 5, // what the source leaves open
        reach: &Reach::ALL,
        management_runs: Ask::Any,
        highest_priority: Ask::Any,
        missing_unreachable: Ask::Any,
        lease: AskLease::Any,
        profile: Profile::Follow,
    },
];

/// What fired, and what it rests on: all that `bulkhead boot explain` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The row of the table.
    pub row: u8,
    /// What to start.
    pub profile: Profile,
    /// Every input.
    pub inputs: Inputs,
}

/// Decides. Every input gives exactly one outcome.
pub fn decide(inputs: Inputs) -> Outcome {
    let row = ROWS.iter().find(|row| row.fires(&inputs));
    let (row, profile) = row.map_or((5, Profile::Follow), |row| (row.number, row.profile));
    Outcome { row, profile, inputs }
}

impl Row {
    fn fires(&self, inputs: &Inputs) -> bool {
        let yes = |ask: Ask, input: bool| ask == Ask::Any || input;
        let lease = match self.lease {
            AskLease::Any => true,
            AskLease::Held => inputs.lease == LeaseView::Held,
            AskLease::NotHeld => inputs.lease != LeaseView::Held,
        };
        self.reach.contains(&inputs.reach)
            && yes(self.management_runs, inputs.management_runs)
            && yes(self.highest_priority, inputs.highest_priority)
            && yes(self.missing_unreachable, inputs.missing_unreachable)
            && lease
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn all() -> Vec<Inputs> {
        let mut all = Vec::new();
        for reach in Reach::ALL {
            for bits in 0..8_u8 {
                for lease in [LeaseView::Held, LeaseView::CannotWin, LeaseView::Unknown] {
                    let [management_runs, highest_priority, missing_unreachable] =
                        [1, 2, 4].map(|bit| bits & bit != 0);
                    all.push(Inputs { reach, management_runs, highest_priority, missing_unreachable, lease });
                }
            }
        }
        all
    }

    /// V27: every input has a rule, the first that matches is the one, and every rule is needed.
    #[test]
    fn the_table_is_total_and_every_row_fires() {
        let mut fired = [0; 5];
        for inputs in all() {
            let outcome = decide(inputs);
            let first = ROWS.iter().find(|row| row.fires(&inputs)).unwrap();
            assert_eq!((first.number, first.profile), (outcome.row, outcome.profile));
            fired[usize::from(outcome.row) - 1] += 1;
        }
        assert_eq!(fired, [12, 18, 16, 8, 66], "a row never fires, or another took its place");
    }

    /// X01: management is started only by those who may, whatever the table looks like one day.
    #[test]
    fn nobody_manages_without_a_majority_or_the_lease() {
        for inputs in all() {
            if decide(inputs).profile.manages() {
                let majority = Reach::Half < inputs.reach && inputs.highest_priority;
                let alone = inputs.lease == LeaseView::Held && inputs.missing_unreachable;
                assert!(majority || (alone && inputs.reach < Reach::Half), "{inputs:?}");
            }
        }
    }

    /// V27: the boundaries at exactly one half and nine tenths, for every size of site.
    #[test]
    fn boundaries_are_exact() {
        for (contacted, configured, reach) in [
            (0, 0, Reach::None),
            (0, 1, Reach::None),
            (1, 1, Reach::NearlyAll),
            (1, 2, Reach::Half),
            (1, 3, Reach::Minority),
            (2, 3, Reach::Majority),
            (5, 10, Reach::Half),
            (9, 10, Reach::Majority),
            (10, 10, Reach::NearlyAll),
            (19, 20, Reach::NearlyAll),
            (18, 20, Reach::Majority),
            (u16::MAX, 2, Reach::NearlyAll),
        ] {
            assert_eq!(Reach::of(contacted, configured), reach, "{contacted} of {configured}");
        }
        for configured in 1..=64_u16 {
            // Counted one by one: a class never falls while more are contacted, and all is nearly all.
            let classes: Vec<_> =
                (0..=configured).map(|contacted| Reach::of(contacted, configured)).collect();
            assert!(classes.is_sorted(), "{configured}: {classes:?}");
            let count = |reach| classes.iter().filter(|class| **class == reach).count();
            let peers = usize::from(configured);
            assert_eq!(count(Reach::NearlyAll), peers - peers * 9 / 10, "{configured}");
            assert_eq!(count(Reach::Half), usize::from(peers % 2 == 0), "{configured}");
            assert_eq!(count(Reach::Minority), (peers - 1) / 2, "{configured}");
        }
    }
}
