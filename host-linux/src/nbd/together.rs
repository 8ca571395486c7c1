//! Answers that leave together: storage that completes many requests at once makes one call a connection.

use super::line::Line;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// Connections whose answers are held back by [`together`] on this thread.
    static HELD: RefCell<Option<Vec<Arc<Line>>>> = const { RefCell::new(None) };
}

/// Sends what was held back, also when the work that held it panics.
struct Send;

impl Drop for Send {
    fn drop(&mut self) {
        HELD.take().unwrap_or_default().iter().for_each(|line| line.flush());
    }
}

/// Answers that `work` finishes on this thread leave together when it is done: one call a connection instead
/// of one an answer. For storage that completes many requests at once. Inside another one it adds nothing.
pub fn together<R>(work: impl FnOnce() -> R) -> R {
    let outermost = HELD.with_borrow_mut(|held| {
        let outermost = held.is_none();
        held.get_or_insert_default();
        outermost
    });
    let _send = outermost.then_some(Send);
    work()
}

/// Remembers `line` for the end of [`together`], if that is where we are.
#[must_use]
pub fn later(line: &Arc<Line>) -> bool {
    HELD.with_borrow_mut(|held| {
        let Some(held) = held else { return false };
        if !held.iter().any(|one| Arc::ptr_eq(one, line)) {
            held.push(Arc::clone(line));
        }
        true
    })
}
