//! `cargo xtask bench size`: what a witness costs on a microcontroller, before it has a board.

use std::fs;

use anyhow::{Context, Result, ensure};
use qemu_tests::tooling::command::run;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::setup;
use qemu_tests::tooling::toolchain::{self, THUMBV7M};
use qemu_tests::tooling::workspace::Workspace;
use serde_json::json;

/// In front of the sizes of the types in the file.
const MARK: &[u8] = b"BHSIZES1";
/// Section flags and a type of ELF.
const ALLOCATED: u32 = 2;
const EXECUTABLE: u32 = 4;
const WRITABLE: u32 = 1;

/// Code and memory of a witness for `thumbv7m-none-eabi`, optimised for size: all that its loop can reach,
/// for 64 pairs and 64 peers, without drivers and without a network stack.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench size --json")]
pub struct Size {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn figures(workspace: &Workspace, wanted: &Size) -> Result<()> {
    setup::everything(workspace)?;
    let (choice, _) = toolchain::ensure(workspace)?;
    step("build: size probe", || {
        let mut cargo = choice.way.cargo(workspace, "rustc", THUMBV7M);
        cargo
            .args(["--release", "--manifest-path"])
            .arg(workspace.root().join("firmware/size-probe/Cargo.toml"));
        // No start-up code and no memory map: everything is kept, and nothing runs.
        cargo.args(["--", "-Clink-arg=--no-gc-sections", "-Clink-arg=--entry=0"]);
        run(&mut cargo, &workspace.log("size-probe"))?;
        Ok(String::new())
    })?;
    let file = fs::read(choice.way.built(workspace, THUMBV7M, "release").join("size-probe"))?;
    let (mut code, mut constants) = (0, 0);
    for (flags, size) in sections(&file)? {
        match (flags & ALLOCATED != 0, flags & EXECUTABLE != 0, flags & WRITABLE != 0) {
            (true, true, _) => code += size,
            (true, false, false) => constants += size,
            (true, false, true) | (false, ..) => {}
        }
    }
    let at = file.windows(MARK.len()).position(|bytes| bytes == MARK).context("no sizes in the probe")?;
    let size = |number: usize| word(&file, at + MARK.len() + 4 * number);
    let (node, voter, links, one) = (size(0)?, size(1)?, size(2)?, size(3)?);
    let registers = u32::try_from(bulkhead_core::node::machine::REGISTERS)?;
    let each = voter.saturating_sub(one) / registers.saturating_sub(1).max(1);
    ensure!(code > 0 && node > voter, "the probe was not linked whole");
    if wanted.json {
        let memory = json!({ "node": node, "voter": voter, "links": links, "per_register": each });
        println!("{}", json!({ "code": code, "constants": constants, "memory": memory }));
        return Ok(());
    }
    println!(
        "code       {code:>7} bytes, of which any board's flash holds {} with constants",
        code + constants
    );
    println!("voter      {voter:>7} bytes for {registers} registers (64 pairs): {each} each");
    println!("links      {links:>7} bytes for 64 peers");
    println!("whole node {node:>7} bytes, its roles included, which a witness does not take");
    Ok(())
}

/// Flags and size of each section of a 32-bit little-endian ELF file.
fn sections(file: &[u8]) -> Result<Vec<(u32, u32)>> {
    ensure!(file.get(..6) == Some(b"\x7fELF\x01\x01"), "not a 32-bit little-endian ELF file");
    let start = usize::try_from(word(file, 0x20)?)?;
    let sizes = word(file, 0x2e)?;
    let (each, count) = (usize::try_from(sizes & 0xffff)?, usize::try_from(sizes >> 16)?);
    (0..count)
        .map(|number| Ok((word(file, start + number * each + 8)?, word(file, start + number * each + 20)?)))
        .collect()
}

fn word(file: &[u8], at: usize) -> Result<u32> {
    let bytes = file.get(at..).and_then(|rest| rest.first_chunk()).context("the file is cut short")?;
    Ok(u32::from_le_bytes(*bytes))
}
