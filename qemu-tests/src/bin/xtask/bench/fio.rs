//! What fio says of a load, and how it is run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Of one turn.
pub struct Figures {
    /// Operations.
    pub per_second: f64,
    /// Half of them took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
}

/// Runs fio; the job, or all of its jobs together, is the first of its answer.
pub fn run(mut fio: Command, kind: &str) -> Result<Figures> {
    let output = fio.arg("--output-format=json").output().context("starting fio (Debian: fio)")?;
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.get(text.find('{').unwrap_or(0)..).unwrap_or_default();
    let answer: Value = serde_json::from_str(json).context("fio's answer")?;
    let number = |path: &str| number(&answer, &format!("/jobs/0/{kind}/{path}"));
    Ok(Figures {
        per_second: number("iops")?,
        p50_us: number("clat_ns/percentile/50.000000")? / 1e3,
        p99_us: number("clat_ns/percentile/99.000000")? / 1e3,
    })
}

/// A number of an answer.
pub fn number(answer: &Value, path: &str) -> Result<f64> {
    answer.pointer(path).and_then(Value::as_f64).with_context(|| format!("the answer has no {path}"))
}

/// Writes a file in full, so that no later write changes the file system.
pub fn fill(mut fio: Command, file: &Path, megabytes: u64) -> Result<()> {
    fio.args(["--name=fill", "--direct=1", "--rw=write", "--bs=1m", "--end_fsync=1"]);
    fio.arg(format!("--filename={}", file.display())).arg(format!("--size={megabytes}m"));
    run(fio, "write").map(drop)
}
