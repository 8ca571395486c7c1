//! A guest of this node is looked at: whether its process is there, and how it ended if it is not.

use crate::guests::home::Home;
use crate::vmm::guest::Ended;
use crate::vmm::in_use::is_in_use;
use bulkhead_core::failover::life::Sight;
use std::path::{Path, PathBuf};

/// The file beside a guest's description with the word for its end, if it came to one.
const FILE: &str = "ended";

/// Where a guest's process notes how the guest ended.
#[must_use]
pub fn note_beside(description: &Path) -> PathBuf {
    description.with_file_name(FILE)
}

/// What is seen of a guest.
#[must_use]
pub fn look(home: &Home) -> Sight {
    let description = home.description();
    if is_in_use(&description) {
        return Sight::Runs;
    }
    match std::fs::read_to_string(note_beside(&description)) {
        // Whoever else ends it says so beforehand; what a machine that stops ends is to run elsewhere.
        Ok(word) if word == Ended::Off.name() => Sight::Ended,
        Ok(_) | Err(_) => Sight::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::home::Homes;
    use crate::vmm::in_use::InUse;

    #[test]
    fn a_guest_is_there_or_gone_or_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let description = directory.path().join("web1/guest.toml");
        std::fs::create_dir(description.parent().unwrap()).unwrap();
        std::fs::write(&description, "").unwrap();
        let home = Homes::at(directory.path()).find("web1").unwrap();
        assert_eq!(look(&home), Sight::Gone, "nobody knows");
        let words =
            [("off", Sight::Ended), ("stopped", Sight::Gone), ("moved", Sight::Gone), ("x", Sight::Gone)];
        for (word, sight) in words {
            std::fs::write(note_beside(&description), word).unwrap();
            assert_eq!(look(&home), sight, "{word}");
        }
        let _runs = InUse::lock(&description).unwrap();
        assert_eq!(look(&home), Sight::Runs, "whatever it noted before");
    }
}
