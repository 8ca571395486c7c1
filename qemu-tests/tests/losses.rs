//! Guests on a pair of nodes that loses each kind of what it can lose, and pairs of them in both orders: the
//! short form of `cargo xtask soak --losses` (S0-07, S3-01, S3-11, X09; V1, V4, V5, V19, V23; I5).
//! `BULKHEAD_SEED` says which pairs, and repeats them; without it they are the same each time, so that a run
//! can be judged by what was changed. Where this machine runs no guests, that is said, and nothing is tested.

use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead::vmm::machine::kvm;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::lab::Lab;
use qemu_tests::losses::run::{Settings, run};
use qemu_tests::losses::script::Scope;
use qemu_tests::tooling::bare_guest::bare_guest;

/// Of the pairs that are tried where nobody says which.
const SEED: u64 = 1;
/// What is not begun by then is left to longer runs.
const SPAN: Duration = Duration::from_secs(150);

#[test]
fn guests_run_where_they_can_whatever_is_lost() -> Result<()> {
    if let Err(why) = kvm() {
        println!("skipped: {}", why.what);
        return Ok(());
    }
    let seed = std::env::var("BULKHEAD_SEED").ok().map(|text| text.parse()).transpose()?;
    Artefacts::of("losses", |artefacts| {
        let lab = Lab::get()?;
        let settings = Settings {
            bulkhead: lab.bulkhead.clone(),
            kernel: bare_guest(&lab.workspace)?,
            directory: artefacts.path("plant"),
            scope: Scope::Short,
            seed: seed.unwrap_or(SEED),
            span: SPAN,
        };
        let report = run(&settings, &mut |line| println!("{line}"))?;
        ensure!(report.failed.is_none(), "{}", report.text());
        println!("{}", report.text());
        Ok(())
    })
}
