//! What a client asks before it takes an export: parsed whole, bounded, or refused.

use super::number::{OPTION_MAGIC, info, option};
use super::take::Take;

/// Length of an option's header.
pub const HEADER: usize = 16;
/// The longest export name, as the protocol bounds every text.
pub const NAME_MAX: usize = 4096;
/// The longest option that is read; a longer one is skipped and refused. A name and many queries fit.
pub const OPTION_MAX: usize = 16 << 10;

/// The header of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which option.
    pub option: u32,
    /// How many bytes follow.
    pub length: u32,
}

/// These bytes are no option: the two sides do not speak of the same thing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnOption;

impl Header {
    /// Parses a header.
    ///
    /// # Errors
    ///
    /// The magic number is another.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, NotAnOption> {
        let mut take = Take(bytes);
        match (take.u64(), take.u32(), take.u32()) {
            (Some(OPTION_MAGIC), Some(option), Some(length)) => Ok(Self { option, length }),
            (_, _, _) => Err(NotAnOption),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Take an export in the old way.
    ExportName(&'a str),
    /// Leave.
    Abort,
    /// Name all exports.
    List,
    /// Go on encrypted.
    StartTls,
    /// Tell about an export.
    Info(Wanted<'a>),
    /// Take an export.
    Go(Wanted<'a>),
    /// Answer in chunks.
    StructuredReply,
    /// Which contexts there are.
    ListContexts(Contexts<'a>),
    /// Which contexts are wanted.
    SetContexts(Contexts<'a>),
}

/// An export, and what to tell about it beside what is always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name; empty means the default.
    pub name: &'a str,
    /// Its canonical name is asked for.
    pub canonical: bool,
    /// Its description is asked for.
    pub description: bool,
}

/// Questions about the contexts of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many queries there are.
    pub count: u32,
    queries: &'a [u8],
}

impl<'a> Contexts<'a> {
    /// The queries, as many as were counted when they were parsed.
    pub fn queries(self) -> impl Iterator<Item = &'a str> {
        let mut take = Take(self.queries);
        std::iter::from_fn(move || take.text())
    }
}

/// Why an option is refused. The connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This server does not know it.
    Unknown,
    /// It is malformed; what is wrong with it.
    Malformed(&'static str),
}

impl<'a> Ask<'a> {
    /// Parses the data of `option`.
    ///
    /// # Errors
    ///
    /// It is unknown or malformed.
    pub fn parse(option: u32, data: &'a [u8]) -> Result<Self, Refused> {
        let bare = |ask| match data {
            [] => Ok(ask),
            [..] => Err(Refused::Malformed("this option has no data")),
        };
        match option {
            option::EXPORT_NAME => {
                let text = std::str::from_utf8(data).map_err(|_| Refused::Malformed("the name is no UTF-8"));
                text.and_then(name).map(Ask::ExportName)
            }
            // The data of an abort mean nothing and are ignored: nobody waits for a complaint.
            option::ABORT => Ok(Ask::Abort),
            option::LIST => bare(Ask::List),
            option::STARTTLS => bare(Ask::StartTls),
            option::INFO => wanted(data).map(Ask::Info),
            option::GO => wanted(data).map(Ask::Go),
            option::STRUCTURED_REPLY => bare(Ask::StructuredReply),
            option::LIST_META_CONTEXT => contexts(data).map(Ask::ListContexts),
            option::SET_META_CONTEXT => contexts(data).map(Ask::SetContexts),
            _ => Err(Refused::Unknown),
        }
    }
}

fn name(name: &str) -> Result<&str, Refused> {
    match name {
        long if NAME_MAX < long.len() => Err(Refused::Malformed("the name has more than 4096 bytes")),
        nul if nul.contains('\0') => Err(Refused::Malformed("the name has a NUL in it")),
        fine => Ok(fine),
    }
}

fn wanted(data: &[u8]) -> Result<Wanted<'_>, Refused> {
    let mut take = Take(data);
    let text = take.text().ok_or(Refused::Malformed("the name is cut short or no UTF-8"))?;
    let mut wanted = Wanted { name: name(text)?, canonical: false, description: false };
    let count = take.u16().ok_or(Refused::Malformed("the number of requests is missing"))?;
    for _ in 0..count {
        match take.u16().ok_or(Refused::Malformed("fewer requests than announced"))? {
            info::NAME => wanted.canonical = true,
            info::DESCRIPTION => wanted.description = true,
            // Size, flags and block sizes are told anyway; what is unknown is not answered.
            _ => {}
        }
    }
    match take.is_empty() {
        true => Ok(wanted),
        false => Err(Refused::Malformed("more requests than announced")),
    }
}

fn contexts(data: &[u8]) -> Result<Contexts<'_>, Refused> {
    let mut take = Take(data);
    let text = take.text().ok_or(Refused::Malformed("the name is cut short or no UTF-8"))?;
    let count = take.u32().ok_or(Refused::Malformed("the number of queries is missing"))?;
    let contexts = Contexts { name: name(text)?, count, queries: take.0 };
    for _ in 0..count {
        // As many as there is data for: every query takes four bytes at least.
        take.text().ok_or(Refused::Malformed("a query is cut short or no UTF-8"))?;
    }
    match take.is_empty() {
        true => Ok(contexts),
        false => Err(Refused::Malformed("more queries than announced")),
    }
}
