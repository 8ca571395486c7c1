//! S0-11, X15, I5: a guest with a volume of its own moves to another pair with all of it. It is wanted in one
//! pair, never in both, and runs in one, whatever is lost meanwhile.

use super::copied::{DISKS, SIZE, is_written, pattern, volume, writer};
use super::migrate::{
    Site, begin_to_move, counts_on, guests, ok, process, runs_guests, said, state, stays, vm,
};
use super::plant::Plant;
use super::{ask, client, within};
use bulkhead::guests::record::{Record, Way};
use bulkhead::nbd::export::Request;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

/// Two pairs, and a guest with a volume of its own where the first one is led.
pub(super) struct Pairs {
    pub(super) plant: Site,
    pub(super) here: &'static str,
    pub(super) follows: &'static str,
    pub(super) there: &'static str,
    pub(super) far: &'static str,
}

impl Pairs {
    pub(super) fn start() -> Self {
        let plant = Site(Plant::of(&["--volumes", "--pairs", "2"]));
        let of_pair = |one: &'static str, other: &'static str| {
            let found = plant.ok(one, &["wait", "--for", "in-sync", "--timeout", "60s"]);
            let leads = found["group"]["storage"]["primary"].as_u64() == plant.part(one)["node"].as_u64();
            if leads { (one, other) } else { (other, one) }
        };
        let ((here, follows), (there, far)) = (of_pair("a1", "b1"), of_pair("c1", "d1"));
        plant.ok(here, &["create", "vm1", "--size", "16MiB"]);
        let near = client(&plant, here, "vm1", SIZE);
        for (at, data) in pattern().chunks(1 << 20).enumerate() {
            let offset = (9 << 20) + (at as u64) * (1 << 20);
            ask(&near, Request::Write { offset, data: data.to_vec(), durable: true }).unwrap();
        }
        // Its kernel is in its own volume, and nowhere else.
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("vmlinuz"), writer()).unwrap();
        let file = directory.path().join("web1.toml");
        let described = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\n\
                         kernel = \"vmlinuz\"\n[[disk]]\nvolume = \"vm1\"\n[failover]\npriority = 7\n";
        std::fs::write(&file, described).unwrap();
        ok(&plant, here, &["create", file.to_str().unwrap()]);
        ok(&plant, here, &["start", "web1"]);
        within("it writes", || (200 < said(&plant, here).len()).then_some(()));
        Self { plant, here, follows, there, far }
    }

    pub(super) fn to(&self, from: &str, to: &str) -> super::Answer {
        vm(&self.plant, from, &["migrate", "web1", "--to", to, "--copy-disks"])
    }

    /// Whether its pair is said to want it; `None`: it has no volume there.
    pub(super) fn wanted(&self, node: &str) -> Option<bool> {
        let all = self.plant.ok(node, &["list"])["group"]["storage"]["volumes"].clone();
        let own = all.as_array().unwrap().iter().find(|volume| volume["name"] == "web1.guest")?.clone();
        Some(own["guest"]["running"] == true)
    }

    pub(super) fn is_wanted(&self, node: &str, is_so: bool) {
        let what = format!("that it is wanted on {node}: {is_so}");
        within(&what, || (self.wanted(node) == Some(is_so)).then_some(()));
    }

    pub(super) fn leads(&self, node: &str) {
        let leads = || self.plant.volume(node, &["list"]).out.contains("\"leads\":true");
        within(&format!("{node} to lead"), || leads().then_some(()));
    }

    pub(super) fn is_refused(&self, node: &str, words: &[&str], why: &str) {
        let answer = vm(&self.plant, node, words);
        let is_said = answer.err.contains(why);
        assert_eq!((answer.code, is_said), (3, true), "{node}: {words:?}: {}{}", answer.out, answer.err);
    }

    /// What is listed of it on a node.
    pub(super) fn listed(&self, node: &str) -> Value {
        let all = ok(&self.plant, node, &["list"])["guests"].clone();
        all.as_array().unwrap().iter().find(|guest| guest["name"] == "web1").unwrap().clone()
    }

    pub(super) fn counts(&self, node: &str) {
        let before = said(&self.plant, node).len();
        within(&format!("it counts on {node}"), || {
            (before + 100 < said(&self.plant, node).len()).then_some(())
        });
    }
}

/// All of it goes, and what it was told to be written is there, block for block. From then on the other pair
/// begins it, and this one does not, whichever node leads there.
#[test]
fn a_guest_with_a_volume_of_its_own_moves_to_another_pair() {
    if !runs_guests() {
        return;
    }
    let pairs = Pairs::start();
    let Pairs { plant, here, follows, there, far } = &pairs;
    ok(plant, here, &["snapshot", "web1", "--as", "before"]);
    pairs.is_refused(here, &["migrate", "web1", "--to", follows, "--copy-disks"], "both are of one pair");
    pairs.is_refused(here, &["migrate", "web1", "--to", far, "--copy-disks"], &format!("{there} leads"));
    // Another one of its name is not written over.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web1.toml");
    std::fs::write(directory.path().join("k"), writer()).unwrap();
    let other = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"k\"\n";
    std::fs::write(&file, other).unwrap();
    for (more, kept) in
        [(&["--local"][..], "alone, which has no web1.guest"), (&[], "in a volume of its own")]
    {
        ok(plant, there, &[&["create", file.to_str().unwrap()], more].concat());
        pairs.is_refused(here, &["migrate", "web1", "--to", there, "--copy-disks"], kept);
        ok(plant, there, &["delete", "web1", "--yes"]);
    }
    assert_eq!((pairs.wanted(here), state(plant, here)), (Some(true), "Running".into()));

    let answer = pairs.to(here, there);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let moved: Value = serde_json::from_str(&answer.out).unwrap();
    println!("{}", moved["moved"]);
    assert_eq!(moved["snapshotsLeft"], serde_json::json!(["before"]));
    assert_eq!(moved["left"], serde_json::json!(["volume vm1", "volume web1.guest"]));
    assert_eq!(pairs.wanted(here), Some(false), "before it was given away");
    assert_eq!((state(plant, here), state(plant, there)), ("Off".into(), "Running".into()));
    pairs.is_wanted(there, true);
    let all = plant.ok(far, &["list"])["group"]["storage"]["volumes"].clone();
    let own = all.as_array().unwrap().iter().find(|volume| volume["name"] == "web1.guest").unwrap();
    assert_eq!((&own["guest"]["running"], &own["guest"]["priority"]), (&true.into(), &7.into()));

    pairs.counts(there);
    ok(plant, there, &["pause", "web1"]);
    let all = [said(plant, here), said(plant, there)].concat();
    counts_on(&all);
    is_written(&volume(plant, there), all.len());
    ok(plant, there, &["resume", "web1"]);

    // It comes to life again on no node of the pair that it left, by no command that does not say so.
    pairs.is_refused(here, &["start", "web1"], "may run there");
    plant.ok(here, &["promote", follows]);
    pairs.leads(follows);
    pairs.is_refused(follows, &["start", "web1"], &format!("went to {there}"));
    pairs.is_refused(follows, &["restore", "web1", "--from", "before"], &format!("went to {there}"));
    assert_eq!(pairs.listed(follows)["movedTo"], *there);
    assert_eq!((state(plant, there), said(plant, follows).len()), ("Running".into(), 0));

    // Its new node is lost, with all that it had of it.
    plant.fault(&["kill", there]);
    std::fs::remove_dir_all(guests(plant, there)).unwrap();
    pairs.counts(far);
    assert_eq!(state(plant, far), "Running");
    ok(plant, far, &["stop", "web1", "--now"]);
    ok(plant, far, &["start", "web1"]);
    assert_eq!(pairs.wanted(follows), Some(false));

    // One that was given, and whose process ended before anybody could say that it is wanted, is begun.
    ok(plant, far, &["stop", "web1", "--now"]);
    pairs.is_wanted(far, false);
    let came = Record { unsaid: true, ..Record::now(Way::From, there, true) };
    came.save(&guests(plant, far).join("web1/moved.json")).unwrap();
    pairs.is_wanted(far, true);
    pairs.counts(far);
}

/// One that does not go is wanted here as before, and by nobody there; then it goes over what was left, and
/// comes back the same way.
#[test]
fn a_guest_with_a_volume_of_its_own_stays_goes_and_comes_back() {
    if !runs_guests() {
        return;
    }
    let pairs = Pairs::start();
    let Pairs { plant, here, there, far, .. } = &pairs;
    let slow = ["--to", there, "--copy-disks", "--bandwidth", "1MiB"];
    let moves = begin_to_move(plant, here, &slow, DISKS);
    // Another command does not take away what this one has noted.
    pairs.is_refused(here, &["migrate", "web1", "--to", there, "--copy-disks"], "being moved already");
    assert_eq!((pairs.wanted(here), pairs.wanted(there)), (Some(true), Some(false)));
    ok(plant, here, &["migrate", "web1", "--cancel"]);
    let answer = moves.join().unwrap();
    assert_eq!((answer.code, answer.err.contains("cancelled")), (1, true), "{}", answer.err);
    stays(plant, here, there);
    assert_eq!((pairs.wanted(here), pairs.wanted(there)), (Some(true), Some(false)));
    pairs.is_refused(there, &["start", "web1"], &format!("comes from {here}"));
    assert_eq!(pairs.listed(far)["comesFrom"], **here);

    // The process there dies; the guest's own does, and is begun here.
    let moves = begin_to_move(plant, here, &slow, DISKS);
    kill_process(process(plant, there), Signal::KILL).unwrap();
    assert_eq!(moves.join().unwrap().code, 1);
    stays(plant, here, there);
    let moves = begin_to_move(plant, here, &slow, DISKS);
    kill_process(process(plant, here), Signal::KILL).unwrap();
    assert_ne!(moves.join().unwrap().code, 0);
    within("it begins again here", || (state(plant, here) == "Running").then_some(()));
    pairs.counts(here);
    assert_eq!((pairs.wanted(here), pairs.wanted(there)), (Some(true), Some(false)));
    // Nothing is left of it that keeps an operator from starting it.
    ok(plant, here, &["stop", "web1", "--now"]);
    ok(plant, here, &["start", "web1"]);
    pairs.counts(here);

    let answer = pairs.to(here, there);
    assert_eq!(answer.code, 0, "{}", answer.err);
    pairs.is_wanted(there, true);
    pairs.counts(there);
    assert_eq!(pairs.wanted(here), Some(false));
    // It switches hands there as any guest does.
    ok(plant, there, &["stop", "web1", "--now"]);
    ok(plant, there, &["start", "web1"]);
    pairs.counts(there);
    let before = said(plant, here).len();

    pairs.is_refused(there, &["migrate", "web1", "--to", here, "--copy-disks"], "has something on it");
    assert_eq!((pairs.wanted(here), pairs.wanted(there)), (Some(false), Some(true)));
    plant.ok(here, &["delete", "vm1", "--yes"]);
    let answer = pairs.to(there, here);
    assert_eq!(answer.code, 0, "{}", answer.err);
    pairs.is_wanted(here, true);
    assert_eq!(pairs.wanted(there), Some(false));
    within("it counts here", || (before + 100 < said(plant, here).len()).then_some(()));
    assert_eq!((state(plant, here), state(plant, there)), ("Running".into(), "Off".into()));
    pairs.is_refused(there, &["start", "web1"], "may run there");
    ok(plant, there, &["delete", "web1", "--yes"]);
    assert_eq!(pairs.wanted(there), None);
}
