//! What a node configuration says.
//!
//! ```toml
//! [node]
//! name = "n1"                                      # 1 to 63 letters, digits, '-' or '.'
//! id = "2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11"      # a UUID, different on every node
//! compartment = "a"                                # the fault domain the node stands in
//! zone = "dmz"                                     # "mz" or "dmz"
//!
//! [[network]]                                      # optional: cards of a node with a site (`node site set`)
//! card = "52:54:00:12:34:01"                       # its Ethernet address, or its name
//! address = "10.0.1.1/24"                          # with the length of the prefix
//!
//! [health]                                         # optional
//! timeout_s = 120                                  # a candidate not healthy by then is given up
//! interval_s = 10                                  # from one round of checks to the next
//! checks = [
//!   { path = "/dev/kvm" },                         # exists
//!   { tcp = "10.0.0.2:22", timeout_s = 3 },        # accepts a connection
//!   { command = ["/bin/true"], timeout_s = 5 },    # exits with 0
//! ]
//! ```
//!
//! A key that is not known is an error: a misspelt health check must not pass for a passed one.

use crate::failure::Failure;
use serde::Deserialize;
use std::net::IpAddr;
use uguid::Guid;

/// A node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Who the node is.
    pub node: Node,
    /// Its network cards.
    #[serde(default)]
    pub network: Vec<Card>,
    /// When it is healthy.
    #[serde(default)]
    pub health: Health,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name, for people.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// The compartment it stands in.
    pub compartment: String,
    /// Its zone.
    pub zone: Zone,
}

/// A network card and its address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its Ethernet address, or its name.
    pub card: String,
    /// Its IP address with the length of the prefix, such as `10.0.1.1/24`.
    pub address: String,
}

/// A node's zone (S1-62).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// Militarized zone.
    Mz,
    /// Demilitarized zone.
    Dmz,
}

impl From<Zone> for bulkhead_core::gpt::layout::Zone {
    fn from(zone: Zone) -> Self {
        match zone {
            Zone::Mz => Self::Mz,
            Zone::Dmz => Self::Dmz,
        }
    }
}

/// When a node is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Seconds after which a candidate that is not healthy is given up.
    pub timeout_s: u32,
    /// Seconds from one round of checks to the next.
    pub interval_s: u32,
    /// Checks beside the built-in ones.
    pub checks: Vec<Check>,
}

impl Default for Health {
    fn default() -> Self {
        Self { timeout_s: 120, interval_s: 10, checks: Vec::new() }
    }
}

/// A check: exactly one of `path`, `tcp`, `command`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A file or device that must exist.
    pub path: Option<String>,
    /// An address that must accept a connection.
    pub tcp: Option<String>,
    /// A command that must exit with 0.
    pub command: Option<Vec<String>>,
    /// Seconds the check may take.
    #[serde(default = "check_timeout")]
    pub timeout_s: u32,
}

const fn check_timeout() -> u32 {
    10
}

/// Cards a configuration may name.
const CARDS_MAX: usize = 16;
/// Checks a configuration may name: a round of them stays short.
const CHECKS_MAX: usize = 32;

impl NodeConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with the line.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let config: Self = toml::from_str(text)
            .map_err(|error| Failure::failed(format!("the node configuration is wrong: {}", flat(&error))))?;
        config.check().map_err(|why| Failure::failed(format!("the node configuration is wrong: {why}")))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        for (key, text) in [("node.name", &self.node.name), ("node.compartment", &self.node.compartment)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            if text.is_empty() || 63 < text.len() || !text.chars().all(plain) {
                return Err(format!("`{key}` must be 1 to 63 letters, digits, '-' or '.'"));
            }
        }
        if Guid::try_parse(&self.node.id).is_err() {
            return Err("`node.id` must be a UUID such as 2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11".into());
        }
        if CARDS_MAX < self.network.len() {
            return Err(format!("`network` has more than {CARDS_MAX} cards"));
        }
        self.network.iter().try_for_each(Card::check)?;
        let in_range = |seconds: u32| (1..=3600).contains(&seconds);
        if !in_range(self.health.timeout_s) || !in_range(self.health.interval_s) {
            return Err("`health.timeout_s` and `health.interval_s` must be 1 to 3600".into());
        }
        if CHECKS_MAX < self.health.checks.len() {
            return Err(format!("`health.checks` has more than {CHECKS_MAX} checks"));
        }
        self.health.checks.iter().try_for_each(Check::check)
    }
}

impl Card {
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
        // What the kernel takes for a name is at most 15 long, an Ethernet address has 17 characters.
        if self.card.is_empty() || 17 < self.card.len() || !self.card.chars().all(plain) {
            return Err(format!(
                "`network.card` {:?} is no card: name it, or its Ethernet address",
                self.card
            ));
        }
        let prefix = self.address.split_once('/').and_then(|(ip, length)| {
            let most = if ip.parse::<IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
            length.parse::<u8>().ok().filter(|length| (1..=most).contains(length))
        });
        prefix.map(drop).ok_or_else(|| {
            format!("`network.address` {:?} must be an address such as 10.0.1.1/24", self.address)
        })
    }
}

impl Check {
    fn check(&self) -> Result<(), String> {
        let command = self.command.as_ref();
        let given = [self.path.is_some(), self.tcp.is_some(), command.is_some_and(|words| !words.is_empty())];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return Err("each of `health.checks` must have exactly one of `path`, `tcp`, `command`".into());
        }
        if !(1..=600).contains(&self.timeout_s) {
            return Err("`timeout_s` of a check must be 1 to 600".into());
        }
        Ok(())
    }
}

/// The message on one line, with where it is.
fn flat(error: &toml::de::Error) -> String {
    let lines: Vec<_> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
    let first = lines.first().cloned().unwrap_or_default();
    format!("{}: {}", first.trim_start_matches("TOML parse error "), error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str =
        "[node]\nname = 'n1'\nid = '2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11'\ncompartment = 'a'\nzone = 'mz'\n";

    fn wrong(text: &str) -> String {
        NodeConfig::parse(text).unwrap_err().what
    }

    #[test]
    fn the_example_of_this_page_is_good() {
        let page = include_str!("schema.rs");
        let block = page.split("//! ```").nth(1).unwrap().trim_start_matches("toml\n");
        let text: String =
            block.lines().map(|line| format!("{}\n", line.trim_start_matches("//!"))).collect();
        let config = NodeConfig::parse(&text).unwrap();
        assert_eq!((config.node.zone, config.health.checks.len(), config.network.len()), (Zone::Dmz, 3, 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(NodeConfig::parse(NODE).is_ok());
        assert!(wrong(&format!("{NODE}colour = 1\n")).contains("unknown field `colour`"));
        assert!(wrong(&format!("{NODE}[health]\ntimeout = 3\n")).contains("unknown field `timeout`"));
        assert!(wrong(&NODE.replace("n1", "n 1")).contains("`node.name`"));
        assert!(wrong(&NODE.replace("2f1c", "zzzz")).contains("`node.id`"));
        assert!(wrong(&NODE.replace("mz", "xz")).contains("unknown variant"));
        assert!(wrong(&format!("{NODE}[health]\nchecks = [{{}}]\n")).contains("exactly one of"));
        let card = |card: &str, address: &str| {
            NodeConfig::parse(&format!("{NODE}[[network]]\ncard = '{card}'\naddress = '{address}'\n"))
        };
        assert!(card("eth0", "10.0.1.1/24").is_ok() && card("52:54:00:12:34:01", "fd00::1/64").is_ok());
        for address in ["10.0.1.1", "10.0.1/24", "10.0.1.1/33", "10.0.1.1/0", "10.0.1.1/24 dev lo"] {
            assert!(card("eth0", address).unwrap_err().what.contains("`network.address`"), "{address}");
        }
        for name in ["", "eth0; reboot", "--help me please"] {
            assert!(card(name, "10.0.1.1/24").unwrap_err().what.contains("`network.card`"), "{name}");
        }
        assert!(wrong("[node").contains("at line 1"));
    }
}
