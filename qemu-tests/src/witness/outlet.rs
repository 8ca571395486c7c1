//! The power of a QEMU node on an outlet of the strip: switched off, its QEMU ends (V20, F28).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::strip::Load;
use crate::machine::Qmp;

/// QEMU ends within milliseconds.
const END_MAX: Duration = Duration::from_secs(5);
/// From one look to the next.
const POLL: Duration = Duration::from_millis(5);

/// An outlet. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Outlet(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    node: Option<Qmp>,
    /// Somebody switched the outlet on since it was off: the node would start by itself.
    is_on_again: bool,
}

impl Outlet {
    /// The node that was switched on just now hangs on it.
    pub fn feed(&self, node: &Qmp) {
        *self.lock() = State { node: Some(node.clone()), is_on_again: false };
    }

    /// Whether it was switched on after it was off, so that a node would start.
    pub fn is_on_again(&self) -> bool {
        self.lock().is_on_again
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load for Outlet {
    fn switch(&mut self, on: bool) -> Result<()> {
        let mut state = self.lock();
        state.is_on_again = on && state.node.is_none();
        let Some(node) = state.node.take_if(|_| !on) else { return Ok(()) };
        // The connection may break before the answer is there.
        let _ = node.execute("quit", json!({}));
        let begin = Instant::now();
        while node.status().is_ok() {
            ensure!(begin.elapsed() < END_MAX, "QEMU does not end");
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn has_power(&mut self) -> Result<bool> {
        let state = self.lock();
        // A node that will start in a moment has power already.
        Ok(state.is_on_again || state.node.as_ref().is_some_and(|node| node.status().is_ok()))
    }
}
