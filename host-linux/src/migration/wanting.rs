//! In which pair a guest is wanted that moves from one to another with a volume of its own: in the one that
//! it leaves until the moment before it is given away, in the other one from when it runs there, and never in
//! both (S0-11, X15; I5). Two catalogues are no one write, so between the two it is wanted in neither.

use super::departure::Leaving;
use super::disks;
use crate::failure::Failure;
use crate::guests::own_volume::pair::want;
use crate::guests::record::{Record, Way};

impl Leaving {
    /// Whether it has a volume of its own, which went before it.
    pub(super) fn is_own(&self) -> bool {
        self.settings.with_disks && disks::is_own(self.settings.record.as_deref())
    }

    /// From here on nobody begins it in this pair by itself. It stands still, and was not given away.
    pub(super) fn want_no_more(&self) -> Result<(), Failure> {
        if self.is_own() { want(&self.settings.agent, self.name(), false, None) } else { Ok(()) }
    }

    /// It stays here: whoever leads is to begin it again when it is gone.
    pub(super) fn want_again(&self) {
        if self.is_own() && want(&self.settings.agent, self.name(), true, None).is_err() {
            // The agent says it when it is there again and leads, as of a guest that has come here.
            let came = Record { unsaid: true, ..Record::now(Way::From, &self.settings.node, true) };
            let _ = self.settings.record.as_ref().map(|path| came.save(path));
        }
    }
}
