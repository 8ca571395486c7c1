//! What nodes say to each other inside authenticated frames: postcard, version 1 of `link::hello::SPOKEN`.

use postcard::ser_flavors::Slice;
use serde::{Deserialize, Serialize};

use crate::fence::words::{Plea, Reply};
use crate::link::links::{MESSAGE_MAX, Message};
use crate::monitor::pair::Saying;
use crate::node::health::Health;
use crate::node::roster::Roster;
use crate::register::message::{Answer, Request};

/// A role that nodes can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Office {
    /// The infra instance of the pair: master or slave.
    Infra,
    /// The designated controller of the site.
    Controller,
    /// The mirror group of the pair: primary or secondary.
    Storage,
}

impl Office {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Infra, Self::Controller, Self::Storage];

    /// The operator's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infra => "infra",
            Self::Controller => "controller",
            Self::Storage => "storage",
        }
    }
}

/// What one node tells another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// To a voter.
    Request(Request),
    /// From a voter.
    Answer(Answer),
    /// What the sender does in an office. Repeated with every heartbeat.
    Saying(Office, Saying),
    /// Start your infra instance: the sender is master and alone (S1-20).
    Activate,
    /// You are to be the designated controller: the sender gives it up (S2-03).
    TakeController,
    /// What the sender was told of the site. Repeated now and then (F54).
    Roster(Roster),
    /// To the witness that holds a relay: have a node's power cut, switched on, or read (V20).
    Plea(Plea),
    /// From that witness.
    PleaAnswered(Reply),
    /// From a witness: how it is.
    Health(Health),
    /// You are to take this office: the sender gives it up (S4-11). The controller's has a word of its own.
    Take(Office),
}

/// The bytes of `said`.
#[inline(never)]
pub fn encode(said: &Said) -> Message {
    let mut buffer = [0; MESSAGE_MAX];
    let encoded = postcard::serialize_with_flavor::<_, Slice<'_>, _>(said, Slice::new(&mut buffer));
    let encoded = encoded.map(|bytes| Message::from_slice(bytes));
    match encoded {
        Ok(Ok(message)) => message,
        // The largest message is measured by a test below.
        Ok(Err(_)) | Err(_) => Message::new(),
    }
}

/// Reads a message; `None` when it is none. What does not encode to the same bytes again is refused: postcard
/// itself would let trailing bytes and long integers pass.
#[inline(never)]
pub fn decode(bytes: &[u8]) -> Option<Said> {
    let said: Said = postcard::from_bytes(bytes).ok()?;
    (encode(&said)[..] == *bytes).then_some(said)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::fence::words::{FenceId, Outcome, Refusal, Want};
    use crate::id::{Epoch, NodeId, PairId, RegisterId};
    use crate::monitor::pair::Role;
    use crate::node::settings::Digest;
    use crate::register::ballot::Ballot;
    use crate::register::message::{self, Ask, AskId, Fenced, Lending, Millis, Start};
    use crate::register::record::{PAYLOAD_MAX, Payload, Record};
    use crate::register::voters::{Life, Set, Voter, Voters};

    fn largest() -> Said {
        let set =
            || Set::new((1..=5).map(|n| Voter { node: NodeId(u16::MAX - n), life: Life(u32::MAX) })).unwrap();
        let record = Record {
            epoch: Epoch(u64::MAX),
            holder: Some(NodeId(u16::MAX)),
            voters: Voters { current: set(), previous: Some(set()) },
            payload: Payload::from_slice(&[0xff; PAYLOAD_MAX]).unwrap(),
        };
        let body = Ask::Accept {
            ballot: Ballot::new(u64::MAX, NodeId(u16::MAX)),
            record,
            lease: Some(Lending { length: Millis(u32::MAX), start: Start(u64::MAX) }),
            fenced: Some(Fenced { node: NodeId(u16::MAX), start: Start(u64::MAX) }),
        };
        Said::Request(Request { register: RegisterId(u16::MAX), ask: AskId(u32::MAX), body })
    }

    #[test]
    fn the_largest_message_fits_a_datagram() {
        let bytes = encode(&largest());
        assert!(!bytes.is_empty() && bytes.len() <= 300, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes), Some(largest()));
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn version_1_never_changes() {
        let saying = Saying { role: Role::Master, epoch: Epoch(300) };
        let renew = Ask::Renew(Lending { length: Millis(600), start: Start(5) });
        let request = |body| Said::Request(Request { register: RegisterId(1), ask: AskId(2), body });
        let answer =
            |body| Said::Answer(Answer { register: RegisterId(1), ask: AskId(2), life: Life(3), body });
        let named = |nodes: &[u16]| nodes.iter().map(|node| NodeId(*node)).collect();
        let (infra, controller) = (named(&[1, 300]), named(&[2]));
        let roster = Roster { digest: Digest([7; 16]), pair: PairId(6), infra, controller };
        let said = Said::Roster(roster);
        let mut bytes = std::vec![5];
        bytes.extend([7; 16]);
        bytes.extend([6, 2, 1, 0xac, 2, 1, 2]);
        assert_eq!((encode(&said).to_vec(), decode(&bytes)), (bytes.clone(), Some(said)));
        for (said, bytes) in [
            (Said::Saying(Office::Infra, saying), &[2, 0, 4, 0xac, 2][..]),
            (Said::Activate, &[3]),
            (Said::TakeController, &[4]),
            (Said::Saying(Office::Storage, saying), &[2, 2, 4, 0xac, 2]),
            (Said::Take(Office::Storage), &[9, 2]),
            (request(Ask::Read), &[0, 1, 2, 0]),
            (request(renew), &[0, 1, 2, 3, 0xd8, 4, 5]),
            (request(Ask::Release { epoch: Epoch(9) }), &[0, 1, 2, 4, 9]),
            (answer(message::Reply::Accepted), &[1, 1, 2, 3, 2]),
            (answer(message::Reply::Granted { epoch: Epoch(7) }), &[1, 1, 2, 3, 3, 7]),
        ] {
            assert_eq!(encode(&said), bytes, "{said:?}");
            assert_eq!(decode(bytes), Some(said));
        }
    }

    /// The messages of fencing through a witness. In the field: add a version; do not edit the bytes.
    #[test]
    fn pleas_of_version_1_never_change() {
        let (node, register, epoch) = (NodeId(1), RegisterId(3), Epoch(300));
        let plea = |id, start, want| Plea { id: FenceId(id), node, start, register, epoch, want };
        let reply = |outcome| Reply { id: FenceId(7), outcome };
        let heard = Outcome::Refused(Refusal::Heard);
        for (said, bytes) in [
            (Said::Plea(plea(7, Some(Start(200)), Want::Off)), &[6, 7, 1, 1, 0xc8, 1, 3, 0xac, 2, 0][..]),
            (Said::Plea(plea(200, None, Want::Look)), &[6, 0xc8, 1, 1, 0, 3, 0xac, 2, 2]),
            (Said::PleaAnswered(reply(Outcome::UnderWay)), &[7, 7, 0]),
            (Said::PleaAnswered(reply(Outcome::Off)), &[7, 7, 1]),
            (Said::PleaAnswered(reply(Outcome::Failed)), &[7, 7, 3]),
            (Said::PleaAnswered(reply(heard)), &[7, 7, 4, 7]),
        ] {
            assert_eq!(encode(&said), bytes, "{said:?}");
            assert_eq!(decode(bytes), Some(said));
        }
    }

    /// A record held by node 0 would be another one on the disk: `None` (V10, found by the fuzzer).
    #[test]
    fn a_record_held_by_node_0_is_refused() {
        let Said::Request(mut request) = largest() else { panic!("the largest is a request") };
        if let Ask::Accept { record, .. } = &mut request.body {
            record.holder = Some(NodeId(0));
        }
        assert_eq!(decode(&encode(&Said::Request(request))), None);
    }

    /// V39: any bytes give a message or nothing, and one message has one form.
    #[test]
    fn any_bytes_are_read_or_refused() {
        let (good, mut chance) = (encode(&largest()).to_vec(), 88_172_645_463_325_252_u64);
        let mut next = || {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance
        };
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=next() % 4 {
                let at = usize::try_from(next()).unwrap() % bytes.len();
                bytes[at] = u8::try_from(next() % 256).unwrap();
            }
            bytes.truncate(usize::try_from(next()).unwrap() % (bytes.len() + 1));
            if let Some(said) = decode(&bytes) {
                assert_eq!(encode(&said).to_vec(), bytes);
            }
        }
        assert_eq!(decode(&[3, 0]), None, "trailing bytes");
        let _: Vec<u8> = good;
    }
}
