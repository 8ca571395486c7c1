//! Certificates for streams that are encrypted, of holders and of those who should be none.

use super::certificates::Authority;
use bulkhead::replication::words::{Settings, Tls};
use bulkhead::tls::files::{Files, Trust};
use bulkhead::tls::keeper::Keeper;
use bulkhead_core::id::NodeId;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

struct Site {
    directory: tempfile::TempDir,
    authority: Authority,
    other: Authority,
}

/// One authority for all tests, and one that nobody believes.
static SITE: LazyLock<Site> = LazyLock::new(|| {
    let site = Site {
        directory: tempfile::tempdir().unwrap(),
        authority: Authority::new("the site"),
        other: Authority::new("somebody else"),
    };
    (1..=3).for_each(|node| drop(site.authority.issue(&site.path(&format!("{node}")), &[&host(node)])));
    site.authority.issue(&site.path("client"), &[]);
    (1..=2).for_each(|node| {
        site.authority.issue_until(2020, &site.path(&format!("{node}-expired")), &[&host(node)]);
        site.other.issue(&site.path(&format!("{node}-other")), &[&host(node)]);
    });
    // Whom it believes is not wrong, only who believes it.
    (1..=2).for_each(|node| {
        let own = site.path(&format!("{node}-other")).join("ca-cert.pem");
        std::fs::copy(site.path("client").join("ca-cert.pem"), own).unwrap();
    });
    std::fs::create_dir(site.path("nobody")).unwrap();
    std::fs::copy(site.path("client").join("ca-cert.pem"), site.path("nobody").join("ca-cert.pem")).unwrap();
    site
});

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What a client has that is in this directory.
pub fn trust(name: &str) -> Trust {
    Trust::from_directory(&SITE.path(name)).unwrap()
}

/// For what a node's certificate is: none of the addresses of its streams.
pub fn host(node: u8) -> String {
    format!("10.0.1.{node}")
}

/// A holder with the certificate in this directory.
pub fn with(settings: Settings, name: &str, is_required: bool) -> Settings {
    let path = |file| SITE.path(name).join(file);
    let (certificate, key) = (path("client-cert.pem"), path("client-key.pem"));
    let keeper = Keeper::open(Files { certificate, key, authorities: path("ca-cert.pem") }).unwrap();
    let hosts = (1..=3).map(|node| (NodeId(node.into()), host(node))).collect();
    Settings { tls: Some(Tls { keeper: Arc::new(keeper), is_required, hosts }), ..settings }
}

/// A holder that encrypts, by its own certificate.
pub fn veiled(settings: Settings) -> Settings {
    let name = settings.me.0.to_string();
    with(settings, &name, true)
}

/// One that does if the other one does.
pub fn willing(settings: Settings) -> Settings {
    let name = settings.me.0.to_string();
    with(settings, &name, false)
}
