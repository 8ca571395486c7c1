//! NBD URIs, printed and read: the one way in which a volume is named in every command and every output.
//! The format is NetworkBlockDevice/nbd's `doc/uri.md`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::wire::number::PORT;

/// Where an export is, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The connection must be encrypted, and how.
    pub tls: Option<Secured>,
    /// Where.
    pub place: Place,
    /// The export's name; may be empty.
    pub export: String,
}

/// How a connection is encrypted: the parameters that libnbd calls alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secured {
    /// `tls-certificates`: a directory with `ca-cert.pem`, `client-cert.pem` and `client-key.pem`.
    pub certificates: Option<PathBuf>,
    /// `tls-hostname`: for whom the server's certificate is, if not for the host of the URI.
    pub hostname: Option<String>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name or an address, and a port.
    Tcp {
        /// As in the URI, without the brackets of IPv6.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

/// Why a text is no NBD URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAUri {
    /// Not `nbd`, `nbds`, `nbd+unix` or `nbds+unix`.
    Scheme,
    /// A per cent sign without two hexadecimal digits, or bytes that are no UTF-8.
    Encoding,
    /// A TCP URI without a host, or with a port that is none.
    Host,
    /// A Unix URI needs `?socket=`, and a TCP one may not have it.
    Socket,
    /// `tls-` parameters belong to `nbds`.
    NotSecure,
    /// A query parameter that is not known here.
    Parameter(String),
}

impl fmt::Display for NotAUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => {
                f.write_str("an NBD URI begins with nbd://, nbds://, nbd+unix:// or nbds+unix://")
            }
            Self::Encoding => {
                f.write_str("a % is followed by two hexadecimal digits, and all of it is UTF-8")
            }
            Self::Host => f.write_str("after nbd:// comes a host, and a port if it is not 10809"),
            Self::Socket => f.write_str("nbd+unix:///NAME?socket=PATH names a socket, and nbd:// does not"),
            Self::NotSecure => {
                f.write_str("parameters that begin with tls- are for nbds:// and nbds+unix://")
            }
            Self::Parameter(name) => write!(f, "the query parameter \"{name}\" is not known"),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.tls.is_some() { "s" } else { "" };
        let export = encode(self.export.as_bytes());
        match &self.place {
            Place::Unix(path) => {
                let socket = encode(path.as_os_str().as_encoded_bytes());
                write!(f, "nbd{secure}+unix:///{export}?socket={socket}")?;
            }
            Place::Tcp { host, port } => {
                let host = match host.parse::<IpAddr>() {
                    Ok(IpAddr::V6(address)) => format!("[{address}]"),
                    Ok(IpAddr::V4(_)) | Err(_) => encode(host.as_bytes()),
                };
                write!(f, "nbd{secure}://{host}")?;
                if *port != PORT {
                    write!(f, ":{port}")?;
                }
                write!(f, "/{export}")?;
            }
        }
        let Some(Secured { certificates, hostname }) = &self.tls else { return Ok(()) };
        let certificates =
            certificates.iter().map(|path| ("certificates", path.as_os_str().as_encoded_bytes()));
        let hostname = hostname.iter().map(|name| ("hostname", name.as_bytes()));
        let is_tcp = matches!(self.place, Place::Tcp { .. });
        for (number, (name, value)) in certificates.chain(hostname).enumerate() {
            let begin = if is_tcp && number == 0 { '?' } else { '&' };
            write!(f, "{begin}tls-{name}={}", encode(value))?;
        }
        Ok(())
    }
}

impl FromStr for Uri {
    type Err = NotAUri;

    fn from_str(text: &str) -> Result<Self, NotAUri> {
        let (scheme, rest) = text.split_once("://").ok_or(NotAUri::Scheme)?;
        let (tls, unix) = match scheme {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            _ => return Err(NotAUri::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (socket, secured) = parameters(query)?;
        let tls = match (tls, secured == Secured::default()) {
            (true, _) => Some(secured),
            (false, true) => None,
            (false, false) => return Err(NotAUri::NotSecure),
        };
        let place = match (unix, socket) {
            (true, Some(socket)) if !socket.is_empty() => Place::Unix(socket.into()),
            (false, None) => tcp(authority)?,
            (_, _) => return Err(NotAUri::Socket),
        };
        Ok(Self { tls, place, export: decode(path)? })
    }
}

/// The Unix socket, and what is said about encryption.
fn parameters(query: &str) -> Result<(Option<String>, Secured), NotAUri> {
    let (mut socket, mut secured) = (None, Secured::default());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').unwrap_or((parameter, "")) {
            ("socket", path) => socket = Some(decode(path)?),
            ("tls-certificates", path) => secured.certificates = Some(decode(path)?.into()),
            ("tls-hostname", name) => secured.hostname = Some(decode(name)?),
            (other, _) => return Err(NotAUri::Parameter(decode(other)?)),
        }
    }
    Ok((socket, secured))
}

fn tcp(authority: &str) -> Result<Place, NotAUri> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(NotAUri::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| NotAUri::Host)?;
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(NotAUri::Host)?) };
            (host.to_owned(), port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (decode(host)?, Some(port)),
            None => (decode(authority)?, None),
        },
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| NotAUri::Host))?;
    // A user before the host is for a kind of authentication that is not offered.
    if host.is_empty() || host.contains('@') {
        return Err(NotAUri::Host);
    }
    Ok(Place::Tcp { host, port })
}

impl Uri {
    /// The export `name` on a Unix socket.
    #[must_use]
    pub fn unix(socket: &Path, name: &str) -> Self {
        Self { tls: None, place: Place::Unix(socket.to_owned()), export: name.to_owned() }
    }

    /// The export `name` at an address.
    #[must_use]
    pub fn tcp(address: SocketAddr, name: &str) -> Self {
        Self { tls: None, place: address.into(), export: name.to_owned() }
    }

    /// For whom the server's certificate must be.
    #[must_use]
    pub fn certified_host(&self) -> &str {
        let named = self.tls.as_ref().and_then(|tls| tls.hostname.as_deref());
        named.unwrap_or(match &self.place {
            Place::Tcp { host, .. } => host,
            Place::Unix(_) => "localhost",
        })
    }

    /// The same, encrypted.
    #[must_use]
    pub fn secure(self) -> Self {
        Self { tls: Some(Secured::default()), ..self }
    }
}

/// Everything but RFC 3986's unreserved characters and `/`, which is none of the separators where it stands.
fn encode(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    let one = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(one).collect()
}

fn decode(text: &str) -> Result<String, NotAUri> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(NotAUri::Encoding) };
        let byte = u8::try_from(high.saturating_mul(16).saturating_add(low));
        bytes.push(byte.map_err(|_| NotAUri::Encoding)?);
    }
    String::from_utf8(bytes).map_err(|_| NotAUri::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways(text: &str, tls: bool, place: Place, export: &str) {
        let uri = Uri { tls: tls.then(Secured::default), place, export: export.into() };
        assert_eq!(text.parse(), Ok(uri.clone()));
        assert_eq!(uri.to_string(), text);
    }

    fn host(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.into(), port }
    }

    #[test]
    fn uris_are_those_of_the_specification() {
        both_ways("nbd://example.com/disk", false, host("example.com", 10_809), "disk");
        both_ways("nbd://example.com/", false, host("example.com", 10_809), "");
        both_ways("nbd://example.com//disk", false, host("example.com", 10_809), "/disk");
        both_ways("nbd://example.com/hello%20world", false, host("example.com", 10_809), "hello world");
        both_ways("nbds://[fd00::1]:7/a", true, host("fd00::1", 7), "a");
        both_ways("nbd+unix:///disk?socket=/run/a%26b", false, Place::Unix("/run/a&b".into()), "disk");
        both_ways("nbds+unix:///?socket=sock", true, Place::Unix("sock".into()), "");
        assert_eq!("nbd://example.com".parse::<Uri>().unwrap().export, "");
    }

    #[test]
    fn what_is_no_uri_is_told_apart() {
        let why = |text: &str| text.parse::<Uri>().unwrap_err();
        assert_eq!(why("http://a/b"), NotAUri::Scheme);
        assert_eq!(why("nbd:a"), NotAUri::Scheme);
        assert_eq!(why("nbd:///disk"), NotAUri::Host);
        assert_eq!(why("nbd://a:70000/"), NotAUri::Host);
        assert_eq!(why("nbd://[::1/"), NotAUri::Host);
        assert_eq!(why("nbd://user@a/"), NotAUri::Host);
        assert_eq!(why("nbd://a/%zz"), NotAUri::Encoding);
        assert_eq!(why("nbd://a/%ff"), NotAUri::Encoding);
        assert_eq!(why("nbd+unix:///disk"), NotAUri::Socket);
        assert_eq!(why("nbd://a/b?socket=c"), NotAUri::Socket);
        assert_eq!(why("nbd://a/b?tls-psk=c"), NotAUri::Parameter("tls-psk".into()));
        assert_eq!(why("nbds://a/b?tls-verify-peer=false"), NotAUri::Parameter("tls-verify-peer".into()));
        assert_eq!(why("nbd://a/b?tls-hostname=c"), NotAUri::NotSecure);
    }

    #[test]
    fn certificates_are_named_as_libnbd_names_them() {
        let texts = [
            "nbds://h/a?tls-certificates=/etc/pki/a%20b&tls-hostname=a1",
            "nbds+unix:///a?socket=/run/s&tls-certificates=/etc/pki/a%20b&tls-hostname=a1",
        ];
        for (text, place) in texts.into_iter().zip([host("h", 10_809), Place::Unix("/run/s".into())]) {
            let secured = Secured { certificates: Some("/etc/pki/a b".into()), hostname: Some("a1".into()) };
            let uri = Uri { tls: Some(secured), place, export: "a".into() };
            assert_eq!(text.parse(), Ok(uri.clone()));
            assert_eq!(uri.to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_printed_is_read(text in ".*", name in "[^\0]*", port: u16) {
            if let Ok(uri) = text.parse::<Uri>() {
                proptest::prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
            }
            let tls = Some(Secured { certificates: None, hostname: Some(name.clone()) });
            let uri = Uri { tls, place: host("h", port), export: name.clone() };
            proptest::prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
            let unix = Uri::unix(Path::new(&format!("/s{name}")), &name);
            proptest::prop_assert_eq!(unix.to_string().parse::<Uri>(), Ok(unix));
        }
    }
}
