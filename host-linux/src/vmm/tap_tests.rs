//! Taps and bridges of a network namespace: what is made, what is taken, and what is refused in which words.

use super::super::namespace::{has_own_network, ip, network};
use super::*;

fn refused(tap: &str, bridge: Option<&str>) -> String {
    let failure = Tap::open(&network(tap, bridge)).unwrap_err();
    format!("{}; {}", failure.what, failure.next)
}

#[test]
fn a_tap_is_made_or_taken() {
    if !has_own_network() {
        return;
    }
    let made = Tap::open(&network("tap0", None)).unwrap();
    assert_eq!(made.mtu(), 1500);
    assert!(ip("link show dev tap0").contains(",UP"));
    assert!(refused("tap0", None).contains("another guest or program has it"));
    drop(made);
    assert!(!ip("link").contains("tap0"), "it goes with who made it");

    ip("tuntap add dev tap1 mode tap");
    ip("link set tap1 mtu 9000");
    for _ in 0..2 {
        assert_eq!(Tap::open(&network("tap1", None)).unwrap().mtu(), 9000);
    }
    assert!(ip("link").contains("tap1"), "it stays with the node");
}

#[test]
fn a_tap_is_put_into_its_bridge() {
    if !has_own_network() {
        return;
    }
    ip("link add br0 type bridge");
    ip("link add br1 type bridge");
    ip("tuntap add dev tap0 mode tap");
    // The second time it is in it already.
    for _ in 0..2 {
        let tap = Tap::open(&network("tap0", Some("br0"))).unwrap();
        assert!(ip("link show master br0").contains("tap0"));
        drop(tap);
    }
    assert!(refused("tap0", Some("br1")).contains("`ip link set tap0 nomaster`"));
    assert!(ip("link show master br0").contains("tap0"), "it stays where it was");
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    if !has_own_network() {
        return;
    }
    ip("tuntap add dev many mode tap multi_queue");
    for name in ["lo", "many"] {
        assert!(refused(name, None).contains("it is no tap with one queue"), "{}", refused(name, None));
    }
    for bridge in ["br0", "lo"] {
        let (said, makes) = (refused("tap0", Some(bridge)), format!("`ip link add {bridge} type bridge && "));
        assert!(said.contains(&makes), "{said}");
    }
}

/// What a node lacks that has no taps, or gives this user none.
#[test]
fn missing_rights_are_named() {
    let words = |failure: Failure| format!("{}; {}", failure.what, failure.next);
    let of = |errno: Errno| Error::from_raw_os_error(errno.raw_os_error());
    let cases = [
        (words(no_taps(&of(Errno::NOENT))), "`modprobe tun`"),
        (words(no_taps(&of(Errno::NODEV))), "`modprobe tun`"),
        (words(no_taps(&of(Errno::ACCESS))), "let this user read and write /dev/net/tun"),
        (words(not_this("tap3", &of(Errno::PERM))), "`ip tuntap add dev tap3 mode tap user USER`"),
        (words(not_in_bridge("tap3", "br0", &of(Errno::PERM))), "`ip link set tap3 master br0`"),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{said}");
    }
}
