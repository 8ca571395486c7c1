//! Any bytes as what nodes say to each other and as what a voter's disk holds: nothing panics, what parses
//! prints as it was, and a voter that was asked anything answers from what is durable only (V10, V39, F5,
//! F9). Shared by test and fuzzer.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_core::id::{NodeId, SiteId};
use bulkhead_core::node::message::{Said, decode, encode};
use bulkhead_core::register::acceptor::{Acceptor, Action, Event, PersistId, Settings};
use bulkhead_core::register::message::Reply;
use bulkhead_core::register::store::{Fault, Owner, STORED_LEN, Stored, newest};
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::{Drift, Instant};

/// Whose disk it is.
pub const OWNER: Owner = Owner { site: SiteId([9; 16]), node: NodeId(1), life: Life(7) };
/// Questions of one history.
const QUESTIONS_MAX: usize = 64;

/// Messages, each behind a byte that is its length, asked of a voter; a length of 0 makes its writes
/// durable, as a shell would.
pub fn message(bytes: &[u8]) {
    let drift = Drift::from_ppm(10_000).unwrap();
    let settings = Settings { life: OWNER.life, lease_max: Duration::from_millis(600), drift };
    let mut voter = <Acceptor<2>>::new(Instant::ZERO, settings, []);
    let (mut now, mut rest) = (Instant::ZERO, bytes);
    let (mut asked, mut durable) = (PersistId(0), PersistId(0));
    // The highest attempt that the disk holds, of each register.
    let (mut written, mut promised) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..QUESTIONS_MAX {
        let Some((len, after)) = rest.split_first() else { return };
        let len = usize::from(*len).min(after.len());
        let (body, after) = after.split_at(len);
        (now, rest) = (now.after(Duration::from_millis(50)), after);
        let event = if len == 0 {
            durable = asked;
            promised.clone_from(&written);
            Event::Persisted(durable)
        } else {
            let Some(said) = decode(body) else { continue };
            assert_eq!(encode(&said)[..], *body, "printed as it was");
            let Said::Request(request) = said else { continue };
            Event::Asked { from: NodeId(2), request }
        };
        for action in voter.step(now, event) {
            match action {
                Action::Persist { id, place, stored } => {
                    assert!(asked < id && place < 2, "writes count up, within the table");
                    asked = id;
                    written.insert(stored.register, stored.promised);
                    let bytes = stored.encode(&OWNER);
                    assert_eq!(Stored::parse(&bytes, &OWNER), Ok(stored));
                }
                Action::Answer { answer, .. } => {
                    let held = promised.get(&answer.register);
                    if matches!(answer.body, Reply::Promised { .. } | Reply::Accepted) {
                        assert!(durable == asked || held.is_some(), "an answer before the disk: {answer:?}");
                    }
                    assert!(decode(&encode(&Said::Answer(answer))).is_some());
                }
            }
        }
    }
}

/// Two copies of a place, as found and with good checksums.
pub fn votes(bytes: &[u8]) {
    let (one, two) = bytes.split_at(bytes.len().min(STORED_LEN));
    for mend in [false, true] {
        let sectors = [one, two].map(|bytes| super::parsers::sector(bytes, mend));
        for sector in &sectors {
            if let Ok(owner) = Owner::parse(sector) {
                assert_eq!(owner.encode(), *sector);
            }
        }
        let copies = sectors.each_ref().map(|sector| Stored::parse(sector, &OWNER));
        for (copy, sector) in copies.iter().zip(&sectors) {
            if let Ok(stored) = copy {
                assert_eq!(stored.encode(&OWNER), *sector);
            }
        }
        let seqs = copies.each_ref().map(|copy| copy.as_ref().map_or(0, |stored| stored.seq));
        let refused =
            copies.iter().any(|copy| matches!(copy, Err(Fault::NewerFormat { .. } | Fault::Foreign)));
        match newest(copies) {
            Ok(stored) => assert!(stored.seq == seqs[0].max(seqs[1]) && !refused),
            Err(Fault::Blank | Fault::Damaged | Fault::Foreign | Fault::NewerFormat { .. }) => {}
        }
    }
}
