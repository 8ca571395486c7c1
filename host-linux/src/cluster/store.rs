//! The durable state of this node's voter, as `core::register::store` lays it out (V10, V13; F1, F5, F14,
//! F15, F25).
//!
//! A change goes to copy 0 and is flushed; then it counts. Copy 1 follows before copy 0 of the same place is
//! written again. A write or a flush that failed is final: nobody knows what the disk holds, so this store
//! never calls anything durable again. What is read at the start is written again and flushed before it is
//! used: it may have come from a cache whose write never reached the disk.

use super::medium::{Found, Medium, Place};
use crate::failure::Failure;
use bulkhead_core::id::{NodeId, SiteId};
use bulkhead_core::register::store::{Fault, Owner, STORED_LEN, STRIDE, Stored, newest, offset, space};
use bulkhead_core::register::voters::Life;
use std::collections::BTreeMap;
use std::path::Path;

/// One structure.
pub type Bytes = [u8; STORED_LEN];

/// The state of the voter.
#[derive(Debug)]
pub struct Store<M> {
    medium: M,
    /// Places whose copy 1 is behind copy 0, and what it lacks.
    behind: BTreeMap<u16, Bytes>,
    failed: bool,
}

/// What a voter finds when it starts.
#[derive(Debug)]
pub struct Opened<M> {
    /// Where it goes on writing.
    pub store: Store<M>,
    /// Whose state it is.
    pub owner: Owner,
    /// Every register, with its place.
    pub registers: Vec<(u16, Stored)>,
    /// Whether it was made now: this node has not voted before, or its disk was replaced.
    pub is_new: bool,
}

/// Opens the votes of `node` of `site` in `state`, or on `device`, with room for `places` registers.
///
/// # Errors
///
/// They belong to somebody else, are damaged, or another length was found: this node must not vote.
pub fn open(
    state: &Path,
    device: Option<&Path>,
    site: SiteId,
    node: NodeId,
    places: u16,
) -> Result<Opened<Place>, Failure> {
    let found = match device {
        Some(device) => Place::on_device(device, space(places))?,
        None => Place::in_directory(state, space(places))?,
    };
    let mut life = [0; 4];
    getrandom::fill(&mut life)
        .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
    // Zero would be "not seen yet".
    let fresh = Owner { site, node, life: Life(u32::from_le_bytes(life).max(1)) };
    let place = match found {
        Found::Used(place) | Found::New(place) => place,
    };
    let path = place.path().to_owned();
    open_on(place, fresh, places).map_err(|trouble| trouble.failure(&path))
}

/// Why a voter cannot use its state.
#[derive(Debug)]
pub enum Trouble {
    /// The medium failed.
    Io(std::io::Error),
    /// It says whose it is, and that is not this node: which site, which node.
    Foreign(Owner),
    /// A structure cannot be used: the owner, or the register at a place.
    Fault(Option<u16>, Fault),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Trouble {
    fn failure(&self, path: &Path) -> Failure {
        let path = path.display();
        let (what, next) = match self {
            Self::Io(error) => (
                format!("{path} cannot be read or written: {error}"),
                "replace the disk; the node then comes back as a new voter.",
            ),
            Self::Foreign(owner) => (
                format!(
                    "{path} holds the votes of node {} of site {}",
                    owner.node.0,
                    crate::site_config::value::site_text(owner.site)
                ),
                "put the right disk into this node, or correct `site.id` and `local.node`.",
            ),
            Self::Fault(place, fault) => {
                let whose =
                    place.map_or_else(|| "its owner".to_owned(), |place| format!("register place {place}"));
                let next = "if its votes are lost, move the file away (or zero the partition's second \
                            mebibyte): the node comes back as a new voter.";
                (format!("{path} cannot be used: {whose}: {fault}"), next)
            }
        };
        Failure::refused(what).left("This node does not vote.").next(next)
    }
}

/// As [`open`], on any medium. `fresh` is who this node is if the medium is blank.
///
/// # Errors
///
/// [`Trouble`].
pub fn open_on<M: Medium>(mut medium: M, fresh: Owner, places: u16) -> Result<Opened<M>, Trouble> {
    let found = read_owner(&medium)?;
    let (owner, is_new) = match found {
        Some(owner) if (owner.site, owner.node) != (fresh.site, fresh.node) => {
            return Err(Trouble::Foreign(owner));
        }
        Some(owner) => (owner, false),
        None => (fresh, true),
    };
    if is_new {
        // A cut before the owner is durable leaves no voter; what it had begun is begun again.
        for place in 0..places {
            medium.write(offset(place, 0), &[0; STORED_LEN])?;
            medium.write(offset(place, 1), &[0; STORED_LEN])?;
        }
        medium.flush()?;
    }
    for at in [0, STRIDE] {
        medium.write(at, &owner.encode())?;
        medium.flush()?;
    }
    let mut registers = Vec::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut end = None;
    for place in 0..places {
        let mut copies = [Err(Fault::Blank), Err(Fault::Blank)];
        for (copy, read) in (0..).zip(&mut copies) {
            let mut bytes = [0; STORED_LEN];
            medium.read(offset(place, copy), &mut bytes)?;
            *read = Stored::parse(&bytes, &owner);
        }
        let zero_is_newest = match &copies {
            [Ok(a), Ok(b)] => b.seq <= a.seq,
            [Ok(_), Err(_)] => true,
            [Err(_), Ok(_) | Err(_)] => false,
        };
        let was_settled = !matches!(copies, [_, Err(Fault::Blank)]);
        match (end, newest(copies)) {
            (Some(end), _) if was_settled => return Err(Trouble::Fault(Some(end), Fault::Damaged)),
            // Places fill in order. What lies behind the end was written together with what is missing before
            // it, and cut: nothing was answered from it, and it would be taken for the next register here.
            (Some(_), _) | (None, Err(Fault::Blank)) => {
                end = end.or(Some(place));
                first.push((offset(place, 0), [0; STORED_LEN]));
                second.push((offset(place, 1), [0; STORED_LEN]));
            }
            (None, Ok(stored)) => {
                let bytes = stored.encode(&owner);
                // The copy that was not used comes first, so that the one that was is whole meanwhile.
                let (other, used) = if zero_is_newest { (1, 0) } else { (0, 1) };
                first.push((offset(place, other), bytes));
                second.push((offset(place, used), bytes));
                registers.push((place, stored));
            }
            (None, Err(fault @ (Fault::Damaged | Fault::NewerFormat { .. } | Fault::Foreign))) => {
                return Err(Trouble::Fault(Some(place), fault));
            }
        }
    }
    for half in [first, second] {
        for (at, bytes) in half {
            medium.write(at, &bytes)?;
        }
        medium.flush()?;
    }
    let store = Store { medium, behind: BTreeMap::new(), failed: false };
    Ok(Opened { store, owner, registers, is_new })
}

/// Whose the medium is; `None` when it never was anybody's: then nothing was ever answered from it.
fn read_owner<M: Medium>(medium: &M) -> Result<Option<Owner>, Trouble> {
    let mut copies = [Err(Fault::Blank), Err(Fault::Blank)];
    for (at, read) in [0, STRIDE].into_iter().zip(&mut copies) {
        let mut bytes = [0; STORED_LEN];
        medium.read(at, &mut bytes)?;
        *read = Owner::parse(&bytes);
    }
    match copies {
        [Ok(owner), _] | [Err(Fault::Blank | Fault::Damaged), Ok(owner)] => Ok(Some(owner)),
        [Err(Fault::Blank), Err(Fault::Blank)] | [Err(Fault::Damaged), Err(Fault::Blank)] => Ok(None),
        [Err(fault), Ok(_) | Err(_)] => Err(Trouble::Fault(None, fault)),
    }
}

/// A write or a flush failed, now or before: this voter is silent from now on (V13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl<M: Medium> Store<M> {
    /// Makes all of `changes` durable together, each at its place.
    ///
    /// # Errors
    ///
    /// [`Failed`], for ever.
    pub fn persist(&mut self, changes: &BTreeMap<u16, Bytes>) -> Result<(), Failed> {
        if changes.keys().any(|place| self.behind.contains_key(place)) {
            self.settle()?;
        }
        let writes: Vec<_> = changes.iter().map(|(place, bytes)| (offset(*place, 0), *bytes)).collect();
        self.write(&writes)?;
        self.behind.extend(changes);
        Ok(())
    }

    /// Brings every copy 1 up to its copy 0: when there is time, and before copy 0 is written again.
    ///
    /// # Errors
    ///
    /// [`Failed`], for ever.
    pub fn settle(&mut self) -> Result<(), Failed> {
        if self.behind.is_empty() {
            return if self.failed { Err(Failed) } else { Ok(()) };
        }
        let writes: Vec<_> = self.behind.iter().map(|(place, bytes)| (offset(*place, 1), *bytes)).collect();
        self.write(&writes)?;
        self.behind.clear();
        Ok(())
    }

    fn write(&mut self, writes: &[(u64, Bytes)]) -> Result<(), Failed> {
        if self.failed {
            return Err(Failed);
        }
        let medium = &mut self.medium;
        let mut all = writes.iter();
        let written = all.try_for_each(|(at, bytes)| medium.write(*at, bytes)).and_then(|()| medium.flush());
        self.failed = written.is_err();
        written.map_err(|_| Failed)
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
