//! Tests of the tests: plants a fault in a copy of the core, and expects the named test to go red.
//!
//! The faults stand in `core/mutants/*.txt`, whose first lines explain the format. The copy lives
//! in the build folder with build results of its own, so that a run costs one small build a fault
//! and can never leave a fault behind in the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Output, Run};
use crate::tooling::workspace::Workspace;

/// The longest test, slowed down by a busy machine.
const TEST_TIME_MAX: Duration = Duration::from_secs(300);
/// A first build of all dependencies.
const BUILD_TIME_MAX: Duration = Duration::from_secs(600);

/// A planted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What is wrong, in words.
    pub fault: String,
    /// The file, below `core/src`.
    pub file: String,
    /// Text that stands exactly once in it.
    pub old: String,
    /// What it becomes.
    pub new: String,
    /// Test program of the core, or `lib`, and a filter for its tests.
    pub test: String,
}

/// What became of a planted fault.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The fault.
    pub mutant: Mutant,
    /// The test went red, or did not end.
    pub killed: bool,
    /// How long build and test took.
    pub took: Duration,
}

/// Runs all faults whose words contain `filter`, and tells of each as it is done.
///
/// # Errors
/// When a test is red without a fault, when a fault does not apply or does not build, or when any survives.
pub fn run(filter: &str) -> Result<Vec<Verdict>> {
    let workspace = Workspace::locate();
    let mutants = load(&workspace.root().join("core/mutants"))?;
    let mutants: Vec<_> = mutants.into_iter().filter(|mutant| mutant.fault.contains(filter)).collect();
    ensure!(!mutants.is_empty(), "no planted fault is called anything like `{filter}`");
    let tree = Tree::plant(&workspace)?;
    for test in mutants.iter().map(|mutant| &mutant.test).collect::<BTreeSet<_>>() {
        let output = tree.test(test)?;
        ensure!(output.status.success(), "`{test}` is red without any fault:\n{}", output.stdout_text());
    }
    let mut verdicts = Vec::new();
    for mutant in mutants {
        let verdict = tree.judge(mutant)?;
        let Verdict { mutant: Mutant { fault, test, .. }, killed, took } = &verdict;
        let word = if *killed { "killed by" } else { "SURVIVED" };
        println!("{:5.1} s  {fault:<72} {word} {test}", took.as_secs_f64());
        verdicts.push(verdict);
    }
    let survivors: Vec<_> = verdicts.iter().filter(|verdict| !verdict.killed).collect();
    if !survivors.is_empty() {
        bail!("{} of {} planted faults survived their tests", survivors.len(), verdicts.len());
    }
    Ok(verdicts)
}

/// The faults in all lists in `folder`.
fn load(folder: &Path) -> Result<Vec<Mutant>> {
    let mut lists = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} could not be read", folder.display()))? {
        lists.push(entry?.path());
    }
    lists.sort();
    let mut mutants = Vec::new();
    for list in lists.iter().filter(|list| list.extension().is_some_and(|extension| extension == "txt")) {
        let text = fs::read_to_string(list)?;
        mutants.extend(parse(&text).with_context(|| format!("in {}", list.display()))?);
    }
    Ok(mutants)
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| paragraph.starts_with("fault:"));
    paragraphs.map(parse_one).collect()
}

fn parse_one(paragraph: &str) -> Result<Mutant> {
    let mut lines = paragraph.lines();
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned()).with_context(|| format!("no `{name}:` in\n{paragraph}"))
    };
    Ok(Mutant {
        fault: field("fault")?,
        file: field("file")?,
        old: field("old")?,
        new: field("new")?,
        test: field("test")?,
    })
}

/// A copy of the core as a workspace of its own.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn plant(workspace: &Workspace) -> Result<Self> {
        let tree = Self { root: workspace.out().join("mutants") };
        let core = tree.root.join("core");
        if core.exists() {
            fs::remove_dir_all(&core)?;
        }
        copy(&workspace.root().join("core"), &core)?;
        let manifest = fs::read_to_string(workspace.root().join("Cargo.toml"))?;
        let alone = manifest.lines().map(|line| match line.split_once('=').map(|(key, _)| key.trim()) {
            Some("members" | "default-members") => "",
            Some("resolver") => "members = [\"core\"]\nresolver = \"3\"",
            Some(_) | None => line,
        });
        fs::write(tree.root.join("Cargo.toml"), alone.collect::<Vec<_>>().join("\n"))?;
        fs::copy(workspace.root().join("Cargo.lock"), tree.root.join("Cargo.lock"))?;
        Ok(tree)
    }

    fn judge(&self, mutant: Mutant) -> Result<Verdict> {
        let file = self.root.join("core/src").join(&mutant.file);
        let good = fs::read_to_string(&file).with_context(|| format!("{} is not there", file.display()))?;
        let found = good.matches(&mutant.old).count();
        ensure!(found == 1, "`{}`: `{}` stands {found} times in {}", mutant.fault, mutant.old, mutant.file);
        fs::write(&file, good.replace(&mutant.old, &mutant.new))?;
        let started = Instant::now();
        let built = self.cargo(&mutant.test, &["--no-run"]).timeout(BUILD_TIME_MAX).succeed();
        // A test that does not end is red; `Run` has killed it.
        let killed = built
            .as_ref()
            .is_ok_and(|_| !self.test(&mutant.test).is_ok_and(|output| output.status.success()));
        fs::write(&file, good)?;
        built.with_context(|| format!("with `{}` the core does not build", mutant.fault))?;
        Ok(Verdict { mutant, killed, took: started.elapsed() })
    }

    fn test(&self, test: &str) -> Result<Output> {
        self.cargo(test, &[]).timeout(TEST_TIME_MAX).output()
    }

    fn cargo(&self, test: &str, more: &[&str]) -> Run {
        let (program, filter) = test.split_once(' ').unwrap_or((test, ""));
        let program = if program == "lib" { vec!["--lib"] } else { vec!["--test", program] };
        let arguments = ["test", "--quiet", "--package", "bulkhead-core"];
        Run::new("cargo")
            .args(arguments.into_iter().chain(program).chain(more.iter().copied()).chain([filter]))
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .directory(&self.root)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_fault_applies_to_the_core_as_it_is() {
        let root = Workspace::locate().root().join("core");
        let mutants = load(&root.join("mutants")).unwrap();
        assert!(mutants.len() >= 12, "{} planted faults", mutants.len());
        for mutant in mutants {
            let source = fs::read_to_string(root.join("src").join(&mutant.file)).unwrap();
            assert_eq!(source.matches(&mutant.old).count(), 1, "{}", mutant.fault);
            assert_ne!(mutant.old, mutant.new);
        }
    }

    /// The canary: a list with a fault that is missing a line is refused, not skipped.
    #[test]
    fn a_fault_that_is_not_whole_is_refused() {
        assert!(parse("fault: x\nfile: y\nold: a\nnew: b").is_err());
        assert_eq!(parse("about\n\nfault: x\nfile: y\nold: a\nnew: b\ntest: lib z").unwrap().len(), 1);
    }
}
