//! The relays of the witness: what they do to machines, and when that would be wrong (V20, V21, F28, F29).

use bulkhead_core::fence::desk::{Act, Done};
use bulkhead_core::id::NodeId;
use bulkhead_core::node::message::Office;

use crate::world::{Machine, World};

impl World {
    /// Carries out one step of an order, well.
    pub(crate) fn switch(&mut self, node: NodeId, act: Act) -> Done {
        match act {
            Act::Off => {
                self.power_off(node);
                self.guests_lose_power(node);
                Done::Switched
            }
            Act::On => {
                self.power_on(node);
                Done::Switched
            }
            Act::Read if self.machines[&node].node.is_some() => Done::IsOn,
            Act::Read => Done::IsOff,
        }
    }

    /// The witness may not cut a master that it hears: whoever asks for that is cut off itself (V21). Half a
    /// silence of true time is far below what it may count as one.
    pub(crate) fn must_be_rightful(&mut self, node: NodeId, act: Act) {
        let holds = |machine: &Machine| {
            let post = machine.node.as_ref().and_then(|running| running.post(Office::Infra));
            post.is_some_and(|post| post.seat().holds(machine.clock.at(self.now)).is_some())
        };
        let silence = u64::try_from(self.timers.silence.as_micros()).unwrap_or(u64::MAX);
        let heard = self.heard.get(&node).is_some_and(|at| self.now - at < silence / 2);
        if act == Act::Off && heard && holds(&self.machines[&node]) {
            let text = format!("the witness cuts n{}, which is master and which it hears", node.0);
            self.oracle.violated(self.now, text);
        }
    }
}
