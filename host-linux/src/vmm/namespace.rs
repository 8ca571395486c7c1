//! A node's network of a test's own: an empty network namespace, for the time of one test.

use super::description::Network;
use super::mac::Mac;
use std::process::{Command, Stdio};

/// Says that a process is in its namespace.
const INSIDE: &str = "BULKHEAD_TEST_NAMESPACE";

/// Has this very test run in a process with a network of its own. Whether this is that process: if not, the
/// test is over. Where this machine has no such processes, or no taps, it says so, and the test passes.
pub fn has_own_network() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--"]).args(arguments);
        command
    };
    let try_it = "ip tuntap add dev tap0 mode tap && ip link add br0 type bridge && bridge fdb";
    let tried = unshare(&["sh", "-c", try_it]).stdin(Stdio::null()).output();
    if let Some(why) = tried.as_ref().map_or_else(
        |error| Some(error.to_string()),
        |tried| (!tried.status.success()).then(|| String::from_utf8_lossy(&tried.stderr).into_owned()),
    ) {
        println!("skipped: no network namespace with taps and bridges: {}", why.trim());
        return false;
    }
    let (thread, program) = (std::thread::current(), std::env::current_exe().unwrap());
    let test = thread.name().expect("the test's name");
    let ended =
        unshare(&[program.to_str().unwrap(), "--exact", test, "--nocapture"]).env(INSIDE, "1").output();
    let ended = ended.unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ended.status.success() && said.contains("1 passed"), "in a namespace: {said}");
    false
}

/// Runs `ip`, which must succeed.
pub fn ip(arguments: &str) -> String {
    let ended = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(ended.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// A network by this tap.
pub fn network(tap: &str, bridge: Option<&str>) -> Network {
    Network { tap: tap.into(), bridge: bridge.map(str::to_owned), mac: Mac::derived("test", 0) }
}
