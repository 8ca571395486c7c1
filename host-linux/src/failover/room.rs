//! Who has room on which node of a pair, and whether one more guest may be started: pure functions of a
//! node's status (S3-14 to S3-18, X16). They mirror [`bulkhead_core::failover::room`] and decide nothing.

use super::wanted::{Needs, Policy, Wanted};
use crate::cluster::status::{Node, Status};
use crate::failure::Failure;
use crate::guests::own_volume as own;
use crate::output::size;
use bulkhead_core::failover::room::{Left, MEMORY, Room, UNBOUNDED};
use bulkhead_core::placement::amounts::{Amounts, Shortage};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::num::{NonZeroU16, NonZeroU32};

/// A guest that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// It runs on the node that leads.
    pub runs: bool,
    /// Of those that are as important the first one comes first.
    pub number: u16,
}

/// The guests of the pair that are to run, the most important first.
#[must_use]
pub fn candidates(status: &Status) -> Vec<Candidate> {
    let running = status.guests.iter().filter(|guest| guest.state == "running");
    // The agent's loop asks for this each second, of thousands of guests.
    let running: BTreeSet<&str> = running.map(|guest| guest.name.as_str()).collect();
    let volumes = status.storage.iter().flat_map(|view| &view.volumes);
    let mut all: Vec<Candidate> = volumes
        .filter_map(|volume| {
            let wanted = volume.guest.filter(|wanted| wanted.running)?;
            let name = own::guest(&volume.name)?.to_owned();
            Some(Candidate { runs: running.contains(name.as_str()), name, wanted, number: volume.number })
        })
        .collect();
    in_order(&mut all);
    all
}

/// Of these guests the ones that find no room on this node, and what is missing. Those that run have theirs,
/// if they run there.
#[must_use]
pub fn without<'a>(node: &Node, guests: &'a [Candidate], run_there: bool) -> Vec<(&'a str, Shortage)> {
    let mut left = Left::of(of(node));
    let has = |guest: &&Candidate| run_there && guest.runs;
    guests.iter().filter(has).for_each(|guest| left.take(guest.wanted.needs.map(Into::into)));
    let begins = |guest: &&Candidate| !has(guest) && (run_there || guest.wanted.policy != Policy::Stay);
    let fits = |guest: &'a Candidate| {
        let needs = guest.wanted.needs.map(Into::into);
        left.fit(needs).err().map(|lacks| (guest.name.as_str(), lacks))
    };
    guests.iter().filter(begins).filter_map(fits).collect()
}

/// What a node has for guests.
#[must_use]
pub fn of(node: &Node) -> Room {
    node.room.map_or(UNBOUNDED, |room| amounts(room.memory_mib, room.processors))
}

/// So many MiB of memory and so many processors, or as many as guests want.
#[must_use]
pub fn amounts(memory: Option<NonZeroU32>, processors: Option<NonZeroU16>) -> Room {
    let Amounts([memory_max, processors_max]) = UNBOUNDED;
    Amounts([
        memory.map_or(memory_max, |mib| u64::from(mib.get())),
        processors.map_or(processors_max, |count| u64::from(count.get())),
    ])
}

/// Whether guests of the pair of the node that says so are counted: one of its nodes says what it has.
#[must_use]
pub fn is_counted(status: &Status) -> bool {
    of_pair(status).any(|node| node.room.is_some())
}

/// What is missing, in words.
#[must_use]
pub fn lacking(lacks: &Shortage) -> String {
    match (lacks.kind == MEMORY, lacks.lacks) {
        (true, mib) => format!("{} of memory", size(mib << 20)),
        (false, 1) => "1 processor".to_owned(),
        (false, count) => format!("{count} processors"),
    }
}

/// Whether a guest may be started on the node that leads, beside all that are to run: it fits there, and
/// after the loss of that node everybody fits who did before. `is_forced`: the latter need not be.
///
/// # Errors
///
/// It may not: where what is missing, and each change that admits it, which was tried.
pub fn admit(status: &Status, name: &str, wanted: Wanted, is_forced: bool) -> Result<(), Failure> {
    let Some(me) = status.me() else { return Ok(()) };
    let before: Vec<Candidate> = candidates(status).into_iter().filter(|guest| guest.name != name).collect();
    let Some(why) = refusal(status, me, &before, name, wanted, is_forced) else { return Ok(()) };
    let is_admitted =
        |guests: &[Candidate], wanted: Wanted| refusal(status, me, guests, name, wanted, is_forced).is_none();
    let mut remedies = Vec::new();
    if let Some(mib) = smaller(wanted, &|wanted| is_admitted(&before, wanted)) {
        remedies.push(format!("give it {} of memory", size(u64::from(mib.get()) << 20)));
    }
    if let Some(stopped) = stopped(&before, wanted, &|guests| is_admitted(guests, wanted)) {
        remedies.push(format!(
            "stop {}, which {} less",
            stopped.join(", "),
            match stopped.len() {
                1 => "matters",
                _ => "matter",
            }
        ));
    }
    if !is_forced && refusal(status, me, &before, name, wanted, true).is_none() {
        remedies.push("start it all the same: `--beyond-room`".to_owned());
    }
    remedies.push("say more `room` of that node in the site's file, if it has more".to_owned());
    let failure = Failure::refused(format!("there is no room for guest {name}: {why}"));
    Err(failure.left("It was not started.").next(format!("{}.", remedies.join("; or "))))
}

/// Whether all guests that run on the node that leads would find room on this one.
///
/// # Errors
///
/// They would not: which of them, and what is missing for the first.
pub fn all_fit(status: &Status, node: &str) -> Result<(), Failure> {
    let Some(node) = of_pair(status).find(|other| other.name == node) else { return Ok(()) };
    // As they run, whatever is done when they do not.
    let goes =
        |guest: Candidate| Candidate { wanted: Wanted { policy: Policy::Restart, ..guest.wanted }, ..guest };
    let running: Vec<Candidate> =
        candidates(status).into_iter().filter(|guest| guest.runs).map(goes).collect();
    let down = without(node, &running, false);
    let Some((_, lacks)) = down.first() else { return Ok(()) };
    let names: Vec<&str> = down.iter().map(|(guest, _)| *guest).collect();
    let what = format!("{} has no room for {}: it lacks {}", node.name, names.join(", "), lacking(lacks));
    let next =
        "stop guests that matter less, or say more `room` of that node in the site's file, if it has more.";
    Err(Failure::refused(what).left("Nothing was moved.").next(next))
}

/// Why a guest may not be started beside these; `None`: it may.
fn refusal(
    status: &Status,
    me: &Node,
    before: &[Candidate],
    name: &str,
    wanted: Wanted,
    is_forced: bool,
) -> Option<String> {
    let number = u16::MAX;
    let mut after = before.to_vec();
    after.push(Candidate { name: name.to_owned(), wanted, runs: false, number });
    in_order(&mut after);
    let here = without(me, &after, true);
    if let Some((_, lacks)) = here.iter().find(|(guest, _)| *guest == name) {
        return Some(format!("{} lacks {}", me.name, lacking(lacks)));
    }
    let others = of_pair(status).filter(|node| node.id != me.id && !is_forced);
    others.into_iter().find_map(|node| {
        let known = without(node, before, false);
        let is_new = |(guest, _): &&(&str, Shortage)| known.iter().all(|(other, _)| other != guest);
        let down = without(node, &after, false);
        let (guest, lacks) = down.iter().find(is_new)?;
        let (who, what) = (if *guest == name { "it" } else { guest }, lacking(lacks));
        Some(format!("if {} is lost, {who} would be down, for {} lacks {what}", me.name, node.name))
    })
}

/// The most memory with which it is admitted, if that is all that it takes.
fn smaller(wanted: Wanted, is_admitted: &dyn Fn(Wanted) -> bool) -> Option<NonZeroU32> {
    let needs = wanted.needs?;
    let with = |mib| Wanted { needs: Some(Needs { memory_mib: mib, ..needs }), ..wanted };
    let (mut fits, mut not) = (0, needs.memory_mib.get());
    while 1 < not.abs_diff(fits) {
        let half = fits.midpoint(not);
        match NonZeroU32::new(half).is_some_and(|mib| is_admitted(with(mib))) {
            true => fits = half,
            false => not = half,
        }
    }
    NonZeroU32::new(fits)
}

/// The fewest of the least important guests without which it is admitted; all of them matter less.
fn stopped(
    before: &[Candidate],
    wanted: Wanted,
    is_admitted: &dyn Fn(&[Candidate]) -> bool,
) -> Option<Vec<String>> {
    let less = before.iter().filter(|guest| guest.wanted.priority < wanted.priority).count();
    (1..=less).find_map(|count| {
        let (stay, go) = before.split_at_checked(before.len().checked_sub(count)?)?;
        is_admitted(stay).then(|| go.iter().map(|guest| guest.name.clone()).collect())
    })
}

fn in_order(guests: &mut [Candidate]) {
    guests.sort_by_key(|guest| (Reverse(guest.wanted.priority), guest.number));
}

fn of_pair(status: &Status) -> impl Iterator<Item = &Node> {
    let pair = status.me().and_then(|me| me.pair);
    status.nodes.iter().filter(move |node| !node.witness && node.pair == pair)
}
