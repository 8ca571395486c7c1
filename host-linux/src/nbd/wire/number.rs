//! The numbers of the protocol, as `doc/proto.md` gives them. They are in the field: none ever changes.

/// First word of the server.
pub const GREETING: u64 = 0x4e42_444d_4147_4943;
/// Second word of the server, and first of every option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First word of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First word of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of a chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Flags of the server's greeting and of the client's answer to it.
pub mod handshake {
    /// Options are answered one by one.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// `EXPORT_NAME` is answered without 124 zeroes.
    pub const NO_ZEROES: u16 = 2;
}

/// What a client asks before requests begin.
pub mod option {
    /// Take this export, answer without a word on failure.
    pub const EXPORT_NAME: u32 = 1;
    /// Leave.
    pub const ABORT: u32 = 2;
    /// Name all exports.
    pub const LIST: u32 = 3;
    /// Go on encrypted.
    pub const STARTTLS: u32 = 5;
    /// Tell about an export.
    pub const INFO: u32 = 6;
    /// Take this export.
    pub const GO: u32 = 7;
    /// Answer reads in chunks.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Which contexts an export has.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Which contexts block status will be asked in.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// How an option is answered. The errors have the highest bit.
pub mod answer {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export.
    pub const SERVER: u32 = 2;
    /// One thing about an export.
    pub const INFO: u32 = 3;
    /// One context.
    pub const META_CONTEXT: u32 = 4;
    /// This server does not know the option.
    pub const UNSUPPORTED: u32 = 0x8000_0001;
    /// It is not allowed here.
    pub const POLICY: u32 = 0x8000_0002;
    /// It is malformed, or asked too early.
    pub const INVALID: u32 = 0x8000_0003;
    /// Encrypt first.
    pub const TLS_REQUIRED: u32 = 0x8000_0005;
    /// There is no such export.
    pub const UNKNOWN: u32 = 0x8000_0006;
    /// The server goes away.
    pub const SHUTDOWN: u32 = 0x8000_0007;
    /// The option is longer than this server reads.
    pub const TOO_BIG: u32 = 0x8000_0009;
}

/// What there is to know about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Its canonical name.
    pub const NAME: u16 = 1;
    /// A line for people.
    pub const DESCRIPTION: u16 = 2;
    /// Smallest, preferred and largest block.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmission {
    /// The other flags mean something.
    pub const HAS_FLAGS: u16 = 1;
    /// Nothing may be written.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is served.
    pub const FLUSH: u16 = 1 << 2;
    /// Force unit access is served on every command.
    pub const FUA: u16 = 1 << 3;
    /// `TRIM` is served.
    pub const TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is served.
    pub const WRITE_ZEROES: u16 = 1 << 6;
    /// "Do not fragment" is honoured.
    pub const DF: u16 = 1 << 7;
    /// A flush on one connection covers what was answered on all.
    pub const MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is served.
    pub const CACHE: u16 = 1 << 10;
    /// The client may ask for zeroes that must be fast or not at all.
    pub const FAST_ZERO: u16 = 1 << 11;
}

/// What a request asks.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write.
    pub const WRITE: u16 = 1;
    /// Disconnect.
    pub const DISC: u16 = 2;
    /// Make durable what was answered.
    pub const FLUSH: u16 = 3;
    /// Forget content.
    pub const TRIM: u16 = 4;
    /// Read soon.
    pub const CACHE: u16 = 5;
    /// Write zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// What is allocated, what is zero.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of a request.
pub mod flag {
    /// Durable before it is answered.
    pub const FUA: u16 = 1;
    /// Zeroes must stay allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One chunk of content.
    pub const DF: u16 = 1 << 2;
    /// One extent a context.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Fast or not at all.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Chunks of a structured reply.
pub mod chunk {
    /// Flag: the last of its reply.
    pub const DONE: u16 = 1;
    /// Nothing more to say.
    pub const NONE: u16 = 0;
    /// Content.
    pub const DATA: u16 = 1;
    /// Content that is all zeroes.
    pub const HOLE: u16 = 2;
    /// Extents of a context.
    pub const BLOCK_STATUS: u16 = 5;
    /// An error.
    pub const ERROR: u16 = 0x8001;
}

/// Flags of an extent.
pub mod extent {
    /// Not allocated.
    pub const HOLE: u32 = 1;
    /// Reads as zeroes.
    pub const ZERO: u32 = 2;
    /// In `x-bulkhead:dirty`, as in QEMU's contexts of that kind: dirty.
    pub const DIRTY: u32 = 1;
}

/// IANA's port.
pub const PORT: u16 = 10_809;
