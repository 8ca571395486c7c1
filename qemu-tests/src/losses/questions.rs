//! What is asked after each loss and each repair: do guests run where they can, each once; is it said what is
//! wrong where they cannot; and is all as it was in the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bulkhead::cluster::status::Status;

use super::fault::{Lost, Node, Part, Said};
use super::plant::{GUESTS, Plant, leads};
use super::sight::runs;
use super::watch::Watch;

/// Guests run again within this time where they can, on a machine that does ten other things: longer than one
/// waits that failed again and again.
const RUNS: Duration = Duration::from_secs(90);
/// What is wrong is said within this time; the slowest alert is raised after 10 s.
const SAYS: Duration = Duration::from_secs(45);
/// All is as it was within this time.
const WHOLE: Duration = Duration::from_secs(120);
/// What a guest keeps within this time behind a loss, it may keep by the lease that it had.
const LEASE: Duration = Duration::from_millis(1200);
/// Where guests cannot run for so long, nobody is waited for.
const STOPS: Duration = Duration::from_secs(4);
/// So many more numbers, and a guest goes on: as many as it says at once.
const FURTHER: u32 = 8;
const POLL: Duration = Duration::from_millis(100);

/// Whether guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// All do.
    Runs,
    /// None can, and it is said.
    Stopped,
}

/// Who asks, and what was said before.
#[derive(Debug)]
pub struct Questions<'a> {
    plant: &'a Plant,
    watch: &'a Watch,
    /// What is lost now.
    pub lost: Lost,
    said: [Said; 2],
    /// The last event of each node that was read, and how long its agent ran by then.
    read: [(u64, u64); 2],
}

impl<'a> Questions<'a> {
    /// Nothing is lost, and nothing was said yet.
    #[must_use]
    pub fn new(plant: &'a Plant, watch: &'a Watch) -> Self {
        let nothing = || Said { voters: Part::ALL.to_vec(), in_sync: true };
        Self { plant, watch, lost: Lost::default(), said: [nothing(), nothing()], read: Default::default() }
    }

    /// Looks at all nodes that run, and remembers what they say of who decides and who has all writes.
    fn look(&mut self) -> [Option<Status>; 2] {
        let lost = &self.lost;
        let status = |node| lost.runs(Part::Node(node)).then(|| self.plant.status(node)).flatten();
        let statuses = Node::ALL.map(status);
        let all = statuses.iter().zip(&mut self.said).zip(&mut self.read).zip(Node::ALL);
        for (((status, said), (read, uptime)), node) in all {
            let Some(status) = status else { continue };
            // One that began anew counts from one again.
            let after = if status.uptime_ms < *uptime { 0 } else { *read };
            let (last, voters) = self.plant.voters(node, after);
            (*read, *uptime) = (last, status.uptime_ms);
            if let Some(voters) = voters {
                said.voters = voters.into_iter().filter_map(|voter| part(status, voter)).collect();
            }
        }
        for status in statuses.iter().flatten().filter(|status| leads(status)) {
            let holders = status.storage.iter().flat_map(|storage| &storage.holders);
            let in_sync: Vec<Part> =
                holders.filter(|one| one.in_sync).filter_map(|one| part(status, one.node)).collect();
            for (node, said) in Node::ALL.into_iter().zip(&mut self.said) {
                said.in_sync = in_sync.contains(&Part::Node(node));
            }
        }
        statuses
    }

    fn can_run(&self) -> bool {
        Node::ALL.into_iter().any(|node| self.lost.may_lead(node, node.of(&self.said)))
    }

    /// Behind a loss, or a repair that left something lost: guests run, or cannot, and it is said. `since` is
    /// when that happened.
    ///
    /// # Errors
    /// They could run and do not, run and could not, or nobody says what is wrong; or a guest ran twice, or
    /// lost what it was told to be durable.
    pub fn service(&mut self, since: Instant) -> Result<Service> {
        while since.elapsed() < LEASE {
            self.look();
            std::thread::sleep(POLL);
        }
        let (mut before, mut stops) = (self.watch.kept(), None::<(Instant, Vec<u32>)>);
        loop {
            self.watch.check()?;
            let statuses = self.look();
            let (now, kept) = (Instant::now(), self.watch.kept());
            if self.can_run() {
                stops = None;
                if goes_on(&before, &kept) {
                    return self.runs(since).map(|()| Service::Runs);
                }
            } else {
                let (from, then) = stops.get_or_insert((now, kept.clone()));
                if STOPS < now.duration_since(*from) {
                    if *then != kept {
                        bail!("guests run where nobody can lead: {}", self.told(&statuses));
                    }
                    return self.says_why().map(|()| Service::Stopped);
                }
                before = kept;
            }
            if RUNS < since.elapsed() {
                bail!("guests could run, and do not within {RUNS:?}: {}", self.told(&statuses));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Each guest runs on one node, and what is lost is said.
    fn runs(&mut self, since: Instant) -> Result<()> {
        loop {
            self.watch.check()?;
            let statuses = self.look();
            let places = GUESTS.map(|(name, _)| self.places(name).len());
            let unsaid = self.unsaid(&statuses);
            if places == [1; GUESTS.len()] && unsaid.is_none() {
                return Ok(());
            }
            if SAYS + RUNS < since.elapsed() {
                let unsaid = unsaid.unwrap_or_default();
                bail!("guests run on {places:?} nodes; {unsaid}: {}", self.told(&statuses));
            }
            std::thread::sleep(POLL);
        }
    }

    /// No guest runs, and every node that is left says that, and what it does not hear.
    fn says_why(&mut self) -> Result<()> {
        let (begun, before) = (Instant::now(), self.watch.kept());
        loop {
            self.watch.check()?;
            let statuses = self.look();
            if self.watch.kept() != before {
                bail!("guests run where nobody can lead: {}", self.told(&statuses));
            }
            let is_said = |status: &Status| {
                status
                    .alerts
                    .iter()
                    .any(|alert| ["nobody-leads", "guests-down"].contains(&alert.kind.as_str()))
            };
            let unsaid = statuses.iter().flatten().find(|status| !is_said(status));
            let unsaid = unsaid.map(|status| format!("{} does not say that nobody leads", status.node.name));
            let unsaid = unsaid.or_else(|| self.unsaid(&statuses));
            let Some(unsaid) = unsaid else { return Ok(()) };
            if SAYS < begun.elapsed() {
                bail!("{unsaid}: {}", self.told(&statuses));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Who of those that run does not say whom it does not hear, or does not answer.
    fn unsaid(&self, statuses: &[Option<Status>; 2]) -> Option<String> {
        let running = Node::ALL.into_iter().filter(|node| self.lost.runs(Part::Node(*node)));
        for node in running {
            let Some(status) = node.of(statuses) else {
                return Some(format!("{} does not answer", node.name()));
            };
            let is_said = |part: &Part| {
                let of = |kind: &str, subject: &str| kind == "node-away" && subject == part.name();
                status.alerts.iter().any(|alert| of(&alert.kind, &alert.subject))
            };
            if let Some(part) = self.lost.unheard(node).find(|part| !is_said(part)) {
                return Some(format!("{} does not say that {} is away", node.name(), part.name()));
            }
        }
        None
    }

    /// Nothing is lost any more: both nodes have everything, any one part may fail, no alert is left, and
    /// every guest runs once. Who leads.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn whole(&mut self) -> Result<Node> {
        let (begun, before) = (Instant::now(), self.watch.kept());
        loop {
            self.watch.check()?;
            let statuses = self.look();
            let is_well = |status: &Status| {
                let synced = status.storage.as_ref().is_some_and(|storage| storage.waits.is_none());
                status.protected && synced && status.alerts.iter().all(|alert| alert.kind == "lacking")
            };
            let well = statuses.iter().flatten().filter(|status| is_well(status)).count();
            let leads = Node::ALL.into_iter().filter(|node| node.of(&statuses).as_ref().is_some_and(leads));
            if let ([node], true, true) =
                (leads.collect::<Vec<_>>().as_slice(), well == 2, goes_on(&before, &self.watch.kept()))
                && GUESTS.iter().all(|(name, _)| self.places(name) == [*node])
            {
                return Ok(*node);
            }
            if WHOLE < begun.elapsed() {
                bail!("all is repaired, and not as it was within {WHOLE:?}: {}", self.told(&statuses));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The nodes on which a guest runs.
    fn places(&self, name: &str) -> Vec<Node> {
        let is_there = |node: &Node| runs(&self.plant.guest(*node, name).join("api.sock")).is_some();
        Node::ALL.into_iter().filter(is_there).collect()
    }

    /// What the nodes say, for who reads why it failed.
    fn told(&self, statuses: &[Option<Status>; 2]) -> String {
        let tell = |node: Node| {
            let Some(status) = node.of(statuses) else { return format!("\n{} says nothing", node.name()) };
            let storage = status.storage.as_ref().map(|storage| storage.line(1, |node| node.to_string()));
            let alerts: Vec<_> =
                status.alerts.iter().map(|alert| format!("{} {}", alert.kind, alert.subject)).collect();
            let guests: Vec<_> = status
                .guests
                .iter()
                .map(|guest| format!("{} is {} {}", guest.name, guest.state, guest.why))
                .collect();
            format!(
                "\n{}: {} (role {}: {}); {}; alerts {alerts:?}; guests {guests:?}; decides {:?}",
                node.name(),
                status.summary,
                status.role,
                status.reason,
                storage.unwrap_or_default(),
                node.of(&self.said),
            )
        };
        let places = GUESTS.map(|(name, _)| (name, self.places(name)));
        let kept = self.watch.kept();
        format!("{}{}\nguests run on {places:?}, kept {kept:?}", tell(Node::A), tell(Node::B))
    }
}

/// Whether every guest has kept so much more that it goes on.
fn goes_on(before: &[u32], now: &[u32]) -> bool {
    before.iter().zip(now).all(|(before, now)| before.saturating_add(FURTHER) <= *now)
}

/// The part with this number.
fn part(status: &Status, number: u16) -> Option<Part> {
    let name = &status.nodes.iter().find(|node| node.id == number)?.name;
    Part::ALL.into_iter().find(|part| part.name() == name)
}
