//! How much of each kind of resource: what hosts have and guests need, in whole units of any kinds (S3-15).

/// The most of one kind that a host has or a guest needs: 256 TiB in bytes. The sums of 4,096 guests stay far
/// below 2^64, so that what was added can be taken away again.
pub const AMOUNT_MAX: u64 = 1 << 48;

/// One kind of resource, by its place: processors, memory, whatever the site counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// How much of each of `K` kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amounts<const K: usize>(pub [u64; K]);

/// What is missing where something does not fit: the kind that is shortest, as a share of what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Of which kind.
    pub kind: Kind,
    /// How much more it would take.
    pub lacks: u64,
    /// The same in thousandths of what is needed, to compare hosts by.
    pub(super) permille: u64,
}

impl<const K: usize> Amounts<K> {
    /// Nothing of any kind.
    pub const NONE: Self = Self([0; K]);

    /// Each kind beside that of another.
    fn pairs(self, other: Self) -> impl Iterator<Item = (Kind, u64, u64)> {
        let both = self.0.into_iter().zip(other.0);
        (0..).map(Kind).zip(both).map(|(kind, (own, other))| (kind, own, other))
    }

    fn each(self, other: Self, what: impl Fn(u64, u64) -> u64) -> Self {
        let mut all = self;
        for (own, other) in all.0.iter_mut().zip(other.0) {
            *own = what(*own, other);
        }
        all
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// What is left without the other; nothing of a kind of which there is less.
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// The larger of each kind.
    pub fn or_more(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    /// Only the kinds of which the other is not nothing.
    pub fn only(self, other: Self) -> Self {
        self.each(other, |own, other| if other == 0 { 0 } else { own })
    }

    /// So many thousandths of it, rounded down.
    pub fn portion(self, permille: u16) -> Self {
        self.each(Self::NONE, |own, _| own.saturating_mul(u64::from(permille)) / 1_000)
    }

    /// One of so many equal parts, rounded down.
    pub fn part(self, parts: u64) -> Self {
        self.each(Self::NONE, |own, _| own.checked_div(parts).unwrap_or(own))
    }

    /// Whether there is enough room for it, of every kind.
    pub fn fits(self, room: Self) -> bool {
        self.pairs(room).all(|(_, needed, room)| needed <= room)
    }

    /// What is missing for it to fit; `None`: it fits.
    pub fn shortage(self, room: Self) -> Option<Shortage> {
        let short = self.pairs(room).filter(|(_, needed, room)| room < needed);
        let short = short.map(|(kind, needed, room)| {
            let lacks = needed.saturating_sub(room);
            let permille = lacks.saturating_mul(1_000).checked_div(needed).unwrap_or(0);
            Shortage { kind, lacks, permille }
        });
        short.max_by_key(|shortage| shortage.permille)
    }

    /// How many of it fit into that much room, side by side; `None`: it is nothing, and any number does.
    pub fn times_in(self, room: Self) -> Option<u64> {
        self.pairs(room).filter_map(|(_, own, room)| room.checked_div(own)).min()
    }

    /// Its share of something larger, in thousandths, of the kind of which it takes most. What is needed and
    /// not there at all counts as all of it.
    pub fn share_of(self, whole: Self) -> u64 {
        let shares = self.pairs(whole).map(|(_, own, whole)| match own {
            0 => 0,
            own => own.saturating_mul(1_000).checked_div(whole).unwrap_or(1_000),
        });
        shares.max().unwrap_or(0)
    }
}
