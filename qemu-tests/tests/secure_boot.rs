//! Nodes with Secure Boot on: what the firmware's owner signed starts, and nothing else does, whatever
//! our own signature says (issue 2, "It must also work where Secure Boot is on"; V32).

use std::path::Path;

use anyhow::{Result, ensure};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::{Lab, NodeDisk};
use qemu_tests::machine::Firmware;
use qemu_tests::process::Run;
use qemu_tests::tooling::node_image::{self, Variant};
use qemu_tests::tooling::signed;

/// The test key of Debian's package `ovmf`, whose certificate is in the variables of its Secure Boot
/// tests, and the passphrase that its maintainers publish with it.
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
const PASSPHRASE: &str = "pass:snakeoil";

/// Signs an EFI program for the firmware.
fn enrol(artefacts: &Artefacts, program: &Path, out: &Path) -> Result<()> {
    let key = artefacts.path("firmware.key");
    if !key.exists() {
        Run::new("openssl").args(["rsa", "-in", KEY, "-passin", PASSPHRASE, "-out"]).arg(&key).succeed()?;
    }
    let sbsign = Run::new("sbsign").arg("--key").arg(&key).args(["--cert", CERTIFICATE, "--output"]);
    sbsign.arg(out).arg(program).succeed().map(drop)
}

#[test]
fn v32_secure_boot_starts_a_signed_kernel_and_falls_back_from_an_unsigned_one() -> Result<()> {
    Artefacts::of("secure-boot-node", |artefacts| {
        let lab = Lab::get()?;
        let app = artefacts.path("BOOTX64.signed.EFI");
        enrol(artefacts, &lab.app, &app)?;
        let mut parts = node_image::parts(&lab.workspace, &Lab::recipe(Variant::Good, 1))?;
        let kernel = artefacts.path("vmlinuz.signed");
        enrol(artefacts, &parts.kernel, &kernel)?;
        parts.kernel = kernel;
        let image = artefacts.path("good-v1-signed.img");
        signed::sign(&lab.workspace, &parts, 1, &lab.keys.secret, &image)?;

        let disk = NodeDisk { app: &app, image, ..NodeDisk::new(lab, "node-1")? };
        let secure = |machine: qemu_tests::machine::Machine| machine.firmware(Firmware::SecureBootTestKey);
        let mut rig = disk.node_with(artefacts, secure)?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::Confirmed)?;
        rig.healthy()?;
        rig.node.power_cut()?;

        // Our signature is good, the firmware's is missing: LoadImage refuses, the boot goes on.
        let update = lab.image(Variant::Good, 2)?;
        lab.tool(["image", "flash"]).arg(rig.node.disk().path()).arg(update).succeed()?;
        rig.node.power_on()?;
        rig.boots(SlotId::A, 1, Reason::FallbackStart)?;
        rig.healthy()?;
        rig.node.power_cut()?;
        ensure!(rig.node.boots()?.len() == 2, "the unsigned kernel was started");
        rig.timeline("Secure Boot: a signed kernel in A, an unsigned one in B");
        Ok(())
    })
}
