//! What the streams saw since the start, for whoever asks (F36; rule: nothing is lost without a number).

use super::hello::Refusal;
use super::line::lock;
use bulkhead_core::id::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// The peer closed it, or its machine did.
    Left,
    /// The network, or this machine, failed it.
    Failed,
    /// Nothing came any more.
    Silent,
    /// A frame was begun, and did not come to its end.
    Slow,
    /// A tag does not fit.
    Changed,
    /// The tag fits, and nothing else does.
    Malformed,
    /// A block does not have its sum.
    Sums,
    /// The peer did not take what waited for it.
    Deaf,
    /// There was no memory for what it sent.
    Full,
    /// The peer began a new one.
    Replaced,
    /// This holder stopped.
    Stopped,
    /// This holder made a frame that contradicts itself.
    Ours,
    /// The peer said more than it was asked, or than anybody has to say.
    Babbled,
    /// The peer owed an answer.
    Unanswered,
}

impl End {
    /// In the operator's words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Left => "the peer closed the stream",
            Self::Failed => "the network failed the stream",
            Self::Silent => "nothing was heard of the peer",
            Self::Slow => "a frame did not come to its end in time",
            Self::Changed => "a frame was changed, moved or repeated on the way",
            Self::Malformed => "the peer sent a frame that makes no sense here",
            Self::Sums => "a block from the peer does not have its checksum",
            Self::Deaf => "the peer did not take what waited for it",
            Self::Full => "this node had no memory for what the peer sent",
            Self::Replaced => "the peer began a new stream",
            Self::Stopped => "this node ended its streams",
            Self::Ours => "this node made a frame that contradicts itself",
            Self::Babbled => "the peer said more than there is to be said",
            Self::Unanswered => "the peer owed an answer for too long",
        }
    }
}

/// What the streams of one peer saw.
#[derive(Debug, Default)]
pub struct Counts {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    met: AtomicU64,
    waits: AtomicU64,
    endings: Mutex<Endings>,
}

#[derive(Debug, Default)]
struct Endings {
    ends: BTreeMap<End, u64>,
    last: Option<String>,
    /// What somebody must change before there is a stream; gone when there was one.
    lack: Option<String>,
}

impl Counts {
    /// Bytes went out.
    pub fn sent(&self, bytes: usize) {
        add(&self.bytes_out, bytes);
    }

    /// Bytes came in.
    pub fn received(&self, bytes: usize) {
        add(&self.bytes_in, bytes);
    }

    /// A frame came in, whole.
    pub fn frame(&self) {
        add(&self.frames_in, 1);
    }

    /// A stream began.
    pub fn met(&self) {
        add(&self.met, 1);
        lock(&self.endings).lack = None;
    }

    /// A frame had to wait for memory here.
    pub fn waited(&self) {
        add(&self.waits, 1);
    }

    /// A stream ended.
    pub fn ended(&self, why: End) {
        let mut endings = lock(&self.endings);
        let count = endings.ends.entry(why).or_default();
        *count = count.saturating_add(1);
        endings.last = Some(why.text().into());
    }

    /// No stream could be had.
    pub fn failed(&self, why: String) {
        lock(&self.endings).last = Some(why);
    }

    /// No stream could be had, and `is_lasting`: nor will it be until somebody changes something.
    pub fn refused(&self, why: String, is_lasting: bool) {
        let mut endings = lock(&self.endings);
        if is_lasting {
            endings.lack = Some(why.clone());
        }
        endings.last = Some(why);
    }

    /// All of it; of the stream of now these words know nothing.
    #[must_use]
    pub fn view(&self, node: NodeId) -> PeerView {
        let endings = lock(&self.endings);
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PeerView {
            node,
            network: None,
            encrypted: None,
            up_millis: None,
            queued: 0,
            bytes_in: number(&self.bytes_in),
            bytes_out: number(&self.bytes_out),
            frames_in: number(&self.frames_in),
            waits: number(&self.waits),
            met: number(&self.met),
            ends: endings.ends.clone(),
            last_error: endings.last.clone(),
            lack: endings.lack.clone(),
        }
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// One peer, as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerView {
    /// Which node.
    pub node: NodeId,
    /// By which network there is a stream now, 1 or 2.
    pub network: Option<u8>,
    /// Whether that is encrypted.
    pub encrypted: Option<bool>,
    /// For how long.
    pub up_millis: Option<u64>,
    /// Bytes that wait for it.
    pub queued: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames that waited for memory here.
    pub waits: u64,
    /// Streams that began.
    pub met: u64,
    /// Why streams ended, how often.
    pub ends: BTreeMap<End, u64>,
    /// Why the last one ended, or the last could not be had.
    pub last_error: Option<String>,
    /// Why there is none until somebody changes something.
    pub lack: Option<String>,
}

/// One network, as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkView {
    /// Where this node listens, or would.
    pub address: SocketAddr,
    /// Why it does not.
    pub error: Option<String>,
}

/// The streams of one holder, as the status shows them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Both networks, of a node that others dial.
    pub networks: Vec<NetworkView>,
    /// All peers.
    pub peers: Vec<PeerView>,
    /// Connections that did not become streams.
    pub refused: BTreeMap<Refusal, u64>,
    /// From where the last of them came, and why.
    pub last_refused: Option<String>,
}
