//! A store that several holders reach: one of them has it at a time, and locks say which (S4-03; I1, F19,
//! V5).
//!
//! A lease says who leads. It does not keep a process that stood still from writing what it had begun, which
//! in a store of its own harms nobody else. This one is everybody's. So whoever leads has the file
//! `shared` locked there, and each file that it writes; another one leads only with these locks, which it
//! gets when the one before has closed its files, has died, or its machine was cut off by the file system
//! itself: a cluster's takes a lock from a node when that is fenced, a server's from a client when it refuses
//! what that client writes from then on.
//!
//! What is in the file says who has the store (`bulkhead_core::volume::tenure`). A holder that follows looks
//! there whether it reaches the very store that its primary leads with, and not an empty directory under a
//! mount that is missing.

use super::handle::lock;
use crate::failure::Failure;
use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
use bulkhead_core::volume::tenure::{HOST_LEN, TENURE_LEN, Tenure};
use rustix::fs::{major, minor, stat, statfs};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The file that is locked.
const FILE: &str = "shared";

/// So long a file may stay locked by whoever has lost the file of all: a process that dies closes its files
/// one by one.
const CLOSING_MAX: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(5);

/// File systems whose locks hold between machines, by what `statfs` says, and the mount options with which
/// they do not.
const BETWEEN_MACHINES: [(u32, &str, &[&str]); 5] = [
    (0x6969, "NFS", &["nolock", "local_lock=all", "local_lock=flock"]),
    (0x0116_1970, "GFS2", &["localflocks"]),
    (0x7461_636f, "OCFS2", &["localflocks"]),
    (0x00c3_6400, "CephFS", &[]),
    (0x0bd0_0bd0, "Lustre", &["localflock", "noflock"]),
];

/// This holder's part in it.
#[derive(Debug)]
pub struct Tenancy {
    path: PathBuf,
    site: SiteId,
    group: GroupId,
    me: NodeId,
    host: [u8; HOST_LEN],
    is_between_machines: bool,
    /// The locked file, while this holder has the store.
    held: Mutex<Option<File>>,
}

/// What whoever has the store, or wants to, asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To have it. Answered by [`Said::Took`].
    Take,
    /// To say that it is had under this epoch. Not answered.
    Mark(Epoch),
    /// To know who has it. Answered by [`Said::Saw`].
    Look,
    /// To have it no more, when all that was asked for before is done. Not answered.
    Leave,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is had, and this is who had it before; or why it is not.
    Took(Result<Option<Tenure>, String>),
    /// Who has it, or had it last; or why that is not known.
    Saw(Result<Option<Tenure>, String>),
}

impl Tenancy {
    /// Of the store in this directory.
    ///
    /// # Errors
    ///
    /// The file system is mounted so that its locks hold on one machine only, or says nothing about itself.
    pub fn open(directory: &Path, site: SiteId, group: GroupId, me: NodeId) -> Result<Self, Failure> {
        let failed = |error: Error| Failure::io("look at the file system of", directory, &error);
        let kind = statfs(directory).map_err(|errno| failed(errno.into()))?.f_type;
        let found = BETWEEN_MACHINES.iter().find(|(magic, ..)| u64::from(*magic) == kind.unsigned_abs());
        if let Some((_, name, local)) = found {
            let options = options(directory).map_err(failed)?;
            if let Some(option) = local.iter().find(|option| options.split(',').any(|one| one == **option)) {
                let what = format!(
                    "{} is on {name} mounted with `{option}`: its locks hold on this machine only, and a \
                     lease alone keeps no late write of another node from a store that both reach",
                    directory.display()
                );
                let next = format!("mount it without `{option}`, or give each node a store of its own.");
                return Err(Failure::refused(what).left("Nothing was started.").next(next));
            }
        }
        let is_between_machines = found.is_some();
        let (path, held) = (directory.join(FILE), Mutex::default());
        Ok(Self { path, site, group, me, host: host(), is_between_machines, held })
    }

    /// Whether this holder has the store.
    pub fn is_held(&self) -> bool {
        lock(&self.held).is_some()
    }

    /// Has the store from now on, unless another one has it. Returns who had it before.
    ///
    /// # Errors
    ///
    /// Who has it; or the file system refuses, or the file is none of this group's.
    pub fn take(&self) -> Result<Option<Tenure>, String> {
        let failed = |error: Error| format!("cannot lock {}: {error}", self.path.display());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => return Err(self.is_anothers()),
        }
        let tenure = self.read(&file)?;
        *lock(&self.held) = Some(file);
        Ok(tenure)
    }

    fn is_anothers(&self) -> String {
        let path = self.path.display();
        match self.look() {
            Ok(Some(Tenure { node, epoch, .. })) => format!(
                "the store of all holders is still that of node {}, which led under epoch {} ({path} is \
                 locked): it is free when that agent has left it or ended, or its machine is powered off",
                node.0, epoch.0
            ),
            Ok(None) | Err(_) => format!("another process has locked {path}: end it"),
        }
    }

    /// Says durably under which epoch this holder has it.
    ///
    /// # Errors
    ///
    /// It has it not, or the file system refuses.
    pub fn mark(&self, epoch: Epoch) -> Result<(), Error> {
        let held = lock(&self.held);
        let file = held.as_ref().ok_or_else(|| self.not_ours())?;
        let Self { site, group, me: node, host, .. } = *self;
        file.write_all_at(&Tenure { site, group, node, epoch, host }.encode(), 0)?;
        file.sync_all()
    }

    /// Who has it, or had it last; `None`: nobody ever.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none of this group's.
    pub fn look(&self) -> Result<Option<Tenure>, String> {
        match File::open(&self.path) {
            Ok(file) => self.read(&file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", self.path.display())),
        }
    }

    fn read(&self, mut file: &File) -> Result<Option<Tenure>, String> {
        let unusable = |why: &dyn std::fmt::Display| format!("{} cannot be used: {why}", self.path.display());
        let mut bytes = Vec::new();
        let length = u64::try_from(TENURE_LEN).unwrap_or(u64::MAX).saturating_add(1);
        file.by_ref().take(length).read_to_end(&mut bytes).map_err(|error| unusable(&error))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let bytes = <&[u8; TENURE_LEN]>::try_from(bytes.as_slice());
        let bytes = bytes.map_err(|_| unusable(&"it has not the length of one"))?;
        let tenure = Tenure::decode(bytes).map_err(|fault| unusable(&fault))?;
        if (tenure.site, tenure.group) != (self.site, self.group) {
            return Err(unusable(&"it is the store of another group"));
        }
        Ok(Some(tenure))
    }

    /// Whether a store that is said to be somebody's is where this holder can take it over.
    ///
    /// # Errors
    ///
    /// Both machines reach it, and its file system is not made for that, as far as is known.
    pub fn is_in_reach(&self, of: &Tenure) -> Result<(), String> {
        if self.is_between_machines || of.host == self.host {
            return Ok(());
        }
        Err(format!(
            "{} is on a file system whose locks are not known to hold between machines, and node {} runs on \
             another one: share it by NFS, GFS2, OCFS2, CephFS or Lustre, or give each node its own store",
            self.path.display(),
            of.node.0
        ))
    }

    /// Has the store no more, as soon as what is returned is dropped: when nothing is open there.
    pub fn close(&self) -> Option<File> {
        lock(&self.held).take()
    }

    /// What is asked of the store of another one.
    pub fn not_ours(&self) -> Error {
        Error::other(format!("{} is not this node's now", self.path.display()))
    }
}

/// Locks a file of a store that this holder has.
///
/// # Errors
///
/// Somebody else has it locked, and does not close it; or the file system refuses.
pub fn lock_file(file: &File) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begin.elapsed() < CLOSING_MAX => std::thread::sleep(AGAIN),
            done => return done.map_err(Error::from),
        }
    }
}

/// The mount options of the file system that has this directory, those of the file system itself included.
fn options(directory: &Path) -> Result<String, Error> {
    let device = stat(directory)?.st_dev;
    let number = format!("{}:{}", major(device), minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let of = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.get(2) == Some(&number.as_str());
        Some(format!("{},{}", fields.get(5)?, fields.last()?)).filter(|_| is_it)
    };
    Ok(mounts.lines().filter_map(of).collect::<Vec<_>>().join(","))
}

/// The boot id of this machine; zeroes: it says none.
fn host() -> [u8; HOST_LEN] {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().as_bytes().try_into().unwrap_or([0; HOST_LEN])
}

#[cfg(test)]
#[path = "tenancy_tests.rs"]
mod tests;
