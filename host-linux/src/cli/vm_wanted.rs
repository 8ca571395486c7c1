//! What the operator's commands leave behind for whoever comes to lead: a guest that was started is to run,
//! on whichever node; one that was stopped is not (S3-19).

use super::cluster::AgentArg;
use crate::failover::room;
use crate::failover::wanted::Wanted;
use crate::failure::Failure;
use crate::guests::home::Home;
use crate::guests::own_volume::pair::{self, Pair, Says};
use crate::guests::own_volume::{keeping, moving};
use crate::guests::process;
use crate::guests::record::Record;
use crate::vmm::description::Description;
use serde_json::Value;
use std::path::Path;

/// Whether it may begin here, by the agent at this socket: it may run in another pair, with what is on its
/// disks.
pub(super) fn may_begin(home: &Home, agent: Option<&Path>) -> Result<(), Failure> {
    let Some(agent) = agent.filter(|_| is_everywhere(home)) else { return Ok(()) };
    let Some(pair) = Pair::ask(agent)? else { return Ok(()) };
    let Some(moving) = moving::in_force(&pair, &home.name)? else { return Ok(()) };
    moving.may_begin(&home.name, Record::load(&home.record())?.as_ref())
}

/// It runs by the agent at this socket, and is to run from now on.
pub(super) fn is_to_run(home: &Home, agent: Option<&Path>) -> Result<(), Failure> {
    let Some(agent) = agent.filter(|_| is_everywhere(home)) else { return Ok(()) };
    pair::want(agent, &home.name, true, Some(says(home)?)).map_err(|why| {
        let left = "The guest runs, and no other node begins it if this one is lost.";
        why.left(left).next("say `bulkhead vm stop` and `start` again, once the agent answers.")
    })?;
    settled(home, agent);
    Ok(())
}

/// It is wanted here: what was noted of a move of before says nothing any more.
fn settled(home: &Home, agent: &Path) {
    let _ = Record::settle(&home.record());
    let _ = moving::forget(agent, &home.name);
}

/// Whether there is room for it, before it begins; `is_forced`: on this node, whatever follows its loss.
pub(super) fn has_room(home: &Home, agent: Option<&Path>, is_forced: bool) -> Result<(), Failure> {
    let Some(agent) = agent.filter(|_| is_everywhere(home)) else { return Ok(()) };
    let Some(pair) = Pair::ask(agent)?.filter(|pair| room::is_counted(pair.status())) else { return Ok(()) };
    let Says { failover, needs } = says(home)?;
    let wanted = Wanted::of(true, failover, Some(needs));
    room::admit(pair.status(), &home.name, wanted, is_forced)
}

fn says(home: &Home) -> Result<Says, Failure> {
    Ok(Says::of(&Description::read(&home.description())?))
}

/// It is to be off, before it is.
pub(super) fn is_to_be_off(home: &Home, agent: &AgentArg) -> Result<(), Failure> {
    if !is_everywhere(home) {
        return Ok(());
    }
    let left = "The guest is as it was: it would be begun again.";
    let agent = agent.path()?;
    // Of a move that was called off; once nobody wants the guest, it would count.
    settled(home, &agent);
    pair::want(&agent, &home.name, false, None).map_err(|why| why.left(left))
}

/// It was to be off once a snapshot was there, and there is none, for this reason: one that runs on is to run
/// again.
pub(super) fn goes_on(home: &Home, agent: &AgentArg, why: Failure) -> Failure {
    let info = process::info(home).ok().flatten();
    let is = |key: &str| info.as_ref().and_then(|info| info.get(key));
    let runs_on = is("lease") == Some(&Value::Bool(true)) && is("snapshot") == Some(&Value::Null);
    if !runs_on {
        return why;
    }
    let wanted = agent.path().and_then(|agent| is_to_run(home, Some(&agent)));
    match wanted {
        Ok(()) => why,
        Err(also) => Failure { what: format!("{}; and {}", why.what, also.what), ..also },
    }
}

/// Whether whoever leads has it.
fn is_everywhere(home: &Home) -> bool {
    keeping::origin(home).is_ok_and(|volume| volume.is_some())
}
