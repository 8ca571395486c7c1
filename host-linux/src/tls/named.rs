//! A client that must be somebody: its certificate is signed by an authority, and for this host besides.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;

/// Whom to believe. Every question but the one for the host is answered by who answers it for all clients.
#[derive(Debug)]
pub struct Named {
    anybody: Arc<dyn ClientCertVerifier>,
    host: ServerName<'static>,
}

impl Named {
    /// Of those whom `anybody` lets in, the one at `host`.
    #[must_use]
    pub const fn new(anybody: Arc<dyn ClientCertVerifier>, host: ServerName<'static>) -> Self {
        Self { anybody, host }
    }
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.anybody.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.anybody.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.anybody.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.anybody.verify_client_cert(own, between, now)?;
        verify_server_name(&ParsedCertificate::try_from(own)?, &self.host)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.anybody.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.anybody.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.anybody.supported_verify_schemes()
    }
}
