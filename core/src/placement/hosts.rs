//! Hosts by their places in the list of the site, and sets of them.

/// Nodes of a cluster (S0-02). A set of them is one word.
pub const HOSTS_MAX: usize = 64;

/// A host, by its place in the site's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIndex(pub u8);

/// Any of the hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostSet(u64);

impl HostSet {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Every one there can be.
    pub const ALL: Self = Self(u64::MAX);

    /// That one only; none, if there cannot be one of that number.
    pub const fn one(host: HostIndex) -> Self {
        match 1_u64.checked_shl(host.0 as u32) {
            Some(bit) => Self(bit),
            None => Self::NONE,
        }
    }

    /// Whether it is one of them.
    pub const fn has(self, host: HostIndex) -> bool {
        self.0 & Self::one(host).0 != 0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These, and not those.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those of these that are among the others.
    #[must_use]
    pub const fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = HostIndex> {
        (0..64).map(HostIndex).filter(move |host| self.has(*host))
    }
}

impl FromIterator<HostIndex> for HostSet {
    fn from_iter<I: IntoIterator<Item = HostIndex>>(hosts: I) -> Self {
        hosts.into_iter().fold(Self::NONE, |all, host| all.with(Self::one(host)))
    }
}
