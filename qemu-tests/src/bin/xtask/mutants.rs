//! `cargo xtask mutants`: the tests are tested. Each planted fault must make its test red.

use anyhow::Result;

/// Plant the faults listed in core/mutants, one at a time, in a copy of the core, and expect the test named
/// beside each to go red.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask mutants            all of them\n  \
    cargo xtask mutants checksum   those whose words contain `checksum`")]
pub struct Arguments {
    /// Words of the faults to plant.
    #[arg(default_value = "")]
    filter: String,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let verdicts = qemu_tests::mutants::run(&arguments.filter)?;
    println!("{} planted faults, all killed", verdicts.len());
    Ok(())
}
