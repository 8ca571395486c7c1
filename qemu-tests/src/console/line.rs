//! From the bytes of a terminal to lines of text: escape sequences go, cursor jumps end a line.
//!
//! Firmware paints the screen with cursor addresses instead of line feeds, so a jump to another place
//! is taken as the end of the line; otherwise all that it prints would be one line.

/// Longest line; a longer one is cut in pieces, so that no output can grow memory.
const LINE_MAX: usize = 4096;
/// Longest escape sequence. A longer one is noise, and what follows it is text again.
const ESCAPE_MAX: usize = 64;

/// Splits a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The unfinished line. Invariant: shorter than [`LINE_MAX`].
    line: Vec<u8>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Plain text. Exit: an escape character.
    #[default]
    Text,
    /// Behind an escape character. Exit: the next byte.
    Escape,
    /// Behind `ESC [`. Exit: a letter, or too many bytes.
    Control { length: usize },
    /// Behind `ESC ]`. Exit: the bell, an escape character, or too many bytes.
    Command { length: usize },
    /// Behind `ESC (` and the like. Exit: the next byte.
    Charset,
}

impl Splitter {
    /// Takes one byte; gives a line when that byte ended one. Lines without text are dropped.
    pub(super) fn take(&mut self, byte: u8) -> Option<String> {
        match self.mode {
            Mode::Text => return self.text(byte),
            Mode::Escape => {
                self.mode = match byte {
                    b'[' => Mode::Control { length: 0 },
                    b']' => Mode::Command { length: 0 },
                    b'(' | b')' | b'#' | b'%' => Mode::Charset,
                    0..=255 => Mode::Text,
                };
            }
            Mode::Charset => self.mode = Mode::Text,
            Mode::Control { length } => {
                let last = (0x40..=0x7e).contains(&byte);
                self.mode = if last || length >= ESCAPE_MAX {
                    Mode::Text
                } else {
                    Mode::Control { length: length + 1 }
                };
                // Jumps: to an address (H, f), up or down (A, B, E, F), and clearing the screen (J).
                if last && b"HfABEFJ".contains(&byte) {
                    return self.end();
                }
            }
            Mode::Command { length } => {
                self.mode = match byte {
                    0x07 => Mode::Text,
                    0x1b => Mode::Escape,
                    0..=255 if length >= ESCAPE_MAX => Mode::Text,
                    0..=255 => Mode::Command { length: length + 1 },
                };
            }
        }
        None
    }

    /// The unfinished line.
    pub(super) fn unfinished(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    /// Ends the unfinished line.
    pub(super) fn end(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn text(&mut self, byte: u8) -> Option<String> {
        match byte {
            b'\n' | b'\r' => return self.end(),
            0x1b => self.mode = Mode::Escape,
            0x08 => drop(self.line.pop()),
            b'\t' | 0x20..=0x7e | 0x80..=0xff => self.line.push(byte),
            // The other control characters print nothing.
            0..=0x1f | 0x7f => {}
        }
        if self.line.len() >= LINE_MAX { self.end() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8]) -> (Vec<String>, String) {
        let mut splitter = Splitter::default();
        let lines = bytes.iter().filter_map(|byte| splitter.take(*byte)).collect();
        (lines, splitter.unfinished())
    }

    #[test]
    fn what_ovmf_and_systemd_boot_print_becomes_lines() {
        let screen = b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2JBdsDxe: loading Boot0001 \"X\"\r\n\
            \x1b[25;23H\x1b[0m\x1b[30m\x1b[47m  Reboot  \x1b[27;01H\x1b[0m\x1b[37m\x1b[40m  Boot in 9 s.";
        let (lines, rest) = split(screen);
        assert_eq!(lines, ["BdsDxe: loading Boot0001 \"X\"", "  Reboot"]);
        assert_eq!(rest, "  Boot in 9 s.");
    }

    #[test]
    fn noise_neither_panics_nor_grows() {
        let mut splitter = Splitter::default();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..200_000 {
            state = crate::switch::chance::next(state);
            if let Some(line) = splitter.take(state.to_le_bytes()[0]) {
                assert!(line.chars().count() <= LINE_MAX);
            }
        }
        let (lines, rest) = split(&[b'x'; 10_000]);
        assert_eq!((lines.len(), rest.len()), (2, 10_000 - 2 * LINE_MAX));
    }
}
