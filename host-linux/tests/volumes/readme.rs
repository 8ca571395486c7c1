//! S2-01, S0-11: the commands with which the README runs a guest on a mirrored volume and moves it work as
//! they are printed there.

use super::failover::counts;
use super::migrate::{Site, counter, guests, ok, runs_guests};
use super::plant::Plant;
use super::{bulkhead, roles};
use std::io::Read as _;
use std::process::Stdio;

/// The commands of the README that make a guest and move it, with their words.
fn printed() -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let block = readme.split("```").find(|block| block.contains("bulkhead vm migrate")).unwrap();
    let lines = block.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let commands = lines.filter_map(|line| line.strip_prefix("bulkhead "));
    commands.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_commands_of_the_readme_work_as_printed() {
    let printed = printed();
    assert!((1..=5).contains(&printed.len()), "at most five: {printed:?}");
    if !runs_guests() {
        return;
    }
    let plant = Site(Plant::start());
    let (here, there) = roles(&plant);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("vmlinuz"), counter()).unwrap();
    let described = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64MiB\"\nkernel = \"vmlinuz\"\n\
                     [[disk]]\nvolume = \"web1\"\n";
    std::fs::write(directory.path().join("web1.toml"), described).unwrap();
    for words in &printed {
        // The other node is called otherwise here.
        let words = words.iter().map(|word| if word == "plant-b-1" { there } else { word.as_str() });
        let mut command = bulkhead(&words.collect::<Vec<_>>());
        command.current_dir(directory.path()).env("BULKHEAD_GUESTS", guests(&plant, here));
        command.env("BULKHEAD_SOCKET", plant.part(here)["socket"].as_str().unwrap());
        let is_console = command.get_args().any(|arg| arg == "console");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if is_console {
            // Without a terminal nobody leaves it: it shows what the guest says, and is ended.
            let mut said = [0; 64];
            child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            continue;
        }
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{command:?}: {said}");
    }
    counts(&plant, there, "web1");
    ok(&plant, there, &["stop", "web1", "--now"]);
}
