//! What a command prints: lines for people, one JSON object for machines, a bar for the waiting.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};

/// A command's answer, in both forms; which one is printed is decided in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Lines for people, each with its newline.
    pub text: String,
    /// The same for machines; an object.
    pub json: serde_json::Value,
    /// The process exit code: a question can be answered with "no" without having failed to answer.
    pub code: u8,
}

impl Report {
    /// A report of something done.
    pub const fn new(text: String, json: serde_json::Value) -> Self {
        Self { text, json, code: 0 }
    }

    /// Prints it on standard output. A reader that went away is no error of ours.
    pub fn print(&self, as_json: bool) {
        let mut out = std::io::stdout().lock();
        let printed =
            if as_json { writeln!(out, "{}", self.json) } else { out.write_all(self.text.as_bytes()) };
        let _ = printed.and_then(|()| out.flush());
    }
}

/// How a command talks while it works.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Whether a bar may be drawn on standard error.
    bars: bool,
    colour: bool,
}

impl Voice {
    /// Bars only for people: on a terminal, and not when the answer is JSON.
    pub fn new(as_json: bool) -> Self {
        let bars = !as_json && std::io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { bars, colour: bars && !no_colour }
    }

    /// A bar for `bytes` bytes of work, with rate and time left. It counts even when it is hidden.
    pub fn bar(self, label: &'static str, bytes: u64) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let bar = if self.colour { "{bar:30.cyan}" } else { "{bar:30}" };
        let template =
            format!("{{msg:>10}} {bar} {{bytes}} of {{total_bytes}}, {{bytes_per_sec}}, {{eta}} left");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(bytes).with_style(style).with_message(label)
    }
}

/// A size as people write it: the largest binary unit that loses nothing, else bytes.
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(unit, _)| *unit <= bytes && bytes.checked_rem(*unit) == Some(0));
    match whole.and_then(|(unit, name)| Some((bytes.checked_div(*unit)?, name))) {
        Some((count, name)) => format!("{count} {name}"),
        None => format!("{bytes} bytes"),
    }
}

/// Reads a size: a number, and optionally K, M, G or T, as in `64M` or `8GiB`.
///
/// # Errors
///
/// What a size looks like.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write bytes or a number with K, M, G or T, such as 512M");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0_u32,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(1_u64 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [("512", 512), ("64M", 64 << 20), ("8GiB", 8 << 30), ("4k", 4096), ("1t", 1 << 40)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "12X", "99999999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(4097), "4097 bytes");
    }
}
