//! What the shell tells a node, and what a node tells the shell.

use crate::fence::desk::{Act, Done, OrderId};
use crate::fence::words::{Entry, Outcome, Plea, Want};
use crate::id::{Epoch, NodeId, Path};
use crate::link::frame::Datagram;
use crate::link::suspicion::Verdict;
use crate::monitor::pair::{Reason, Role};
use crate::node::health::{Health, History};
use crate::node::message::Office;
use crate::node::roster::Match;
use crate::node::storage;
use crate::register::acceptor::PersistId;
use crate::register::message::Fenced;
use crate::register::seat::Lost;
use crate::register::store::STORED_LEN;
use crate::register::voters::Set;

/// What the shell tells a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A datagram came.
    Received {
        /// On which network.
        path: Path,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Everything up to this [`Action::Persist`] is durable.
    Persisted(PersistId),
    /// A write or a flush of the voter's state failed. Final.
    PersistFailed,
    /// The fencing device answered [`Action::Fence`].
    FenceAnswered {
        /// About whom.
        fenced: Fenced,
        /// The power is off, and was read back as off.
        confirmed: bool,
    },
    /// The power switch ended a step of [`Action::Power`].
    PowerDone {
        /// Which.
        order: OrderId,
        /// How.
        done: Done,
    },
    /// The operator or the boot profile wants something.
    Command(Command),
    /// The operator says that these voters are lost for good: this node decides without them wherever the
    /// others cannot (X14).
    Force(Lost),
    /// The mirror group answers or wants something.
    Storage(storage::Event),
    /// What the earlier starts of this voter came to, for those who ask how it is.
    History(History),
    /// [`super::machine::Node::deadline`] has passed.
    Timeout,
}

/// What an operator or the boot profile can want of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Run this node's part in an office.
    Start(Office),
    /// Do not, until told otherwise: an activation by a lone master is refused, too.
    Stop(Office),
    /// Have `to` take an office over. Only whoever has it can carry it out.
    Move {
        /// Which office.
        office: Office,
        /// Who has it next.
        to: NodeId,
    },
    /// Have a witness switch or read the power of a node. Its own rule decides (`fence::right`).
    Power {
        /// Whose.
        node: NodeId,
        /// What.
        want: Want,
    },
}

/// What a node asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// To whom.
        to: NodeId,
        /// On which network; `None`: on both.
        path: Option<Path>,
        /// The bytes.
        datagram: Datagram,
    },
    /// Write copy 0 of a register's place and flush it, report [`Event::Persisted`], then write copy 1
    /// (`register::store`). In the order asked for.
    Persist {
        /// Which write.
        id: PersistId,
        /// Which place.
        place: u16,
        /// The bytes.
        bytes: [u8; STORED_LEN],
    },
    /// Make certain that this start of a node cannot act, then report [`Event::FenceAnswered`].
    Fence(Fenced),
    /// Switch on the node, which does not answer: its compartment has no running instance (S1-20).
    PowerOn {
        /// Which.
        node: NodeId,
    },
    /// Have the relay that this witness holds do something, then report [`Event::PowerDone`].
    Power {
        /// Repeated in the report.
        order: OrderId,
        /// Whose power.
        node: NodeId,
        /// What.
        act: Act,
    },
    /// Put on record what this witness was asked and did, in place of an entry with the same number.
    Record(Entry),
    /// This node's role in an office is another. A node that stops being master has already stopped acting:
    /// the services that hang on the role are to be stopped now.
    Role {
        /// Which office.
        office: Office,
        /// Its role from now on.
        role: Role,
        /// Why.
        reason: Reason,
    },
    /// Tell the mirror group of its register, before anything that is asked for later is carried out.
    Storage(storage::Action),
    /// For the event log.
    Note(Note),
}

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A peer is judged otherwise than before.
    Peer {
        /// Which.
        node: NodeId,
        /// What is thought of it now.
        verdict: Verdict,
    },
    /// The voters of an office's register were changed.
    Voters {
        /// Which office.
        office: Office,
        /// Under which epoch.
        epoch: Epoch,
        /// Who decides from now on.
        voters: Set,
    },
    /// Another holder of an office's register became known.
    Holder {
        /// Which office.
        office: Office,
        /// Under which epoch.
        epoch: Epoch,
        /// Who.
        holder: NodeId,
    },
    /// A lone master asked this node to run its instance.
    Activated {
        /// Who asked.
        by: NodeId,
        /// Whether it was started.
        started: bool,
    },
    /// This node asked another to run its instance.
    Activating {
        /// Which.
        node: NodeId,
    },
    /// The configuration of a node compares otherwise with this node's than before (F54).
    Compared {
        /// Which node.
        node: NodeId,
        /// What was found.
        found: Match,
    },
    /// This node asks a witness about the power of another, or that is over.
    Plea {
        /// The witness.
        witness: NodeId,
        /// The plea.
        plea: Plea,
        /// `None`: it begins; else the last that was heard of it.
        ended: Option<Option<Outcome>>,
    },
    /// A witness says how it is: now and then, so it need not be news.
    Health {
        /// Which.
        node: NodeId,
        /// How.
        health: Health,
    },
    /// This voter is silent from now on: its disk failed.
    VoterFailed,
}
