//! The header of a request.

use super::number::REQUEST_MAGIC;
use super::take::Take;

/// Its length.
pub const HEADER: usize = 28;

/// What a client asks, as it stands on the wire; `transmission` judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Flags.
    pub flags: u16,
    /// Which command.
    pub command: u16,
    /// Repeated in the reply, nothing to us.
    pub cookie: u64,
    /// First byte of the export.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

/// These bytes are no request: the two sides do not speak of the same thing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARequest;

impl Header {
    /// Parses a header.
    ///
    /// # Errors
    ///
    /// The magic number is another.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, NotARequest> {
        let mut take = Take(bytes);
        let mut fields = || {
            let magic = take.u32()?;
            let (flags, command) = (take.u16()?, take.u16()?);
            let header =
                Self { flags, command, cookie: take.u64()?, offset: take.u64()?, length: take.u32()? };
            (magic == REQUEST_MAGIC).then_some(header)
        };
        fields().ok_or(NotARequest)
    }
}
