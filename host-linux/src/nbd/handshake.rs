//! One client's way from the first byte to an export: bytes in, bytes out, no socket and no clock. Bounded by
//! [`OPTION_MAX`], [`OPTIONS_MAX`] and [`OUTPUT_MAX`], whatever the client sends (F42, I11).

use super::encryption::Encryption;
use super::export::Geometry;
use super::wire::context::{Chosen, Context};
use super::wire::number::{answer, handshake, info, option};
use super::wire::option::{Ask, Contexts, HEADER, Header, NAME_MAX, OPTION_MAX, Refused, Wanted};
use super::wire::option_reply as say;
use super::wire::take::Take;

/// Options a client may ask. `qemu-nbd --list` asks three per export.
pub const OPTIONS_MAX: u32 = 4096;
/// No option is looked at while this much waits to be sent.
pub const OUTPUT_MAX: usize = 64 << 10;
/// A longer option is not even skipped.
const SKIP_MAX: u32 = 1 << 20;

/// What a client may choose from.
pub trait Catalogue {
    /// The right to use an export; given back when dropped.
    type Ticket;
    /// Name and description of every export.
    fn list(&self) -> Vec<(String, String)>;
    /// The export `name`; the empty name is the default.
    fn look(&self, name: &str) -> Option<Entry>;
    /// Lets one more client use the export that is called `canonical`.
    ///
    /// # Errors
    ///
    /// It may not, and why.
    fn admit(&self, canonical: &str) -> Result<Self::Ticket, Denied>;
    /// Whether its connection can, or must, be encrypted.
    fn encryption(&self) -> Encryption;
}

/// An export, as clients choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called.
    pub canonical: String,
    /// A line for people; may be empty.
    pub description: String,
    /// What it looks like.
    pub geometry: Geometry,
}

/// Why a client may not use an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is gone.
    Gone,
    /// There are too many clients already.
    Full,
    /// What an earlier connection of the same session asked is still under way.
    Busy,
}

/// How a client entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it was told about the export.
    pub geometry: Geometry,
    /// Reads are answered in chunks.
    pub structured: bool,
    /// In what block status is told.
    pub contexts: Chosen,
}

/// Where the client is.
#[derive(Debug)]
pub enum Progress<T> {
    /// It has more to say.
    Stay,
    /// It has taken an export. What it sent beyond is in [`Handshake::rest`].
    Enter(Session, T),
    /// Once it was told so, everything is encrypted: then [`Handshake::secured`] goes on.
    Secure,
    /// Nothing more is to be read; what waits to be sent may still be sent.
    Leave,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The client has not answered the greeting.
    Flags,
    /// It asks options.
    Options,
    /// It sends an option that is too long: so many bytes are to come.
    Skipping(u32),
    /// It may begin to encrypt, and has not.
    Securing,
    /// It is gone, or must go.
    Over,
}

/// One client's handshake.
#[derive(Debug)]
pub struct Handshake {
    stage: Stage,
    /// Invariant: at most an option with its header, and what came with its end.
    input: Vec<u8>,
    output: Vec<u8>,
    asked: u32,
    zeroes: bool,
    secure: bool,
    structured: bool,
    /// What was chosen, and the canonical name of the export for which.
    contexts: Option<(String, Chosen)>,
}

impl Default for Handshake {
    fn default() -> Self {
        let mut output = Vec::new();
        say::greet(&mut output);
        Self {
            stage: Stage::Flags,
            input: Vec::new(),
            output,
            asked: 0,
            zeroes: true,
            secure: false,
            structured: false,
            contexts: None,
        }
    }
}

impl Handshake {
    /// Takes bytes from the client. Call it with none after output was sent: an answer may have waited.
    pub fn receive<C: Catalogue>(&mut self, bytes: &[u8], catalogue: &C) -> Progress<C::Ticket> {
        self.input.extend_from_slice(bytes);
        loop {
            if OUTPUT_MAX <= self.output.len() {
                return Progress::Stay;
            }
            match self.stage {
                Stage::Over => return Progress::Leave,
                // What comes here was sent in the clear, by whoever sits between: it is no part of what the
                // client says encrypted (as in CVE-2021-3716).
                Stage::Securing if self.input.is_empty() => return Progress::Secure,
                Stage::Securing => return self.leave(),
                Stage::Flags => {
                    let Some(flags) = self.take::<4>().map(u32::from_be_bytes) else { return Progress::Stay };
                    self.greeted(flags);
                }
                Stage::Skipping(left) => {
                    let here = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.input.drain(..here);
                    let left = left.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX));
                    self.stage = if left == 0 { Stage::Options } else { Stage::Skipping(left) };
                    if left != 0 {
                        return Progress::Stay;
                    }
                }
                Stage::Options => match self.option(catalogue) {
                    Some(Progress::Stay) => {}
                    Some(done) => return done,
                    None => return Progress::Stay,
                },
            }
        }
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many bytes of it were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// Its connection is encrypted from now on: what it said before counts no more.
    pub fn secured(&mut self) {
        self.stage = Stage::Options;
        (self.secure, self.structured, self.contexts) = (true, false, None);
    }

    /// What the client sent beyond its handshake.
    #[must_use]
    pub fn rest(self) -> Vec<u8> {
        self.input
    }

    fn greeted(&mut self, flags: u32) {
        let known = u32::from(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES);
        self.zeroes = flags & u32::from(handshake::NO_ZEROES) == 0;
        self.stage = if flags & !known == 0 { Stage::Options } else { Stage::Over };
    }

    /// The next option, if it is here whole.
    fn option<C: Catalogue>(&mut self, catalogue: &C) -> Option<Progress<C::Ticket>> {
        let header = self.input.first_chunk::<HEADER>()?;
        let Ok(Header { option, length }) = Header::parse(header) else { return Some(self.leave()) };
        self.asked = self.asked.saturating_add(1);
        let whole = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(HEADER);
        if OPTION_MAX < whole {
            self.asked = self.asked.saturating_add(1);
            self.input.drain(..HEADER);
            self.stage = Stage::Skipping(length);
            // `EXPORT_NAME` cannot be refused in words.
            if SKIP_MAX < length || option == option::EXPORT_NAME {
                return Some(self.leave());
            }
            self.refuse(option, answer::TOO_BIG, "this option is too long");
            return Some(Progress::Stay);
        }
        if self.input.len() < whole {
            self.asked = self.asked.saturating_sub(1);
            return None;
        }
        if OPTIONS_MAX < self.asked {
            return Some(self.leave());
        }
        let data: Vec<u8> = self.input.drain(..whole).skip(HEADER).collect();
        Some(self.answer(option, Ask::parse(option, &data), catalogue))
    }

    fn answer<C: Catalogue>(
        &mut self,
        option: u32,
        ask: Result<Ask<'_>, Refused>,
        catalogue: &C,
    ) -> Progress<C::Ticket> {
        let encryption = catalogue.encryption();
        if encryption == Encryption::Required && !self.secure {
            match ask {
                Ok(Ask::Abort | Ask::StartTls) => {}
                Ok(_) | Err(_) if option == option::EXPORT_NAME => return self.leave(),
                Ok(_) | Err(_) => {
                    self.refuse(option, answer::TLS_REQUIRED, "this server wants TLS first (nbds://)");
                    return Progress::Stay;
                }
            }
        }
        match ask {
            Err(_) if option == option::EXPORT_NAME => return self.leave(),
            Err(Refused::Unknown) => {
                self.refuse(option, answer::UNSUPPORTED, "this option is not known here")
            }
            Err(Refused::Malformed(why)) => self.refuse(option, answer::INVALID, why),
            Ok(Ask::Abort) => {
                self.done(option);
                return self.leave();
            }
            Ok(Ask::ExportName(name)) => return self.export_name(name, catalogue),
            Ok(Ask::Go(wanted)) => return self.go(wanted, catalogue),
            Ok(Ask::Info(wanted)) => {
                if self.tell(option, wanted, catalogue).is_some() {
                    self.done(option);
                }
            }
            Ok(Ask::List) => {
                for (name, description) in catalogue.list() {
                    say::server(&mut self.output, option, &name, &description);
                }
                self.done(option);
            }
            Ok(Ask::StartTls) => match (encryption, self.secure) {
                (_, true) => self.refuse(option, answer::INVALID, "it is encrypted already"),
                (Encryption::Missing, false) => {
                    self.refuse(option, answer::UNSUPPORTED, "this server does not encrypt");
                }
                (Encryption::Offered | Encryption::Required, false) => {
                    self.done(option);
                    self.stage = Stage::Securing;
                }
            },
            Ok(Ask::StructuredReply) => {
                self.structured = true;
                self.done(option);
            }
            Ok(Ask::ListContexts(contexts)) => self.contexts(option, contexts, catalogue, Purpose::List),
            Ok(Ask::SetContexts(contexts)) => self.contexts(option, contexts, catalogue, Purpose::Set),
        }
        Progress::Stay
    }

    fn export_name<C: Catalogue>(&mut self, name: &str, catalogue: &C) -> Progress<C::Ticket> {
        let Some(entry) = catalogue.look(name) else { return self.leave() };
        let Ok(ticket) = catalogue.admit(&entry.canonical) else { return self.leave() };
        say::old_style(&mut self.output, &entry.geometry, self.zeroes);
        self.enter(&entry, ticket)
    }

    fn go<C: Catalogue>(&mut self, wanted: Wanted<'_>, catalogue: &C) -> Progress<C::Ticket> {
        let mark = self.output.len();
        let Some(entry) = self.tell(option::GO, wanted, catalogue) else { return Progress::Stay };
        match catalogue.admit(&entry.canonical) {
            Ok(ticket) => {
                self.done(option::GO);
                return self.enter(&entry, ticket);
            }
            Err(denied) => {
                self.output.truncate(mark);
                match denied {
                    Denied::Gone => self.refuse(option::GO, answer::SHUTDOWN, "this export goes away"),
                    Denied::Full => {
                        self.refuse(option::GO, answer::POLICY, "too many clients are connected");
                    }
                    Denied::Busy => {
                        let why = "what this session asked before is still under way";
                        self.refuse(option::GO, answer::POLICY, why);
                    }
                }
            }
        }
        Progress::Stay
    }

    fn enter<T>(&mut self, entry: &Entry, ticket: T) -> Progress<T> {
        self.stage = Stage::Over;
        let (geometry, structured) = (entry.geometry, self.structured);
        let chosen = self.contexts.as_ref().filter(|(name, _)| structured && *name == entry.canonical);
        let contexts = chosen.map(|(_, chosen)| *chosen).unwrap_or_default();
        let session = Session { geometry, structured, contexts };
        Progress::Enter(session, ticket)
    }

    /// Tells about an export, or that there is none.
    fn tell<C: Catalogue>(&mut self, option: u32, wanted: Wanted<'_>, catalogue: &C) -> Option<Entry> {
        let Some(entry) = catalogue.look(wanted.name) else {
            self.refuse(option, answer::UNKNOWN, "there is no such export");
            return None;
        };
        say::info_export(&mut self.output, option, &entry.geometry);
        say::info_block_size(&mut self.output, option, &entry.geometry);
        if wanted.canonical {
            say::info_text(&mut self.output, option, info::NAME, &entry.canonical);
        }
        if wanted.description && !entry.description.is_empty() {
            say::info_text(&mut self.output, option, info::DESCRIPTION, &entry.description);
        }
        Some(entry)
    }

    fn contexts<C: Catalogue>(
        &mut self,
        option: u32,
        contexts: Contexts<'_>,
        catalogue: &C,
        purpose: Purpose,
    ) {
        if !self.structured {
            self.refuse(option, answer::INVALID, "structured replies come first");
            return;
        }
        if purpose == Purpose::Set {
            self.contexts = None;
        }
        let Some(entry) = catalogue.look(contexts.name) else {
            self.refuse(option, answer::UNKNOWN, "there is no such export");
            return;
        };
        let is_list = purpose == Purpose::List;
        let is_asked = |context: Context| {
            let matches = |query: &str| query == context.name() || (is_list && context.is_in(query));
            (is_list && contexts.count == 0) || contexts.queries().any(matches)
        };
        let asked = Context::ALL.into_iter().filter(|context| is_asked(*context));
        let mut chosen = Chosen::default();
        for context in asked {
            // In a list the number means nothing.
            let number = if is_list { 0 } else { context.number() };
            say::context(&mut self.output, option, context, number);
            chosen = chosen.with(context);
        }
        if !is_list {
            self.contexts = Some((entry.canonical, chosen));
        }
        self.done(option);
    }

    fn done(&mut self, option: u32) {
        say::reply(&mut self.output, option, answer::ACK, &[]);
    }

    fn refuse(&mut self, option: u32, answer: u32, why: &str) {
        say::reply(&mut self.output, option, answer, &[why.as_bytes()]);
    }

    fn leave<T>(&mut self) -> Progress<T> {
        self.stage = Stage::Over;
        Progress::Leave
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = Take(&self.input).array::<N>()?;
        self.input.drain(..N);
        Some(bytes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    List,
    Set,
}

/// Names are at most what the protocol allows, and so is every text we tell.
pub const TEXT_MAX: usize = NAME_MAX;

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
