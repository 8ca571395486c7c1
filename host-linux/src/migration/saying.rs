//! What is said and expected where a guest leaves, and what it means when the other node says something else
//! or nothing.

use super::channel::Channel;
use super::words::Word;
use crate::failure::Failure;
use std::time::Duration;

/// Says it.
///
/// # Errors
///
/// The other node does not hear it: what it said last, if it did.
pub fn say(channel: &mut Channel, word: &Word<'_>) -> Result<(), Failure> {
    channel.say(word).map_err(|error| told(channel, &error))
}

/// Waits so long at most for this word.
///
/// # Errors
///
/// It does not come.
pub fn expect(channel: &mut Channel, within: Duration, expected: &Word<'_>) -> Result<(), Failure> {
    match channel.hear(within) {
        Ok(word) if word == *expected => Ok(()),
        Ok(Word::Failed(why)) => Err(why.failure()),
        Ok(word) => Err(Failure::failed(format!("the other node says {word:?}, not {expected:?}"))),
        Err(error) => Err(lost(&error)),
    }
}

/// Why the other node hears no more: what it said last, if it did.
pub fn told(channel: &mut Channel, error: &std::io::Error) -> Failure {
    match channel.hear(Duration::from_secs(1)) {
        Ok(Word::Failed(why)) => why.failure(),
        Ok(_) | Err(_) => lost(error),
    }
}

fn lost(error: &std::io::Error) -> Failure {
    let next = "look at the other node, and at the network to it; then try again.";
    Failure::failed(format!("the connection was lost: {error}")).next(next)
}
