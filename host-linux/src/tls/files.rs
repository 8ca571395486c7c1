//! Certificates and keys as they are on disk: PEM, parsed once, each error with its remedy.

use super::named::Named;
use crate::failure::Failure;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer files are none of these.
const FILE_MAX: u64 = 1 << 20;

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those between it and an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of those whose word is taken for others.
    pub authorities: PathBuf,
}

/// Whom a client believes, and how it proves itself.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// What one side needs to be both server and client.
#[derive(Clone, Debug)]
pub struct Credentials {
    server: Arc<ServerConfig>,
    trust: Trust,
    chain: Vec<CertificateDer<'static>>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Files {
    /// Reads and judges them.
    ///
    /// # Errors
    ///
    /// One cannot be read, or is not what it should be.
    pub fn read(&self) -> Result<Credentials, Failure> {
        let chain = certificates(&self.certificate)?;
        let key = key(&self.key)?;
        let roots = Arc::new(roots(&self.authorities)?);
        let provider = Arc::new(ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let clients = clients.map_err(|error| unusable(&self.authorities, &error.to_string()))?;
        let pair = |error: rustls::Error| {
            let what = format!(
                "{} and {} cannot be used together: {error}",
                self.certificate.display(),
                self.key.display()
            );
            Failure::failed(what).next("write the certificate that was made for this key.")
        };
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let server = server.with_protocol_versions(&[&rustls::version::TLS13]).map_err(pair)?;
        let server = server.with_client_cert_verifier(Arc::clone(&clients));
        let mut server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(pair)?;
        // A session is not taken up again: each connection lasts for days.
        server.send_tls13_tickets = 0;
        let trust = Trust::new(provider, roots, Some((chain.clone(), key))).map_err(pair)?;
        Ok(Credentials { server: Arc::new(server), trust, chain, clients })
    }
}

impl Credentials {
    /// A server's end of a new connection.
    ///
    /// # Errors
    ///
    /// There is no memory or randomness for it.
    pub fn server(&self) -> Result<Connection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.server)).map(Connection::Server)
    }

    /// As [`Self::server`], for a client whose certificate must be for `host`: not every client is a node.
    ///
    /// # Errors
    ///
    /// No certificate can be for such a host, or there is no memory or randomness for it.
    pub fn server_for(&self, host: &str) -> Result<Connection, String> {
        let clients = Arc::new(Named::new(Arc::clone(&self.clients), server_name(host)?));
        let config = ServerConfig::builder_with_provider(Arc::clone(self.server.crypto_provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]);
        let config = config.map_err(|error| error.to_string())?.with_client_cert_verifier(clients);
        let mut config = config.with_cert_resolver(Arc::clone(&self.server.cert_resolver));
        config.send_tls13_tickets = 0;
        let server = ServerConnection::new(Arc::new(config));
        server.map(Connection::Server).map_err(|error| error.to_string())
    }

    /// As a client.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Why others would not believe the certificate now, if so: it is too old, say.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let (own, between) = self.chain.split_first()?;
        let judged = self.clients.verify_client_cert(own, between, UnixTime::now());
        judged.err().map(|error| error.to_string())
    }
}

impl Trust {
    fn new(
        provider: Arc<CryptoProvider>,
        roots: Arc<RootCertStore>,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, rustls::Error> {
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_protocol_versions(&[&rustls::version::TLS13])?;
        let client = client.with_root_certificates(roots);
        let mut client = match own {
            Some((chain, key)) => client.with_client_auth_cert(chain, key)?,
            None => client.with_no_client_auth(),
        };
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(client)))
    }

    /// What is in a directory as libnbd and QEMU have it: `ca-cert.pem`, and `client-cert.pem` with
    /// `client-key.pem` if the server asks for them.
    ///
    /// # Errors
    ///
    /// A file is missing, or is not what it should be.
    pub fn from_directory(directory: &Path) -> Result<Self, Failure> {
        let authorities = directory.join("ca-cert.pem");
        let (certificate, key_file) = (directory.join("client-cert.pem"), directory.join("client-key.pem"));
        let own = match certificate.exists() {
            true => Some((certificates(&certificate)?, key(&key_file)?)),
            false => None,
        };
        let roots = Arc::new(roots(&authorities)?);
        Self::new(Arc::new(ring::default_provider()), roots, own)
            .map_err(|error| unusable(&certificate, &error.to_string()))
    }

    /// A client's end of a new connection to `host`, for which the other's certificate must be.
    ///
    /// # Errors
    ///
    /// No certificate can be for such a host.
    pub fn client(&self, host: &str) -> Result<Connection, String> {
        let client = ClientConnection::new(Arc::clone(&self.0), server_name(host)?);
        client.map(Connection::Client).map_err(|error| error.to_string())
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|_| format!("no certificate can be for the host \"{host}\""))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let io = |error: std::io::Error| {
        let next = "correct the path, or give the agent's user the right to read it.";
        Failure::io("read", path, &error).next(next)
    };
    let length = std::fs::metadata(path).map_err(io)?.len();
    match length <= FILE_MAX {
        true => std::fs::read(path).map_err(io),
        false => Err(unusable(path, "it is longer than a mebibyte")),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(path, "there is no certificate in it")),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let text = bytes(path)?;
    let mode = std::fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?.mode();
    if mode & 0o007 != 0 {
        let what = format!("everybody on this machine can read the key {}", path.display());
        return Err(Failure::refused(what).next(format!("`chmod o= {}`", path.display())));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| unusable(path, &format!("no private key: {error}")))
}

fn roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for one in certificates(path)? {
        roots.add(one).map_err(|error| unusable(path, &error.to_string()))?;
    }
    Ok(roots)
}

fn unusable(path: &Path, why: &str) -> Failure {
    let next = "write it in PEM, as `openssl` does; docs/nbd.md shows the commands.";
    Failure::failed(format!("{} cannot be used for TLS: {why}", path.display())).next(next)
}
