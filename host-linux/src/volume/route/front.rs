//! The route: takes requests from the server's threads, and hands each to the way it can go, or to the
//! [`worker`](super::worker).

use super::outcome::Outcome;
use super::queue::{Attempt, Queue, Ticket};
use super::way::{Name, Target, Way, Ways};
use super::{Here, Settings, worker};
use crate::failure::Failure;
use crate::nbd::export::{Answer, Errno, Export, Geometry, Reply, Request};
use crate::nbd::turns::draw;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A volume as its clients see it on this node. When it is dropped, what is under way is answered with
/// [`Errno::Shutdown`].
#[derive(Debug)]
pub struct Route(Arc<Shared>);

/// What a route does at the moment, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Requests that are not answered.
    pub requests: usize,
    /// Of these, those that nobody has.
    pub waiting: usize,
    /// The node it is connected to.
    pub connected_to: Option<SocketAddr>,
    /// Why the last attempt that came to nothing did so; nothing while none waits.
    pub waits_because: Option<String>,
}

/// What the route, its worker and its connections share.
pub struct Shared {
    /// What the volume is called between nodes.
    pub name: String,
    /// Names this route's session at every node.
    pub session: u128,
    /// This node.
    pub here: Arc<dyn Here>,
    /// How long things may take.
    pub settings: Settings,
    state: Mutex<State>,
    work: Condvar,
}

/// What changes.
#[derive(Debug)]
pub struct State {
    /// The requests.
    pub queue: Queue,
    /// Where they can go.
    pub ways: Ways,
    /// Why the last attempt came to nothing.
    pub why: String,
    /// When the worker looks next who has left.
    pub sweep_from: Instant,
    /// The worker waits for the next request, however long that takes.
    pub asleep: bool,
    /// The worker must look again.
    pub news: bool,
    /// The worker hands over what waited: what comes now stands behind it.
    pub handing_over: bool,
    /// The route goes away.
    pub over: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Route {
    /// The route to the volume `name`.
    ///
    /// # Errors
    ///
    /// There is no thread for it, or no random number to be had.
    pub fn start(name: &str, here: Arc<dyn Here>, settings: Settings) -> Result<Self, Failure> {
        let failed = |why: String| Failure::failed(format!("volume {name} cannot be served: {why}"));
        let session = draw().map_err(|why| failed(why.what))?;
        let state = State {
            queue: Queue::default(),
            ways: Ways::new(Instant::now()),
            why: String::new(),
            sweep_from: Instant::now(),
            asleep: false,
            news: false,
            handing_over: false,
            over: false,
        };
        let shared = Arc::new(Shared {
            name: super::between_nodes(name),
            session,
            here,
            settings,
            state: Mutex::new(state),
            work: Condvar::new(),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("route".into()).stack_size(256 << 10);
        thread.spawn(move || worker::run(&own)).map_err(|error| failed(error.to_string()))?;
        Ok(Self(shared))
    }

    /// [`Here`] may have changed its mind about who leads: what waits looks again, at once.
    pub fn changed(&self) {
        let mut state = self.0.lock();
        state.ways.hope(Instant::now());
        self.0.tell(&mut state);
    }

    /// What it does at the moment.
    #[must_use]
    pub fn view(&self) -> View {
        let state = self.0.lock();
        let waiting = state.queue.waiting();
        View {
            requests: state.queue.len(),
            waiting,
            connected_to: state.ways.connected_to(),
            waits_because: (waiting != 0).then(|| state.why.clone()),
        }
    }
}

impl Export for Route {
    fn geometry(&self) -> Geometry {
        self.0.here.geometry()
    }

    fn submit(&self, request: Request, reply: Reply) {
        let target = self.0.target();
        let end = end(&request);
        // A node that stood still reads what its clients asked long ago: whoever has left asks elsewhere.
        if target != Target::Here && !reply.is_awaited() {
            return reply.fail(Errno::Shutdown, "its connection is closed");
        }
        let mut state = self.0.lock();
        if state.over {
            drop(state);
            return reply.fail(Errno::Shutdown, "this volume goes away");
        }
        let now = Instant::now();
        let until = now.checked_add(self.0.settings.patience).unwrap_or(now);
        let first = state.queue.waiting() == 0 && !state.handing_over;
        let ticket = state.queue.push(request, reply, until);
        let way = state.ways.find(target, end).filter(|way| first && state.ways.is_trusted(way));
        match way.and_then(|way| state.begin(ticket, way, now)) {
            Some(begun) => {
                // Somebody must look at the clock.
                if std::mem::take(&mut state.asleep) {
                    self.0.tell(&mut state);
                }
                drop(state);
                self.0.carry_out(begun);
            }
            None => self.0.tell(&mut state),
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.over = true;
        self.0.tell(&mut state);
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Begun {
    attempt: Attempt,
    request: Request,
    way: Way,
}

impl State {
    /// `ticket` goes `way`; nothing if it does not wait any more.
    pub fn begin(&mut self, ticket: Ticket, way: Way, now: Instant) -> Option<Begun> {
        let (attempt, request) = self.queue.begin(ticket)?;
        self.ways.begun(way.name(), now);
        Some(Begun { attempt, request, way })
    }
}

impl Shared {
    /// Where requests should go. Do not ask while holding the state: storage may answer under a lock.
    #[must_use]
    pub fn target(&self) -> Target {
        match self.here.reign() {
            Some(_) => Target::Here,
            None => self.here.primary().map_or(Target::Nowhere, Target::There),
        }
    }

    /// Hands a request over. Its answer may come before this returns, so nothing may be held.
    pub fn carry_out(self: &Arc<Self>, begun: Begun) {
        let Begun { attempt, request, way } = begun;
        let (own, name) = (Arc::clone(self), way.name());
        match way {
            Way::Here => {
                let reply = Reply::new(move |answer| own.answered(attempt, name, Outcome::here(answer)));
                self.here.submit(request, reply);
            }
            Way::There(_, client) => {
                let connection = Arc::downgrade(&client);
                let reply = Reply::new(move |answer| {
                    own.answered(attempt, name, Outcome::there(answer, &connection));
                });
                client.submit(request, reply);
            }
        }
    }

    fn answered(&self, attempt: Attempt, way: Name, outcome: Outcome) {
        let now = Instant::now();
        let mut state = self.lock();
        let leads = matches!(outcome, Outcome::Final(_));
        if let Outcome::Again(why) = &outcome {
            state.why.clone_from(why);
        }
        state.ways.ended(way, leads, self.after(now, self.settings.retry));
        let done: Option<(Reply, Answer)> = state.queue.end(attempt, outcome);
        if !leads || state.queue.waiting() != 0 {
            self.tell(&mut state);
        }
        drop(state);
        if let Some((reply, answer)) = done {
            reply.finish(answer);
        }
    }

    /// Wakes the worker.
    pub fn tell(&self, state: &mut State) {
        state.news = true;
        self.work.notify_one();
    }

    /// Waits for news, or until `until`.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, until: Option<Instant>) -> MutexGuard<'a, State> {
        let Some(until) = until else {
            return self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let time = until.saturating_duration_since(Instant::now());
        self.work.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// `now` and `time`.
    #[must_use]
    pub fn after(&self, now: Instant, time: Duration) -> Instant {
        now.checked_add(time).unwrap_or(now)
    }

    /// What changes.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The byte after the last that `request` names.
#[must_use]
pub fn end(request: &Request) -> u64 {
    match request {
        Request::Read { span } | Request::Trim { span, .. } | Request::WriteZeroes { span, .. } => span.end(),
        Request::Cache { span } | Request::Status { span, .. } => span.end(),
        Request::Write { offset, data, .. } => {
            offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX))
        }
        Request::Flush => 0,
    }
}
