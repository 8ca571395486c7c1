//! What other threads tell that of a group, and whether it must be woken for it: who tells it something while
//! it works makes no system call.

use super::handle::{Told, lock};
use std::sync::Mutex;

/// What was told and is not looked at yet, in order.
#[derive(Default)]
pub struct Mailbox(Mutex<State>);

#[derive(Default)]
struct State {
    told: Vec<Told>,
    /// The thread waits, or is about to, and nobody has woken it since it said so.
    sleeps: bool,
}

impl Mailbox {
    /// Puts these behind the others. Whether the thread is to be woken: it looks by itself otherwise.
    #[must_use]
    pub fn put(&self, told: impl IntoIterator<Item = Told>) -> bool {
        let mut state = lock(&self.0);
        state.told.extend(told);
        std::mem::take(&mut state.sleeps)
    }

    /// The thread is awake, and looks at all of it.
    pub fn take(&self) -> Vec<Told> {
        let mut state = lock(&self.0);
        state.sleeps = false;
        std::mem::take(&mut state.told)
    }

    /// The thread is about to wait. Not while there is something to look at: `false`.
    #[must_use]
    pub fn sleep(&self) -> bool {
        let mut state = lock(&self.0);
        state.sleeps = state.told.is_empty();
        state.sleeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is told to a thread that goes to sleep over it, and one that is awake is not woken.
    #[test]
    fn who_sleeps_is_woken_once_and_who_works_is_not() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.put([Told::Mend]), "it does not wait yet");
        assert!(!mailbox.sleep(), "there is something to look at");
        assert_eq!(mailbox.take().len(), 1);
        assert!(mailbox.sleep());
        assert!(mailbox.put([Told::Mend]));
        assert!(!mailbox.put([Told::Mend, Told::Mend]), "it is woken already");
        assert_eq!(mailbox.take().len(), 3);
        // It woke by itself, and works.
        assert!(mailbox.sleep() && mailbox.take().is_empty());
        assert!(!mailbox.put([Told::Mend]) && !mailbox.sleep());
    }
}
