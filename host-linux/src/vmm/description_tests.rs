//! V41, I11: a guest's description says what it says, and the same in its own text; what is not understood is
//! refused by name.

use super::*;
use crate::failover::wanted::{Apart, Home, Policy};

const LEAST: &str = "version = 1\nname = \"web\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"vmlinuz\"\n";

#[test]
fn a_description_is_read() {
    let least = Description::parse(LEAST, Path::new("/srv")).unwrap();
    assert_eq!((least.processors, least.memory, least.disks.len()), (1, 64 << 20, 0));
    let disk = "[[disk]]\nuri = \"nbd+unix:///vm1?socket=/run/nbd.sock\"\nread_only = true\n";
    let with_disk = Description::parse(&format!("{LEAST}{disk}"), Path::new("/srv")).unwrap();
    assert!(with_disk.disks[0].is_read_only);
    // The text means the same elsewhere.
    assert_eq!(Description::parse(&with_disk.text, Path::new("/tmp")).unwrap(), with_disk);
    assert_eq!(with_disk.kernel, Path::new("/srv/vmlinuz"));
    let volume = Description::parse(&format!("{LEAST}[[disk]]\nvolume = \"vm1\"\n"), Path::new("/"));
    let volume = volume.unwrap();
    assert_eq!(volume.disks[0].content.to_string(), "volume vm1");
    assert_eq!(volume.json()["disks"][0], json!({ "volume": "vm1", "read_only": false }));
    assert_eq!(Description::parse(&volume.text, Path::new("/")).unwrap(), volume);
    let networks = "[[network]]\ntap = \"tap0\"\n\
                    [[network]]\ntap = \"tap1\"\nbridge = \"br-in.7\"\nmac = \"52:54:00:12:34:56\"\n";
    let described = Description::parse(&format!("{LEAST}{networks}"), Path::new("/")).unwrap();
    assert_eq!(
        described.json()["net"][1],
        json!({ "tap": "tap1", "bridge": "br-in.7", "mac": "52:54:00:12:34:56" })
    );
    assert_eq!(Description::parse(&described.text, Path::new("/")).unwrap(), described);
    let networks = described.networks;
    let told = "52:54:00:12:34:56".parse().unwrap();
    assert_eq!(
        networks,
        [
            Network { tap: "tap0".into(), bridge: None, mac: Mac::derived("web", 0) },
            Network { tap: "tap1".into(), bridge: Some("br-in.7".into()), mac: told },
        ]
    );

    let heartbeat = |keys: &str| {
        let text = format!("{LEAST}[[network]]\ntap = \"t\"\n[heartbeat]\n{keys}\n");
        let described = Description::parse(&text, Path::new("/")).unwrap();
        assert_eq!(Description::parse(&described.text, Path::new("/")).unwrap(), described);
        (described.heartbeat, described.json()["heartbeat"].clone())
    };
    let rows = [
        ("", Lost::Report, None, json!({ "lost": "report", "begins_within": null })),
        ("lost = \"report\"", Lost::Report, None, json!({ "lost": "report", "begins_within": null })),
        ("lost = \"stop\"", Lost::Stop, None, json!({ "lost": "stop", "begins_within": null })),
        (
            "lost = \"reset\"\nbegins_within = \"5m\"",
            Lost::Reset,
            Some(300),
            json!({ "lost": "reset", "begins_within": "5m" }),
        ),
    ];
    for (keys, lost, within, json) in rows {
        let begins_within = within.map(Duration::from_secs);
        assert_eq!(heartbeat(keys), (Heartbeat { lost, begins_within }, json), "{keys}");
    }
    assert_eq!(least.heartbeat, Heartbeat { lost: Lost::Report, begins_within: None });

    // The same guest with other files; without first files it has none.
    let moved = with_disk.loading(Path::new("kernel"), Path::new("initrd")).unwrap();
    assert_eq!((moved.kernel.to_str(), moved.initrd.as_ref()), (Some("kernel"), None));
    let again = Description::parse(&moved.text, Path::new("/srv")).unwrap();
    assert_eq!(again.loading(&with_disk.kernel, Path::new("/")).unwrap(), with_disk);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.toml");
    std::fs::write(&path, LEAST).unwrap();
    assert_eq!(Description::read(&path).unwrap().kernel, directory.path().join("vmlinuz"));
    assert!(Description::read(&directory.path().join("none")).unwrap_err().what.contains("none"));
}

/// What is typed comes by the serial port, or by a console over memory, for which there must be room.
#[test]
fn where_it_is_typed_is_read() {
    let parse = |keys: &str| Description::parse(&format!("{LEAST}{keys}"), Path::new("/"));
    assert_eq!(parse("").unwrap().console, Typing::Serial);
    let virtio = parse("console = \"virtio\"\n").unwrap();
    assert_eq!(virtio.console, Typing::Virtio);
    assert_eq!(Description::parse(&virtio.text, Path::new("/")).unwrap(), virtio);
    let wrong = parse("console = \"vga\"\n").unwrap_err();
    assert!(wrong.contains("expected `serial` or `virtio`"), "{wrong}");
    let disks = "[[disk]]\nuri = \"nbd://x/y\"\n".repeat(16);
    let networks = "[[network]]\ntap = \"t0\"\n[[network]]\ntap = \"t1\"\n";
    let full = |console: &str| parse(&format!("{console}{disks}{networks}"));
    assert!(full("").is_ok());
    let wrong = full("console = \"virtio\"\n").unwrap_err();
    assert!(wrong.contains("19 devices at most"), "{wrong}");
}

/// S3-13: what follows when it is to run and does not.
#[test]
fn what_follows_its_loss_is_read() {
    let failover = |keys: &str| Description::parse(&format!("{LEAST}[failover]\n{keys}\n"), Path::new("/"));
    let least = Description::parse(LEAST, Path::new("/")).unwrap();
    assert_eq!(least.failover, Failover::default());
    for (keys, policy, priority) in [
        ("policy = \"resume\"", Policy::Resume, 100),
        ("priority = 255", Policy::Restart, 255),
        ("policy = \"stay\"\npriority = 0", Policy::Stay, 0),
    ] {
        let described = failover(keys).unwrap();
        assert_eq!(described.failover, Failover { policy, priority, home: None, apart: None }, "{keys}");
        assert_eq!(Description::parse(&described.text, Path::new("/")).unwrap(), described);
    }
    let placed = failover("home = \"b\"\napart = \"dcs\"").unwrap();
    let (home, apart) = (placed.failover.home, placed.failover.apart);
    assert_eq!((home, apart.as_ref().map(Apart::name)), (Some(Home::B), Some("dcs")));
    for (keys, why) in [
        ("policy = \"later\"", "expected one of `stay`, `restart`, `resume`"),
        ("priority = 256", "expected u8"),
        ("order = 1", "unknown field `order`"),
        ("home = \"c\"", "expected `a` or `b`"),
        ("apart = \"two words\"", "a group has 1 to 16 letters"),
    ] {
        let wrong = failover(keys).unwrap_err();
        assert!(wrong.contains(why), "{keys}: {wrong}");
    }
}

/// V41, I11: what is not understood is refused, and which key it is, is said.
#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let cases = [
        ("version = 1", "version = 2", "this program knows 1"),
        ("\"web\"", "\"we b\"", "`name` has"),
        ("\"web\"", "\"\"", "`name` has"),
        ("\"web\"", "\"..\"", "`name` has"),
        ("processors = 1", "processors = 0", "`processors` is 1 to 32"),
        ("processors = 1", "processors = 33", "`processors` is 1 to 32"),
        ("processors = 1", "processors = 1\ncores = 2", "unknown field `cores`"),
        ("\"64M\"", "\"64 apples\"", "`memory`:"),
        ("\"64M\"", "\"1M\"", "`memory` is whole pages"),
        ("\"64M\"", "\"4194305\"", "`memory` is whole pages"),
        ("kernel = \"vmlinuz\"\n", "", "missing field `kernel`"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\ncommand_line = \"a\\u0000b\"\n", "zero byte"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\nuri = \"http://x\"\n", "`uri` of [[disk]], `http://x`"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\nvolume = \"a/b\"\n", "`volume` of [[disk]], `a/b`"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\n", "either `volume` or `uri`"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\nvolume = \"a\"\nuri = \"nbd://h/a\"\n", "either `vol"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\nvolume = \"web.guest\"\n", "a guest's own volume"),
        ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\nuri = \"nbd://h/~a.guest\"\n", "a guest's own volume"),
    ];
    for (old, new, expected) in cases {
        let why = Description::parse(&LEAST.replace(old, new), Path::new("/")).unwrap_err();
        assert!(why.contains(expected), "{new}: {why}");
    }
    let network = |keys: &str| {
        Description::parse(&format!("{LEAST}[[network]]\n{keys}\n"), Path::new("/")).unwrap_err()
    };
    let cases = [
        ("", "missing field `tap`"),
        ("tap = \"\"", "`tap` of [[network]], ``, is no interface's name"),
        ("tap = \"tap%d\"", "`tap` of [[network]], `tap%d`, is no"),
        ("tap = \"a-name-of-16-let\"", "1 to 15 letters"),
        ("tap = \"..\"", "`tap` of [[network]], `..`"),
        ("tap = \"t\"\nbridge = \"a/b\"", "`bridge` of [[network]], `a/b`, is no"),
        ("tap = \"t\"\nmac = \"52:54\"", "`mac` of [[network]], `52:54`: it has six bytes"),
        ("tap = \"t\"\nmac = \"01:00:5e:00:00:01\"", "it is for many"),
        ("tap = \"t\"\nvlan = 7", "unknown field `vlan`"),
        ("tap = \"t\"\n[[network]]\ntap = \"t\"", "`tap` of two [[network]] is `t`"),
        ("tap = \"a\"\n[[network]]\ntap = \"b\"\n[[network]]\ntap = \"c\"", "there are 3 `[[network]]`"),
    ];
    for (keys, expected) in cases {
        assert!(network(keys).contains(expected), "{keys}: {}", network(keys));
    }
    let heartbeat = |keys: &str| {
        Description::parse(&format!("{LEAST}[heartbeat]\n{keys}\n"), Path::new("/")).unwrap_err()
    };
    let cases = [
        ("lost = \"reboot\"", "`lost` of [heartbeat], `reboot`, is not `report`, `reset` or `stop`"),
        ("lost = true", "expected a string"),
        ("begins_within = \"soon\"", "`begins_within` of [heartbeat]: `soon` is not a time"),
        ("begins_within = \"999ms\"", "`begins_within` of [heartbeat]: it is 1s to 24h"),
        ("begins_within = \"25h\"", "it is 1s to 24h"),
        ("within = \"30s\"", "unknown field `within`"),
    ];
    for (keys, expected) in cases {
        assert!(heartbeat(keys).contains(expected), "{keys}: {}", heartbeat(keys));
    }
    let many = "[[disk]]\nuri = \"nbd://h/x\"\n".repeat(17);
    assert!(
        Description::parse(&format!("{LEAST}{many}"), Path::new("/")).unwrap_err().contains("17 `[[disk]]`")
    );
}
