//! S3-06, S3-07, S3-10, S3-11: a guest has a volume of its own, so that whichever node of the pair leads has
//! all that it needs to start it, or to have it go on.

use super::common::bulkhead;
use super::migrate::{Site, counter, counts_on, guests, ok, runs_guests, said, state, vm};
use super::plant::Plant;
use super::{client, roles, within, write};
use bulkhead::guests::own_volume::pair::Pair;
use bulkhead::guests::own_volume::served::Access;
use bulkhead::guests::own_volume::table::What;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A guest's files, that are nobody's.
fn files(directory: &Path, memory: &str, kernel: &[u8]) -> PathBuf {
    std::fs::write(directory.join("vmlinuz"), kernel).unwrap();
    let file = directory.join("web1.toml");
    let text = format!(
        "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"{memory}\"\nkernel = \"vmlinuz\"\n\
         [[disk]]\nvolume = \"vm1\"\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn begin() -> (Site, &'static str, &'static str, tempfile::TempDir) {
    let plant = Site(Plant::start());
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    (plant, primary, secondary, tempfile::tempdir().unwrap())
}

fn reboot(plant: &Plant, node: &str) {
    let mut stream = UnixStream::connect(guests(plant, node).join("web1/api.sock")).unwrap();
    stream.write_all(b"PUT /api/v1/vm.reboot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

/// A reset finds its kernel: it counts from its beginning on. One that comes just where its count begins anew
/// by itself is not seen, so another one follows.
fn begins_anew(plant: &Plant, node: &str) {
    let is_anew = |signs: &[u8]| signs.windows(2).any(|pair| pair[1] == b'0' && pair[0] != b'o');
    within("it to begin anew", || {
        reboot(plant, node);
        let messages = guests(plant, node).join("web1/messages");
        assert_eq!(state(plant, node), "Running", "{:?}", std::fs::read_to_string(messages));
        let before = said(plant, node).len();
        within("it counts", || (before + 100 < said(plant, node).len()).then_some(()));
        is_anew(&said(plant, node)).then_some(())
    });
}

/// The node on which a guest was made, ran, and was captured is lost with all that was on it. The other one
/// has it go on where it was, starts it, and resets it.
#[test]
fn a_guest_outlives_the_node_that_made_it() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    let file = files(directory.path(), "64M", &counter());
    let made = ok(&plant, here, &["create", file.to_str().unwrap()]);
    assert_eq!(made["ownVolume"], "web1.guest");
    drop(directory);
    // The other one knows of it, and has nothing of it; it runs where its volumes are led.
    let listed = ok(&plant, there, &["list"])["guests"].clone();
    let expected = json!([{ "name": "web1", "state": "Off", "movedTo": null, "ownVolume": "web1.guest" }]);
    assert_eq!(listed, expected);
    assert_eq!(ok(&plant, there, &["show", "web1"])["config"]["memory"]["size"], 64 << 20);
    for command in ["start", "restore"] {
        let refused = vm(&plant, there, &[command, "web1"]);
        assert_eq!((refused.code, refused.err.contains(here)), (3, true), "{}", refused.err);
    }
    assert!(!guests(&plant, there).join("web1").exists());

    ok(&plant, here, &["start", "web1"]);
    within("it counts", || (100 < said(&plant, here).len()).then_some(()));
    ok(&plant, here, &["snapshot", "web1", "--as", "first"]);
    let before = said(&plant, here).len();
    within("it goes on", || (before + 100 < said(&plant, here).len()).then_some(()));
    let taken = ok(&plant, here, &["snapshot", "web1", "--stop"]);
    assert_eq!((&taken["snapshot"], &taken["file"]), (&json!("last"), &json!(null)));
    let signs = said(&plant, here);
    let names = |node: &str| {
        let listed = ok(&plant, node, &["snapshots", "web1"])["snapshots"].clone();
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(there), ["first", "last"]);

    plant.fault(&["kill", here]);
    std::fs::remove_dir_all(guests(&plant, here)).unwrap();
    within("the other one to lead", || {
        plant.ok(there, &["list"])["group"]["storage"]["leads"].as_bool()?.then_some(())
    });
    let none = vm(&plant, there, &["restore", "web1", "--from", "third"]);
    assert_eq!((none.code, none.err.contains("there is no snapshot third")), (1, true), "{}", none.err);
    ok(&plant, there, &["restore", "web1"]);
    within("it counts there", || (100 < said(&plant, there).len()).then_some(()));
    counts_on(&[signs, said(&plant, there)].concat());
    begins_anew(&plant, there);
    ok(&plant, there, &["stop", "web1", "--now"]);

    // Of its description alone; and it can be captured there.
    ok(&plant, there, &["snapshots", "web1", "--delete", "first"]);
    std::fs::remove_dir_all(guests(&plant, there)).unwrap();
    ok(&plant, there, &["start", "web1"]);
    within("it counts anew", || (100 < said(&plant, there).len()).then_some(()));
    assert_eq!(ok(&plant, there, &["show", "web1"])["ownVolume"], "web1.guest");
    ok(&plant, there, &["snapshot", "web1"]);
    assert_eq!(names(there), ["last"]);
    ok(&plant, there, &["stop", "web1", "--now"]);
    // Its memory goes on with the disks that it knows, or not at all.
    write(&client(&plant, there, "vm1", 16 << 20), 3, 1);
    let refused = vm(&plant, there, &["restore", "web1"]);
    let why = "vm1 was written to since";
    assert_eq!((refused.code, refused.err.contains(why)), (3, true), "{}", refused.err);
}

/// A guest that was moved resets there, though the file that its kernel came from is nowhere.
#[test]
fn a_guest_that_was_moved_has_its_files_there() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    let file = files(directory.path(), "64M", &counter());
    ok(&plant, here, &["create", file.to_str().unwrap()]);
    drop(directory);
    ok(&plant, here, &["start", "web1"]);
    within("it counts", || (100 < said(&plant, here).len()).then_some(()));
    ok(&plant, here, &["migrate", "web1", "--to", there]);
    std::fs::remove_dir_all(guests(&plant, here)).unwrap();
    within("it counts there", || (100 < said(&plant, there).len()).then_some(()));
    begins_anew(&plant, there);
    assert_eq!(ok(&plant, there, &["show", "web1"])["ownVolume"], "web1.guest");
    ok(&plant, there, &["stop", "web1", "--now"]);
}

/// What cannot be done is refused, and leaves nothing behind; what is deleted is deleted for both nodes.
#[test]
fn a_guest_is_made_described_anew_and_deleted_where_its_volumes_are_led() {
    let (plant, here, there, directory) = begin();
    let kernel = vec![7; 3 << 20];
    let file = files(directory.path(), "64M", &kernel);
    let file = file.to_str().unwrap();
    let fails = |node: &str, code, words: &[&str], why: &str| {
        let answer = vm(&plant, node, words);
        assert_eq!((answer.code, answer.err.contains(why)), (code, true), "{words:?}: {}", answer.err);
    };
    let volumes = || {
        let listed = plant.ok(here, &["list"])["volumes"].clone();
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    fails(there, 3, &["create", file], &format!("{here} leads"));
    fails(here, 1, &["create", file, "--own-volume", "1MiB"], "has no room");
    assert_eq!((volumes(), guests(&plant, here).join("web1").exists()), (vec!["vm1".into()], false));
    // S3-10: no guest sees it.
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text.replace("vm1", "web1.guest")).unwrap();
    fails(here, 2, &["create", file], "a guest's own volume");
    std::fs::write(file, &text).unwrap();

    ok(&plant, here, &["create", file]);
    assert_eq!(volumes(), ["vm1", "web1.guest"]);
    fails(here, 3, &["create", file], "called web1 already");
    fails(here, 3, &["create", file, "--local"], "called web1 already");
    fails(here, 1, &["snapshots", "web1", "--delete", "last"], "no snapshot last");
    fails(there, 1, &["snapshots", "web2"], "no volume of its own");
    assert_eq!(ok(&plant, there, &["snapshots", "web1"])["snapshots"], json!([]));

    std::fs::write(file, text.replace("64M", "128M")).unwrap();
    fails(there, 3, &["update", "web1", file], &format!("{here} leads"));
    fails(here, 2, &["update", "web2", file], "describes guest web1");
    ok(&plant, here, &["update", "web1", file]);
    assert_eq!(ok(&plant, there, &["show", "web1"])["config"]["memory"]["size"], 128 << 20);

    // One of a node alone is another one, and not lost to that of the pair.
    ok(&plant, there, &["create", file, "--local"]);
    assert_eq!(ok(&plant, there, &["show", "web1"])["ownVolume"], json!(null));
    fails(there, 3, &["delete", "web1", "--yes"], "two guests called web1");
    ok(&plant, there, &["delete", "web1", "--local", "--yes"]);

    fails(here, 3, &["delete", "web1"], "its own volume with its snapshots would be deleted");
    fails(there, 3, &["delete", "web1", "--yes"], &format!("{here} leads"));
    ok(&plant, here, &["delete", "web1", "--local", "--yes"]);
    assert_eq!(volumes(), ["vm1", "web1.guest"]);
    ok(&plant, here, &["delete", "web1", "--yes"]);
    assert_eq!(volumes(), ["vm1"]);
    fails(here, 1, &["start", "web1"], "no guest called web1");
    // A copy that outlived its volume is no guest.
    ok(&plant, here, &["create", file]);
    plant.ok(here, &["delete", "web1.guest", "--yes"]);
    fails(here, 3, &["start", "web1"], "not there any more");
    ok(&plant, here, &["delete", "web1", "--yes"]);
    assert_eq!(ok(&plant, here, &["list"])["guests"], json!([]));
}

/// X02, V8: what was begun while one node led is not done when another one leads.
#[test]
fn what_is_begun_in_one_reign_is_not_done_in_the_next() {
    let (plant, here, there, directory) = begin();
    let file = files(directory.path(), "64M", b"a kernel");
    ok(&plant, here, &["create", file.to_str().unwrap()]);
    let pair = |node: &str| {
        let socket = plant.part(node)["socket"].as_str().unwrap();
        Pair::ask(socket.as_ref()).unwrap().unwrap()
    };
    let mut change = pair(here).open("web1", Access::Change).unwrap().change();
    change.put(What::Kernel, 1, 5, &mut &b"newer"[..]).unwrap();
    let second = pair(here).open("web1", Access::Change).unwrap_err();
    assert!(second.what.contains("is at work"), "{}", second.what);

    plant.ok(here, &["promote", there]);
    within("the other one to lead", || {
        plant.ok(there, &["list"])["group"]["storage"]["leads"].as_bool()?.then_some(())
    });
    change.commit().expect_err("it is done by who leads no more");
    let contents = pair(there).open("web1", Access::Look).unwrap();
    assert_eq!(contents.table().find(&What::Kernel).unwrap().length, 8);
    std::fs::write(directory.path().join("vmlinuz"), b"another kernel").unwrap();
    ok(&plant, there, &["update", "web1", file.to_str().unwrap()]);
    let contents = pair(here).open("web1", Access::Look).unwrap();
    assert_eq!(contents.table().find(&What::Kernel).unwrap().length, 14);
}

/// Without an agent a guest is kept where it is made, unless more is asked for.
#[test]
fn a_guest_without_an_agent_is_of_its_node() {
    let directory = tempfile::tempdir().unwrap();
    let file = files(directory.path(), "64M", b"a kernel");
    let nowhere = directory.path().join("nowhere");
    let alone = |words: &[&str]| {
        let mut command = bulkhead(&[&["vm", "create", file.to_str().unwrap()], words].concat());
        command.arg("--guests").arg(&nowhere).arg("--state-dir").arg(&nowhere).output().unwrap()
    };
    assert_eq!(alone(&["--own-volume", "1GiB"]).status.code(), Some(3));
    assert!(!nowhere.exists());
    assert_eq!(alone(&[]).status.code(), Some(0));
    assert!(nowhere.join("web1/guest.toml").exists());
}
