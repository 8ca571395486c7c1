//! What a server says before requests begin, appended to a buffer.

use super::context::Context;
use super::number::{GREETING, OPTION_MAGIC, OPTION_REPLY_MAGIC, answer, handshake, info};
use crate::nbd::export::Geometry;
use crate::nbd::limits::REQUEST_MAX;

/// The first words.
pub fn greet(out: &mut Vec<u8>) {
    out.extend_from_slice(&GREETING.to_be_bytes());
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    out.extend_from_slice(&(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES).to_be_bytes());
}

/// One reply to `option`.
pub fn reply(out: &mut Vec<u8>, option: u32, answer: u32, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&answer.to_be_bytes());
    out.extend_from_slice(&length_of(length).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// One export of a list.
pub fn server(out: &mut Vec<u8>, option: u32, name: &str, description: &str) {
    let length = length_of(name.len()).to_be_bytes();
    reply(out, option, answer::SERVER, &[&length, name.as_bytes(), description.as_bytes()]);
}

/// A context that is served, under `number`.
pub fn context(out: &mut Vec<u8>, option: u32, context: Context, number: u32) {
    reply(out, option, answer::META_CONTEXT, &[&number.to_be_bytes(), context.name().as_bytes()]);
}

/// Size and flags.
pub fn info_export(out: &mut Vec<u8>, option: u32, geometry: &Geometry) {
    let size = geometry.size().to_be_bytes();
    let flags = geometry.flags().to_be_bytes();
    reply(out, option, answer::INFO, &[&info::EXPORT.to_be_bytes(), &size, &flags]);
}

/// Smallest, preferred and largest block.
pub fn info_block_size(out: &mut Vec<u8>, option: u32, geometry: &Geometry) {
    let kind = info::BLOCK_SIZE.to_be_bytes();
    let (least, preferred) = (geometry.block_min().to_be_bytes(), geometry.block_preferred().to_be_bytes());
    reply(out, option, answer::INFO, &[&kind, &least, &preferred, &REQUEST_MAX.to_be_bytes()]);
}

/// A text about an export: `kind` is its name or its description.
pub fn info_text(out: &mut Vec<u8>, option: u32, kind: u16, text: &str) {
    reply(out, option, answer::INFO, &[&kind.to_be_bytes(), text.as_bytes()]);
}

/// The answer to `EXPORT_NAME`.
pub fn old_style(out: &mut Vec<u8>, geometry: &Geometry, zeroes: bool) {
    out.extend_from_slice(&geometry.size().to_be_bytes());
    out.extend_from_slice(&geometry.flags().to_be_bytes());
    if zeroes {
        out.extend_from_slice(&[0; 124]);
    }
}

/// What is told is far shorter: names and texts are bounded when an export is published.
fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
