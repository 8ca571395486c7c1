//! Any bytes as what a witness on a microcontroller reads: its card, and the lines of its power strip (V20,
//! V39, F28, F54).

use bulkhead_core::fence::strip::words::{Answer, Ear, LINE_LEN, Request};
use bulkhead_core::provision::records::Record;
use bulkhead_core::provision::{Head, PEERS_PER_BLOCK, encode_peers, parse_peers};

use super::parsers::sector;
use super::votes::OWNER;

/// A head, or a block of peers.
pub fn card(bytes: &[u8]) {
    for mend in [false, true] {
        let sector = sector(bytes, mend);
        if let Ok(head) = Head::parse(&sector) {
            assert!(head.seq != 0 && 0 < head.peer_blocks());
        }
        let seq = u64::from_le_bytes(sector[8..16].try_into().unwrap());
        let mut peers = Vec::new();
        for count in 0..=PEERS_PER_BLOCK {
            peers.clear();
            if parse_peers(&sector, seq, count, |peer| peers.push(peer)).is_err() {
                break;
            }
            let (mut again, bytes) = (Vec::new(), encode_peers(seq, &peers));
            assert_eq!(parse_peers(&bytes, seq, count, |peer| again.push(peer)), Ok(()));
            assert_eq!(again, peers);
        }
    }
}

/// A record of a fence.
pub fn record(bytes: &[u8]) {
    for mend in [false, true] {
        let sector = sector(bytes, mend);
        if let Ok(record) = Record::parse(&sector, &OWNER) {
            assert_eq!(record.encode(&OWNER), sector);
        }
    }
}

/// What comes over the line of a power strip, from either end.
pub fn strip(bytes: &[u8]) {
    let mut ear = Ear::new();
    for line in bytes.iter().filter_map(|byte| ear.hear(*byte)) {
        assert!(line.len() <= LINE_LEN);
        if let Ok(answer) = Answer::parse(&line) {
            assert_eq!(answer.encode(), line[..]);
        }
        if let Ok(request) = Request::parse(&line) {
            assert_eq!(request.encode(), line[..]);
        }
    }
}
