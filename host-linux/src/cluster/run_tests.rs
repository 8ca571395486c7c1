//! Two nodes and a witness on loopback, all in one thread: what the loop tells a mirror group and takes from
//! it (S4-11, I1, I4, X14).

use super::*;
use crate::cluster::fence_agent::Power;
use crate::cluster::fencer::Order;
use crate::cluster::start::{Kind, Plan, prepare};
use crate::cluster::storage::Group;
use crate::mirror::words::{RegisterNews, RegisterWish};
use crate::site_config::{EXAMPLE, Fencing, SiteConfig, Storage};
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a holder was told, and what it wants.
#[derive(Debug, Default)]
struct Seen {
    leads: Option<(Payload, Instant)>,
    questions: usize,
    renewals: usize,
    losses: usize,
    wishes: Vec<RegisterWish>,
}

/// A holder that may always lead, and writes its number into the record.
#[derive(Clone, Debug)]
struct Holder {
    node: u8,
    seen: Arc<Mutex<Seen>>,
}

impl Holder {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn wants(&self, wish: RegisterWish) {
        self.seen().wishes.push(wish);
    }

    fn said(&self) -> Option<Vec<u8>> {
        self.seen().leads.as_ref().map(|(payload, _)| payload.to_vec())
    }
}

impl Group for Holder {
    fn told(&self, news: RegisterNews) {
        let mut seen = self.seen();
        match news {
            RegisterNews::Decide(current) => {
                seen.questions += 1;
                let mut payload = current.unwrap_or_default();
                payload.push(self.node).unwrap();
                seen.wishes.push(RegisterWish::Decided(Verdict::Take(payload)));
            }
            RegisterNews::Held { payload, until, .. } => seen.leads = Some((payload, until)),
            RegisterNews::Leased { until } => {
                let (_, end) = seen.leads.as_mut().unwrap();
                assert!(*end < until);
                *end = until;
                seen.renewals += 1;
            }
            RegisterNews::Lost => {
                seen.leads = None;
                seen.losses += 1;
            }
        }
    }

    fn wishes(&self) -> Vec<RegisterWish> {
        std::mem::take(&mut self.seen().wishes)
    }
}

struct Site {
    agents: Vec<Agent>,
    a1: Holder,
    b1: Holder,
}

fn cannot(_: &SiteConfig, _: &Fencing, _: Order) -> Result<Power, String> {
    Err("there is no device here".into())
}

fn site(directory: &Path) -> Site {
    let mut config = SiteConfig::parse(&directory.join("site.toml"), EXAMPLE).unwrap();
    config.fencing.clear();
    config.resources.clear();
    crate::site_config::key::generate(&config.local.key_file).unwrap();
    let sockets: Vec<_> = (0..6).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut ports: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    drop(sockets);
    for member in &mut config.members {
        member.addresses = [ports.remove(0), ports.remove(0)];
        member.external.clear();
    }
    let holder = |node| Holder { node, seen: Arc::default() };
    let (a1, b1) = (holder(1), holder(2));
    let agents = config.members.iter().map(|member| {
        let mut config = config.clone();
        let state = directory.join(&member.name);
        config.local.node = member.id;
        config.local.socket = state.join("control.sock");
        config.listen = member.addresses;
        let is_witness = member.duty.is_witness();
        let storage = Storage {
            log: state.join("log"),
            log_size: None,
            volumes: state.clone(),
            is_shared: false,
            memory: 64 << 20,
            read_cache: 0,
            backing: Default::default(),
            tls: None,
        };
        config.local.storage = (!is_witness).then_some(storage);
        config.local.state = state;
        let kind = if is_witness { Kind::Witness } else { Kind::Agent };
        let plan = Plan { kind, root: directory, perform: cannot, file: None, health: None, cards: None };
        let mut agent = prepare(config, &plan, |_, _, _| Ok(None)).unwrap();
        agent.hands.group = match member.id.0 {
            1 => Some(Box::new(a1.clone())),
            2 => Some(Box::new(b1.clone())),
            _ => None,
        };
        for office in Office::ALL {
            agent.step(Event::Command(Command::Start(office)));
        }
        agent
    });
    Site { agents: agents.collect(), a1, b1 }
}

impl Site {
    /// Lets the agents run until something is so, for a minute at most. At no time do two lead.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = std::time::Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?} {:?}", self.a1, self.b1);
            for agent in &mut self.agents {
                agent.round();
            }
            let both = self.a1.said().is_some() && self.b1.said().is_some();
            assert!(!both, "two lead: {:?} {:?}", self.a1, self.b1);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_mirror_group_is_told_of_its_register_and_asked() {
    let directory = tempfile::tempdir().unwrap();
    let mut site = site(directory.path());
    site.until("one leads, and its lease is renewed", |site| {
        2 < site.a1.seen().renewals + site.b1.seen().renewals
    });
    let is_a1 = site.a1.said().is_some();
    let (leads, follows) =
        if is_a1 { (site.a1.clone(), site.b1.clone()) } else { (site.b1.clone(), site.a1.clone()) };
    assert_eq!(leads.said(), Some(vec![leads.node]));

    leads.wants(RegisterWish::Rewrite(Payload::from_slice(&[7, 7]).unwrap()));
    site.until("the record says what the group wants", |_| leads.said() == Some(vec![7, 7]));

    leads.wants(RegisterWish::Release);
    site.until("the other finds what the record says", |_| follows.said() == Some(vec![7, 7, follows.node]));
    assert_eq!(leads.seen().losses, 1);

    follows.wants(RegisterWish::Failed);
    site.until("whose log failed gives the register back", |_| leads.said().is_some());
    let questions = follows.seen().questions;
    leads.wants(RegisterWish::Release);
    site.until("it does not ask again, so the first one has it again", |_| {
        leads.seen().losses == 2 && leads.said().is_some()
    });
    assert_eq!(follows.seen().questions, questions);
    let place = usize::from(follows.node - 1);
    let told = site.agents[place].hands.last_error.clone().unwrap();
    assert!(told.contains("the log of the mirror group failed"), "{told}");
}
