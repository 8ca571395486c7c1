//! What a wait looks for in a line.

/// Text to find in a line: one piece, or several in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<String>,
    /// Whether a line that has not ended fits too.
    prompt: bool,
}

impl Pattern {
    /// A line that contains `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Self { parts: vec![text.into()], prompt: false }
    }

    /// A line that contains all of `parts` in this order, as `["BOOT slot=", "reason=confirmed"]`.
    pub fn parts<P: Into<String>>(parts: impl IntoIterator<Item = P>) -> Self {
        Self { parts: parts.into_iter().map(Into::into).collect(), prompt: false }
    }

    /// Text at which the cursor may be waiting: the line need not have ended.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self { parts: vec![text.into()], prompt: true }
    }

    /// Whether an unfinished line may fit.
    pub(super) fn fits_unfinished(&self) -> bool {
        self.prompt
    }

    /// Where the last part ends in `line`, if it fits.
    pub(super) fn find(&self, line: &str) -> Option<usize> {
        let mut from = 0;
        for part in &self.parts {
            from += line.get(from..)?.find(part.as_str())? + part.len();
        }
        Some(from)
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&Pattern> for Pattern {
    fn from(pattern: &Pattern) -> Self {
        pattern.clone()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.parts.join("`…`"))
    }
}
