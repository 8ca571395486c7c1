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

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest module: an ELF header, the two sections that are read, and the table that finds them.
    fn module(depends: &str) -> Vec<u8> {
        let info = format!("license=GPL\0depends={depends}\0");
        let names = "\0.modinfo\0.shstrtab\0";
        let info_at = 64;
        let names_at = info_at + info.len();
        let table_at = names_at + names.len();
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(64, 0);
        file[0x28..0x30].copy_from_slice(&u64::try_from(table_at).unwrap().to_le_bytes());
        file[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file.extend_from_slice(info.as_bytes());
        file.extend_from_slice(names.as_bytes());
        for (name, at, length) in [(0_u32, 0, 0), (1, info_at, info.len()), (10, names_at, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&u64::try_from(at).unwrap().to_le_bytes());
            header[0x20..0x28].copy_from_slice(&u64::try_from(length).unwrap().to_le_bytes());
            file.extend_from_slice(&header);
        }
        file
    }

    /// What `wanted` gives, in a tree of (file name, what it depends on) where `built-in` is built in.
    fn order(files: &[(&str, &str)], wanted: &[&str]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().to_owned();
        fs::create_dir_all(modules.join("kernel/drivers")).unwrap();
        fs::write(modules.join("modules.builtin"), "kernel/lib/built-in.ko\n").unwrap();
        for (name, depends) in files {
            fs::write(modules.join("kernel/drivers").join(name), module(depends)).unwrap();
        }
        let kernel = Kernel { vmlinuz: modules.join("vmlinuz"), modules, release: "6".to_owned() };
        Ok(in_load_order(&kernel, wanted)?.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn each_module_comes_once_and_after_what_it_depends_on() {
        let files = [
            ("kvm-amd.ko", "kvm,ccp"),
            ("kvm.ko", "irqbypass,built_in"),
            ("irqbypass.ko", ""),
            ("ccp.ko", ""),
        ];
        let wanted = ["kvm_amd", "kvm", "built-in", "kvm-amd"];
        assert_eq!(order(&files, &wanted).unwrap(), ["irqbypass", "kvm", "ccp", "kvm_amd"]);
    }

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let missing = order(&[("nvme.ko", "nvme-core")], &["nvme"]).unwrap_err().to_string();
        assert_eq!(
            missing,
            "kernel module nvme_core, which nvme needs, is neither in the kernel package nor built in"
        );
        let circle = order(&[("a.ko", "b"), ("b.ko", "a")], &["a"]).unwrap_err().to_string();
        assert_eq!(circle, "kernel modules depend on each other: a -> b -> a");
    }
}
