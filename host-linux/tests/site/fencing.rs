//! Fencing through the witness with real processes: the "power" of a node is its process, the relay a program
//! with the interface of the fence-agents (V19, V20, V21, F28, F29).

use crate::common::bulkhead;
use crate::harness::Site;
use bulkhead::site_config::{Fencing, Goal, Method, Preset, SiteConfig};
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::NodeId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The relays: outlet N feeds the process whose number is in the file `pidN`.
const RELAYS: &str = r#"#!/bin/sh
while IFS= read -r line; do case "$line" in
  action=*) action=${line#action=} ;;
  plug=*) plug=${line#plug=} ;;
  pids=*) pids=${line#pids=} ;;
esac; done
pid=$(cat "$pids/pid$plug") || exit 1
case $action in
  off) kill -9 $pid ;;
  on) echo "the test switches nobody on" >&2; exit 1 ;;
  status) case $(cut -d' ' -f3 /proc/$pid/stat 2>/dev/null) in ''|Z) exit 2 ;; esac ;;
  *) exit 1 ;;
esac
"#;

fn with_relays(config: &mut SiteConfig, directory: &Path) {
    let script = directory.join("fence_relays");
    std::fs::write(&script, RELAYS).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (agent, witness) = (Some(script.display().to_string()), NodeId(3));
    let options = BTreeMap::from([("pids".to_owned(), directory.display().to_string())]);
    let relay = |number: u8| Fencing {
        node: NodeId(number.into()),
        method: Method::Relay {
            witness,
            outlet: Outlet::Relay(number.try_into().unwrap()),
            agent: agent.clone(),
            options: options.clone(),
        },
        timeout: Duration::from_secs(10),
    };
    config.fencing = vec![relay(1), relay(2)];
    // Its leases outlive its silences by seconds: what is faster than a lease was a fence.
    config.timers.goal = Goal::Preset(Preset::Wide);
}

fn started() -> Site {
    let mut site = Site::with(with_relays);
    site.start_all();
    for node in 1..=2 {
        std::fs::write(site.path(&format!("pid{node}")), site.pid(node).to_string()).unwrap();
    }
    site.wait("all is well", 1, |status| status["protected"] == true);
    site.wait("b1 follows", 2, |status| status["role"] == "slave");
    site
}

/// Whether the process runs, or could.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !matches!(rest.split_whitespace().next(), None | Some("Z")))
}

fn fences(site: &Site, node: usize) -> Vec<Value> {
    let (_, text) = site.run(node, &["fence", "history", "--json"]);
    let answer: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    answer["fences"].as_array().unwrap().clone()
}

fn was_off(ended: &str) -> bool {
    ended.contains("read back as off")
}

fn wait_for(site: &Site, node: usize, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if let Some(found) = fences(site, node).into_iter().find(&good) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what}: {:#?}\n{}", fences(site, node), site.log(node));
}

/// As Pacemaker does: options on standard input.
fn fence_agent(site: &Site, node: usize, lines: &str) -> (i32, String) {
    let mut command = bulkhead(&["fence-agent"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let socket = site.socket(node);
    writeln!(child.stdin.take().unwrap(), "# as fenced writes it\n{lines}\nsocket={}", socket.display())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    (out.status.code().unwrap(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
}

/// When something happened at b1, by b1's own clock.
fn at(events: &[Value], what: &str, is: impl Fn(&Value) -> bool) -> u64 {
    let found = events.iter().rev().find(|event| is(event));
    found.unwrap_or_else(|| panic!("{what}: {events:#?}"))["atMs"].as_u64().unwrap()
}

/// V19, F19: the master's process sleeps with its lease. The witness cuts its power, and the other side acts
/// before that lease would have ended. The history outlives the witness.
#[test]
fn the_witness_cuts_a_paused_master() {
    let mut site = started();
    let pid = site.pid(1);
    site.freeze(1);
    site.wait("b1 takes over", 2, |status| status["role"] == "master");
    let events = site.events(2);
    let is_cut = |event: &Value| event["kind"] == "plea" && event["ended"].as_str().is_some_and(was_off);
    let is_won = |event: &Value| {
        (&event["kind"], &event["office"], &event["role"])
            == (&"role".into(), &"infra".into(), &"master".into())
    };
    let (cut, won) = (at(&events, "a1 was cut", is_cut), at(&events, "b1 took over", is_won));
    // Of the lease, three seconds and more were left.
    assert!((cut..cut + 2_000).contains(&won), "{cut} {won}: the lease was waited for\n{}", site.log(2));
    assert!(!runs(pid), "the power of a1 is off");
    let is_cut = |record: &Value| record["node"] == 1 && record["ended"] == "confirmed";
    let cut = wait_for(&site, 3, "the witness has it on record", is_cut);
    assert_eq!((&cut["by"], &cut["want"]), (&Value::from(2), &Value::from("off")), "{cut}");
    assert!(cut["how"].as_str().unwrap().contains("it held the register, and was silent"), "{cut}");
    wait_for(&site, 2, "so has b1", is_cut);
    let (_, text) = site.run(2, &["status", "--fence-history"]);
    assert!(text.contains("fenced:") && text.contains("a1 off, asked by b1"), "{text}");
    let kept =
        format!("these were asked for by b1, kept there in {}", site.state(2).join("fences").display());
    assert!(text.contains(&kept), "{text}");
    let (_, text) = site.run(3, &["fence", "history"]);
    assert!(text.contains("these were asked of witness, kept there in"), "{text}");
    site.stop(3);
    site.start(3);
    site.wait("the witness is back", 3, |status| status["role"] == "witness");
    let after = fences(&site, 3);
    assert_eq!(after.iter().find(|record| is_cut(record)), Some(&cut), "{after:#?}");
}

/// V21, F29: the side that is cut off asks in vain, by its own rule, by its operator and by Pacemaker; the
/// master asks with effect, and once.
#[test]
fn the_side_without_the_right_has_nobody_cut() {
    let site = started();
    let (a, b) = (site.pid(1), site.pid(2));
    assert_eq!(fence_agent(&site, 2, "action=list"), (0, "a1,\nb1,\n".into()));
    assert_eq!(fence_agent(&site, 2, "action=status\nplug=a1\nunknown=1"), (0, "Status: ON\n".into()));
    site.relay.part(1, 2);
    site.wait("b1 misses a1", 2, |status| status["nodes"][0]["verdict"] == "silent");
    let (code, text) = site.run(2, &["fence", "node", "a1"]);
    assert!(code == 3 && text.contains("--yes"), "{code} {text}");
    // By this node's own rule, or by the witness's, when the node's plea is under way already.
    let is_refused =
        |text: &str| text.contains("neither master nor controller") || text.contains("not fenced: refused");
    let (code, text) = site.run(2, &["fence", "node", "a1", "--yes"]);
    assert!(code == 3 && is_refused(&text), "{code} {text}");
    let (code, text) = fence_agent(&site, 2, "action=off\nplug=a1");
    let is_refused = is_refused(&text) || text.contains("was not switched: refused");
    assert!(code == 1 && is_refused, "{code} {text}");
    let (code, text) = site.run(1, &["fence", "confirm", "a1", "--yes"]);
    assert!(code == 2 && text.contains("is no other node"), "{code} {text}");
    std::thread::sleep(Duration::from_secs(2));
    assert!(runs(a) && site.status(1).unwrap()["role"] == "master", "{}", site.log(3));
    assert!(fences(&site, 3).iter().all(|record| record["ended"] != "confirmed"), "{:#?}", fences(&site, 3));

    let (code, text) = site.run(1, &["fence", "node", "b1", "--reason", "smoke", "--yes"]);
    assert!(code == 0 && text.contains("read back as off"), "{code} {text}\n{}", site.log(3));
    assert!(!runs(b) && runs(a));
    let cut = wait_for(&site, 1, "a1 has it on record", |record| record["reason"] == "smoke");
    assert_eq!((&cut["node"], &cut["ended"]), (&Value::from(2), &Value::from("confirmed")), "{cut}");
    assert_eq!(fence_agent(&site, 1, "action=status\nport=b1"), (2, "Status: OFF\n".into()));
    let (code, text) = fence_agent(&site, 1, "action=off\nplug=b1");
    assert_eq!((code, text.as_str()), (0, "Success: b1 is off\n"));
    let cuts =
        |record: &&Value| record["node"] == 2 && record["want"] == "off" && record["ended"] == "confirmed";
    assert_eq!(fences(&site, 3).iter().filter(cuts).count(), 1, "one start is cut once");
    let (code, text) = site.run(1, &["fence", "confirm", "b1", "--reason", "unplugged", "--yes"]);
    assert!(code == 0 && text.contains("counts as off by your word"), "{code} {text}");
}
