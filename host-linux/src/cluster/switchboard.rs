//! The relays of a witness: power devices switched and read by fence-agents, each order's step in a thread
//! of its own, because a device takes seconds and the loop has none (V20, F28).

use super::fence_agent::{Power, order, read};
use super::pressure::Lack;
use super::wake::Wake;
use crate::site_config::{Fencing, Method, SiteConfig};
use bulkhead_core::fence::desk::{Act, Done, OrderId};
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// The option by which fence-agents are told which outlet.
const PLUG: &str = "plug";

/// How a step ended, and why when it failed.
pub type Ended = (OrderId, Done, Option<String>);

/// The loop's end.
#[derive(Debug)]
pub struct Switchboard {
    config: Arc<SiteConfig>,
    step_max: Duration,
    sender: Sender<Ended>,
    receiver: Receiver<Ended>,
    wake: Wake,
}

impl Switchboard {
    /// The relays that `config` gives to this witness. A step that takes longer than `step_max` is killed:
    /// the desk counts it as failed then, and what comes late could undo a newer order.
    pub fn new(config: Arc<SiteConfig>, step_max: Duration, wake: Wake) -> Self {
        let (sender, receiver) = channel();
        Self { config, step_max, sender, receiver, wake }
    }

    /// Has orders from now on carried out as `config` says.
    pub fn set_config(&mut self, config: Arc<SiteConfig>) {
        self.config = config;
    }

    /// A relay that this witness is to switch, and cannot.
    pub fn lack(&self) -> Option<Lack> {
        let me = self.config.local.node;
        let mine = |fencing: &&Fencing| {
            let Method::Relay { witness, agent, .. } = &fencing.method else { return false };
            *witness == me && agent.is_none()
        };
        let node = self.config.fencing.iter().find(mine)?.node;
        let name = self.config.name_of(node);
        let why =
            format!("this witness cannot cut {name}: name its `relay`, and the `agent` that switches it");
        Some(Lack { what: "relay", why })
    }

    /// Begins a step of an order. The desk of the core has one for a node under way, and few in all.
    pub fn begin(&self, id: OrderId, node: NodeId, act: Act) {
        let (sender, wake) = (self.sender.clone(), self.wake.clone());
        let end = move |result: Result<Done, String>| {
            let ended = match result {
                Ok(done) => (id, done, None),
                Err(why) => (id, Done::Failed, Some(why)),
            };
            // The loop may have ended.
            let _ = sender.send(ended);
            wake.wake();
        };
        let me = self.config.local.node;
        let mine = |fencing: &&Fencing| {
            fencing.node == node && matches!(fencing.method, Method::Relay { witness, .. } if witness == me)
        };
        let Some(fencing) = self.config.fencing.iter().find(mine).cloned() else {
            return end(Err("this witness holds no relay of that node".into()));
        };
        let (again, time) = (end.clone(), fencing.timeout.min(self.step_max));
        let thread = std::thread::Builder::new().name("relay".into()).stack_size(256 << 10);
        if thread.spawn(move || end(perform(&fencing, act, time))).is_err() {
            again(Err("no thread could be started".into()));
        }
    }

    /// The next step that ended.
    pub fn ended(&self) -> Option<Ended> {
        self.receiver.try_recv().ok()
    }
}

/// One step with the device that the configuration names.
fn perform(fencing: &Fencing, act: Act, time: Duration) -> Result<Done, String> {
    let Method::Relay { outlet: Outlet::Relay(relay), agent: Some(agent), options, .. } = &fencing.method
    else {
        return Err("the configuration names no `agent` that switches this relay".into());
    };
    let mut options: BTreeMap<String, String> = options.clone();
    if !options.contains_key("port") {
        options.entry(PLUG.into()).or_insert_with(|| relay.to_string());
    }
    match act {
        Act::Off => order(agent, &options, Power::Off, time).map(|()| Done::Switched),
        Act::On => order(agent, &options, Power::On, time).map(|()| Done::Switched),
        Act::Read => read(agent, &options, time).map(|power| match power {
            Power::On => Done::IsOn,
            Power::Off => Done::IsOff,
        }),
    }
}
