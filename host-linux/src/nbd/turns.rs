//! Sessions: a program that asks the same again over a new connection must be sure that nothing it asked over
//! the old one happens later, out of a buffer that nobody has read yet (S1-27, I1). So a connection keeps the
//! turn of its session until the last of its answers is in, and the next one gets it only then.

use super::line::{End, Line};
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Length of a session's name: 128 bits that nobody guesses, in hexadecimal digits.
pub const SESSION_LEN: usize = 32;
const SEPARATOR: char = '~';

/// What `export` is called by the session `session`.
#[must_use]
pub fn session(export: &str, session: u128) -> String {
    format!("{export}{SEPARATOR}{session:032x}")
}

/// The number of a session: nobody else has it, and nobody guesses it.
///
/// # Errors
///
/// The system has no random numbers.
pub fn draw() -> Result<u128, Failure> {
    let mut number = [0; 16];
    getrandom::fill(&mut number).map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
    Ok(u128::from_le_bytes(number))
}

/// The export that is taken by this name, if it is that of a session.
#[must_use]
pub fn of_session(name: &str) -> Option<&str> {
    let (export, session) = name.rsplit_once(SEPARATOR)?;
    let fine = session.len() == SESSION_LEN && session.bytes().all(|byte| byte.is_ascii_hexdigit());
    fine.then_some(export)
}

/// The sessions of a server.
#[derive(Debug, Default)]
pub struct Turns(
    /// Invariant: at most as many that live as there are seats, and the dead are removed with each new one.
    Mutex<BTreeMap<String, Weak<Turn>>>,
);

/// The turn of a session: whoever holds it is the only one.
#[derive(Debug)]
pub struct Turn(Mutex<Whose>);

#[derive(Debug)]
enum Whose {
    /// A client that is still told about the export.
    Newcomer,
    /// A connection.
    Line(Weak<Line>),
    /// The next one waits for it.
    Over,
}

impl Turns {
    /// The turn of `session`. If somebody has it, that one is ended, and the next who asks may get it.
    pub fn take(&self, session: &str) -> Option<Arc<Turn>> {
        let mut turns = lock(&self.0);
        turns.retain(|_, turn| turn.strong_count() != 0);
        if let Some(before) = turns.get(session).and_then(Weak::upgrade) {
            drop(turns);
            before.end();
            return None;
        }
        let turn = Arc::new(Turn(Mutex::new(Whose::Newcomer)));
        turns.insert(session.into(), Arc::downgrade(&turn));
        Some(turn)
    }
}

impl Turn {
    /// It is the turn of `line` from now on.
    pub fn begin(self: Arc<Self>, line: &Arc<Line>) {
        let mut whose = lock(&self.0);
        let over = matches!(*whose, Whose::Over);
        if !over {
            *whose = Whose::Line(Arc::downgrade(line));
        }
        drop(whose);
        line.keep_turn(self);
        if over {
            line.end(End::Replaced);
        }
    }

    fn end(&self) {
        let whose = std::mem::replace(&mut *lock(&self.0), Whose::Over);
        if let Whose::Line(line) = whose
            && let Some(line) = line.upgrade()
        {
            line.end(End::Replaced);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sessions_are_told_from_those_of_exports() {
        let name = session("~a", 0x1f);
        assert_eq!(name, "~a~0000000000000000000000000000001f");
        assert_eq!(of_session(&name), Some("~a"));
        assert_eq!(of_session("~a"), None);
        assert_eq!(of_session("a~0"), None);
        assert_eq!(of_session("a~0000000000000000000000000000001g"), None);
    }

    #[test]
    fn a_turn_is_had_once_and_again_when_it_is_given_back() {
        let turns = Turns::default();
        let first = turns.take("a");
        assert!(first.is_some() && turns.take("a").is_none() && turns.take("b").is_some());
        drop(first);
        assert!(turns.take("a").is_some());
        assert_eq!(lock(&turns.0).len(), 1, "the dead are forgotten");
    }
}
