//! Plants the faults of `core/mutants` whose words contain the first argument, all without one.

fn main() -> anyhow::Result<()> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let verdicts = qemu_tests::mutants::run(&filter)?;
    println!("{} planted faults, all killed", verdicts.len());
    Ok(())
}
