//! A site's authority, and the certificates it signs: for nodes on this machine, and for those who should not
//! be believed.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rcgen::{KeyUsagePurpose, date_time_ymd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Signs.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One that nobody knows yet.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for these hosts, its key and this authority into a directory, under the names
    /// that libnbd and QEMU look for.
    pub fn issue(&self, directory: &Path, hosts: &[&str]) -> PathBuf {
        self.issue_until(2100, directory, hosts)
    }

    /// As [`Self::issue`]; it ends with this year's first day.
    pub fn issue_until(&self, year: i32, directory: &Path, hosts: &[&str]) -> PathBuf {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a node or a client");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::create_dir_all(directory).unwrap();
        let files = [
            ("client-key.pem", key.serialize_pem()),
            ("client-cert.pem", certificate.pem()),
            ("ca-cert.pem", self.pem.clone()),
        ];
        for (name, text) in files {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        directory.to_owned()
    }
}
