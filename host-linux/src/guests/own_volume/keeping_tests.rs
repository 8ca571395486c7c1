//! A guest goes into its volume and comes out of it elsewhere.

use super::super::testing::{Blocks, Disk};
use super::*;
use crate::failure::Exit;
use std::fs;

const WEB: &str = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"vmlinuz\"\n";

fn described(directory: &Path, more: &str) -> Description {
    let path = directory.join("web1.toml");
    fs::write(&path, format!("{WEB}{more}")).unwrap();
    Description::read(&path).unwrap()
}

/// A guest that was put there is the same guest on a node that has nothing of it, and stays so as it is
/// described anew (S3-06, S3-07).
#[test]
fn a_guest_is_brought_from_its_volume() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (directory.path(), directory.path().join("there"));
    fs::write(here.join("vmlinuz"), b"a kernel").unwrap();
    fs::write(here.join("initrd.img"), vec![5; 10_000]).unwrap();
    let disk = Disk::new(1000, Blocks::new());
    let with_initrd = described(here, "initrd = \"initrd.img\"\n");
    let counted = std::cell::Cell::new(0);
    let count = |bytes| counted.set(counted.get() + bytes);
    put(Contents::open_new(&disk).unwrap(), &with_initrd, &count).unwrap();
    assert_eq!((counted.get(), files(&with_initrd).unwrap()), (10_008, 10_008));
    fs::remove_file(here.join("vmlinuz")).unwrap();

    let homes = Homes::at(&there);
    let again = || {
        let contents = Contents::open(&disk).unwrap();
        bring(&contents, &homes, "web1", Before::Copy, &|_| ())
    };
    let home = again().unwrap();
    assert_eq!(origin(&home).unwrap(), Some(Name::new("web1.guest").unwrap()));
    let found = Description::read(&home.description()).unwrap();
    assert_eq!((&found.kernel, found.initrd.as_ref()), (&home.kernel(), Some(&home.initrd())));
    assert_eq!(fs::read(home.kernel()).unwrap(), b"a kernel");
    assert_eq!(fs::read(home.initrd()).unwrap(), vec![5; 10_000]);

    // What was changed here is no longer so; what is the same is not written again.
    fs::write(home.kernel(), b"another").unwrap();
    fs::write(home.description(), WEB).unwrap();
    let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = written(&home.initrd());
    assert_eq!(again().unwrap(), home);
    assert_eq!((Description::read(&home.description()).unwrap(), written(&home.initrd())), (found, before));
    assert_eq!(fs::read(home.kernel()).unwrap(), b"a kernel");

    // Described anew, out of its own copy: its kernel is read where it is.
    let mut anew = Description::read(&home.description()).unwrap();
    anew = Description::parse(&anew.text.replace("processors = 1", "processors = 2"), &there).unwrap();
    anew = Description::parse(
        &anew.text.replace(&format!("initrd = \"{}\"\n", home.initrd().display()), ""),
        &there,
    )
    .unwrap();
    put(Contents::open(&disk).unwrap(), &anew, &|_| ()).unwrap();
    assert!(Contents::open(&disk).unwrap().table().find(&What::Initrd).is_none());
    let found = Description::read(&again().unwrap().description()).unwrap();
    assert_eq!((found.processors, found.initrd), (2, None));

    // One that runs is left alone.
    let runs = crate::vmm::in_use::InUse::lock(&home.description()).unwrap();
    put(Contents::open(&disk).unwrap(), &Description { processors: 3, ..with_kernel(&anew, here) }, &|_| ())
        .unwrap();
    again().unwrap();
    assert_eq!(fs::read(home.kernel()).unwrap(), b"a kernel");
    drop(runs);
    again().unwrap();
    assert_eq!(fs::read(home.kernel()).unwrap(), b"third");
}

/// The same, with another kernel.
fn with_kernel(described: &Description, directory: &Path) -> Description {
    let kernel = directory.join("third");
    fs::write(&kernel, b"third").unwrap();
    described.loading(&kernel, Path::new("")).unwrap()
}

#[test]
fn a_guest_that_cannot_be_kept_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let disk = Disk::new(1000, Blocks::new());
    let missing = put(Contents::open_new(&disk).unwrap(), &described(here, ""), &|_| ()).unwrap_err();
    assert!(missing.what.contains("vmlinuz"), "{missing:?}");
    fs::write(here.join("vmlinuz"), vec![1; 5000]).unwrap();
    let guest = described(here, "");
    assert_eq!(room(&guest).unwrap(), blocks(2 * (5000 + (64 << 20)) + (64 << 20)) + 2);
    let small = Disk::new(4, Blocks::new());
    let full = put(Contents::open_new(&small).unwrap(), &guest, &|_| ()).unwrap_err();
    assert!(full.next.contains("volume resize web1.guest"), "{full:?}");
    put(Contents::open_new(&disk).unwrap(), &guest, &|_| ()).unwrap();

    let contents = Contents::open(&disk).unwrap();
    assert!(description("web2", &contents).unwrap_err().what.contains("guest web1 in it"));
    // A guest of this node alone is not lost to another one of its name.
    let homes = Homes::at(&here.join("guests"));
    let home = homes.create(&guest).unwrap();
    assert_eq!(origin(&home).unwrap(), None);
    let two = bring(&contents, &homes, "web1", Before::Copy, &|_| ()).unwrap_err();
    assert_eq!((two.exit, two.next.contains("--local")), (Exit::Refused, true), "{two:?}");
    assert_eq!(Description::read(&home.description()).unwrap(), guest);
    bring(&contents, &homes, "web1", Before::Any, &|_| ()).unwrap();
    assert!(origin(&home).unwrap().is_some());
    for text in ["", "{}", r#"{"version":2,"volume":"web1.guest"}"#, r#"{"version":1,"volume":"a/b"}"#] {
        fs::write(home.origin(), text).unwrap();
        assert!(origin(&home).unwrap_err().what.contains("names no volume"), "{text}");
    }
}
