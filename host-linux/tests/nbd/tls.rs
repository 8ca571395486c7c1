//! `nbds`: the clients people use with X.509 certificates, and our own (V43; ECOSYSTEM: NBD URI).

use super::certificates::Authority;
use super::client::all_works_by;
use super::harness::{Plant, files, have, noise, ok, run};
use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::client::negotiate::Refused;
use bulkhead::nbd::limits::Limits;
use bulkhead::tls::keeper::Keeper;
use std::path::Path;
use std::time::{Duration, Instant};

/// `disk` over TCP, encrypted, with the certificates of a directory.
pub fn uri(plant: &Plant, certificates: &str) -> String {
    let certificates = plant.path(certificates);
    format!("nbds://{}/disk?tls-certificates={}", plant.tcp, certificates.display())
}

#[test]
fn our_client_does_everything_encrypted() {
    for is_required in [false, true] {
        let (plant, _) = Plant::secure(Limits::default(), is_required);
        all_works_by(&uri(&plant, "client"));
        // Who can open the socket is the owner of the server.
        all_works_by(&plant.uris()[0]);
        let printed = &plant.uris()[1];
        let scheme = if is_required { "nbds" } else { "nbd" };
        assert_eq!(*printed, format!("{scheme}://{}/disk", plant.tcp));
        let told = Client::connect(&printed.parse().unwrap(), Duration::from_secs(5));
        match is_required {
            true => assert!(matches!(told, Err(Refused::Tls(why)) if why.contains("tls-certificates"))),
            false => drop(told.unwrap()),
        }
    }
}

#[test]
fn nbdinfo_and_nbdcopy_encrypt() {
    if !have("nbdinfo", "libnbd-bin") || !have("nbdcopy", "libnbd-bin") {
        return;
    }
    let (plant, authority) = Plant::secure(Limits::default(), true);
    let secure = uri(&plant, "client");
    let told: serde_json::Value = serde_json::from_str(&ok("nbdinfo", &["--json", &secure])).unwrap();
    assert_eq!((&told["TLS"], &told["structured"]), (&true.into(), &true.into()), "{told}");
    assert!(ok("nbdinfo", &["--list", &secure]).contains("export=\"disk\""));
    let (source, back) = (plant.path("source"), plant.path("back"));
    let mut content = noise(1, 24 << 20);
    content.resize(64 << 20, 0);
    std::fs::write(&source, &content).unwrap();
    ok("nbdcopy", &["--flush", "--connections=4", source.to_str().unwrap(), &secure]);
    assert!(std::fs::read(plant.path("disk")).unwrap() == content);
    ok("nbdcopy", &["--connections=4", &secure, back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == content);
    // In the clear nothing is told, not even what there is.
    for clear in ["nbd://", "nbd+unix://"].map(|scheme| match scheme {
        "nbd://" => (format!("nbd://{}/disk", plant.tcp), false),
        _ => (plant.uris()[0].clone(), true),
    }) {
        let (code, told) = run("nbdinfo", &["--list", &clear.0]);
        assert_eq!(code == Some(0), clear.1, "{told}");
        assert_eq!(told.contains("a disk of the plant"), clear.1, "{told}");
    }
    // For another host, by another authority, or not at all: nobody enters.
    authority.issue_until(2020, &plant.path("expired"), &[]);
    Authority::new("somebody else").issue(&plant.path("other"), &[]);
    std::fs::create_dir(plant.path("nobody")).unwrap();
    std::fs::copy(plant.path("client/ca-cert.pem"), plant.path("nobody/ca-cert.pem")).unwrap();
    for wrong in ["expired", "other", "nobody"] {
        let (code, told) = run("nbdinfo", &[&uri(&plant, wrong)]);
        assert!(code != Some(0) && !told.contains("67108864"), "{wrong}: {told}");
    }
}

#[test]
fn qemu_encrypts() {
    if !have("qemu-io", "qemu-utils") || !have("qemu-img", "qemu-utils") {
        return;
    }
    let (plant, _) = Plant::secure(Limits::default(), true);
    let object = |directory: &str| {
        let directory = plant.path(directory);
        format!("tls-creds-x509,id=tls,endpoint=client,dir={}", directory.display())
    };
    let (host, port) = (plant.tcp.ip(), plant.tcp.port());
    let image = format!("driver=nbd,host={host},port={port},export=disk,tls-creds=tls");
    let told = ok(
        "qemu-io",
        &[
            "--object",
            &object("client"),
            "--image-opts",
            &image,
            "-c",
            "write -P 0xaa 1M 3M",
            "-c",
            "aio_write -P 0xcc 8M 8M",
            "-c",
            "aio_flush",
            "-c",
            "read -P 0xcc 8M 8M",
            "-c",
            "read -P 0xaa 1M 3M",
        ],
    );
    assert!(!told.contains("failed") && !told.contains("error"), "{told}");
    let args = ["map", "--output=json", "--object", &object("client"), "--image-opts", &image];
    assert!(ok("qemu-img", &args).contains("\"zero\": true"));
    let clear = format!("driver=nbd,host={host},port={port},export=disk");
    let (code, told) = run("qemu-img", &["info", "--image-opts", &clear]);
    assert!(code != Some(0), "{told}");
}

/// What is wrong with a connection is said where it is noticed.
#[test]
fn our_client_says_why_it_does_not_believe() {
    let (plant, authority) = Plant::secure(Limits::default(), true);
    authority.issue_until(2020, &plant.path("expired"), &[]);
    Authority::new("somebody else").issue(&plant.path("other"), &[]);
    std::fs::create_dir(plant.path("nobody")).unwrap();
    std::fs::copy(plant.path("client/ca-cert.pem"), plant.path("nobody/ca-cert.pem")).unwrap();
    let why = |uri: String| match Client::connect(&uri.parse().unwrap(), Duration::from_secs(5)) {
        Err(Refused::Tls(why)) => why,
        other => panic!("{uri}: {other:?}"),
    };
    for (directory, word) in [
        ("expired", "CertificateExpired"),
        ("other", "UnknownIssuer"),
        ("nobody", "CertificateRequired"),
        ("nowhere", "ca-cert.pem"),
    ] {
        let told = why(uri(&plant, directory));
        assert!(told.contains(word), "{directory}: {told}");
    }
    let told = why(uri(&plant, "client") + "&tls-hostname=another.host");
    assert!(told.contains("another.host"), "{told}");
    let plain = Plant::new();
    let told = why(format!("nbds://{}/disk?tls-certificates={}", plain.tcp, plant.path("client").display()));
    assert!(told.contains("does not encrypt"), "{told}");
}

/// Certificates end while agents go on: new files are taken, and what cannot be used is said and not taken.
#[test]
fn certificates_are_replaced_while_clients_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let authority = Authority::new("the site");
    let look = |keeper: &Keeper, wrong: &str| {
        let begun = Instant::now();
        loop {
            let told = keeper.look().map_or(String::new(), |failure| failure.text());
            if told.contains(wrong) && told.is_empty() == wrong.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{wrong:?} is never said, but {told:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let expired = authority.issue_until(2020, &path("node"), &["127.0.0.1"]);
    let keeper = Keeper::open(files(&expired)).unwrap();
    look(&keeper, "certificate expired");
    authority.issue(&path("node"), &["127.0.0.1"]);
    look(&keeper, "");
    std::fs::write(path("node/client-cert.pem"), "nothing").unwrap();
    look(&keeper, "there is no certificate in it");
    assert_eq!(keeper.current().doubt(), None, "what was there before is used");

    let wrong = |change: &dyn Fn(&Path)| {
        let node = authority.issue(&path("wrong"), &["127.0.0.1"]);
        change(&node);
        Keeper::open(files(&node)).unwrap_err().text()
    };
    let told = wrong(&|node| std::fs::remove_file(node.join("client-key.pem")).unwrap());
    assert!(told.contains("client-key.pem") && told.contains("Next: "), "{told}");
    let other = Authority::new("the other").issue(&path("other"), &[]);
    let told = wrong(&|node| drop(std::fs::copy(other.join("client-key.pem"), node.join("client-key.pem"))));
    assert!(told.contains("cannot be used together"), "{told}");
    let told = wrong(&|node| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(node.join("client-key.pem"), mode).unwrap();
    });
    assert!(told.contains("chmod o="), "{told}");
}

/// The commands of docs/nbd.md make what a node takes.
#[test]
fn the_commands_of_the_manual_make_certificates() {
    if !have("openssl", "openssl") {
        return;
    }
    let manual = include_str!("../../../docs/nbd.md");
    let commands = manual.split("```sh\n").find(|text| text.starts_with("openssl")).unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let commands = format!("set -e\ncd {}\n{commands}", directory.path().display());
    ok("sh", &["-c", &commands]);
    let files = bulkhead::tls::files::Files {
        certificate: path("a1.pem"),
        key: path("a1-key.pem"),
        authorities: path("ca.pem"),
    };
    let credentials = files.read().unwrap_or_else(|failure| panic!("{}", failure.text()));
    assert_eq!(credentials.doubt(), None);
}
