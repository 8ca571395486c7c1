//! A volume as the other nodes of its pair see it: served by this node alone, never passed on, and for one
//! reign a connection: a request that was asked in a reign and read in the next is not carried out.

use super::Here;
use crate::nbd::export::{Errno, Export, Geometry, Reply, Request};
use bulkhead_core::id::Epoch;
use std::sync::Arc;

/// What is exported between nodes.
pub struct Served(Arc<dyn Here>);

/// The same for one connection.
struct Bound {
    here: Arc<dyn Here>,
    /// In which it began.
    reign: Option<Epoch>,
}

impl Served {
    /// Serves `here`.
    #[must_use]
    pub const fn new(here: Arc<dyn Here>) -> Self {
        Self(here)
    }
}

impl Export for Served {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    /// Only sessions are served.
    fn submit(&self, _request: Request, reply: Reply) {
        reply.fail(Errno::Shutdown, "this export is taken by sessions");
    }

    fn session(&self) -> Option<Arc<dyn Export>> {
        let here = Arc::clone(&self.0);
        let reign = here.reign();
        Some(Arc::new(Bound { here, reign }))
    }
}

impl Export for Bound {
    fn geometry(&self) -> Geometry {
        self.here.geometry()
    }

    fn submit(&self, request: Request, reply: Reply) {
        let now = self.here.reign();
        if !reply.is_awaited() {
            // The node that asked is dead, or asks again elsewhere.
            reply.fail(Errno::Shutdown, "its connection is closed");
        } else if now.is_some() && now == self.reign {
            self.here.submit(request, reply);
        } else {
            reply.fail(Errno::Shutdown, "it does not lead, or not since the connection began");
        }
    }
}
