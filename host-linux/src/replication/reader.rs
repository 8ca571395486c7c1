//! What comes in on a stream: opened, checked, put into the pool's memory, and told in order (F36, F39, V5,
//! V16). It is the thread of the stream: it meets the stream, and ends it.

use super::frame::{HEAD_LEN, Head, META_MAX, Said, fits, read};
use super::intake::Intake;
use super::line::Line;
use super::part::{FRONT_LEN, open};
use super::peer::{Inbox, Peer};
use super::seal::{Sealer, TAG_LEN};
use super::tally::End;
use super::words::{Frame, Timing};
use crate::storage::buffers::{Buffer, Pool};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often memory is asked for while there is none.
const ASK: Duration = Duration::from_millis(1);

/// The receiving half of a stream.
pub struct Reader<'a> {
    /// Of whom.
    pub peer: &'a Peer,
    /// The sending half.
    pub line: &'a Arc<Line>,
    /// Opens what comes.
    pub opener: Sealer,
    /// Where payload goes.
    pub pool: &'a Pool,
    /// Where news go.
    pub inbox: &'a Inbox,
    /// How long things take at most.
    pub timing: Timing,
}

impl Reader<'_> {
    /// Meets the stream, reads it to its end, and says why it ended. `answers`: the other end waits to hear
    /// that it began.
    pub fn run(mut self, answers: bool) {
        if self.peer.enter(self.line, answers, self.inbox) {
            let mut intake = Intake::new(self.line, &self.peer.counts, self.timing);
            let mut meta = Vec::with_capacity(META_MAX);
            let why = loop {
                if self.line.is_over() {
                    break End::Left;
                }
                match self.next(&mut intake, &mut meta) {
                    Ok(None) => {}
                    Ok(Some(frame)) => {
                        if !self.peer.deliver(self.line.stream, frame, self.inbox) {
                            break End::Replaced;
                        }
                    }
                    Err(why) => break why,
                }
            };
            self.line.end(why);
            self.peer.leave(self.line.stream, self.inbox);
        }
        self.peer.counts.ended(self.line.ended().unwrap_or(End::Left));
    }

    /// The next frame; `None`: the peer is there.
    fn next(&mut self, intake: &mut Intake<'_>, meta: &mut Vec<u8>) -> Result<Option<Frame>, End> {
        let mut front = [0; FRONT_LEN];
        intake.resume();
        intake.fill(&mut front)?;
        let head: [u8; HEAD_LEN] = open(&self.opener, &front).ok_or(End::Changed)?;
        let head = Head::parse(&head).ok_or(End::Malformed)?;
        meta.resize(head.meta, 0);
        intake.fill(meta)?;
        let mut payload = None;
        if head.blocks != 0 {
            let mut buffer = self.memory(head.blocks, intake)?;
            intake.fill(buffer.bytes_mut())?;
            payload = Some(buffer);
        }
        let mut tag = [0; TAG_LEN];
        intake.fill(&mut tag)?;
        let bytes = payload.as_ref().map_or(&[][..], Buffer::bytes);
        if self.opener.frame(&front, meta, bytes) != tag {
            return Err(End::Changed);
        }
        match read(&head, meta).ok_or(End::Malformed)? {
            // The first frame of the stream was that of the handshake.
            Said::Begun => Err(End::Malformed),
            Said::Alive => Ok(None),
            Said::Frame(frame) => {
                if !fits(bytes, frame.sums()) {
                    return Err(End::Sums);
                }
                Ok(Some(match payload {
                    Some(buffer) => frame.with(buffer.keep().piece()),
                    None => frame,
                }))
            }
        }
    }

    /// Memory for so many blocks. While there is none nothing more is read, and the peer must wait.
    fn memory(&self, blocks: usize, intake: &mut Intake<'_>) -> Result<Buffer, End> {
        let since = Instant::now();
        for asked in 0_usize.. {
            if let Some(buffer) = self.pool.take(blocks) {
                if asked != 0 {
                    intake.resume();
                }
                return Ok(buffer);
            }
            if asked == 0 {
                self.peer.counts.waited();
            }
            if self.line.is_over() {
                return Err(End::Left);
            }
            if self.timing.stall <= since.elapsed() {
                break;
            }
            std::thread::sleep(ASK);
        }
        Err(End::Full)
    }
}
