//! What must never happen, and what must have happened at least once.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_core::id::{Epoch, NodeId, RegisterId};
use bulkhead_core::monitor::pair::{Reason, Role};
use bulkhead_core::node::message::Office;
use bulkhead_core::register::message::AskId;
use bulkhead_core::register::store::Stored;
use bulkhead_core::register::voters::Life;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// True time, microseconds.
    pub at: u64,
    /// What.
    pub text: String,
}

/// Watches a run.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// The "sometimes" properties that were reached.
    pub reached: BTreeSet<&'static str>,
    /// Changes of role of the infra pair.
    pub role_changes: u64,
    /// Who held which epoch.
    holders: BTreeMap<(RegisterId, Epoch), NodeId>,
    /// The newest epoch held.
    newest: BTreeMap<RegisterId, Epoch>,
    /// The epoch in each question to accept: proposer, voter, register, question.
    questions: BTreeMap<(NodeId, NodeId, RegisterId, AskId), Epoch>,
    /// The newest epoch that each voter, in each of its lives, has answered from.
    answered: BTreeMap<(NodeId, Life, RegisterId), Epoch>,
}

impl Oracle {
    /// A promise was broken.
    pub fn violated(&mut self, at: u64, text: String) {
        self.violation.get_or_insert(Violation { at, text });
    }

    /// `node` holds the register of `office` (I1, V2, V10).
    pub fn holds(&mut self, at: u64, node: NodeId, what: (Office, RegisterId), epoch: Epoch) {
        let (office, register) = what;
        let holder = *self.holders.entry((register, epoch)).or_insert(node);
        if holder != node {
            let text =
                format!("n{} and n{} both had epoch {} of {}", holder.0, node.0, epoch.0, office.name());
            self.violated(at, text);
        }
        let newest = self.newest.entry(register).or_insert(epoch);
        if epoch < *newest {
            let text = format!("n{} holds epoch {} of {} after {}", node.0, epoch.0, office.name(), newest.0);
            self.violated(at, text);
        } else {
            *newest = epoch;
        }
    }

    /// A voter is asked to accept a record of this epoch.
    pub fn asked(&mut self, question: (NodeId, NodeId, RegisterId, AskId), epoch: Epoch) {
        self.questions.insert(question, epoch);
    }

    /// A voter says that it has accepted what it was asked.
    pub fn accepted(&mut self, question: (NodeId, NodeId, RegisterId, AskId), life: Life) {
        if let Some(epoch) = self.questions.get(&question).copied() {
            let (_, voter, register, _) = question;
            self.answered((voter, life, register), epoch);
        }
    }

    /// A voter has shown that it holds this epoch, or a newer one.
    pub fn answered(&mut self, voter: (NodeId, Life, RegisterId), epoch: Epoch) {
        let newest = self.answered.entry(voter).or_insert(epoch);
        *newest = epoch.max(*newest);
    }

    /// A voter starts with what its disk holds: everything that was answered from (V10, F25).
    pub fn starts(&mut self, at: u64, node: NodeId, life: Life, stored: &[Stored]) {
        let registers = self.answered.iter().filter(|((voter, of, _), _)| (*voter, *of) == (node, life));
        let lost = registers.into_iter().find_map(|((.., register), answered)| {
            let held = stored.iter().find(|one| one.register == *register);
            let held = held.and_then(|one| one.accepted.as_ref()).map(|(_, record)| record.epoch);
            let held = held.unwrap_or_default();
            (held < *answered)
                .then(|| format!("n{} answered from epoch {} and starts with {}", node.0, answered.0, held.0))
        });
        if let Some(text) = lost {
            self.violated(at, text);
        }
    }

    /// A role changed, at a node and its pair's register.
    pub fn role(&mut self, at: (NodeId, RegisterId), office: Office, role: Role, reason: Reason) {
        let (node, register) = at;
        if office != Office::Infra {
            return;
        }
        self.role_changes += 1;
        let reached = match (role, reason) {
            (Role::Contending, Reason::MasterSilent { .. }) => "master silent",
            (Role::Contending, Reason::MasterResigned { .. }) => "master resigned",
            (Role::Contending, Reason::LeaseExpired) => "lease expired",
            (Role::Contending, Reason::Outranked) => "outranked",
            (Role::Contending, Reason::NoMasterHeard) => "cold start",
            (Role::Slave, Reason::MasterHeard { .. }) => "slave",
            (
                Role::Stopped | Role::Starting | Role::Slave | Role::Contending | Role::Master,
                Reason::Started
                | Reason::Stopped
                | Reason::MasterHeard { .. }
                | Reason::NoMasterHeard
                | Reason::MasterSilent { .. }
                | Reason::MasterResigned { .. }
                | Reason::RegisterWon { .. }
                | Reason::LeaseExpired
                | Reason::Released
                | Reason::Moved { .. }
                | Reason::Outranked,
            ) => "other",
        };
        self.reached.insert(reached);
        let before = self.newest.get(&register).and_then(|epoch| self.holders.get(&(register, *epoch)));
        if role == Role::Master && before.is_some_and(|before| *before != node) {
            self.reached.insert("failover");
        }
    }
}
