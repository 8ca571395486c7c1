//! Fencing on demand: what operators and `fence_bulkhead` ask the agent for, and the rule before it is even
//! tried (V19, V20, V21; `bulkhead_core::fence::right` is the witness's own).

use super::clock;
use super::events::News;
use super::fence_history::{CONFIRMED, FenceRecord, Key};
use super::fencer::Order;
use super::request::{Answer, PowerWord};
use super::run::Agent;
use super::words;
use crate::site_config::Method;
use bulkhead_core::fence::words::Want;
use bulkhead_core::id::NodeId;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::words::{Command, Event};
use bulkhead_core::register::message::{Fenced, Start};
use bulkhead_core::resource::tenure;
use serde_json::{Value, json};

impl Agent {
    /// Which nodes can be fenced, how, and whether this node may have it done now.
    pub(super) fn fence_status(&self) -> Answer {
        let (now, config) = (clock::now(), &self.hands.config);
        let of = |member: &crate::site_config::Member| {
            let last = self.hands.history.newest_of(member.id);
            json!({
                "node": member.id.0,
                "name": member.name,
                "isWitness": member.duty.is_witness(),
                "how": self.hands.fencer.how(member.id),
                "hasDevice": self.has_device(member.id),
                "mayFence": self.node.may_fence(now, member.id).is_some(),
                "alive": member.id == config.local.node || self.node.links().verdict(member.id).is_alive(),
                "last": last.map(|record| json!(record)),
            })
        };
        let nodes: Vec<Value> = config.members.iter().map(of).collect();
        let kept_in = self.hands.history.kept_in().map(|path| path.display().to_string());
        Answer::done("fencing", json!({ "me": config.local.node.0, "keptIn": kept_in, "nodes": nodes }))
    }

    fn has_device(&self, node: NodeId) -> bool {
        let mut all = self.hands.config.fencing.iter();
        all.any(|fencing| fencing.node == node && fencing.method != Method::Expiry)
    }

    fn is_relay(&self, node: NodeId) -> bool {
        self.node.settings().relay_of(node).is_some()
    }

    /// Has a node's power cut, switched on, or read: at once, or not at all. How it ends is in the history.
    pub(super) fn fence_power(&mut self, node: NodeId, want: PowerWord, reason: Option<String>) -> Answer {
        let name = self.hands.config.name_of(node);
        if let Some(refused) = self.cannot_reach(node, &name) {
            return refused;
        }
        let want = match want {
            PowerWord::Off => Want::Off,
            PowerWord::On => Want::On,
            PowerWord::Look => Want::Look,
        };
        if let Some(seq) = self.hands.history.under_way(node, words::want(want)) {
            return begun(node, &name, seq);
        }
        if want != Want::Look && self.node.may_fence(clock::now(), node).is_none() {
            return self.without_right(&name);
        }
        let seq = self.hands.history.next();
        if self.is_relay(node) {
            self.step(Event::Command(Command::Power { node, want }));
        } else {
            match want {
                // Without a session no start is known: what is cut is whatever runs.
                Want::Off => {
                    let start = self.node.start_to_fence(node).unwrap_or(Start(0));
                    self.hands.fence(Fenced { node, start });
                }
                Want::On => self.hands.switch_on(node),
                Want::Look => self.hands.look(node),
            }
        }
        if self.hands.history.next() == seq {
            // The right ended between the question and the order: an older record must not answer for it.
            return self.without_right(&name);
        }
        if reason.is_some() {
            self.hands.history.give_reason(seq, reason);
        }
        begun(node, &name, seq)
    }

    fn cannot_reach(&self, node: NodeId, name: &str) -> Option<Answer> {
        let config = &self.hands.config;
        if config.member(node).is_none_or(|member| member.duty.is_witness()) {
            let what = format!("{name} is no node of a compartment");
            return Some(Answer::refused("usage", what, "`bulkhead fence status` lists them"));
        }
        if node == config.local.node {
            let what = format!("{name} is this node: nobody fences itself");
            return Some(Answer::refused("refused", what, "ask the agent of a node across"));
        }
        if self.node.post(Office::Infra).is_none() {
            let what = "a witness fences for others, not for itself";
            return Some(Answer::refused("refused", what, "ask the agent of a node"));
        }
        if !self.has_device(node) {
            let what = format!("{name} has no fencing device: only its lease runs out");
            let next = "add a [[fencing]] for it; if it is certainly off, use `bulkhead fence confirm`";
            return Some(Answer::refused("refused", what, next));
        }
        None
    }

    fn without_right(&self, name: &str) -> Answer {
        let master = self.node.post(Office::Infra).and_then(|post| post.pair().master());
        let what = format!("this node is neither master nor controller: it may not have {name} switched");
        let next = match master.filter(|master| *master != self.hands.config.local.node) {
            Some(master) => format!("ask on {}, which is master", self.hands.config.name_of(master)),
            None => format!("if {name} is certainly off, say so: `bulkhead fence confirm {name} --yes`"),
        };
        Answer::refused("refused", what, next)
    }

    /// The operator says that a node is off: what a device would have confirmed, on a person's word.
    pub(super) fn fence_confirm(&mut self, node: NodeId, reason: Option<String>) -> Answer {
        let config = &self.hands.config;
        let name = config.name_of(node);
        if config.member(node).is_none_or(|member| member.duty.is_witness()) || node == config.local.node {
            let what = format!("{name} is no other node of a compartment");
            return Answer::refused("usage", what, "`bulkhead fence status` lists them");
        }
        if self.node.links().verdict(node).is_alive() {
            let what = format!("{name} is heard: it is not off");
            return Answer::refused("refused", what, "switch it off first, by hand");
        }
        if self.node.post(Office::Infra).is_none() {
            let what = "a witness waits for nobody";
            return Answer::refused("refused", what, "say it to the agent of a node");
        }
        let start = self.node.start_to_fence(node);
        let mut record = self.hands.begun(node, Want::Off, "by the operator's word".into(), Key::On(node));
        record.key = None;
        record.ended = CONFIRMED.into();
        let known = start.map(|start| start.0);
        let seq = self.hands.history.add(FenceRecord { start: known, reason, ..record });
        let text = format!("the operator says that {name} is off");
        let fields = json!({ "node": node.0, "start": known, "confirmed": true, "by": "operator" });
        self.hands.log.say(News::new("fenced", text, fields));
        let now = clock::now();
        self.tenure.step(now, tenure::Event::Fenced { node, asked: now });
        if let Some(start) = start {
            let fenced = Fenced { node, start };
            self.step(Event::FenceAnswered { fenced, confirmed: true });
        }
        Answer::done("confirmed", json!({ "node": node.0, "name": name, "seq": seq, "start": known }))
    }
}

impl super::hands::Hands {
    /// Has the power of a node read by a device of this node's own.
    fn look(&mut self, node: NodeId) {
        let record = self.begun(node, Want::Look, self.fencer.how(node), Key::Look(node));
        self.history.add(record);
        self.fencer.order(Order::Look(node));
    }
}

fn begun(node: NodeId, name: &str, seq: u64) -> Answer {
    Answer::done("fence", json!({ "node": node.0, "name": name, "seq": seq }))
}
