//! Carries out what a node asks for. Nothing here waits.

use super::clock;
use super::events::{Journal, Log, News};
use super::fencer::{Fencer, Order};
use super::marks::Marks;
use super::transport::Network;
use super::words;
use super::writer::Writer;
use crate::site_config::SiteConfig;
use bulkhead_core::id::{NodeId, Path};
use bulkhead_core::node::words::Action;
use bulkhead_core::register::message::Fenced;
use bulkhead_core::time::Instant;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;

/// Fencing orders remembered.
const HISTORY_MAX: usize = 64;

/// Everything a node acts through.
#[derive(Debug)]
pub struct Hands {
    /// What outlives the agent.
    pub marks: Marks,
    /// The configuration.
    pub config: Arc<SiteConfig>,
    /// The two networks.
    pub networks: [Network; 2],
    /// The votes' writer; `None` on a node without a vote.
    pub writer: Option<Writer>,
    /// The event log.
    pub log: Log,
    /// Writes it to standard error.
    pub journal: Journal,
    /// Fences nodes.
    pub fencer: Fencer,
    /// What was fenced, newest last.
    pub history: VecDeque<FenceRecord>,
    /// The last error, in plain words.
    pub last_error: Option<String>,
}

/// One fencing order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FenceRecord {
    /// Who.
    pub node: u16,
    /// Which start of it.
    pub start: u64,
    /// How.
    pub how: String,
    /// `under way`, `confirmed`, or why not.
    pub ended: String,
    /// When its device was asked.
    #[serde(skip)]
    asked: Instant,
}

impl Hands {
    /// Carries out one action.
    pub fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send { to, path, datagram } => self.send(to, path, &datagram),
            Action::Persist { id, place, bytes } => {
                if let Some(writer) = &self.writer {
                    writer.persist(id.0, place, bytes);
                }
            }
            Action::Fence(fenced) => self.fence(fenced),
            Action::PowerOn { node } => {
                let text = format!("{} does not answer: switching it on", self.config.name_of(node));
                self.log.say(News::new("power-on", text, json!({ "node": node.0 })));
                self.fencer.order(Order::On(node));
            }
            Action::Role { office, role, reason } => {
                self.log.say(words::role(&self.config, office, role, reason));
            }
            Action::Note(note) => {
                let news = words::note(&self.config, &note);
                if news.kind == "voter-failed" {
                    self.last_error = Some(news.text.clone());
                }
                self.log.say(news);
            }
        }
    }

    fn send(&mut self, to: NodeId, path: Option<Path>, datagram: &[u8]) {
        let Some(addresses) = self.config.member(to).map(|member| member.addresses) else { return };
        for (network, address) in self.networks.iter_mut().zip(addresses) {
            if path.is_none_or(|path| path == network.path()) {
                network.send(address, datagram);
            }
        }
    }

    fn fence(&mut self, fenced: Fenced) {
        let how = self.fencer.how(fenced.node);
        self.log.say(words::fencing(&self.config, fenced, &how));
        if HISTORY_MAX <= self.history.len() {
            self.history.pop_front();
        }
        let (node, start) = (fenced.node.0, fenced.start.0);
        self.history.push_back(FenceRecord {
            node,
            start,
            how,
            ended: "under way".into(),
            asked: clock::now(),
        });
        self.fencer.order(Order::Off(fenced));
    }

    /// When the device was first asked to fence this start of a node; `None` when that is long ago.
    pub fn asked(&self, fenced: Fenced) -> Option<Instant> {
        let same = |record: &&FenceRecord| (record.node, record.start) == (fenced.node.0, fenced.start.0);
        self.history.iter().find(same).map(|record| record.asked)
    }

    /// Notes how an order ended; answers with what the node is to be told.
    pub fn order_ended(&mut self, order: Order, ended: &Result<(), String>) -> Option<(Fenced, bool)> {
        let fenced = match order {
            Order::On(node) => {
                if let Err(why) = ended {
                    let text = format!("{} was not switched on: {why}", self.config.name_of(node));
                    self.last_error = Some(text.clone());
                    self.log.say(News::new("power-on-failed", text, json!({ "node": node.0 })));
                }
                return None;
            }
            Order::Off(fenced) => fenced,
        };
        let news = words::fenced(&self.config, fenced, ended);
        if ended.is_err() {
            self.last_error = Some(news.text.clone());
        }
        self.log.say(news);
        let same = |record: &&mut FenceRecord| (record.node, record.start) == (fenced.node.0, fenced.start.0);
        if let Some(record) = self.history.iter_mut().rev().find(same) {
            record.ended = ended.as_ref().map_or_else(Clone::clone, |()| "confirmed".into());
        }
        Some((fenced, ended.is_ok()))
    }
}
