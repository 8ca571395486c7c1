//! `bulkhead witness flash`: the firmware in the forms that programmers take, and how to get it onto a board.

use crate::failure::Failure;
use crate::firmware_image::hex::hex;
use crate::firmware_image::{Program, holds_secret};
use crate::output::Report;
use crate::site_config::{SiteConfig, key};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prepare the firmware of a witness for its board, or flash it
///
/// Writes the firmware as ELF, as plain bytes (.bin) and as Intel HEX (.hex), and shows the line with
/// which probe-rs puts it on a board. With --probe it runs that line. Keep the ELF file: only it
/// explains the log (`bulkhead logs witness`). With --config it is made certain that the key of the
/// site is not in the firmware; all secrets belong on the card (`bulkhead witness provision`).
///
/// Examples:
///   bulkhead witness flash --elf target/bulkhead/witness.elf --out firmware
///   bulkhead witness flash --elf witness.elf --config site.toml --probe
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Flash {
    /// The firmware: `cargo xtask witness --build` makes it
    #[arg(long, value_name = "FILE")]
    elf: PathBuf,
    /// Where to write the three files; default: nowhere
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The chip, as probe-rs names it
    #[arg(long, value_name = "CHIP", default_value = "LM3S6965")]
    chip: String,
    /// A configuration of the site, whose key must not be in the firmware
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Flash the board that hangs on this probe, by probe-rs; without a value: the only one
    #[arg(long, value_name = "VID:PID[:SERIAL]", num_args = 0..=1, default_missing_value = "")]
    probe: Option<String>,
}

/// Chips that there is a board for: the bytes of their flash.
const CHIPS: &[(&str, u64)] = &[("LM3S6965", 256 << 10)];

pub(super) fn run(args: &Flash) -> Result<Report, Failure> {
    let elf = std::fs::read(&args.elf).map_err(|error| {
        let next = "`cargo xtask witness --build` makes one.";
        Failure::io("read", &args.elf, &error).next(next)
    })?;
    let program = Program::parse(&elf)
        .map_err(|why| Failure::failed(format!("{} is no firmware: {why}", args.elf.display())))?;
    let (first, end) = program.span();
    let bytes = end.saturating_sub(first.into());
    check_chip(args, end)?;
    let clean = is_clean(args, &elf)?;
    let (binary, hex) = (program.binary(), hex(&program));
    let files = match &args.out {
        Some(out) => write(args, out, [&elf, &binary, hex.as_bytes()])?,
        None => Vec::new(),
    };
    let lines = lines(args);
    let shown = lines.each_ref().map(|line| line.join(" "));
    let mut text = format!("{}: {bytes} bytes from {first:#x} on, for {}.\n", args.elf.display(), args.chip);
    for file in &files {
        text.push_str(&format!("  wrote {}\n", file.display()));
    }
    text.push_str(match clean {
        true => "  the key of the site is not in it\n",
        false => "  not compared with the key of a site: `--config` does that\n",
    });
    let flashed = match args.probe {
        Some(_) => flash(&lines)?,
        None => false,
    };
    match flashed {
        true => text.push_str("  probe-rs has flashed and reset the board\n"),
        false => text.push_str(&format!("  not flashed. Next:\n    {}\n", shown.join("\n    "))),
    }
    let json = json!({
        "ok": true,
        "chip": args.chip,
        "first": first,
        "bytes": bytes,
        "files": files,
        "compared_with_key": clean,
        "flashed": flashed,
        "lines": shown,
    });
    Ok(Report::new(text, json))
}

fn check_chip(args: &Flash, end: u64) -> Result<(), Failure> {
    let known = CHIPS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&args.chip));
    match known {
        Some((name, flash)) if *flash < end => {
            let what =
                format!("{} ends at byte {end}, and {name} has {flash} bytes of flash", args.elf.display());
            Err(Failure::refused(what).next("is it for another chip?"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the firmware was compared with the key of a site. Firmware is copied about and published; a key
/// in it would be everybody's.
fn is_clean(args: &Flash, elf: &[u8]) -> Result<bool, Failure> {
    let Some(config) = &args.config else { return Ok(false) };
    let config = SiteConfig::read(config)?;
    let key = key::read(&config.local.key_file)?;
    match holds_secret(elf, &key.0) {
        false => Ok(true),
        true => {
            let what = format!("the key of site {} is in {}", config.site_name, args.elf.display());
            let next = "build the firmware without it, and draw a new key for the site: this one is known.";
            Err(Failure::refused(what).next(next))
        }
    }
}

fn write(args: &Flash, out: &Path, contents: [&[u8]; 3]) -> Result<Vec<PathBuf>, Failure> {
    std::fs::create_dir_all(out).map_err(|error| Failure::io("create", out, &error))?;
    let name = args.elf.file_stem().unwrap_or("witness".as_ref());
    let mut files = Vec::new();
    for (kind, bytes) in ["elf", "bin", "hex"].into_iter().zip(contents) {
        let path = out.join(name).with_extension(kind);
        let is_source =
            path.canonicalize().is_ok_and(|path| args.elf.canonicalize().is_ok_and(|elf| elf == path));
        if !is_source {
            std::fs::write(&path, bytes).map_err(|error| {
                Failure::io("write", &path, &error).left("Some of the files may be missing.")
            })?;
        }
        files.push(path);
    }
    Ok(files)
}

/// What probe-rs is to be run with: first to write and verify, then to reset.
fn lines(args: &Flash) -> [Vec<String>; 2] {
    let of = |verb: &str, more: &[&str]| {
        let mut line: Vec<String> = ["probe-rs", verb, "--chip", &args.chip].map(str::to_owned).to_vec();
        if let Some(probe) = args.probe.as_deref().filter(|probe| !probe.is_empty()) {
            line.extend(["--probe".to_owned(), probe.to_owned()]);
        }
        line.extend(more.iter().map(|word| (*word).to_owned()));
        line
    };
    let elf = args.elf.display().to_string();
    [of("download", &["--verify", &elf]), of("reset", &[])]
}

fn flash(lines: &[Vec<String>; 2]) -> Result<bool, Failure> {
    for line in lines {
        let Some((program, words)) = line.split_first() else { continue };
        let shown = line.join(" ");
        let status = Command::new(program).args(words).status().map_err(|error| {
            let what = match error.kind() == std::io::ErrorKind::NotFound {
                true => "probe-rs is not installed".to_owned(),
                false => format!("probe-rs cannot be run: {error}"),
            };
            let next = format!("`cargo install probe-rs-tools --locked`, then `{shown}`.");
            Failure::failed(what).left("The board was not flashed.").next(next)
        })?;
        if !status.success() {
            let what = format!("`{shown}` failed ({status})");
            let next = "see what it said; `probe-rs list` shows the probes.";
            return Err(Failure::failed(what).left("What the board holds is not known.").next(next));
        }
    }
    Ok(true)
}
