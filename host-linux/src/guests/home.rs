//! The directory of a guest on its node: its description, its sockets, what it has said.

use crate::durable;
use crate::failure::Failure;
use crate::vmm::description::{Description, is_name};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where the guests of a node are, unless it is said.
pub const GUESTS: &str = "/var/lib/bulkhead/guests";
/// The file beside a guest's description that says where it went last.
pub const RECORD: &str = "moved.json";
/// The file beside a copy of a guest's description that says where the description is.
pub const ORIGIN: &str = "own-volume.json";

/// Where the guests of a node are.
#[derive(Clone, Debug)]
pub struct Homes(PathBuf);

/// Where one of them is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its name.
    pub name: String,
    path: PathBuf,
}

impl Homes {
    /// Those in this directory.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes a guest.
    ///
    /// # Errors
    ///
    /// There is a guest of this name, or the disk does not take it.
    pub fn create(&self, described: &Description) -> Result<Home, Failure> {
        let home = self.of(&described.name)?;
        fs::create_dir_all(&self.0).map_err(|error| Failure::io("make", &self.0, &error))?;
        match fs::create_dir(&home.path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let next = format!("`bulkhead vm show {}` shows it; another name makes another.", home.name);
                let what = format!("there is a guest called {} already", home.name);
                return Err(Failure::refused(what).next(next));
            }
            made => made.map_err(|error| Failure::io("make", &home.path, &error))?,
        }
        let parent = || fs::File::open(&self.0).and_then(|parent| parent.sync_all());
        let put = home.describe(described);
        put.and_then(|()| parent().map_err(|error| Failure::io("write", &self.0, &error))).inspect_err(
            |_| {
                // What is half there would be in the way of the next attempt.
                let _ = fs::remove_dir_all(&home.path);
            },
        )?;
        Ok(home)
    }

    /// The place of a guest of this name, whether there is one or not: a directory.
    ///
    /// # Errors
    ///
    /// There cannot be one, or the disk does not take it.
    pub fn place(&self, name: &str) -> Result<Home, Failure> {
        let home = self.of(name)?;
        let made = fs::create_dir_all(&home.path).and_then(|()| fs::File::open(&self.0)?.sync_all());
        made.map_err(|error| Failure::io("make", &home.path, &error))?;
        Ok(home)
    }

    /// The guest of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn find(&self, name: &str) -> Result<Home, Failure> {
        let home = self.of(name)?;
        if home.description().is_file() {
            return Ok(home);
        }
        let what = format!("there is no guest called {name} in {}", self.0.display());
        Err(Failure::failed(what)
            .next("`bulkhead vm list` lists those that are here; `vm create` makes one."))
    }

    /// All of them, by name.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn all(&self) -> Result<Vec<Home>, Failure> {
        let failed = |error: std::io::Error| Failure::io("read", &self.0, &error);
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut homes = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            // What else lies there is none of them.
            homes.extend(self.find(&name).ok());
        }
        homes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(homes)
    }

    fn of(&self, name: &str) -> Result<Home, Failure> {
        if !is_name(name) {
            return Err(Failure::usage(format!("`{name}` is no name of a guest")));
        }
        Ok(Home { name: name.to_owned(), path: self.0.join(name) })
    }
}

impl Home {
    /// What the guest is.
    #[must_use]
    pub fn description(&self) -> PathBuf {
        self.path.join("guest.toml")
    }

    /// Describes the guest, in place of what is there.
    ///
    /// # Errors
    ///
    /// The disk does not take it.
    pub fn describe(&self, described: &Description) -> Result<(), Failure> {
        let path = self.description();
        durable::replace(&path, described.text.as_bytes())
            .map_err(|error| Failure::io("write", &path, &error))
    }

    /// A copy of its kernel, of a guest with an own volume.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.path.join("kernel")
    }

    /// A copy of its first files, of such a guest.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.path.join("initrd")
    }

    /// The file that says of which volume these are copies.
    #[must_use]
    pub fn origin(&self) -> PathBuf {
        self.path.join(ORIGIN)
    }

    /// The socket of its API, while it runs.
    #[must_use]
    pub fn api(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// The socket of its console, while it runs.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.path.join("console.sock")
    }

    /// Where it went last, or came from.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// The file that a command locks which moves it to another pair. It stays: who would remove it could
    /// remove another one's lock.
    #[must_use]
    pub fn move_lock(&self) -> PathBuf {
        self.path.join("move.lock")
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// What its process has said.
    #[must_use]
    pub fn messages(&self) -> PathBuf {
        self.path.join("messages")
    }

    /// Forgets the guest. Its volumes stay.
    ///
    /// # Errors
    ///
    /// The disk does not let go of it.
    pub fn delete(&self) -> Result<(), Failure> {
        // Without its description it is no guest any more, whatever else is left.
        let gone = fs::remove_file(self.description()).and_then(|()| fs::remove_dir_all(&self.path));
        gone.map_err(|error| Failure::io("delete", &self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str =
        "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"vmlinuz\"\n";

    #[test]
    fn a_guest_is_made_found_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let homes = Homes::at(&directory.path().join("guests"));
        assert_eq!(homes.all().unwrap(), []);
        let path = directory.path().join("web1.toml");
        fs::write(&path, WEB).unwrap();
        let described = Description::read(&path).unwrap();
        let home = homes.create(&described).unwrap();
        assert_eq!(homes.create(&described).unwrap_err().exit, crate::failure::Exit::Refused);
        fs::create_dir(directory.path().join("guests/empty")).unwrap();
        assert_eq!((homes.all().unwrap(), homes.find("web1").unwrap()), (vec![home.clone()], home.clone()));
        // Names of files mean the same from there.
        let described = Description::read(&home.description()).unwrap();
        assert_eq!(described.kernel, directory.path().join("vmlinuz"));
        home.delete().unwrap();
        assert_eq!(homes.all().unwrap(), []);
        assert!(homes.find("web1").unwrap_err().what.contains("no guest called web1"));
    }

    /// I11: a name is no path.
    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let homes = Homes::at(directory.path());
        for name in ["", ".", "..", "a/b", "../x", "a b", "x\0", &"x".repeat(65)] {
            assert_eq!(homes.find(name).unwrap_err().exit, crate::failure::Exit::Usage, "{name:?}");
        }
    }
}
