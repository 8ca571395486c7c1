//! A server with a file behind it, and the programs that are its clients.

use super::certificates::Authority;
use bulkhead::nbd::encryption::Tls;
use bulkhead::nbd::export::Export;
use bulkhead::nbd::file::FileExport;
use bulkhead::nbd::limits::Limits;
use bulkhead::nbd::server::Server;
use bulkhead::tls::files::Files;
use bulkhead::tls::keeper::Keeper;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The size of the exported file unless a test says otherwise.
pub const SIZE: u64 = 64 << 20;

/// A running server; it exports the file `disk` as `disk`.
pub struct Plant {
    pub server: Server,
    pub tcp: SocketAddr,
    pub unix: PathBuf,
    pub directory: tempfile::TempDir,
}

impl Plant {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        Self::empty(limits).with_disk()
    }

    /// One that encrypts. Its authority has signed for itself and for one client, and signs for others.
    pub fn secure(limits: Limits, is_required: bool) -> (Self, Authority) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("the site");
        authority.issue(&directory.path().join("client"), &[]);
        let node = authority.issue(&directory.path().join("node"), &["127.0.0.1", "localhost"]);
        let keeper = Arc::new(Keeper::open(files(&node)).unwrap());
        let plant = Self::build(limits, directory, Some(Tls { keeper, is_required }));
        (plant.with_disk(), authority)
    }

    fn with_disk(self) -> Self {
        let plant = self;
        let path = plant.path("disk");
        std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
        let export: Arc<dyn Export> = Arc::new(FileExport::open(&path, false).unwrap());
        plant.server.publish("disk", "a disk of the plant", export).unwrap();
        plant
    }

    /// Without an export.
    pub fn empty(limits: Limits) -> Self {
        Self::build(limits, tempfile::tempdir().unwrap(), None)
    }

    fn build(limits: Limits, directory: tempfile::TempDir, tls: Option<Tls>) -> Self {
        many_files();
        let unix = directory.path().join("nbd.sock");
        let mut server = Server::start_with(limits, tls).unwrap();
        server.listen_unix(&unix).unwrap();
        let tcp = server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { server, tcp, unix, directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The URIs of `disk`: Unix socket, TCP.
    pub fn uris(&self) -> [String; 2] {
        let uris: Vec<_> = self.server.uris("disk").iter().map(ToString::to_string).collect();
        uris.try_into().unwrap()
    }
}

/// The files of a certificate's directory.
pub fn files(directory: &Path) -> Files {
    Files {
        certificate: directory.join("client-cert.pem"),
        key: directory.join("client-key.pem"),
        authorities: directory.join("ca-cert.pem"),
    }
}

/// Servers and clients of all tests are one process: a thousand files are not enough for both sides.
fn many_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(8192).min(8192);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}

/// Runs a program that must succeed, and tells what it printed.
pub fn ok(program: &str, args: &[&str]) -> String {
    let (code, out) = run(program, args);
    assert_eq!(code, Some(0), "{program} {args:?}: {out}");
    out
}

/// Runs a program with a limit of a minute.
pub fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("timeout").arg("60").arg(program).args(args).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// Whether `program` is there; `cargo xtask doctor --fix` installs the package it comes from.
pub fn have(program: &str, package: &str) -> bool {
    let there = match program.starts_with('/') {
        true => Path::new(program).exists(),
        false => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(program).is_file()),
    };
    if !there {
        println!("SKIPPED: {program} is not here; `cargo xtask doctor --fix` installs {package}");
    }
    there
}

/// Bytes without a pattern that a wrong offset could repeat.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}
