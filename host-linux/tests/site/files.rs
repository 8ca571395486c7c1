//! Site files that differ are noticed, named and harmless (F54, V40).

use crate::harness::Site;
use bulkhead::site_config::{Goal, Preset, SiteConfig};

/// Of the events of `node`, those about the file of another.
fn compared(site: &Site, node: usize) -> Vec<(u64, String)> {
    let events = site.events(node).into_iter().filter(|event| event["kind"] == "configuration");
    let what = |event: &serde_json::Value| event["compared"].as_str().unwrap().to_owned();
    events.map(|event| (event["node"].as_u64().unwrap(), what(&event))).collect()
}

/// The file of b1 has two more nodes, which vote.
fn other_voters(config: &mut SiteConfig) {
    let mut extra = config.members[1].clone();
    extra.id.0 = 4;
    extra.name = "b2".into();
    extra.addresses = ["127.0.0.1:9", "127.0.0.2:9"].map(|address| address.parse().unwrap());
    config.members.push(extra);
    let mut third = config.members[0].clone();
    third.id.0 = 5;
    third.name = "a2".into();
    third.addresses = ["127.0.0.1:10", "127.0.0.2:10"].map(|address| address.parse().unwrap());
    config.members.push(third);
}

/// Wider timers on the slave: shown on all, said once, and no role changes.
#[test]
fn a_file_with_other_timers_is_named_and_costs_nothing() {
    let mut site = Site::new();
    site.start_at_once();
    let status = site.wait("all is well", 1, |status| status["protected"] == true);
    let (master, slave) = if status["role"] == "master" { (1, 2) } else { (2, 1) };
    let says = |node: usize, found: &'static str| {
        move |status: &serde_json::Value| status["nodes"][node - 1]["configuration"] == found
    };
    site.wait("both others have the same file", master, |status| {
        says(slave, "same")(status) && says(3, "same")(status)
    });
    let won = site.times_master(master);
    assert_eq!(compared(&site, master), [], "nothing is said of what is as it should be");
    site.stop(slave);
    site.rewrite(slave, |config| config.timers.goal = Goal::Preset(Preset::Wide));
    site.start(slave);
    site.wait("the master names the slave", master, says(slave, "differs"));
    site.wait("the slave names the master", slave, says(master, "differs"));
    let (_, text) = site.run(master, &["status"]);
    let name = |node: usize| ["a1", "b1"][node - 1];
    let expected = format!("the site file of {} differs from that of {}", name(slave), name(master));
    assert!(text.contains(&expected), "{text}");
    site.stop(slave);
    site.rewrite(slave, |config| config.timers.goal = Goal::Preset(Preset::Default));
    site.start(slave);
    site.wait("all is well again", master, |status| {
        status["protected"] == true && says(slave, "same")(status)
    });
    let slave_id = u64::try_from(slave).unwrap();
    assert_eq!(compared(&site, master), [(slave_id, "differs".into()), (slave_id, "same".into())]);
    assert_eq!(site.times_master(master), won, "the master stayed");
}

/// Five voters in the file of b1, three in the others', and no record yet: nobody becomes master. The files
/// are made the same: somebody does.
#[test]
fn files_that_name_other_voters_make_no_master() {
    let mut site = Site::new();
    site.rewrite(2, other_voters);
    // a1 comes last: alone with the witness it would be right to begin.
    [2, 3].into_iter().for_each(|node| site.start(node));
    site.wait("b1 hears the witness", 2, |status| status["nodes"][2]["configuration"] == "other-voters");
    site.start(1);
    site.wait("a1 names b1", 1, |status| status["nodes"][1]["configuration"] == "other-voters");
    std::thread::sleep(std::time::Duration::from_secs(3));
    for node in [1, 2] {
        assert_ne!(site.status(node).unwrap()["role"], "master");
    }
    let (_, text) = site.run(2, &["status"]);
    assert!(text.contains("names other voters than that of b1"), "{text}");
    site.stop(2);
    site.rewrite(2, |config| config.members.truncate(3));
    site.start(2);
    site.wait("all is well", 1, |status| status["protected"] == true);
    site.never_two_masters();
}
