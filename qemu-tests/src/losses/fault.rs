//! What a site with guests may lose, and what is lost at a moment: who still runs, and who hears whom. From
//! that, and from what holders have said of themselves, follows whether guests can run (V1, V2, V19, V23).

use std::fmt;
use std::str::FromStr;

/// A node of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The one in compartment a.
    A,
    /// The one in compartment b.
    B,
}

impl Node {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// As the playground calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a1",
            Self::B => "b1",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Of two things, its own.
    #[must_use]
    pub const fn of<T>(self, [a, b]: &[T; 2]) -> &T {
        match self {
            Self::A => a,
            Self::B => b,
        }
    }
}

/// Who votes, and is heard or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A node of the pair.
    Node(Node),
    /// The witness.
    Witness,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node(Node::A), Self::Node(Node::B), Self::Witness];

    /// As the playground calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node(node) => node.name(),
            Self::Witness => "witness",
        }
    }
}

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The processes of all guests die.
    Guests,
    /// The agent dies; its guests' processes do not.
    Agent,
    /// The power of a node: its agent and its guests at once.
    Power,
    /// The agent stands still, and does not know it.
    Sleep,
    /// What a node's store has of the guests' disks: the files are cut to nothing under it.
    Store,
    /// The link between the nodes.
    Link,
    /// The link between a node and the witness.
    WitnessLink,
    /// Both links of a node.
    Alone,
    /// The witness.
    Witness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Guests,
        Self::Agent,
        Self::Power,
        Self::Sleep,
        Self::Store,
        Self::Link,
        Self::WitnessLink,
        Self::Alone,
        Self::Witness,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Guests => "guests",
            Self::Agent => "agent",
            Self::Power => "power",
            Self::Sleep => "sleep",
            Self::Store => "store",
            Self::Link => "link",
            Self::WitnessLink => "witness-link",
            Self::Alone => "alone",
            Self::Witness => "witness",
        }
    }

    /// Whether it is of one node.
    #[must_use]
    pub const fn is_of_a_node(self) -> bool {
        match self {
            Self::Agent | Self::Power | Self::Sleep | Self::Store | Self::WitnessLink | Self::Alone => true,
            Self::Guests | Self::Link | Self::Witness => false,
        }
    }

    /// Whether a node is silent by it.
    #[must_use]
    pub const fn is_a_process(self) -> bool {
        matches!(self, Self::Agent | Self::Power | Self::Sleep)
    }

    /// Whether it lasts until it is repaired: a guest that dies begins again, and a store is mended from the
    /// other one.
    #[must_use]
    pub const fn lasts(self) -> bool {
        !matches!(self, Self::Guests | Self::Store)
    }
}

/// A loss as it is planned: of the node that leads when all is well, or of the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// What.
    pub kind: Kind,
    /// Whether of the node that leads. `true` where it is of no node.
    pub of_leading: bool,
}

impl Loss {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = |kind: Kind| {
            let more = kind.is_of_a_node().then_some(Self { kind, of_leading: false });
            std::iter::once(Self { kind, of_leading: true }).chain(more)
        };
        Kind::ALL.into_iter().flat_map(both)
    }

    /// Where one node leads.
    #[must_use]
    pub const fn at(self, leads: Node) -> Fault {
        Fault { kind: self.kind, node: if self.of_leading { leads } else { leads.other() } }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match (self.kind.is_of_a_node(), self.of_leading) {
            (false, _) => "",
            (true, true) => "-leads",
            (true, false) => "-follows",
        };
        write!(f, "{}{whose}", self.kind.word())
    }
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::all().map(|loss| loss.to_string()).collect::<Vec<_>>().join(", ");
        let found = Self::all().find(|loss| loss.to_string() == text);
        found.ok_or_else(|| format!("no loss `{text}`; there are {}", names()))
    }
}

/// A loss as it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Of which node, if it is of one.
    pub node: Node,
}

impl Fault {
    /// The links that it cuts.
    #[must_use]
    pub fn links(self) -> Vec<(Part, Part)> {
        let (own, other) = (Part::Node(self.node), Part::Node(self.node.other()));
        match self.kind {
            Kind::Link => vec![(Part::Node(Node::A), Part::Node(Node::B))],
            Kind::WitnessLink => vec![(own, Part::Witness)],
            Kind::Alone => vec![(own, other), (own, Part::Witness)],
            Kind::Guests | Kind::Agent | Kind::Power | Kind::Sleep | Kind::Store | Kind::Witness => {
                Vec::new()
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.name();
        match self.kind {
            Kind::Guests => f.write_str("the guests' processes die"),
            Kind::Agent => write!(f, "the agent of {node} dies"),
            Kind::Power => write!(f, "the power of {node} fails"),
            Kind::Sleep => write!(f, "the agent of {node} stands still"),
            Kind::Store => write!(f, "the store of {node} loses what it has"),
            Kind::Link => f.write_str("the link between the nodes is cut"),
            Kind::WitnessLink => write!(f, "the link of {node} to the witness is cut"),
            Kind::Alone => write!(f, "both links of {node} are cut"),
            Kind::Witness => f.write_str("the witness dies"),
        }
    }
}

/// What is lost now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost(pub Vec<Fault>);

impl Lost {
    /// Whether the agent of this node, or the witness, runs.
    #[must_use]
    pub fn runs(&self, part: Part) -> bool {
        !self.0.iter().any(|fault| match part {
            Part::Node(node) => fault.kind.is_a_process() && fault.node == node,
            Part::Witness => fault.kind == Kind::Witness,
        })
    }

    /// Whether nothing gets from one to the other.
    #[must_use]
    pub fn is_cut(&self, one: Part, other: Part) -> bool {
        let links = self.0.iter().flat_map(|fault| fault.links());
        links.into_iter().any(|link| link == (one, other) || link == (other, one))
    }

    /// Whether this node hears that part.
    #[must_use]
    pub fn hears(&self, node: Node, part: Part) -> bool {
        self.runs(Part::Node(node))
            && self.runs(part)
            && (part == Part::Node(node) || !self.is_cut(Part::Node(node), part))
    }

    /// Those that this node, which runs, does not hear.
    pub fn unheard(&self, node: Node) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |part| !self.hears(node, *part))
    }

    /// Whether guests can run on this node: it runs, has every acknowledged write, and hears more than half
    /// of those who decide, as it knows.
    #[must_use]
    pub fn may_lead(&self, node: Node, said: &Said) -> bool {
        let heard = said.voters.iter().filter(|part| self.hears(node, **part)).count();
        self.runs(Part::Node(node)) && said.in_sync && said.voters.len() < heard.saturating_mul(2)
    }
}

/// What is known of a node by what was said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who decides, as this node said.
    pub voters: Vec<Part>,
    /// Whether it has every acknowledged write, as the node said that led last.
    pub in_sync: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn fault(kind: Kind, node: Node) -> Fault {
        Fault { kind, node }
    }

    #[test]
    fn every_loss_has_a_name_of_its_own() {
        let all: Vec<_> = Loss::all().collect();
        assert_eq!(all.len(), 15);
        for loss in all {
            assert_eq!(loss.to_string().parse(), Ok(loss));
        }
        assert!("power".parse::<Loss>().unwrap_err().contains("power-follows"));
    }

    /// Any one part may be lost; of two, what those who are left know decides.
    #[test]
    fn who_may_lead_follows_from_who_is_heard() {
        let whole = || Said { voters: Part::ALL.to_vec(), in_sync: true };
        for loss in Loss::all() {
            let lost = Lost(vec![loss.at(Node::A)]);
            assert!(Node::ALL.iter().any(|node| lost.may_lead(*node, &whole())), "{loss}");
        }
        let lost = Lost(vec![fault(Kind::Alone, Node::A)]);
        assert!(!lost.may_lead(Node::A, &whole()) && lost.may_lead(Node::B, &whole()));
        let lost = Lost(vec![fault(Kind::Witness, Node::A), fault(Kind::Link, Node::A)]);
        assert!(!lost.may_lead(Node::A, &whole()) && !lost.may_lead(Node::B, &whole()));
        let alone = Said { voters: vec![Part::Node(Node::B)], in_sync: true };
        assert!(lost.may_lead(Node::B, &alone) && !lost.may_lead(Node::A, &alone));
        assert!(!lost.may_lead(Node::B, &Said { in_sync: false, ..alone }));
    }

    #[test]
    fn a_link_that_two_faults_cut_is_cut_until_both_are_repaired() {
        let (a, b) = (Part::Node(Node::A), Part::Node(Node::B));
        let mut lost = Lost(vec![fault(Kind::Alone, Node::A), fault(Kind::Link, Node::A)]);
        assert!(lost.is_cut(a, Part::Witness) && lost.is_cut(b, a));
        lost.0.remove(0);
        assert!(!lost.is_cut(a, Part::Witness) && lost.is_cut(a, b));
        assert_eq!(lost.unheard(Node::A).collect::<Vec<_>>(), [b]);
    }
}
