//! The cards of a node get their addresses, by the `ip` command of its image. A card that is not there, or
//! does not take its address, is tried again for ever: a node with one dead card speaks on the other (F31).

use crate::node_config::schema::Card;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long all cards together may take before the node goes on without: drivers load while the agent starts.
const CARDS_WAIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
/// From one try to the next once the node went on.
const RETRY: Duration = Duration::from_secs(1);

/// A card without its address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Absent {
    card: Card,
    why: String,
}

/// The cards that a node's configuration names. Clones show the same ones.
#[derive(Clone, Debug)]
pub struct Cards {
    absent: Arc<Mutex<Vec<Absent>>>,
    count: usize,
}

impl Cards {
    /// Gives each card its address and switches it on. Those that do not come up soon are tried on by a
    /// thread of their own.
    pub fn bring_up(cards: &[Card]) -> Self {
        let machine = Machine { devices: "/sys/class/net".into(), ip: "ip".into() };
        let this = Self::absent(cards);
        let begin = Instant::now();
        while !this.look(&machine) && begin.elapsed() < CARDS_WAIT {
            std::thread::sleep(POLL);
        }
        if !this.why().is_empty() {
            let late = this.clone();
            let keep_trying = move || {
                while !late.look(&machine) {
                    std::thread::sleep(RETRY);
                }
            };
            let thread = std::thread::Builder::new().name("cards".into()).stack_size(256 << 10);
            if let Err(error) = thread.spawn(keep_trying) {
                eprintln!("bulkhead: cards that come up later get no address: {error}");
            }
        }
        this
    }

    /// None of the cards has its address yet.
    fn absent(cards: &[Card]) -> Self {
        let absent = cards.iter().map(|card| {
            let why = format!("there is no network card {}", card.card);
            Absent { card: card.clone(), why }
        });
        Self { absent: Arc::new(Mutex::new(absent.collect())), count: cards.len() }
    }

    /// Why each card that has no address has none; empty when all have one.
    pub fn why(&self) -> Vec<String> {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent.iter().map(|absent| absent.why.clone()).collect()
    }

    /// Why this node can speak to nobody: it has cards and none has its address.
    pub fn none_works(&self) -> Option<String> {
        let why = self.why();
        (self.count == why.len()).then(|| why.first().cloned()).flatten()
    }

    /// Tries each card that has no address once; whether all have one now. Only one thread tries.
    fn look(&self, machine: &Machine) -> bool {
        let cards = self.absent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tried = cards.into_iter().filter_map(|Absent { card, why: before }| {
            let why = machine.bring_up(&card).err()?;
            if why != before {
                eprintln!("bulkhead: {why}");
            }
            Some(Absent { card, why })
        });
        let absent: Vec<_> = tried.collect();
        let all = absent.is_empty();
        *self.absent.lock().unwrap_or_else(PoisonError::into_inner) = absent;
        all
    }
}

/// Where the cards are, and what gives them addresses.
struct Machine {
    devices: PathBuf,
    ip: PathBuf,
}

impl Machine {
    fn bring_up(&self, card: &Card) -> Result<(), String> {
        let device = find(&self.devices, &card.card);
        let device = device.ok_or_else(|| format!("there is no network card {}", card.card))?;
        self.ip(&["address", "replace", &card.address, "dev", &device])?;
        self.ip(&["link", "set", &device, "up"])
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        let command = format!("ip {}", arguments.join(" "));
        let output = Command::new(&self.ip).args(arguments).output();
        let output = output.map_err(|error| format!("cannot run `{command}`: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// The device with this name or this Ethernet address.
fn find(devices: &Path, card: &str) -> Option<String> {
    let mut names = std::fs::read_dir(devices).ok()?.flatten().map(|entry| entry.file_name());
    names.find_map(|name| {
        let name = name.into_string().ok()?;
        let address = std::fs::read_to_string(devices.join(&name).join("address")).unwrap_or_default();
        (name == card || address.trim().eq_ignore_ascii_case(card)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(card: &str) -> Card {
        Card { card: card.into(), address: "10.0.0.1/24".into() }
    }

    fn plug(devices: &Path, name: &str, address: &str) {
        std::fs::create_dir(devices.join(name)).unwrap();
        std::fs::write(devices.join(name).join("address"), address).unwrap();
    }

    #[test]
    fn a_card_is_found_by_its_name_or_its_address() {
        let devices = tempfile::tempdir().unwrap();
        plug(devices.path(), "eth0", "52:54:00:aa:bb:01\n");
        plug(devices.path(), "lo", "00:00:00:00:00:00\n");
        for (card, found) in [("eth0", Some("eth0")), ("52:54:00:AA:BB:01", Some("eth0")), ("eth1", None)] {
            assert_eq!(find(devices.path(), card).as_deref(), found, "{card}");
        }
    }

    /// One card stays away, comes late, and then is needed no more; the other one is not waited for.
    #[test]
    fn a_card_that_is_not_there_is_named_until_it_is() {
        let devices = tempfile::tempdir().unwrap();
        let machine = Machine { devices: devices.path().into(), ip: "true".into() };
        let cards = Cards::absent(&[card("eth0"), card("eth1")]);
        assert!(!cards.look(&machine));
        assert_eq!(cards.none_works().as_deref(), Some("there is no network card eth0"));
        plug(devices.path(), "eth0", "52:54:00:aa:bb:01\n");
        assert!(!cards.look(&machine));
        assert_eq!((cards.why(), cards.none_works()), (vec!["there is no network card eth1".into()], None));
        plug(devices.path(), "eth1", "52:54:00:aa:bb:02\n");
        assert!(cards.look(&machine));
        assert!(cards.why().is_empty() && cards.none_works().is_none());
    }

    #[test]
    fn a_card_that_refuses_its_address_says_so() {
        let devices = tempfile::tempdir().unwrap();
        plug(devices.path(), "eth0", "52:54:00:aa:bb:01\n");
        for (ip, words) in [("false", "failed"), ("/no/such/program", "cannot run `ip address replace")] {
            let cards = Cards::absent(&[card("eth0")]);
            assert!(!cards.look(&Machine { devices: devices.path().into(), ip: ip.into() }));
            assert!(cards.why().iter().all(|why| why.contains(words)), "{:?}", cards.why());
        }
        assert_eq!(Cards::bring_up(&[]).none_works(), None);
    }
}
