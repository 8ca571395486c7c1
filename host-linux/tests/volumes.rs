//! Volumes as an operator and a guest meet them: one command makes one, every node that keeps it serves it,
//! and the loss of the node that leads loses nothing that was acknowledged (S1-27 to S1-29, S3-07, S4-03,
//! S4-11, S4-12, V6; BLACKBOX 2, 3, 7).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;
#[path = "common/plant.rs"]
mod plant;

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
