//! The thread that reads one connection: requests in, judged, admitted, submitted. It waits only for the
//! client, or for room.

use super::batch::Slot;
use super::export::{Answer, Asker, Errno, Export, Failed, Reply};
use super::handshake::Session;
use super::line::{Admission, End, Line};
use super::transmission::{Form, Verdict, Work, judge};
use super::wire::request::{HEADER, Header};
use std::sync::Arc;

/// Read at once: several small writes with their data.
const BUFFER: usize = 64 << 10;

/// Reads what a client sends.
struct Inbox {
    line: Arc<Line>,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

/// Ends the connection when nobody reads it any more, for whatever reason.
struct Ends<'a>(&'a Line);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end(End::Unanswered);
    }
}

/// No more comes.
struct Over;

impl Inbox {
    fn new(line: Arc<Line>, rest: &[u8]) -> Self {
        let mut buffer = rest.to_vec();
        let to = buffer.len();
        buffer.resize(BUFFER.max(to), 0);
        Self { line, buffer, from: 0, to }
    }

    fn here(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }

    /// Waits for something when nothing is here.
    fn fill(&mut self) -> Result<(), Over> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            let room = self.buffer.as_mut_slice();
            // The socket waits: `None` would be a time limit that nobody set.
            self.to = self.line.socket().receive(room).ok().flatten().ok_or(Over)?;
        }
        Ok(())
    }

    /// Fills `bytes`. Once begun, they must come to their end in time; `begun` says they already are.
    fn exactly(&mut self, bytes: &mut [u8], begun: bool, slot: Option<Slot>) -> Result<(), Over> {
        let mut done = 0;
        let mut watched = false;
        while let Some(left) = bytes.get_mut(done..).filter(|left| !left.is_empty()) {
            if self.from == self.to && !watched && (begun || done != 0) {
                watched = true;
                self.line.receiving(u64::try_from(left.len()).unwrap_or(u64::MAX));
            }
            let count = if self.from == self.to && self.buffer.len() <= left.len() {
                // Large payloads go where they belong, not through the buffer.
                self.line.socket().receive(left).ok().flatten().ok_or(Over)?
            } else {
                self.fill()?;
                let count = left.len().min(self.here().len());
                let (target, _) = left.split_at_mut(count);
                target.copy_from_slice(self.here().get(..count).ok_or(Over)?);
                self.from = self.from.saturating_add(count);
                count
            };
            done = done.saturating_add(count);
        }
        if watched {
            self.line.received(slot);
        }
        Ok(())
    }

    /// Throws `count` bytes away.
    fn skip(&mut self, count: u32) -> Result<(), Over> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let mut sink = [0; 4096];
        // One deadline for all of it: the payload of a refused write is no way to stay.
        if self.here().len() < left {
            self.line.receiving(u64::from(count));
        }
        while let Some(part) = sink.get_mut(..left.min(4096)).filter(|part| !part.is_empty()) {
            left = left.saturating_sub(part.len());
            self.exactly(part, false, None)?;
        }
        self.line.received(None);
        Ok(())
    }
}

/// Serves a connection until it ends. `rest` is what came with the handshake.
pub fn serve(line: &Arc<Line>, session: &Session, export: &Arc<dyn Export>, rest: &[u8]) {
    // Also when the storage panics: its client must not wait for ever.
    let _end = Ends(line);
    let mut inbox = Inbox::new(Arc::clone(line), rest);
    let why = read(&mut inbox, session, export);
    if why == End::Left {
        line.drain();
    }
    line.end(why);
}

fn read(inbox: &mut Inbox, session: &Session, export: &Arc<dyn Export>) -> End {
    loop {
        let mut header = [0; HEADER];
        if inbox.exactly(&mut header, false, None).is_err() {
            inbox.line.leave();
            return End::Left;
        }
        let Ok(header) = Header::parse(&header) else { return End::Nonsense };
        let gone = match judge(&header, session) {
            Verdict::Leave => return End::Left,
            Verdict::TooLong => return End::Nonsense,
            Verdict::Submit(work) => submit(inbox, work, export),
            Verdict::Answer { answer, form, payload } => {
                inbox.skip(payload).and_then(|()| at_once(inbox, form, answer))
            }
        };
        if gone.is_err() {
            inbox.line.leave();
            return End::Left;
        }
    }
}

fn at_once(inbox: &Inbox, form: Form, answer: Result<(), Failed>) -> Result<(), Over> {
    match inbox.line.admit(0) {
        Admission::Go(slot) | Admission::Farewell(slot) => {
            inbox.line.answer(slot, form.frames(answer));
            Ok(())
        }
        Admission::Over => Err(Over),
    }
}

fn submit(inbox: &mut Inbox, work: Work, export: &Arc<dyn Export>) -> Result<(), Over> {
    let (slot, farewell) = match inbox.line.admit(work.bytes()) {
        Admission::Go(slot) => (slot, false),
        Admission::Farewell(slot) => (slot, true),
        Admission::Over => return Err(Over),
    };
    let mut data = vec![0; usize::try_from(work.payload()).map_err(|_| Over)?];
    if inbox.exactly(&mut data, true, Some(slot)).is_err() {
        // A request without its end is nobody's: its place goes back unanswered.
        inbox.line.give_up(slot);
        return Err(Over);
    }
    if farewell {
        let gone = Failed::new(Errno::Shutdown, "this export goes away");
        inbox.line.answer(slot, work.form.frames(Err(gone)));
        return Ok(());
    }
    if inbox.line.stood_still() {
        inbox.line.give_up(slot);
        return Err(Over);
    }
    let client = Client { line: Arc::clone(&inbox.line), slot, work };
    export.submit(work.request(data), Reply::to(client));
    Ok(())
}

/// The client, as it waits for one answer.
struct Client {
    line: Arc<Line>,
    slot: Slot,
    work: Work,
}

impl Asker for Client {
    fn hear(self: Box<Self>, answer: Answer) {
        self.line.answer(self.slot, self.work.frames(answer));
    }

    fn listens(&self) -> bool {
        self.line.listens()
    }
}
