//! What is printed: where it ran, then each figure of ours beside the other's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::super::median;
use super::guest::Qemu;

/// A figure, in each round.
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    /// Who is measured beside us.
    pub beside: &'static str,
    /// Ours, and the other's, if that was measured.
    pub seen: Vec<(f64, Option<f64>)>,
}

/// Where it ran, beside whom, and what else ran there.
pub struct Subject {
    machine: String,
    kvm: String,
    qemu: String,
    load: String,
}

impl Subject {
    /// This machine.
    pub fn here(qemu: &Result<Qemu>) -> Self {
        let module = ["kvm_intel", "kvm_amd", "kvm_pvm"].into_iter();
        let module = module.filter(|name| Path::new("/sys/module").join(name).exists());
        let kvm = match module.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "a module of another name".into(),
            // Its guests run without the processor's help.
            some if some == "kvm_pvm" => "kvm_pvm, in software".into(),
            some => some,
        };
        let qemu = match qemu {
            Ok(Qemu { processor }) => format!("{}, -cpu {processor}", version()),
            Err(why) => format!("runs no guests here, and is not measured: {why:#}"),
        };
        Self::of(kvm, qemu)
    }

    /// Nodes that are emulated on this machine.
    pub fn nested() -> Self {
        let kvm = "in nodes of one emulated processor each, nested".into();
        Self::of(kvm, format!("{}, which emulates the nodes", version()))
    }

    fn of(kvm: String, qemu: String) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let is_virtual = value("flags").split(' ').any(|flag| flag == "hypervisor");
        let kind = if is_virtual { "a virtual machine" } else { "a physical machine" };
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let (release, name) = (release.trim(), value("model name"));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        Self { machine: format!("{name}, {count} processors, {kind}; Linux {release}"), kvm, qemu, load }
    }
}

fn version() -> String {
    let said = Command::new("qemu-system-x86_64").arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    said.lines().next().unwrap_or_default().to_owned()
}

/// Prints all of it.
pub fn print(subject: &Subject, rows: &[Row], as_json: bool) {
    let Subject { machine, kvm, qemu, load } = subject;
    if as_json {
        println!("{}", json!({ "machine": machine, "kvm": kvm, "qemu": qemu, "load": load }));
    } else {
        println!("\n  on    {machine}\n  KVM   {kvm}\n  QEMU  {qemu}\n  load  {load}, this one counted");
    }
    for Row { what, unit, beside, seen } in rows {
        let ours = median(seen.iter().map(|(ours, _)| *ours));
        let other = median(seen.iter().filter_map(|(_, other)| *other));
        // Within a round, so that the machine's moods cancel out.
        let ratio = median(seen.iter().filter_map(|(ours, other)| Some(ours / (*other)?)));
        let rounds = seen.len();
        if as_json {
            let figures = json!({
                "figure": what, "unit": unit, "rounds": rounds, "bulkhead": ours, "beside": beside,
                "other": other, "oursOverIt": ratio,
            });
            println!("{figures}");
            continue;
        }
        println!("\n{what}, {rounds} rounds");
        let line = |name: &str, [least, middle, most]: [f64; 3]| {
            println!("  {name:<20} {middle:>9.2} {unit} ({least:.2} to {most:.2})");
        };
        line("bulkhead", ours);
        if other.iter().all(|value| value.is_finite()) {
            line(beside, other);
            let [low, times, high] = ratio;
            println!("  ours is {times:.2} times that ({low:.2} to {high:.2})");
        }
    }
}
