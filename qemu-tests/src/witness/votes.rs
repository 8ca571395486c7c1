//! What a card remembers: the votes on it, read as the firmware reads them (V10, F1).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_core::id::RegisterId;
use bulkhead_core::provision::VOTES_AT;
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::store::{Fault, Owner, STORED_LEN, Stored, newest, offset};

/// Places that are looked at: all that a card has.
const PLACES: u16 = 129;

/// The votes on a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes(pub BTreeMap<u16, Stored>);

impl Votes {
    /// Reads a card. The witness should be off, or a block may be torn.
    ///
    /// # Errors
    /// When it is no card, or a register on it is lost.
    pub fn read(card: &Path) -> Result<Self> {
        let file = File::open(card).with_context(|| format!("cannot read {}", card.display()))?;
        let block = |offset: u64| {
            let mut bytes = [0; STORED_LEN];
            file.read_exact_at(&mut bytes, VOTES_AT + offset)?;
            Ok::<_, anyhow::Error>(bytes)
        };
        let owner = Owner::parse(&block(0)?).context("the card has no owner")?;
        let mut votes = BTreeMap::new();
        for place in 0..PLACES {
            let copies = [block(offset(place, 0))?, block(offset(place, 1))?];
            match newest(copies.map(|bytes| Stored::parse(&bytes, &owner))) {
                Ok(stored) => {
                    let RegisterId(register) = stored.register;
                    ensure!(votes.insert(register, stored).is_none(), "register {register} stands twice");
                }
                Err(Fault::Blank) => {}
                Err(fault) => bail!("the register at place {place} is lost: {fault}"),
            }
        }
        Ok(Self(votes))
    }

    /// Holds every register to what it was `before`: nothing that was answered is forgotten or undone.
    ///
    /// # Errors
    /// When one went back.
    pub fn follow(&self, before: &Self) -> Result<()> {
        for (register, old) in &before.0 {
            let new = self.0.get(register).with_context(|| format!("register {register} is gone"))?;
            let accepted = |stored: &Stored| {
                stored
                    .accepted
                    .as_ref()
                    .map_or((Ballot::NONE, 0), |(ballot, record)| (*ballot, record.epoch.0))
            };
            let ((ballot_old, epoch_old), (ballot, epoch)) = (accepted(old), accepted(new));
            let is_ahead = old.promised <= new.promised
                && ballot_old <= ballot
                && epoch_old <= epoch
                && old.seq <= new.seq
                && (ballot_old < ballot || old.accepted == new.accepted)
                && (old.seq < new.seq || old == new);
            ensure!(is_ahead, "register {register} went back:\nfrom {old:?}\nto {new:?}");
        }
        Ok(())
    }

    /// The highest epoch accepted in any register.
    pub fn epoch(&self) -> u64 {
        let epochs = self.0.values().filter_map(|stored| stored.accepted.as_ref());
        epochs.map(|(_, record)| record.epoch.0).max().unwrap_or(0)
    }

    /// How many changes are in it.
    pub fn changes(&self) -> u64 {
        self.0.values().map(|stored| stored.seq).sum()
    }
}
