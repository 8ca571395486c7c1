//! The contexts in which block status is told (NBD protocol, "Metadata querying").

use super::number::extent;
use crate::nbd::export::Extent;

/// A context that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// What is allocated, and what reads as zeroes: the protocol's own.
    Allocation,
    /// What the backing store does not have yet: its newest content is in the write log. Ours.
    Dirty,
}

impl Context {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Allocation, Self::Dirty];

    /// Its name, with that of its namespace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocation => "base:allocation",
            Self::Dirty => "x-bulkhead:dirty",
        }
    }

    /// Its number as a server, never 0.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::Dirty => 2,
        }
    }

    /// Whether a question after `query` in a list is one after it, too: `base:` asks for a whole namespace.
    #[must_use]
    pub fn is_in(self, query: &str) -> bool {
        self.name() == query || (query.ends_with(':') && self.name().starts_with(query))
    }

    /// What it says of an extent.
    #[must_use]
    pub const fn flags(self, of: &Extent) -> u32 {
        match self {
            Self::Allocation => {
                (if of.hole { extent::HOLE } else { 0 }) | if of.zero { extent::ZERO } else { 0 }
            }
            Self::Dirty => {
                if of.dirty {
                    extent::DIRTY
                } else {
                    0
                }
            }
        }
    }
}

/// Those that a client chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen(u32);

impl Chosen {
    /// With this one, too.
    #[must_use]
    pub const fn with(self, context: Context) -> Self {
        Self(self.0 | 1 << context.number())
    }

    /// Each of them once.
    pub fn iter(self) -> impl Iterator<Item = Context> {
        Context::ALL.into_iter().filter(move |context| self.0 & (1 << context.number()) != 0)
    }

    /// None.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The numbers under which a server tells them, as far as it knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of [`Context::Allocation`].
    pub allocation: Option<u32>,
    /// Of [`Context::Dirty`].
    pub dirty: Option<u32>,
}

impl Numbers {
    /// A server has chosen a number for the context of this name; others were not asked for.
    pub fn take(&mut self, name: &[u8], number: u32) {
        for context in Context::ALL {
            let place = match context {
                Context::Allocation => &mut self.allocation,
                Context::Dirty => &mut self.dirty,
            };
            if context.name().as_bytes() == name {
                *place = Some(number);
            }
        }
    }
}
