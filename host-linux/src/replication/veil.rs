//! What is between the proof of the site key and the first frame of a stream that is encrypted (V43, F39).
//!
//! The proof first, then TLS, then the stream's own beginning inside it ([`super::hello`]), for three
//! reasons. Who does not know the site key gets as far as without encryption: it is told no certificate, has
//! nothing signed, and none of its bytes reaches the decoder of TLS. Who has a certificate and not the key,
//! as every client of the volumes may, is no node; nor is who has the key and not the certificate of the node
//! that it says it is. And the keys of the frames are made of the TLS session, so that nobody is between two.

use super::hello::{HELLO_LEN, Refusal, Refused};
use super::knock::Knock;
use super::seal::{Direction, Sealer};
use super::words::Settings;
use crate::site_config::key::SiteKey;
use crate::tls::secure::Shake;
use bulkhead_core::id::NodeId;
use rustls::Connection;

/// For what the secret of a TLS session is asked. Never changes for version 2.
const LABEL: &[u8] = b"EXPORTER bulkhead replication 2";

/// What both ends said in the clear: of it all keys of the stream are made.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// By the end that dialled.
    pub hello: [u8; HELLO_LEN],
    /// By the other one.
    pub welcome: [u8; HELLO_LEN],
}

/// What seals the frames of the dialling end, and of the other one.
pub type Sealers = (Sealer, Sealer);

/// How far TLS is.
#[derive(Debug)]
pub enum Veiled {
    /// The other end has something to say.
    Waits,
    /// There will be none.
    Refused(Refused),
    /// Both believe each other's certificate, as far as this end can know.
    Done(Sealers),
}

impl Said {
    /// For frames, or for the proof before TLS.
    #[must_use]
    pub fn sealers(&self, key: &SiteKey) -> Sealers {
        let sealer = |way| Sealer::new(key, &self.hello, &self.welcome, way);
        (sealer(Direction::Out), sealer(Direction::Back))
    }

    /// Goes on with TLS, as far as it goes without waiting.
    #[must_use]
    pub fn shake(&self, key: &SiteKey, knock: &Knock) -> Veiled {
        match knock.wire().shake() {
            Ok(Shake::Done) => {}
            Ok(Shake::Listens | Shake::Full) => return Veiled::Waits,
            Err(_) => return Veiled::Refused(over(knock)),
        }
        let Some(secret) = knock.wire().exported(LABEL) else { return Veiled::Refused(over(knock)) };
        let sealer = |way| Sealer::in_tls(key, &self.hello, &self.welcome, &secret, way);
        Veiled::Done((sealer(Direction::Out), sealer(Direction::Back)))
    }
}

/// Why a connection is over that was not to be.
#[must_use]
pub fn over(knock: &Knock) -> Refused {
    match knock.wire().why() {
        Some(cause) => unveiled(cause),
        None => Refusal::Unfinished.into(),
    }
}

fn unveiled(cause: String) -> Refused {
    Refused { why: Refusal::Tls, cause: Some(cause) }
}

/// This end of TLS with `peer`, whose certificate must be its own.
///
/// # Errors
///
/// This node cannot encrypt.
pub fn begin(settings: &Settings, peer: NodeId, dialled: bool) -> Result<Connection, Refused> {
    let Some(tls) = &settings.tls else { return Err(Refusal::Encrypted.into()) };
    let host = tls.hosts.iter().find(|(node, _)| *node == peer).map(|(_, host)| host);
    let host =
        host.ok_or_else(|| unveiled(format!("nobody knows for what node {}'s certificate is", peer.0)))?;
    let credentials = tls.keeper.current();
    let begun = if dialled { credentials.trust().client(host) } else { credentials.server_for(host) };
    begun.map_err(unveiled)
}
