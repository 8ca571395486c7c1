//! Where guests of a pair belong that run in the other compartment, and whether they can go there now
//! (S0-09): a pure function of what the status of the node says that leads their volumes.

use super::wanted::Home;
use crate::cluster::outlook::is_up;
use crate::cluster::status::{Node, Status};
use crate::failure::Failure;
use crate::guests::own_volume as own;
use crate::mirror::view::State;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Homing {
    /// All guests that run here, or are not wanted anywhere else, are where they belong.
    AtHome,
    /// These belong into the other compartment: they can go to this node.
    To {
        /// Its name.
        node: String,
        /// Their names.
        guests: Vec<String>,
    },
}

/// Where guests of this node go home to.
///
/// # Errors
///
/// This node does not lead, guests of both compartments run here, or their home is not well: why.
pub fn homing(status: &Status) -> Result<Homing, Failure> {
    let (Some(storage), Some(me)) = (&status.storage, status.me()) else {
        let what = format!("{} has no volumes, and so no guests of the site", status.node.name);
        return Err(refused(what, "ask a node of the pair that keeps them."));
    };
    if !storage.leads {
        let leads = storage.primary.and_then(|id| status.find(id));
        let next = match leads {
            Some(node) => format!("run it on {}.", node.name),
            None => "`bulkhead volume list` says why nobody does.".to_owned(),
        };
        return Err(refused(format!("{} does not lead the volumes", me.name), next));
    }
    let here = me.side.as_deref().and_then(Home::of_side);
    let home = |name: &str| {
        let volume = storage.volumes.iter().find(|volume| own::guest(&volume.name) == Some(name));
        volume.and_then(|volume| volume.guest?.home)
    };
    let running = status.guests.iter().filter(|guest| guest.state == "running");
    let homes: Vec<(&str, Option<Home>)> =
        running.map(|guest| (guest.name.as_str(), home(&guest.name))).collect();
    let of = |home: Option<Home>| -> Vec<String> {
        let is_so = |of: &Option<Home>| home.is_some() && *of == home;
        homes.iter().filter(|(_, home)| is_so(home)).map(|(name, _)| (*name).to_owned()).collect()
    };
    let (away, own) = (of(here.map(Home::other)), of(here));
    if away.is_empty() {
        return Ok(Homing::AtHome);
    }
    if !own.is_empty() {
        let what = format!(
            "guests of both compartments run here: {} would leave their home if {} went to theirs",
            own.join(", "),
            away.join(", ")
        );
        return Err(refused(what, "keep the disks of those that belong apart in different pairs."));
    }
    let node = well(status, me)?;
    Ok(Homing::To { node: node.name.clone(), guests: away })
}

/// A node of the other compartment that has all that was written.
fn well<'a>(status: &'a Status, me: &Node) -> Result<&'a Node, Failure> {
    let holders = status.storage.iter().flat_map(|storage| &storage.holders);
    let holds = |node: &Node| holders.clone().find(|holder| holder.node == node.id);
    let mut why = "no node of it keeps their volumes".to_owned();
    for node in status.nodes.iter().filter(|node| node.pair == me.pair && node.side != me.side) {
        let Some(holder) = holds(node) else { continue };
        match (is_up(node), holder.in_sync && !holder.removed) {
            (true, true) if status.storage.as_ref().is_some_and(|view| view.state == State::Synced) => {
                return Ok(node);
            }
            (true, true) => why = "not every holder of their volumes is in sync".to_owned(),
            (true, false) => why = format!("{} is not in sync", node.name),
            (false, _) => why = format!("{} is not heard", node.name),
        }
    }
    let what = format!("the home of these guests is not well: {why}");
    Err(refused(what, "`bulkhead alerts` says what is to be done; `--after 1min` waits for it."))
}

fn refused(what: String, next: impl Into<String>) -> Failure {
    Failure::refused(what).left("Nothing was moved.").next(next)
}
