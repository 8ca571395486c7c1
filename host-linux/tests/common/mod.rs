//! What the black-box tests share: a temporary plant with keys, images, and disks.
#![allow(dead_code, reason = "each test binary uses a part")]

use bulkhead::disk::open::{Access, Disk};
use bulkhead::disk::state::NodeDisk;
use bulkhead::disk::write::{Supplies, carry_out};
use bulkhead::image::boot_app::trust_of;
use bulkhead::image::repair::check;
use bulkhead_core::boot::choice::{Decision, Evidence, decide};
use bulkhead_core::boot::operations::Running;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The command under test.
pub fn bulkhead(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(args);
    command
}

/// A directory with keys, images and disks.
pub struct Plant {
    directory: tempfile::TempDir,
}

/// What a command answered.
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Plant {
    /// A plant with the key `plant`, a boot application that trusts it, and images 1 and 2.
    pub fn new() -> Self {
        let plant = Self { directory: tempfile::tempdir().unwrap() };
        plant.ok(&["image", "keygen", "--out", "plant"]);
        std::fs::write(plant.path("app.efi"), pe(&[7; 3000], true)).unwrap();
        for version in [1_u8, 2] {
            let body: Vec<u8> = (0..2_000_000_u32).map(|at| (at / 7) as u8 ^ version).collect();
            std::fs::write(plant.path(&format!("{version}.efi")), pe(&body, false)).unwrap();
            plant.build(&format!("{version}.img"), "plant.key", version.into(), 1);
        }
        plant.ok(&["image", "boot-app", "--app", "app.efi", "--trust", "plant.pub", "--out", "trusting.efi"]);
        plant
    }

    /// Builds an image of a version and security version.
    pub fn build(&self, out: &str, key: &str, version: u32, security: u32) {
        let efi = format!("{}.efi", version.clamp(1, 2));
        let (version, security) = (version.to_string(), security.to_string());
        let args = ["image", "build", "--efi", &efi, "--cmdline", "quiet", "--key", key, "--out", out];
        self.ok(&[&args[..], &["--version", &version, "--security-version", &security]].concat());
    }

    /// Makes a node disk of 128 MiB with image 1 in slot A.
    pub fn disk(&self, name: &str, more: &[&str]) -> PathBuf {
        let args =
            ["image", "disk", "--out", name, "--size", "128M", "--esp-size", "20M", "--slot-size", "16M"];
        let rest = ["--infra-size", "4M", "--boot-app", "trusting.efi", "--image", "1.img", "--seed", "test"];
        self.ok(&[&args[..], &rest, more].concat());
        self.path(name)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the command in the plant's directory.
    pub fn run(&self, args: &[&str]) -> Answer {
        bulkhead(args).current_dir(self.directory.path()).output().unwrap().into()
    }

    /// Runs the command, which must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let answer = self.run(args);
        assert_eq!(answer.code, 0, "{args:?}: {}{}", answer.out, answer.err);
        answer.out
    }

    /// Runs the command, which must fail with `code`, and answers with its error text.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let answer = self.run(args);
        assert_eq!(answer.code, code, "{args:?}: {}{}", answer.out, answer.err);
        answer.err
    }
}

/// A small EFI application; with a section for the keys where it is to be a boot application.
pub fn pe(body: &[u8], keys: bool) -> Vec<u8> {
    let mut head = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    let len = u32::try_from(body.len()).unwrap();
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664_u16.to_le_bytes());
    put(0x86, &(1 + u16::from(keys)).to_le_bytes());
    put(0x94, &240_u16.to_le_bytes());
    put(0x98, &0x20b_u16.to_le_bytes());
    put(0x98 + 68, &10_u16.to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes());
    let table = 0x98 + 240;
    put(table, b".text");
    put(table + 16, &len.to_le_bytes());
    put(table + 20, &0x400_u32.to_le_bytes());
    if keys {
        put(table + 40, b".bhkeys");
        put(table + 56, &512_u32.to_le_bytes());
        put(table + 60, &(0x400 + len).to_le_bytes());
    }
    head.extend_from_slice(&body);
    if keys {
        head.extend_from_slice(b"BHDKEYS\0");
        head.resize(head.len() + 504, 0);
    }
    head
}

/// Does what the boot application does up to the start of the image: decides and records.
pub fn boot(path: &Path) -> Option<Running> {
    let disk = Disk::open(path, Access::Write).unwrap();
    let node = NodeDisk::read(&disk).unwrap();
    let app = bulkhead::disk::esp::read_boot_app(&disk, &node.layout.esp).unwrap();
    let trust = trust_of(&app).unwrap();
    let mut evidence = Evidence::new(node.copies, node.marks);
    loop {
        let (record, running) = match decide(&evidence) {
            Decision::Examine(slot) => {
                *evidence.checks.get_mut(slot) = check(&disk, &node, &trust, &evidence, slot);
                continue;
            }
            Decision::Start(start) => {
                (start.record, Some(Running { slot: start.slot, boot: start.record.boot }))
            }
            Decision::Rescue(rescue) => (rescue.record, None),
        };
        let plan = node.copies.write(node.layout.bcb_copies(), &record);
        carry_out(&disk, &plan, Supplies::default()).unwrap();
        return running;
    }
}

/// A machine root whose kernel was started by Bulkhead from `disk`.
pub fn machine(plant: &Plant, disk: &Path, running: Running) -> PathBuf {
    let root = plant.path("root");
    let _ = std::fs::remove_dir_all(&root);
    for directory in ["proc", "sys/block/vda", "dev", "etc"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    let line = format!("quiet bulkhead.slot={} bulkhead.boot={}\n", running.slot, running.boot);
    std::fs::write(root.join("proc/cmdline"), line).unwrap();
    std::fs::write(root.join("proc/meminfo"), "MemTotal: 1 kB\nMemAvailable:  500000 kB\n").unwrap();
    std::os::unix::fs::symlink(disk, root.join("dev/vda")).unwrap();
    root
}
