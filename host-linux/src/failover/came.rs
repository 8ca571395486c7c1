//! A guest that came from another pair with its own volume is said to be wanted in this one, once it is known
//! to have been given to this node: by the agent, for the guest's process may end at any moment (S0-11, X15).

use super::service::Settings;
use crate::failure::Failure;
use crate::guests::home::Home;
use crate::guests::own_volume::moving;
use crate::guests::own_volume::pair::{self, Says};
use crate::guests::record::Record;
use crate::migration::disks::partial;
use crate::vmm::description::Description;
use crate::vmm::in_use::is_in_use;

/// Whether a guest came that nobody is said to want yet. A process that does not run it after all takes back
/// what it noted before it ends, and before it says so: so what stands there counts when the process has
/// ended, or when it runs the guest, which it says by taking away what was noted of its disks.
#[must_use]
pub fn is_unsaid(home: &Home) -> bool {
    let (record, description) = (home.record(), home.description());
    // In this order: what is noted is read last.
    let is_final = || !is_in_use(&description) || !partial::beside(&description).exists();
    record.exists() && is_final() && Record::load(&record).is_ok_and(|it| it.is_some_and(|it| it.unsaid))
}

/// Says it, durably on both sides; returns from which node it came.
///
/// # Errors
///
/// This node does not lead, or the agent does not answer: it is said again later.
pub fn say(settings: &Settings, guest: &str) -> Result<String, Failure> {
    let home = settings.homes.find(guest)?;
    let says = Says::of(&Description::read(&home.description())?);
    pair::want(&settings.agent, guest, true, Some(says))?;
    moving::forget(&settings.agent, guest)?;
    let from = Record::load(&home.record())?.map_or_else(String::new, |record| record.node);
    Record::settle(&home.record()).map(|()| from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::home::Homes;
    use crate::guests::record::Way;
    use crate::vmm::in_use::InUse;

    /// I5: as long as a process may say that the guest does not run here, nobody says that it is wanted here.
    #[test]
    fn a_guest_came_when_nobody_can_take_that_back() {
        let directory = tempfile::tempdir().unwrap();
        let description = directory.path().join("web1/guest.toml");
        std::fs::create_dir(description.parent().unwrap()).unwrap();
        std::fs::write(&description, "").unwrap();
        let home = Homes::at(directory.path()).find("web1").unwrap();
        let coming = partial::beside(&description);
        assert!(!is_unsaid(&home), "nothing ever came");
        Record { unsaid: true, ..Record::now(Way::From, "a1", true) }.save(&home.record()).unwrap();
        std::fs::write(&coming, "").unwrap();
        let process = InUse::lock(&description).unwrap();
        assert!(!is_unsaid(&home), "its process may fail still");
        std::fs::remove_file(&coming).unwrap();
        assert!(is_unsaid(&home), "it runs");
        std::fs::write(&coming, "").unwrap();
        drop(process);
        assert!(is_unsaid(&home), "nobody has taken it back");
        Record::settle(&home.record()).unwrap();
        assert!(!is_unsaid(&home), "it is said");
    }
}
