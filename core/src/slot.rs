//! The two boot slots of a node disk.

/// A boot slot: the partition `boot-a` or `boot-b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotId {
    /// The partition `boot-a`.
    A,
    /// The partition `boot-b`.
    B,
}

impl SlotId {
    /// Both, in the fixed order in which ties are broken.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other slot.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl core::fmt::Display for SlotId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

impl core::str::FromStr for SlotId {
    type Err = NoSuchSlot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "a" | "A" | "boot-a" => Ok(Self::A),
            "b" | "B" | "boot-b" => Ok(Self::B),
            &_ => Err(NoSuchSlot),
        }
    }
}

/// The name is not that of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot slot is `a` or `b`")]
pub struct NoSuchSlot;

/// One value for each slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSlot<T> {
    /// The value of slot A.
    pub a: T,
    /// The value of slot B.
    pub b: T,
}

impl<T> PerSlot<T> {
    /// The value of `slot`.
    pub const fn get(&self, slot: SlotId) -> &T {
        match slot {
            SlotId::A => &self.a,
            SlotId::B => &self.b,
        }
    }

    /// The value of `slot`, to change it.
    pub const fn get_mut(&mut self, slot: SlotId) -> &mut T {
        match slot {
            SlotId::A => &mut self.a,
            SlotId::B => &mut self.b,
        }
    }
}
