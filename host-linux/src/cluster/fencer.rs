//! Has nodes fenced and switched on, each in a thread of its own: a fencing device takes seconds, the loop
//! has none (V19, V20, V21, F28).

use super::fence_agent::{Power, read, switch};
use super::wake::Wake;
use crate::site_config::{Fencing, Method, SiteConfig};
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::NodeId;
use bulkhead_core::register::message::Fenced;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a device is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make certain that this start of a node cannot act.
    Off(Fenced),
    /// Switch a node on.
    On(NodeId),
    /// Read its power.
    Look(NodeId),
}

impl Order {
    /// Whose power.
    pub const fn node(self) -> NodeId {
        match self {
            Self::Off(fenced) => fenced.node,
            Self::On(node) | Self::Look(node) => node,
        }
    }
}

/// How an order ended: `Ok` only when the device read back what was asked for; to look, whatever it is.
pub type Ended = (Order, Result<Power, String>);

/// Carries out an order with a device; the error is a clause.
pub type Perform = fn(&SiteConfig, &Fencing, Order) -> Result<Power, String>;

/// The loop's end.
#[derive(Debug)]
pub struct Fencer {
    config: Arc<SiteConfig>,
    perform: Perform,
    under_way: BTreeSet<NodeId>,
    sender: Sender<Ended>,
    receiver: Receiver<Ended>,
    wake: Wake,
}

impl Fencer {
    /// A fencer that uses `perform`.
    pub fn new(config: Arc<SiteConfig>, wake: Wake, perform: Perform) -> Self {
        let (sender, receiver) = channel();
        Self { config, perform, under_way: BTreeSet::new(), sender, receiver, wake }
    }

    /// Has orders from now on carried out as `config` says.
    pub fn set_config(&mut self, config: Arc<SiteConfig>) {
        self.config = config;
    }

    /// How a node is fenced, in words.
    pub fn how(&self, node: NodeId) -> String {
        match self.device(node).map(|fencing| &fencing.method) {
            Some(Method::FenceAgent { agent, .. }) => format!("by {agent}"),
            Some(Method::Relay { witness, outlet, .. }) => {
                let (what, number) = match outlet {
                    Outlet::Relay(number) => ("relay", number),
                    Outlet::Strip(number) => ("outlet", number),
                };
                format!("by {what} {number} of {}", self.config.name_of(*witness))
            }
            Some(Method::Expiry) | None => "by the expiry of its lease".into(),
        }
    }

    fn device(&self, node: NodeId) -> Option<&Fencing> {
        self.config.fencing.iter().find(|fencing| fencing.node == node)
    }

    /// Begins. At most one order for a node is under way; one more is answered with an error (V21).
    pub fn order(&mut self, order: Order) {
        let node = order.node();
        let (sender, wake) = (self.sender.clone(), self.wake.clone());
        let end = move |ended| {
            // The loop may have ended.
            let _ = sender.send((order, ended));
            wake.wake();
        };
        let Some(fencing) = self.device(node).filter(|fencing| fencing.method != Method::Expiry).cloned()
        else {
            return end(Err("it has no fencing device".into()));
        };
        if !self.under_way.insert(node) {
            return end(Err("an order for it is under way".into()));
        }
        let (config, perform, again) = (Arc::clone(&self.config), self.perform, end.clone());
        let thread = std::thread::Builder::new().name("fencing".into()).stack_size(256 << 10);
        if thread.spawn(move || end(perform(&config, &fencing, order))).is_err() {
            self.under_way.remove(&node);
            again(Err("no thread could be started".into()));
        }
    }

    /// The next order that ended.
    pub fn ended(&mut self) -> Option<Ended> {
        let ended = self.receiver.try_recv().ok()?;
        let node = ended.0.node();
        // An order that was refused because of another one leaves that one under way.
        if ended.1 != Err("an order for it is under way".into()) {
            self.under_way.remove(&node);
        }
        Some(ended)
    }
}

/// Carries out an order with the device that the configuration names.
///
/// # Errors
///
/// Why the node is not known to be off, or on.
pub fn perform(_config: &SiteConfig, fencing: &Fencing, order: Order) -> Result<Power, String> {
    match &fencing.method {
        Method::FenceAgent { agent, options } => {
            let want = match order {
                Order::Off(_) => Power::Off,
                Order::On(_) => Power::On,
                Order::Look(_) => return read(agent, options, fencing.timeout),
            };
            switch(agent, options, want, fencing.timeout).map(|()| want)
        }
        Method::Relay { .. } => Err("its relay is the witness's to switch".into()),
        Method::Expiry => Err("it has no fencing device".into()),
    }
}
