//! Fencing as the loop orders it, with a real process as the node and a program with the interface of the
//! fence-agents as its power switch (V19, V20, V21, F28).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use bulkhead::cluster::fence_agent::Power;
use bulkhead::cluster::fencer::{Ended, Fencer, Order, perform};
use bulkhead::cluster::wake::Wake;
use bulkhead::site_config::{EXAMPLE, Fencing, Method, SiteConfig};
use bulkhead_core::id::NodeId;
use bulkhead_core::register::message::{Fenced, Start};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The power switch of a process: off is SIGKILL, and status says whether it runs.
const PROCESS_SWITCH: &str = r#"#!/bin/sh
while IFS= read -r line; do case "$line" in
  action=*) action=${line#action=} ;;
  pid=*) pid=${line#pid=} ;;
esac; done
case $action in
  off) sleep 0.3; kill -9 $pid ;;
  on) exit 1 ;;
  status) case $(cut -d' ' -f3 /proc/$pid/stat 2>/dev/null) in ''|Z) exit 2 ;; esac ;;
esac
"#;

fn fencer(directory: &Path, pid: u32) -> Fencer {
    let agent = directory.join("fence_process");
    std::fs::write(&agent, PROCESS_SWITCH).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = BTreeMap::from([("pid".to_owned(), pid.to_string())]);
    let method = Method::FenceAgent { agent: agent.display().to_string(), options };
    let mut config = SiteConfig::parse(Path::new("site.toml"), EXAMPLE).unwrap();
    config.fencing = vec![Fencing { node: NodeId(1), method, timeout: Duration::from_secs(10) }];
    Fencer::new(Arc::new(config), Wake::new().unwrap(), perform)
}

fn ended(fencer: &mut Fencer) -> Ended {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if let Some(ended) = fencer.ended() {
            return ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the order did not end");
}

fn off(node: u16) -> Order {
    Order::Off(Fenced { node: NodeId(node), start: Start(7) })
}

#[test]
fn a_node_is_off_when_its_device_was_asked_again_and_only_one_order_is_carried_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Command::new("sleep").arg("600").spawn().unwrap();
    let mut fencer = fencer(directory.path(), node.id());
    assert!(fencer.how(NodeId(1)).starts_with("by /"));
    let begin = Instant::now();
    fencer.order(off(1));
    fencer.order(off(1));
    assert!(begin.elapsed() < Duration::from_millis(250), "the loop waited for the device");
    // V21: the second order is refused while the first is under way, and leaves it alone.
    assert_eq!(ended(&mut fencer), (off(1), Err("an order for it is under way".into())));
    assert_eq!(ended(&mut fencer), (off(1), Ok(Power::Off)));
    assert!(!node.wait().unwrap().success(), "the node was killed");
    // What cannot be switched on says so, and the way is free for the next order.
    fencer.order(Order::On(NodeId(1)));
    assert!(ended(&mut fencer).1.unwrap_err().contains("action=on failed with exit code 1"));
}

#[test]
fn a_node_without_a_device_is_never_called_fenced() {
    let directory = tempfile::tempdir().unwrap();
    let mut fencer = fencer(directory.path(), 1);
    fencer.order(off(2));
    assert_eq!(ended(&mut fencer), (off(2), Err("it has no fencing device".into())));
    assert_eq!(fencer.how(NodeId(2)), "by the expiry of its lease");
}
