//! Carries out what a node asks for. Nothing here waits.

use super::clock;
use super::events::{Journal, Log, News};
use super::fence_agent::Power;
use super::fence_history::{CONFIRMED, FenceRecord, History, Key, UNDER_WAY};
use super::fencer::{Fencer, Order};
use super::marks::Marks;
use super::storage::{self, Group};
use super::switchboard::Switchboard;
use super::transport::Network;
use super::witnesses::Witnesses;
use super::words;
use super::writer::Writer;
use crate::site_config::SiteConfig;
use bulkhead_core::fence::words::{Entry, Outcome, Plea, Want};
use bulkhead_core::id::{NodeId, Path};
use bulkhead_core::node::health;
use bulkhead_core::node::words::{Action, Note};
use bulkhead_core::register::message::Fenced;
use bulkhead_core::time::Instant;
use serde_json::json;
use std::sync::Arc;

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
    /// Switches the relays of a witness.
    pub switchboard: Switchboard,
    /// What was fenced, newest last.
    pub history: History,
    /// Cuts that a witness confirmed, with the time they were asked for; the agent takes them.
    pub cuts: Vec<(Plea, Instant)>,
    /// How the witnesses are.
    pub witnesses: Witnesses,
    /// This node's copy of its pair's mirror group; `None` on a node without a log.
    pub group: Option<Box<dyn Group>>,
    /// The last error, in plain words.
    pub last_error: Option<String>,
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
                self.switch_on(node);
            }
            Action::Role { office, role, reason } => {
                self.log.say(words::role(&self.config, office, role, reason));
            }
            Action::Power { order, node, act } => self.switchboard.begin(order, node, act),
            Action::Record(entry) => self.record(&entry),
            Action::Storage(action) => {
                if let Some(group) = &self.group {
                    group.told(storage::news(action));
                }
            }
            Action::Note(Note::Health { node, health }) => {
                let news = self.witnesses.take(clock::now(), node, health, &self.config);
                news.into_iter().for_each(|news| self.log.say(news));
            }
            Action::Note(note) => {
                if let Note::Plea { plea, ended, .. } = &note {
                    self.plea(plea, *ended);
                }
                let Some(news) = words::note(&self.config, &note) else { return };
                if news.kind == "voter-failed" {
                    self.last_error = Some(news.text.clone());
                }
                self.log.say(news);
            }
        }
    }

    /// Counts this start of a witness.
    pub fn begin(&mut self, boot: &str) -> Option<health::History> {
        let counted = self.marks.begin(boot);
        counted.map_err(|error| self.last_error = Some(format!("this start is not counted: {error}"))).ok()
    }

    /// Notes that this start of a witness ended as it should; if it cannot, the next one counts it as failed.
    pub fn end(&self) {
        let _ = self.marks.end();
    }

    fn send(&mut self, to: NodeId, path: Option<Path>, datagram: &[u8]) {
        let Some(addresses) = self.config.member(to).map(|member| member.addresses) else { return };
        for (network, address) in self.networks.iter_mut().zip(addresses) {
            if path.is_none_or(|path| path == network.path()) {
                network.send(address, datagram);
            }
        }
    }

    /// Has a start of a node fenced by a device of this node's own.
    pub fn fence(&mut self, fenced: Fenced) {
        let how = self.fencer.how(fenced.node);
        self.log.say(words::fencing(&self.config, fenced, &how));
        let record = self.begun(fenced.node, Want::Off, how, Key::Off(fenced));
        self.history.add(FenceRecord { start: Some(fenced.start.0), ..record });
        self.fencer.order(Order::Off(fenced));
    }

    /// Has a node switched on by a device of this node's own.
    pub fn switch_on(&mut self, node: NodeId) {
        let record = self.begun(node, Want::On, self.fencer.how(node), Key::On(node));
        self.history.add(record);
        self.fencer.order(Order::On(node));
    }

    /// A record of an order that begins.
    pub fn begun(&self, node: NodeId, want: Want, how: String, key: Key) -> FenceRecord {
        let (by, want) = (self.config.local.node.0, words::want(want).into());
        let (seq, at_ms, start, reason, ended) = (0, 0, None, None, UNDER_WAY.into());
        let (node, key, asked) = (node.0, Some(key), Some(clock::now()));
        FenceRecord { seq, at_ms, node, start, want, by, how, reason, ended, key, asked }
    }

    /// This node asks a witness, or is answered.
    fn plea(&mut self, plea: &Plea, ended: Option<Option<Outcome>>) {
        let key = Key::Plea(plea.id);
        match ended {
            None => {
                let how = self.fencer.how(plea.node);
                let record = self.begun(plea.node, plea.want, how, key);
                self.history.add(FenceRecord { start: plea.start.map(|start| start.0), ..record });
            }
            Some(outcome) => {
                self.history.set_ended(key, ended_word(plea.want, outcome));
                let is_cut = (plea.want, outcome) == (Want::Off, Some(Outcome::Off));
                self.cuts.extend(self.history.asked(key).filter(|_| is_cut).map(|asked| (*plea, asked)));
            }
        }
    }

    /// This witness puts on record what it was asked and did.
    fn record(&mut self, entry: &Entry) {
        let (plea, key) = (&entry.plea, Key::Desk(entry.number));
        let ended = match entry.outcome {
            Outcome::UnderWay => UNDER_WAY,
            Outcome::Off | Outcome::On | Outcome::Failed | Outcome::Refused(_) => {
                ended_word(plea.want, Some(entry.outcome))
            }
        };
        if !self.history.set_ended(key, ended) {
            let how = format!("{}: {}", self.fencer.how(plea.node), words::ground(entry.ground));
            let record = self.begun(plea.node, plea.want, how, key);
            let start = plea.start.map(|start| start.0);
            self.history.add(FenceRecord { by: entry.asker.0, start, ended: ended.into(), ..record });
        }
        let (name, asker) = (self.config.name_of(plea.node), self.config.name_of(entry.asker));
        let want = words::want(plea.want);
        let text = format!("{asker} asks for {name} to be {want}: {ended}");
        let fields = json!({ "node": plea.node.0, "by": entry.asker.0, "want": want, "ended": ended });
        self.log.say(News::new("relay", text, fields));
    }

    /// Notes how an order ended; answers with what the node is to be told.
    pub fn order_ended(&mut self, order: Order, ended: &Result<Power, String>) -> Option<(Fenced, bool)> {
        let fenced = match order {
            Order::Look(node) => {
                let word = ended.as_ref().map_or_else(String::as_str, |power| power.word());
                self.history.set_ended(Key::Look(node), word);
                return None;
            }
            Order::On(node) => {
                let word = ended.as_ref().map_or_else(String::as_str, |_| CONFIRMED);
                self.history.set_ended(Key::On(node), word);
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
        let word = ended.as_ref().map_or_else(String::as_str, |_| CONFIRMED);
        self.history.set_ended(Key::Off(fenced), word);
        Some((fenced, ended.is_ok()))
    }
}

/// The word for how a plea ended.
fn ended_word(want: Want, outcome: Option<Outcome>) -> &'static str {
    match (want, outcome) {
        (Want::Off, Some(Outcome::Off)) | (Want::On, Some(Outcome::On)) => CONFIRMED,
        (Want::Look, Some(Outcome::Off)) => Power::Off.word(),
        (Want::Look, Some(Outcome::On)) => Power::On.word(),
        (Want::Off | Want::On | Want::Look, outcome) => words::outcome(outcome),
    }
}
