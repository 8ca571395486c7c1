//! What a boot partition holds: a signed image container, and when it may be believed (V32).
//!
//! Reading order: [`image`] names an image, [`header`] is the signed header, [`trust`] the keys,
//! [`mark`] the proof that an image was once confirmed good.
//!
//! The layers of belief are types: a [`header::Header`] has been parsed, a [`trust::Signed`]
//! carries a signature by a trusted key, a [`trust::Verified`] also matches the payload that was
//! hashed in memory (V34). Only a [`trust::Verified`] image is ever started.

pub mod header;
pub mod image;
pub mod mark;
pub mod trust;

#[cfg(test)]
mod tests;
