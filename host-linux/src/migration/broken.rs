//! What ends the copy of a guest that leaves before its end: something here, or the connection.

use crate::failure::Failure;

/// What ends a copy.
#[derive(Debug)]
pub enum Broken {
    /// What is here.
    Here(Failure),
    /// The connection, or who ends the move.
    Wire(std::io::Error),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Wire(error)
    }
}
