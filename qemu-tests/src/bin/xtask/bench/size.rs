//! `cargo xtask bench size`: what a witness costs on a microcontroller, before it has a board.

use std::fs;

use anyhow::{Context, Result, ensure};
use bulkhead_core::node::machine::REGISTERS;
use bulkhead_core::node::settings::MEMBERS_MAX;
use qemu_tests::tooling::command::run;
use qemu_tests::tooling::progress::step;
use qemu_tests::tooling::sections::{Sections, sections, word};
use qemu_tests::tooling::setup;
use qemu_tests::tooling::toolchain::{self, THUMBV7M};
use qemu_tests::tooling::workspace::Workspace;
use serde_json::json;

/// In front of the sizes of the types in the file.
const MARK: &[u8] = b"BHSIZES1";
/// Flash and memory of the microcontroller that the witness is to run on (lm3s6965).
const BOARD_FLASH: u32 = 256 * 1024;
const BOARD_RAM: u32 = 64 * 1024;
/// Pairs of a full site: all registers but that of the controller are theirs.
const PAIRS_MAX: u32 = 64;

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
        // No start-up code and no memory map: what can be reached is kept, and nothing runs.
        cargo.args(["--", "-Clink-arg=--gc-sections", "-Clink-arg=--entry=BULKHEAD_WITNESS"]);
        cargo.arg("-Clink-arg=--undefined=BULKHEAD_SIZES");
        run(&mut cargo, &workspace.log("size-probe"))?;
        Ok(String::new())
    })?;
    let file = fs::read(choice.way.built(workspace, THUMBV7M, "release").join("size-probe"))?;
    let sections = sections(&file)?;
    let at = file.windows(MARK.len()).position(|bytes| bytes == MARK).context("no sizes in the probe")?;
    let size = |number: usize| word(&file, at + MARK.len() + 4 * number);
    let memory = Memory::new([size(0)?, size(1)?, size(2)?, size(3)?], u32::try_from(REGISTERS)?, PAIRS_MAX);
    ensure!(sections.text > 0 && memory.node > memory.voter, "the probe was not linked whole");
    if wanted.json {
        let Sections { text, rodata, data, bss } = sections;
        let Memory { node, voter, links, register, pair } = memory;
        let sections = json!({ "text": text, "rodata": rodata, "data": data, "bss": bss });
        let memory = json!({
            "node": node, "voter": voter, "links": links, "per_register": register, "per_pair": pair,
        });
        let board = json!({ "flash": BOARD_FLASH, "ram": BOARD_RAM });
        println!("{}", json!({ "sections": sections, "memory": memory, "board": board }));
    } else {
        print(&sections, &memory);
    }
    Ok(())
}

fn print(sections: &Sections, memory: &Memory) {
    let Sections { text, rodata, data, bss } = sections;
    let flash = text + rodata + data;
    println!("code        {text:>7} bytes .text, {rodata} .rodata, {data} .data, {bss} .bss");
    println!("            {flash:>7} bytes in flash: {}", of(flash, BOARD_FLASH));
    let Memory { node, voter, links, register, pair } = memory;
    println!("voter       {voter:>7} bytes for {PAIRS_MAX} pairs: {pair} a pair, {register} a register");
    println!("links       {links:>7} bytes for {MEMBERS_MAX} peers");
    println!("both        {:>7} bytes in memory: {}", voter + links, of(voter + links, BOARD_RAM));
    println!("whole node  {node:>7} bytes, with the offices that a witness does not take");
}

/// How much of the board's it is.
fn of(size: u32, board: u32) -> String {
    let percent = u64::from(size) * 100 / u64::from(board);
    let verdict = if size <= board { "fits" } else { "does not fit" };
    format!("{percent} % of the {} KiB that the witness's board has, {verdict}", board / 1024)
}

/// Sizes of what a witness keeps, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    node: u32,
    voter: u32,
    links: u32,
    register: u32,
    pair: u32,
}

impl Memory {
    /// From the sizes of a node, its voter, its links, and a voter of one register.
    fn new([node, voter, links, one]: [u32; 4], registers: u32, pairs: u32) -> Self {
        let register = voter.saturating_sub(one) / registers.saturating_sub(1).max(1);
        // What pairs do not share: every register but that of the controller.
        Self { node, voter, links, register, pair: register * registers.saturating_sub(1) / pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_pairs_share_is_not_a_pairs() {
        let memory = Memory::new([0, 1000 + 129 * 10, 0, 1000 + 10], 129, 64);
        assert_eq!((memory.register, memory.pair), (10, 20));
        assert!(of(65_536, BOARD_RAM).ends_with("fits") && of(65_537, BOARD_RAM).ends_with("not fit"));
    }
}
