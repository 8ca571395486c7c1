//! The modes of a holder, and the way out of each (X14).

/// What a holder is, for traces and for the operator's view. It follows from the holder's log, its role and
/// the register, and is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A run of this start is on its way to the superblock. Exit: it is durable.
    Opening,
    /// Its log lacks writes that were durable in it. Exit: a primary offers to feed it; its log is made anew.
    Damaged,
    /// Its log is being made anew. Exit: that is durable.
    Remaking,
    /// It follows, or waits for somebody to follow. Exit: it takes the register.
    Following,
    /// It has the register, and its log and its promise are not durable yet. Exit: they are.
    Taking,
    /// It leads. Exit: the register is lost.
    Leading,
    /// Its log failed. Final until the holder starts again.
    Failed,
}

impl Mode {
    /// The name used in [`EDGES`].
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Damaged => "damaged",
            Self::Remaking => "remaking",
            Self::Following => "following",
            Self::Taking => "taking",
            Self::Leading => "leading",
            Self::Failed => "failed",
        }
    }
}

/// Every change of mode in one step. A test walks all of them and finds no other.
pub const EDGES: &[(&str, &str)] = &[
    ("opening", "following"),
    ("opening", "failed"),
    ("damaged", "remaking"),
    ("damaged", "failed"),
    ("remaking", "following"),
    ("remaking", "failed"),
    ("following", "taking"),
    ("following", "remaking"),
    ("following", "failed"),
    ("taking", "leading"),
    ("taking", "following"),
    ("taking", "remaking"),
    ("taking", "failed"),
    ("leading", "following"),
    ("leading", "failed"),
];
