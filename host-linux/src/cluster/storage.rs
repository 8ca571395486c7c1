//! Between the node and the mirror group of its pair: the one asks for the register, the other knows what is
//! to stand in it (S4-11, I4).

use super::events::News;
use super::run::Agent;
use super::volumes::Volumes;
use crate::mirror::words::{RegisterNews, RegisterWish};
use bulkhead_core::node::message::Office;
use bulkhead_core::node::storage::{Action, Event};
use bulkhead_core::node::words::{self, Command};
use serde_json::json;

/// A holder of a mirror group at work, as the loop sees it. Nothing here waits.
pub trait Group: std::fmt::Debug + Send {
    /// Tells it of its register. What it loses it has lost when this returns: the register may be another's
    /// with the next datagram.
    fn told(&self, news: RegisterNews);
    /// What it wants by now, in order. It wakes the loop when there is something.
    fn wishes(&self) -> Vec<RegisterWish>;
}

/// What the node says, as the group is told.
pub fn news(action: Action) -> RegisterNews {
    match action {
        Action::Decide(current) => RegisterNews::Decide(current),
        Action::Held { epoch, payload, until } => RegisterNews::Held { epoch, payload, until },
        Action::Leased { until } => RegisterNews::Leased { until },
        Action::Lost => RegisterNews::Lost,
    }
}

/// What the group wants, as the node is told.
fn event(wish: RegisterWish) -> words::Event<'static> {
    match wish {
        RegisterWish::Decided(verdict) => words::Event::Storage(Event::Decided(verdict)),
        RegisterWish::Rewrite(payload) => words::Event::Storage(Event::Rewrite(payload)),
        RegisterWish::Release => words::Event::Storage(Event::Release),
        RegisterWish::Failed => words::Event::Command(Command::Stop(Office::Storage)),
    }
}

impl Agent {
    /// Tells the node what its group wants since, and people what happened to guests.
    pub(super) fn take_wishes(&mut self) {
        let wishes = self.hands.group.as_ref().map(|group| group.wishes()).unwrap_or_default();
        for wish in wishes {
            if wish == RegisterWish::Failed {
                let text = "the log of the mirror group failed: this node does not lead it until the log is \
                            repaired or replaced and the agent started again";
                self.hands.last_error = Some(text.into());
                self.hands.log.say(News::new("storage-failed", text, json!({})));
            }
            self.step(event(wish));
        }
        while let Some(news) = self.volumes.as_ref().and_then(Volumes::news_of_guests) {
            self.hands.log.say(news);
        }
    }
}
