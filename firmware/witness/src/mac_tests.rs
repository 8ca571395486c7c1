//! The MAC against queues that hold what they should, and what they should not.

use std::collections::VecDeque;

use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};

use super::*;

#[derive(Debug, Default)]
struct Words {
    received: VecDeque<Vec<u32>>,
    sent: Vec<Vec<u32>>,
    writing: Vec<u32>,
    is_stuck: bool,
}

impl Words {
    /// A frame as the MAC puts it into the queue, with `length` in front.
    fn put(&mut self, frame: &[u8], length: usize) {
        let mut bytes = u16::try_from(length).unwrap().to_le_bytes().to_vec();
        bytes.extend(frame);
        bytes.extend([0xc5; 4]);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let words = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        self.received.push_back(words.collect());
    }
}

impl Queues for Words {
    fn has_frame(&mut self) -> bool {
        !self.received.is_empty()
    }

    fn pop(&mut self) -> u32 {
        let frame = self.received.front_mut().expect("read past the last frame");
        let word = frame.remove(0);
        if frame.is_empty() {
            self.received.pop_front();
        }
        word
    }

    fn forget(&mut self) {
        self.received.clear();
    }

    fn is_free(&mut self) -> bool {
        !self.is_stuck
    }

    fn push(&mut self, word: u32) {
        self.writing.push(word);
    }

    fn send(&mut self) {
        self.sent.push(std::mem::take(&mut self.writing));
    }
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn receive(mac: &mut Mac<Words>) -> Option<Vec<u8>> {
    mac.receive(Instant::ZERO).map(|(frame, _)| frame.consume(<[u8]>::to_vec))
}

/// Every length there can be: kept whole or dropped whole, and the next frame is in step.
#[test]
fn frames_of_every_length_leave_the_queue_in_step() {
    let mut mac = Mac::new(Words::default());
    for length in 0..=QUEUE - AROUND {
        mac.queues.put(&frame(length), length + AROUND);
        mac.queues.put(&frame(60), 60 + AROUND);
        let expected = (FRAME_MIN..=FRAME_MAX).contains(&length).then(|| frame(length));
        assert_eq!(receive(&mut mac), expected, "{length} bytes");
        assert_eq!(receive(&mut mac), Some(frame(60)), "after {length} bytes");
        assert!(!mac.has_frame());
    }
    let Counters { runts, giants, out_of_step, .. } = mac.counters();
    let all = (usize::try_from(runts).unwrap(), usize::try_from(giants).unwrap(), out_of_step);
    assert_eq!(all, (FRAME_MIN, QUEUE - AROUND - FRAME_MAX, 0));
}

#[test]
fn a_length_that_cannot_be_empties_the_queue() {
    for length in [0, 5, QUEUE + 1, 0xffff] {
        let mut mac = Mac::new(Words::default());
        mac.queues.put(&frame(60), length);
        mac.queues.put(&frame(60), 60 + AROUND);
        assert_eq!((receive(&mut mac), mac.has_frame()), (None, false), "{length}");
        assert_eq!(mac.counters().out_of_step, 1);
    }
}

#[test]
fn a_frame_is_sent_with_the_length_of_its_body() {
    for length in [14, 15, 42, FRAME_MAX] {
        let mut mac = Mac::new(Words::default());
        let token = mac.transmit(Instant::ZERO).unwrap();
        token.consume(length, |bytes| bytes.copy_from_slice(&frame(length)));
        let bytes: Vec<u8> = mac.queues.sent[0].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])), length - 14);
        assert_eq!(bytes[2..2 + length], frame(length));
        assert_eq!(bytes.len(), (length + 2).next_multiple_of(4));
    }
}

#[test]
fn a_frame_that_cannot_leave_is_counted() {
    let mut mac = Mac::new(Words { is_stuck: true, ..Words::default() });
    mac.transmit(Instant::ZERO).unwrap().consume(60, |bytes| bytes.fill(1));
    assert_eq!((mac.counters().stuck, mac.counters().sent), (1, 0));
    assert!(mac.queues.sent.is_empty() && mac.queues.writing.is_empty());
}
