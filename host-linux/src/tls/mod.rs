//! TLS 1.3 with certificates on both sides (V43): what the other side must prove before it is told anything,
//! and a connection that nobody reads or changes on its way. NBD encrypts by it (`nbds://`), and so do the
//! streams between the holders of a mirror group.
//!
//! 1. [`files`]: certificates and keys as they are on disk, and what is wrong with them; [`named`]: a client
//!    that must be somebody.
//! 2. [`keeper`]: those of this node, read again when they are replaced.
//! 3. [`plain`], [`secure`]: a socket, and an encrypted one.

pub mod files;
pub mod keeper;
pub mod named;
pub mod plain;
pub mod secure;

#[cfg(test)]
#[path = "../../tests/common/certificates.rs"]
pub(crate) mod certificates;
