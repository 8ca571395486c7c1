//! Ed25519 keys as PEM files that `openssl` reads too: PKCS#8 (RFC 8410) and SPKI.

use crate::failure::Failure;
use bulkhead_core::container::trust::Key;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, KeypairBytes};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A key file is a few hundred bytes; anything much larger is something else.
const KEY_FILE_MAX: u64 = 16 << 10;

/// A new key from the operating system's random source.
///
/// # Errors
///
/// There is no randomness.
pub fn generate() -> Result<SigningKey, Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
    Ok(SigningKey::from_bytes(&secret))
}

/// Writes `NAME.key` (readable by its owner only) and `NAME.pub`.
///
/// # Errors
///
/// One of them exists already: a key is never overwritten.
pub fn save(key: &SigningKey, name: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let with = |suffix: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (secret_path, public_path) = (with(".key"), with(".pub"));
    if let Some(path) = [&secret_path, &public_path].into_iter().find(|path| path.exists()) {
        return Err(Failure::refused(format!(
            "{} exists already; a key is never overwritten",
            path.display()
        ))
        .next("choose another name with `--out`."));
    }
    // Version 1 of PKCS#8, without the public key: older OpenSSL reads no other.
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let encoding =
        |error: &dyn std::fmt::Display| Failure::failed(format!("the key cannot be encoded: {error}"));
    let secret = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_pem(&pair, LineEnding::LF)
        .map_err(|error| encoding(&error))?;
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| encoding(&error))?;
    write_new(&secret_path, secret.as_bytes(), 0o600)?;
    write_new(&public_path, public.as_bytes(), 0o644)?;
    Ok((secret_path, public_path))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::io("write", path, &error))
}

/// Reads a signing key.
///
/// # Errors
///
/// The file is not there, or is no Ed25519 private key.
pub fn read_signing(path: &Path) -> Result<SigningKey, Failure> {
    let text = read_small(path)?;
    SigningKey::from_pkcs8_pem(&text).map_err(|_| {
        Failure::failed(format!("{} is not an Ed25519 private key in PEM form", path.display()))
            .next("make a pair with `bulkhead image keygen --out NAME` and give NAME.key.")
    })
}

/// Reads public keys.
///
/// # Errors
///
/// A file is not there, or is no Ed25519 public key.
pub fn read_public(paths: &[PathBuf], revoked: bool) -> Result<Vec<Key>, Failure> {
    let one = |path: &PathBuf| {
        let text = read_small(path)?;
        let key = VerifyingKey::from_public_key_pem(&text).map_err(|_| {
            Failure::failed(format!("{} is not an Ed25519 public key in PEM form", path.display()))
                .next("give the NAME.pub that `bulkhead image keygen` made.")
        })?;
        Ok(Key { public: key.to_bytes(), revoked })
    };
    paths.iter().map(one).collect()
}

fn read_small(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| Failure::io("open", path, &error))?;
    let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, KEY_FILE_MAX), &mut text);
    read.map_err(|error| Failure::io("read", path, &error))?;
    Ok(text)
}
