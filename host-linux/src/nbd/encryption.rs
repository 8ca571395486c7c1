//! What a server and a client of NBD want of TLS (V43; `nbds://`).

use super::uri::Uri;
use crate::tls::files::Trust;
use crate::tls::keeper::Keeper;
use std::sync::Arc;

/// What a server says to clients that could be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// It cannot.
    Missing,
    /// Whoever asks for it gets it.
    Offered,
    /// Nothing is told to whoever does not.
    Required,
}

/// How a node encrypts.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its certificate, and whom it believes.
    pub keeper: Arc<Keeper>,
    /// Nothing is said over TCP without it. Otherwise it is for whoever can.
    pub is_required: bool,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Nothing is encrypted.
    Clear,
    /// What the server encrypts is.
    Offered(Trust),
    /// Everything is, or there is no connection.
    Always(Trust),
}

impl Tls {
    /// What a node wants of the others of its pair, whose `is_required` may not be its own yet.
    #[must_use]
    pub fn wish(&self) -> Wish {
        let trust = self.keeper.current().trust().clone();
        if self.is_required { Wish::Always(trust) } else { Wish::Offered(trust) }
    }
}

impl Wish {
    /// What a URI asks for.
    ///
    /// # Errors
    ///
    /// Its certificates cannot be used, or it names none.
    pub fn of(uri: &Uri) -> Result<Self, String> {
        let Some(secured) = &uri.tls else { return Ok(Self::Clear) };
        let Some(directory) = &secured.certificates else {
            return Err("write where the certificates are: ?tls-certificates=DIRECTORY".into());
        };
        let trust = Trust::from_directory(directory);
        trust.map(Self::Always).map_err(|failure| format!("{}; {}", failure.what, failure.next))
    }
}
