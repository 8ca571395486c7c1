//! The Debian packages this project uses: what proves each present, and why it is needed. Edit the table
//! here.

use std::path::{Path, PathBuf};

use super::command::find;

/// What asks for a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `cargo xtask demo` and `cargo xtask test`.
    Everything,
    /// `cargo xtask bench` alone: what we are measured against.
    Bench,
    /// The bare-metal targets where `rustup` reaches nothing (see `toolchain`).
    DebianRust,
}

/// What proves that a package is there, however it was installed.
#[derive(Clone, Copy, Debug)]
pub enum Proof {
    /// A program on the search path.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// Debian's own record: the version from Debian matters, not only that such a program exists.
    Record,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Debian's name.
    pub name: &'static str,
    /// What proves it present.
    pub proof: Proof,
    /// Who asks for it.
    pub need: Need,
    /// What it is used for.
    pub why: &'static str,
}

impl Package {
    /// The file that proves it present, or nothing when it is missing.
    #[must_use]
    pub fn found(&self) -> Option<PathBuf> {
        match self.proof {
            Proof::Program(name) => find(name),
            Proof::File(path) => Some(PathBuf::from(path)).filter(|path| Path::exists(path)),
            Proof::Record => record(self.name),
        }
    }
}

/// Every package, those that everything needs first.
pub const PACKAGES: &[Package] = &[
    everything("qemu-system-x86", Proof::Program("qemu-system-x86_64"), "the machines that tests boot"),
    everything("qemu-system-arm", Proof::Program("qemu-system-arm"), "the board of the witness"),
    everything("ovmf", Proof::File("/usr/share/OVMF/OVMF_CODE_4M.fd"), "their UEFI firmware"),
    everything("busybox-static", Proof::File("/bin/busybox"), "shell and tools of the node image"),
    everything("zstd", Proof::Program("zstd"), "packs the initramfs"),
    everything("xz-utils", Proof::Program("xz"), "unpacks Debian's kernel package"),
    everything("mtools", Proof::Program("mcopy"), "second reader of our EFI System Partition, in tests"),
    everything("dosfstools", Proof::Program("fsck.fat"), "checks our EFI System Partition, in tests"),
    everything("gdisk", Proof::Program("sgdisk"), "second reader of our partition tables, in tests"),
    everything("cpio", Proof::Program("cpio"), "second reader of our initramfs, in tests"),
    everything("sbsigntool", Proof::Program("sbsign"), "signs the boot application for Secure Boot tests"),
    everything("openssl", Proof::Program("openssl"), "opens the test key of Secure Boot, in tests"),
    everything(
        "systemd-boot-efi",
        Proof::File("/usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
        "an EFI application that is not ours, for tests of the harness and for `bench`",
    ),
    everything("stress-ng", Proof::Program("stress-ng"), "full load on a node, in tests"),
    everything("rauc", Proof::Program("rauc"), "drives our RAUC backend, in tests"),
    everything("libnbd-bin", Proof::Program("nbdinfo"), "NBD clients: nbdinfo and nbdcopy, in tests"),
    everything(
        "python3-libnbd",
        Proof::File("/usr/lib/python3/dist-packages/nbd.py"),
        "an NBD client that sends what no other would, in tests",
    ),
    everything("qemu-utils", Proof::Program("qemu-io"), "QEMU's NBD client and server, in tests"),
    everything(
        "nbd-client",
        Proof::Program("nbd-client"),
        "sets up the kernel's NBD client, in a test's guest",
    ),
    everything("e2fsprogs", Proof::Program("mkfs.ext4"), "makes and checks a guest's file system, in tests"),
    everything("sqlite3", Proof::Program("sqlite3"), "the database of a guest, in tests"),
    everything("fio", Proof::Program("fio"), "load with verification on NBD exports, in tests"),
    bench("grub-efi-amd64-bin", Proof::File("/usr/lib/grub/x86_64-efi/linux.mod"), "GRUB, beside our loader"),
    bench("iproute2", Proof::Program("ip"), "networks of namespaces"),
    bench("keepalived", Proof::Program("keepalived"), "VRRP, beside our failover"),
    bench("corosync", Proof::Program("corosync"), "membership, beside our failover"),
    bench("pacemaker", Proof::Program("pacemakerd"), "resources on corosync, beside our failover"),
    bench("pacemaker-cli-utils", Proof::Program("crm_mon"), "to look at pacemaker"),
    rust("rustc-web", "compiler"),
    rust("libstd-rust-web-dev", "its host library"),
    rust("rust-web-src", "library source, built per target"),
    rust("cargo-web", "its cargo"),
    rust("rust-web-clippy", "its clippy"),
    rust("rustfmt-web", "its rustfmt"),
    rust("lld", "its linker for UEFI"),
];

/// The packages that `need` asks for and that are not there.
#[must_use]
pub fn missing(need: Need) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| package.need == need && package.found().is_none()).collect()
}

const fn everything(name: &'static str, proof: Proof, why: &'static str) -> Package {
    Package { name, proof, need: Need::Everything, why }
}

const fn bench(name: &'static str, proof: Proof, why: &'static str) -> Package {
    Package { name, proof, need: Need::Bench, why }
}

const fn rust(name: &'static str, why: &'static str) -> Package {
    Package { name, proof: Proof::Record, need: Need::DebianRust, why }
}

/// The list of files dpkg keeps for an installed package; with the architecture where several may coexist.
fn record(name: &str) -> Option<PathBuf> {
    let info = Path::new("/var/lib/dpkg/info");
    let names = [format!("{name}.list"), format!("{name}:amd64.list")];
    names.iter().map(|file| info.join(file)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_named_once() {
        for package in PACKAGES {
            let rows = PACKAGES.iter().filter(|other| other.name == package.name).count();
            assert_eq!(rows, 1, "{}", package.name);
        }
    }

    #[test]
    fn a_package_without_its_proof_is_missing() {
        let gone = everything("gone", Proof::Program("no-program-has-this-name"), "");
        let file = everything("gone", Proof::File("/no/such/file"), "");
        assert_eq!((gone.found(), file.found()), (None, None));
        assert!(everything("sh", Proof::Program("sh"), "").found().is_some());
    }
}
