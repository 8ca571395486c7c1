//! S3-06: memory and disks of a guest that is restored are of one instant, on whichever node; or it is
//! refused.

use super::migrate::{begin, guests, ok, runs_guests, said, vm};
use super::{check, client, within, write};

/// Of the volume.
const SIZE: u64 = 16 << 20;

#[test]
fn a_snapshot_is_restored_with_the_disks_that_it_was_taken_with() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there) = begin("[[disk]]\nvolume = \"vm1\"\n", &[]);
    write(&client(&plant, here, "vm1", SIZE), 3, 1);
    let file = guests(&plant, here).join("web1.snapshot");
    let snapshot = file.to_str().unwrap();
    let restore = ["restore", "web1", snapshot];

    // Its volumes are as they were, on this node and on the other one; so it goes on, as often as that is so.
    ok(&plant, here, &["snapshot", "web1", snapshot, "--stop"]);
    let before = said(&plant, here).len();
    ok(&plant, here, &restore);
    within("it goes on", || (before < said(&plant, here).len()).then_some(()));
    ok(&plant, here, &["stop", "web1", "--now"]);
    plant.ok(here, &["promote", there]);
    let leads = || plant.ok(there, &["list"])["group"]["storage"]["leads"] == true;
    within("the other one to lead", || leads().then_some(()));
    std::fs::create_dir_all(guests(&plant, there)).unwrap();
    ok(&plant, there, &restore);
    within("it goes on there", || (!said(&plant, there).is_empty()).then_some(()));

    // What counts is the seal of the newest of those that build on each other.
    let (old, new) = (format!("{snapshot}.0"), format!("{snapshot}.1"));
    ok(&plant, there, &["snapshot", "web1", &old, "--track"]);
    ok(&plant, there, &["snapshot", "web1", &new, "--since", &old, "--stop"]);
    let refused = vm(&plant, there, &["restore", "web1", &old]);
    assert_eq!(
        (refused.code, refused.err.contains("vm1 was written to since")),
        (3, true),
        "{}",
        refused.err
    );
    let before = said(&plant, there).len();
    ok(&plant, there, &["restore", "web1", &new]);
    within("it goes on of both", || (before < said(&plant, there).len()).then_some(()));

    // One that goes on behind its snapshot writes, or may: here somebody does.
    ok(&plant, there, &["snapshot", "web1", snapshot]);
    write(&client(&plant, there, "vm1", SIZE), 3, 2);
    ok(&plant, there, &["stop", "web1", "--now"]);
    let refused = vm(&plant, there, &restore);
    assert_eq!(
        (refused.code, refused.err.contains("vm1 was written to since")),
        (3, true),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("vm start"), "{}", refused.err);
    check(&client(&plant, there, "vm1", SIZE), 3, 2);

    // So is a volume of the same name that is another one.
    ok(&plant, there, &["start", "web1"]);
    ok(&plant, there, &["snapshot", "web1", snapshot, "--stop"]);
    plant.ok(there, &["delete", "vm1", "--yes"]);
    plant.ok(there, &["create", "vm1", "--size", "16MiB"]);
    let refused = vm(&plant, there, &restore);
    assert_eq!((refused.code, refused.err.contains("vm1 is another volume")), (3, true), "{}", refused.err);
}
