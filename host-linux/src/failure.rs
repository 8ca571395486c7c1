//! Why a command did not do what it was asked, and what it left behind.
//!
//! The one place that makes error text: what happened, to what, what state it left, what next.

use std::path::Path;

/// The exit codes; documented in `bulkhead --help`, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// It would endanger the node or its data, so it was not done.
    Refused,
}

impl Exit {
    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
        }
    }

    /// The word in `--json` answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
        }
    }
}

/// What a command answers when it did not do what it was asked.
#[must_use = "a failure that is dropped is a silent one"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process exits.
    pub exit: Exit,
    /// What happened, to what: a sentence without its full stop.
    pub what: String,
    /// What state it left: sentences.
    pub left: String,
    /// What to do next: a sentence, or nothing where there is nothing sensible to do.
    pub next: String,
}

/// What nearly all refusals leave.
pub const NOTHING_WRITTEN: &str = "Nothing was written.";

impl Failure {
    fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), left: NOTHING_WRITTEN.into(), next: String::new() }
    }

    /// It was tried and failed; until [`Self::left`] says otherwise, nothing was written.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// The arguments contradict each other.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// It was not done because it would endanger the node or its data.
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Exit::Refused, what)
    }

    /// The operating system refused `verb` on `path`.
    pub fn io(verb: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::failed(format!("cannot {verb} {}: {error}", path.display()))
    }

    /// Says what state was left.
    pub fn left(mut self, left: impl Into<String>) -> Self {
        self.left = left.into();
        self
    }

    /// Says what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// The text for people.
    pub fn text(&self) -> String {
        let mut text = format!("bulkhead: {}. {}\n", self.what, self.left);
        if !self.next.is_empty() {
            text.push_str("  Next: ");
            text.push_str(&self.next);
            text.push('\n');
        }
        text
    }

    /// The answer for machines.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": false,
            "error": {
                "kind": self.exit.name(),
                "code": self.exit.code(),
                "what": self.what,
                "left": self.left,
                "next": self.next,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_happened_what_is_left_and_what_next() {
        let failure = Failure::refused("slot a is the one that is running").next("flash slot b.");
        assert_eq!(
            failure.text(),
            "bulkhead: slot a is the one that is running. Nothing was written.\n  Next: flash slot b.\n"
        );
        assert_eq!(Failure::failed("x").left("y").text(), "bulkhead: x. y\n");
        assert_eq!(failure.json()["error"]["code"], 3);
    }
}
