//! What an answer means for the route.

use crate::nbd::client::connection::Client;
use crate::nbd::export::{Answer, Errno};
use std::sync::Weak;

/// What an attempt came to.
#[derive(Debug)]
pub enum Outcome {
    /// The node that leads has answered: this is the client's answer, be it an error.
    Final(Answer),
    /// It is open whether it was carried out; it is asked again. Why, for people.
    Again(String),
}

impl Outcome {
    /// Of an answer given here.
    #[must_use]
    pub fn here(answer: Answer) -> Self {
        match answer {
            Err(failed) if failed.errno == Errno::Shutdown => {
                Self::Again(format!("this node: {}", failed.why))
            }
            answer => Self::Final(answer),
        }
    }

    /// Of an answer over a connection. What fails while the connection ends has failed with it.
    #[must_use]
    pub fn there(answer: Answer, connection: &Weak<Client>) -> Self {
        let ended = || match connection.upgrade() {
            Some(client) => client.ended().is_some(),
            None => true,
        };
        match answer {
            Err(failed) if failed.errno == Errno::Shutdown => Self::Again(failed.why),
            Err(failed) if ended() => Self::Again(failed.why),
            answer => Self::Final(answer),
        }
    }
}
