//! What is on the disk: partitions, boot control block, confirmation marks.

use super::console::say;
use super::disk::{Disk, NoDisk};
use super::record;
use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::state::Bcb;
use bulkhead_core::block::Extent;
use bulkhead_core::container::mark::Mark;
use bulkhead_core::gpt::layout::{Layout, LayoutFault};
use bulkhead_core::gpt::reading::{NoTable, Reading, State};
use bulkhead_core::plan::{DiskOffset, SECTOR};
use bulkhead_core::slot::{PerSlot, SlotId};
use core::fmt;

/// Why there is nothing to boot from.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoSurvey {
    Disk(NoDisk),
    Table(NoTable),
    Layout(LayoutFault),
}

impl From<NoDisk> for NoSurvey {
    fn from(fault: NoDisk) -> Self {
        Self::Disk(fault)
    }
}

impl fmt::Display for NoSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(fault) => fault.fmt(f),
            Self::Table(fault) => fault.fmt(f),
            Self::Layout(fault) => write!(f, "not a Bulkhead node disk: {fault}"),
        }
    }
}

/// The disk and what was found on it.
pub(super) struct Survey {
    pub(super) disk: Disk,
    pub(super) layout: Layout,
    pub(super) table: State,
    pub(super) copies: Copies,
    /// Read only when both copies of the block are lost.
    pub(super) marks: PerSlot<Option<Mark>>,
}

impl Survey {
    /// Reads it all.
    pub(super) fn of(mut disk: Disk) -> Result<Self, NoSurvey> {
        let mut reading = Reading::new(disk.geometry());
        while let Some(extent) = reading.wants() {
            let pages = disk.extent(extent);
            reading.supply(pages.as_ref().map(super::memory::Pages::bytes));
        }
        let found = reading.finish().map_err(NoSurvey::Table)?;
        let layout = Layout::find(&found.table, disk.geometry().block_size).map_err(NoSurvey::Layout)?;
        let lost = Copies::parse([None, None]);
        let mut survey = Self { disk, layout, table: found.state, copies: lost, marks: PerSlot::default() };
        survey.read_copies();
        if survey.copies.newest().is_none() {
            for slot in SlotId::ALL {
                let at = survey.layout.slot(slot).mark;
                *survey.marks.get_mut(slot) = survey.sector(at).and_then(|bytes| Mark::parse(&bytes));
            }
            survey.copies = survey.copies.resume_after(&survey.marks);
        }
        Ok(survey)
    }

    /// Reads the boot control block again. While it is lost, the marks still say which sequence
    /// numbers were used.
    pub(super) fn read_copies(&mut self) {
        let [first, second] = self.layout.bcb_copies().map(|at| self.sector(at));
        self.copies = Copies::parse([first.as_ref(), second.as_ref()]).resume_after(&self.marks);
    }

    /// The first 512 bytes at `at`; `None` when they could not be read.
    pub(super) fn sector(&mut self, at: DiskOffset) -> Option<[u8; SECTOR]> {
        let block = Extent::with_len(self.disk.block_at(at.0), 1)?;
        self.disk.extent(block)?.bytes().first_chunk().copied()
    }

    /// Makes `bcb` the boot control block, durably, and reads it back. `false` when it is not.
    pub(super) fn record(&mut self, bcb: &Bcb) -> bool {
        let plan = self.copies.write(self.layout.bcb_copies(), bcb);
        let written = record::carry_out(&mut self.disk, &plan);
        if let Err(status) = written {
            say!("the boot control block could not be written: {status}");
        }
        self.read_copies();
        let stored = self.copies.newest().is_some_and(|stored| stored.bcb == *bcb);
        if written.is_ok() && !stored {
            say!("the boot control block did not read back as written");
        }
        written.is_ok() && stored
    }

    /// Says what is damaged; a sound disk needs no words.
    pub(super) fn report(&self) {
        if self.table != State::Good {
            say!("partition table: {}", self.table);
        }
        for (name, copy) in ["first", "second"].into_iter().zip(self.copies.each()) {
            if let Err(damage) = copy {
                say!("{name} copy of the boot control block: {damage}");
            }
        }
    }
}
