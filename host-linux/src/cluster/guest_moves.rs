//! What the control socket is asked by a guest that moves to another node: the way there, and the keys of a
//! connection. The site key stays with the agent: no process of a guest has it (V22).

use super::request::Answer;
use super::run::Agent;
use crate::failure::Failure;
use crate::migration::hello::{HELLO_LEN, Hello, Keys};
use crate::migration::relay::SOCKET;
use crate::site_config::{Member, Secrecy, SiteConfig, key};
use bulkhead_core::id::{NodeId, SiteId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The answer to [`Request::GuestRoad`](super::request::Request::GuestRoad): so the guest comes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestRoad {
    site: [u8; 16],
    from: u16,
    /// The other node.
    pub to: u16,
    /// What people call it.
    pub name: String,
    /// Where it takes in guests.
    pub at: SocketAddr,
    /// It keeps the volumes that this node keeps.
    #[serde(default)]
    same_pair: bool,
    /// The agent's socket by which it comes there, where what moves may be encrypted; else it goes by itself.
    #[serde(default)]
    pub relay: Option<PathBuf>,
}

impl GuestRoad {
    /// The site of both.
    #[must_use]
    pub const fn site(&self) -> SiteId {
        SiteId(self.site)
    }

    /// This node.
    #[must_use]
    pub const fn from(&self) -> NodeId {
        NodeId(self.from)
    }

    /// Whether the other one keeps the volumes that this node keeps.
    #[must_use]
    pub const fn is_of_same_pair(&self) -> bool {
        self.same_pair
    }

    /// The other one.
    #[must_use]
    pub const fn to(&self) -> NodeId {
        NodeId(self.to)
    }
}

impl Agent {
    /// The way of a guest to a node; by the lease of this node's volumes, if it runs by that.
    pub(super) fn guest_road(&self, node: &str, leased: bool) -> Answer {
        match road(&self.hands.config, node).and_then(|road| self.may_lead(&road, leased).map(|()| road)) {
            Ok(road) => Answer::done("guestRoad", serde_json::to_value(road).unwrap_or_default()),
            Err(failure) => Answer::failure(&failure),
        }
    }

    /// Whether that node would take the lead of the volumes with its guests.
    fn may_lead(&self, road: &GuestRoad, leased: bool) -> Result<(), Failure> {
        if !leased {
            return Ok(());
        }
        let none = || Failure::failed("this node has no volumes, so nothing of them can move");
        let (_, listing) = self.listing().ok_or_else(none)?;
        listing.promotion(road.to).map(drop)
    }

    /// The keys of a connection that began so.
    pub(super) fn guest_keys(&self, hello: &[u8], welcome: &[u8]) -> Answer {
        match keys(&self.hands.config, hello, welcome) {
            Ok(keys) => Answer::done("guestKeys", serde_json::to_value(keys).unwrap_or_default()),
            Err(failure) => Answer::failure(&failure),
        }
    }
}

/// The way of a guest to a node.
///
/// # Errors
///
/// There is no such node, or it takes in no guests.
pub fn road(config: &SiteConfig, node: &str) -> Result<GuestRoad, Failure> {
    let me = config.local.node;
    let Some(member) = config.members.iter().find(|member| member.name == node) else {
        let next = "`bulkhead status` shows the nodes and their names.";
        return Err(Failure::usage(format!("there is no node {node}")).left("").next(next));
    };
    if member.id == me {
        return Err(Failure::usage(format!("{node} is this node")).left("").next("name another one."));
    }
    let Some(at) = member.guests else {
        let next = format!("write such as `guests = \"10.0.1.2\"` in the [[node]] of {node}, in all files.");
        return Err(Failure::refused(format!("{node} takes in no guests")).left("").next(next));
    };
    let relay = encrypts(config).then(|| config.local.state.join(SOCKET));
    let pair = |member: &Member| member.duty.pair();
    let same_pair = config.me().is_some_and(|own| pair(own) == pair(member));
    let (site, to, name) = (config.site.0, member.id.0, member.name.clone());
    Ok(GuestRoad { site, from: me.0, to, name, at, same_pair, relay })
}

/// Whether what moves may be encrypted here.
#[must_use]
pub fn encrypts(config: &SiteConfig) -> bool {
    let tls = config.local.storage.as_ref().and_then(|storage| storage.tls.as_ref());
    tls.is_some_and(|tls| tls.streams != Secrecy::Clear)
}

fn keys(config: &SiteConfig, hello: &[u8], welcome: &[u8]) -> Result<Keys, Failure> {
    let parse = |bytes: &[u8]| <&[u8; HELLO_LEN]>::try_from(bytes).ok().and_then(Hello::parse);
    let said = parse(hello).zip(parse(welcome));
    let said = said.filter(|(hello, welcome)| {
        hello.from == config.local.node && hello.site == config.site && hello.is_answered_by(welcome)
    });
    let (hello, welcome) = said.ok_or_else(|| Failure::usage("that is no beginning of a connection"))?;
    let key = key::read(&config.local.key_file)?;
    Ok(Keys::new(&key, &hello, &welcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::EXAMPLE;
    use std::path::Path;

    fn config(more: &str) -> SiteConfig {
        let text = EXAMPLE.replacen("#nbd = \"10.0.1.1:10809\"", more, 1);
        SiteConfig::parse(Path::new("/etc/bulkhead/site.toml"), &text).unwrap()
    }

    #[test]
    fn a_way_leads_to_a_node_that_takes_guests_in() {
        let mut config = config("guests = \"10.0.1.1:7902\"");
        config.local.node = NodeId(2);
        let found = road(&config, "a1").unwrap();
        assert_eq!(
            (found.from(), found.to(), found.at.to_string()),
            (NodeId(2), NodeId(1), "10.0.1.1:7902".into())
        );
        let why = |node| road(&config, node).unwrap_err().what;
        assert!(why("b1").contains("this node") && why("c1").contains("no node c1"));
        assert!(why("witness").contains("takes in no guests"));
    }

    /// V22: keys are for connections that this node began, and for no others.
    #[test]
    fn keys_are_of_connections_of_this_node() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config("");
        config.local.key_file = directory.path().join("key");
        key::generate(&config.local.key_file).unwrap();
        let hello = Hello::new(config.site, NodeId(1), NodeId(2)).unwrap();
        let welcome = Hello::new(config.site, NodeId(2), NodeId(1)).unwrap();
        let site = key::read(&config.local.key_file).unwrap();
        let ask = |hello: &[u8], welcome: &[u8]| keys(&config, hello, welcome);
        assert_eq!(ask(&hello.encode(), &welcome.encode()).unwrap(), Keys::new(&site, &hello, &welcome));
        for (one, other) in [(&welcome, &hello), (&hello, &hello)] {
            assert!(ask(&one.encode(), &other.encode()).is_err());
        }
        assert!(ask(&[], &[0; HELLO_LEN + 1]).is_err());
        let elsewhere = Hello { site: SiteId([0; 16]), ..hello };
        assert!(ask(&elsewhere.encode(), &welcome.encode()).is_err());
    }
}
