//! What many guests have in common: a description without a name, in which `{name}` stands for the guest's,
//! and whose disks may say how large the volumes are that are made for them (S0-24, S3-13).
//!
//! A guest that is made of one has all of it in its own description, and no ties to the template.

use crate::failure::Failure;
use crate::mirror::view::Policy;
use crate::vmm::description::{Description, is_name};
use crate::volume::size::blocks;
use bulkhead_core::volume::name::Name;
use std::path::Path;
use toml::{Table, Value};

/// Where a template has the name of the guest.
const NAME: &str = "{name}";
/// The longest file that is read.
const FILE_MAX: u64 = 1 << 20;

/// A guest of a template, and what is to be made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The guest.
    pub described: Description,
    /// The volumes that it is to have.
    pub volumes: Vec<NewVolume>,
}

/// A volume that is to be made for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name.
    pub name: Name,
    /// Its size, in blocks of 4096 bytes.
    pub blocks: u64,
    /// When its writes are acknowledged; `None`: as the pair's are (S0-06).
    pub mode: Option<Policy>,
}

/// A guest of this template: of this name, or as this file says, whose keys count where both have them.
/// Tables are put together key by key; lists, as those of disks, are one's or the other's.
///
/// # Errors
///
/// A file cannot be read or makes no sense: which, and what would.
pub fn instance(template: &Path, file: Option<&Path>, name: Option<&str>) -> Result<Instance, Failure> {
    let mut table = read(template)?;
    let wrong = |what: String| Failure::usage(format!("{}: {what}", template.display()));
    if table.contains_key("name") {
        return Err(wrong("a template has no `name`: it is the guest's".into()));
    }
    let own = file.map(read).transpose()?.unwrap_or_default();
    let name = name.or_else(|| own.get("name").and_then(Value::as_str)).map(str::to_owned);
    let name = name.filter(|name| is_name(name)).ok_or_else(|| {
        let next = "say `--name`, or `name` in the guest's file: 1 to 64 letters, digits, `-`, `_`, `.`.";
        wrong("which guest is to be made of it?".into()).next(next)
    })?;
    for (_, value) in table.iter_mut() {
        call(value, &name);
    }
    merge(&mut table, own);
    table.insert("name".into(), Value::String(name));
    let volumes = volumes(&mut table).map_err(wrong)?;
    let text = toml::to_string(&table).map_err(|error| wrong(error.to_string()))?;
    let described = Description::parse(&text, Path::new("/")).map_err(|what| match file {
        Some(file) => {
            Failure::usage(format!("{}, of template {}: {what}", file.display(), template.display()))
        }
        None => wrong(what),
    })?;
    Ok(Instance { described, volumes })
}

/// A file of keys, with names of files that mean the same everywhere on this node.
fn read(path: &Path) -> Result<Table, Failure> {
    let failed = |error: &std::io::Error| Failure::io("read", path, error);
    let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if FILE_MAX < length {
        return Err(Failure::usage(format!("{} is longer than any description", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let mut table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| Failure::usage(format!("{}: {error}", path.display())))?;
    let path = std::path::absolute(path).map_err(|error| failed(&error))?;
    let beside = path.parent().unwrap_or(Path::new("/"));
    for key in ["kernel", "initrd"] {
        if let Some(Value::String(file)) = table.get_mut(key) {
            let full = beside.join(&*file);
            *file = full.to_str().map_or_else(|| file.clone(), str::to_owned);
        }
    }
    Ok(table)
}

/// Puts the guest's name where the template has a place for it.
fn call(value: &mut Value, name: &str) {
    match value {
        Value::String(text) => *text = text.replace(NAME, name),
        Value::Array(values) => values.iter_mut().for_each(|value| call(value, name)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| call(value, name)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn merge(table: &mut Table, own: Table) {
    for (key, value) in own {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(own)) => merge(known, own),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// Takes what is to be made out of the disks.
fn volumes(table: &mut Table) -> Result<Vec<NewVolume>, String> {
    let Some(Value::Array(disks)) = table.get_mut("disk") else { return Ok(Vec::new()) };
    let mut volumes = Vec::new();
    for disk in disks {
        let Value::Table(disk) = disk else { continue };
        let volume = disk.get("volume").and_then(Value::as_str).map(str::to_owned);
        let (size, mode) = (disk.remove("size"), disk.remove("mode"));
        let (size, volume) = match (size, volume) {
            (None, _) if mode.is_none() => continue,
            (Some(Value::String(size)), Some(volume)) => (size, volume),
            (None, _) => return Err("a [[disk]] with `mode` has no `size` of a volume to make".into()),
            (Some(_), _) => {
                return Err("a [[disk]] with `size` names the `volume` to make, as `size = \"10GiB\"`".into());
            }
        };
        let name = Name::new(&volume).map_err(|why| format!("`volume` of [[disk]], `{volume}`: {why}"))?;
        let blocks = blocks(&size).map_err(|why| format!("`size` of [[disk]] {volume}: {why}"))?;
        let mode = match mode.as_ref().map(|mode| mode.as_str().unwrap_or_default()) {
            None | Some("pair") => None,
            Some("through") => Some(Policy::Through),
            Some("back") => Some(Policy::Back),
            Some(other) => {
                return Err(format!(
                    "`mode` of [[disk]] {volume}, `{other}`, is not `through`, `back`, `pair`"
                ));
            }
        };
        volumes.push(NewVolume { name, blocks, mode });
    }
    Ok(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::wanted::Policy as Follows;

    const TEMPLATE: &str = r#"
        version = 1
        processors = 2
        memory = "1GiB"
        kernel = "vmlinuz"
        command_line = "root=/dev/vda hostname={name}"
        [[disk]]
        volume = "{name}-root"
        size = "10GiB"
        mode = "back"
        [[disk]]
        volume = "shared"
        read_only = true
        [failover]
        policy = "resume"
        priority = 200
    "#;

    fn made(template: &str, file: Option<&str>, name: Option<&str>) -> Result<Instance, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let (path, own) = (directory.path().join("t/plc.toml"), directory.path().join("web.toml"));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, template).unwrap();
        std::fs::write(&own, file.unwrap_or_default()).unwrap();
        let made = instance(&path, file.map(|_| own.as_path()), name)?;
        // The kernel of each is beside its own file.
        let kernel = made.described.kernel.clone();
        assert!(kernel == directory.path().join("t/vmlinuz") || kernel == directory.path().join("own"));
        Ok(made)
    }

    /// S0-24, S3-13: it inherits high availability and replication, and can be otherwise.
    #[test]
    fn a_guest_inherits_what_it_does_not_say_itself() {
        let Instance { described, volumes } = made(TEMPLATE, None, Some("plc1")).unwrap();
        assert_eq!((described.name.as_str(), described.memory), ("plc1", 1 << 30));
        assert_eq!(described.command_line, "root=/dev/vda hostname=plc1");
        assert_eq!((described.failover.policy, described.failover.priority), (Follows::Resume, 200));
        let root = Name::new("plc1-root").unwrap();
        assert_eq!(volumes, [NewVolume { name: root, blocks: 10 << 18, mode: Some(Policy::Back) }]);
        assert_eq!(described.disks.len(), 2);

        let own = "name = \"db\"\nmemory = \"2GiB\"\nkernel = \"own\"\n[failover]\npriority = 9\n";
        let Instance { described, volumes } = made(TEMPLATE, Some(own), None).unwrap();
        assert_eq!((described.name.as_str(), described.memory), ("db", 2 << 30));
        assert_eq!((described.failover.policy, described.failover.priority), (Follows::Resume, 9));
        assert_eq!(volumes[0].name.as_str(), "db-root");
        let own = "name = \"db\"\n[[disk]]\nvolume = \"{name}\"\n";
        let why = made(TEMPLATE, Some(own), None).unwrap_err();
        assert!(why.what.contains("`{name}`"), "only a template has places for a name: {why:?}");
        let own = "name = \"db\"\ndisk = []\n";
        assert_eq!(made(TEMPLATE, Some(own), None).unwrap().volumes, []);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let without = |line: &str| TEMPLATE.replace(line, "");
        let cases = [
            (TEMPLATE.to_owned(), None, "which guest"),
            (TEMPLATE.to_owned(), Some("../x"), "which guest"),
            (format!("name = \"x\"\n{TEMPLATE}"), Some("x"), "has no `name`"),
            (without("processors = 2"), Some("x"), "processors"),
            (without("size = \"10GiB\""), Some("x"), "no `size`"),
            (without("volume = \"{name}-root\""), Some("x"), "names the `volume`"),
            (TEMPLATE.replace("\"10GiB\"", "10"), Some("x"), "names the `volume`"),
            (TEMPLATE.replace("10GiB", "1.5G"), Some("x"), "`size` of [[disk]] x-root"),
            (TEMPLATE.replace("\"back\"", "\"never\""), Some("x"), "`never`, is not"),
            (TEMPLATE.replace("\"back\"", "7"), Some("x"), "is not `through`"),
            (format!("colour = 1\n{TEMPLATE}"), Some("x"), "colour"),
            ("version = ".to_owned(), Some("x"), "plc.toml"),
        ];
        for (template, name, why) in cases {
            let failure = made(&template, None, name).unwrap_err();
            assert!(failure.what.contains(why), "{why}: {failure:?}");
        }
    }
}
