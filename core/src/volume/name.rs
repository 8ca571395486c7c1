//! What a volume is called. The name is part of command lines, NBD URIs and file names, so it has no
//! character that any of them would have to quote, and does not look like an option, a path or a home
//! directory.

use core::fmt;

use heapless::String;
use thiserror::Error;

/// Bytes of a name at most.
pub const NAME_MAX: usize = 64;

/// The name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String<NAME_MAX>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadName {
    /// Nothing, or too much.
    #[error("a name has 1 to {NAME_MAX} characters")]
    Length,
    /// It would look like an option, a path or a home directory.
    #[error("a name does not begin with - . or ~")]
    Beginning,
    /// It would have to be quoted somewhere.
    #[error("a name has only letters A-Z and a-z, digits, and _ . -")]
    Character,
}

impl Name {
    /// A name.
    ///
    /// # Errors
    ///
    /// [`BadName`].
    pub fn new(text: &str) -> Result<Self, BadName> {
        let first = text.bytes().next().ok_or(BadName::Length)?;
        if b"-.~".contains(&first) {
            return Err(BadName::Beginning);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !text.bytes().all(is_plain) {
            return Err(BadName::Character);
        }
        String::try_from(text).map(Self).map_err(|_| BadName::Length)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_quotes_anywhere() {
        for good in ["a", "vm-1", "0", "Z_9.raw", "a..b", "-".repeat(64).replacen('-', "x", 1).as_str()] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        let cases = [
            ("", BadName::Length),
            ("-a", BadName::Beginning),
            (".hidden", BadName::Beginning),
            ("~root", BadName::Beginning),
            ("a/b", BadName::Character),
            ("a b", BadName::Character),
            ("ä", BadName::Character),
            ("a\n", BadName::Character),
        ];
        for (bad, why) in cases {
            assert_eq!(Name::new(bad), Err(why), "{bad:?}");
        }
        assert_eq!(Name::new(&"x".repeat(65)), Err(BadName::Length));
    }
}
