//! A guest's own volume: beside its disks, hidden from it, and mirrored as they are, is all that a node needs
//! to start it or to have it go on (S3-06, S3-07, S3-10, S3-11; V1, V41).
//!
//! # Reading order
//!
//! 1. [`table`]: what is in it and where, in numbers; [`format`](mod@format): that in bytes.
//! 2. [`medium`]: blocks; [`stream`]: content on its way; [`contents`]: a volume, read and changed.
//! 3. [`served`]: a volume as the agent serves it; [`pair`]: which there are, made and deleted.
//! 4. [`keeping`]: a guest in it, and from there in its directory; [`state`]: its snapshots;
//!    [`moving`]: where it goes with what is on its disks, or came from.

pub mod contents;
pub mod format;
pub mod keeping;
pub mod medium;
pub mod moving;
pub mod pair;
pub mod served;
pub mod state;
pub mod stream;
pub mod table;

use crate::failure::Failure;
use crate::nbd::turns::of_session;
use bulkhead_core::volume::name::{NAME_MAX, Name};

/// What its name has behind the guest's.
pub const SUFFIX: &str = ".guest";

/// What the own volume of a guest is called.
///
/// # Errors
///
/// The name is too long for that, or none of a volume.
pub fn name(guest: &str) -> Result<Name, Failure> {
    Name::new(&format!("{guest}{SUFFIX}")).map_err(|_| {
        let most = NAME_MAX.saturating_sub(SUFFIX.len());
        let what = format!("guest {guest} cannot have a volume of its own");
        Failure::usage(what).next(format!("give it a name of {most} characters at most, or say --local."))
    })
}

/// Whether a volume is a guest's own.
#[must_use]
pub fn is_own(volume: &str) -> bool {
    guest(volume).is_some()
}

/// Whose own volume this is.
#[must_use]
pub fn guest(volume: &str) -> Option<&str> {
    volume.strip_suffix(SUFFIX).filter(|guest| !guest.is_empty())
}

/// Which volume an export is.
#[must_use]
pub fn of_export(export: &str) -> &str {
    let export = of_session(export).unwrap_or(export);
    export.strip_prefix('~').unwrap_or(export)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::turns::session;
    use crate::volume::route::between_nodes;

    #[test]
    fn an_own_volume_is_known_by_its_name() {
        assert_eq!(name("web1").unwrap().as_str(), "web1.guest");
        assert!(name(&"x".repeat(58)).is_ok());
        assert!(name(&"x".repeat(59)).unwrap_err().next.contains("58"));
        assert_eq!((guest("web1.guest"), guest(".guest"), guest("web1")), (Some("web1"), None, None));
        let exports = ["web1.guest".into(), between_nodes("web1.guest"), session("~web1.guest", 7)];
        assert!(exports.iter().all(|export: &String| is_own(of_export(export))), "{exports:?}");
        assert!(!is_own(of_export(&session("~web1", 7))));
    }
}
