//! Small facts that outlive the agent: files in the state directory, each replaced as a whole and flushed,
//! or, where the votes are on a partition, one text beside them. What outlives the votes outlives a reset
//! too.

use crate::durable;
use crate::failure::Failure;
use crate::node_config::record::{Damage, Head, Kind, encode};
use crate::site_config::Local;
use crate::site_config::value::{parse_time, time};
use bulkhead_core::node::health::History;
use bulkhead_core::plan::SECTOR;
use rustix::fs::fsync;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest lease that this voter has granted since it waited for all of them.
const LEASE: &str = "lease";
/// The operator took this node out of the cluster.
const LEFT: &str = "left";
/// How the starts of this witness ended.
const STARTS: &str = "starts";
/// More than any mark has.
const LENGTH_MAX: u64 = 4096;

/// The marks of one node.
#[derive(Clone, Debug)]
pub enum Marks {
    /// Files in this directory.
    Directory(PathBuf),
    /// A text on this infra partition: a line `name=value` for each mark.
    Partition(PathBuf),
}

impl Marks {
    /// The marks of a node whose state directory exists.
    pub fn of(local: &Local) -> Self {
        match &local.device {
            Some(device) => Self::Partition(device.clone()),
            None => Self::Directory(local.state.clone()),
        }
    }

    /// The longest lease that this voter may have granted in an earlier start; `None`: none.
    ///
    /// # Errors
    ///
    /// The mark is there and cannot be read: it must not be taken for a short lease (V11).
    pub fn lease(&self) -> Result<Option<Duration>, Failure> {
        let found = self.read(LEASE).map_err(|error| self.unreadable(&error))?;
        let Some(text) = found else { return Ok(None) };
        parse_time(text.trim()).map(Some).map_err(|why| self.unreadable(&std::io::Error::other(why)))
    }

    /// Notes the lease that this voter grants from now on.
    ///
    /// # Errors
    ///
    /// It did not become durable.
    pub fn set_lease(&self, lease: Duration) -> Result<(), Failure> {
        let set = self.set(LEASE, Some(&time(lease)));
        set.map_err(|error| Failure::io("note the length of leases on", self.place(), &error))
    }

    /// Whether the operator took this node out. A mark that cannot be read counts as set: a node that was
    /// taken out must not come back by itself.
    pub fn has_left(&self) -> bool {
        self.read(LEFT).map_or(true, |found| found.is_some())
    }

    /// Notes whether this node takes part.
    ///
    /// # Errors
    ///
    /// It did not become durable.
    pub fn set_left(&self, left: bool) -> std::io::Result<()> {
        self.set(LEFT, left.then_some("by `bulkhead node leave`"))
    }

    /// Counts this start of a witness. `boot` names the time since the machine came up: failures are counted
    /// since then, as a board counts them since its power came.
    ///
    /// # Errors
    ///
    /// It did not become durable.
    pub fn begin(&self, boot: &str) -> std::io::Result<History> {
        let found = self.read(STARTS)?.unwrap_or_default();
        let history = Run::parse(&found).map_or(History { starts: 1, failures: 0, silent: 0 }, |run| {
            let starts = run.history.starts.saturating_add(1);
            let silent = run.history.silent.saturating_add(u16::from(!run.is_over));
            let is_same_boot = run.boot == boot;
            History { starts, failures: 0, silent: if is_same_boot { silent } else { 0 } }
        });
        self.set(STARTS, Some(&Run { history, is_over: false, boot: boot.into() }.text()))?;
        Ok(history)
    }

    /// This start of a witness ends as it should.
    ///
    /// # Errors
    ///
    /// It did not become durable.
    pub fn end(&self) -> std::io::Result<()> {
        let found = self.read(STARTS)?.unwrap_or_default();
        let Some(run) = Run::parse(&found) else { return Ok(()) };
        self.set(STARTS, Some(&Run { is_over: true, ..run }.text()))
    }

    fn place(&self) -> &Path {
        match self {
            Self::Directory(place) | Self::Partition(place) => place,
        }
    }

    fn read(&self, name: &str) -> std::io::Result<Option<String>> {
        match self {
            Self::Directory(state) => {
                let path = state.join(name);
                match std::fs::metadata(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                    Ok(found) if found.len() <= LENGTH_MAX => std::fs::read_to_string(&path).map(Some),
                    Ok(_) => Err(std::io::Error::other(format!("{} is too long", path.display()))),
                }
            }
            Self::Partition(device) => {
                let (_, text) = read_text(&File::open(device)?)?;
                Ok(value(&text, name).map(str::to_owned))
            }
        }
    }

    fn set(&self, name: &str, text: Option<&str>) -> std::io::Result<()> {
        match self {
            Self::Directory(state) => match text {
                Some(text) => replace(state, name, text),
                None => match std::fs::remove_file(state.join(name)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    Ok(()) => Ok(fsync(File::open(state)?)?),
                    Err(error) => Err(error),
                },
            },
            Self::Partition(device) => {
                let file = OpenOptions::new().read(true).write(true).open(device)?;
                let (seq, old) = read_text(&file)?;
                let others = old.lines().filter(|line| value(line, name).is_none());
                let own = text.map(|text| format!("{name}={text}"));
                let lines: Vec<&str> = others.chain(own.as_deref()).collect();
                write_text(&file, seq, &lines.join("\n"))
            }
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        let what = format!(
            "{} is damaged: it does not say how long a lease may last ({error})",
            self.place().display()
        );
        let next = match self {
            Self::Directory(_) => {
                "wait for longer than any lease of this site, remove the file `lease` in it, and start again."
            }
            Self::Partition(_) => "replace the disk; the node then comes back as a new voter.",
        };
        Failure::failed(what).left("Nothing was started.").next(next)
    }
}

/// One start of a witness: `STARTS SILENT running|over BOOT`.
struct Run {
    history: History,
    is_over: bool,
    boot: String,
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (starts, silent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let is_over = words.next()? == "over";
        let boot = words.next()?.to_owned();
        Some(Self { history: History { starts, failures: 0, silent }, is_over, boot })
    }

    fn text(&self) -> String {
        let Self { history, is_over, boot } = self;
        let state = if *is_over { "over" } else { "running" };
        format!("{} {} {state} {boot}", history.starts, history.silent)
    }
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn replace(state: &Path, name: &str, text: &str) -> std::io::Result<()> {
    durable::replace(&state.join(name), format!("{text}\n").as_bytes())
}

/// The newest good copy, with its number; nothing when there never was one.
fn read_text(file: &File) -> std::io::Result<(u64, String)> {
    let mut copies = Vec::new();
    for at in Kind::Marks.places() {
        let mut head = [0; SECTOR];
        file.read_exact_at(&mut head, at)?;
        copies.push(Head::parse(Kind::Marks, &head).and_then(|head| {
            let mut text = vec![0; head.len];
            let text_at = at.saturating_add(u64::try_from(SECTOR).unwrap_or(512));
            file.read_exact_at(&mut text, text_at).map_err(|_| Damage::Unreadable)?;
            Ok((head.seq, head.text(&text)?))
        }));
    }
    let never = copies.iter().all(|copy| matches!(copy, Err(Damage::Magic)));
    let damage = copies.iter().find_map(|copy| copy.as_ref().err().copied());
    match (copies.into_iter().flatten().max_by_key(|(seq, _)| *seq), damage) {
        (Some(newest), _) => Ok(newest),
        (None, _) if never => Ok((0, String::new())),
        (None, damage) => {
            let why = damage.map_or_else(String::new, |damage| damage.to_string());
            Err(std::io::Error::other(format!("both copies of {}: {why}", Kind::Marks)))
        }
    }
}

/// Writes the copy that is not the newest, so that a cut leaves that one. The numbers alternate between the
/// copies, beginning with the first.
fn write_text(file: &File, newest: u64, text: &str) -> std::io::Result<()> {
    let seq = newest.saturating_add(1);
    let [first, second] = Kind::Marks.places();
    let at = if seq % 2 == 1 { first } else { second };
    file.write_all_at(&encode(Kind::Marks, seq, text), at)?;
    Ok(fsync(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_set_and_damage_is_no_short_lease() {
        let directory = tempfile::tempdir().unwrap();
        let device = directory.path().join("infra");
        File::create(&device).unwrap().set_len(1 << 20).unwrap();
        for marks in [Marks::Directory(directory.path().into()), Marks::Partition(device)] {
            assert_eq!(marks.lease().unwrap(), None);
            marks.set_lease(Duration::from_millis(600)).unwrap();
            marks.set_lease(Duration::from_millis(110)).unwrap();
            assert_eq!(marks.lease().unwrap(), Some(Duration::from_millis(110)));
            assert!(!marks.has_left());
            marks.set_left(true).unwrap();
            assert!(marks.has_left());
            assert_eq!(marks.lease().unwrap(), Some(Duration::from_millis(110)));
            marks.set_left(false).unwrap();
            marks.set_left(false).unwrap();
            assert!(!marks.has_left());
        }
        let marks = Marks::Directory(directory.path().into());
        for text in [String::new(), "soon".into(), "1".repeat(10_000)] {
            std::fs::write(directory.path().join(LEASE), text).unwrap();
            assert!(marks.lease().unwrap_err().what.contains("is damaged"));
        }
    }

    /// F13: a start that did not end well is counted by the next one, until the machine comes up anew.
    #[test]
    fn starts_are_counted_and_so_are_those_that_did_not_end_well() {
        let directory = tempfile::tempdir().unwrap();
        let marks = Marks::Directory(directory.path().into());
        let count = |boot| marks.begin(boot).map(|history| (history.starts, history.silent)).unwrap();
        assert_eq!(count("one"), (1, 0));
        marks.end().unwrap();
        assert_eq!(count("one"), (2, 0));
        assert_eq!((count("one"), count("one")), ((3, 1), (4, 2)), "twice without an end");
        marks.end().unwrap();
        assert_eq!(count("one"), (5, 2));
        assert_eq!(count("two"), (6, 0), "the machine came up anew");
        std::fs::write(directory.path().join(STARTS), "nonsense").unwrap();
        assert_eq!(count("two"), (1, 0));
    }

    /// A cut in the middle of any change leaves the marks as they were before it.
    #[test]
    fn a_torn_copy_on_a_partition_is_not_read_and_two_are_damage() {
        let directory = tempfile::tempdir().unwrap();
        let device = directory.path().join("infra");
        let file = File::options().read(true).write(true).create_new(true).open(&device).unwrap();
        file.set_len(1 << 20).unwrap();
        let marks = Marks::Partition(device);
        for round in 1..=4 {
            marks.set_lease(Duration::from_millis(round)).unwrap();
            let torn = Kind::Marks.places()[usize::from(round % 2 == 1)];
            if round == 1 {
                continue;
            }
            file.write_all_at(b"torn", torn + 100).unwrap();
            assert_eq!(marks.lease().unwrap(), Some(Duration::from_millis(round)));
        }
        for at in Kind::Marks.places() {
            file.write_all_at(b"torn", at + 100).unwrap();
        }
        assert!(marks.lease().unwrap_err().what.contains("is damaged") && marks.has_left());
    }
}
