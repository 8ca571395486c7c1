//! What root may, set aside (capabilities(7)): a thread has what it began with, so the process gives all of
//! it up before it has other threads, but for the one that makes taps. That ends before the guest begins.

use crate::failure::Failure;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use std::io::{Error, Result as IoResult};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

const STACK: usize = 128 << 10;

/// What there is to do for who has the rights.
type Work = Box<dyn FnOnce() + Send>;

/// The thread that has them still, if there is one. Rights are the process's, and so is this.
static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

struct Keeper {
    tell: Sender<Work>,
    thread: JoinHandle<()>,
}

/// Gives up what this thread, its only one, and all that it begins, may beyond their user; [`with`] may still
/// set up networks.
///
/// # Errors
///
/// The system refuses it, or has no thread.
pub fn set_aside() -> Result<(), Failure> {
    let failed = |error: Error| {
        Failure::failed(format!("cannot give up the rights that a guest's process needs not: {error}"))
    };
    let has = capabilities(None).map_err(|error| failed(error.into()))?;
    if has.effective.contains(CapabilitySet::SETPCAP) {
        drop_bounds();
    }
    let networks = has.permitted & CapabilitySet::NET_ADMIN;
    if !networks.is_empty() {
        keep_only(networks).map_err(failed)?;
        let (tell, told) = channel::<Work>();
        let thread = std::thread::Builder::new().name("rights".into()).stack_size(STACK);
        let thread = thread.spawn(move || serve(&told)).map_err(failed)?;
        *KEEPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Keeper { tell, thread });
    }
    keep_only(CapabilitySet::empty()).map_err(failed)
}

/// Does it with the rights that were set aside; in a process that set none aside, with those that it has.
/// `None`: it panicked.
pub fn with<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(keeper) = keeper.as_ref() else { return Some(work()) };
    let (answer, answered) = channel();
    let work = move || {
        // Who asked waits for it.
        let _ = answer.send(work());
    };
    keeper.tell.send(Box::new(work)).ok()?;
    answered.recv().ok()
}

/// Nobody has them any more.
pub fn give_up() {
    let keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Keeper { tell, thread }) = keeper {
        drop(tell);
        // One that panicked has ended, too.
        let _ = thread.join();
    }
}

fn serve(told: &Receiver<Work>) {
    told.iter().for_each(|work| work());
}

/// No program that this process could begin gets any by its file.
fn drop_bounds() {
    for right in CapabilitySet::all().iter() {
        // A kernel that does not know one has none to give.
        let _ = remove_capability_from_bounding_set(right);
    }
}

/// This thread has these, and no others.
fn keep_only(rights: CapabilitySet) -> IoResult<()> {
    // A kernel without ambient rights (before 4.3) has none to clear.
    let _ = clear_ambient_capability_set();
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: rights, permitted: rights, inheritable })?;
    let left = capabilities(None)?;
    match left.permitted == rights && left.inheritable == inheritable {
        true => Ok(()),
        false => Err(Error::other("they are still there")),
    }
}
