//! Voters that are lost for good, on the operator's word: what is checked before this node decides without
//! them (X14). The seats read all others once more before they do (`bulkhead_core::register::seat`).

use super::clock;
use super::events::News;
use super::request::Answer;
use super::run::Agent;
use bulkhead_core::id::NodeId;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::post::Post;
use bulkhead_core::node::words::Event;
use bulkhead_core::register::seat::Lost;
use serde_json::json;

/// The states of [`Agent::forcing`].
const READING: &str = "reading";
const ALONE: &str = "alone";
const IDLE: &str = "idle";

impl Agent {
    /// Has this node decide without these voters, wherever the others cannot.
    pub(super) fn force_quorum(&mut self, lost: &[u16]) -> Answer {
        let nodes: Vec<NodeId> = lost.iter().copied().map(NodeId).collect();
        if let Some(refused) = self.cannot_be_lost(&nodes).or_else(|| self.may_decide(&nodes)) {
            return refused;
        }
        let Ok(voters) = Lost::from_slice(&nodes) else {
            return Answer::refused(
                "usage",
                "no register has so many voters",
                "`bulkhead status` lists them",
            );
        };
        let names: Vec<String> = nodes.iter().map(|node| self.hands.config.name_of(*node)).collect();
        let text = format!(
            "the operator says that {} will never vote again: the others are read, and if they cannot \
             decide, this node does",
            names.join(" and ")
        );
        self.hands.log.say(News::new("quorum-forced", text, json!({ "lost": lost })));
        self.step(Event::Force(voters));
        self.forcing()
    }

    /// How far it is.
    pub(super) fn forcing(&self) -> Answer {
        let now = clock::now();
        let offices: Vec<_> = Office::ALL
            .into_iter()
            .filter_map(|office| Some((office, self.node.post(office)?)))
            .map(|(office, post)| {
                let seat = post.seat();
                let state = match (seat.decides_alone(), seat.is_forcing()) {
                    (true, _) => ALONE,
                    (false, true) => READING,
                    (false, false) => IDLE,
                };
                json!({ "office": office.name(), "state": state, "holds": seat.holds(now).is_some() })
            })
            .collect();
        Answer::done("forcing", json!(offices))
    }

    fn cannot_be_lost(&self, nodes: &[NodeId]) -> Option<Answer> {
        let config = &self.hands.config;
        let lists = "`bulkhead fence status` lists the nodes";
        for node in nodes {
            let name = config.name_of(*node);
            if config.member(*node).is_none() {
                return Some(Answer::refused("usage", format!("the site has no node {}", node.0), lists));
            }
            if *node == config.local.node {
                return Some(Answer::refused("usage", format!("{name} is this node"), lists));
            }
            if self.node.links().verdict(*node).is_alive() {
                let what = format!("{name} is heard: it is not lost");
                return Some(Answer::refused("refused", what, "switch it off first, by hand, and for good"));
            }
        }
        None
    }

    /// Why this node must not decide without these.
    fn may_decide(&self, lost: &[NodeId]) -> Option<Answer> {
        let (config, me) = (&self.hands.config, self.hands.config.local.node);
        let votes = |office: &Office| self.node.post(*office).filter(|post| post.founders().has(me));
        let posts: Vec<&Post> = Office::ALL.iter().filter_map(votes).collect();
        if posts.is_empty() {
            let what = "this node has no vote, or takes no office";
            return Some(Answer::refused("refused", what, "ask the agent of a node that votes for its pair"));
        }
        let silent =
            posts.iter().flat_map(|post| post.founders().iter()).map(|voter| voter.node).find(|node| {
                *node != me && !lost.contains(node) && !self.node.links().verdict(*node).is_alive()
            });
        if let Some(node) = silent {
            let name = config.name_of(node);
            let what = format!("{name} is not heard, and may know of voters that decide");
            let next = format!("start {name}; if it is lost for good, too, name it with --lost");
            return Some(Answer::refused("refused", what, next));
        }
        let now = clock::now();
        if posts.iter().all(|post| post.seat().holds(now).is_some() || post.seat().decides_without(lost)) {
            let what = "the voters that are left decide: nobody has to do it for them";
            return Some(Answer::refused("refused", what, "`bulkhead status` says what is awaited"));
        }
        None
    }
}
