//! What the operator's commands leave behind for whoever comes to lead: a guest that was started is to run,
//! on whichever node; one that was stopped is not (S3-19).

use super::cluster::AgentArg;
use crate::failure::Failure;
use crate::guests::home::Home;
use crate::guests::own_volume::{keeping, pair};
use crate::vmm::description::Description;
use std::path::Path;

/// It runs by the agent at this socket, and is to run from now on.
pub(super) fn is_to_run(home: &Home, agent: Option<&Path>) -> Result<(), Failure> {
    let Some(agent) = agent.filter(|_| is_everywhere(home)) else { return Ok(()) };
    let failover = Description::read(&home.description())?.failover;
    pair::want(agent, &home.name, true, Some(failover)).map_err(|why| {
        let left = "The guest runs, and no other node begins it if this one is lost.";
        why.left(left).next("say `bulkhead vm stop` and `start` again, once the agent answers.")
    })
}

/// It is to be off, before it is.
pub(super) fn is_to_be_off(home: &Home, agent: &AgentArg) -> Result<(), Failure> {
    if !is_everywhere(home) {
        return Ok(());
    }
    let left = "The guest is as it was: it would be begun again.";
    pair::want(&agent.path()?, &home.name, false, None).map_err(|why| why.left(left))
}

/// Whether whoever leads has it.
fn is_everywhere(home: &Home) -> bool {
    keeping::origin(home).is_ok_and(|volume| volume.is_some())
}
