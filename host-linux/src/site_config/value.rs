//! Values of a configuration file that are more than a string: each says what is wrong and, behind a
//! semicolon, the remedy.

use crate::output::parse_size;
use bulkhead_core::id::{PairId, SiteId};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use uguid::Guid;

/// The UDP port where none is written.
pub const PORT: u16 = 7901;

/// A time as people write it: `5s`, `250ms`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_time(&text).map(Self)
    }
}

/// Reads a time: a whole number and one of `us`, `ms`, `s`, `min` or `m`, `h`.
///
/// # Errors
///
/// What a time looks like.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a time; write a whole number with us, ms, s, min or h, such as 250ms");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let micros = match text.strip_prefix(digits).unwrap_or_default() {
        "us" => 1_u64,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.trim_end().parse().map_err(|_| wrong())?;
    count.checked_mul(micros).map(Duration::from_micros).ok_or_else(wrong)
}

/// A time as people write it: the largest unit that loses nothing.
pub fn time(duration: Duration) -> String {
    let micros = bulkhead_core::time::micros(duration);
    let units = [(3_600_000_000_u64, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    let whole = units.iter().find(|(unit, _)| 0 < micros && micros.checked_rem(*unit) == Some(0));
    match whole.and_then(|(unit, name)| Some((micros.checked_div(*unit)?, name))) {
        Some((count, name)) => format!("{count}{name}"),
        None => "0s".to_owned(),
    }
}

/// A site's identity: a UUID that is not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Site(pub SiteId);

impl TryFrom<String> for Site {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let guid = Guid::try_parse(&text).ok().filter(|guid| !guid.is_zero());
        let id = guid.map(|_| SiteId(site_bytes(&text)));
        id.map(Self).ok_or_else(|| format!("`{text}` is not a site id; `bulkhead config keygen` draws one"))
    }
}

/// The hex digits of a UUID in the order in which they are written.
fn site_bytes(text: &str) -> [u8; 16] {
    let mut digits = text.chars().filter_map(|c| c.to_digit(16)).filter_map(|digit| u8::try_from(digit).ok());
    std::array::from_fn(|_| {
        let (high, low) = (digits.next().unwrap_or_default(), digits.next().unwrap_or_default());
        (high << 4) | low
    })
}

/// A site id as a UUID.
pub fn site_text(site: SiteId) -> String {
    let mut text = String::new();
    for (index, byte) in site.0.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// An address on a control network: `10.0.1.1`, `10.0.1.1:7901`, `fd00::1`, `[fd00::1]:7901`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        place(&text, PORT).map(Self).ok_or_else(|| {
            format!("`{text}` is not an address of a node; write one such as 10.0.1.1 or [fd00::1]:{PORT}")
        })
    }
}

/// The TCP port of NBD where none is written: the one that IANA gave it.
pub const NBD_PORT: u16 = 10_809;
/// Where guests are taken in, unless a configuration says otherwise.
pub const GUESTS_PORT: u16 = 7902;

/// Where a node is connected to, at this port unless another is written: `10.0.1.1:10809`, `10.0.1.1`,
/// `[fd00::1]:10809`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PlaceOf<const PORT: u16>(pub SocketAddr);

/// Where a node serves volumes.
pub(super) type NbdAddress = PlaceOf<NBD_PORT>;
/// Where it takes in guests.
pub(super) type GuestsAddress = PlaceOf<GUESTS_PORT>;

impl<const PORT: u16> TryFrom<String> for PlaceOf<PORT> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        place(&text, PORT).map(Self).ok_or_else(|| {
            format!("`{text}` is no place of a node to connect to; write one such as 10.0.1.1:{PORT}")
        })
    }
}

/// An address of one machine, with this port unless another is written.
fn place(text: &str, port: u16) -> Option<SocketAddr> {
    let with_port = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)));
    let usable = |at: &SocketAddr| at.port() != 0 && !at.ip().is_multicast() && !at.ip().is_unspecified();
    with_port.ok().filter(usable)
}

/// A size as people write it: `64MiB`, `1GiB`, `512M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_size(&text).map(Self)
    }
}

/// A size as it reads back: in the largest unit that loses nothing.
pub fn size_text(bytes: u64) -> String {
    let units = [(40_u32, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.iter().find(|(shift, _)| *shift <= bytes.trailing_zeros() && bytes != 0);
    whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// A name for people: of a node, a site, a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(pub String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.is_empty() || 63 < text.len() || !text.chars().all(plain) {
            return Err(format!("`{text}` is not a name; write 1 to 63 letters, digits, '-', '_' or '.'"));
        }
        Ok(Self(text))
    }
}

/// A pair's number, or the word for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PairWord")]
pub(super) struct Pair(pub PairId);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a pair is a number from 1 to 32766, or for a witness \"every\"")]
enum PairWord {
    Number(u16),
    Word(String),
}

/// A witness votes for every pair.
pub(super) const EVERY: &str = "every";

impl TryFrom<PairWord> for Pair {
    type Error = String;

    fn try_from(word: PairWord) -> Result<Self, String> {
        match word {
            PairWord::Number(0) => Err("there is no pair 0; the first pair is 1".to_owned()),
            PairWord::Number(number) if PairId::MAX.0 < number => {
                Err(format!("there is no pair {number}; the last one is {}", PairId::MAX.0))
            }
            PairWord::Number(number) => Ok(Self(PairId(number))),
            PairWord::Word(word) if word == EVERY => Ok(Self(PairId::EVERY)),
            PairWord::Word(word) => Err(format!("`{word}` is no pair; write its number, or \"{EVERY}\"")),
        }
    }
}

/// The address of an Ethernet MAC: of one machine, as `02:00:5e:10:00:03`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Hardware(pub [u8; 6]);

impl TryFrom<String> for Hardware {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_hardware(&text).map(Self)
    }
}

/// Reads the address of an Ethernet MAC.
///
/// # Errors
///
/// What one looks like.
pub fn parse_hardware(text: &str) -> Result<[u8; 6], String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let is_byte = |part: &str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    let byte = |part: &&str| u8::from_str_radix(part, 16).ok().filter(|_| is_byte(part));
    let bytes: Option<Vec<u8>> = parts.iter().map(byte).collect();
    let address = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    // The lowest bit of the first byte: an address of many machines.
    address.filter(|[first, ..]| first % 2 == 0).ok_or_else(|| {
        format!("`{text}` is no Ethernet address of one machine; write one such as 02:00:5e:10:00:03")
    })
}

/// The address of an Ethernet MAC as people write it.
pub fn hardware_text(address: &[u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_as_people_do() {
        for (text, micros) in [("5s", 5_000_000), ("250ms", 250_000), ("2m", 120_000_000), ("7us", 7)] {
            assert_eq!(parse_time(text), Ok(Duration::from_micros(micros)));
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        assert_eq!(parse_time("10min"), parse_time("10m"), "as help and documents have it");
        for text in ["", "5", "s", "-1s", "1.5s", "99999999999999999h", "5 parsecs"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_site_id_is_written_as_it_is_read() {
        let text = "2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11";
        let Site(id) = Site::try_from(text.to_owned()).unwrap();
        assert_eq!((id.0[0], id.0[15], site_text(id).as_str()), (0x2f, 0x11, text));
        for text in ["", "2f1c", "00000000-0000-0000-0000-000000000000"] {
            assert!(Site::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn hardware_addresses_are_of_one_machine() {
        let address = [2, 0, 0x5e, 0x10, 0, 0xab];
        assert_eq!(parse_hardware("02:00:5E:10:00:ab"), Ok(address));
        assert_eq!(parse_hardware(&hardware_text(&address).replace(':', "-")), Ok(address));
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ab:cd",
            "2:0:5e:10:0:ab",
            "01:00:5e:10:00:ab",
            "+2:00:00:00:00:00",
        ] {
            assert!(parse_hardware(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_back() {
        for (bytes, text) in [(64 << 20, "64MiB"), (3 << 29, "1536MiB"), (1 << 40, "1TiB"), (4097, "4097")] {
            assert_eq!((size_text(bytes).as_str(), parse_size(text)), (text, Ok(bytes)));
        }
        assert!(Size::try_from("much".to_owned()).unwrap_err().contains("; write"));
    }

    #[test]
    fn addresses_get_the_usual_port() {
        let of = |text: &str| Address::try_from(text.to_owned()).map(|address| address.0.to_string());
        assert_eq!(of("10.0.1.1").unwrap(), "10.0.1.1:7901");
        assert_eq!(of("fd00::1").unwrap(), "[fd00::1]:7901");
        assert_eq!(of("[fd00::1]:9").unwrap(), "[fd00::1]:9");
        for text in ["10.0.1.1:0", "0.0.0.0", "224.0.0.1", "host", "10.0.1.1:99999"] {
            assert!(of(text).is_err(), "{text}");
        }
        let of = |text: &str| NbdAddress::try_from(text.to_owned()).map(|place| place.0.to_string());
        assert_eq!(of("10.0.1.1").unwrap(), "10.0.1.1:10809");
        assert_eq!(of("10.0.1.1:9").unwrap(), "10.0.1.1:9");
        assert!(of("0.0.0.0:10809").unwrap_err().contains("10.0.1.1:10809"));
        let of = |text: &str| GuestsAddress::try_from(text.to_owned()).map(|place| place.0.to_string());
        assert_eq!(of("fd00::1").unwrap(), "[fd00::1]:7902");
        assert!(of("0.0.0.0:7902").unwrap_err().contains("10.0.1.1:7902"));
    }
}
