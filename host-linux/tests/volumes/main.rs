//! Volumes as an operator and a guest meet them: one command makes one, every node that keeps it serves it,
//! and the loss of the node that leads loses nothing that was acknowledged (S0-06, S1-27 to S1-29, S3-07,
//! S4-03, S4-11, S4-12, V6; BLACKBOX 2, 3, 7).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod backed;
mod cache;
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod copied;
mod copied_ends;
mod copied_own;
mod copied_own_ends;
mod damage;
mod failover;
mod full;
mod heartbeat;
mod holes;
#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../../src/vmm/testing.rs"]
mod kernel;
mod late;
mod lease;
mod lost;
mod migrate;
mod migrate_all;
mod migrate_veiled;
mod own_volume;
#[path = "../common/plant.rs"]
mod plant;
mod readme;
mod room;
mod shared;
mod snapshot;
mod template;
mod three;

use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::export::{Content, Export as _, Failed, Piece, Reply, Request, Span};
use common::{Answer, bulkhead};
use plant::Plant;
use serde_json::Value;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;
/// A command, and an answer of a client, on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);

/// Who leads, and the other one.
fn roles(plant: &Plant) -> (&'static str, &'static str) {
    let found = plant.ok("a1", &["wait", "--for", "in-sync", "--timeout", "60s"]);
    let primary = found["group"]["storage"]["primary"].as_u64().unwrap();
    if plant.part("a1")["node"].as_u64() == Some(primary) { ("a1", "b1") } else { ("b1", "a1") }
}

/// A client of a volume on a node, once the node exports it in this size.
fn client(plant: &Plant, node: &str, name: &str, bytes: u64) -> Client {
    let address = plant.part(node)["nbd"]["address"].as_str().unwrap();
    let uri = format!("nbd://{address}/{name}").parse().unwrap();
    within(&format!("{name} on {node}"), || {
        let client = Client::connect(&uri, LONG).ok()?;
        (client.geometry().size() == bytes).then_some(client)
    })
}

fn within<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(client: &Client, request: Request) -> Result<Vec<u8>, Failed> {
    let (done, answers) = channel();
    client.submit(request, Reply::new(move |answer| drop(done.send(answer))));
    let Content::Data(pieces) = answers.recv_timeout(LONG).unwrap()? else { return Ok(Vec::new()) };
    let bytes = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Piece::Zeroes(count) => vec![0; usize::try_from(*count).unwrap()],
    };
    Ok(pieces.iter().flat_map(bytes).collect())
}

/// A block that no other place or round has.
fn content(block: u64, round: u64) -> Vec<u8> {
    let word = (block << 16 | round).to_le_bytes();
    word.repeat(usize::try_from(BLOCK).unwrap() / word.len())
}

fn write(client: &Client, block: u64, round: u64) {
    let request = Request::Write { offset: block * BLOCK, data: content(block, round), durable: true };
    ask(client, request).unwrap_or_else(|failed| panic!("block {block}, round {round}: {failed:?}"));
}

fn check(client: &Client, block: u64, round: u64) {
    let length = u32::try_from(BLOCK).unwrap();
    let found = ask(client, Request::Read { span: Span { offset: block * BLOCK, length } }).unwrap();
    assert!(found == content(block, round), "block {block} is not that of round {round}");
}

#[test]
fn nothing_acknowledged_is_lost_with_the_node_that_leads() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);

    // Another node names the one that can, and says so by its exit code.
    let refused = plant.volume(secondary, &["create", "vm1", "--size", "64MiB"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains(&format!("run it on {primary}")), "{}", refused.err);
    let made = plant.ok(primary, &["create", "vm1", "--size", "64MiB"]);
    assert_eq!(made["uris"].as_array().unwrap().len(), 3, "{made}");

    // Both nodes serve it; the client stays on the one that follows.
    let near = client(&plant, primary, "vm1", 64 << 20);
    let far = client(&plant, secondary, "vm1", 64 << 20);
    for block in 0..64 {
        write(if block % 2 == 0 { &near } else { &far }, block, 1);
    }
    (0..64).for_each(|block| check(if block % 2 == 0 { &far } else { &near }, block, 1));

    // The power of the node that leads fails: its clients go elsewhere, the others notice a delay.
    plant.fault(&["kill", primary]);
    for block in 32..96 {
        write(&far, block, 2);
    }
    (0..32).for_each(|block| check(&far, block, 1));
    (32..96).for_each(|block| check(&far, block, 2));
    let shown = plant.ok(secondary, &["show", "vm1"]);
    assert_eq!(shown["group"]["storage"]["state"], "degraded", "{shown}");
    assert_eq!(shown["group"]["storage"]["policy"], "through", "{shown}");

    // It comes back, gets what it missed, and can lead again.
    plant.fault(&["start", primary]);
    plant.ok(secondary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    plant.ok(secondary, &["promote", primary]);
    within("the promotion", || {
        plant.ok(primary, &["list"])["group"]["storage"]["leads"].as_bool()?.then_some(())
    });
    let near = client(&plant, primary, "vm1", 64 << 20);
    for client in [&near, &far] {
        (0..32).for_each(|block| check(client, block, 1));
        (32..96).for_each(|block| check(client, block, 2));
    }

    // It grows, and goes, everywhere.
    plant.ok(primary, &["resize", "vm1", "--size", "128MiB"]);
    check(&client(&plant, secondary, "vm1", 128 << 20), 40, 2);
    assert_eq!(plant.volume(primary, &["delete", "vm1"]).code, 3, "without --yes");
    plant.ok(primary, &["delete", "vm1", "--yes"]);
    within("the end of its client", || ask(&far, Request::Flush).err());
    let empty = |node| plant.ok(node, &["list"])["volumes"].as_array().unwrap().is_empty();
    within("both to know", || (empty(primary) && empty(secondary)).then_some(()));
}

/// V43: a pair begins to encrypt, one node after the other, and loses nothing; then nothing is in the clear.
#[test]
fn a_pair_begins_to_encrypt_without_a_break() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, primary, "vm1", 16 << 20);
    (0..8).for_each(|block| write(&near, block, 1));
    drop(near);
    let directory = tempfile::tempdir().unwrap();
    let authority = certificates::Authority::new("the plant");
    let guest = authority.issue(&directory.path().join("guest"), &[]);
    let plain = |node: &str| std::path::PathBuf::from(plant.part(node)["config"].as_str().unwrap());
    let before = [primary, secondary].map(|node| std::fs::read_to_string(plain(node)).unwrap());
    for (round, mode) in [(2, "allow"), (3, "require")] {
        for (node, before) in [primary, secondary].into_iter().zip(&before) {
            let own = authority.issue(&directory.path().join(node), &["127.0.0.1"]);
            let own = own.display();
            let table = format!(
                "{before}\n[local.storage.tls]\nmode = \"{mode}\"\n\
                 certificate = \"{own}/client-cert.pem\"\n\
                 key = \"{own}/client-key.pem\"\nauthorities = \"{own}/ca-cert.pem\"\n"
            );
            plant.fault(&["kill", node]);
            std::fs::write(plain(node), table).unwrap();
            plant.fault(&["start", node]);
            let other = if node == primary { secondary } else { primary };
            plant.ok(other, &["wait", "--for", "in-sync", "--timeout", "60s"]);
            plant.ok(node, &["wait", "--for", "in-sync", "--timeout", "60s"]);
        }
        let address = |node: &str| plant.part(node)["nbd"]["address"].as_str().unwrap().to_owned();
        // What the holders say to each other is, too.
        within("an encrypted stream", || {
            let holders = roles(&plant).0;
            let shown = plant.ok(holders, &["show", "vm1"])["group"]["storage"]["holders"].clone();
            shown.as_array()?.iter().any(|holder| holder["encrypted"] == true).then_some(())
        });
        for node in [primary, secondary] {
            let secure = format!("nbds://{}/vm1?tls-certificates={}", address(node), guest.display());
            let near = within("an encrypted client", || Client::connect(&secure.parse().unwrap(), LONG).ok());
            (0..8).for_each(|block| check(&near, block, if node == primary { round - 1 } else { round }));
            (0..8).for_each(|block| write(&near, block, round));
            let clear = format!("nbd://{}/vm1", address(node)).parse().unwrap();
            assert_eq!(Client::connect(&clear, LONG).is_ok(), mode == "allow", "{node}");
            let shown = plant.ok(node, &["show", "vm1"]);
            let uri = shown["volume"]["uris"][0]["uri"].as_str().unwrap_or_else(|| panic!("{shown}"));
            assert!(uri.starts_with(if mode == "allow" { "nbd://" } else { "nbds://" }), "{uri}");
        }
    }
}

/// V43, X14: a holder that does nothing in the clear, beside one that knows nothing else, is kept away, and
/// both say so and what to do; guests go on.
#[test]
fn a_holder_that_wants_more_than_the_other_can_is_missed_and_says_why() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let directory = tempfile::tempdir().unwrap();
    let own = certificates::Authority::new("the plant").issue(&directory.path().join("own"), &["127.0.0.1"]);
    let own = own.display();
    let config = plant.part(secondary)["config"].as_str().unwrap();
    let before = std::fs::read_to_string(config).unwrap();
    let table = format!(
        "{before}\n[local.storage.tls]\nmode = \"allow\"\nstreams = \"require\"\n\
         certificate = \"{own}/client-cert.pem\"\nkey = \"{own}/client-key.pem\"\n\
         authorities = \"{own}/ca-cert.pem\"\n"
    );
    let again = |text: &str| {
        plant.fault(&["kill", secondary]);
        std::fs::write(config, text).unwrap();
        plant.fault(&["start", secondary]);
    };
    again(&table);
    let lack = |node: &str| {
        let socket = plant.part(node)["socket"].as_str().unwrap();
        let answer: Answer = bulkhead(&["status", "--json", "--socket", socket]).output().unwrap().into();
        let status: Value = serde_json::from_str(&answer.out).ok()?;
        let lacks = status["status"]["lacks"].as_array().unwrap_or_else(|| panic!("{status}")).clone();
        Some(lacks.into_iter().find(|lack| lack["what"] == "streams")?["why"].as_str()?.to_owned())
    };
    for (node, other, said) in [
        (primary, secondary, "write `[local.storage.tls]` in this node's file"),
        (secondary, primary, "write `[local.storage.tls]` in its file"),
    ] {
        let why = within(&format!("{node} to say why"), || lack(node));
        assert!(why.starts_with(&format!("no stream to {other}: ")) && why.contains(said), "{why}");
    }
    let near = client(&plant, primary, "vm1", 16 << 20);
    write(&near, 1, 1);
    again(&before);
    roles(&plant);
    within("nothing is missed", || (lack(primary).is_none() && lack(secondary).is_none()).then_some(()));
    let shown = plant.ok(primary, &["show", "vm1"])["group"]["storage"]["holders"].clone();
    let clear = shown.as_array().unwrap().iter().filter(|holder| holder["encrypted"] == false).count();
    assert_eq!(clear, 1, "{shown}");
    check(&near, 1, 1);
}

/// S4-10, X04, X14, V7: who missed what was acknowledged does not lead, says what it waits for, and has all
/// once it was fed.
#[test]
fn who_missed_acknowledged_writes_does_not_lead() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, primary, "vm1", 16 << 20);
    (0..16).for_each(|block| write(&near, block, 1));
    plant.fault(&["kill", secondary]);
    (8..24).for_each(|block| write(&near, block, 2));
    plant.fault(&["kill", primary]);
    drop(near);

    // The witness and this one are a majority; what it has is not all that was acknowledged.
    plant.fault(&["start", secondary]);
    let agreed = format!("{primary} was agreed on");
    let stale = within("the other one to say why it does not lead", || {
        let answer = plant.volume(secondary, &["list"]);
        let listed: Value = serde_json::from_str(&answer.out).ok()?;
        let group = &listed["group"]["storage"];
        // The voters let nobody but the one that went on alone lead, or this one knows that it is stale.
        let why = group["waits"].as_str()?;
        (why.contains(&agreed) || why.contains("missed writes")).then(|| group.clone())
    });
    let why = stale["waits"].as_str().unwrap();
    assert!(stale["leads"] == false && stale["primary"].is_null(), "{stale}");
    let refused = plant.volume(secondary, &["create", "vm2", "--size", "4KiB"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains(why), "{}", refused.err);
    let waited = plant.volume(secondary, &["wait", "--for", "primary", "--timeout", "1s"]);
    assert_eq!(waited.code, 1, "{}", waited.err);

    // The other one leads again, and feeds it.
    plant.fault(&["start", primary]);
    plant.ok(secondary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    let far = client(&plant, secondary, "vm1", 16 << 20);
    (0..8).for_each(|block| check(&far, block, 1));
    (8..24).for_each(|block| check(&far, block, 2));
}

/// F33, F36, I5: a cut between the two leaves one that leads, and nothing acknowledged is lost when it heals.
#[test]
fn a_cut_link_leaves_one_that_leads() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    // Clients reach both over a network of their own.
    let clients = [client(&plant, primary, "vm1", 16 << 20), client(&plant, secondary, "vm1", 16 << 20)];
    (0..16).for_each(|block| write(&clients[0], block, 1));
    plant.fault(&["cut", "a1", "b1"]);
    for block in 8..40 {
        write(&clients[usize::from(block % 2 == 0)], block, 2);
        let leads = |node| plant.ok(node, &["list"])["group"]["storage"]["leads"] == true;
        assert!(!(block % 8 == 0 && leads(primary) && leads(secondary)), "both lead");
    }
    plant.fault(&["heal"]);
    plant.ok(primary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    plant.ok(secondary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    for client in &clients {
        (0..8).for_each(|block| check(client, block, 1));
        (8..40).for_each(|block| check(client, block, 2));
    }
}

/// S0-06: the modes that were asked for outlive a change of primary, and the end of both agents.
#[test]
fn modes_outlive_whoever_was_asked_for_them() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    for name in ["vm1", "vm2"] {
        plant.ok(primary, &["create", name, "--size", "16MiB"]);
    }
    // S0-04, S0-05, S0-20: the same in the words of a plant, with what is otherwise.
    let compartment = |mode: &str| -> Value {
        let mut command = bulkhead(&["compartment", "mode", mode, "--json"]);
        command.env("BULKHEAD_SOCKET", plant.part(primary)["socket"].as_str().unwrap());
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(compartment("configuration")["mode"], "configuration");
    plant.ok(primary, &["mode", "vm2", "back"]);
    let resilient = compartment("resilient");
    assert_eq!((&resilient["mode"], &resilient["otherwise"]), (&"resilient".into(), &["vm2"][..].into()));
    let modes = |node: &str| {
        let listed = plant.ok(node, &["list"]);
        let of = |volume: usize| listed["volumes"][volume]["wanted"].clone();
        (listed["group"]["storage"]["wanted"].clone(), of(0), of(1))
    };
    let expected = (Value::from("through"), Value::Null, Value::from("back"));
    within("the other one to know", || (modes(secondary) == expected).then_some(()));
    plant.ok(primary, &["promote", secondary]);
    within("the promotion", || {
        plant.ok(secondary, &["list"])["group"]["storage"]["leads"].as_bool()?.then_some(())
    });
    assert_eq!(modes(secondary), expected);

    for node in [primary, secondary] {
        plant.fault(&["kill", node]);
    }
    for node in [primary, secondary] {
        plant.fault(&["start", node]);
    }
    let (primary, _) = roles(&plant);
    assert_eq!(modes(primary), expected);
    let shown = plant.volume(primary, &["mode", "vm9", "pair"]);
    assert_eq!(shown.code, 2, "{}", shown.err);
    plant.ok(primary, &["mode", "vm2", "pair"]);
    assert_eq!(modes(primary).2, Value::Null);
}

/// S4-02, S4-12, X11, X14: an operator takes the secondary out and in again, bounds what is at risk, and is
/// refused what would lose something, each with what to do instead.
#[test]
fn an_operator_says_who_keeps_copies_and_what_may_be_at_risk() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, primary, "vm1", 16 << 20);
    (0..8).for_each(|block| write(&near, block, 1));
    let storage = |node: &str| plant.ok(node, &["list"])["group"]["storage"].clone();
    assert_eq!(storage(primary)["atRiskBytes"], 0);

    let refusals: [(&str, &[&str], &str); 5] = [
        (primary, &["secondary", "remove", secondary], "--yes"),
        (primary, &["secondary", "remove", primary, "--yes"], "volume promote"),
        (secondary, &["secondary", "add", secondary], primary),
        (secondary, &["recover"], "--yes-lose-writes"),
        (secondary, &["recover", "--yes-lose-writes"], "nothing is to be recovered"),
    ];
    for (node, arguments, next) in refusals {
        let refused = plant.volume(node, arguments);
        assert_eq!(refused.code, 3, "{arguments:?}: {}", refused.err);
        assert!(
            refused.err.contains(next) && refused.err.contains("Nothing was changed."),
            "{}",
            refused.err
        );
    }
    for arguments in [&["secondary", "remove", "c9", "--yes"][..], &["limit", "100"], &["mode", "pair"]] {
        assert_eq!(plant.volume(primary, arguments).code, 2, "{arguments:?}");
    }

    plant.ok(primary, &["limit", "1MiB"]);
    plant.ok(primary, &["secondary", "remove", secondary, "--yes"]);
    within("it to be out", || (storage(primary)["state"] == "degraded").then_some(()));
    (8..16).for_each(|block| write(&near, block, 2));
    let group = storage(primary);
    assert_eq!(
        (&group["atRiskBytes"], &group["atRiskMax"]),
        (&(8 * BLOCK).into(), &(1 << 20).into()),
        "{group}"
    );
    let listed = plant.volume(primary, &["list"]);
    assert_eq!(listed.code, 0);
    plant.ok(primary, &["secondary", "add", secondary]);
    plant.ok(primary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    let group = storage(primary);
    assert_eq!(group["atRiskBytes"], 0, "{group}");
    plant.fault(&["kill", primary]);
    let far = client(&plant, secondary, "vm1", 16 << 20);
    (0..8).for_each(|block| check(&far, block, 1));
    (8..16).for_each(|block| check(&far, block, 2));
}

#[test]
fn what_cannot_be_asked_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("a1.sock");
    let mut command = bulkhead(&["volume", "list", "--json", "--socket"]);
    let answer: Answer = command.arg(&nobody as &Path).output().unwrap().into();
    assert_eq!(answer.code, 1, "{}", answer.out);
    let mut command = bulkhead(&["volume", "create", "vm1", "--size", "4097"]);
    let answer: Answer = command.output().unwrap().into();
    assert_eq!(answer.code, 2, "{}", answer.out);
    assert!(answer.err.contains("8192"), "{}", answer.err);
}
