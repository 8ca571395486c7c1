//! What a node does, in the words of the operator. Made here only.

use super::events::News;
use super::fence_agent::Power;
use crate::site_config::SiteConfig;
use bulkhead_core::fence::words::{Ground, Outcome, Plea, Refusal, Want};
use bulkhead_core::id::NodeId;
use bulkhead_core::link::suspicion::Verdict;
use bulkhead_core::monitor::pair::{Reason, Role};
use bulkhead_core::node::message::Office;
use bulkhead_core::node::roster::Match;
use bulkhead_core::node::words::Note;
use bulkhead_core::register::message::Fenced;
use bulkhead_core::register::voters::Set;
use serde_json::json;

/// What whoever holds the register of an office is called.
const fn first(office: Office) -> &'static str {
    match office {
        Office::Infra | Office::Controller => "master",
        Office::Storage => "primary",
    }
}

/// A role, as people call it in this office.
const fn role_word(office: Office, role: Role) -> &'static str {
    match (office, role) {
        (Office::Storage, Role::Master) => "primary",
        (Office::Storage, Role::Slave) => "secondary",
        (
            Office::Infra | Office::Controller | Office::Storage,
            Role::Stopped | Role::Starting | Role::Slave | Role::Contending | Role::Master,
        ) => role.name(),
    }
}

/// Why a role was taken, as a clause.
pub fn reason(config: &SiteConfig, office: Office, reason: Reason) -> String {
    let (name, first) = (|node| config.name_of(node), first(office));
    match reason {
        Reason::Started => format!("it was started and listens for a {first}"),
        Reason::Stopped => "the operator stopped it".into(),
        Reason::MasterHeard { master } => format!("{} is {first}", name(master)),
        Reason::NoMasterHeard => format!("nobody said to be {first}"),
        Reason::MasterSilent { master } => format!("{} is silent on both networks", name(master)),
        Reason::MasterResigned { master } => format!("{} is not {first} any more", name(master)),
        Reason::RegisterWon { epoch } => format!("the voters gave it the register under epoch {}", epoch.0),
        Reason::LeaseExpired => "its lease ran out: too few voters answered in time".into(),
        Reason::Released => "it gave the register back".into(),
        Reason::Outranked => "another node holds a newer epoch".into(),
        Reason::Moved { by } => format!("{} handed it over", name(by)),
    }
}

/// A word for a [`Reason`], for programs.
pub const fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Started => "started",
        Reason::Stopped => "stopped",
        Reason::MasterHeard { .. } => "master-heard",
        Reason::NoMasterHeard => "no-master-heard",
        Reason::MasterSilent { .. } => "master-silent",
        Reason::MasterResigned { .. } => "master-resigned",
        Reason::RegisterWon { .. } => "register-won",
        Reason::LeaseExpired => "lease-expired",
        Reason::Released => "released",
        Reason::Outranked => "outranked",
        Reason::Moved { .. } => "moved",
    }
}

/// What helps when site files differ.
pub const DIFFERS_NEXT: &str =
    "make the files the same (`bulkhead config check` shows the digest) and restart one node at a time";
/// What helps when they name different voters.
pub const OTHER_VOTERS_NEXT: &str =
    "nothing new is founded until the files are the same: correct them, and restart one node at a time";

/// How the configuration of a node compares, as in the status.
pub const fn compared(found: Match) -> &'static str {
    match found {
        Match::Same => "same",
        Match::Differs => "differs",
        Match::OtherVoters => "other-voters",
    }
}

/// What is thought of a peer, as in the status.
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Up => "up",
        Verdict::Slow => "slow",
        Verdict::Silent => "silent",
    }
}

/// This node's role in an office is another.
pub fn role(config: &SiteConfig, office: Office, role: Role, why: Reason) -> News {
    let me = config.name_of(config.local.node);
    let of = match office {
        Office::Infra => "of the pair",
        Office::Controller => "as designated controller",
        Office::Storage => "of the mirror group",
    };
    let text = format!("{me} is {} {of}: {}", role_word(office, role), reason(config, office, why));
    let epoch = match why {
        Reason::RegisterWon { epoch } => Some(epoch.0),
        Reason::Started
        | Reason::Stopped
        | Reason::MasterHeard { .. }
        | Reason::NoMasterHeard
        | Reason::MasterSilent { .. }
        | Reason::MasterResigned { .. }
        | Reason::LeaseExpired
        | Reason::Released
        | Reason::Outranked
        | Reason::Moved { .. } => None,
    };
    let why = reason_word(why);
    let fields = json!({ "office": office.name(), "role": role.name(), "reason": why, "epoch": epoch });
    News::new("role", text, fields)
}

/// A note of the core; `None` for what is news only beside what was known before.
pub fn note(config: &SiteConfig, note: &Note) -> Option<News> {
    let name = |node: NodeId| config.name_of(node);
    let news = match note {
        Note::Peer { node, verdict: found } => {
            let what = match found {
                Verdict::Unknown => "was not heard of yet",
                Verdict::Up => "is up",
                Verdict::Slow => "is slow: heard late, which costs nothing yet",
                Verdict::Silent => "is silent on both networks",
            };
            let fields = json!({ "node": node.0, "verdict": verdict(*found) });
            News::new("peer", format!("{} {what}", name(*node)), fields)
        }
        Note::Voters { office, epoch, voters } => {
            let ids: Vec<u16> = voters.iter().map(|voter| voter.node.0).collect();
            let text = match ids.as_slice() {
                [only] => format!("{} may go on alone ({} register)", name(NodeId(*only)), office.name()),
                _ => format!("{} decide about the {} register", names(config, voters), office.name()),
            };
            News::new("voters", text, json!({ "office": office.name(), "epoch": epoch.0, "voters": ids }))
        }
        Note::Holder { office, epoch, holder } => {
            let text = format!("{} holds the {} register, epoch {}", name(*holder), office.name(), epoch.0);
            News::new(
                "holder",
                text,
                json!({ "office": office.name(), "epoch": epoch.0, "holder": holder.0 }),
            )
        }
        Note::Activated { by, started } => {
            let what = if *started { "and it starts" } else { "which it does or must not" };
            let text = format!("{} asked this node to run its instance, {what}", name(*by));
            News::new("activated", text, json!({ "by": by.0, "started": started }))
        }
        Note::Activating { node } => {
            let text = format!("{} runs no instance: it is to be started", name(*node));
            News::new("activating", text, json!({ "node": node.0 }))
        }
        Note::Compared { node, found } => {
            let text = match found {
                Match::Same => format!("the site file of {} is this node's again", name(*node)),
                Match::Differs => format!("the site file of {} differs: {DIFFERS_NEXT}", name(*node)),
                Match::OtherVoters => {
                    format!("the site file of {} names other voters: {OTHER_VOTERS_NEXT}", name(*node))
                }
            };
            News::new("configuration", text, json!({ "node": node.0, "compared": compared(*found) }))
        }
        Note::Plea { witness, plea, ended } => plea_news(config, *witness, plea, *ended),
        Note::Health { .. } => return None,
        Note::VoterFailed => News::new(
            "voter-failed",
            "writing a vote failed: this node does not vote any more until its disk is replaced",
            json!({}),
        ),
    };
    Some(news)
}

/// This node asked a witness about the power of another.
fn plea_news(config: &SiteConfig, witness: NodeId, plea: &Plea, ended: Option<Option<Outcome>>) -> News {
    let (name, by) = (config.name_of(plea.node), config.name_of(witness));
    let ended_as = ended.map(outcome);
    let fields =
        json!({ "node": plea.node.0, "witness": witness.0, "want": want(plea.want), "ended": ended_as });
    let text = match ended {
        None => format!("{by} is asked to {} {name}", order(plea.want)),
        Some(ended) => format!("{by} was asked to {} {name}: {}", order(plea.want), outcome(ended)),
    };
    News::new("plea", text, fields)
}

/// A word for a [`Want`], for programs.
pub const fn want(want: Want) -> &'static str {
    match want {
        Want::Off => "off",
        Want::On => "on",
        Want::Look => "look",
    }
}

const fn order(want: Want) -> &'static str {
    match want {
        Want::Off => "cut the power of",
        Want::On => "switch on",
        Want::Look => "look at the power of",
    }
}

/// How a plea stands, in words: `None`, nothing was heard of it.
pub fn outcome(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        None => "it did not answer",
        Some(Outcome::UnderWay) => "it had not ended in time",
        Some(Outcome::Off) => "its power is off, and was read back as off",
        Some(Outcome::On) => "its power is on, and was read back as on",
        Some(Outcome::Failed) => "the switch failed, or did not do what it said",
        Some(Outcome::Refused(refusal)) => refused(refusal),
    }
}

/// Why a witness refused, in words.
const fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoRelay => "refused: it holds no relay of that node",
        Refusal::NotACandidate => "refused: the two have no register in common",
        Refusal::NotDeciding => "refused: it does not decide about the register now",
        Refusal::NobodyHolds => "refused: nobody holds the register, it may simply be taken",
        Refusal::NotHolder => "refused: only the holder of the register may ask for that",
        Refusal::OtherStart => "refused: another start of that node is meant than the one it knows",
        Refusal::OtherEpoch => "refused: the epoch is not the one it knows",
        Refusal::Heard => "refused: that node is master, and was heard lately",
        Refusal::Busy => "refused: it is busy",
        Refusal::OffTooShort => "refused: that node has not been off for long enough",
        Refusal::BeingCut => "refused: the asker itself is being cut",
    }
}

/// On what ground a plea was granted, in words.
pub const fn ground(ground: Option<Ground>) -> &'static str {
    match ground {
        Some(Ground::Holder) => "asked by the holder of the register",
        Some(Ground::HolderSilent) => "it held the register, and was silent",
        Some(Ground::Looking) => "to look",
        None => "not granted",
    }
}

fn names(config: &SiteConfig, set: &Set) -> String {
    set.iter().map(|voter| config.name_of(voter.node)).collect::<Vec<_>>().join(", ")
}

/// A node is to be fenced.
pub fn fencing(config: &SiteConfig, fenced: Fenced, how: &str) -> News {
    let text = format!("{} is to be fenced: {how}", config.name_of(fenced.node));
    News::new("fencing", text, json!({ "node": fenced.node.0, "start": fenced.start.0 }))
}

/// Fencing ended.
pub fn fenced(config: &SiteConfig, fenced: Fenced, ended: &Result<Power, String>) -> News {
    let name = config.name_of(fenced.node);
    let text = match ended {
        Ok(_) => format!("{name} is fenced: its power is off"),
        Err(why) => format!("{name} is not fenced: {why}; its lease must run out"),
    };
    let fields = json!({ "node": fenced.node.0, "start": fenced.start.0, "confirmed": ended.is_ok() });
    News::new("fenced", text, fields)
}
