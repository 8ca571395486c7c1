//! Blocks of this store that are damaged, and what other holders have there (V5, V14, X14; F4, F7, F10).
//!
//! ```text
//! reader, scrub ── heal ──▶ mends ── told ──▶ group ── wants ──▶ another holder
//!                             ▲                 │
//!                             └── answered ── mend, lacks
//! ```
//!
//! # Why what is mended is what was there
//!
//! Only a holder in sync is asked, which has every write that was acknowledged, and it answers when it has
//! shown all that this one had shown when it asked. So its block has every write to it that this store has,
//! and nothing that a failover could take back (I10, I12). Writes of later than that are dirty here, and go
//! to the store behind it. And only a block that is still damaged is written: what came there meanwhile
//! stays.

use super::applier::is_full;
use super::handle::{Shared, Told, lock};
use super::store::Damaged;
use crate::cluster::clock;
use bulkhead_core::id::NodeId;
use bulkhead_core::volume::CATALOGUE;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Error;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A holder that has not answered by then is not waited for.
const WAIT: Duration = Duration::from_secs(2);

/// Blocks that nobody could mend, of which it is known which they are.
const KNOWN_MAX: usize = 1024;

/// What is asked, and what became of it.
#[derive(Debug, Default)]
pub struct Mends {
    state: Mutex<State>,
    answered: Condvar,
    /// Held while a block is mended: whether none is any more.
    is_over: Mutex<bool>,
}

#[derive(Debug, Default)]
struct State {
    asked: BTreeMap<Damaged, Asked>,
    tally: Tally,
    is_over: bool,
}

/// How a store was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Damaged blocks that were mended since the start.
    pub mended: u64,
    /// Those that nobody could mend, and were damaged when they were last looked at.
    pub damaged: BTreeSet<Damaged>,
}

#[derive(Debug)]
struct Asked {
    /// How many wait for it.
    waiting: usize,
    state: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    /// Nobody was asked yet.
    None,
    /// This holder was.
    Awaited(NodeId),
    /// What is there.
    Is(Vec<u8>),
    /// Nobody can say.
    Unknown,
}

impl Mends {
    /// What nobody was asked for yet.
    pub fn unasked(&self) -> Vec<Damaged> {
        let state = lock(&self.state);
        let unasked = state.asked.iter().filter(|(_, asked)| matches!(asked.state, Answer::None));
        unasked.map(|(damaged, _)| *damaged).collect()
    }

    /// This holder is asked; `None`: there is nobody to ask.
    pub fn asks(&self, damaged: Damaged, of: Option<NodeId>) {
        self.set(damaged, of.map_or(Answer::Unknown, Answer::Awaited));
    }

    /// A holder answered; `None`: it cannot say.
    pub fn answers(&self, from: NodeId, damaged: Damaged, content: Option<&[u8]>) {
        let is_awaited = |asked: &Asked| matches!(asked.state, Answer::Awaited(of) if of == from);
        if lock(&self.state).asked.get(&damaged).is_some_and(is_awaited) {
            self.set(damaged, content.map_or(Answer::Unknown, |content| Answer::Is(content.to_vec())));
        }
    }

    /// Nothing more comes of this holder.
    pub fn lost(&self, node: NodeId) {
        let mut state = lock(&self.state);
        for asked in state.asked.values_mut() {
            if matches!(asked.state, Answer::Awaited(of) if of == node) {
                asked.state = Answer::None;
            }
        }
    }

    /// Nothing is mended any more when this returns: another start may open the store.
    pub fn end(&self) {
        lock(&self.state).is_over = true;
        self.answered.notify_all();
        *lock(&self.is_over) = true;
    }

    /// How the store was found.
    pub fn tally(&self) -> Tally {
        lock(&self.state).tally.clone()
    }

    /// A block that was damaged is not.
    pub fn is_good(&self, damaged: Damaged) {
        lock(&self.state).tally.damaged.remove(&damaged);
    }

    fn set(&self, damaged: Damaged, answer: Answer) {
        if let Some(asked) = lock(&self.state).asked.get_mut(&damaged) {
            asked.state = answer;
            self.answered.notify_all();
        }
    }

    /// Asks, and waits. Whoever asks for the same block meanwhile is answered with it.
    fn ask(&self, damaged: Damaged, tell: impl FnOnce()) -> Option<Vec<u8>> {
        let until = clock::now().after(WAIT);
        let mut state = lock(&self.state);
        let new = Asked { waiting: 0, state: Answer::None };
        let asked = state.asked.entry(damaged).or_insert(new);
        asked.waiting = asked.waiting.saturating_add(1);
        drop(state);
        tell();
        let mut state = lock(&self.state);
        loop {
            let answer = state.asked.get(&damaged).map(|asked| asked.state.clone());
            let left = until.since(clock::now());
            let is_late = left.is_zero() || state.is_over;
            if let Some(Answer::None | Answer::Awaited(_)) = answer
                && !is_late
            {
                let woken = self.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                state = woken.0;
                continue;
            }
            if let Some(asked) = state.asked.get_mut(&damaged) {
                asked.waiting = asked.waiting.saturating_sub(1);
            }
            state.asked.retain(|_, asked| asked.waiting != 0);
            return match answer {
                Some(Answer::Is(content)) => Some(content),
                Some(Answer::None | Answer::Awaited(_) | Answer::Unknown) | None => None,
            };
        }
    }
}

/// Has a block that is damaged as another holder has it. Waits for that.
///
/// # Errors
///
/// Nobody can say what was there; or the disk failed.
pub fn heal(shared: &Shared, damaged: Damaged) -> Result<(), Error> {
    let mends = &shared.mends;
    let content = mends.ask(damaged, || shared.tell(Told::Mend));
    let is_over = lock(&mends.is_over);
    let Some(content) = content.filter(|_| !*is_over) else {
        let mut state = lock(&mends.state);
        if state.tally.damaged.len() < KNOWN_MAX {
            state.tally.damaged.insert(damaged);
        }
        return Err(damaged.into());
    };
    if let Err(error) = shared.store.mend(damaged, &content) {
        if is_full(&error) {
            return Err(error);
        }
        let place = shared.store.directory().display();
        shared.tell(Told::Damaged(format!("{place} failed: {damaged}, and cannot be mended: {error}")));
        return Err(error);
    }
    if damaged.volume == CATALOGUE {
        shared.tell(Told::Mended(damaged.block));
    }
    let mut state = lock(&mends.state);
    state.tally.damaged.remove(&damaged);
    state.tally.mended = state.tally.mended.saturating_add(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_core::log::batch::Volume;
    use std::sync::Arc;

    const BLOCK: Damaged = Damaged { volume: Volume(1), block: 7 };

    /// Who asks is answered with what the holder says that was asked, and with nothing else.
    #[test]
    fn an_answer_is_that_of_the_holder_that_was_asked() {
        let mends = Arc::new(Mends::default());
        let (told, tells) = std::sync::mpsc::channel();
        let ask = || {
            let (mends, told) = (Arc::clone(&mends), told.clone());
            std::thread::spawn(move || mends.ask(BLOCK, || told.send(()).unwrap()))
        };
        let (first, second) = (ask(), ask());
        tells.recv().unwrap();
        tells.recv().unwrap();
        assert_eq!(mends.unasked(), [BLOCK], "once, however many wait for it");
        mends.answers(NodeId(2), BLOCK, Some(&[1]));
        mends.asks(BLOCK, Some(NodeId(2)));
        assert_eq!(mends.unasked(), []);
        mends.answers(NodeId(3), BLOCK, Some(&[2]));
        mends.answers(NodeId(2), Damaged { block: 8, ..BLOCK }, Some(&[3]));
        mends.lost(NodeId(3));
        mends.lost(NodeId(2));
        assert_eq!(mends.unasked(), [BLOCK], "another one is asked");
        mends.asks(BLOCK, Some(NodeId(3)));
        mends.answers(NodeId(3), BLOCK, Some(&[4]));
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (Some(vec![4]), Some(vec![4])));
        assert_eq!(mends.unasked(), []);
        let third = ask();
        tells.recv().unwrap();
        mends.asks(BLOCK, None);
        assert_eq!(third.join().unwrap(), None);
        let fourth = ask();
        tells.recv().unwrap();
        mends.end();
        assert_eq!(fourth.join().unwrap(), None);
    }
}
