//! V43, X15: where the site wants its nodes to encrypt, guests that move are encrypted, or do not move.

use super::certificates::Authority;
use super::migrate::{Site, counter, counts_on, guests, ok, runs_guests, said, state, vm};
use super::plant::Plant;
use super::{roles, within};
use bulkhead::site_config::SiteConfig;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Somebody before a node who writes down all that goes by.
fn recorder(to: SocketAddr, seen: &Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, seen) = (listener.local_addr().unwrap(), Arc::clone(seen));
    std::thread::spawn(move || {
        for one in listener.incoming().flatten() {
            let Ok(other) = TcpStream::connect(to) else { continue };
            let ways = [(one.try_clone().unwrap(), other.try_clone().unwrap()), (other, one)];
            for (mut from, mut to) in ways {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || {
                    let mut bytes = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        seen.lock().unwrap().extend_from_slice(&bytes[..count]);
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    at
}

/// Writes the configurations anew; the nodes are off meanwhile.
fn again(plant: &Plant, texts: &[(&str, String)]) {
    for (node, _) in texts {
        plant.fault(&["kill", node]);
    }
    for (node, text) in texts {
        std::fs::write(plant.part(node)["config"].as_str().unwrap(), text).unwrap();
        plant.fault(&["start", node]);
    }
}

/// The configuration of a node that reaches the other one by way of who writes down.
fn watched(plant: &Plant, node: &str, other: &str, seen: &Arc<Mutex<Vec<u8>>>) -> String {
    let path = PathBuf::from(plant.part(node)["config"].as_str().unwrap());
    let config = SiteConfig::read(&path).unwrap();
    let at = config.members.iter().find(|member| member.name == other).unwrap().guests.unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (before, after) = (format!("\"{at}\""), format!("\"{}\"", recorder(at, seen)));
    assert_eq!(text.matches(&before).count(), 1, "{text}");
    text.replace(&before, &after)
}

fn encrypts(text: &str, own: &Path) -> String {
    let own = own.display();
    format!(
        "{text}\n[local.storage.tls]\nmode = \"allow\"\nstreams = \"require\"\n\
         certificate = \"{own}/client-cert.pem\"\nkey = \"{own}/client-key.pem\"\n\
         authorities = \"{own}/ca-cert.pem\"\n"
    )
}

/// It goes over and comes back, and nobody between the nodes sees its memory; a node that does not encrypt is
/// refused by its name, at either end.
#[test]
fn a_guest_moves_encrypted_or_not_at_all() {
    if !runs_guests() {
        return;
    }
    let plant = Site(Plant::start());
    let (directory, seen) = (tempfile::tempdir().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let authority = Authority::new("the plant");
    let plain = [("a1", "b1"), ("b1", "a1")].map(|(node, other)| (node, watched(&plant, node, other, &seen)));
    let own = |node: &str| authority.issue(&directory.path().join(node), &["127.0.0.1"]);
    let veiled = plain.clone().map(|(node, text)| (node, encrypts(&text, &own(node))));
    again(&plant, &veiled);
    let (here, there) = roles(&plant);
    std::fs::write(directory.path().join("kernel"), counter()).unwrap();
    let describe = |name: &str| {
        let file = directory.path().join(format!("{name}.toml"));
        let text = format!(
            "version = 1\nname = \"{name}\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"kernel\"\n"
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    ok(&plant, here, &["create", &describe("web1")]);
    ok(&plant, here, &["start", "web1"]);
    within("it counts", || (100 < said(&plant, here).len()).then_some(()));
    let mut all = Vec::new();
    for (from, to, words) in [(here, there, ["web1"]), (there, here, ["--all"])] {
        let _ = std::fs::remove_file(guests(&plant, to).join("web1/console.log"));
        let moved = ok(&plant, from, &[&["migrate"][..], &words, &["--to", to]].concat());
        println!("{from} to {to}: {moved}");
        assert_eq!((state(&plant, from), state(&plant, to)), ("Off".into(), "Running".into()));
        all.extend(said(&plant, from));
        within("it counts there", || (100 < said(&plant, to).len()).then_some(()));
    }
    all.extend(said(&plant, here));
    counts_on(&all);
    let bytes = std::mem::take(&mut *seen.lock().unwrap());
    assert!(24 << 20 < bytes.len(), "it went by somewhere else: {}", bytes.len());
    assert!(!bytes.windows(32).any(|bytes| bytes == [0xa5; 32]), "its memory is there to be read");
    ok(&plant, here, &["stop", "web1", "--now"]);

    // One of the two does not encrypt any more.
    let text = plain.iter().find(|(node, _)| *node == there).unwrap().1.clone();
    again(&plant, &[(there, text)]);
    let config = SiteConfig::read(plant.part(there)["config"].as_str().unwrap().as_ref()).unwrap();
    let at = config.me().unwrap().guests.unwrap();
    within("it to take in guests", || TcpStream::connect(at).ok());
    for (from, to, name, said) in [
        (here, there, "web2", format!("{there} does not encrypt what moves")),
        (there, here, "web3", format!("{here} wants what moves encrypted")),
    ] {
        ok(&plant, from, &["create", &describe(name), "--local"]);
        ok(&plant, from, &["start", name, "--alone"]);
        let refused = vm(&plant, from, &["migrate", name, "--to", to]);
        assert_eq!((refused.code, refused.err.contains(&said)), (3, true), "{}", refused.err);
        assert!(refused.err.contains("stays on this node") && refused.err.contains("tls"), "{}", refused.err);
        assert_eq!(ok(&plant, from, &["show", name])["state"], "Running");
        ok(&plant, from, &["stop", name, "--now"]);
    }
    assert!(!seen.lock().unwrap().windows(32).any(|bytes| bytes == [0xa5; 32]));
}
