//! The boot profile of this node, from what the agent really sees: who was contacted, who is preferred,
//! whether the missing answer outside the control networks, and who holds the lease (S1-04 to S1-09, X01).

use super::echo;
use super::status::Profile as Shown;
use crate::site_config::{Duty, SiteConfig};
use bulkhead_core::boot::profile::{Inputs, LeaseView, Outcome, Reach, decide};
use bulkhead_core::id::NodeId;
use bulkhead_core::monitor::pair::Role;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::Office;
use bulkhead_core::time::Instant;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// From one question to the missing to the next.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Chooses the profile, and chooses again when what it rests on changes.
#[derive(Debug)]
pub struct Chooser {
    /// Before, others may not have been contacted yet (S1-09: "within the set time").
    from: Instant,
    /// What is in force.
    outcome: Option<Outcome>,
    contacted: (u16, u16),
    outside: Outside,
}

impl Chooser {
    /// A chooser that waits until `from`.
    pub fn new(from: Instant) -> Self {
        Self { from, outcome: None, contacted: (0, 0), outside: Outside::new() }
    }

    /// The profile in force; `None` before the set time is over, and on a witness.
    pub const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Looks again; answers with what is new.
    pub fn look(&mut self, node: &Node, now: Instant, config: &SiteConfig) -> Option<&Outcome> {
        if now < self.from || node.post(Office::Infra).is_none() {
            return None;
        }
        let inputs = self.inputs(node, now, config);
        let outcome = decide(inputs);
        let is_new = self.outcome.is_none_or(|old| (old.row, old.profile) != (outcome.row, outcome.profile));
        self.outcome = Some(outcome);
        self.outcome.as_ref().filter(|_| is_new)
    }

    fn inputs(&mut self, node: &Node, now: Instant, config: &SiteConfig) -> Inputs {
        let me = config.local.node;
        let others = || config.members.iter().filter(|member| member.id != me && !member.duty.is_witness());
        let is_contacted = |id: NodeId| node.links().verdict(id).is_alive();
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let contacted = others().filter(|member| is_contacted(member.id)).count();
        self.contacted = (count(contacted), count(others().count()));
        let rank = |id: NodeId| match config.member(id).map(|member| member.duty) {
            // The higher priority first, then the lower id; one of 0 never manages.
            Some(Duty::Compartment { priority: priority @ 1.., .. }) => Some((priority, Reverse(id.0))),
            Some(Duty::Compartment { .. } | Duty::Witness { .. }) | None => None,
        };
        let best =
            others().filter(|member| is_contacted(member.id)).filter_map(|member| rank(member.id)).max();
        let controller = node.post(Office::Controller).and_then(|post| post.pair().master());
        let missing: Vec<_> = others().filter(|member| !is_contacted(member.id)).collect();
        let asked = missing.iter().flat_map(|member| member.external.iter().copied()).collect();
        Inputs {
            reach: Reach::of(self.contacted.0, self.contacted.1),
            management_runs: controller.is_some_and(|holder| holder != me && is_contacted(holder)),
            highest_priority: rank(me).is_some_and(|mine| best.is_none_or(|best| best < mine)),
            missing_unreachable: !missing.is_empty() && self.outside.nobody_answers(now, asked),
            lease: lease(node, now),
        }
    }

    /// For the status.
    pub fn show(&self) -> Option<Shown> {
        let Outcome { row, profile, inputs } = self.outcome?;
        let (contacted, configured) = self.contacted;
        let mut reason = vec![format!("{contacted} of {configured} other nodes contacted")];
        let facts = [
            (inputs.management_runs, "the management system runs elsewhere"),
            (inputs.highest_priority, "this node comes first among them"),
            (inputs.missing_unreachable, "the missing answer nowhere"),
            (inputs.lease == LeaseView::Held, "the lease of the pair is held here"),
        ];
        reason.extend(facts.iter().filter(|(holds, _)| *holds).map(|(_, words)| (*words).to_owned()));
        Some(Shown { row, start: profile.text().into(), reason: reason.join(", ") })
    }
}

fn lease(node: &Node, now: Instant) -> LeaseView {
    let Some(post) = node.post(Office::Infra) else { return LeaseView::Unknown };
    match (post.seat().holds(now), post.pair().role(), post.pair().master()) {
        (Some(_), _, _) => LeaseView::Held,
        (None, Role::Slave, Some(_)) => LeaseView::CannotWin,
        (None, _, _) => LeaseView::Unknown,
    }
}

/// Asks the external addresses of missing nodes, in a thread of its own.
#[derive(Debug)]
struct Outside {
    answers: BTreeMap<IpAddr, bool>,
    asked: Option<Instant>,
    sender: Sender<(IpAddr, bool)>,
    receiver: Receiver<(IpAddr, bool)>,
}

impl Outside {
    fn new() -> Self {
        let (sender, receiver) = channel();
        Self { answers: BTreeMap::new(), asked: None, sender, receiver }
    }

    /// Whether none of these answers, as far as is known by now: an address that was not asked yet may
    /// answer. Without any address there is nobody to ask, and silence on both control networks is all there
    /// is.
    fn nobody_answers(&mut self, now: Instant, addresses: Vec<IpAddr>) -> bool {
        self.answers.extend(self.receiver.try_iter());
        let is_quiet = |address: &IpAddr| self.answers.get(address) == Some(&false);
        let quiet = addresses.iter().all(is_quiet);
        if !addresses.is_empty() && self.asked.is_none_or(|asked| ASK_EVERY <= now.since(asked)) {
            self.asked = Some(now);
            let sender = self.sender.clone();
            let thread = std::thread::Builder::new().name("outside".into()).stack_size(256 << 10);
            // Without a thread nothing is known, and nothing is started for it.
            let _ = thread.spawn(move || {
                for address in addresses {
                    // Where nobody can ask, it may be there. The loop may have ended.
                    let _ = sender.send((address, echo::answers(address).unwrap_or(true)));
                }
            });
        }
        quiet
    }
}
