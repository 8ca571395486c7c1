//! `cargo xtask bench boot`: our boot application beside systemd-boot and GRUB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::disk::Image;
use qemu_tests::lab::{LONG, Lab};
use qemu_tests::machine::{Drive, Machine};
use qemu_tests::tooling::command::run as run_command;
use qemu_tests::tooling::node_image::{Variant, parts};
use qemu_tests::tooling::packages::Need;
use qemu_tests::tooling::setup;
use qemu_tests::tooling::workspace::Workspace;
use serde_json::json;

use super::median;

/// What all three loaders pass. The kernel prints its first line as early as it can.
const COMMAND_LINE: &str = "console=ttyS0,115200 earlyprintk=ttyS0,115200 panic=-1 rdinit=/none";
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// The firmware's last line before the loader's first instruction.
const HAND_OFF: &str = "BdsDxe: starting Boot";
/// The kernel's first line.
const KERNEL: &str = "Linux version";

/// From the firmware's hand-off to the kernel's first line: Bulkhead's boot application, systemd-boot and
/// GRUB, with the same kernel, initrd and command line, in turn, in the same QEMU.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench boot --rounds 7\n\n\
    The clock is the host's, at the arrival of serial lines: good to about 5 ms. It includes the kernel's\n\
    own unpacking, the same for all. Compare within a round: machines are noisy.")]
pub struct Boot {
    /// Rounds; in each, every loader boots once.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One boot, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Hand-off to the kernel's first line, on the host's clock.
    total: f64,
    /// Of that, by the loader's own clock: reading and verifying the image. Bulkhead only.
    read: f64,
    verify: f64,
}

struct Loader {
    name: &'static str,
    disk: PathBuf,
    size: u64,
    samples: Vec<Sample>,
}

pub fn boot_figures(workspace: &Workspace, boot: &Boot) -> Result<()> {
    setup::everything(workspace)?;
    setup::packages(workspace, Need::Bench)?;
    Artefacts::of("bench-boot", |artefacts| {
        let lab = Lab::get()?;
        let parts = parts(&lab.workspace, &Lab::recipe(Variant::Good, 1))?;
        let mut loaders = [
            bulkhead(artefacts, lab, &parts.kernel, &parts.initrd)?,
            systemd_boot(artefacts, &parts.kernel, &parts.initrd)?,
            grub(workspace, artefacts, &parts.kernel, &parts.initrd)?,
        ];
        for round in 0..=boot.rounds {
            for loader in &mut loaders {
                let sample = measure(artefacts, loader)?;
                // The first round fills the page cache and the firmware's variables.
                if round > 0 {
                    loader.samples.push(sample);
                }
            }
            eprintln!("  round {round} of {}", boot.rounds);
        }
        let image =
            [&parts.kernel, &parts.initrd].map(|path| fs::metadata(path).map_or(0, |data| data.len()));
        report(boot.json, &loaders, image)
    })
}

fn bulkhead(artefacts: &Artefacts, lab: &Lab, kernel: &Path, initrd: &Path) -> Result<Loader> {
    let (image, disk) = (artefacts.path("bulkhead.container"), artefacts.path("bulkhead.img"));
    let build = lab.tool(["image", "build", "--version", "1", "--security-version", "0", "--efi"]);
    let build = build.arg(kernel).arg("--initrd").arg(initrd).args(["--cmdline", COMMAND_LINE]);
    build.arg("--key").arg(&lab.keys.secret).arg("--out").arg(&image).succeed()?;
    let sizes = ["--size", "224M", "--slot-size", "32M", "--infra-size", "16M", "--guest-size", "16M"];
    let make = lab.tool(["image", "disk", "--out"]).arg(&disk).args(sizes).arg("--boot-app").arg(&lab.app);
    make.arg("--image").arg(&image).succeed()?;
    Ok(Loader { name: "bulkhead", disk, size: fs::metadata(&lab.app)?.len(), samples: Vec::new() })
}

fn systemd_boot(artefacts: &Artefacts, kernel: &Path, initrd: &Path) -> Result<Loader> {
    let (conf, entry) = (artefacts.path("loader.conf"), artefacts.path("entry.conf"));
    fs::write(&conf, "timeout 0\n")?;
    fs::write(&entry, format!("linux /vmlinuz\ninitrd /initrd\noptions {COMMAND_LINE}\n"))?;
    let app = Path::new(SYSTEMD_BOOT);
    let files: [(&str, &Path); 5] = [
        ("/EFI/BOOT/BOOTX64.EFI", app),
        ("/loader/loader.conf", &conf),
        ("/loader/entries/node.conf", &entry),
        ("/vmlinuz", kernel),
        ("/initrd", initrd),
    ];
    let disk = artefacts.path("systemd-boot.img");
    Image::with_esp(&disk, &files)?;
    Ok(Loader { name: "systemd-boot", disk, size: fs::metadata(app)?.len(), samples: Vec::new() })
}

fn grub(workspace: &Workspace, artefacts: &Artefacts, kernel: &Path, initrd: &Path) -> Result<Loader> {
    let (config, app) = (artefacts.path("grub.cfg"), artefacts.path("grub.efi"));
    fs::write(&config, format!("linux /vmlinuz {COMMAND_LINE}\ninitrd /initrd\nboot\n"))?;
    let mut make = Command::new("grub-mkimage");
    make.args(["-O", "x86_64-efi", "-p", "/EFI", "-c"]).arg(&config).arg("-o").arg(&app);
    make.args(["part_gpt", "fat", "linux", "boot", "normal"]);
    run_command(&mut make, &workspace.log("grub-mkimage"))?;
    let files: [(&str, &Path); 3] =
        [("/EFI/BOOT/BOOTX64.EFI", &app), ("/vmlinuz", kernel), ("/initrd", initrd)];
    let disk = artefacts.path("grub.img");
    Image::with_esp(&disk, &files)?;
    Ok(Loader { name: "grub", disk, size: fs::metadata(&app)?.len(), samples: Vec::new() })
}

fn measure(artefacts: &Artefacts, loader: &Loader) -> Result<Sample> {
    let name = format!("{}-{}", loader.name, loader.samples.len());
    let machine = Machine::new(artefacts, &name)?.drive(Drive::new(&loader.disk));
    let powered = machine.power_on()?;
    let console = machine.console();
    let begun = console.wait_for(HAND_OFF, LONG)?.at;
    let kernel = console.wait_for(KERNEL, LONG)?.at;
    powered.power_cut()?;
    let mut sample = Sample { total: millis(kernel.saturating_sub(begun)), ..Sample::default() };
    if let Some(line) = console.matching("read ").into_iter().find(|line| line.text.contains("verified in")) {
        sample.read = word_after(&line.text, " in ")?;
        sample.verify = word_after(&line.text, "verified in ")?;
    }
    Ok(sample)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The number behind the first `key` in `line`.
fn word_after(line: &str, key: &str) -> Result<f64> {
    let number = line.split_once(key).and_then(|(_, rest)| rest.split_whitespace().next());
    number.and_then(|word| word.parse().ok()).with_context(|| format!("no number after `{key}` in `{line}`"))
}

fn report(as_json: bool, loaders: &[Loader; 3], [kernel, initrd]: [u64; 2]) -> Result<()> {
    let [ours, others @ ..] = loaders;
    let total = |loader: &Loader| median(loader.samples.iter().map(|sample| sample.total));
    let [_, read, _] = median(ours.samples.iter().map(|sample| sample.read));
    let [_, verify, _] = median(ours.samples.iter().map(|sample| sample.verify));
    let ratios = |other: &Loader, less: fn(&Sample) -> f64| {
        let pairs = ours.samples.iter().zip(&other.samples);
        median(pairs.map(|(ours, other)| (ours.total - less(ours)) / other.total))
    };
    if ours.samples.is_empty() {
        bail!("no rounds were measured");
    }
    if as_json {
        let loaders: Vec<_> = loaders
            .iter()
            .map(|one| json!({ "name": one.name, "efi_bytes": one.size, "total_ms": total(one) }))
            .collect();
        let image = json!({ "kernel_bytes": kernel, "initrd_bytes": initrd });
        println!("{}", json!({ "loaders": loaders, "read_ms": read, "verify_ms": verify, "image": image }));
        return Ok(());
    }
    println!("\n{:<14} {:>10}   hand-off to kernel, ms (min median max)", "loader", "EFI bytes");
    for loader in loaders {
        let [least, middle, most] = total(loader);
        println!("{:<14} {:>10}   {least:7.0} {middle:7.0} {most:7.0}", loader.name, loader.size);
    }
    println!("\nratios within a round (min median max)    whole              without verification");
    for other in others {
        let [a, b, c] = ratios(other, |_| 0.0);
        let [d, e, f] = ratios(other, |sample| sample.verify);
        println!(
            "bulkhead / {:<14}            {a:5.2} {b:5.2} {c:5.2}    {d:5.2} {e:5.2} {f:5.2}",
            other.name
        );
    }
    let megabytes = f64::from(u32::try_from(kernel + initrd)?) / 1e6;
    println!(
        "\nbulkhead reads {megabytes:.1} MB in {read:.0} ms ({:.0} MB/s) and verifies them in {verify:.0} ms \
         ({:.0} MB/s).\nnode image: kernel {} KiB, initrd {} KiB",
        megabytes / read * 1e3,
        megabytes / verify * 1e3,
        kernel.div_ceil(1024),
        initrd.div_ceil(1024),
    );
    Ok(())
}
