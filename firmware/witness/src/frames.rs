//! A ring of log frames: a frame is in it whole or not at all, and what was lost is counted.

/// Up to `BYTES` of frames that wait to be sent.
#[derive(Debug)]
pub struct Frames<const BYTES: usize> {
    ring: [u8; BYTES],
    /// The next byte to send. Invariant: below `BYTES`.
    first: usize,
    /// Bytes of whole frames. Invariant: at most `BYTES`.
    whole: usize,
    /// Bytes of the frame being written, after the whole ones; `None` when it found no room.
    begun: Option<usize>,
    lost: u32,
}

impl<const BYTES: usize> Default for Frames<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> Frames<BYTES> {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self { ring: [0; BYTES], first: 0, whole: 0, begun: None, lost: 0 }
    }

    /// A frame begins. One that was not ended is forgotten.
    pub const fn begin(&mut self) {
        self.begun = Some(0);
    }

    /// More of the frame.
    pub fn write(&mut self, bytes: &[u8]) {
        let Some(begun) = self.begun else { return };
        let used = self.whole.saturating_add(begun);
        if BYTES.saturating_sub(used) < bytes.len() {
            self.begun = None;
            return;
        }
        let start = self.wrap(self.first.saturating_add(used));
        let places = (start..BYTES).chain(0..start);
        for (place, byte) in places.zip(bytes) {
            if let Some(place) = self.ring.get_mut(place) {
                *place = *byte;
            }
        }
        self.begun = Some(begun.saturating_add(bytes.len()));
    }

    /// The frame is complete: it will be sent, or was lost.
    pub const fn end(&mut self) {
        match self.begun.take() {
            Some(bytes) => self.whole = self.whole.saturating_add(bytes),
            None => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Hands bytes of whole frames to `send`, until it takes no more.
    pub fn drain(&mut self, mut send: impl FnMut(u8) -> bool) {
        while self.whole != 0 {
            let Some(byte) = self.ring.get(self.first) else { return };
            if !send(*byte) {
                return;
            }
            self.first = self.wrap(self.first.saturating_add(1));
            self.whole = self.whole.saturating_sub(1);
        }
    }

    /// Frames lost since this was asked last.
    pub const fn take_lost(&mut self) -> u32 {
        core::mem::replace(&mut self.lost, 0)
    }

    const fn wrap(&self, place: usize) -> usize {
        if place < BYTES { place } else { place.saturating_sub(BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn frame(frames: &mut Frames<8>, parts: &[&[u8]]) {
        frames.begin();
        parts.iter().for_each(|part| frames.write(part));
        frames.end();
    }

    fn sent(frames: &mut Frames<8>, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.drain(|byte| {
            let takes = bytes.len() < most;
            if takes {
                bytes.push(byte);
            }
            takes
        });
        bytes
    }

    #[test]
    fn a_frame_without_room_is_lost_whole_and_counted() {
        let mut frames = Frames::new();
        frame(&mut frames, &[&[1, 2], &[3]]);
        frame(&mut frames, &[&[4, 5, 6, 7], &[8, 9]]);
        frame(&mut frames, &[&[10, 11, 12, 13, 14]]);
        assert_eq!((sent(&mut frames, 99), frames.take_lost()), (vec![1, 2, 3, 10, 11, 12, 13, 14], 1));
        assert_eq!((sent(&mut frames, 99), frames.take_lost()), (vec![], 0));
    }

    /// Against a queue that knows no ring.
    #[test]
    fn what_went_in_comes_out_in_order() {
        let (mut frames, mut model, mut chance) = (Frames::new(), VecDeque::new(), 1_u32);
        let (mut lost, mut kept) = (0, 0);
        for number in 0..20_000_u32 {
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bytes: Vec<u8> = (0..chance >> 28).map(|byte| (number + byte).to_le_bytes()[0]).collect();
            frame(&mut frames, &[&bytes]);
            if model.len() + bytes.len() <= 8 {
                model.extend(bytes);
                kept += 1;
            } else {
                lost += 1;
            }
            let most = usize::try_from(chance >> 10 & 7).unwrap();
            let expected: Vec<u8> = model.drain(..most.min(model.len())).collect();
            assert_eq!(sent(&mut frames, most), expected);
        }
        assert_eq!(frames.take_lost(), lost);
        assert!(1_000 < lost && 1_000 < kept);
    }
}
