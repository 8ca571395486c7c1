//! The address of a guest's network: told by the operator, or made of the guest's name, so that a guest has
//! the same on every node (S2-01).

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Bits of the first byte: it is for many, and nobody has assigned it.
const GROUP: u8 = 1;
const LOCAL: u8 = 2;

/// An Ethernet address of one network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac([u8; 6]);

impl Mac {
    /// That of network `number` of the guest with this name: always the same.
    #[must_use]
    pub fn derived(guest: &str, number: usize) -> Self {
        let hash = Sha256::digest(format!("bulkhead guest {guest} network {number}"));
        let mut bytes = [0; 6];
        bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        if let Some(first) = bytes.first_mut() {
            *first = *first & !GROUP | LOCAL;
        }
        Self(bytes)
    }

    /// Its bytes, in the order in which they are sent.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let byte = |part: &str| {
            let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        match bytes.ok_or("it has six bytes, as in 52:54:00:12:34:56")? {
            [first, ..] if first & GROUP != 0 => Err("it is for many; the last bit of its first byte is 0"),
            [0, 0, 0, 0, 0, 0] => Err("it is nobody's"),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These are in the field: guests are known by them. If this fails, the names must stay as they were.
    #[test]
    fn a_derived_address_never_changes() {
        assert_eq!(Mac::derived("web1", 0).to_string(), "32:34:34:18:23:44");
        assert_eq!(Mac::derived("web1", 1).to_string(), "5a:3a:1b:eb:5b:6e");
    }

    #[test]
    fn what_is_derived_is_one_guests_own() {
        let all: Vec<_> = (0..1000).map(|number| Mac::derived("a", number)).collect();
        for mac in &all {
            assert_eq!(mac.bytes()[0] & 3, LOCAL, "{mac}");
            assert_eq!(mac.to_string().parse(), Ok(*mac));
        }
        let mut sorted: Vec<_> = all.iter().map(|mac| mac.bytes()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), all.len());
        assert_ne!(Mac::derived("a", 11), Mac::derived("a1", 1));
    }

    #[test]
    fn what_is_no_address_of_one_is_refused() {
        assert_eq!("52:54:00:AB:cd:0f".parse::<Mac>().unwrap().bytes(), [0x52, 0x54, 0, 0xab, 0xcd, 0x0f]);
        let six = "it has six bytes, as in 52:54:00:12:34:56";
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5254.0012.3456", "52:54:00:12:34:+6"] {
            assert_eq!(text.parse::<Mac>(), Err(six), "{text}");
        }
        assert!("01:00:5e:00:00:01".parse::<Mac>().unwrap_err().contains("for many"));
        assert!("ff:ff:ff:ff:ff:ff".parse::<Mac>().unwrap_err().contains("for many"));
        assert_eq!("00:00:00:00:00:00".parse::<Mac>(), Err("it is nobody's"));
    }
}
