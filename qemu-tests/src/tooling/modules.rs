//! Which module files a set of kernel modules needs, in the order in which `insmod` can load them. Read from
//! the modules themselves: a kernel package brings no `modules.dep`, that is made at installation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::elf;
use super::kernel::Kernel;

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name as `lsmod` shows it.
    pub name: String,
    /// Its file, uncompressed.
    pub path: PathBuf,
}

/// The modules `wanted` and all they depend on, each after what it depends on. What is built into the kernel
/// needs no file and is left out.
///
/// # Errors
/// When a module is neither in the tree nor built in, cannot be read, or depends on itself.
pub fn in_load_order(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<Module>> {
    let tree = Tree::read(&kernel.modules)?;
    let mut order = Vec::new();
    for name in wanted {
        tree.visit(&plain(name), &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

struct Tree {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Tree {
    fn read(modules: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(&modules.join("kernel"), &mut files)?;
        let list = modules.join("modules.builtin");
        let list = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let built_in = list.lines().filter_map(|line| name_of(Path::new(line))).collect();
        Ok(Self { files, built_in })
    }

    /// Depth first. `above` is the path of names that led here: a name in it again is a circle.
    fn visit(&self, name: &str, above: &mut Vec<String>, order: &mut Vec<Module>) -> Result<()> {
        if self.built_in.contains(name) || order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        if above.iter().any(|other| other == name) {
            bail!("kernel modules depend on each other: {} -> {name}", above.join(" -> "));
        }
        let Some(path) = self.files.get(name) else {
            let asked = above.last().map_or_else(String::new, |other| format!(", which {other} needs,"));
            bail!("kernel module {name}{asked} is neither in the kernel package nor built in");
        };
        let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let info = elf::modinfo(&file).with_context(|| path.display().to_string())?;
        above.push(name.to_owned());
        for (_, names) in info.iter().filter(|(key, _)| key == "depends") {
            for lower in names.split(',').filter(|lower| !lower.is_empty()) {
                self.visit(&plain(lower), above, order)?;
            }
        }
        above.pop();
        order.push(Module { name: name.to_owned(), path: path.clone() });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if let Some(name) = name_of(&entry.path()) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Option<String> {
    Some(plain(path.file_name()?.to_str()?.strip_suffix(".ko")?))
}

/// A file may be called `kvm-amd.ko`, the module is `kvm_amd`; both spellings are in use everywhere.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}
