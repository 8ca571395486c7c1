//! Makes an image container. The same inputs give the same bytes: nothing of the day, the machine
//! or the user goes in, and Ed25519 signatures are deterministic.

use super::pe::Pe;
use crate::failure::Failure;
use crate::output::Voice;
use bulkhead_core::container::header::{
    COMMAND_LINE_MAX, Header, PART_ALIGN, PAYLOAD_MAX, PAYLOAD_START, Part,
};
use bulkhead_core::container::image::{Digest, ImageId, ImageVersion, SecurityVersion};
use bulkhead_core::container::trust::Key;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// What goes into a container.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The EFI binary.
    pub efi: PathBuf,
    /// The initrd, where the EFI binary does not bring its own.
    pub initrd: Option<PathBuf>,
    /// The command line, where the EFI binary does not bring its own.
    pub command_line: Option<String>,
    /// Version of the image.
    pub version: ImageVersion,
    /// Security version of the image.
    pub security: SecurityVersion,
}

/// An opened input and how long it is.
struct Input {
    path: PathBuf,
    file: File,
    part: Part,
}

/// A container that is about to be written.
pub struct Draft {
    efi: Input,
    initrd: Option<Input>,
    command_line: (String, Part),
    payload_len: u64,
    contents: Contents,
}

impl Draft {
    /// Opens the inputs and lays them out; writes nothing.
    ///
    /// # Errors
    ///
    /// An input is missing, is not what it should be, or they are too large.
    pub fn new(contents: Contents) -> Result<Self, Failure> {
        let efi = open(&contents.efi, 0)?;
        check_efi(&efi)?;
        let mut free = align(efi.part);
        let initrd = contents.initrd.as_ref().map(|path| open(path, free)).transpose()?;
        if let Some(initrd) = &initrd {
            free = align(initrd.part);
        }
        let line = contents.command_line.clone().unwrap_or_default();
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if COMMAND_LINE_MAX < len || line.chars().any(char::is_control) {
            let what = format!("the command line of {len} bytes is too long or has control characters");
            return Err(Failure::failed(what).next("give plain text of at most 2048 bytes."));
        }
        let line_part = if len == 0 { Part::default() } else { Part { offset: free, len } };
        let last = initrd.as_ref().map_or(efi.part, |initrd| initrd.part);
        let last = if len == 0 { last } else { line_part };
        let payload_len = last.offset.saturating_add(last.len);
        if PAYLOAD_MAX < payload_len {
            return Err(Failure::failed(format!(
                "the payload has {payload_len} bytes, at most 1 GiB is allowed"
            )));
        }
        Ok(Self { efi, initrd, command_line: (line, line_part), payload_len, contents })
    }

    /// Bytes of the container.
    pub const fn container_len(&self) -> u64 {
        PAYLOAD_START.saturating_add(self.payload_len)
    }

    /// Writes the container to `out`, whole or not at all.
    ///
    /// # Errors
    ///
    /// An input changed or a file could not be read or written; `out` is as it was.
    pub fn write(mut self, key: &SigningKey, out: &Path, voice: Voice) -> Result<Header, Failure> {
        let partial = partial(out);
        let result = self.write_partial(key, &partial, voice).and_then(|header| {
            std::fs::rename(&partial, out).map_err(|error| Failure::io("rename to", out, &error))?;
            Ok(header)
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        result
    }

    fn write_partial(&mut self, key: &SigningKey, partial: &Path, voice: Voice) -> Result<Header, Failure> {
        let mut out = File::create(partial).map_err(|error| Failure::io("create", partial, &error))?;
        let write_failure = |error: io::Error| Failure::io("write", partial, &error);
        let mut sink = Hashing { out: &mut out, hasher: Sha256::new(), at: 0 };
        sink.out.seek(SeekFrom::Start(PAYLOAD_START)).map_err(write_failure)?;
        let bar = voice.bar("building", self.payload_len);
        for input in [Some(&mut self.efi), self.initrd.as_mut()].into_iter().flatten() {
            sink.pad_to(input.part.offset).map_err(write_failure)?;
            let copied = io::copy(&mut bar.wrap_read(&mut input.file).take(input.part.len), &mut sink);
            let copied = copied.map_err(|error| Failure::io("copy", &input.path, &error))?;
            if copied != input.part.len {
                return Err(Failure::failed(format!(
                    "{} became shorter while it was read",
                    input.path.display()
                )));
            }
        }
        let (line, part) = &self.command_line;
        if part.len != 0 {
            sink.pad_to(part.offset).and_then(|()| sink.write_all(line.as_bytes())).map_err(write_failure)?;
        }
        bar.finish_and_clear();
        let digest = Digest(sink.hasher.finalize().into());
        let header = self.sign(key, digest)?;
        let mut block = header.encode().to_vec();
        block.resize(usize::try_from(PAYLOAD_START).unwrap_or(4096), 0);
        out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&block)).map_err(write_failure)?;
        out.sync_all().map_err(write_failure)?;
        Ok(header)
    }

    fn sign(&self, key: &SigningKey, digest: Digest) -> Result<Header, Failure> {
        let public = Key { public: key.verifying_key().to_bytes(), revoked: false };
        let Contents { version, security, .. } = self.contents;
        let mut header = Header {
            image: ImageId { version, security, digest },
            payload_len: self.payload_len,
            efi: self.efi.part,
            initrd: self.initrd.as_ref().map_or_else(Part::default, |initrd| initrd.part),
            command_line: self.command_line.1,
            key: public.id(),
            signature: [0; 64],
        };
        header.signature = key.sign(&header.message()).to_bytes();
        header.check().map_err(|fault| Failure::failed(format!("the image cannot be built: {fault}")))?;
        Ok(header)
    }
}

/// Where a file is written before it gets its name.
pub fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn align(part: Part) -> u64 {
    part.offset.saturating_add(part.len).next_multiple_of(PART_ALIGN)
}

fn open(path: &Path, offset: u64) -> Result<Input, Failure> {
    let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
    let len = file.metadata().map_err(|error| Failure::io("look at", path, &error))?.len();
    if len == 0 {
        return Err(Failure::failed(format!("{} is empty", path.display())));
    }
    Ok(Input { path: path.into(), file, part: Part { offset, len } })
}

/// A kernel's or a unified kernel image's headers are in its first pages.
const HEADERS_MAX: u64 = 64 << 10;

fn check_efi(efi: &Input) -> Result<(), Failure> {
    let read_failure = |error: io::Error| Failure::io("read", &efi.path, &error);
    let mut head = Vec::new();
    let mut file = &efi.file;
    file.take(HEADERS_MAX).read_to_end(&mut head).map_err(read_failure)?;
    file.seek(SeekFrom::Start(0)).map_err(read_failure)?;
    Pe::parse(&head).map(|_| ()).map_err(|why| {
        Failure::failed(format!("{} is not an EFI binary: {why}", efi.path.display()))
            .next("give a unified kernel image, or a Linux kernel built with CONFIG_EFI_STUB.")
    })
}

/// Writes and hashes in one pass.
struct Hashing<'a> {
    out: &'a mut File,
    hasher: Sha256,
    at: u64,
}

impl Hashing<'_> {
    fn pad_to(&mut self, offset: u64) -> io::Result<()> {
        let gap = usize::try_from(offset.saturating_sub(self.at)).unwrap_or(0);
        self.write_all(&vec![0; gap])
    }
}

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
