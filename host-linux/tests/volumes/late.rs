//! V8, F19, F20: what a client asked of a node that stood still is not done when it has asked elsewhere.

use super::plant::Plant;
use super::{BLOCK, ask, check, client, content, roles, write};
use bulkhead::nbd::export::{Export as _, Reply, Request};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A node that follows is paused for as long as clients wait. A write lies in its socket; the client, whose
/// connection nobody has closed yet, writes the block through the other node. The first write is never done.
#[test]
fn what_a_node_finds_when_it_wakes_is_not_done() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, primary, "vm1", 16 << 20);
    let far = client(&plant, secondary, "vm1", 16 << 20);
    write(&far, 5, 1);
    plant.fault(&["pause", secondary]);
    let (done, answers) = channel();
    let request = Request::Write { offset: 5 * BLOCK, data: content(5, 2), durable: true };
    far.submit(request, Reply::new(move |answer| drop(done.send(answer))));
    std::thread::sleep(Duration::from_secs(7));
    write(&near, 5, 3);
    plant.fault(&["resume", secondary]);
    let answer = answers.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(answer.is_err(), "it was done: {answer:?}");
    check(&near, 5, 3);
    // Who connects anew is served.
    let far = client(&plant, secondary, "vm1", 16 << 20);
    check(&far, 5, 3);
    write(&far, 5, 4);
    check(&near, 5, 4);
    assert!(ask(&near, Request::Flush).is_ok());
}
