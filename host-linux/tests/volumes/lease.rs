//! I5, V23, X02: guests run by the lease of the node that leads their volumes.

use super::plant::Plant;
use super::{roles, within};
use bulkhead::cluster::client::Client;
use bulkhead::cluster::guest_requests::GuestLease;
use bulkhead::cluster::request::Request;
use bulkhead::failure::{Exit, Failure};
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest lease of a plant.
const LEASE: Duration = Duration::from_millis(600);

/// What a node's agent says, and the end of the lease as whoever asked counts it.
fn lease(plant: &Plant, node: &str) -> Result<(GuestLease, Instant), Failure> {
    let asked = Instant::now();
    let mut agent = Client::connect(Path::new(plant.part(node)["socket"].as_str().unwrap()))?;
    let answer = agent.ask(&Request::GuestLease)?;
    let lease: GuestLease = serde_json::from_value(answer["guestLease"].clone()).unwrap();
    let left = Duration::from_millis(lease.left_ms);
    Ok((lease, asked + left))
}

/// The node that leads lends what it has; the other one names it. Whoever is given the lead has it when all
/// that was lent is over, and not before.
#[test]
fn guests_run_where_their_volumes_are_led() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    let (first, _) = lease(&plant, primary).unwrap();
    assert!(Duration::from_millis(first.left_ms) <= LEASE && first.volumes.exists(), "{first:?}");
    let refused = lease(&plant, secondary).unwrap_err();
    assert_eq!(refused.exit, Exit::Refused, "{}", refused.what);
    assert!(refused.what.contains(&format!("{primary} leads")), "{}", refused.what);
    assert!(refused.next.contains(&format!("promote {secondary}")), "{}", refused.next);
    std::thread::sleep(LEASE);
    let (again, until) = lease(&plant, primary).unwrap();
    assert_eq!(again.epoch, first.epoch, "nobody else has led");

    plant.ok(primary, &["promote", secondary]);
    let next = within("the other one to lead", || lease(&plant, secondary).ok());
    assert!(until < Instant::now(), "it leads while a guest may run");
    assert!(first.epoch < next.0.epoch);
    let refused = within("the first one to know", || {
        lease(&plant, primary).err().filter(|failure| failure.exit == Exit::Refused)
    });
    assert!(refused.what.contains(&format!("{secondary} leads")), "{}", refused.what);
}
