//! Small facts that outlive the agent, each a file in the state directory, replaced as a whole and flushed.

use crate::failure::Failure;
use crate::site_config::value::{parse_time, time};
use rustix::fs::fsync;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest lease that this voter has granted since it waited for all of them.
const LEASE: &str = "lease";
/// The operator took this node out of the cluster.
const LEFT: &str = "left";
/// More than any mark has.
const LENGTH_MAX: u64 = 4096;

/// The marks of one node.
#[derive(Clone, Debug)]
pub struct Marks {
    state: PathBuf,
}

impl Marks {
    /// The marks in a state directory that exists.
    pub fn new(state: &Path) -> Self {
        Self { state: state.into() }
    }

    /// The longest lease that this voter may have granted in an earlier start; `None`: none.
    ///
    /// # Errors
    ///
    /// The mark is there and cannot be read: it must not be taken for a short lease (V11).
    pub fn lease(&self) -> Result<Option<Duration>, Failure> {
        let path = self.state.join(LEASE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() <= LENGTH_MAX => {}
            Ok(_) | Err(_) => return Err(damaged(&path)),
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, &error))?;
        parse_time(text.trim()).map(Some).map_err(|_| damaged(&path))
    }

    /// Notes the lease that this voter grants from now on.
    ///
    /// # Errors
    ///
    /// It did not become durable.
    pub fn set_lease(&self, lease: Duration) -> Result<(), Failure> {
        let path = self.state.join(LEASE);
        self.write(LEASE, &time(lease)).map_err(|error| Failure::io("write", &path, &error))
    }

    /// Whether the operator took this node out.
    pub fn has_left(&self) -> bool {
        self.state.join(LEFT).exists()
    }

    /// Notes whether this node takes part.
    ///
    /// # Errors
    ///
    /// It did not become durable.
    pub fn set_left(&self, left: bool) -> std::io::Result<()> {
        if left {
            return self.write(LEFT, "by `bulkhead node leave`");
        }
        match std::fs::remove_file(self.state.join(LEFT)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Ok(()) => Ok(fsync(File::open(&self.state)?)?),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        let partial = self.state.join(format!("{name}.partial"));
        let mut file = File::create(&partial)?;
        writeln!(file, "{text}")?;
        fsync(&file)?;
        std::fs::rename(&partial, self.state.join(name))?;
        Ok(fsync(File::open(&self.state)?)?)
    }
}

fn damaged(path: &Path) -> Failure {
    let what = format!("{} is damaged: it does not say how long a lease may last", path.display());
    let next = "wait for longer than any lease of this site, remove it, and start again.";
    Failure::failed(what).left("Nothing was started.").next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_set_and_damage_is_no_short_lease() {
        let directory = tempfile::tempdir().unwrap();
        let marks = Marks::new(directory.path());
        assert_eq!(marks.lease().unwrap(), None);
        marks.set_lease(Duration::from_millis(600)).unwrap();
        marks.set_lease(Duration::from_millis(110)).unwrap();
        assert_eq!(marks.lease().unwrap(), Some(Duration::from_millis(110)));
        for text in [String::new(), "soon".into(), "1".repeat(10_000)] {
            std::fs::write(directory.path().join(LEASE), text).unwrap();
            assert!(marks.lease().unwrap_err().what.contains("is damaged"));
        }
        assert!(!marks.has_left());
        marks.set_left(true).unwrap();
        assert!(marks.has_left());
        marks.set_left(false).unwrap();
        marks.set_left(false).unwrap();
        assert!(!marks.has_left());
    }
}
