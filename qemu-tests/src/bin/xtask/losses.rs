//! `cargo xtask soak --losses`: guests on this machine's own KVM, on a pair of nodes that loses what it can
//! lose, for as long as told; and the report.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use bulkhead::vmm::machine::kvm;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::losses::run::{Settings, run};
use qemu_tests::losses::script::Scope;
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{bare_guest, programs};

use super::soak::Arguments;

pub fn losses(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if let Err(why) = kvm() {
        bail!("this machine runs no guests: {}", why.what);
    }
    let only: Vec<_> = arguments.only.iter().map(|act| act.losses.clone()).collect();
    let scope = if only.is_empty() { Scope::Long } else { Scope::Only(only) };
    let bulkhead = arguments.program.clone().map_or_else(|| programs::bulkhead(workspace), Ok)?;
    let kernel = bare_guest::bare_guest(workspace)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = arguments.seed().unwrap_or(now);
    Artefacts::of("losses", |artefacts| {
        let directory = artefacts.path("plant");
        let settings = Settings { bulkhead, kernel, directory, scope, seed, span: arguments.span };
        let report = run(&settings, &mut |line| eprintln!("{line}"))?;
        match arguments.json {
            true => println!("{}", report.json()),
            false => print!("{}", report.text()),
        }
        ensure!(
            report.failed.is_none(),
            "not all was as it must be: `--only` with what failed, or `--seed {seed}`, plays it again"
        );
        Ok(())
    })
}
